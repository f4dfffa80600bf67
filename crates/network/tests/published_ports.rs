//! Published ports from everywhere they must answer, on hosts made of network namespaces.

mod bed;

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bed::*;
use ecs::task_definition::NetworkMode::Bridge;
use ecs::task_definition::TransportProtocol::{Tcp, Udp};
use nix::sched::{CloneFlags, setns};

/// Hosts differ: Docker and Kubernetes send bridged packets through the firewall, many distributions check that
/// packets come in where answers would go out.
const KINDS_OF_HOSTS: [&[(&str, &str)]; 3] = [
    &[("bridge/bridge-nf-call-iptables", "0")],
    &[("bridge/bridge-nf-call-iptables", "1")],
    &[("ipv4/conf/all/rp_filter", "1"), ("ipv4/conf/default/rp_filter", "1")],
];

#[test]
fn tcp_answers_the_lan_the_host_a_sibling_and_itself() {
    for kind in KINDS_OF_HOSTS {
        on_fresh_host(|| {
            for (setting, value) in kind {
                std::fs::write(format!("/proc/sys/net/{setting}"), value).unwrap();
            }
            tcp_answers_everybody();
        });
    }
}

fn tcp_answers_everybody() {
    let lan = lan();
    let web = container("web", vec![mapping(80, Some(8080), Tcp)]);
    let mut made = network::attach(&settings(), &request(1, Bridge, vec![web, container("client", vec![])])).unwrap();
    let client = made.containers.pop().unwrap();
    let web = made.containers.pop().unwrap();
    let (web_ns, client_ns) = (web.netns.unwrap(), client.netns.unwrap());
    let gateway = Ipv4Addr::new(172, 30, 0, 1);
    let server = serve_tcp(&web_ns, 80, "web", 6);

    assert_eq!(inside(&lan, || ask_tcp(HOST_ON_LAN, 8080)), Ok(format!("web {LAN}")), "from the LAN, as itself");
    assert_eq!(ask_tcp(Ipv4Addr::LOCALHOST, 8080), Ok(format!("web {gateway}")), "from the host's loopback");
    assert_eq!(ask_tcp(HOST_ON_LAN, 8080), Ok(format!("web {HOST_ON_LAN}")), "from the host's own address");
    assert_eq!(inside(&client_ns, || ask_tcp(HOST_ON_LAN, 8080)), Ok(format!("web {gateway}")), "from a sibling");
    assert_eq!(inside(&web_ns, || ask_tcp(HOST_ON_LAN, 8080)), Ok(format!("web {gateway}")), "from itself");
    let direct = inside(&client_ns, || ask_tcp(web.ipv4.unwrap(), 80));
    assert_eq!(direct, Ok(format!("web {}", client.ipv4.unwrap())), "sibling to sibling");
    server.join().unwrap();
}

#[test]
fn udp_answers_the_lan_the_host_a_sibling_and_itself() {
    on_fresh_host(|| {
        let lan = lan();
        let dns = container("dns", vec![mapping(53, Some(5353), Udp)]);
        let made = network::attach(&settings(), &request(1, Bridge, vec![dns, container("client", vec![])])).unwrap();
        let [dns, client] = &made.containers[..] else { panic!("two containers") };
        let (dns_ns, client_ns) = (dns.netns.as_ref().unwrap(), client.netns.as_ref().unwrap());
        let gateway = Ipv4Addr::new(172, 30, 0, 1);
        let server = serve_udp(dns_ns, 53, "dns", 5);

        assert_eq!(inside(&lan, || ask_udp(HOST_ON_LAN, 5353)), Ok(format!("dns {LAN}")));
        assert_eq!(ask_udp(Ipv4Addr::LOCALHOST, 5353), Ok(format!("dns {gateway}")));
        assert_eq!(ask_udp(HOST_ON_LAN, 5353), Ok(format!("dns {HOST_ON_LAN}")));
        assert_eq!(inside(client_ns, || ask_udp(HOST_ON_LAN, 5353)), Ok(format!("dns {gateway}")));
        assert_eq!(inside(dns_ns, || ask_udp(HOST_ON_LAN, 5353)), Ok(format!("dns {gateway}")));
        server.join().unwrap();
    });
}

#[test]
fn a_range_and_a_dynamic_port_answer_where_the_bindings_say() {
    on_fresh_host(|| {
        let lan = lan();
        let ports = vec![range_mapping("9000-9002", Tcp), mapping(80, None, Tcp), mapping(80, Some(0), Tcp)];
        let made = network::attach(&settings(), &request(1, Bridge, vec![container("web", ports)])).unwrap();
        let web = &made.containers[0];
        let [range, first, second] = &web.bindings[..] else { panic!("one binding a mapping") };
        assert_eq!(range.container_port_range.as_deref(), Some("9000-9002"));
        let host_range = range.host_port_range.clone().unwrap();
        let begin: u16 = host_range.split_once('-').unwrap().0.parse().unwrap();
        assert_eq!(host_range, format!("{begin}-{}", begin + 2));
        let (first, second) = (first.host_port.unwrap(), second.host_port.unwrap());
        let netns = web.netns.as_ref().unwrap();
        let servers =
            [serve_tcp(netns, 9000, "low", 1), serve_tcp(netns, 9002, "high", 1), serve_tcp(netns, 80, "web", 2)];
        inside(&lan, || {
            assert_eq!(ask_tcp(HOST_ON_LAN, begin), Ok(format!("low {LAN}")));
            assert_eq!(ask_tcp(HOST_ON_LAN, begin + 2), Ok(format!("high {LAN}")));
            assert_eq!(ask_tcp(HOST_ON_LAN, first), Ok(format!("web {LAN}")));
            assert_eq!(ask_tcp(HOST_ON_LAN, second), Ok(format!("web {LAN}")));
        });
        for server in servers {
            server.join().unwrap();
        }
    });
}

#[test]
fn a_container_reaches_the_lan_as_the_host() {
    on_fresh_host(|| {
        let lan = lan();
        let made = network::attach(&settings(), &request(1, Bridge, vec![container("client", vec![])])).unwrap();
        let server = serve_tcp(&lan, 80, "lan", 1);
        let said = inside(made.containers[0].netns.as_ref().unwrap(), || ask_tcp(LAN, 80));
        assert_eq!(said, Ok(format!("lan {HOST_ON_LAN}")));
        server.join().unwrap();
    });
}

#[test]
fn the_first_datagram_to_a_new_container_arrives() {
    // The kernel brings links up in the background, and late when it is busy with other namespaces' links.
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    on_fresh_host(|| {
                        network::attach(&settings(), &request(1, Bridge, vec![container("busy", vec![])])).unwrap()
                    });
                }
            });
        }
        for _ in 0..20 {
            let late = on_fresh_host(first_datagram_is_lost);
            if late {
                done.store(true, Ordering::Relaxed);
            }
            assert!(!late, "a lost question for the MAC is asked again after a second only");
        }
        done.store(true, Ordering::Relaxed);
    });
}

fn first_datagram_is_lost() -> bool {
    let (here, host) = (this_namespace(), UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
    let made = network::attach(&settings(), &request(1, Bridge, vec![container("dns", vec![])])).unwrap();
    let dns = &made.containers[0];
    setns(dns.netns.as_ref().unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
    let server = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 53)).unwrap();
    setns(&here, CloneFlags::CLONE_NEWNET).unwrap();
    host.send_to(b"first", (dns.ipv4.unwrap(), 53)).unwrap();
    server.set_read_timeout(Some(Duration::from_millis(900))).unwrap();
    server.recv_from(&mut [0; 8]).is_err()
}
