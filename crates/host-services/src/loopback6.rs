//! `[::1]` at published ports. The kernel sends every other address of the host on to containers; between its IPv6
//! loopback and another link it routes nothing (there is no `route_localnet` for IPv6), so this one takes a process:
//! it listens there for each published port of the tasks that run, and copies both ways.
//!
//! A container is called at its IPv4 address first: a server that listens everywhere listens there, with or without
//! IPv6.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ecs::task::{ContainerLastStatus, NetworkBinding};
use ecs::task_definition::{NetworkMode, TransportProtocol};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use crate::world::{Snapshot, World};

/// Connections at a time, of all ports; further ones wait in the kernel. Each has two descriptors and two buffers of
/// 8 KiB.
const MAX_CONNECTIONS: usize = 1024;
/// Clients of a datagram port at a time; what a further one sends is dropped.
const MAX_FLOWS: usize = 64;
/// How long a client of a datagram port is known without a word, as the kernel's own translation has it.
const FLOW_IDLE: Duration = Duration::from_secs(30);
/// A container is one link away.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// After an error of a socket that may pass, such as there being no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);
/// Nothing has to be looked at that nobody tells of.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);
const LARGEST_DATAGRAM: usize = 65_535;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Port {
    /// Or TCP; the protocol's own type has no order.
    udp: bool,
    number: u16,
}

/// Where a port leads: a container's addresses, in the order in which they are tried, and its own port.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    addresses: Vec<IpAddr>,
    port: u16,
}

/// Serves `[::1]` at the published ports of every task that runs on a bridge, until it is dropped.
pub async fn serve(world: World) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut serving = JoinSet::new();
    let mut served: BTreeMap<Port, (Target, AbortHandle)> = BTreeMap::new();
    let mut refused: BTreeMap<Port, Target> = BTreeMap::new();
    loop {
        let seen = world.snapshot();
        let wanted = wanted(&seen);
        served.retain(|port, (target, handle)| {
            let stays = wanted.get(port) == Some(target) && !handle.is_finished();
            if !stays {
                handle.abort();
            }
            stays
        });
        refused.retain(|port, target| wanted.get(port) == Some(target));
        while serving.try_join_next().is_some() {}
        // What was aborted has its port until the loop has dropped it.
        tokio::task::yield_now().await;
        for (port, target) in wanted {
            if served.contains_key(&port) {
                continue;
            }
            match begin(port, &target, &connections, &mut serving) {
                Ok(handle) => {
                    refused.remove(&port);
                    served.insert(port, (target, handle));
                }
                Err(cause) => {
                    // Told once for each task that publishes it.
                    if refused.insert(port, target).is_none() && has_loopback6(&cause) {
                        tracing::warn!(port = port.number, udp = port.udp, %cause, "[::1] is not served at a published port");
                    }
                }
            }
        }
        world.change(&seen, LOOK_AGAIN).await;
    }
}

/// A host without IPv6 lacks nothing.
fn has_loopback6(cause: &io::Error) -> bool {
    let absent = [nix::libc::EAFNOSUPPORT, nix::libc::EADDRNOTAVAIL];
    !cause.raw_os_error().is_some_and(|number| absent.contains(&number))
}

/// The ports that are met at `[::1]`: those that are published everywhere, or there.
fn wanted(snapshot: &Snapshot) -> BTreeMap<Port, Target> {
    let mut wanted = BTreeMap::new();
    for task in snapshot.tasks.iter().filter(|task| task.spec.network_mode == NetworkMode::Bridge) {
        for container in &task.spec.containers {
            let network = &container.network;
            let has_stopped = task.status.containers.iter().any(|status| {
                status.name == container.definition.name && status.last_status == ContainerLastStatus::Stopped
            });
            let addresses: Vec<IpAddr> = [network.ipv4_address.map(IpAddr::V4), network.ipv6_address.map(IpAddr::V6)]
                .into_iter()
                .flatten()
                .collect();
            if addresses.is_empty() || has_stopped {
                continue;
            }
            for (port, inside) in network.bindings.iter().filter(|binding| is_met_at_loopback6(binding)).flat_map(ports)
            {
                wanted.insert(port, Target { addresses: addresses.clone(), port: inside });
            }
        }
    }
    wanted
}

fn is_met_at_loopback6(binding: &NetworkBinding) -> bool {
    let everywhere: [IpAddr; 3] =
        [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::LOCALHOST.into()];
    binding.bind_ip.parse().is_ok_and(|address: IpAddr| everywhere.contains(&address))
}

