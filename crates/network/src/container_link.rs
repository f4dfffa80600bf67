//! A container's link: a pair of which one end is a port of the bridge and the other is `eth0` in the container's
//! namespace, with its address and its way out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::error::Error;
use crate::host_bridge::Bridge;
use crate::link::{self, CONTAINER_LINK, Mac, Veth};
use crate::link6;
use crate::namespace::Namespace;
use crate::netlink::{self, Answer, Requests, Socket};
use crate::pool;
use crate::settings::Settings;
use crate::sysctl;
use crate::tenant::Label;

/// How long a link that comes up is waited for, and how often it is looked at, on kernels before 6.8.
const CARRYING_PATIENCE: Duration = Duration::from_millis(250);
const CARRYING_PAUSE: Duration = Duration::from_micros(500);

/// The bridge with a socket to work on it.
pub(crate) struct HostBridge {
    pub(crate) bridge: Bridge,
    pub(crate) socket: Socket,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) ipv4: Ipv4Addr,
    pub(crate) ipv6: Option<Ipv6Addr>,
}

impl Addresses {
    pub(crate) fn all(self) -> Vec<IpAddr> {
        [Some(self.ipv4.into()), self.ipv6.map(IpAddr::V6)].into_iter().flatten().collect()
    }
}

/// Gives a container the first address whose link name is free, and the link.
pub(crate) fn make(
    settings: &Settings,
    label: &Label<'_>,
    namespace: &mut Namespace,
    on: &mut HostBridge,
    start: u64,
) -> Result<Addresses, Error> {
    let bridge = on.bridge;
    for address in pool::candidates(bridge.subnet, bridge.address, start) {
        let name = pool::link_name(address);
        let failed = |action: &str, source| Error::Netlink {
            action: format!("{action} link {name} of container {}", label.container),
            source,
        };
        let veth = Veth {
            host_name: &name,
            bridge: bridge.index,
            container_mac: Mac::of(address),
            namespace: namespace.descriptor.as_fd(),
            mtu: bridge.mtu,
        };
        match link::add_veth(&mut on.socket, &veth) {
            Ok(()) => {}
            Err(error) if error.errno() == Some(Errno::EEXIST) => continue,
            Err(error) if error.errno() == Some(Errno::EXFULL) => {
                return Err(Error::BridgeFull { bridge: settings.bridge.clone() });
            }
            Err(source) => return Err(failed("make", source)),
        }
        set_up_host_end(&mut on.socket, &name, &label.to_string()).map_err(|source| failed("set up", source))?;
        set_up_container_end(&mut namespace.socket, address, bridge)
            .map_err(|source| failed("set up eth0 at the other end of", source))?;
        return Ok(Addresses { ipv4: address, ipv6: bridge.ipv6.map(|bridge| bridge.container(address)) });
    }
    Err(Error::NoFreeAddress { bridge: settings.bridge.clone(), subnet: bridge.subnet })
}

fn set_up_host_end(socket: &mut Socket, name: &str, alias: &str) -> Result<(), netlink::Error> {
    let mut requests = Requests::default();
    link::set_port(&mut requests, name, alias);
    if sysctl::has_ipv6() {
        link::set_no_link_local(&mut requests, name);
    }
    link::set_up(&mut requests, name);
    socket.exchange(requests).and_then(all).map(drop)
}

fn set_up_container_end(socket: &mut Socket, address: Ipv4Addr, bridge: Bridge) -> Result<(), netlink::Error> {
    let mut requests = Requests::default();
    if sysctl::has_ipv6() {
        link::set_no_link_local(&mut requests, CONTAINER_LINK);
    }
    link::set_up(&mut requests, CONTAINER_LINK);
    link::ask_link(&mut requests, CONTAINER_LINK);
    let replies = all(socket.exchange(requests)?)?;
    let gone = || netlink::Refused { errno: Errno::ENODEV, said: String::new() };
    let index = replies.iter().find_map(link::read_link).ok_or_else(gone)?.index;
    let mut requests = Requests::default();
    link::add_address(&mut requests, index, address, bridge.subnet);
    link::add_default_route(&mut requests, index, bridge.address);
    // The bridge's MAC is a function of its address as well, so the first packet out need not ask for it.
    let bridge_mac = Mac::of(bridge.address);
    link::add_neighbour(&mut requests, index, bridge.address, bridge_mac);
    if let Some(bridge) = bridge.ipv6 {
        link6::add_address(&mut requests, index, bridge.container(address), bridge.subnet);
        link6::add_neighbour(&mut requests, index, bridge.address, bridge_mac);
        // Without a way out, a program that is given an IPv6 address by a name server is told so at once.
        if bridge.way_out {
            link6::add_default_route(&mut requests, index, bridge.address);
        }
    }
    socket.exchange(requests).and_then(all).map(drop)
}

/// The kernel brings links up in the background: until it gets to it, a bridge drops what is sent, the first question
/// for a container's MAC included, and the next one comes a second later. Since Linux 6.8, asking for a link makes
/// the kernel do it at once. The ports come before their bridge, which follows them.
pub(crate) fn wait_until_carrying(
    settings: &Settings,
    on: &mut HostBridge,
    addresses: impl Iterator<Item = Ipv4Addr>,
) -> Result<(), Error> {
    let names: Vec<String> = addresses.map(pool::link_name).chain([settings.bridge.clone()]).collect();
    let failed = |source| Error::Netlink { action: format!("look at links {}", names.join(", ")), source };
    let begin = Instant::now();
    loop {
        let mut requests = Requests::default();
        for name in &names {
            link::ask_link(&mut requests, name);
        }
        let replies = on.socket.exchange(requests).and_then(all).map_err(failed)?;
        let all_carry = replies.iter().filter_map(link::read_link).all(|link| link.carries);
        // Late is no failure: it costs the first connection a second.
        if all_carry || begin.elapsed() > CARRYING_PATIENCE {
            return Ok(());
        }
        thread::sleep(CARRYING_PAUSE);
    }
}

/// Every reply, or the first refusal.
fn all(answers: Vec<Answer>) -> Result<Vec<netlink::Reply>, netlink::Error> {
    let mut replies = Vec::new();
    for answer in answers {
        replies.extend(answer?);
    }
    Ok(replies)
}
