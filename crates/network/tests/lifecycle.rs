//! Attaching, detaching and sweeping on hosts made of network namespaces: nothing is left, nothing of others is
//! touched, and two at once end well.

mod bed;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::thread;

use bed::{
    HOST_ON_LAN, ask_tcp, ask_udp_from, container, eventually, inside, ip, lan, mapping, nft, on_fresh_host, request,
    ruleset, serve_tcp, serve_udp, settings, task, this_namespace,
};
use ecs::task_definition::NetworkMode::{Bridge, Host, None as NoNetwork};
use ecs::task_definition::TransportProtocol::{Tcp, Udp};
use network::Error;

/// Links of containers, as `ip` lists them.
fn container_links() -> Vec<String> {
    let all = ip("-o link");
    let names = all.lines().filter_map(|line| line.split(": ").nth(1)).map(|name| name.split('@').next().unwrap());
    names.filter(|name| name.starts_with("corac")).filter(|name| *name != "coracle0").map(str::to_owned).collect()
}

/// Waits for the kernel to remove container links, by listening for removals.
fn wait_until_links_are_gone() {
    let mut monitor = bed::watch_links();
    while !container_links().is_empty() {
        monitor.wait();
    }
}

#[test]
fn a_namespace_has_loopback_its_address_and_a_way_out() {
    on_fresh_host(|| {
        let made = network::attach(&settings(), &request(1, Bridge, vec![container("web", vec![])])).unwrap();
        let web = &made.containers[0];
        let address = web.ipv4.unwrap();
        let shown = inside(web.netns.as_ref().unwrap(), || ip("-o -4 addr") + &ip("route") + &ip("link show eth0"));
        assert!(shown.contains("lo    inet 127.0.0.1/8"), "{shown}");
        assert!(shown.contains(&format!("eth0    inet {address}/16 brd 172.30.255.255")), "{shown}");
        assert!(shown.contains("default via 172.30.0.1 dev eth0"), "{shown}");
        let [a, b, c, d] = address.octets();
        assert!(shown.contains(&format!("link/ether 02:42:{a:02x}:{b:02x}:{c:02x}:{d:02x}")), "{shown}");
        let alias = ip(&format!("link show {}", container_links()[0]));
        assert!(alias.contains(&format!("alias coracle test {} web", task(1))), "{alias}");
        assert_eq!(web.hostname, "0123456789ab");
        let ipv6 = web.ipv6.unwrap();
        assert!(web.hosts.ends_with(&format!("{address}\t0123456789ab\n{ipv6}\t0123456789ab\n")), "{}", web.hosts);
    });
}

#[test]
fn none_and_disabled_networking_have_loopback_alone() {
    on_fresh_host(|| {
        let mut off = container("off", vec![mapping(80, Some(8080), Tcp)]);
        off.disable_networking = true;
        let none = network::attach(&settings(), &request(1, NoNetwork, vec![container("web", vec![])])).unwrap();
        assert!(ip("-o link").lines().count() == 1, "no bridge is made for nobody");
        let disabled = network::attach(&settings(), &request(2, Bridge, vec![off])).unwrap();
        for made in [none, disabled] {
            let only = &made.containers[0];
            assert_eq!((only.ipv4, only.bindings.len(), made.port_holds.len()), (None, 0, 0));
            let shown = inside(only.netns.as_ref().unwrap(), || ip("-o -4 addr"));
            // The second one is where the task's metadata and its resolver are, as in every mode.
            let addresses: Vec<&str> = shown.lines().filter_map(|line| line.split_whitespace().nth(3)).collect();
            assert_eq!(addresses, ["127.0.0.1/8", "169.254.170.2/32"], "{shown}");
            assert_eq!(only.resolv_conf.lines().next(), Some("nameserver 169.254.170.2"));
        }
    });
}

