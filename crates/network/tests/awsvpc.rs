//! Tasks with interfaces of their own, on hosts made of network namespaces: what is announced is what packets have, and
//! nothing of it is left.

mod bed;
#[path = "bed/vpc.rs"]
mod vpc;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;

use aws::ec2::VpcNetwork;
use bed::{
    HOST_ON_LAN, LAN, Scratch, ask_tcp, ask_udp, container, eventually, inside, ip, is_silent_tcp, is_silent_udp, lan,
    names_address, nft, on_fresh_host, ruleset, serve_tcp, serve_udp, task, this_namespace,
};
use network::{Attachment, Error, ServiceKind, Settings};
use serde_json::json;
use vpc::{CLOSED, OPEN, awsvpc, interface};

const NOTHING: [&str; 0] = [];
const HOST_SEEN: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);

fn attach(settings: &Settings, network: &Arc<VpcNetwork>, number: u8, group: &str) -> Attachment {
    let request = awsvpc(number, interface(network, group), vec![container("web", vec![])]);
    network::attach(settings, &request).unwrap()
}

fn open_network(subnet: serde_json::Value) -> Arc<VpcNetwork> {
    Arc::new(vpc::vpc(subnet))
}

fn address(made: &Attachment) -> Ipv4Addr {
    made.interface.as_ref().unwrap().private_ipv4_address
}

fn netns(made: &Attachment) -> &std::os::fd::OwnedFd {
    made.containers[0].netns.as_ref().unwrap()
}

/// Hosts' ends of interfaces, as `ip` lists them.
fn interface_links() -> BTreeSet<String> {
    let all = ip("-o link");
    let names = all.lines().filter_map(|line| line.split(": ").nth(1)).map(|name| name.split('@').next().unwrap());
    names.filter(|name| name.starts_with("eni")).map(str::to_owned).collect()
}

fn wait_for_links(wanted: &BTreeSet<String>) {
    let mut monitor = bed::watch_links();
    while interface_links() != *wanted {
        monitor.wait();
    }
}

#[test]
fn what_is_announced_is_what_the_task_has() {
    on_fresh_host(|| {
        let scratch = Scratch::new();
        let network = open_network(json!({"ipv6CidrBlock": "fd00:1::/64"}));
        let mut off = container("off", vec![]);
        off.disable_networking = true;
        let containers = vec![container("web", vec![]), off, container("side", vec![])];
        let made = network::attach(&scratch.settings(), &awsvpc(1, interface(&network, OPEN), containers)).unwrap();
        let announced = made.interface.as_ref().unwrap();
        let [a, b, c, d] = announced.private_ipv4_address.octets();
        assert_eq!([a, b, c], [10, 0, 1]);
        assert!((4..=254).contains(&d), "the first four addresses and the last are nobody's");
        assert_eq!(announced.mac_address, format!("02:42:{a:02x}:{b:02x}:{c:02x}:{d:02x}"));
        assert_eq!(announced.ipv6_address.unwrap().to_string(), format!("fd00:1::a00:1{d:02x}"));
        assert_eq!(announced.private_dns_name, format!("ip-10-0-1-{d}.eu-central-1.compute.internal"));
        assert_eq!(announced.gateway, HOST_SEEN);

        let shown = inside(netns(&made), || ip("-o addr") + &ip("-o link show eth0") + &ip("route") + &ip("-6 route"));
        let address = announced.private_ipv4_address;
        for part in [
            format!("eth0    inet {address}/24"),
            format!("eth0    inet6 fd00:1::a00:1{d:02x}/128 scope global"),
            format!("link/ether {}", announced.mac_address),
            "default via 10.0.1.1 dev eth0 proto static onlink".to_owned(),
            "default via fd00:1::a00:101 dev eth0 proto static".to_owned(),
        ] {
            assert!(shown.contains(&part), "{part} in {shown}");
        }
        assert!(!shown.contains("fe80"), "nobody is asked whether an address is free: {shown}");

        let web = &made.containers[0];
        assert_eq!((web.ipv4, web.ipv6), (Some(address), announced.ipv6_address));
        assert_eq!(web.hostname, announced.private_dns_name);
        let line = format!("{address}\t{} ip-10-0-1-{d}\n", announced.private_dns_name);
        assert!(web.hosts.contains(&line), "{}", web.hosts);
        assert_eq!(web.resolv_conf.lines().next(), Some("nameserver 169.254.170.2"));

        let same = |at: usize| inside(made.containers[at].netns.as_ref().unwrap(), namespace_number);
        assert_eq!(same(0), same(2), "the task's containers share one namespace");
        assert_ne!(same(0), same(1));
        assert_eq!((made.containers[1].ipv4, made.containers[1].bindings.len()), (None, 0));
        let apart = inside(made.containers[1].netns.as_ref().unwrap(), || ip("-o link"));
        assert_eq!(apart.lines().count(), 1, "{apart}");

        let alias = ip(&format!("link show {}", announced.host_link));
        assert!(alias.contains(&format!("alias coracle test {} eni-", task(1))), "{alias}");
        assert_eq!(scratch.held(), [task(1).to_string()]);
        let held = std::fs::metadata(scratch.0.join("netns").join(task(1).as_str())).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::ino(&held), same(0), "the file is the namespace");
        assert!(network::detach(&scratch.settings(), &task(1)).is_empty());
    });
}

