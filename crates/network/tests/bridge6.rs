//! Bridge mode over IPv6, on hosts made of network namespaces: published ports from everywhere they must answer, the way
//! out, and what a neighbour or a hostile container must not do.

mod bed;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bed::{container, eventually, inside, ip, mapping, nft, on_fresh_host, request, ruleset, settings};
use ecs::task_definition::NetworkMode::Bridge;
use ecs::task_definition::TransportProtocol::{Tcp, Udp};
use network::{AttachedContainer, Attachment, Error, Settings, Subnet6};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, sendto, setsockopt, sockopt,
};

const HOST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
const LAN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2);
const PATIENCE: Duration = Duration::from_secs(30);
const SILENCE: Duration = Duration::from_millis(400);

/// The LAN with IPv6 on it; the host's default route leads there.
fn lan() -> OwnedFd {
    let lan = bed::lan();
    ip(&format!("addr add {HOST6}/64 dev lan0 nodad"));
    inside(&lan, || ip(&format!("addr add {LAN6}/64 dev eth0 nodad")));
    ip(&format!("-6 route add default via {LAN6}"));
    lan
}

/// Says `name` and the client's address to each of `count` clients.
fn serve(namespace: impl AsFd + Sync, port: u16, name: &'static str, count: usize) -> JoinHandle<()> {
    let listener = inside(namespace, || TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap());
    thread::spawn(move || {
        for _ in 0..count {
            let (mut client, from) = listener.accept().unwrap();
            client.write_all(format!("{name} {}", from.ip()).as_bytes()).unwrap();
        }
    })
}

fn ask(address: Ipv6Addr, port: u16) -> Result<String, ErrorKind> {
    let mut client = TcpStream::connect_timeout(&SocketAddr::from((address, port)), PATIENCE).map_err(|e| e.kind())?;
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut said = String::new();
    client.read_to_string(&mut said).map_err(|error| error.kind())?;
    Ok(said)
}

fn is_silent(address: Ipv6Addr, port: u16) -> bool {
    let tried = TcpStream::connect_timeout(&SocketAddr::from((address, port)), SILENCE);
    tried.is_err_and(|error| error.kind() == ErrorKind::TimedOut)
}

fn ask_udp(socket: &UdpSocket, address: Ipv6Addr, port: u16) -> Result<String, ErrorKind> {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(b"?", (address, port)).map_err(|error| error.kind())?;
    let mut said = [0; 128];
    let (length, _) = socket.recv_from(&mut said).map_err(|error| error.kind())?;
    Ok(String::from_utf8_lossy(&said[..length]).into_owned())
}

fn any_udp() -> UdpSocket {
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap()
}

fn netns(container: &AttachedContainer) -> &OwnedFd {
    container.netns.as_ref().unwrap()
}

fn ipv6(container: &AttachedContainer) -> Ipv6Addr {
    container.ipv6.expect("the host has IPv6")
}

fn gateway(container: &AttachedContainer) -> Ipv6Addr {
    let prefix = u128::from(ipv6(container)) >> 64 << 64;
    Ipv6Addr::from(prefix + 1)
}

fn two(web: network::ContainerRequest) -> Attachment {
    network::attach(&settings(), &request(1, Bridge, vec![web, container("client", vec![])])).unwrap()
}