#[test]
fn host_mode_shares_everything_and_reports_its_ports() {
    on_fresh_host(|| {
        let web = container("web", vec![mapping(80, None, Tcp), mapping(53, Some(53), Udp)]);
        let made = network::attach(&settings(), &request(1, Host, vec![web])).unwrap();
        let web = &made.containers[0];
        assert!(web.netns.is_none() && web.ipv4.is_none() && made.port_holds.is_empty());
        let ports: Vec<_> = web.bindings.iter().map(|one| (one.container_port, one.host_port, one.protocol)).collect();
        assert_eq!(ports, [(Some(80), Some(80), Tcp), (Some(53), Some(53), Udp)]);
        assert_eq!(web.hostname, nix::unistd::gethostname().unwrap().to_string_lossy());
        assert_eq!(web.hosts, std::fs::read_to_string("/etc/hosts").unwrap());
    });
}

#[test]
fn detaching_leaves_no_port_and_closing_leaves_no_link() {
    on_fresh_host(|| {
        let web = || container("web", vec![mapping(80, Some(8080), Tcp), mapping(53, Some(5353), Udp)]);
        let other = network::attach(&settings(), &request(9, Bridge, vec![container("other", vec![])])).unwrap();
        let before = (ruleset(), container_links());
        let made = network::attach(&settings(), &request(1, Bridge, vec![web(), container("side", vec![])])).unwrap();
        assert_eq!(container_links().len(), 3);
        assert!(ruleset().contains(&format!("comment \"test {}\"", task(1))), "{}", ruleset());
        for _ in 0..2 {
            assert!(network::detach(&settings(), &task(1)).is_empty());
        }
        drop(made);
        let mut monitor = bed::watch_links();
        while container_links() != before.1 {
            monitor.wait();
        }
        assert_eq!(ruleset(), before.0);
        eventually(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)));
        eventually(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 5353)));
        drop(other);
        wait_until_links_are_gone();
    });
}

#[test]
fn a_taken_port_names_its_holder_and_leaves_nothing() {
    on_fresh_host(|| {
        let web = || container("web", vec![mapping(80, Some(8080), Tcp)]);
        let _first = network::attach(&settings(), &request(1, Bridge, vec![web()])).unwrap();
        let _server = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8081)).unwrap();
        let before = (ruleset(), container_links());
        let Error::PortTaken { container: name, port, holder, .. } =
            network::attach(&settings(), &request(2, Bridge, vec![web()])).unwrap_err()
        else {
            panic!("the port is taken")
        };
        assert_eq!((name.as_str(), port, holder), ("web", 8080, Some(format!("task {}", task(1)))));
        // The second container's port fails after the first one's was held.
        let two = vec![
            container("free", vec![mapping(1, Some(8082), Tcp)]),
            container("web", vec![mapping(80, Some(8081), Tcp)]),
        ];
        let error = network::attach(&settings(), &request(2, Bridge, two)).unwrap_err();
        let said = error.to_string();
        assert!(said.starts_with("container web: tcp host port 8081 is taken by "), "{said}");
        assert!(said.ends_with(&format!("(pid {})", std::process::id())), "{said}");
        assert_eq!((ruleset(), container_links()), before);
        eventually(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8082)));
    });
}

#[test]
fn a_failure_after_the_links_leaves_none() {
    on_fresh_host(|| {
        // A set of another shape under one of our names makes the transaction fail at the very end.
        nft("add table inet coracle; add map inet coracle published { type ipv4_addr : ipv4_addr; }");
        let before = ruleset();
        let error = network::attach(&settings(), &request(1, Bridge, vec![container("web", vec![])])).unwrap_err();
        assert!(matches!(error, Error::Firewall { .. }), "{error:?}");
        assert_eq!(ruleset(), before, "a transaction with one bad operation leaves nothing");
        wait_until_links_are_gone();
    });
}

