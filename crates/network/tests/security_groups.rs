//! Security groups, with packets: each thing that is let through and each that is dropped, between tasks, the host and a
//! neighbour on the LAN, all of them network namespaces.

mod bed;
#[allow(unreachable_pub, reason = "part of this test alone")]
#[path = "security_groups/vpc.rs"]
mod vpc;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::thread;

use aws::ec2::WayOut;
use bed::*;
use ecs::task_definition::NetworkMode::Bridge;
use ecs::task_definition::TransportProtocol::{Tcp, Udp};
use network::{Attachment, FirewallChange, Standing, StandingContainer, StandingInterface};
use vpc::*;

const EVERYTHING: &[&str] = &["all 0.0.0.0/0", "all ::/0"];

/// The neighbour's address and one beside it, not the third.
const LAN_PAIR: &str = "198.51.100.2/31";

#[test]
fn a_rule_lets_in_what_it_names_and_nothing_beside_it() {
    on_fresh_host(|| {
        let lan = lan_with_routes();
        let mut vpc = Vpc::with_way_out(WayOut::Routed);
        let tcp = format!("tcp 8000-8010 {LAN_PAIR}");
        let udp = format!("udp 53 {LAN_PAIR}");
        vpc.group(1, &[&tcp, &udp, "icmp 8/0 0.0.0.0/0", "icmp 3 0.0.0.0/0"], EVERYTHING);
        let task = vpc.attach(1, &[1]);
        let try_it = |what| from_to(&lan, &task.netns, task.ipv4, what);
        let from = |last: u8, what| try_it(what).by(Ipv4Addr::new(198, 51, 100, last));
        expect(&[
            ("the first port", true, try_it(Try::Tcp(8000))),
            ("the last port", true, try_it(Try::Tcp(8010))),
            ("the port before", false, try_it(Try::Tcp(7999))),
            ("the port behind", false, try_it(Try::Tcp(8011))),
            ("the other protocol", false, try_it(Try::Udp(8000))),
            ("UDP", true, try_it(Try::Udp(53))),
            ("the other protocol's port", false, try_it(Try::Tcp(53))),
            ("an echo request", true, try_it(Try::Icmp(8, 0))),
            ("the type with another code", false, try_it(Try::Icmp(8, 1))),
            ("a type with any code", true, try_it(Try::Icmp(3, 1))),
            ("another type", false, try_it(Try::Icmp(13, 0))),
        ]);
        expect(&[
            ("the network's first address", true, from(2, Try::Tcp(8001))),
            ("the network's last address", true, from(3, Try::Tcp(8002))),
            ("the address behind it", false, from(4, Try::Tcp(8003))),
            ("the address behind it, UDP", false, from(4, Try::Udp(53))),
        ]);
    });
}

#[test]
fn ipv6_is_judged_by_its_own_rules() {
    on_fresh_host(|| {
        let lan = lan_with_routes();
        let mut vpc = Vpc::with_way_out(WayOut::Routed);
        vpc.group(
            1,
            &["tcp 8000-8001 2001:db8::2/127", "udp 53 ::/0", "icmpv6 128/0 ::/0", "tcp 9000 0.0.0.0/0"],
            EVERYTHING,
        );
        vpc.group(2, &["all group 1"], EVERYTHING);
        let (task, other) = (vpc.attach(1, &[1]), vpc.attach(2, &[2]));
        inside(&lan, || ip("addr add 2001:db8::4/64 dev eth0 nodad"));
        let try_it = |what| from_to(&lan, &task.netns, task.ipv6, what);
        let beside = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 4);
        expect(&[
            ("the first port", true, try_it(Try::Tcp(8000)).by(LAN6)),
            ("the port behind", false, try_it(Try::Tcp(8002)).by(LAN6)),
            ("an address behind the network", false, try_it(Try::Tcp(8001)).by(beside)),
            ("UDP from everywhere", true, try_it(Try::Udp(53)).by(beside)),
            ("an echo request", true, try_it(Try::Icmp(128, 0))),
            ("another type", false, try_it(Try::Icmp(133, 0))),
            ("what IPv4 is allowed", false, try_it(Try::Tcp(9000))),
            ("a member of a referenced group", true, from_to(&task.netns, &other.netns, other.ipv6, Try::Tcp(1))),
            ("nobody's member", false, from_to(&lan, &other.netns, other.ipv6, Try::Tcp(2))),
        ]);
    });
}

