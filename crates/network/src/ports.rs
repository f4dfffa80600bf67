//! Host ports: which ones are tried, and how one is kept. A port is held by a socket that is bound and never
//! listens: nothing else can take it, and a connection that should reach the container but meets the socket is
//! refused at once instead of hanging.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::fchown;

use ecs::task_definition::TransportProtocol;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, Backlog, Shutdown, SockFlag, SockType, SockaddrIn, SockaddrIn6, bind, listen, setsockopt, shutdown,
    socket, sockopt,
};

use crate::sysctl;

/// What ECS uses where the kernel's range cannot be read
/// (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_PortMapping.html>, hostPort).
const DEFAULT_DYNAMIC: DynamicRange = DynamicRange { first: 49153, last: 65535 };

/// The ports that dynamic ones are taken out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DynamicRange {
    pub(crate) first: u16,
    pub(crate) last: u16,
}

impl DynamicRange {
    /// The kernel's ephemeral range, or ECS's where it cannot be read.
    pub(crate) fn of_host() -> DynamicRange {
        let text = sysctl::read(sysctl::LOCAL_PORT_RANGE).ok().flatten();
        text.as_deref().and_then(DynamicRange::parse).unwrap_or(DEFAULT_DYNAMIC)
    }

    /// Two numbers, as /proc/sys/net/ipv4/ip_local_port_range has them.
    pub(crate) fn parse(text: &str) -> Option<DynamicRange> {
        let mut numbers = text.split_whitespace().map(str::parse::<u16>);
        let (first, last) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        (0 < first && first <= last && numbers.next().is_none()).then_some(DynamicRange { first, last })
    }

    /// The first ports of every run of `count`, each once, from an arbitrary place on.
    pub(crate) fn runs(self, count: u16, start: u64) -> impl Iterator<Item = u16> {
        let room = u64::from(self.last - self.first) + 1;
        let places = (room + 1).saturating_sub(u64::from(count.max(1)));
        let first = u64::from(self.first);
        (0..places).map(move |step| (first + (start % places + step) % places) as u16)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    /// `::` is every address, those of IPv4 included.
    pub(crate) address: IpAddr,
    pub(crate) protocol: TransportProtocol,
    pub(crate) number: u16,
}

/// Takes a port for as long as the descriptor is open. `AddrInUse` says that somebody has it.
pub(crate) fn hold(port: Port) -> io::Result<OwnedFd> {
    let socket = bound(port)?;
    if port.protocol == TransportProtocol::Tcp {
        // Binding with SO_REUSEADDR passes over connections in TIME-WAIT that a server left on the port, but also
        // over another such socket that does not listen; listening is exclusive, and once it has been granted
        // the socket can stop and keep the port to itself.
        listen(&socket, Backlog::new(1)?)?;
        shutdown(socket.as_raw_fd(), Shutdown::Both)?;
        setsockopt(&socket, sockopt::ReuseAddr, &false)?;
    }
    if covers_loopback6(port.address) {
        share_with_forwarder(&socket)?;
    }
    Ok(socket)
}

/// `AddrInUse` where somebody has a port; nobody is kept from it.
pub(crate) fn is_free(port: Port) -> io::Result<()> {
    bound(port).map(drop)
}

fn bound(port: Port) -> io::Result<OwnedFd> {
    let socket = new_socket(port.address, port.protocol)?;
    match port.address {
        IpAddr::V4(address) => {
            bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(address, port.number)))?;
        }
        IpAddr::V6(address) => {
            setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
            bind(socket.as_raw_fd(), &SockaddrIn6::from(SocketAddrV6::new(address, port.number, 0, 0)))?;
        }
    }
    Ok(socket)
}

fn new_socket(address: IpAddr, protocol: TransportProtocol) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let kind = match protocol {
        TransportProtocol::Tcp => SockType::Stream,
        TransportProtocol::Udp => SockType::Datagram,
    };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    if protocol == TransportProtocol::Tcp {
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    Ok(socket)
}

fn covers_loopback6(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unspecified() || address.is_loopback())
}

/// Linux lets sockets with SO_REUSEPORT share a port if they are the same user's. This user is nobody's: only
/// `at_loopback6` makes sockets in its name. So whoever holds a port everywhere leaves `[::1]` to the forwarder, and to
/// nobody else.
const FORWARDERS_USER: u32 = 0xc04a_c1e6;