#[test]
fn a_sweep_removes_what_dead_tasks_left_and_nothing_else() {
    on_fresh_host(|| {
        let web = |port| vec![container("web", vec![mapping(80, Some(port), Tcp)])];
        let crashed = network::attach(&settings(), &request(1, Bridge, web(8081))).unwrap();
        let crashed_address = crashed.containers[0].ipv4.unwrap();
        let alive = network::attach(&settings(), &request(2, Bridge, web(8082))).unwrap();
        let elsewhere = network::Settings::new("elsewhere", std::path::Path::new("/run/coracle-elsewhere/netns"));
        let foreign = network::attach(&elsewhere, &request(3, Bridge, web(8083))).unwrap();
        // A process that outlives its supervisor keeps the namespace, and so the link.
        let kept = crashed.containers[0].netns.as_ref().unwrap().try_clone().unwrap();
        drop(crashed);
        // Not even being taken off the bridge hides it.
        let address = u32::from(crashed_address);
        ip(&format!("link set cor{address:08x} nomaster"));

        let report = network::sweep(&settings(), &|id| *id == task(2));
        assert!(report.errors.is_empty(), "{:?}", report.errors);
        assert_eq!((report.links.len(), report.ports.as_slice()), (1, ["tcp 8081".to_owned()].as_slice()));
        let shown = ruleset();
        assert!(shown.contains("8082") && shown.contains("8083") && !shown.contains("8081"), "{shown}");
        assert_eq!(container_links().len(), 2);
        let again = network::sweep(&settings(), &|id| *id == task(2));
        assert!(again.links.is_empty() && again.ports.is_empty() && again.errors.is_empty());
        drop((kept, alive, foreign));
    });
}

#[test]
fn a_port_that_a_killed_task_left_is_taken_over() {
    on_fresh_host(|| {
        let web = || vec![container("web", vec![mapping(80, Some(8080), Tcp)])];
        // The supervisor is killed: its holds are closed, its entry in the map stays.
        drop(network::attach(&settings(), &request(1, Bridge, web())).unwrap());
        let made = eventually(|| network::attach(&settings(), &request(2, Bridge, web())));
        let server = serve_tcp(made.containers[0].netns.as_ref().unwrap(), 80, "second", 1);
        assert!(ask_tcp(Ipv4Addr::LOCALHOST, 8080).unwrap().starts_with("second"));
        server.join().unwrap();
        let shown = ruleset();
        assert!(shown.contains(task(2).as_str()) && !shown.contains(task(1).as_str()), "{shown}");
    });
}