fn namespace_number() -> u64 {
    std::os::unix::fs::MetadataExt::ino(&std::fs::metadata("/proc/thread-self/ns/net").unwrap())
}

#[test]
fn twenty_tasks_listen_on_port_80_of_one_host() {
    on_fresh_host(|| {
        const TASKS: u8 = 20;
        let scratch = Scratch::new();
        let network = open_network(json!({}));
        let tasks: Vec<_> = (0..TASKS).map(|number| attach(&scratch.settings(), &network, number, OPEN)).collect();
        let addresses: BTreeSet<_> = tasks.iter().map(address).collect();
        assert_eq!(addresses.len(), usize::from(TASKS));
        let last = &tasks[usize::from(TASKS) - 1];
        for one in &tasks {
            let server = serve_tcp(netns(one), 80, "web", 2);
            assert_eq!(
                ask_tcp(address(one), 80).unwrap(),
                format!("web {HOST_SEEN}"),
                "the host comes from the gateway"
            );
            let said = inside(netns(last), || ask_tcp(address(one), 80)).unwrap();
            assert_eq!(said, format!("web {}", address(last)), "a task comes from its own address");
            server.join().unwrap();
        }
        for number in 0..TASKS {
            assert!(network::detach(&scratch.settings(), &task(number)).is_empty());
        }
    });
}

#[test]
fn the_containers_of_a_task_meet_at_localhost_and_its_services_leave_their_ports_free() {
    on_fresh_host(|| {
        let scratch = Scratch::new();
        let _lan = lan();
        let network = open_network(json!({}));
        let made = attach(&scratch.settings(), &network, 1, OPEN);
        // Servers of the task's own, at every address.
        let web = serve_tcp(netns(&made), 80, "web", 1);
        let dns = serve_udp(netns(&made), 53, "dns", 1);
        let kinds: Vec<_> = made.service_sockets.iter().map(|one| (one.container, one.kind)).collect();
        let expected = [ServiceKind::Http, ServiceKind::DnsTcp, ServiceKind::DnsUdp].map(|kind| (Some(0), kind));
        assert_eq!(kinds, expected);
        inside(netns(&made), || {
            assert_eq!(ask_tcp(Ipv4Addr::LOCALHOST, 80).unwrap(), "web 127.0.0.1");
            assert_eq!(ask_udp(Ipv4Addr::LOCALHOST, 53).unwrap(), "dns 127.0.0.1");
        });
        web.join().unwrap();
        dns.join().unwrap();
        meets_its_services(&made);
        // Nobody from anywhere else does, whatever routes it has.
        ip(&format!(
            "route add 169.254.170.2/32 via {} dev {}",
            address(&made),
            made.interface.as_ref().unwrap().host_link
        ));
        assert!(
            is_silent_tcp(Ipv4Addr::new(169, 254, 170, 2), 80) && is_silent_udp(Ipv4Addr::new(169, 254, 170, 2), 53)
        );
        for port in [80, 51679, 51680] {
            assert!(ask_tcp_briefly(address(&made), port).is_err(), "nothing of it listens at the interface's address");
        }
        assert!(network::detach(&scratch.settings(), &task(1)).is_empty());
    });
}

fn ask_tcp_briefly(address: Ipv4Addr, port: u16) -> std::io::Result<TcpStream> {
    TcpStream::connect_timeout(&(address, port).into(), std::time::Duration::from_millis(300))
}