#[test]
fn without_rules_nothing_comes_in_and_nothing_goes_out() {
    on_fresh_host(|| {
        let lan = lan_with_routes();
        let mut vpc = Vpc::with_way_out(WayOut::Routed);
        vpc.group(1, &[], &[]);
        vpc.group(2, EVERYTHING, EVERYTHING);
        let (closed, open) = (vpc.attach(1, &[1]), vpc.attach(2, &[2]));
        let host = this_namespace();
        let mut cases = Vec::new();
        for (n, what) in [Try::Tcp(80), Try::Udp(80), Try::Icmp(8, 0)].into_iter().enumerate() {
            let again = |port: u16| match what {
                Try::Tcp(_) => Try::Tcp(port),
                Try::Udp(_) => Try::Udp(port),
                Try::Icmp(..) => what,
            };
            let port = 81 + 10 * n as u16;
            cases.extend([
                ("from the LAN", false, from_to(&lan, &closed.netns, closed.ipv4, again(port))),
                ("from the host", false, from_to(&host, &closed.netns, closed.ipv4, again(port + 1))),
                ("from another task", false, from_to(&open.netns, &closed.netns, closed.ipv4, again(port + 2))),
                ("to the LAN", false, from_to(&closed.netns, &lan, LAN, again(port))),
                ("to the host", false, from_to(&closed.netns, &host, GATEWAY, again(port + 1))),
                ("to another task", false, from_to(&closed.netns, &open.netns, open.ipv4, again(port + 2))),
                ("the open one from the LAN", true, from_to(&lan, &open.netns, open.ipv4, again(port + 3))),
                ("the open one from the host", true, from_to(&host, &open.netns, open.ipv4, again(port + 4))),
                ("the open one to the LAN", true, from_to(&open.netns, &lan, LAN, again(port + 3))),
                ("the open one to the host", true, from_to(&open.netns, &host, GATEWAY, again(port + 4))),
            ]);
        }
        expect(&cases);
    });
}

#[test]
fn what_goes_out_is_judged_and_answers_come_back() {
    on_fresh_host(|| {
        let lan = lan_with_routes();
        let mut vpc = Vpc::with_way_out(WayOut::Routed);
        vpc.group(1, &[], &["tcp 443 198.51.100.2/32", "udp 53 198.51.100.2/32", "tcp 7000 10.0.1.1/32"]);
        let task = vpc.attach(1, &[1]);
        let host = this_namespace();
        let out = |what| from_to(&task.netns, &lan, LAN, what);
        expect(&[
            ("the port", true, out(Try::Tcp(443))),
            ("another port", false, out(Try::Tcp(444))),
            ("another address", false, from_to(&task.netns, &lan, Ipv4Addr::new(198, 51, 100, 3), Try::Tcp(445))),
            ("a service of the host", true, from_to(&task.netns, &host, GATEWAY, Try::Tcp(7000))),
            ("the host's other services", false, from_to(&task.netns, &host, GATEWAY, Try::Tcp(7001))),
            ("the host by its other address", false, from_to(&task.netns, &host, HOST_ON_LAN, Try::Tcp(7002))),
        ]);
        // TCP's handshake above was answered. UDP is answered as well, and the same datagrams unasked are not.
        let server = serve_udp(&lan, 53, "dns", 1);
        assert_eq!(inside(&task.netns, || ask_udp(LAN, 53)), Ok(format!("dns {}", task.ipv4)));
        server.join().unwrap();
        expect(&[("unasked", false, from_to(&lan, &task.netns, task.ipv4, Try::Udp(53)))]);
    });
}

#[test]
fn a_referenced_group_is_whoever_is_in_it() {
    on_fresh_host(|| {
        let mut vpc = Vpc::new();
        vpc.group(1, &["tcp 5432 group 2", "udp 5432 group 2"], EVERYTHING);
        vpc.group(2, &[], EVERYTHING);
        vpc.group(3, &["all group 3"], EVERYTHING);
        let (database, stranger) = (vpc.attach(1, &[1]), vpc.attach(2, &[3]));
        let to_database = |from, what| from_to(from, &database.netns, database.ipv4, what);
        expect(&[("before anybody is in it", false, to_database(&stranger.netns, Try::Tcp(5432)))]);
        let client = vpc.attach(3, &[3, 2]);
        expect(&[
            ("a member", true, to_database(&client.netns, Try::Tcp(5432))),
            ("a member, UDP", true, to_database(&client.netns, Try::Udp(5432))),
            ("a member, another port", false, to_database(&client.netns, Try::Tcp(5433))),
            ("the other way round", false, from_to(&database.netns, &client.netns, client.ipv4, Try::Tcp(5432))),
            (
                "each other in a group of their own",
                true,
                from_to(&stranger.netns, &client.netns, client.ipv4, Try::Tcp(1)),
            ),
            ("and back", true, from_to(&client.netns, &stranger.netns, stranger.ipv4, Try::Tcp(1))),
            ("who is in no such group", false, from_to(&database.netns, &stranger.netns, stranger.ipv4, Try::Tcp(2))),
        ]);
        expect(&[("no member", false, to_database(&stranger.netns, Try::Tcp(5432)))]);
        vpc.detach(3);
        expect(&[("a member that was", false, to_database(&client.netns, Try::Tcp(5432)))]);
        let members = run("nft", &["list", "set", "inet", "coracle", "members4/test/sg-00000002"]);
        assert!(!names_address(&members, client.ipv4), "{members}");
    });
}

