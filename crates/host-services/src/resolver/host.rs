//! What the resolver knows of the host: its name servers and its addresses.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use tokio::time::Instant;
use tracing::warn;

use super::lock;
use super::upstreams::askable;

/// How often the file is looked at, at most.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
/// Addresses of documentation (RFC 5737, RFC 3849): nothing is sent there.
const ANYWHERE: [(&str, &str); 2] = [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")];

/// The name servers of the host's resolv.conf, read again when the file has changed.
pub(super) struct HostServers {
    path: PathBuf,
    known: Mutex<Option<Known>>,
}

struct Known {
    looked: Instant,
    stamp: Option<Stamp>,
    servers: Arc<[IpAddr]>,
}

/// A file that is replaced has another inode, one that is rewritten another time.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    inode: u64,
    length: u64,
}

impl HostServers {
    pub(super) fn new(path: PathBuf) -> HostServers {
        HostServers { path, known: Mutex::new(None) }
    }

    /// None where the file is missing or names none, or while it cannot be read: a host without name servers.
    pub(super) fn get(&self) -> Arc<[IpAddr]> {
        let mut known = lock(&self.known);
        if let Some(known) = known.as_ref().filter(|known| known.looked.elapsed() < BETWEEN_LOOKS) {
            return known.servers.clone();
        }
        let stamp = self.stamp();
        let servers = match known.take() {
            Some(known) if known.stamp == stamp => known.servers,
            Some(_) | None => self.read(),
        };
        *known = Some(Known { looked: Instant::now(), stamp, servers: servers.clone() });
        servers
    }

    fn stamp(&self) -> Option<Stamp> {
        use std::os::unix::fs::MetadataExt;
        let found = fs::metadata(&self.path).ok()?;
        Some(Stamp { modified: found.modified().ok()?, inode: found.ino(), length: found.len() })
    }

    fn read(&self) -> Arc<[IpAddr]> {
        match fs::read(&self.path) {
            Ok(bytes) => askable(&network::name_servers(&String::from_utf8_lossy(&bytes))),
            Err(error) => {
                warn!(path = %self.path.display(), %error, "the host's name servers cannot be read");
                Arc::default()
            }
        }
    }
}

/// Under which tasks in host mode are found: the addresses from which the host talks to the world; where it has no way
/// out, whatever addresses it has but the loopback's and those of one link alone.
pub(super) fn addresses() -> Vec<IpAddr> {
    let outward: Vec<IpAddr> = ANYWHERE.iter().filter_map(|(from, to)| source_address(from, to)).collect();
    if !outward.is_empty() {
        return outward;
    }
    let interfaces = match getifaddrs() {
        Ok(interfaces) => interfaces,
        Err(error) => {
            warn!(%error, "the host's addresses cannot be listed");
            return Vec::new();
        }
    };
    let up = interfaces.filter(|interface| {
        interface.flags.contains(InterfaceFlags::IFF_UP) && !interface.flags.contains(InterfaceFlags::IFF_LOOPBACK)
    });
    let addresses = up.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    addresses.filter(|address| !is_link_local(address)).collect()
}

fn source_address(from: &str, to: &str) -> Option<IpAddr> {
    let socket = UdpSocket::bind(from).ok()?;
    socket.connect(to).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !is_link_local(&address)).then_some(address)
}

fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}
