//! The sockets at 169.254.170.2 on which a task finds its metadata, its credentials and a resolver: in each of its
//! network namespaces, on the loopback link there. They are bound to that link, so nothing that comes over a wire
//! reaches them, and whoever calls on one is in its namespace.
//!
//! In the host's namespace all tasks with host networking have the address in common, and each a set of sockets; the
//! kernel picks one for a caller. Who that is, is found out from the caller's process.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};

use ecs::task_definition::TransportProtocol;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, setsockopt, socket, sockopt,
};

use crate::attach::ServiceKind;
use crate::error::Error;
use crate::link::{self, LOOPBACK_INDEX};
use crate::netlink::{self, Protocol, Requests, Socket};
use crate::nft::{self, CommitError, Redirect};

/// Where Amazon's SDKs look for a task's metadata and credentials
/// (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v4.html>).
pub const SERVICE_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 170, 2);
const HTTP_PORT: u16 = 80;
const DNS_PORT: u16 = 53;
/// Where the sockets are, since a socket at port 80 would be in the way of the task's own servers. ECS reserves these
/// ports on a container instance (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_PortMapping.html>,
/// hostPort), so hardly anybody listens there.
const HTTP_SOCKET_PORT: u16 = 51679;
const DNS_SOCKET_PORT: u16 = 51680;
/// Callers that wait for `host-services` to start.
const BACKLOG: i32 = 128;

const SERVICES: [(ServiceKind, Redirect); 3] = [
    (ServiceKind::Http, redirect(TransportProtocol::Tcp, HTTP_PORT, HTTP_SOCKET_PORT)),
    (ServiceKind::DnsTcp, redirect(TransportProtocol::Tcp, DNS_PORT, DNS_SOCKET_PORT)),
    (ServiceKind::DnsUdp, redirect(TransportProtocol::Udp, DNS_PORT, DNS_SOCKET_PORT)),
];

const fn redirect(protocol: TransportProtocol, port: u16, socket_port: u16) -> Redirect {
    Redirect { protocol, port, socket_port }
}

#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    #[error("the loopback link there does not take the address {SERVICE_ADDRESS}")]
    Address(#[source] netlink::Error),
    #[error("cannot lead {SERVICE_ADDRESS} to the sockets that answer there")]
    Redirect(#[source] CommitError),
    #[error("no socket at {SERVICE_ADDRESS} port {port}")]
    Socket {
        port: u16,
        #[source]
        source: io::Error,
    },
}

/// The sockets of a new namespace, in which the calling thread is, and the ways to them. `route` speaks for it.
pub(crate) fn open(route: &mut Socket) -> Result<Vec<(ServiceKind, OwnedFd)>, ServiceError> {
    let mut requests = Requests::default();
    link::set_loopback_up(&mut requests);
    link::add_host_address(&mut requests, LOOPBACK_INDEX, SERVICE_ADDRESS);
    take(route, requests)?;
    let mut socket = Socket::open(Protocol::Netfilter).map_err(ServiceError::Address)?;
    let redirects = SERVICES.map(|(_, redirect)| redirect);
    nft::redirect_services(&mut socket, SERVICE_ADDRESS, &redirects).map_err(ServiceError::Redirect)?;
    socket.close_aside();
    sockets(Share::No)
}

/// The same in the host's namespace, where the address and the ways may be there already, and stay.
pub(crate) fn open_on_host(route: &mut Socket) -> Result<Vec<(ServiceKind, OwnedFd)>, Error> {
    let failed = |source| Error::HostServices { source };
    let mut requests = Requests::default();
    link::add_host_address(&mut requests, LOOPBACK_INDEX, SERVICE_ADDRESS);
    take(route, requests).map_err(failed)?;
    lead_on_host()?;
    sockets(Share::WithOtherTasks).map_err(failed)
}

/// The ways alone, where they are not there (any more).
pub(crate) fn lead_on_host() -> Result<(), Error> {
    let failed = |source| Error::HostServices { source };
    let mut socket = Socket::open(Protocol::Netfilter).map_err(ServiceError::Address).map_err(failed)?;
    let redirects = SERVICES.map(|(_, redirect)| redirect);
    let led = nft::redirect_services_once(&mut socket, SERVICE_ADDRESS, &redirects);
    led.map_err(ServiceError::Redirect).map_err(failed)?;
    socket.close_aside();
    Ok(())
}

/// Takes address and ways from the host again. Neither being there is no error.
pub(crate) fn remove_from_host(route: &mut Socket, netfilter: &mut Socket) -> Vec<Error> {
    let mut requests = Requests::default();
    link::delete_host_address(&mut requests, LOOPBACK_INDEX, SERVICE_ADDRESS);
    let mut errors = Vec::new();
    let gone = match route.exchange(requests) {
        Ok(answers) => answers.into_iter().find_map(|answer| match answer {
            Err(refused) if refused.errno != Errno::EADDRNOTAVAIL => Some(refused.into()),
            Ok(_) | Err(_) => None,
        }),
        Err(error) => Some(error),
    };
    errors.extend(gone.map(|source| Error::HostServices { source: ServiceError::Address(source) }));
    let redirects = nft::remove_service_redirects(netfilter);
    errors.extend(redirects.err().map(|source| Error::HostServices { source: ServiceError::Redirect(source) }));
    errors
}

fn take(route: &mut Socket, requests: Requests) -> Result<(), ServiceError> {
    for answer in route.exchange(requests).map_err(ServiceError::Address)? {
        match answer {
            Err(refused) if refused.errno != Errno::EEXIST => return Err(ServiceError::Address(refused.into())),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Share {
    No,
    WithOtherTasks,
}

fn sockets(share: Share) -> Result<Vec<(ServiceKind, OwnedFd)>, ServiceError> {
    let open = |(kind, Redirect { protocol, port, socket_port })| match socket_at(protocol, socket_port, share) {
        Ok(socket) => Ok((kind, socket)),
        Err(errno) => Err(ServiceError::Socket { port, source: errno.into() }),
    };
    SERVICES.into_iter().map(open).collect()
}

fn socket_at(protocol: TransportProtocol, port: u16, share: Share) -> Result<OwnedFd, Errno> {
    let kind = match protocol {
        TransportProtocol::Tcp => SockType::Stream,
        TransportProtocol::Udp => SockType::Datagram,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Inet, kind, flags, None)?;
    setsockopt(&socket, sockopt::BindToDevice, &"lo".into())?;
    // Somebody may take the address away, and put it back: the socket stays.
    setsockopt(&socket, sockopt::IpFreebind, &true)?;
    match share {
        Share::No => {}
        Share::WithOtherTasks => setsockopt(&socket, sockopt::ReusePort, &true)?,
    }
    let at = SockaddrIn::from(SocketAddrV4::new(SERVICE_ADDRESS, port));
    bind(socket.as_raw_fd(), &at)?;
    match protocol {
        TransportProtocol::Tcp => listen(&socket, Backlog::new(BACKLOG)?)?,
        TransportProtocol::Udp => {}
    }
    Ok(socket)
}