/// Talks to each service socket from inside.
fn meets_its_services(made: &Attachment) {
    let at = Ipv4Addr::new(169, 254, 170, 2);
    for service in &made.service_sockets {
        let socket = service.socket.try_clone().unwrap();
        match service.kind {
            ServiceKind::Http | ServiceKind::DnsTcp => {
                let port = if service.kind == ServiceKind::Http { 80 } else { 53 };
                let listener = TcpListener::from(socket);
                let client = inside(netns(made), || TcpStream::connect((at, port)).unwrap());
                let (_, from) = eventually(|| listener.accept());
                assert_eq!((from.ip(), from.port()), (IpAddr::V4(at), client.local_addr().unwrap().port()));
                assert_eq!(client.peer_addr().unwrap(), (at, port).into());
            }
            ServiceKind::DnsUdp => {
                let socket = UdpSocket::from(socket);
                let client = inside(netns(made), || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
                client.connect((at, 53)).unwrap();
                client.send(b"?").unwrap();
                let mut question = [0; 8];
                let (length, from) = eventually(|| socket.recv_from(&mut question));
                assert_eq!(&question[..length], b"?");
                socket.send_to(b"!", from).unwrap();
                let mut answer = [0; 8];
                let length = client.recv(&mut answer).unwrap();
                assert_eq!(&answer[..length], b"!", "the answer comes from where the question went");
            }
        }
    }
}

#[test]
fn every_mode_has_its_services() {
    use ecs::task_definition::NetworkMode::{Bridge, Host, None as NoNetwork};
    on_fresh_host(|| {
        let scratch = Scratch::new();
        for (number, mode) in [(1, Bridge), (2, NoNetwork)] {
            let two = vec![container("web", vec![]), container("side", vec![])];
            let made = network::attach(&scratch.settings(), &bed::request(number, mode, two)).unwrap();
            let owners: Vec<_> = made.service_sockets.iter().map(|one| one.container).collect();
            assert_eq!(owners, [Some(0), Some(0), Some(0), Some(1), Some(1), Some(1)]);
            let (first, second) = (made.service_sockets.into_iter().take(3).collect(), made.containers);
            let one = Attachment { service_sockets: first, containers: second, ..empty() };
            meets_its_services(&one);
        }
        // On the host's own network, tasks share the address and each has sockets.
        let asked = |number| bed::request(number, Host, vec![container("web", vec![])]);
        let before = ruleset();
        let one = network::attach(&scratch.settings(), &asked(3)).unwrap();
        let other = network::attach(&scratch.settings(), &asked(4)).unwrap();
        for made in [&one, &other] {
            let owners: Vec<_> = made.service_sockets.iter().map(|one| one.container).collect();
            assert_eq!(owners, [None, None, None]);
        }
        drop(other);
        let host = this_namespace();
        let made = Attachment {
            containers: one
                .containers
                .into_iter()
                .map(|container| network::AttachedContainer { netns: Some(host.try_clone().unwrap()), ..container })
                .collect(),
            service_sockets: one.service_sockets,
            ..empty()
        };
        meets_its_services(&made);
        assert!(ip("-o addr show lo").contains("169.254.170.2/32 scope host lo"));
        drop(made);
        assert!(network::remove_bridge_and_table(&scratch.settings()).is_empty());
        assert!(!ip("-o addr show lo").contains("169.254.170.2"));
        assert!(!ruleset().contains("coracle"), "{before}");
    });
}

fn empty() -> Attachment {
    Attachment {
        containers: Vec::new(),
        interface: None,
        service_sockets: Vec::new(),
        port_holds: Vec::new(),
        said: Vec::new(),
        stages: Vec::new(),
    }
}

#[test]
fn the_subnet_says_how_its_tasks_get_out() {
    on_fresh_host(|| {
        let lan = lan();
        for (number, way_out) in [(1, "masquerade"), (2, "routed"), (3, "none")] {
            let scratch = Scratch::new();
            let network = open_network(json!({"wayOut": way_out}));
            let made = attach(&scratch.settings(), &network, number, OPEN);
            inside(&lan, || ip("route replace 10.0.1.0/24 via 198.51.100.1"));
            let reached = |server: thread::JoinHandle<()>| {
                let said = inside(netns(&made), || ask_tcp(LAN, 80)).unwrap();
                server.join().unwrap();
                said
            };
            match way_out {
                "masquerade" => assert_eq!(reached(serve_tcp(&lan, 80, "lan", 1)), format!("lan {HOST_ON_LAN}")),
                "routed" => assert_eq!(reached(serve_tcp(&lan, 80, "lan", 1)), format!("lan {}", address(&made))),
                _ => assert!(inside(netns(&made), || is_silent_tcp(LAN, 80))),
            }
            assert!(network::detach(&scratch.settings(), &task(number)).is_empty());
            assert!(network::remove_bridge_and_table(&scratch.settings()).is_empty());
        }
    });
}

#[test]
fn tasks_speak_ipv6_where_their_subnet_does() {
    on_fresh_host(|| {
        let scratch = Scratch::new();
        let network = open_network(json!({"ipv6CidrBlock": "fd00:1::/64"}));
        let (one, other) =
            (attach(&scratch.settings(), &network, 1, OPEN), attach(&scratch.settings(), &network, 2, OPEN));
        let six = |made: &Attachment| made.interface.as_ref().unwrap().ipv6_address.unwrap();
        let listener = inside(netns(&one), || TcpListener::bind(("::", 80)).unwrap());
        let _from_task = inside(netns(&other), || TcpStream::connect((six(&one), 80)).unwrap());
        assert_eq!(listener.accept().unwrap().1.ip(), IpAddr::V6(six(&other)));
        let _from_host = TcpStream::connect((six(&one), 80)).unwrap();
        assert_eq!(listener.accept().unwrap().1.ip().to_string(), "fd00:1::a00:101");
        for number in [1, 2] {
            assert!(network::detach(&scratch.settings(), &task(number)).is_empty());
        }
    });
}

#[test]
fn a_public_address_is_met_on_the_lan_and_given_back() {
    on_fresh_host(|| {
        let scratch = Scratch::new();
        let lan = lan();
        // One of the range is the host's own, and nobody's to give.
        let range = json!({"interface": "lan0", "first": "198.51.100.20", "last": "198.51.100.23"});
        ip("addr add 198.51.100.20/24 dev lan0");
        let network = open_network(json!({"publicAddresses": range, "wayOut": "masquerade"}));
        let before = ip("-o -4 addr show lan0");
        let asked = |number| {
            let asked = network::InterfaceRequest { assign_public_ip: true, ..interface(&network, OPEN) };
            network::attach(&scratch.settings(), &awsvpc(number, asked, vec![container("web", vec![])]))
        };
        let made: Vec<_> = (1..=3).map(|number| asked(number).unwrap()).collect();
        let public: BTreeSet<_> =
            made.iter().map(|made| made.interface.as_ref().unwrap().public_ipv4_address.unwrap()).collect();
        assert_eq!(public, (21..=23).map(|last| Ipv4Addr::new(198, 51, 100, last)).collect());
        let Err(Error::NoPublicAddress { .. }) = asked(4) else { panic!("three are all there are") };
        assert_eq!(scratch.held().len(), 3, "and the fourth's namespace is not held");

        let one = &made[0];
        let own = one.interface.as_ref().unwrap().public_ipv4_address.unwrap();
        assert!(
            ip("-o -4 addr show lan0")
                .contains(&format!("inet {own}/32 scope global {}", one.interface.as_ref().unwrap().host_link))
        );
        let server = serve_tcp(netns(one), 80, "web", 1);
        let said = inside(&lan, || ask_tcp(own, 80)).unwrap();
        assert_eq!(said, format!("web {LAN}"), "who calls is not hidden from the task");
        server.join().unwrap();
        let server = serve_tcp(&lan, 8080, "lan", 1);
        assert_eq!(inside(netns(one), || ask_tcp(LAN, 8080)).unwrap(), format!("lan {own}"));
        server.join().unwrap();

        for number in 1..=2 {
            assert!(network::detach(&scratch.settings(), &task(number)).is_empty());
        }
        // Whoever empties nftables takes the firewall's knowledge away, not ours.
        nft("flush ruleset");
        assert!(network::detach(&scratch.settings(), &task(3)).is_empty());
        assert_eq!(ip("-o -4 addr show lan0"), before);
    });
}

/// What differs, line by line, where anything does. Counters do not count: the kernel tells of multicast groups of its own accord.
fn difference(before: &str, after: &str) -> Vec<String> {
    let uncounted = |line: &str| {
        let words = line.split(' ').filter(|word| word.parse::<u64>().is_err());
        if line.contains("counter packets") { words.collect::<Vec<_>>().join(" ") } else { line.to_owned() }
    };
    let lines = |text: &str| text.lines().map(uncounted).collect::<BTreeSet<_>>();
    let (before, after) = (lines(before), lines(after));
    let gone = before.difference(&after).map(|line| format!("- {line}"));
    gone.chain(after.difference(&before).map(|line| format!("+ {line}"))).collect()
}

#[test]
fn detaching_leaves_the_host_as_it_was() {
    on_fresh_host(|| {
        let scratch = Scratch::new();
        let network = open_network(json!({"ipv6CidrBlock": "fd00:1::/64"}));
        let standing = attach(&scratch.settings(), &network, 9, CLOSED);
        let state = || [ruleset(), ip("-o addr"), ip("route"), ip("-6 route"), scratch.held().join(" ")].join("\n");
        let (before, links) = (state(), interface_links());
        let made = attach(&scratch.settings(), &network, 1, CLOSED);
        assert_ne!(difference(&before, &state()), NOTHING);
        for _ in 0..2 {
            assert!(network::detach(&scratch.settings(), &task(1)).is_empty());
        }
        drop(made);
        wait_for_links(&links);
        assert_eq!(difference(&before, &state()), NOTHING);
        assert!(network::detach(&scratch.settings(), &task(9)).is_empty());
        drop(standing);
        wait_for_links(&BTreeSet::new());
        assert!(network::remove_bridge_and_table(&scratch.settings()).is_empty());
        assert_eq!((ip("-o link").lines().count(), ruleset()), (1, String::new()));
    });
}

#[test]
fn a_sweep_removes_what_killed_tasks_left_and_nothing_else() {
    on_fresh_host(|| {
        let scratch = Scratch::new();
        let _lan = lan();
        let range = json!({"interface": "lan0", "first": "198.51.100.10", "last": "198.51.100.19"});
        let network = open_network(json!({"publicAddresses": range}));
        let before = ip("-o -4 addr show lan0");
        let public = |settings: &Settings, number| {
            let asked = network::InterfaceRequest { assign_public_ip: true, ..interface(&network, OPEN) };
            network::attach(settings, &awsvpc(number, asked, vec![container("web", vec![])])).unwrap()
        };
        let alive = public(&scratch.settings(), 2);
        let standing = (ip("-o -4 addr show lan0"), interface_links());
        let elsewhere = Scratch::new();
        let foreign_settings = Settings::new("elsewhere", &elsewhere.0.join("netns"));
        let foreign = public(&foreign_settings, 3);
        // The supervisor is killed, with every descriptor: the file alone holds the namespace.
        let killed = public(&scratch.settings(), 1);
        let (name, address) = (killed.interface.as_ref().unwrap().host_link.clone(), address(&killed));
        drop(killed);
        assert!(interface_links().contains(&name));

        let report = network::sweep(&scratch.settings(), &|id| *id == task(2));
        assert!(report.errors.is_empty(), "{:?}", report.errors);
        assert_eq!((report.public_addresses.len(), report.namespaces.as_slice()), (1, [task(1)].as_slice()));
        let shown = ruleset();
        assert!(!shown.contains(task(1).as_str()) && !names_address(&shown, address), "{shown}");
        assert_eq!(scratch.held(), [task(2).to_string()]);
        assert!(!interface_links().contains(&name));
        let again = network::sweep(&scratch.settings(), &|id| *id == task(2));
        assert!(again.links.is_empty() && again.namespaces.is_empty() && again.public_addresses.is_empty());
        // The others are as they were: one is alive, one is another run directory's.
        for made in [&alive, &foreign] {
            let server = serve_tcp(netns(made), 80, "web", 1);
            assert_eq!(ask_tcp(crate::address(made), 80).unwrap(), format!("web {HOST_SEEN}"));
            server.join().unwrap();
        }
        assert!(network::detach(&foreign_settings, &task(3)).is_empty());
        drop(foreign);
        wait_for_links(&standing.1);
        assert_eq!(ip("-o -4 addr show lan0"), standing.0);
        assert!(network::detach(&scratch.settings(), &task(2)).is_empty());
        assert_eq!(ip("-o -4 addr show lan0"), before);
    });
}

#[test]
fn a_step_that_fails_leaves_nothing() {
    on_fresh_host(|| {
        let scratch = Scratch::new();
        let _lan = lan();
        let range = json!({"interface": "lan0", "first": "198.51.100.10", "last": "198.51.100.19"});
        let network = open_network(json!({"publicAddresses": &range}));
        let attempt = |settings: &Settings, network: &Arc<VpcNetwork>| {
            let asked = network::InterfaceRequest { assign_public_ip: true, ..interface(network, OPEN) };
            network::attach(settings, &awsvpc(1, asked, vec![container("web", vec![])]))
        };
        let good = attempt(&scratch.settings(), &network).unwrap();
        assert!(network::detach(&scratch.settings(), &task(1)).is_empty());
        drop(good);
        wait_for_links(&BTreeSet::new());
        let state = || [ruleset(), ip("-o -4 addr"), scratch.held().join(" ")].join("\n");
        let before = state();

        // The directory of namespaces cannot be made.
        let blocked = Settings::new("test", std::path::Path::new("/proc/version/netns"));
        let error = attempt(&blocked, &network).unwrap_err();
        assert!(
            matches!(&error, Error::NamespaceFile { .. }) && error.to_string().contains("/proc/version"),
            "{error}"
        );
        // There is no such NIC, after the namespace was held.
        let elsewhere = json!({"interface": "lan9", "first": "198.51.100.10", "last": "198.51.100.19"});
        let error = attempt(&scratch.settings(), &open_network(json!({"publicAddresses": elsewhere}))).unwrap_err();
        assert!(matches!(&error, Error::NoSuchNic { name } if name == "lan9"), "{error}");
        wait_for_links(&BTreeSet::new());
        assert_eq!(difference(&before, &state()), NOTHING);

        // The firewall refuses, at the very end.
        nft("add table inet broken; add map inet broken published { type ipv4_addr : ipv4_addr; }");
        let before = state();
        let broken = Settings { table: "broken".into(), ..scratch.settings() };
        let error = attempt(&broken, &network).unwrap_err();
        assert!(matches!(error, Error::Firewall { .. }), "{error:?}");
        wait_for_links(&BTreeSet::new());
        assert_eq!(difference(&before, &state()), NOTHING);

        // Every address is taken: links of these names are.
        let tiny = open_network(json!({"cidrBlock": "10.0.2.16/28", "publicAddresses": range}));
        for last in 20..31 {
            ip(&format!("link add eni0a0002{last:02x} type bridge"));
        }
        let error = attempt(&scratch.settings(), &tiny).unwrap_err();
        assert!(
            matches!(&error, Error::NoFreeInterface { .. }) && error.to_string().contains("10.0.2.16/28"),
            "{error}"
        );
        // Somebody has the name of the gateways' link.
        ip("link delete coracle-eni");
        ip("link add coracle-eni type veth peer name other0");
        let error = attempt(&scratch.settings(), &network).unwrap_err();
        assert!(matches!(&error, Error::NotTheGateways { kind, .. } if kind == "veth"), "{error}");
        assert_eq!(scratch.held(), Vec::<String>::new());
    });
}

#[test]
fn many_at_once_on_a_fresh_host_end_well() {
    on_fresh_host(|| {
        const AT_ONCE: u8 = 8;
        let (scratch, host) = (Scratch::new(), this_namespace());
        let network = open_network(json!({}));
        let made: Vec<_> = thread::scope(|scope| {
            let attach = |number| {
                let (scratch, network, host) = (&scratch, &network, &host);
                scope.spawn(move || inside(host, || attach(&scratch.settings(), network, number, OPEN)))
            };
            let threads: Vec<_> = (0..AT_ONCE).map(attach).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let addresses: BTreeSet<_> = made.iter().map(address).collect();
        assert_eq!(addresses.len(), usize::from(AT_ONCE));
        for one in &made {
            let server = serve_tcp(netns(one), 80, "web", 1);
            assert!(ask_tcp(address(one), 80).is_ok());
            server.join().unwrap();
        }
        thread::scope(|scope| {
            for number in 0..AT_ONCE {
                let (scratch, host) = (&scratch, &host);
                scope.spawn(move || {
                    let errors = inside(host, || network::detach(&scratch.settings(), &task(number)));
                    assert!(errors.is_empty(), "{errors:?}");
                });
            }
        });
        assert!(!ruleset().contains("comment \"test "), "{}", ruleset());
        assert_eq!(scratch.held(), Vec::<String>::new());
    });
}