/// Another host's task is a member by what the configuration says of it; its packets come by the overlay alone.
#[test]
fn members_on_other_hosts_follow_the_configuration() {
    on_fresh_host(|| {
        let mut vpc = Vpc::new();
        vpc.group(1, &["udp 5432 group 2"], EVERYTHING);
        vpc.group(2, &[], EVERYTHING);
        let hosts = [("a", HOST_ON_LAN), ("b", LAN)]
            .map(|(name, address)| serde_json::json!({ "name": name, "address": address }));
        vpc.network.overlay =
            Some(serde_json::from_value(serde_json::json!({ "thisHost": "a", "hosts": hosts })).unwrap());
        let slices = [("a", "10.0.1.0/25"), ("b", "10.0.1.128/25")]
            .map(|(host, block)| serde_json::json!({ "host": host, "cidrBlock": block }));
        vpc.network.subnets[0].slices = serde_json::from_value(serde_json::json!(slices)).unwrap();
        let _lan = lan();
        let task = vpc.attach(1, &[1]);
        let remote = |address: &str| {
            serde_json::from_value(serde_json::json!({
                "privateIpv4Address": address, "host": "b", "groups": [group_id(2)],
            }))
            .unwrap()
        };
        vpc.network.remote_interfaces = vec![remote("10.0.1.130"), remote("10.0.1.131")];
        assert!(vpc.apply());
        let members = || run("nft", &["list", "set", "inet", "coracle", "members4/test/sg-00000002"]);
        assert!(members().contains("10.0.1.130") && members().contains("10.0.1.131"), "{}", members());
        let local = vpc.attach(2, &[2]);
        vpc.network.remote_interfaces = vec![remote("10.0.1.131")];
        assert!(vpc.apply());
        assert!(!vpc.apply(), "a configuration that has not changed changes nothing");
        let now = members();
        assert!(!now.contains("10.0.1.130") && now.contains("10.0.1.131"), "{now}");
        assert!(now.contains(&local.ipv4.to_string()), "{now}");
        drop(task);
    });
}

#[test]
fn a_spoofed_source_goes_nowhere() {
    on_fresh_host(|| {
        let lan = lan_with_routes();
        let mut vpc = Vpc::with_way_out(WayOut::Routed);
        vpc.group(1, EVERYTHING, EVERYTHING);
        let (thief, victim, target) = (vpc.attach(1, &[1]), vpc.attach(2, &[1]), vpc.attach(3, &[1]));
        let (stolen, stolen6) = (victim.ipv4, victim.ipv6);
        inside(&thief.netns, || {
            ip(&format!("addr add {stolen}/32 dev eth0"));
            ip(&format!("addr add {stolen6}/128 dev eth0 nodad"));
            ip("addr add 192.0.2.77/32 dev eth0");
        });
        let try_it = |port| from_to(&thief.netns, &target.netns, target.ipv4, Try::Udp(port));
        let try_six = |port| from_to(&thief.netns, &target.netns, target.ipv6, Try::Udp(port));
        expect(&[
            ("its own address", true, try_it(1).by(thief.ipv4)),
            ("another task's", false, try_it(2).by(stolen)),
            ("nobody's", false, try_it(3).by(Ipv4Addr::new(192, 0, 2, 77))),
            ("another task's, to the LAN", false, from_to(&thief.netns, &lan, LAN, Try::Udp(4)).by(stolen)),
            ("another task's, to the host", false, {
                let host = Box::leak(Box::new(this_namespace()));
                from_to(&thief.netns, host, GATEWAY, Try::Udp(5)).by(stolen)
            }),
            ("its own IPv6 address", true, try_six(6).by(thief.ipv6)),
            ("another task's IPv6 address", false, try_six(7).by(stolen6)),
        ]);
        // Of an address outside the subnet: addresses, and MACs after them, are drawn by lot.
        inside(&thief.netns, || ip("link set eth0 address 02:42:c0:00:02:4d"));
        expect(&[
            ("with another MAC", false, try_it(8).by(thief.ipv4)),
            ("with another MAC, IPv6", false, try_six(9).by(thief.ipv6)),
        ]);
    });
}

