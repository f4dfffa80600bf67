//! The kernel's WireGuard by generic netlink (linux/wireguard.h): a mesh of the hosts, the slices straight over it. A
//! host takes from another only what the configuration says is that host's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use ipnetwork::IpNetwork;
use nix::errno::Errno;

use super::device::WIREGUARD_LINK;
use super::error::{Error, netlink};
use super::key::{self, Key, Secret};
use super::plan::{Peer, Plan};
use super::routes::{address, octets};
use crate::link::{IFLA_IFNAME, IFLA_INFO_KIND, IFLA_LINKINFO, RTM_NEWLINK, link_header};
use crate::namespace;
use crate::netlink::generic::{self, GENERIC_HEADER};
use crate::netlink::{self, Buffer, Protocol, Socket, attributes, find, flags};

const FAMILY: &str = "wireguard";
const GET_DEVICE: u8 = 0;
const SET_DEVICE: u8 = 1;
const DEVICE_NAME: u16 = 2;
const DEVICE_PRIVATE_KEY: u16 = 3;
const DEVICE_PUBLIC_KEY: u16 = 4;
const DEVICE_LISTEN_PORT: u16 = 6;
const DEVICE_PEERS: u16 = 8;
const PEER_PUBLIC_KEY: u16 = 1;
const PEER_FLAGS: u16 = 3;
const PEER_ENDPOINT: u16 = 4;
const PEER_KEEPALIVE: u16 = 5;
const PEER_LAST_HANDSHAKE: u16 = 6;
const PEER_RECEIVED: u16 = 7;
const PEER_SENT: u16 = 8;
const PEER_ALLOWED: u16 = 9;
const REMOVE_PEER: u32 = 1;
const REPLACE_ALLOWED: u32 = 2;
const ALLOWED_FAMILY: u16 = 1;
const ALLOWED_ADDRESS: u16 = 2;
const ALLOWED_PREFIX: u16 = 3;
const LIST_ENTRY: u16 = 0;
/// Of one message: an entry takes at most 40 bytes, and a nested attribute holds 64 KiB.
const ALLOWED_PER_MESSAGE: usize = 1000;

/// What the device has.
#[derive(Default)]
struct Device {
    private_key: Option<Secret>,
    public_key: Option<Key>,
    port: u16,
    peers: BTreeMap<Key, PeerState>,
}

/// How it stands with another host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerState {
    endpoint: Option<SocketAddr>,
    keepalive_s: u16,
    allowed: BTreeSet<IpNetwork>,
    /// Seconds since 1970; none so far.
    pub last_handshake_s: Option<u64>,
    pub received_bytes: u64,
    pub sent_bytes: u64,
}

/// Makes the device's key, port and peers those of the plan; what is so already is not touched.
pub(super) fn carry_out(
    plan: &Plan,
    keepalive_s: u16,
    key_file: &Path,
    this_host: &str,
    changes: &mut Vec<String>,
) -> Result<Vec<Error>, Error> {
    let secret = key::of_host(key_file)?;
    let (mut socket, family) = open()?;
    let found = get(&mut socket, family)?;
    if found.private_key.as_ref() != Some(&secret) || found.port != plan.port {
        set(&mut socket, family, "set its key and port", |body| {
            body.attribute(DEVICE_PRIVATE_KEY, &secret.0).attribute(DEVICE_LISTEN_PORT, &plan.port.to_ne_bytes());
        })?;
        changes.push(format!("key and port {} of {WIREGUARD_LINK}", plan.port));
    }
    let public_key = get(&mut socket, family)?.public_key;
    if let (Some(configured), Some(found)) = (plan.public_key, public_key)
        && configured != found
    {
        return Err(Error::OtherKey {
            host: this_host.to_owned(),
            configured: configured.to_string(),
            found: found.to_string(),
            path: key_file.display().to_string(),
        });
    }
    let mut errors = Vec::new();
    let wanted: BTreeMap<Key, &Peer> = plan.peers.iter().filter_map(|peer| Some((peer.public_key?, peer))).collect();
    for key in found.peers.keys().filter(|key| !wanted.contains_key(key)) {
        let removed = set(&mut socket, family, &format!("remove peer {key}"), |body| {
            peer(body, *key, |peer| {
                peer.u32(PEER_FLAGS, REMOVE_PEER);
            });
        });
        match removed {
            Ok(()) => changes.push(format!("no peer {key}")),
            Err(error) => errors.push(error),
        }
    }
    for (key, wanted) in wanted {
        let wanted_state = state(wanted, plan.port, keepalive_s);
        if found.peers.get(&key).is_some_and(|found| is_same(found, &wanted_state)) {
            continue;
        }
        match set_peer(&mut socket, family, key, &wanted_state) {
            Ok(()) => changes.push(format!("peer {} ({})", wanted.name, wanted.address)),
            Err(error) => errors.push(error),
        }
    }
    Ok(errors)
}