#[test]
fn tcp_answers_the_lan_the_host_a_sibling_and_itself() {
    for bridged_packets_pass_the_firewall in ["0", "1"] {
        on_fresh_host(|| {
            std::fs::write("/proc/sys/net/bridge/bridge-nf-call-ip6tables", bridged_packets_pass_the_firewall).unwrap();
            let lan = lan();
            let made = two(container("web", vec![mapping(80, Some(8080), Tcp)]));
            let [web, client] = &made.containers[..] else { panic!("two containers") };
            let gateway = gateway(web);
            let server = serve(netns(web), 80, "web", 5);
            assert_eq!(inside(&lan, || ask(HOST6, 8080)), Ok(format!("web {LAN6}")), "from the LAN, as itself");
            assert_eq!(ask(HOST6, 8080), Ok(format!("web {HOST6}")), "from the host's own address");
            assert_eq!(inside(netns(client), || ask(HOST6, 8080)), Ok(format!("web {gateway}")), "from a sibling");
            assert_eq!(inside(netns(web), || ask(HOST6, 8080)), Ok(format!("web {gateway}")), "from itself");
            let direct = inside(netns(client), || ask(ipv6(web), 80));
            assert_eq!(direct, Ok(format!("web {}", ipv6(client))), "sibling to sibling");
            server.join().unwrap();
            // The kernel cannot send this one on; without the forwarder it is refused, not swallowed.
            assert_eq!(ask(Ipv6Addr::LOCALHOST, 8080), Err(ErrorKind::ConnectionRefused));
        });
    }
}

#[test]
fn udp_answers_the_lan_the_host_a_sibling_and_itself() {
    on_fresh_host(|| {
        let lan = lan();
        let made = two(container("dns", vec![mapping(53, Some(5353), Udp)]));
        let [dns, client] = &made.containers[..] else { panic!("two containers") };
        let gateway = gateway(dns);
        let socket = inside(netns(dns), || UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 53)).unwrap());
        let server = thread::spawn(move || {
            let mut datagram = [0; 64];
            for _ in 0..4 {
                let (_, from) = socket.recv_from(&mut datagram).unwrap();
                socket.send_to(format!("dns {}", from.ip()).as_bytes(), from).unwrap();
            }
        });
        assert_eq!(inside(&lan, || ask_udp(&any_udp(), HOST6, 5353)), Ok(format!("dns {LAN6}")));
        assert_eq!(ask_udp(&any_udp(), HOST6, 5353), Ok(format!("dns {HOST6}")));
        assert_eq!(inside(netns(client), || ask_udp(&any_udp(), HOST6, 5353)), Ok(format!("dns {gateway}")));
        assert_eq!(inside(netns(dns), || ask_udp(&any_udp(), HOST6, 5353)), Ok(format!("dns {gateway}")));
        server.join().unwrap();
    });
}

#[test]
fn a_client_that_goes_on_talking_meets_the_new_container() {
    on_fresh_host(|| {
        let lan = lan();
        let dns = || vec![container("dns", vec![mapping(53, Some(5353), Udp)])];
        let client = inside(&lan, any_udp);
        for (number, name) in [(1, "first"), (2, "second")] {
            let made = eventually(|| network::attach(&settings(), &request(number, Bridge, dns())));
            let socket = inside(netns(&made.containers[0]), || UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 53)).unwrap());
            let server = thread::spawn(move || {
                let (_, from) = socket.recv_from(&mut [0; 64]).unwrap();
                socket.send_to(name.as_bytes(), from).unwrap();
            });
            assert_eq!(ask_udp(&client, HOST6, 5353), Ok(name.to_owned()));
            server.join().unwrap();
            assert!(network::detach(&settings(), &bed::task(number)).is_empty());
        }
    });
}

#[test]
fn a_container_reaches_the_lan_as_the_host() {
    on_fresh_host(|| {
        let lan = lan();
        let made = network::attach(&settings(), &request(1, Bridge, vec![container("client", vec![])])).unwrap();
        let forwarding = ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"];
        assert!(made.said.iter().any(|line| *line == format!("{}=1", forwarding[1])), "{:?}", made.said);
        let server = serve(&lan, 80, "lan", 1);
        assert_eq!(inside(netns(&made.containers[0]), || ask(LAN6, 80)), Ok(format!("lan {HOST6}")));
        server.join().unwrap();
    });
}

