//! Host ports: which ones are tried, and how one is kept. A port is held by a socket that is bound and never
//! listens: nothing else can take it, and a connection that should reach the container but meets the socket is
//! refused at once instead of hanging.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use ecs::task_definition::TransportProtocol;
use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};

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
    pub(crate) address: Ipv4Addr,
    pub(crate) protocol: TransportProtocol,
    pub(crate) number: u16,
}

/// Takes a port for as long as the descriptor is open. `AddrInUse` says that somebody has it.
pub(crate) fn hold(port: Port) -> io::Result<OwnedFd> {
    let at = SocketAddrV4::new(port.address, port.number);
    match port.protocol {
        TransportProtocol::Udp => UdpSocket::bind(at).map(OwnedFd::from),
        TransportProtocol::Tcp => {
            // Binding with SO_REUSEADDR passes over connections in TIME-WAIT that a server left on the port, but also
            // over another such socket that does not listen; listening is exclusive, and once it has been granted
            // the socket can stop and keep the port to itself.
            let listener = TcpListener::bind(at)?;
            shutdown(listener.as_raw_fd(), Shutdown::Both)?;
            setsockopt(&listener, sockopt::ReuseAddr, &false)?;
            Ok(OwnedFd::from(listener))
        }
    }
}

/// A run of free ports, held.
pub(crate) struct Run {
    pub(crate) first: u16,
    pub(crate) holds: Vec<OwnedFd>,
}

/// The first run of `count` consecutive ports that are all free; none where the range has no such run.
pub(crate) fn hold_run(
    range: DynamicRange,
    address: Ipv4Addr,
    protocol: TransportProtocol,
    count: u16,
    start: u64,
) -> io::Result<Option<Run>> {
    for first in range.runs(count, start) {
        let ports = (0..count).map(|offset| hold(Port { address, protocol, number: first + offset }));
        match ports.collect::<io::Result<Vec<_>>>() {
            Ok(holds) => return Ok(Some(Run { first, holds })),
            Err(error) if is_taken(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Ports below 1024 need a capability that the caller may lack; that is no collision.
pub(crate) fn is_taken(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

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
        let any = Ipv4Addr::LOCALHOST;
        let range = DynamicRange { first: 20000, last: 30000 };
        for protocol in [TransportProtocol::Tcp, TransportProtocol::Udp] {
            let run = hold_run(range, any, protocol, 2, 77).unwrap().expect("some of ten thousand ports are free");
            for number in [run.first, run.first + 1] {
                assert!(is_taken(&hold(Port { address: any, protocol, number }).unwrap_err()));
            }
        }
    }

    #[test]
    fn a_held_tcp_port_is_refused_to_servers_that_reuse_addresses() {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, socket};
        let range = DynamicRange { first: 20000, last: 30000 };
        let run = hold_run(range, Ipv4Addr::LOCALHOST, TransportProtocol::Tcp, 1, 99).unwrap().unwrap();
        let other = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        setsockopt(&other, sockopt::ReuseAddr, &true).unwrap();
        let refused = bind(other.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, run.first)).unwrap_err();
        assert_eq!(refused, nix::errno::Errno::EADDRINUSE);
    }

    #[test]
    fn a_held_tcp_port_refuses_connections() {
        let range = DynamicRange { first: 20000, last: 30000 };
        let run = hold_run(range, Ipv4Addr::LOCALHOST, TransportProtocol::Tcp, 1, 4711).unwrap().unwrap();
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
        hold(Port { address: Ipv4Addr::LOCALHOST, protocol: TransportProtocol::Tcp, number }).unwrap();
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