fn fs_read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// A neighbour that takes a task's address would be taken for a member of its groups.
#[test]
fn a_neighbour_with_a_tasks_address_is_not_believed() {
    on_fresh_host(|| {
        let lan = lan_with_routes();
        let mut vpc = Vpc::with_way_out(WayOut::Routed);
        vpc.group(1, &["udp 53 group 1", "udp 54 10.0.1.0/24"], EVERYTHING);
        let (member, target) = (vpc.attach(1, &[1]), vpc.attach(2, &[1]));
        let unused =
            (20..).map(|last| Ipv4Addr::new(10, 0, 1, last)).find(|one| ![member.ipv4, target.ipv4].contains(one));
        let unused = unused.unwrap();
        inside(&lan, || {
            ip(&format!("addr add {}/32 dev eth0", member.ipv4));
            ip(&format!("addr add {unused}/32 dev eth0"));
        });
        let try_it = |port| from_to(&lan, &target.netns, target.ipv4, Try::Udp(port));
        expect(&[
            ("a member", true, from_to(&member.netns, &target.netns, target.ipv4, Try::Udp(53))),
            ("the subnet", true, from_to(&member.netns, &target.netns, target.ipv4, Try::Udp(54))),
        ]);
        expect(&[
            ("by a member's address", false, try_it(53).by(member.ipv4)),
            ("by an unused address of the subnet", false, try_it(54).by(unused)),
        ]);
    });
}

#[test]
fn a_change_counts_at_once_and_flows_go_on() {
    on_fresh_host(|| {
        let lan = lan_with_routes();
        let mut vpc = Vpc::with_way_out(WayOut::Routed);
        vpc.group(1, &["tcp 80 0.0.0.0/0"], EVERYTHING);
        let task = vpc.attach(1, &[1]);
        let listener = inside(&task.netns, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).unwrap());
        let at = SocketAddr::new(task.ipv4.into(), 80);
        let mut client = inside(&lan, || connect_from(LAN.into(), at)).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let mut talk = |word: &[u8]| {
            let mut heard = vec![0; word.len()];
            client.write_all(word).unwrap();
            server.read_exact(&mut heard).unwrap();
            server.write_all(&heard).unwrap();
            client.read_exact(&mut heard).unwrap();
            assert_eq!(heard, word);
        };
        talk(b"before");
        vpc.group(1, &["tcp 80 0.0.0.0/0", "tcp 81 0.0.0.0/0"], EVERYTHING);
        assert!(vpc.apply());
        talk(b"after an unrelated change");
        expect(&[("what is allowed now", true, from_to(&lan, &task.netns, task.ipv4, Try::Tcp(81)))]);
        vpc.group(1, &["tcp 81 0.0.0.0/0"], EVERYTHING);
        assert!(vpc.apply());
        talk(b"after what began it was revoked");
        let again = inside(&lan, || connect_from(LAN.into(), at));
        assert!(again.is_err(), "a new connection is not allowed any more");
        expect(&[("what is allowed still", true, from_to(&lan, &task.netns, task.ipv4, Try::Tcp(81)))]);
    });
}

/// Somebody may have read the configuration, waited for an image, and attach only now.
#[test]
fn who_attaches_late_does_not_bring_a_revoked_rule_back() {
    on_fresh_host(|| {
        let lan = lan_with_routes();
        let mut vpc = Vpc::with_way_out(WayOut::Routed);
        vpc.group(1, &["tcp 80 0.0.0.0/0"], EVERYTHING);
        let task = vpc.attach(1, &[1]);
        let old = vpc.network.clone();
        vpc.group(1, &[], EVERYTHING);
        assert!(vpc.apply());
        let new = std::mem::replace(&mut vpc.network, old);
        vpc.group(2, &[], EVERYTHING);
        let late = vpc.attach(2, &[1, 2]);
        vpc.network = new;
        expect(&[
            ("the earlier task", false, from_to(&lan, &task.netns, task.ipv4, Try::Tcp(80))),
            ("the late task", false, from_to(&lan, &late.netns, late.ipv4, Try::Tcp(80))),
        ]);
    });
}

#[test]
fn a_group_that_is_configured_no_more_allows_nothing() {
    on_fresh_host(|| {
        let mut vpc = Vpc::new();
        vpc.group(1, EVERYTHING, EVERYTHING);
        vpc.group(2, &["all group 1"], EVERYTHING);
        let (one, two) = (vpc.attach(1, &[1]), vpc.attach(2, &[2]));
        expect(&[("a member", true, from_to(&one.netns, &two.netns, two.ipv4, Try::Tcp(80)))]);
        let removed = vpc.network.security_groups.remove(0);
        assert!(vpc.apply());
        expect(&[
            ("its tasks to others", false, from_to(&one.netns, &two.netns, two.ipv4, Try::Tcp(80))),
            ("others to its tasks", false, from_to(&two.netns, &one.netns, one.ipv4, Try::Tcp(80))),
        ]);
        vpc.network.security_groups.push(removed);
        assert!(vpc.apply());
        expect(&[("when it is back", true, from_to(&one.netns, &two.netns, two.ipv4, Try::Tcp(80)))]);
    });
}

