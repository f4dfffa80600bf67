//! What a neighbour on the LAN or a hostile container must not reach: CVE-2020-8558 and its kin.

mod bed;

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::OwnedFd;

use bed::{
    HOST_ON_LAN, LAN, ask_tcp, ask_udp, container, inside, ip, is_silent_tcp, is_silent_udp, lan, mapping,
    on_fresh_host, request, ruleset, serve_tcp, serve_udp, settings,
};
use ecs::task_definition::NetworkMode::Bridge;
use ecs::task_definition::TransportProtocol::Tcp;
use network::Attachment;

fn attach(containers: Vec<network::ContainerRequest>) -> Attachment {
    network::attach(&settings(), &request(1, Bridge, containers)).unwrap()
}

/// Lets a namespace send to 127/8 over the wire, as an attacker with root on its machine can.
fn unleash(namespace: &OwnedFd, gateway: Ipv4Addr) {
    inside(namespace, || {
        std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").unwrap();
        // The local table sends 127/8 to loopback before any other is asked.
        ip("addr del 127.0.0.1/8 dev lo");
        ip(&format!("route add 127.0.0.0/8 via {gateway} dev eth0 src {}", address_of_eth0()));
    });
}

fn address_of_eth0() -> String {
    let shown = ip("-o -4 addr show eth0");
    shown.split_whitespace().nth(3).unwrap().split('/').next().unwrap().to_owned()
}

/// Packets that the loopback guard has dropped.
fn guarded() -> u64 {
    let rules = ruleset();
    let counters = rules.lines().filter(|line| line.contains("127/8") && line.contains("counter packets"));
    let packets = counters.map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let at = words.iter().position(|word| *word == "packets").unwrap();
        words[at + 1].parse::<u64>().unwrap()
    });
    packets.sum()
}

#[test]
fn neighbours_and_containers_do_not_reach_the_hosts_loopback() {
    on_fresh_host(|| {
        let lan = lan();
        let made = attach(vec![container("web", vec![])]);
        let _tcp = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 6379)).unwrap();
        // Even on a host that accepts 127/8 on every wire.
        std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
        let hostile = made.containers[0].netns.as_ref().unwrap();
        for (namespace, gateway) in [(&lan, HOST_ON_LAN), (hostile, Ipv4Addr::new(172, 30, 0, 1))] {
            unleash(namespace, gateway);
            let before = guarded();
            assert!(inside(namespace, || is_silent_tcp(Ipv4Addr::LOCALHOST, 6379)));
            assert!(guarded() > before, "the guard dropped it, not something else: {}", ruleset());
        }
    });
}

#[test]
fn a_spoofed_loopback_source_is_dropped() {
    on_fresh_host(|| {
        let lan = lan();
        let _made = attach(vec![container("web", vec![])]);
        let server = UdpSocket::bind((HOST_ON_LAN, 9999)).unwrap();
        server.set_nonblocking(true).unwrap();
        std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
        let before = guarded();
        inside(&lan, || {
            std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
            std::fs::write("/proc/sys/net/ipv4/conf/eth0/route_localnet", "1").unwrap();
            let spoofed = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            spoofed.send_to(b"spoof", (HOST_ON_LAN, 9999)).unwrap();
            // A datagram that does arrive: everything sent before it has been looked at by then.
            UdpSocket::bind((LAN, 0)).unwrap().send_to(b"honest", (HOST_ON_LAN, 9999)).unwrap();
        });
        let mut datagram = [0; 16];
        let arrived = loop {
            match server.recv_from(&mut datagram) {
                Ok((length, from)) => break (datagram[..length].to_vec(), from.ip()),
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            }
        };
        assert_eq!(arrived, (b"honest".to_vec(), LAN.into()));
        assert!(guarded() > before, "{}", ruleset());
    });
}

#[test]
fn neighbours_reach_published_ports_only() {
    on_fresh_host(|| {
        let lan = lan();
        let made = attach(vec![container("web", vec![mapping(80, Some(8080), Tcp)])]);
        let web = &made.containers[0];
        let (netns, address) = (web.netns.as_ref().unwrap(), web.ipv4.unwrap());
        let servers =
            [serve_tcp(netns, 80, "web", 1), serve_tcp(netns, 81, "private", 1), serve_udp(netns, 53, "dns", 1)];
        inside(&lan, || {
            ip(&format!("route add 172.30.0.0/16 via {HOST_ON_LAN}"));
            assert!(is_silent_tcp(address, 81), "an unpublished port by a route to the container");
            assert!(is_silent_tcp(address, 80), "not even a published one by the container's own address");
            assert!(is_silent_udp(address, 53));
            assert!(ask_tcp(HOST_ON_LAN, 8080).is_ok());
        });
        // The host itself is trusted with its containers.
        assert!(ask_tcp(address, 81).is_ok());
        assert!(ask_udp(address, 53).is_ok());
        for server in servers {
            server.join().unwrap();
        }
    });
}

#[test]
fn a_port_published_at_one_address_is_not_met_at_another() {
    on_fresh_host(|| {
        let lan = lan();
        ip("addr add 198.51.100.9/24 dev lan0");
        let only = network::Settings { publish_addresses: vec![Ipv4Addr::new(198, 51, 100, 9).into()], ..settings() };
        let web = container("web", vec![mapping(80, Some(8080), Tcp)]);
        let made = network::attach(&only, &request(1, Bridge, vec![web])).unwrap();
        assert_eq!(made.containers[0].bindings[0].bind_ip, "198.51.100.9");
        let server = serve_tcp(made.containers[0].netns.as_ref().unwrap(), 80, "web", 1);
        inside(&lan, || {
            assert_eq!(ask_tcp(HOST_ON_LAN, 8080), Err(std::io::ErrorKind::ConnectionRefused));
            assert!(ask_tcp(Ipv4Addr::new(198, 51, 100, 9), 8080).is_ok());
        });
        server.join().unwrap();
        assert!(network::detach(&only, &bed::task(1)).is_empty());
        assert!(!ruleset().contains("8080"), "{}", ruleset());
    });
}