/// Each host port of a binding with the container's.
fn ports(binding: &NetworkBinding) -> Vec<(Port, u16)> {
    let range = |one: Option<u16>, text: &Option<String>| match (one, text) {
        (Some(port), _) => Some((port, port)),
        (None, Some(text)) => {
            text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)))
        }
        (None, None) => None,
    };
    let outside = range(binding.host_port, &binding.host_port_range);
    let inside = range(binding.container_port, &binding.container_port_range);
    let (Some((first, last)), Some((inside, _))) = (outside, inside) else { return Vec::new() };
    let udp = binding.protocol == TransportProtocol::Udp;
    let one = |number: u16| Some((Port { udp, number }, inside.checked_add(number - first)?));
    (first..=last).filter_map(one).collect()
}

fn begin(
    port: Port,
    target: &Target,
    connections: &Arc<Semaphore>,
    serving: &mut JoinSet<()>,
) -> io::Result<AbortHandle> {
    let target = target.clone();
    if port.udp {
        let socket = network::at_loopback6(TransportProtocol::Udp, port.number)?;
        let socket = UdpSocket::from_std(socket.into())?;
        return Ok(serving.spawn(send_on(Arc::new(socket), target)));
    }
    let listener = network::at_loopback6(TransportProtocol::Tcp, port.number)?;
    let listener = TcpListener::from_std(listener.into())?;
    Ok(serving.spawn(accept(listener, target, Arc::clone(connections))))
}

async fn accept(listener: TcpListener, target: Target, connections: Arc<Semaphore>) {
    // They end with the port.
    let mut open = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((client, _)) => {
                let target = target.clone();
                open.spawn(async move {
                    copy(client, &target).await;
                    drop(permit);
                });
            }
            Err(_) => sleep(PAUSE).await,
        }
        while open.try_join_next().is_some() {}
    }
}

async fn copy(mut client: TcpStream, target: &Target) {
    match connect(target).await {
        // A side that goes away is no matter of ours: the other one sees it.
        Ok(mut container) => drop(copy_bidirectional(&mut client, &mut container).await),
        // Closed with a reset, as the container's own refusal is.
        Err(_) => drop(client.set_zero_linger()),
    }
}

async fn connect(target: &Target) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in &target.addresses {
        match timeout(CONNECT_PATIENCE, TcpStream::connect((*address, target.port))).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

/// A client of a datagram port: a socket of its own towards the container, so that the answers find their way.
struct Flow {
    socket: Arc<UdpSocket>,
    last: Arc<Mutex<Instant>>,
}

async fn send_on(socket: Arc<UdpSocket>, target: Target) {
    let mut flows: BTreeMap<SocketAddr, Flow> = BTreeMap::new();
    let mut answering: JoinSet<SocketAddr> = JoinSet::new();
    let mut datagram = vec![0; LARGEST_DATAGRAM];
    loop {
        tokio::select! {
            Some(ended) = answering.join_next() => {
                if let Ok(client) = ended {
                    flows.remove(&client);
                }
            }
            received = socket.recv_from(&mut datagram) => match received {
                Ok((length, client)) => {
                    if !flows.contains_key(&client) && flows.len() < MAX_FLOWS
                        && let Ok(flow) = begin_flow(&target).await
                    {
                        let (ours, theirs, last) = (Arc::clone(&socket), Arc::clone(&flow.socket), Arc::clone(&flow.last));
                        answering.spawn(answer(ours, theirs, client, last));
                        flows.insert(client, flow);
                    }
                    if let Some(flow) = flows.get(&client) {
                        *flow.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                        // Datagrams may be lost; the client asks again.
                        let _ = flow.socket.try_send(&datagram[..length]);
                    }
                }
                Err(_) => sleep(PAUSE).await,
            },
        }
    }
}

async fn begin_flow(target: &Target) -> io::Result<Flow> {
    let address = *target.addresses.first().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect((address, target.port)).await?;
    socket.writable().await?;
    Ok(Flow { socket: Arc::new(socket), last: Arc::new(Mutex::new(Instant::now())) })
}

/// Until neither side has said a word for a while.
async fn answer(
    ours: Arc<UdpSocket>,
    theirs: Arc<UdpSocket>,
    client: SocketAddr,
    last: Arc<Mutex<Instant>>,
) -> SocketAddr {
    let mut datagram = vec![0; LARGEST_DATAGRAM];
    loop {
        let silent_since = *last.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(left) = FLOW_IDLE.checked_sub(silent_since.elapsed()) else { return client };
        match timeout(left, theirs.recv(&mut datagram)).await {
            Ok(Ok(length)) => {
                *last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                let _ = ours.send_to(&datagram[..length], client).await;
            }
            // The container does not listen, yet: it may next time.
            Ok(Err(_)) => sleep(PAUSE).await,
            Err(_) => {}
        }
    }
}