fn share_with_forwarder(socket: &OwnedFd) -> io::Result<()> {
    // Where that user does not exist (in a user namespace), the port is held all the same.
    if fchown(socket, Some(FORWARDERS_USER), None).is_ok() {
        setsockopt(socket, sockopt::ReusePort, &true)?;
    }
    Ok(())
}

/// A socket of `[::1]` at a published port, which a task holds: a listener, or for datagrams. It does not block.
pub fn at_loopback6(protocol: TransportProtocol, number: u16) -> io::Result<OwnedFd> {
    let address = Ipv6Addr::LOCALHOST;
    let socket = new_socket(address.into(), protocol)?;
    fchown(&socket, Some(FORWARDERS_USER), None)?;
    setsockopt(&socket, sockopt::ReusePort, &true)?;
    bind(socket.as_raw_fd(), &SockaddrIn6::from(SocketAddrV6::new(address, number, 0, 0)))?;
    if protocol == TransportProtocol::Tcp {
        listen(&socket, Backlog::MAXCONN)?;
    }
    fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(socket)
}

/// A run of free ports, held.
pub(crate) struct Run {
    pub(crate) first: u16,
    pub(crate) holds: Vec<OwnedFd>,
}

/// The first run of `count` consecutive ports that are all free at every address, and none of them reserved; none where
/// the range has no such run. An error that is no collision comes with the port that it met.
pub(crate) fn hold_run(
    range: DynamicRange,
    reserved: &[DynamicRange],
    addresses: &[IpAddr],
    protocol: TransportProtocol,
    count: u16,
    start: u64,
) -> Result<Option<Run>, (Port, io::Error)> {
    'runs: for first in range.runs(count, start) {
        let last = first + (count - 1);
        if reserved.iter().any(|reserved| reserved.first <= last && first <= reserved.last) {
            continue;
        }
        let mut holds = Vec::new();
        for number in first..=last {
            for address in addresses {
                let port = Port { address: *address, protocol, number };
                match hold(port) {
                    Ok(socket) => holds.push(socket),
                    Err(error) if is_taken(&error) => continue 'runs,
                    Err(error) => return Err((port, error)),
                }
            }
        }
        return Ok(Some(Run { first, holds }));
    }
    Ok(None)
}

/// What the kernel gives to nobody who does not ask for it by number.
pub(crate) fn reserved() -> Vec<DynamicRange> {
    let text = sysctl::read(sysctl::RESERVED_PORTS).ok().flatten().unwrap_or_default();
    parse_reserved(&text)
}

/// `8080,9000-9010`, as /proc/sys/net/ipv4/ip_local_reserved_ports has them.
fn parse_reserved(text: &str) -> Vec<DynamicRange> {
    let range = |word: &str| {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        DynamicRange::parse(&format!("{first} {last}"))
    };
    text.trim().split(',').filter_map(range).collect()
}

