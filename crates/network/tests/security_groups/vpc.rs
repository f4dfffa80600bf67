//! A VPC on a pretend host: its configuration, tasks with interfaces in it, and packets that are tried between them.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use aws::ec2::{NetworkInterfaceId, SecurityGroup, SecurityGroupId, VpcNetwork, WayOut};
use ecs::task_definition::NetworkMode;
use network::{Attachment, InterfaceRequest, Settings};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use serde_json::{Value, json};

use crate::bed::*;

/// An answer comes within microseconds; this is how long one is waited for that should not come.
const SILENCE: Duration = Duration::from_millis(400);

pub const LAN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
pub const HOST_ON_LAN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 1, 1);

/// One VPC, 10.0.0.0/16, with one subnet, 10.0.1.0/24 and fd00:1::/64.
pub struct Vpc {
    pub settings: Settings,
    pub network: VpcNetwork,
    directory: PathBuf,
}

pub struct Task {
    pub number: u8,
    pub netns: OwnedFd,
    pub ipv4: Ipv4Addr,
    pub ipv6: Ipv6Addr,
    pub attachment: Attachment,
}

pub fn group_id(number: u8) -> SecurityGroupId {
    SecurityGroupId::try_from(format!("sg-{number:08x}")).unwrap()
}

/// `tcp 80-90 10.0.0.0/8`, `udp 53 group 2`, `icmp 8/0 ::/0`, `icmp any …`, `all …`, `50 …`: protocol, ports, peer.
fn rule(number: usize, text: &str) -> Value {
    let words: Vec<&str> = text.split(' ').collect();
    let ports = |text: &str| {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        json!({ "from": from.parse::<u16>().unwrap(), "to": to.parse::<u16>().unwrap() })
    };
    let kind = |text: &str| match text.split_once('/') {
        Some((kind, code)) => json!({ "icmp_type": kind.parse::<u8>().unwrap(), "code": code.parse::<u8>().unwrap() }),
        None => json!({ "icmp_type": text.parse::<u8>().ok(), "code": null }),
    };
    let (protocol, rest) = match words[0] {
        "all" => (json!("all"), &words[1..]),
        name @ ("tcp" | "udp") => (json!({ name: ports(words[1]) }), &words[2..]),
        name @ ("icmp" | "icmpv6") => (json!({ name: kind(words[1]) }), &words[2..]),
        number => (json!({ "number": number.parse::<u8>().unwrap() }), &words[1..]),
    };
    let peer = match rest {
        ["group", group] => json!({ "referencedGroup": group_id(group.parse().unwrap()) }),
        [network] if network.contains(':') => json!({ "cidrIpv6": network }),
        [network] => json!({ "cidrIpv4": network }),
        _ => panic!("{text}"),
    };
    json!({ "securityGroupRuleId": format!("sgr-{number:08x}"), "protocol": protocol, "peer": peer })
}