#[test]
fn the_way_out_is_the_subnets() {
    let seen_by_lan = |way_out| {
        on_fresh_host(|| {
            let lan = lan_with_routes();
            let mut vpc = Vpc::with_way_out(way_out);
            vpc.group(1, EVERYTHING, EVERYTHING);
            let (task, other) = (vpc.attach(1, &[1]), vpc.attach(2, &[1]));
            let within = from_to(&task.netns, &other.netns, other.ipv4, Try::Tcp(80)).seen_from();
            assert_eq!(within, Some(task.ipv4.into()), "within the VPC it is itself: {way_out:?}");
            let host = this_namespace();
            let at_host = from_to(&task.netns, &host, GATEWAY, Try::Tcp(80)).seen_from();
            assert_eq!(at_host, Some(task.ipv4.into()), "to the host as well: {way_out:?}");
            let out = from_to(&task.netns, &lan, LAN, Try::Tcp(80)).seen_from();
            let out6 = from_to(&task.netns, &lan, LAN6, Try::Tcp(80)).seen_from();
            let at_host = from_to(&task.netns, &host, HOST_ON_LAN, Try::Tcp(80)).arrives();
            (out.map(|seen| seen == IpAddr::V4(task.ipv4)), out6.map(|seen| seen == IpAddr::V6(task.ipv6)), at_host)
        })
    };
    assert_eq!(seen_by_lan(WayOut::Masquerade), (Some(false), Some(false), true));
    assert_eq!(seen_by_lan(WayOut::Routed), (Some(true), Some(true), true));
    assert_eq!(seen_by_lan(WayOut::None), (None, None, false));
}

/// A neighbour that adds a route to the subnet, which the groups would allow.
#[test]
fn only_a_routed_subnet_is_reached_from_outside() {
    for (way_out, expected) in [(WayOut::Masquerade, false), (WayOut::Routed, true), (WayOut::None, false)] {
        on_fresh_host(|| {
            let lan = lan_with_routes();
            let mut vpc = Vpc::with_way_out(way_out);
            vpc.group(1, EVERYTHING, EVERYTHING);
            let task = vpc.attach(1, &[1]);
            let host = this_namespace();
            expect(&[
                ("IPv4", expected, from_to(&lan, &task.netns, task.ipv4, Try::Tcp(80))),
                ("UDP", expected, from_to(&lan, &task.netns, task.ipv4, Try::Udp(80))),
                ("IPv6", expected, from_to(&lan, &task.netns, task.ipv6, Try::Tcp(81))),
                ("the host itself", true, from_to(&host, &task.netns, task.ipv4, Try::Tcp(82))),
                ("the host itself, IPv6", true, from_to(&host, &task.netns, task.ipv6, Try::Tcp(83))),
            ]);
        });
    }
}

#[test]
fn the_services_address_means_nothing_on_a_wire() {
    on_fresh_host(|| {
        let lan = lan_with_routes();
        let mut vpc = Vpc::new();
        vpc.group(1, EVERYTHING, EVERYTHING);
        let task = vpc.attach(1, &[1]);
        let host = this_namespace();
        let services = Ipv4Addr::new(169, 254, 170, 2);
        ip(&format!("addr add {services}/32 dev lo"));
        inside(&lan, || ip(&format!("route add {services} via {HOST_ON_LAN}")));
        // The task has the address on its own loopback link: take it away, so that it asks the wire.
        inside(&task.netns, || ip(&format!("addr del {services}/32 dev lo")));
        expect(&[
            ("from the LAN", false, from_to(&lan, &host, services, Try::Tcp(8080))),
            ("from the LAN, UDP", false, from_to(&lan, &host, services, Try::Udp(53))),
            ("from a task", false, from_to(&task.netns, &host, services, Try::Tcp(8081))),
            ("from the host itself", true, from_to(&host, &host, services, Try::Tcp(8082))),
        ]);
    });
}

