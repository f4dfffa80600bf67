//! Subnets that span hosts, from the command line: three hosts with one configuration, which differs in the name of the
//! host alone, and tasks that reach each other by their addresses.

use std::net::Ipv4Addr;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::netns::Namespace;
use crate::support::{Host, definition, netlink, wait_for};

const HOSTS: [&str; 3] = ["a", "b", "c"];
/// 1500 less IPv4, UDP and VXLAN.
const MTU: u64 = 1464;

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).output().expect("ip is installed");
    assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A bridge in a namespace of its own with the hosts on it: 192.0.2.11 and so on.
fn lan_of(hosts: &[Host; 3]) -> Namespace {
    let lan = Namespace::new();
    lan.enter(|| ip("link add br0 type bridge"));
    lan.enter(|| ip("link set br0 up"));
    for (number, host) in hosts.iter().enumerate() {
        let port = format!("port{number}");
        host.namespace.enter(|| {
            netlink::add_veth("lan0", &port, lan.descriptor()).expect("a pair of links can be made");
            ip(&format!("addr add 192.0.2.1{}/24 dev lan0", number + 1));
            ip("link set lan0 up");
        });
        lan.enter(|| ip(&format!("link set {port} master br0 up")));
        // Asking for a link makes the kernel finish bringing it up.
        host.namespace.enter(|| ip("link show lan0"));
    }
    lan
}

fn configuration(this_host: &str) -> String {
    let hosts: String = HOSTS
        .iter()
        .enumerate()
        .map(|(at, name)| format!("[[overlay.hosts]]\nname = \"{name}\"\naddress = \"192.0.2.1{}\"\n", at + 1))
        .collect();
    let slices: String = HOSTS
        .iter()
        .enumerate()
        .map(|(at, name)| format!("{{ host = \"{name}\", cidrBlock = \"10.1.1.{}/26\" }},", 64 * at))
        .collect();
    format!(
        "[overlay]\nthisHost = \"{this_host}\"\nvni = 9\n{hosts}\n\
         [[vpcs]]\ncidrBlock = \"10.1.0.0/16\"\nisDefault = true\n\
         [[subnets]]\ncidrBlock = \"10.1.1.0/24\"\ndefaultForAz = true\nslices = [{slices}]\n\
         [[securityGroups]]\ngroupName = \"default\"\n\
         ingress = [{{ protocol = \"tcp\", ports = 80, cidr = \"10.1.1.0/25\" }}]\n\
         egress = [{{ protocol = \"all\", cidr = \"0.0.0.0/0\" }}]\n"
    )
}

fn task(command: &[&str]) -> Value {
    let main = definition::container("main", command, &json!({ "stopTimeout": 2 }));
    json!({ "family": "overlay", "networkMode": "awsvpc", "containerDefinitions": [main] })
}

fn address(host: &Host, task: &str) -> Ipv4Addr {
    let shown = host.inspect(task);
    let details = shown["attachments"][0]["details"].as_array().expect("an interface has details").clone();
    let found = details.iter().find(|detail| detail["name"] == "privateIPv4Address").expect("it has an address");
    found["value"].as_str().expect("a text").parse().expect("an address")
}

fn overlay(host: &Host, words: &[&str]) -> crate::support::Finished {
    host.coracle([&["network", "overlay"], words].concat())
}

/// Packets that no rule of a security group allowed.
fn dropped(host: &Host) -> u64 {
    let listed =
        host.namespace.enter(|| Command::new("nft").args(["list", "ruleset"]).output()).expect("nft is installed");
    let rules = String::from_utf8(listed.stdout).expect("a text");
    let lines = rules.lines().filter(|line| line.contains("no rule allows it"));
    lines.filter_map(|line| line.split("packets ").nth(1)?.split(' ').next()?.parse::<u64>().ok()).sum()
}

