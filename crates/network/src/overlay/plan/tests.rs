//! Configurations in, routes or refusals out.

use serde_json::{Value, json};

use super::*;

/// Two hosts and a third, a subnet of a /24 whose upper half is host b's and whose lower quarter is host a's.
fn configured() -> Value {
    json!({
        "vpcs": [{ "vpcId": "vpc-0123456789abcdef0", "cidrBlock": "10.0.0.0/16" }],
        "subnets": [{
            "subnetId": "subnet-0123456789abcdef0",
            "vpcId": "vpc-0123456789abcdef0",
            "cidrBlock": "10.0.1.0/24",
            "availabilityZone": "lab",
            "slices": [
                { "host": "a", "cidrBlock": "10.0.1.0/26" },
                { "host": "b", "cidrBlock": "10.0.1.128/25" },
            ],
        }],
        "overlay": {
            "thisHost": "a",
            "hosts": [
                { "name": "a", "address": "192.168.1.11" },
                { "name": "b", "address": "192.168.1.12" },
                { "name": "c", "address": "192.168.1.13" },
            ],
            "vni": 5,
        },
    })
}

const KEYS: [&str; 3] = [
    "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=",
    "AgIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=",
    "AwIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=",
];

fn with(change: impl FnOnce(&mut Value)) -> Result<Option<Plan>, Vec<String>> {
    let mut value = configured();
    change(&mut value);
    let network = serde_json::from_value(value).expect("members of the right types");
    plan(&network).map_err(|refusals| refusals.iter().map(ToString::to_string).collect())
}

fn planned(change: impl FnOnce(&mut Value)) -> Plan {
    with(change).expect("it can be carried out").expect("there is an overlay")
}

/// `destination hop`, in order.
fn routes(plan: &Plan) -> Vec<String> {
    let text = |route: &Route| match route.hop {
        Hop::Unreachable => format!("{} unreachable", route.destination),
        Hop::Encapsulated { vni, from, to } => format!("{} {vni} {from} > {to}", route.destination),
        Hop::Device => format!("{} device", route.destination),
        Hop::Neighbour(neighbour) => format!("{} via {neighbour}", route.destination),
    };
    plan.routes.iter().map(text).collect()
}

#[test]
fn a_route_for_each_other_hosts_slice_and_none_for_what_nobody_has() {
    let plan = planned(|_| {});
    assert_eq!(routes(&plan), ["10.0.1.0/24 unreachable", "10.0.1.128/25 5 192.168.1.11 > 192.168.1.12"]);
    assert_eq!((plan.port, plan.overhead(), plan.has_ipv6), (4790, 36, false));
    let of_b = planned(|value| value["overlay"]["thisHost"] = "b".into());
    assert_eq!(routes(&of_b), ["10.0.1.0/24 unreachable", "10.0.1.0/26 5 192.168.1.12 > 192.168.1.11"]);
    let of_c = planned(|value| value["overlay"]["thisHost"] = "c".into());
    assert_eq!(of_c.routes.len(), 3);
}

#[test]
fn a_slice_of_ipv6_holds_the_slices_ipv4_addresses() {
    let plan = planned(|value| value["subnets"][0]["ipv6CidrBlock"] = "fd00:1:2:3::/64".into());
    // 10.0.1.128 is a00:180; its /25 are the last 7 of 128 bits.
    let routes = routes(&plan);
    assert_eq!(routes[2..], ["fd00:1:2:3::/64 unreachable", "fd00:1:2:3::a00:180/121 5 192.168.1.11 > 192.168.1.12"]);
    assert!(plan.has_ipv6);
}

#[test]
fn an_interface_outside_of_its_hosts_slices_has_a_route_of_its_own() {
    let plan = planned(|value| {
        value["subnets"][0]["ipv6CidrBlock"] = "fd00:1:2:3::/64".into();
        value["remoteInterfaces"] = json!([
            { "privateIpv4Address": "10.0.1.7", "ipv6Address": "fd00:1:2:3::a00:107", "host": "b" },
            { "privateIpv4Address": "10.0.1.130", "host": "b" },
            { "privateIpv4Address": "10.0.1.131", "host": "c" },
            { "privateIpv4Address": "10.0.1.8", "host": "a" },
        ]);
    });
    let single: Vec<String> =
        routes(&plan).into_iter().filter(|route| route.contains("/32") || route.contains("/128")).collect();
    assert_eq!(
        single,
        [
            "10.0.1.7/32 5 192.168.1.11 > 192.168.1.12",
            "10.0.1.131/32 5 192.168.1.11 > 192.168.1.13",
            "fd00:1:2:3::a00:107/128 5 192.168.1.11 > 192.168.1.12",
        ]
    );
}

#[test]
fn the_older_form_sends_to_neighbours_and_wireguard_to_its_device() {
    let older = planned(|value| {
        value["subnets"][0]["ipv6CidrBlock"] = "fd00:1:2:3::/64".into();
        value["overlay"]["encapsulation"] = "ethernet".into();
    });
    // fe80:: and 192.168.1.12 in hexadecimal.
    assert!(routes(&older).contains(&"10.0.1.128/25 via 192.168.1.12".to_owned()));
    assert!(routes(&older).contains(&"fd00:1:2:3::a00:180/121 via fe80::c0a8:10c".to_owned()));
    assert_eq!((older.port, older.overhead()), (4789, 50));
    let newer = planned(|value| value["overlay"]["port"] = 4789.into());
    assert_eq!(
        newer.with_ethernet(),
        Some(planned(|value| {
            value["overlay"]["encapsulation"] = "ethernet".into();
        }))
    );
    assert_eq!(older.with_ethernet(), None);

    let encrypted = planned(|value| {
        value["overlay"]["encryption"] = "wireguard".into();
        value["overlay"]["hosts"][1]["publicKey"] = KEYS[1].into();
        value["overlay"]["hosts"][2]["publicKey"] = KEYS[2].into();
    });
    assert_eq!(routes(&encrypted), ["10.0.1.0/24 unreachable", "10.0.1.128/25 device"]);
    assert_eq!((encrypted.port, encrypted.overhead()), (51820, 60));
}