#[test]
fn tasks_of_two_vpcs_do_not_meet() {
    on_fresh_host(|| {
        let mut vpc = Vpc::new();
        vpc.group(1, EVERYTHING, EVERYTHING);
        let one = vpc.attach(1, &[1]);
        let mut other = vpc.network.clone();
        other.vpcs.push(
            serde_json::from_value(serde_json::json!({ "vpcId": "vpc-00000002", "cidrBlock": "10.9.0.0/16" })).unwrap(),
        );
        let mut subnet = other.subnets[0].clone();
        subnet.cidr_block = "10.9.1.0/24".parse().unwrap();
        subnet.ipv6_cidr_block = Some("fd00:9::/64".parse().unwrap());
        subnet.vpc_id = other.vpcs[1].vpc_id.clone();
        subnet.subnet_id = aws::ec2::SubnetId::try_from("subnet-00000002".to_owned()).unwrap();
        other.subnets.insert(0, subnet);
        for group in &mut other.security_groups {
            group.vpc_id = other.vpcs[1].vpc_id.clone();
        }
        vpc.network = other;
        assert!(vpc.apply());
        let two = vpc.attach(2, &[1]);
        let twin = vpc.attach(3, &[1]);
        expect(&[
            ("within the second", true, from_to(&two.netns, &twin.netns, twin.ipv4, Try::Tcp(80))),
            ("from the first to the second", false, from_to(&one.netns, &two.netns, two.ipv4, Try::Tcp(80))),
            ("from the second to the first", false, from_to(&two.netns, &one.netns, one.ipv4, Try::Tcp(80))),
        ]);
    });
}

#[test]
fn a_public_address_is_the_tasks_from_everywhere() {
    on_fresh_host(|| {
        let lan = lan_with_routes();
        let mut vpc = Vpc::new();
        vpc.group(1, &["tcp 80 0.0.0.0/0", "udp 80 0.0.0.0/0"], EVERYTHING);
        vpc.network.subnets[0].public_addresses = Some(
            serde_json::from_value(
                serde_json::json!({ "interface": "lan0", "first": "198.51.100.50", "last": "198.51.100.51" }),
            )
            .unwrap(),
        );
        let (task, other) = (vpc.attach_with(1, &[1], true), vpc.attach(2, &[1]));
        let public = task.attachment.interface.as_ref().unwrap().public_ipv4_address.unwrap();
        let host = this_namespace();
        let seen = |from: &OwnedFd, what| from_to(from, &task.netns, public, what).seen_from();
        assert_eq!(seen(&lan, Try::Tcp(80)), Some(LAN.into()), "from the LAN, as itself");
        assert_eq!(seen(&lan, Try::Udp(80)), Some(LAN.into()));
        assert_eq!(seen(&lan, Try::Tcp(81)), None, "the groups count");
        assert!(seen(&host, Try::Tcp(80)).is_some(), "from the host");
        assert!(seen(&other.netns, Try::Tcp(80)).is_some(), "from another task");
        assert_eq!(seen(&task.netns, Try::Tcp(80)), Some(public.into()), "from itself");
        let out = from_to(&task.netns, &lan, LAN, Try::Tcp(80)).seen_from();
        assert_eq!(out, Some(public.into()), "the LAN sees the public address");
        let out = from_to(&other.netns, &lan, LAN, Try::Tcp(80)).seen_from();
        assert_eq!(out, Some(HOST_ON_LAN.into()), "and the host's of a task that has none");
        vpc.detach(1);
        assert_eq!(seen(&lan, Try::Tcp(80)), None);
    });
}

#[test]
fn an_interface_that_the_firewall_does_not_know_passes_nothing() {
    on_fresh_host(|| {
        let mut vpc = Vpc::new();
        vpc.group(1, EVERYTHING, EVERYTHING);
        let (task, other) = (vpc.attach(1, &[1]), vpc.attach(2, &[1]));
        let host = this_namespace();
        vpc.detach(1);
        expect(&[
            ("from the host", false, from_to(&host, &task.netns, task.ipv4, Try::Udp(80))),
            ("from the host, IPv6", false, from_to(&host, &task.netns, task.ipv6, Try::Udp(81))),
            ("from another task", false, from_to(&other.netns, &task.netns, task.ipv4, Try::Udp(82))),
            ("to another task, UDP", false, from_to(&task.netns, &other.netns, other.ipv4, Try::Udp(80))),
            ("to another task", false, from_to(&task.netns, &other.netns, other.ipv4, Try::Tcp(80))),
            ("to the host", false, from_to(&task.netns, &host, GATEWAY, Try::Tcp(80))),
        ]);
        // Nor does what the kernel remembers of it: the next owner of the address is not reached by old flows.
        assert!(!ruleset().contains(&format!("{} ", task.ipv4)), "{}", ruleset());
    });
}