#[test]
fn many_at_once_on_a_host_without_a_bridge_end_well() {
    on_fresh_host(|| {
        const AT_ONCE: u8 = 8;
        let host = this_namespace();
        let made: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..AT_ONCE)
                .map(|number| {
                    let host = &host;
                    scope.spawn(move || {
                        let web = container("web", vec![mapping(80, None, Tcp), mapping(80, None, Udp)]);
                        let two = vec![web, container("side", vec![])];
                        inside(host, || network::attach(&settings(), &request(number, Bridge, two)).unwrap())
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let addresses: BTreeSet<_> = made.iter().flat_map(|made| made.containers.iter().map(|one| one.ipv4)).collect();
        assert_eq!(addresses.len(), usize::from(AT_ONCE) * 2);
        for one in &made {
            let web = &one.containers[0];
            let server = serve_tcp(web.netns.as_ref().unwrap(), 80, "web", 1);
            assert!(ask_tcp(Ipv4Addr::LOCALHOST, web.bindings[0].host_port.unwrap()).is_ok());
            server.join().unwrap();
        }
        assert_eq!(ip("-o -4 addr show coracle0").lines().count(), 1);
        thread::scope(|scope| {
            for number in 0..AT_ONCE {
                let host = &host;
                scope.spawn(move || {
                    let errors = inside(host, || network::detach(&settings(), &task(number)));
                    assert!(errors.is_empty(), "{errors:?}");
                });
            }
        });
        assert!(!ruleset().contains("comment \"test "), "{}", ruleset());
    });
}

#[test]
fn udp_clients_that_go_on_talking_meet_the_new_container() {
    on_fresh_host(|| {
        let lan = lan();
        let dns = || vec![container("dns", vec![mapping(53, Some(5353), Udp)])];
        let client = inside(&lan, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
        let first = network::attach(&settings(), &request(1, Bridge, dns())).unwrap();
        let server = serve_udp(first.containers[0].netns.as_ref().unwrap(), 53, "first", 1);
        assert!(ask_udp_from(&client, HOST_ON_LAN, 5353).unwrap().starts_with("first"));
        server.join().unwrap();
        assert!(network::detach(&settings(), &task(1)).is_empty());
        // The flow now belongs to nobody: the same client's next datagram reaches the host itself, and is remembered.
        let _ = client.send_to(b"?", (HOST_ON_LAN, 5353));
        drop(first);
        let second = eventually(|| network::attach(&settings(), &request(2, Bridge, dns())));
        let server = serve_udp(second.containers[0].netns.as_ref().unwrap(), 53, "second", 1);
        assert!(ask_udp_from(&client, HOST_ON_LAN, 5353).unwrap().starts_with("second"));
        server.join().unwrap();
    });
}

#[test]
fn a_withdrawn_port_is_closed_to_clients_that_go_on_talking() {
    on_fresh_host(|| {
        let lan = lan();
        let dns = container("dns", vec![mapping(53, Some(5353), Udp)]);
        let made = network::attach(&settings(), &request(1, Bridge, vec![dns])).unwrap();
        let dns = &made.containers[0];
        let server = inside(dns.netns.as_ref().unwrap(), || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap());
        let mut datagram = [0; 16];
        let mut hear = || server.recv_from(&mut datagram).map(|(length, from)| (datagram[..length].to_vec(), from));
        let client = inside(&lan, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
        client.send_to(b"before", (HOST_ON_LAN, 5353)).unwrap();
        let (said, from) = hear().unwrap();
        server.send_to(&said, from).unwrap();
        client.recv_from(&mut [0; 16]).unwrap();

        assert!(network::detach(&settings(), &task(1)).is_empty());
        client.send_to(b"after", (HOST_ON_LAN, 5353)).unwrap();
        let host = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        host.send_to(b"host", (dns.ipv4.unwrap(), 53)).unwrap();
        assert_eq!(hear().unwrap().0, b"host", "nothing of the client's comes between");
    });
}

#[test]
fn foreign_rules_and_links_are_untouched() {
    on_fresh_host(|| {
        nft("add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy accept; }");
        nft("add table inet mine; add set inet mine coracle { type ifname; elements = { \"eth0\" }; }");
        ip("link add docker0 type bridge");
        ip("addr add 172.30.0.1/16 dev docker0");
        ip("link set docker0 up");
        let before = (nft_table("ip filter"), nft_table("inet mine"), ip("-o -4 addr show docker0"));
        let made = network::attach(&settings(), &request(1, Bridge, vec![container("web", vec![])])).unwrap();
        assert_eq!(made.containers[0].ipv4.unwrap().octets()[..2], [172, 29], "another network than docker0's");
        assert!(network::detach(&settings(), &task(1)).is_empty());
        drop(made);
        assert!(network::remove_bridge_and_table(&settings()).is_empty());
        assert_eq!((nft_table("ip filter"), nft_table("inet mine"), ip("-o -4 addr show docker0")), before);
        assert!(!ruleset().contains("table inet coracle"));
        assert!(!ip("-o link").contains("coracle0"));
    });
}

fn nft_table(name: &str) -> String {
    bed::run("nft", &["list", "table", name.split_once(' ').unwrap().0, name.split_once(' ').unwrap().1])
}

#[test]
fn another_builds_rules_are_replaced_and_ports_stay() {
    on_fresh_host(|| {
        let web = |port| vec![container("web", vec![mapping(80, Some(port), Tcp)])];
        let _one = network::attach(&settings(), &request(1, Bridge, web(8081))).unwrap();
        let fresh = ruleset();
        let current = fresh.lines().find(|line| line.contains("chain rules-")).unwrap().trim();
        let current = current.trim_start_matches("chain ").trim_end_matches(" {").to_owned();
        // What an older build may have left: another marker, other rules.
        nft(&format!("delete chain inet coracle {current}; add chain inet coracle rules-0"));
        nft("flush chain inet coracle forward; add rule inet coracle forward counter drop");
        let _two = network::attach(&settings(), &request(2, Bridge, web(8082))).unwrap();
        let entry =
            fresh.lines().find(|line| line.contains("8081")).unwrap().trim().trim_start_matches("elements = { ");
        let entry = entry.trim_end_matches(" }");
        let renewed = ruleset();
        assert!(renewed.contains(entry), "{entry} in {renewed}");
        assert!(renewed.contains(&current) && !renewed.contains("rules-0 "), "{renewed}");
        assert!(!renewed.contains("\t\tcounter packets 0 bytes 0 drop\n"), "{renewed}");
    });
}

/// The whole table in nft's own words, of a host with one task in bridge mode.
const TABLE: &str = include_str!("table.nft");

#[test]
fn nft_reads_the_table_as_it_is_meant() {
    on_fresh_host(|| {
        let web = container("web", vec![mapping(80, Some(8080), Tcp)]);
        let made = network::attach(&settings(), &request(1, Bridge, vec![web])).unwrap();
        let shown = ruleset();
        let hash = shown.lines().find_map(|line| line.trim().strip_prefix("chain rules-")).unwrap();
        let web = &made.containers[0];
        let (address, address6) = (web.ipv4.unwrap(), web.ipv6.unwrap());
        // The network that the bridge has chosen, fd…/64, is the first half of its containers' addresses.
        let [a, b, c, d, ..] = address6.segments();
        let network6 = std::net::Ipv6Addr::from([a, b, c, d, 0, 0, 0, 0]);
        let expected = TABLE.replace("ADDRESS6", &address6.to_string()).replace("NETWORK6", &network6.to_string());
        let expected = expected.replace("ADDRESS", &address.to_string()).replace("HASH {", hash);
        let first = shown.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
        assert_eq!(first, None);
        assert_eq!(shown, expected);
    });
}

#[test]
fn containers_get_the_frame_size_of_the_hosts_way_out() {
    on_fresh_host(|| {
        let _lan = lan();
        ip("link set lan0 mtu 1400");
        let made = network::attach(&settings(), &request(1, Bridge, vec![container("web", vec![])])).unwrap();
        let inner = inside(made.containers[0].netns.as_ref().unwrap(), || ip("link show eth0"));
        assert!(inner.contains("mtu 1400") && ip("link show coracle0").contains("mtu 1400"), "{inner}");
    });
}

#[test]
fn a_link_that_is_no_bridge_and_a_bridge_elsewhere_are_refused() {
    on_fresh_host(|| {
        let web = || vec![container("web", vec![])];
        ip("link add coracle0 type veth peer name other0");
        let error = network::attach(&settings(), &request(1, Bridge, web())).unwrap_err();
        assert!(matches!(&error, Error::NotABridge { kind, .. } if kind == "veth"), "{error}");
        ip("link delete coracle0");
        let one = network::attach(&settings(), &request(1, Bridge, web())).unwrap();
        let other = network::Settings { subnet: Some("10.9.0.0/24".parse().unwrap()), ..settings() };
        let error = network::attach(&other, &request(2, Bridge, web())).unwrap_err();
        assert!(matches!(error, Error::OtherSubnet { .. }), "{error}");
        drop(one);
    });
}

#[test]
fn a_full_subnet_is_said_and_room_comes_back() {
    on_fresh_host(|| {
        let small = network::Settings { subnet: Some("10.9.0.0/29".parse().unwrap()), ..settings() };
        let five = (0..5).map(|number| container(&format!("c{number}"), vec![])).collect();
        let made = network::attach(&small, &request(1, Bridge, five)).unwrap();
        let error = network::attach(&small, &request(2, Bridge, vec![container("web", vec![])])).unwrap_err();
        assert!(matches!(error, Error::NoFreeAddress { .. }), "{error}");
        drop(made);
        eventually(|| network::attach(&small, &request(2, Bridge, vec![container("web", vec![])])));
    });
}

#[test]
fn changed_settings_of_the_host_are_said_once() {
    on_fresh_host(|| {
        let web = || vec![container("web", vec![])];
        let forward = |value: &str| std::fs::write("/proc/sys/net/ipv4/ip_forward", value).unwrap();
        forward("0");
        let first = network::attach(&settings(), &request(1, Bridge, web())).unwrap();
        let second = network::attach(&settings(), &request(2, Bridge, web())).unwrap();
        let changes = |said: &[String]| said.iter().filter(|line| line.contains('=')).cloned().collect::<Vec<_>>();
        assert_eq!(changes(&first.said), ["net.ipv4.ip_forward=1"]);
        assert_eq!(changes(&second.said), Vec::<String>::new());
    });
}