#[test]
fn tasks_of_three_hosts_reach_each_other_by_address() {
    let hosts = [Host::new(), Host::new(), Host::new()];
    let _lan = lan_of(&hosts);
    for (host, name) in hosts.iter().zip(HOSTS) {
        host.import_probe();
        let file = host.file("network.toml", configuration(name));
        let file = file.to_str().expect("a plain path");
        host.coracle(["network", "apply", file]).ok().prints(&["overlay changed"]);
        host.coracle(["network", "apply", file]).ok().prints(&["nothing to change"]);
        let shown = overlay(host, &["show", "--output", "json"]).ok().json();
        let link = json!({ "name": "coracle-vxlan", "mtu": MTU, "isUp": true, "isCurrent": true });
        assert_eq!(shown["link"], link, "{shown}");
        assert_eq!(shown["hosts"].as_array().map(Vec::len), Some(2), "{shown}");
        overlay(host, &["apply"]).ok().prints(&["nothing to change"]);
    }
    let servers = hosts.each_ref().map(|host| host.detach(&task(&["tcp-echo", "80"]), &[]));
    let addresses = [0, 1, 2].map(|at| {
        wait_for("the server", || hosts[at].coracle(["logs", &servers[at]]).stdout.contains("listening").then_some(()));
        let address = address(&hosts[at], &servers[at]);
        let slice = 64 * at as u8;
        assert!((slice..slice + 64).contains(&address.octets()[3]), "{address} is of this host's slice");
        address
    });
    // The group lets in hosts a's and b's slices: what is asked by c's task is dropped.
    for (from, host) in hosts.iter().enumerate() {
        for (to, address) in addresses.iter().enumerate().filter(|(to, _)| *to != from) {
            let asked = task(&["tcp-say", &format!("{address}:80"), "ahoy"]);
            if from == 2 {
                // Nobody waits for the kernel to give up asking.
                let before = dropped(&hosts[to]);
                let started = host.detach(&asked, &[]);
                wait_for("the drop", || (dropped(&hosts[to]) > before).then_some(()));
                host.coracle(["rm", "--force", &started]).ok();
            } else {
                host.run(&asked, &[]).ok().prints(&["said ahoy"]);
            }
        }
    }
    for (host, server) in hosts.iter().zip(&servers) {
        host.coracle(["rm", "--force", server]).ok();
        overlay(host, &["down"]).ok().prints(&["no link coracle-vxlan"]);
        overlay(host, &["down"]).ok().prints(&["nothing is there"]);
    }
    // After a reboot, the next task brings it back.
    let returned = hosts[0].detach(&task(&["tcp-echo", "80"]), &[]);
    let shown = overlay(&hosts[0], &["show", "--output", "json"]).ok().json();
    assert_eq!(shown["link"]["isCurrent"], true, "{shown}");
    hosts[0].coracle(["rm", "--force", &returned]).ok();
    overlay(&hosts[0], &["down"]).ok();
    hosts.into_iter().for_each(|host| {
        host.namespace.enter(|| ip("link del lan0"));
        host.finish();
    });
}

#[test]
fn what_cannot_be_is_refused_before_it_is_written() {
    let host = Host::new();
    let apply = |text: String| {
        let file = host.file("network.toml", text);
        host.coracle(["network", "apply", file.to_str().expect("a plain path")])
    };
    apply(configuration("d")).expect_code(2).says(&["overlay.thisHost", "\"d\""]);
    let mixed = configuration("a").replace("192.0.2.12", "fd00::2");
    apply(mixed)
        .expect_code(2)
        .says(&["overlay.hosts[b].address: fd00::2 and this host's 192.0.2.11 are not of one IP"]);
    overlay(&host, &["show"]).ok().prints(&["no overlay is configured"]);
    // It is written, for the address may come, and said.
    apply(configuration("a")).expect_code(1).says(&["192.0.2.11 is not an address of this host"]);
    assert!(!host.namespace.links().contains(&"coracle-vxlan".to_owned()));
    host.finish();
}