/// Ports below 1024 need a capability that the caller may lack; that is no collision.
pub(crate) fn is_taken(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::{Ipv4Addr, TcpListener};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_kernels_range_is_read() {
        assert_eq!(DynamicRange::parse("32768\t60999\n"), Some(DynamicRange { first: 32768, last: 60999 }));
        for bad in ["", "1", "0 5", "9 3", "1 2 3", "a b", "1 65536"] {
            assert_eq!(DynamicRange::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_held_port_is_refused_to_everybody() {
        let any = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let range = DynamicRange { first: 20000, last: 30000 };
        for protocol in [TransportProtocol::Tcp, TransportProtocol::Udp] {
            let run =
                hold_run(range, &[], &[any], protocol, 2, 77).unwrap().expect("some of ten thousand ports are free");
            for number in [run.first, run.first + 1] {
                assert!(is_taken(&hold(Port { address: any, protocol, number }).unwrap_err()));
            }
        }
    }

    #[test]
    fn a_held_tcp_port_is_refused_to_servers_that_reuse_addresses() {
        let range = DynamicRange { first: 20000, last: 30000 };
        let run = hold_run(range, &[], &[Ipv4Addr::LOCALHOST.into()], TransportProtocol::Tcp, 1, 99).unwrap().unwrap();
        let other = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        setsockopt(&other, sockopt::ReuseAddr, &true).unwrap();
        let refused = bind(other.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, run.first)).unwrap_err();
        assert_eq!(refused, nix::errno::Errno::EADDRINUSE);
    }

    /// What holds a port everywhere holds it in both families, against everybody but the forwarder.
    #[test]
    fn a_port_that_is_held_everywhere_is_left_to_the_forwarder_alone() {
        let range = DynamicRange { first: 20000, last: 30000 };
        let everywhere = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        for protocol in [TransportProtocol::Tcp, TransportProtocol::Udp] {
            let run = hold_run(range, &[], &[everywhere], protocol, 1, 1234).unwrap().unwrap();
            for address in [everywhere, Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()] {
                let again = Port { address, protocol, number: run.first };
                assert!(is_taken(&hold(again).unwrap_err()), "{again:?}");
                let sharing = new_socket(address, protocol).unwrap();
                setsockopt(&sharing, sockopt::ReusePort, &true).unwrap();
                let refused = match address {
                    IpAddr::V4(address) => {
                        bind(sharing.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(address, run.first)))
                    }
                    IpAddr::V6(address) => {
                        bind(sharing.as_raw_fd(), &SockaddrIn6::from(SocketAddrV6::new(address, run.first, 0, 0)))
                    }
                };
                assert_eq!(refused, Err(nix::errno::Errno::EADDRINUSE), "root shares it with nobody else: {again:?}");
            }
            let forwarder = at_loopback6(protocol, run.first).unwrap();
            if protocol == TransportProtocol::Tcp {
                std::net::TcpStream::connect((Ipv6Addr::LOCALHOST, run.first)).unwrap();
            }
            drop((run, forwarder));
        }
    }

    #[test]
    fn a_free_port_is_free_and_a_served_one_is_not() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let number = server.local_addr().unwrap().port();
        let port = Port { address: Ipv4Addr::UNSPECIFIED.into(), protocol: TransportProtocol::Tcp, number };
        assert!(is_taken(&is_free(port).unwrap_err()));
        drop(server);
        is_free(port).unwrap();
    }

    #[test]
    fn reserved_ports_are_left_out() {
        let reserved = parse_reserved("20001,20003-20005\n");
        let all = [DynamicRange { first: 20001, last: 20001 }, DynamicRange { first: 20003, last: 20005 }];
        assert_eq!(reserved, all);
        assert!(parse_reserved("\n").is_empty());
        let range = DynamicRange { first: 20001, last: 20005 };
        let at = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
        let one = hold_run(range, &reserved, &at, TransportProtocol::Tcp, 1, 3).unwrap();
        assert_eq!(one.map(|run| run.first), Some(20002));
        assert!(hold_run(range, &reserved, &at, TransportProtocol::Tcp, 2, 3).unwrap().is_none());
    }

    #[test]
    fn a_held_tcp_port_refuses_connections() {
        let range = DynamicRange { first: 20000, last: 30000 };
        let run =
            hold_run(range, &[], &[Ipv4Addr::LOCALHOST.into()], TransportProtocol::Tcp, 1, 4711).unwrap().unwrap();
        let error = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, run.first)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_port_with_a_connection_in_time_wait_is_free() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let number = server.local_addr().unwrap().port();
        let client = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, number)).unwrap();
        let (accepted, _) = server.accept().unwrap();
        // The side that closes first waits.
        drop((accepted, server));
        drop(client);
        hold(Port { address: Ipv4Addr::LOCALHOST.into(), protocol: TransportProtocol::Tcp, number }).unwrap();
    }

    proptest! {
        #[test]
        fn runs_are_distinct_and_stay_in_range(first in 1u16..=65535, length in 0u16..300, count in 1u16..50, start: u64) {
            let range = DynamicRange { first, last: first.saturating_add(length) };
            let all: Vec<u16> = range.runs(count, start).collect();
            let distinct: BTreeSet<u16> = all.iter().copied().collect();
            prop_assert_eq!(all.len(), distinct.len());
            let room = usize::from(range.last - range.first) + 1;
            prop_assert_eq!(all.len(), (room + 1).saturating_sub(count.into()));
            for begin in all {
                prop_assert!(begin >= range.first && begin + (count - 1) <= range.last);
            }
        }
    }
}