impl Vpc {
    pub fn new() -> Vpc {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("coracle-groups-{}-{number}", std::process::id()));
        let network = json!({
            "vpcs": [{ "vpcId": "vpc-00000001", "cidrBlock": "10.0.0.0/16" }],
            "subnets": [{
                "subnetId": "subnet-00000001", "vpcId": "vpc-00000001", "availabilityZone": "local-1a",
                "cidrBlock": "10.0.1.0/24", "ipv6CidrBlock": "fd00:1::/64",
            }],
        });
        Vpc {
            settings: Settings::new("test", &directory.join("netns")),
            network: serde_json::from_value(network).unwrap(),
            directory,
        }
    }

    pub fn with_way_out(way_out: WayOut) -> Vpc {
        let mut vpc = Vpc::new();
        vpc.network.subnets[0].way_out = way_out;
        vpc
    }

    /// Writes a group down, in place of what it was.
    pub fn group(&mut self, number: u8, ingress: &[&str], egress: &[&str]) {
        let rules = |texts: &[&str]| texts.iter().enumerate().map(|(n, text)| rule(n, text)).collect::<Vec<_>>();
        let group: SecurityGroup = serde_json::from_value(json!({
            "groupId": group_id(number), "groupName": format!("g{number}"), "vpcId": "vpc-00000001",
            "ingress": rules(ingress), "egress": rules(egress),
        }))
        .unwrap();
        self.network.security_groups.retain(|old| old.group_id != group.group_id);
        self.network.security_groups.push(group);
    }

    /// What `coracle network` does after a change.
    pub fn apply(&self) -> bool {
        network::apply_groups(&self.settings, &self.network).unwrap()
    }

    pub fn attach(&self, number: u8, groups: &[u8]) -> Task {
        self.attach_with(number, groups, false)
    }

    pub fn attach_with(&self, number: u8, groups: &[u8], assign_public_ip: bool) -> Task {
        let mut wanted = request(number, NetworkMode::Awsvpc, vec![container("web", vec![])]);
        wanted.interface = Some(InterfaceRequest {
            network_interface_id: NetworkInterfaceId::from_random(number.into()),
            network: Arc::new(self.network.clone()),
            subnet: self.network.subnets[0].subnet_id.clone(),
            security_groups: groups.iter().map(|group| group_id(*group)).collect(),
            assign_public_ip,
            domain: "local.compute.internal".to_owned(),
        });
        let mut attachment = network::attach(&self.settings, &wanted).unwrap();
        let interface = attachment.interface.clone().unwrap();
        Task {
            number,
            netns: attachment.containers[0].netns.take().unwrap(),
            ipv4: interface.private_ipv4_address,
            ipv6: interface.ipv6_address.unwrap(),
            attachment,
        }
    }

    /// The namespace stays as long as the test has its descriptor.
    pub fn detach(&self, number: u8) {
        let errors = network::detach(&self.settings, &task(number));
        assert!(errors.is_empty(), "{errors:?}");
    }
}