/// How it stands with each of the hosts; in the order of the plan, none for one that the device does not know.
pub(super) fn states(plan: &Plan) -> Result<Vec<Option<PeerState>>, Error> {
    let (mut socket, family) = open()?;
    let found = get(&mut socket, family)?;
    Ok(plan.peers.iter().map(|peer| found.peers.get(&peer.public_key?).cloned()).collect())
}

/// The public key that goes with a private one: the kernel works it out, on a device in a namespace of its own that is
/// gone afterwards.
pub(super) fn public_key(secret: &Secret) -> Result<Key, Error> {
    namespace::within_new(|| {
        let mut route = Socket::open(Protocol::Route).map_err(netlink("speak to the kernel"))?;
        add_device(&mut route)?;
        let (mut socket, family) = open()?;
        set(&mut socket, family, "set its key", |body| {
            body.attribute(DEVICE_PRIVATE_KEY, &secret.0);
        })?;
        let missing = netlink::Refused { errno: Errno::EBADMSG, said: "no public key in its answer".into() };
        let found = get(&mut socket, family)?.public_key;
        found.ok_or_else(|| netlink(format!("read the key of {WIREGUARD_LINK}"))(missing.into()))
    })?
}

fn add_device(route: &mut Socket) -> Result<(), Error> {
    let made = route.request(RTM_NEWLINK, flags::CREATE | flags::EXCL, |link| {
        link.raw(&link_header(0, None)).text(IFLA_IFNAME, WIREGUARD_LINK);
        link.nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, FAMILY);
        });
    });
    made.map(drop).map_err(refusal)
}

/// Of making such a device: a kernel that does not know it says so in this way.
pub(super) fn refusal(error: netlink::Error) -> Error {
    match error.errno() {
        Some(Errno::EOPNOTSUPP) => Error::NoWireguard(error),
        _ => netlink(format!("make link {WIREGUARD_LINK}"))(error),
    }
}

fn open() -> Result<(Socket, u16), Error> {
    let mut socket = Socket::open(Protocol::Generic).map_err(netlink("speak to the kernel's WireGuard"))?;
    match generic::family(&mut socket, FAMILY) {
        Ok(family) => Ok((socket, family)),
        Err(error) if error.errno() == Some(Errno::ENOENT) => Err(Error::NoWireguard(error)),
        Err(error) => Err(netlink("speak to the kernel's WireGuard")(error)),
    }
}

fn set(socket: &mut Socket, family: u16, what: &str, fill: impl FnOnce(&mut Buffer)) -> Result<(), Error> {
    let answer = socket.request(family, 0, |body| {
        generic::header(body, SET_DEVICE).text(DEVICE_NAME, WIREGUARD_LINK);
        fill(body);
    });
    answer.map(drop).map_err(netlink(format!("{what} on link {WIREGUARD_LINK}")))
}

fn peer(body: &mut Buffer, key: Key, fill: impl FnOnce(&mut Buffer)) {
    body.nest(DEVICE_PEERS, |peers| {
        peers.nest(LIST_ENTRY, |peer| {
            peer.attribute(PEER_PUBLIC_KEY, &key.0);
            fill(peer);
        });
    });
}

/// What a peer is to have. Its own address is among what it may send from: that is where its word comes from that a
/// packet could not be delivered.
fn state(peer: &Peer, port: u16, keepalive_s: u16) -> PeerState {
    let mut allowed = peer.networks.clone();
    allowed.insert(peer.address.into());
    let endpoint = Some(SocketAddr::new(peer.address, port));
    PeerState { endpoint, keepalive_s, allowed, ..PeerState::default() }
}

/// A peer's port is what it was last heard from, which a NAT between the hosts may choose.
fn is_same(found: &PeerState, wanted: &PeerState) -> bool {
    found.allowed == wanted.allowed
        && found.keepalive_s == wanted.keepalive_s
        && found.endpoint.map(|endpoint| endpoint.ip()) == wanted.endpoint.map(|endpoint| endpoint.ip())
}