/// A program that is given an IPv6 address by a name server is told at once that there is no way, and nothing of the
/// host's is changed.
#[test]
fn a_host_without_ipv6_of_its_own_gives_no_way_out() {
    on_fresh_host(|| {
        let _lan = bed::lan();
        let made = two(container("web", vec![mapping(80, Some(8080), Tcp)]));
        let [web, client] = &made.containers[..] else { panic!("two containers") };
        let out = inside(netns(client), || ask(LAN6, 80));
        assert_eq!(out, Err(ErrorKind::NetworkUnreachable));
        assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv6/conf/all/forwarding").unwrap(), "0\n");
        assert!(!made.said.iter().any(|line| line.contains("ipv6")), "{:?}", made.said);
        let server = serve(netns(web), 80, "web", 2);
        assert_eq!(ask(gateway(web), 8080), Ok(format!("web {}", gateway(web))), "from the host");
        assert!(inside(netns(client), || ask(ipv6(web), 80)).is_ok(), "sibling to sibling");
        server.join().unwrap();
    });
}

#[test]
fn neighbours_reach_published_ports_only() {
    on_fresh_host(|| {
        let lan = lan();
        let made = two(container("web", vec![mapping(80, Some(8080), Tcp)]));
        let web = &made.containers[0];
        let address = ipv6(web);
        let servers = [serve(netns(web), 80, "web", 1), serve(netns(web), 81, "private", 1)];
        inside(&lan, || {
            ip(&format!("-6 route add fd00::/8 via {HOST6}"));
            assert!(is_silent(address, 81), "an unpublished port by a route to the container");
            assert!(is_silent(address, 80), "not even a published one by the container's own address");
            assert!(ask(HOST6, 8080).is_ok());
        });
        assert!(ask(address, 81).is_ok(), "the host itself is trusted with its containers");
        for server in servers {
            server.join().unwrap();
        }
    });
}

#[test]
fn the_network_stays_while_the_bridge_does_and_is_the_settings() {
    on_fresh_host(|| {
        let web = |number| request(number, Bridge, vec![container("web", vec![])]);
        let first = network::attach(&settings(), &web(1)).unwrap();
        let second = network::attach(&settings(), &web(2)).unwrap();
        assert_eq!(gateway(&first.containers[0]), gateway(&second.containers[0]));
        assert!(gateway(&first.containers[0]).is_unique_local());
        assert_eq!(ip("-o -6 addr show dev coracle0 scope global").lines().count(), 1);
        let last = u32::from(first.containers[0].ipv4.unwrap());
        assert_eq!(u128::from(ipv6(&first.containers[0])) as u32, last, "it ends with the IPv4 address");

        let given = Settings { subnet6: Subnet6::Given("fd00:1:2:3::/64".parse().unwrap()), ..settings() };
        let error = network::attach(&given, &web(3)).unwrap_err();
        assert!(matches!(error, Error::OtherSubnet6 { .. }), "{error}");
        assert!(error.to_string().contains("fd00:1:2:3::/64"), "{error}");
        let off = Settings { subnet6: Subnet6::Off, ..settings() };
        let without = network::attach(&off, &web(4)).unwrap();
        assert_eq!(without.containers[0].ipv6, None);
        assert!(network::remove_bridge_and_table(&settings()).is_empty());
        let made = eventually(|| network::attach(&given, &web(5)));
        assert!(ipv6(&made.containers[0]).to_string().starts_with("fd00:1:2:3::"));
    });
}

#[test]
fn a_host_that_has_ipv6_disabled_is_left_alone() {
    on_fresh_host(|| {
        std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        let made = two(container("web", vec![mapping(80, Some(8080), Tcp)]));
        assert_eq!(made.containers[0].ipv6, None);
        assert!(!ruleset().contains("ip6_addr . 80"), "{}", ruleset());
        assert!(ip("-o -6 addr").is_empty());
        let at6 = Settings { publish_addresses: vec![HOST6.into()], ..settings() };
        let web = || container("web", vec![mapping(80, Some(8081), Tcp)]);
        let error = network::attach(&at6, &request(2, Bridge, vec![web()])).unwrap_err();
        assert!(matches!(error, Error::NoIpv6 { .. }), "{error}");
    });
}