/// An open UDP flow must not reach whoever gets the address next.
#[test]
fn flows_to_an_interface_end_with_it() {
    on_fresh_host(|| {
        let mut vpc = Vpc::new();
        vpc.group(1, EVERYTHING, EVERYTHING);
        let task = vpc.attach(1, &[1]);
        let server = serve_udp(&task.netns, 53, "dns", 1);
        let client = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        ask_udp_from(&client, task.ipv4, 53).unwrap();
        server.join().unwrap();
        let flows = || fs_read("/proc/thread-self/net/nf_conntrack").contains(&task.ipv4.to_string());
        let listed = std::path::Path::new("/proc/thread-self/net/nf_conntrack").exists();
        assert!(flows() || !listed);
        vpc.detach(1);
        assert!(!flows());
    });
}

#[test]
fn many_attach_and_detach_at_once() {
    on_fresh_host(|| {
        let mut vpc = Vpc::new();
        vpc.group(1, &["all group 1"], EVERYTHING);
        vpc.group(2, &[], EVERYTHING);
        let (vpc, host) = (&vpc, &this_namespace());
        let tasks: Vec<Task> = thread::scope(|scope| {
            let begun: Vec<_> = (1..=24_u8)
                .map(|number| scope.spawn(move || inside(host, || vpc.attach(number, &[1, 1 + number % 2]))))
                .collect();
            begun.into_iter().map(|one| one.join().unwrap()).collect()
        });
        expect(&[
            ("the first to the last", true, from_to(&tasks[0].netns, &tasks[23].netns, tasks[23].ipv4, Try::Tcp(80))),
            ("the last to the first", true, from_to(&tasks[23].netns, &tasks[0].netns, tasks[0].ipv4, Try::Tcp(80))),
        ]);
        thread::scope(|scope| {
            for task in &tasks {
                scope.spawn(move || inside(host, || vpc.detach(task.number)));
            }
        });
        let left = network::sweep(&vpc.settings, &|_| false);
        assert!(left.errors.is_empty(), "{left:?}");
        let rules = ruleset();
        assert!(!rules.contains("comment \"test "), "{rules}");
        assert!(!rules.contains("/all-"), "combinations that nobody has are swept: {rules}");
    });
}

#[test]
fn foreign_tables_are_left_as_they_are() {
    on_fresh_host(|| {
        nft("add table inet foreign; add chain inet foreign c { type filter hook forward priority 5; }; \
             add rule inet foreign c tcp dport 1 counter accept; add set inet foreign s { type ipv4_addr; }; \
             add element inet foreign s { 10.0.0.1 }; add table ip filter; add chain ip filter FORWARD");
        let foreign = || {
            [("inet", "foreign"), ("ip", "filter")].map(|(family, table)| run("nft", &["list", "table", family, table]))
        };
        let before = foreign();
        let mut vpc = Vpc::new();
        vpc.group(1, EVERYTHING, EVERYTHING);
        let task = vpc.attach(1, &[1]);
        vpc.group(1, &[], EVERYTHING);
        assert!(vpc.apply());
        vpc.detach(1);
        network::sweep(&vpc.settings, &|_| false);
        drop(task);
        assert_eq!(foreign(), before);
    });
}

/// As the agent tells it from the tasks' specs.
fn standing(task: &Task, groups: &[u8]) -> Standing {
    let interface = task.attachment.interface.as_ref().unwrap();
    Standing {
        task: bed::task(task.number),
        containers: Vec::new(),
        interface: Some(StandingInterface {
            host_link: interface.host_link.clone(),
            mac_address: interface.mac_address.clone(),
            private_ipv4_address: interface.private_ipv4_address,
            ipv6_address: interface.ipv6_address,
            public_ipv4_address: interface.public_ipv4_address,
            security_groups: groups.iter().map(|group| group_id(*group)).collect(),
        }),
        is_on_host: false,
    }
}

fn standing_bridge(number: u8, attachment: &Attachment) -> Standing {
    let containers = attachment.containers.iter().map(|container| StandingContainer {
        ipv4: container.ipv4.unwrap(),
        ipv6: container.ipv6,
        bindings: container.bindings.clone(),
    });
    Standing { task: bed::task(number), containers: containers.collect(), interface: None, is_on_host: false }
}

/// Everything of the table but what is counted, in an order of its own.
fn table() -> BTreeMap<String, usize> {
    let text = run("nft", &["-s", "list", "table", "inet", "coracle"]);
    let mut counted = BTreeMap::new();
    for line in text.split(['\n', ',']) {
        let line = line.trim().trim_start_matches("elements = {").trim_end_matches('}').trim();
        *counted.entry(line.to_owned()).or_default() += 1;
    }
    counted
}