fn set_peer(socket: &mut Socket, family: u16, key: Key, wanted: &PeerState) -> Result<(), Error> {
    let allowed: Vec<&IpNetwork> = wanted.allowed.iter().collect();
    let mut replace = REPLACE_ALLOWED;
    for part in allowed.chunks(ALLOWED_PER_MESSAGE) {
        set(socket, family, &format!("set peer {key}"), |body| {
            peer(body, key, |peer| {
                peer.u32(PEER_FLAGS, replace).attribute(PEER_KEEPALIVE, &wanted.keepalive_s.to_ne_bytes());
                if let Some(endpoint) = wanted.endpoint {
                    peer.attribute(PEER_ENDPOINT, &socket_address(endpoint));
                }
                peer.nest(PEER_ALLOWED, |list| {
                    for network in part {
                        list.nest(LIST_ENTRY, |entry| write_allowed(entry, network));
                    }
                });
            });
        })?;
        replace = 0;
    }
    Ok(())
}

fn write_allowed(entry: &mut Buffer, network: &IpNetwork) {
    let family = if network.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 } as u16;
    entry.attribute(ALLOWED_FAMILY, &family.to_ne_bytes()).attribute(ALLOWED_ADDRESS, &octets(network.network()));
    entry.attribute(ALLOWED_PREFIX, &[network.prefix()]);
}

/// struct sockaddr_in or sockaddr_in6.
fn socket_address(endpoint: SocketAddr) -> Vec<u8> {
    let port = endpoint.port().to_be_bytes();
    let family = if endpoint.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 } as u16;
    let mut bytes = [family.to_ne_bytes(), port].concat();
    match endpoint.ip() {
        IpAddr::V4(address) => bytes.extend([&address.octets()[..], &[0; 8]].concat()),
        IpAddr::V6(address) => bytes.extend([&[0; 4], &address.octets()[..], &[0; 4]].concat()),
    }
    bytes
}

fn read_socket_address(bytes: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
    let family = i32::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
    let range = if family == libc::AF_INET { 4..8 } else { 8..24 };
    Some(SocketAddr::new(address(bytes.get(range)?)?, port))
}

/// A long list comes in several messages; a peer that is continued is named again.
fn get(socket: &mut Socket, family: u16) -> Result<Device, Error> {
    let replies = socket.dump(family, |body| {
        generic::header(body, GET_DEVICE).text(DEVICE_NAME, WIREGUARD_LINK);
    });
    let mut device = Device::default();
    for reply in replies.map_err(netlink(format!("read the settings of link {WIREGUARD_LINK}")))? {
        let area = reply.body.get(GENERIC_HEADER..).unwrap_or_default();
        let key = |kind| find(area, kind).and_then(|bytes| bytes.try_into().ok());
        device.private_key = key(DEVICE_PRIVATE_KEY).map(Secret).or(device.private_key);
        device.public_key = key(DEVICE_PUBLIC_KEY).map(Key).or(device.public_key);
        let port = find(area, DEVICE_LISTEN_PORT).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
        device.port = port.unwrap_or(device.port);
        for (_, entry) in attributes(find(area, DEVICE_PEERS).unwrap_or_default()) {
            read_peer(entry, &mut device.peers);
        }
    }
    Ok(device)
}

fn read_peer(entry: &[u8], peers: &mut BTreeMap<Key, PeerState>) {
    let Some(key) = find(entry, PEER_PUBLIC_KEY).and_then(|bytes| bytes.try_into().ok()).map(Key) else { return };
    let peer = peers.entry(key).or_default();
    let eight = |bytes: &[u8]| bytes.get(..8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_ne_bytes);
    for (kind, value) in attributes(entry) {
        match kind {
            PEER_ENDPOINT => peer.endpoint = read_socket_address(value),
            PEER_KEEPALIVE => peer.keepalive_s = value.try_into().map(u16::from_ne_bytes).unwrap_or(0),
            PEER_LAST_HANDSHAKE => peer.last_handshake_s = eight(value).filter(|seconds| *seconds > 0),
            PEER_RECEIVED => peer.received_bytes = eight(value).unwrap_or(0),
            PEER_SENT => peer.sent_bytes = eight(value).unwrap_or(0),
            PEER_ALLOWED => peer.allowed.extend(attributes(value).filter_map(|(_, entry)| read_allowed(entry))),
            _ => {}
        }
    }
}

fn read_allowed(entry: &[u8]) -> Option<IpNetwork> {
    let prefix = *find(entry, ALLOWED_PREFIX)?.first()?;
    IpNetwork::new(find(entry, ALLOWED_ADDRESS).and_then(address)?, prefix).ok()
}