#[test]
fn ports_are_met_at_the_given_addresses_alone() {
    on_fresh_host(|| {
        let lan = lan();
        let only = |addresses: &[IpAddr]| Settings { publish_addresses: addresses.to_vec(), ..settings() };
        let web = |port| request(1, Bridge, vec![container("web", vec![mapping(80, Some(port), Tcp)])]);
        let local = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let made = network::attach(&only(&local), &web(8080)).unwrap();
        let shown: Vec<_> = made.containers[0].bindings.iter().map(|one| one.bind_ip.as_str()).collect();
        assert_eq!(shown, ["127.0.0.1", "::1"]);
        let server = serve(netns(&made.containers[0]), 80, "web", 1);
        inside(&lan, || {
            assert_eq!(ask(HOST6, 8080), Err(ErrorKind::ConnectionRefused));
            assert_eq!(bed::ask_tcp(bed::HOST_ON_LAN, 8080), Err(ErrorKind::ConnectionRefused));
        });
        assert!(bed::ask_tcp(Ipv4Addr::LOCALHOST, 8080).is_ok());
        server.join().unwrap();
        assert!(network::detach(&settings(), &bed::task(1)).is_empty());
        assert!(!ruleset().contains(". 8080"), "{}", ruleset());

        let made = network::attach(&only(&[HOST6.into()]), &web(8082)).unwrap();
        let server = serve(netns(&made.containers[0]), 80, "web", 1);
        assert_eq!(inside(&lan, || ask(HOST6, 8082)), Ok(format!("web {LAN6}")));
        assert_eq!(bed::ask_tcp(Ipv4Addr::LOCALHOST, 8082), Err(ErrorKind::ConnectionRefused));
        server.join().unwrap();

        for absent in [LAN6.into(), IpAddr::V4(bed::LAN)] {
            let before = ruleset();
            let error = network::attach(&only(&[absent]), &web(8083)).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("ports cannot be published at {absent}: this host has no such address")
            );
            assert_eq!(ruleset(), before);
        }
    });
}

#[test]
fn a_published_port_is_taken_in_both_families() {
    on_fresh_host(|| {
        let web = |number, port| request(number, Bridge, vec![container("web", vec![mapping(80, Some(port), Tcp)])]);
        let _made = network::attach(&settings(), &web(1, 8080)).unwrap();
        for address in [IpAddr::from(Ipv6Addr::UNSPECIFIED), Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::LOCALHOST.into()] {
            assert_eq!(TcpListener::bind((address, 8080)).unwrap_err().kind(), ErrorKind::AddrInUse, "{address}");
        }
        let only6 =
            nix::sys::socket::socket(AddressFamily::Inet6, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        setsockopt(&only6, sockopt::Ipv6V6Only, &true).unwrap();
        let at = SockaddrIn6::from(std::net::SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 8081, 0, 0));
        nix::sys::socket::bind(only6.as_raw_fd(), &at).unwrap();
        nix::sys::socket::listen(&only6, nix::sys::socket::Backlog::new(1).unwrap()).unwrap();
        let error = network::attach(&settings(), &web(2, 8081)).unwrap_err();
        assert!(error.to_string().contains("tcp host port 8081 is taken by "), "{error}");
    });
}

/// A router's word, as RFC 4861 (section 4.2) has it: a default route by the sender for half an hour, and a prefix to
/// make addresses in.
fn advertise(link: &str, prefix: Ipv6Addr) {
    let index: u32 = ip(&format!("-o link show {link}")).split(':').next().unwrap().trim().parse().unwrap();
    let mut message = vec![134, 0, 0, 0, 64, 0];
    message.extend(1800u16.to_be_bytes());
    message.extend([0; 8]);
    message.extend([3, 4, 64, 0xc0]);
    message.extend(86400u32.to_be_bytes());
    message.extend(14400u32.to_be_bytes());
    message.extend([0; 4]);
    message.extend(prefix.octets());
    let raw =
        nix::sys::socket::socket(AddressFamily::Inet6, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::IcmpV6);
    let raw = raw.unwrap();
    setsockopt(&raw, sockopt::Ipv6MulticastHops, &255).unwrap();
    let all_nodes = std::net::SocketAddrV6::new("ff02::1".parse().unwrap(), 0, 0, index);
    sendto(raw.as_raw_fd(), &message, &SockaddrIn6::from(all_nodes), MsgFlags::empty()).unwrap();
}