/// Lines that one of them has and the other has not.
fn expect_table(before: &BTreeMap<String, usize>, when: &str) {
    let now = table();
    let lines: BTreeSet<&String> = before.keys().chain(now.keys()).filter(|line| !line.is_empty()).collect();
    let differ: Vec<_> = lines.into_iter().filter(|line| before.get(*line) != now.get(*line)).collect();
    assert!(differ.is_empty(), "{when}: {differ:#?}");
}

#[test]
fn a_flushed_table_is_put_back_as_it_was() {
    on_fresh_host(|| {
        let lan = lan_with_routes();
        let mut vpc = Vpc::with_way_out(WayOut::Routed);
        vpc.group(1, &["tcp 80 0.0.0.0/0", "tcp 81 group 2"], EVERYTHING);
        vpc.group(2, &[], EVERYTHING);
        vpc.network.subnets[0].public_addresses = Some(
            serde_json::from_value(
                serde_json::json!({ "interface": "lan0", "first": "198.51.100.50", "last": "198.51.100.51" }),
            )
            .unwrap(),
        );
        let published = container("web", vec![mapping(80, Some(8080), Tcp), range_mapping("9000-9002", Udp)]);
        let bridge = network::attach(&vpc.settings, &request(30, Bridge, vec![published])).unwrap();
        let (web, client) = (vpc.attach_with(1, &[1], true), vpc.attach(2, &[2, 1]));
        let before = table();
        let standing = [standing_bridge(30, &bridge), standing(&web, &[1]), standing(&client, &[1, 2])];
        let restore = |change| network::restore(&vpc.settings, &vpc.network, &standing, change).unwrap();
        assert!(!network::needs_restore(&vpc.settings).unwrap());
        assert!(!restore(FirewallChange::Removed), "nothing is missing");
        expect_table(&before, "nothing was missing");

        let mut events = network::firewall_events(&vpc.settings).unwrap();
        assert_eq!(events.read().unwrap(), FirewallChange::Nothing);
        nft("flush ruleset");
        assert_eq!(events.read().unwrap(), FirewallChange::Removed);
        assert!(network::needs_restore(&vpc.settings).unwrap());
        assert!(restore(FirewallChange::Removed));
        expect_table(&before, "flushed");
        expect(&[
            ("what the groups allow", true, from_to(&lan, &web.netns, web.ipv4, Try::Tcp(80))),
            ("what they do not", false, from_to(&lan, &web.netns, web.ipv4, Try::Tcp(82))),
            ("a member", true, from_to(&client.netns, &web.netns, web.ipv4, Try::Tcp(81))),
        ]);
        let server = serve_tcp(bridge.containers[0].netns.as_ref().unwrap(), 80, "web", 1);
        assert_eq!(inside(&lan, || ask_tcp(HOST_ON_LAN, 8080)), Ok(format!("web {LAN}")));
        server.join().unwrap();

        // Another task may have been attached before anybody noticed: the table is there again, and nearly empty.
        nft("flush ruleset");
        let late = vpc.attach(3, &[1]);
        assert!(!network::needs_restore(&vpc.settings).unwrap());
        assert!(restore(events.read().unwrap()));
        vpc.detach(3);
        drop(late);
        expect_table(&before, "made again for another task");
    });
}

#[test]
fn rules_that_somebody_changed_are_put_right() {
    on_fresh_host(|| {
        let mut vpc = Vpc::new();
        vpc.group(1, &["tcp 80 group 1"], EVERYTHING);
        let (one, two) = (vpc.attach(1, &[1]), vpc.attach(2, &[1]));
        let before = table();
        let standing = [standing(&one, &[1]), standing(&two, &[1])];
        let restore = |change| network::restore(&vpc.settings, &vpc.network, &standing, change).unwrap();
        let changes = [
            "flush chain inet coracle in/test/sg-00000001",
            "insert rule inet coracle in/test/sg-00000001 accept",
            "flush chain inet coracle eni-source",
            "flush chain inet coracle guard/test",
            "add rule inet coracle eni-ingress drop",
        ];
        for change in changes {
            let mut events = network::firewall_events(&vpc.settings).unwrap();
            nft(change);
            assert_eq!(events.read().unwrap(), FirewallChange::Rules, "{change}");
            assert!(restore(FirewallChange::Rules), "{change}");
            expect_table(&before, change);
            assert!(!restore(FirewallChange::Rules), "once is enough: {change}");
        }
        // Tasks that come and go, and others' tables, are no change.
        let mut events = network::firewall_events(&vpc.settings).unwrap();
        vpc.attach(3, &[1]);
        vpc.detach(3);
        nft("add table inet foreign; delete table inet foreign");
        assert_eq!(events.read().unwrap(), FirewallChange::Nothing);
    });
}
