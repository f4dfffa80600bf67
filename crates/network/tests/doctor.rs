//! What `checks` finds on hosts made of network namespaces.

mod bed;

use bed::{container, ip, nft, on_fresh_host, request, ruleset, settings};
use ecs::task_definition::NetworkMode::Bridge;
use network::{Check, Outcome};

fn of<'a>(all: &'a [Check], name: &str) -> &'a Check {
    all.iter().find(|check| check.name == name).unwrap()
}

/// The checks, with files of tries in a directory of the test's own.
fn checks(settings: &network::Settings) -> Vec<network::Check> {
    let scratch = bed::Scratch::new();
    network::checks(&network::Settings { namespaces: scratch.settings().namespaces, ..settings.clone() })
}

/// Other firewalls are their owner's to change.
fn left() -> network::Settings {
    network::Settings { foreign_firewall: network::ForeignFirewall::Leave, ..settings() }
}

#[test]
fn a_fresh_host_is_well_and_stays_untouched() {
    on_fresh_host(|| {
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        let before = (ruleset(), ip("-o link"));
        let all = checks(&settings());
        assert!(all.iter().all(|check| check.outcome != Outcome::Fail), "{all:#?}");
        assert!(all.iter().all(|check| (check.outcome == Outcome::Ok) == check.cure.is_none()), "{all:#?}");
        assert_eq!(of(&all, "IP forwarding").outcome, Outcome::Warn);
        assert!(of(&all, "bridge").found.contains("172.30.0.0/16"));
        assert_eq!((ruleset(), ip("-o link")), before);
        assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap(), "0\n");
    });
}

#[test]
fn a_host_with_tasks_is_well() {
    on_fresh_host(|| {
        let _made = network::attach(&settings(), &request(1, Bridge, vec![container("web", vec![])])).unwrap();
        let all = checks(&settings());
        assert_eq!(of(&all, "IP forwarding").outcome, Outcome::Ok);
        assert_eq!(of(&all, "bridge").found, "coracle0 lies in 172.30.0.0/16");
        assert_eq!(of(&all, "firewall table").found, "inet coracle has this build's rules");
    });
}

#[test]
fn dockers_forward_policy_is_found_with_its_cure_and_the_cure_is_recognised() {
    on_fresh_host(|| {
        nft("add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }");
        nft("add chain ip filter DOCKER-USER; add rule ip filter FORWARD jump DOCKER-USER");
        let all = checks(&left());
        let check = of(&all, "other firewalls");
        assert_eq!(check.outcome, Outcome::Fail);
        assert!(check.cure.as_ref().unwrap().contains("iptables -I DOCKER-USER -o coracle0 -j ACCEPT"), "{check:?}");
        let cure = check.cure.as_ref().unwrap().replace("iptables", "iptables-nft");
        bed::run("sh", &["-c", &cure]);
        let all = checks(&left());
        assert_eq!(of(&all, "other firewalls").outcome, Outcome::Ok, "{}", ruleset());
    });
}

#[test]
fn a_dropping_chain_of_nobodys_gets_an_nft_cure_that_works() {
    on_fresh_host(|| {
        nft("add table inet fw; add chain inet fw passing { type filter hook forward priority 0; policy drop; }");
        let all = checks(&left());
        let check = of(&all, "other firewalls");
        assert_eq!(check.outcome, Outcome::Fail);
        bed::run("sh", &["-c", check.cure.as_ref().unwrap()]);
        assert_eq!(of(&checks(&left()), "other firewalls").outcome, Outcome::Ok, "{}", ruleset());
    });
}

#[test]
fn a_subnet_in_use_and_loopback_routing_are_told() {
    on_fresh_host(|| {
        ip("link add lan0 type veth peer name lan1");
        ip("addr add 10.9.0.1/24 dev lan0");
        std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40009").unwrap();
        ip("link set lan0 up");
        let taken = network::Settings { subnet: Some("10.9.0.0/16".parse().unwrap()), ..settings() };
        let all = checks(&taken);
        for name in ["bridge", "loopback addresses", "dynamic host ports"] {
            assert_eq!(of(&all, name).outcome, Outcome::Warn, "{name}");
        }
        assert!(of(&all, "bridge").found.contains("10.9.0.0/24"));
    });
}

#[test]
fn a_link_that_is_no_bridge_fails() {
    on_fresh_host(|| {
        ip("link add coracle0 type veth peer name other0");
        let all = checks(&settings());
        assert_eq!(of(&all, "bridge").outcome, Outcome::Fail);
        assert!(of(&all, "bridge").found.contains("CORACLE_BRIDGE"));
    });
}

#[test]
fn what_some_tasks_need_is_looked_at_one_by_one() {
    on_fresh_host(|| {
        let _lan = bed::lan();
        ip("addr add 2001:db8:1::1/64 dev lan0 nodad");
        let all = checks(&settings());
        assert_eq!(of(&all, "awsvpc-mode task").outcome, Outcome::Ok, "{all:#?}");
        let forwarding = of(&all, "IPv6");
        assert_eq!(forwarding.outcome, Outcome::Warn);
        assert!(forwarding.found.starts_with("net.ipv6.conf.all.forwarding=0: the first bridge-mode task turns it on"));
        assert_eq!(of(&all, "169.254.170.2").found, "nobody else on this host has it");
        let off = network::Settings { subnet6: network::Subnet6::Off, ..settings() };
        assert_eq!(of(&checks(&off), "IPv6").outcome, Outcome::Ok);
        // As an ECS agent translates it.
        nft("add table ip nat; add chain ip nat OUTPUT { type nat hook output priority -100; }");
        nft("add rule ip nat OUTPUT ip daddr 169.254.170.2 tcp dport 80 redirect to :51679");
        let _agent = std::net::TcpListener::bind("127.0.0.1:51678");
        let with_rules = checks(&settings());
        let found = of(&with_rules, "169.254.170.2");
        assert_eq!(found.outcome, Outcome::Warn);
        assert!(found.found.starts_with("an ECS agent runs here, "), "{found:?}");
        drop(_agent);
        let with_rules = checks(&settings());
        let found = of(&with_rules, "169.254.170.2");
        assert!(found.found.starts_with("table nat has rules about it"), "{found:?}");
    });
}

#[test]
fn closed_ports_of_the_host_are_named_with_what_opens_them() {
    on_fresh_host(|| {
        nft("add table inet fw; add chain inet fw input { type filter hook input priority 0; policy drop; }");
        let all = checks(&settings());
        let found = of(&all, "other firewalls");
        assert_eq!(found.outcome, Outcome::Warn);
        assert!(found.found.starts_with("inet fw input restricts what comes to the host itself"), "{found:?}");
        assert!(found.cure.as_ref().unwrap().contains("nft insert rule inet fw input tcp dport PORT accept"));
    });
}