#[test]
fn hosts_with_ipv6_addresses_lose_twenty_bytes_more() {
    let plan = planned(|value| {
        for number in 0..3 {
            value["overlay"]["hosts"][number]["address"] = format!("fd00:99::{}", number + 1).into();
        }
    });
    assert_eq!(plan.overhead(), 56);
    assert!(routes(&plan).contains(&"10.0.1.128/25 5 fd00:99::1 > fd00:99::2".to_owned()));
    assert_eq!(plan.with_ethernet(), None, "a neighbour of IPv4 has an address of IPv4");
}

/// A change for the worse, and what is said of it.
type Case<'a> = (&'a dyn Fn(&mut Value), &'a str);

#[test]
fn each_wrong_member_is_named() {
    let refused = |change: &dyn Fn(&mut Value)| with(|value| change(value)).unwrap_err().join("\n");
    let cases: [Case<'_>; 19] = [
        (&|v| v["overlay"]["thisHost"] = "d".into(), "overlay.thisHost: \"d\" is none of overlay.hosts (a, b, c)"),
        (&|v| v["overlay"]["vni"] = 0.into(), "overlay.vni: 0 is not 1 to 16777215"),
        (&|v| v["overlay"]["vni"] = 16777216.into(), "overlay.vni: 16777216 is not"),
        (&|v| v["overlay"]["port"] = 0.into(), "overlay.port: 0 is not a port"),
        (&|v| v["overlay"]["hosts"][1]["name"] = "a".into(), "overlay.hosts[a].name: each host has a name of its own"),
        (
            &|v| v["overlay"]["hosts"][1]["address"] = "192.168.1.11".into(),
            "overlay.hosts[b].address: 192.168.1.11 is another",
        ),
        (
            &|v| v["overlay"]["hosts"][1]["address"] = "10.0.9.9".into(),
            "overlay.hosts[b].address: 10.0.9.9 lies in vpc-",
        ),
        (
            &|v| v["overlay"]["hosts"][1]["address"] = "224.0.0.1".into(),
            "overlay.hosts[b].address: 224.0.0.1 is not an address",
        ),
        (
            &|v| v["overlay"]["hosts"][1]["address"] = "fd00::1".into(),
            "overlay.hosts[b].address: fd00::1 and this host's 192.168.1.11",
        ),
        (
            &|v| v["overlay"]["encryption"] = "wireguard".into(),
            "overlay.hosts[b].publicKey: with wireguard each host needs one",
        ),
        (
            &|v| v["overlay"]["hosts"][2]["publicKey"] = "x".into(),
            "overlay.hosts[c].publicKey: it is not base64 of 32 bytes",
        ),
        (&|v| v["subnets"][0]["slices"][1]["host"] = "z".into(), "slices[1].host: \"z\" is none of overlay.hosts"),
        (
            &|v| v["subnets"][0]["slices"][1]["cidrBlock"] = "10.0.2.0/25".into(),
            "slices[1].cidrBlock: 10.0.2.0/25 does not lie in the subnet",
        ),
        (
            &|v| v["subnets"][0]["slices"][1]["cidrBlock"] = "10.0.1.32/27".into(),
            "slices[1].cidrBlock: 10.0.1.32/27 overlaps 10.0.1.0/26, a slice of a",
        ),
        (
            &|v| v["subnets"][0]["slices"][1]["cidrBlock"] = "10.0.1.129/25".into(),
            "slices[1].cidrBlock: 10.0.1.129/25 does not begin at its first address",
        ),
        (
            &|v| v["remoteInterfaces"] = json!([{ "privateIpv4Address": "10.0.1.7", "host": "z" }]),
            "remoteInterfaces[10.0.1.7].host: \"z\"",
        ),
        (
            &|v| v["remoteInterfaces"] = json!([{ "privateIpv4Address": "10.0.2.7", "host": "b" }]),
            "remoteInterfaces[10.0.2.7].privateIpv4Address: it lies in none",
        ),
        (
            &|v| {
                v["remoteInterfaces"] =
                    json!([{ "privateIpv4Address": "10.0.1.7", "ipv6Address": "fd00::1", "host": "b" }])
            },
            "remoteInterfaces[10.0.1.7].ipv6Address: fd00::1 does not lie",
        ),
        (
            &|v| drop(v.as_object_mut().unwrap().remove("overlay")),
            "subnets[subnet-0123456789abcdef0].slices: there is no `overlay`",
        ),
    ];
    for (change, said) in cases {
        let refusals = refused(change);
        assert!(refusals.contains(said), "{said} is not in:\n{refusals}");
    }
    let twice = refused(&|v| {
        for number in [1, 2] {
            v["overlay"]["hosts"][number]["publicKey"] = KEYS[0].into();
        }
    });
    assert_eq!(twice, "overlay.hosts[c].publicKey: it is another host's, too");
}

#[test]
fn without_an_overlay_there_is_nothing_to_do() {
    assert_eq!(plan(&VpcNetwork::default()), Ok(None));
}
