//! What `checks` finds on hosts made of network namespaces.

mod bed;

use bed::{container, ip, nft, on_fresh_host, request, ruleset, settings};
use ecs::task_definition::NetworkMode::Bridge;
use network::{Check, Outcome, checks};

fn of<'a>(all: &'a [Check], name: &str) -> &'a Check {
    all.iter().find(|check| check.name == name).unwrap()
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