const ADVERTISED: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 0);

/// CVE-2020-13401: what a container says of routes is believed neither by the host nor by its siblings.
#[test]
fn a_container_is_no_router() {
    on_fresh_host(|| {
        let made = two(container("hostile", vec![]));
        let [hostile, sibling] = &made.containers[..] else { panic!("two containers") };
        // Even on a host that listens to routers everywhere.
        std::fs::write("/proc/sys/net/ipv6/conf/coracle0/accept_ra", "2").unwrap();
        inside(netns(hostile), || {
            ip("addr add fe80::bad/64 dev eth0 nodad");
            advertise("eth0", ADVERTISED);
            // Whatever was sent before has been looked at when this is answered.
            let datagram = any_udp();
            datagram.send_to(b"?", (gateway(hostile), 9)).unwrap();
            datagram.send_to(b"?", (ipv6(sibling), 9)).unwrap();
        });
        let dropped = || {
            let rules = ruleset();
            let line = rules.lines().find(|line| line.contains("nd-router-advert")).unwrap().to_owned();
            !line.contains("packets 0 ")
        };
        eventually(|| if dropped() { Ok(()) } else { Err("the host has not seen it yet") });
        for routes in [ip("-6 route"), inside(netns(sibling), || ip("-6 route"))] {
            assert!(!routes.contains("fe80::bad") && !routes.contains("2001:db8:bad"), "{routes}");
        }
    });
}

/// Forwarding makes a kernel forget what routers told it, and listen no more: a host that lives by that keeps its way out.
#[test]
fn a_host_that_listens_to_a_router_goes_on_doing_so() {
    on_fresh_host(|| {
        let lan = bed::lan();
        inside(&lan, || ip("addr add fe80::1/64 dev eth0 nodad"));
        let knows = |via: &str| {
            inside(&lan, || advertise("eth0", ADVERTISED));
            if ip("-6 route").contains(via) { Ok(()) } else { Err(ip("-6 route")) }
        };
        eventually(|| knows("default via fe80::1 dev lan0"));
        let made = network::attach(&settings(), &request(1, Bridge, vec![container("web", vec![])])).unwrap();
        let changes: Vec<_> = made.said.iter().filter(|line| line.contains("ipv6")).collect();
        assert_eq!(changes, ["net.ipv6.conf.lan0.accept_ra=2", "net.ipv6.conf.all.forwarding=1"]);
        assert!(ip("-6 route").contains("default via fe80::1 dev lan0"), "{}", ip("-6 route"));
        // And hears what is said from now on.
        ip("-6 route del default");
        eventually(|| knows("default via fe80::1 dev lan0"));
        let again = network::attach(&settings(), &request(2, Bridge, vec![container("web", vec![])])).unwrap();
        assert!(!again.said.iter().any(|line| line.contains("ipv6")), "{:?}", again.said);
    });
}

#[test]
fn ipv6_of_other_tables_is_untouched() {
    on_fresh_host(|| {
        nft("add table ip6 mine; add chain ip6 mine c { type filter hook input priority 0; policy accept; }");
        let before = ruleset();
        drop(two(container("web", vec![mapping(80, Some(8080), Tcp)])));
        assert!(network::detach(&settings(), &bed::task(1)).is_empty());
        assert!(network::remove_bridge_and_table(&settings()).is_empty());
        assert_eq!(ruleset(), before);
    });
}