impl Drop for Vpc {
    fn drop(&mut self) {
        // Only those that are there: each detach keeps a socket for as long as this process lives.
        let held = |number: &u8| self.settings.namespaces.join(task(*number).to_string()).exists();
        for number in (1..=40).filter(held) {
            network::detach(&self.settings, &task(number));
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A neighbour on the LAN that has a route to the VPC, and a second and a third address.
pub fn lan_with_routes() -> OwnedFd {
    let lan = lan();
    ip(&format!("addr add {HOST_ON_LAN6}/64 dev lan0 nodad"));
    inside(&lan, || {
        ip("addr add 198.51.100.3/24 dev eth0");
        ip("addr add 198.51.100.4/24 dev eth0");
        ip(&format!("addr add {LAN6}/64 dev eth0 nodad"));
        ip(&format!("route add 10.0.0.0/16 via {HOST_ON_LAN}"));
        ip(&format!("-6 route add fd00:1::/64 via {HOST_ON_LAN6}"));
    });
    // Both have found each other's MAC by the time that a port answers that it is closed.
    for address in [IpAddr::V4(HOST_ON_LAN), IpAddr::V6(HOST_ON_LAN6)] {
        let refused = || match TcpStream::connect_timeout(&SocketAddr::new(address, 9), SILENCE) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
            other => Err(other.err()),
        };
        inside(&lan, || eventually(refused));
    }
    lan
}

/// One packet, or one connection, that is tried.
#[derive(Clone, Copy, Debug)]
pub enum Try {
    Tcp(u16),
    Udp(u16),
    /// Type and code.
    Icmp(u8, u8),
}

#[derive(Clone, Copy)]
pub struct Attempt<'a> {
    pub from: &'a OwnedFd,
    /// Unspecified: whichever the namespace chooses.
    pub source: IpAddr,
    pub to: &'a OwnedFd,
    pub destination: IpAddr,
    pub what: Try,
}

pub fn from_to<'a>(from: &'a OwnedFd, to: &'a OwnedFd, destination: impl Into<IpAddr>, what: Try) -> Attempt<'a> {
    let destination = destination.into();
    let source = match destination {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    Attempt { from, source, to, destination, what }
}

impl Attempt<'_> {
    pub fn by(self, source: impl Into<IpAddr>) -> Self {
        Attempt { source: source.into(), ..self }
    }

    /// Who it came from as the receiver sees it; none: it did not arrive.
    pub fn seen_from(self) -> Option<IpAddr> {
        match self.what {
            Try::Tcp(port) => self.tcp(port),
            Try::Udp(port) => self.udp(port),
            Try::Icmp(kind, code) => self.icmp(kind, code),
        }
    }

    pub fn arrives(self) -> bool {
        self.seen_from().is_some()
    }

    fn any(self) -> IpAddr {
        match self.destination {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    fn tcp(self, port: u16) -> Option<IpAddr> {
        let listener = inside(self.to, || eventually(|| TcpListener::bind((self.any(), port))));
        let destination = SocketAddr::new(self.destination, port);
        let stream = inside(self.from, || connect_from(self.source, destination));
        stream.ok().map(|_| listener.accept().unwrap().1.ip())
    }

    fn udp(self, port: u16) -> Option<IpAddr> {
        let receiver = inside(self.to, || eventually(|| UdpSocket::bind((self.any(), port))));
        let sender = inside(self.from, || UdpSocket::bind((self.source, 0)).unwrap());
        receiver.set_read_timeout(Some(SILENCE)).unwrap();
        // A local drop on the way out is an error of the sender's.
        let _ = sender.send_to(b"?", (self.destination, port));
        receiver.recv_from(&mut [0; 8]).ok().map(|(_, from)| from.ip())
    }

    fn icmp(self, kind: u8, code: u8) -> Option<IpAddr> {
        static IDENTIFIER: AtomicU32 = AtomicU32::new(0);
        let identifier = IDENTIFIER.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let receiver = inside(self.to, || raw_icmp(self.destination));
        let sender = inside(self.from, || raw_icmp(self.destination));
        setsockopt(&receiver, sockopt::ReceiveTimeout, &TimeVal::milliseconds(SILENCE.as_millis() as i64)).unwrap();
        let receiver = UdpSocket::from(receiver);
        let mut message = vec![kind, code, 0, 0];
        message.extend(identifier);
        message.extend(b"a packet of a test");
        if self.destination.is_ipv4() {
            let sum = checksum(&message);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        let _ = UdpSocket::from(sender).send_to(&message, (self.destination, 0));
        let mut datagram = [0; 128];
        loop {
            let (length, from) = receiver.recv_from(&mut datagram).ok()?;
            let header = if self.destination.is_ipv4() { 20 } else { 0 };
            if datagram[header..length].starts_with(&[kind, code]) && datagram[header + 4..][..4] == identifier {
                return Some(from.ip());
            }
        }
    }
}

/// The standard library reads and writes datagrams of it; what kind of socket it is it does not ask.
fn raw_icmp(to: IpAddr) -> OwnedFd {
    let (family, protocol) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).unwrap()
}

pub fn checksum(message: &[u8]) -> u16 {
    let words = message.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

pub fn connect_from(source: IpAddr, destination: SocketAddr) -> io::Result<TcpStream> {
    if source.is_unspecified() {
        return TcpStream::connect_timeout(&destination, SILENCE);
    }
    let family = if source.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, SockProtocol::Tcp)?;
    nix::sys::socket::bind(socket.as_raw_fd(), &nix::sys::socket::SockaddrStorage::from(SocketAddr::new(source, 0)))?;
    // The time to send is the time to connect.
    setsockopt(&socket, sockopt::SendTimeout, &TimeVal::milliseconds(SILENCE.as_millis() as i64))?;
    match nix::sys::socket::connect(socket.as_raw_fd(), &nix::sys::socket::SockaddrStorage::from(destination)) {
        Ok(()) => Ok(TcpStream::from(socket)),
        Err(errno) => Err(io::Error::new(ErrorKind::TimedOut, errno)),
    }
}

/// Tries all at once, and says of each that is not as expected what it is.
pub fn expect(cases: &[(&str, bool, Attempt<'_>)]) {
    let wrong: Vec<String> = thread::scope(|scope| {
        let tried: Vec<_> = cases.iter().map(|(_, _, attempt)| scope.spawn(|| attempt.arrives())).collect();
        let results = tried.into_iter().map(|one| one.join().unwrap());
        let wrong = cases.iter().zip(results).filter(|((_, expected, _), found)| expected != found);
        wrong
            .map(|((what, expected, _), _)| format!("{what}: {}", if *expected { "dropped" } else { "let through" }))
            .collect()
    });
    assert!(wrong.is_empty(), "{wrong:#?}\n{}", ruleset());
}
