//! The bridge that containers hang on: made at its first use, by whoever comes first. It stays, as Docker's does;
//! `remove` takes it away.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;
use nix::errno::Errno;

use crate::bridge6::{self, Bridge6};
use crate::error::Error;
use crate::host_files;
use crate::link::{self, Link, Mac, Route};
use crate::netlink::{self, Requests, Socket};
use crate::pool;
use crate::settings::Settings;
use crate::sysctl;

/// More would be lost on networks that carry no larger frames.
const LARGEST_MTU: u32 = 1500;
const SMALLEST_PREFIX_LENGTH_IN_USE: u8 = 29;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bridge {
    pub(crate) index: u32,
    pub(crate) mtu: u32,
    pub(crate) address: Ipv4Addr,
    pub(crate) subnet: Ipv4Network,
    pub(crate) ipv6: Option<Bridge6>,
}

/// The bridge as it stands, or made. Two processes at once end with the same bridge: what exists already counts as
/// done. Tells in `said` which settings of the host were changed.
pub(crate) fn ensure(socket: &mut Socket, settings: &Settings, said: &mut Vec<String>) -> Result<Bridge, Error> {
    let name = &settings.bridge;
    let found = get(socket, name)?;
    let addresses = match &found {
        Some(link) => addresses(socket, name, link.index)?,
        None => Vec::new(),
    };
    let mut bridge = match (found, addresses.first()) {
        (Some(link), Some(address)) if link.up => of(&link, *address, settings)?,
        (found, _) => make(socket, settings, found)?,
    };
    turn_on(sysctl::IP_FORWARD, said)?;
    turn_on(&sysctl::route_localnet(name), &mut Vec::new())?;
    bridge.ipv6 = bridge6::ensure(socket, settings, bridge.index, said)?;
    Ok(bridge)
}

/// What `ensure` would find or make.
pub(crate) enum Look {
    Made(Bridge),
    /// Only a network that the settings name can overlap a route.
    ToBeMade {
        subnet: Ipv4Network,
        overlaps: Option<Ipv4Network>,
    },
}

/// Looks without changing anything.
pub(crate) fn look(socket: &mut Socket, settings: &Settings) -> Result<Look, Error> {
    let name = &settings.bridge;
    let found = get(socket, name)?;
    if let Some(link) = &found
        && let Some(address) = addresses(socket, name, link.index)?.first()
    {
        return of(link, *address, settings).map(Look::Made);
    }
    let routes = host_routes(socket, name)?;
    let Some(subnet) = settings.subnet else {
        let subnet = choose_subnet(settings, &routes, found.as_ref())?;
        return Ok(Look::ToBeMade { subnet, overlaps: None });
    };
    let networks = routes.iter().map(|route| route.destination).filter(|network| network.prefix() > 0);
    let overlaps = networks.into_iter().find(|network| network.overlaps(subnet));
    Ok(Look::ToBeMade { subnet, overlaps })
}

fn host_routes(socket: &mut Socket, bridge: &str) -> Result<Vec<Route>, Error> {
    link::routes(socket).map_err(|source| Error::Netlink {
        action: format!("read the routes of this host for bridge {bridge}"),
        source,
    })
}

fn get(socket: &mut Socket, name: &str) -> Result<Option<Link>, Error> {
    let action = || format!("look at link {name}");
    let found = link::get(socket, name).map_err(|source| Error::Netlink { action: action(), source })?;
    match found {
        Some(link) if link.kind.as_deref() != Some("bridge") => {
            let kind = link.kind.unwrap_or_else(|| "a device".into());
            Err(Error::NotABridge { name: name.to_owned(), kind })
        }
        found => Ok(found),
    }
}

fn addresses(socket: &mut Socket, name: &str, index: u32) -> Result<Vec<Ipv4Network>, Error> {
    link::addresses(socket, index)
        .map_err(|source| Error::Netlink { action: format!("read the addresses of bridge {name}"), source })
}

fn of(link: &Link, address: Ipv4Network, settings: &Settings) -> Result<Bridge, Error> {
    let subnet = Ipv4Network::new(address.network(), address.prefix()).expect("the prefix is the address's own");
    if let Some(wanted) = settings.subnet
        && wanted != subnet
    {
        return Err(Error::OtherSubnet { bridge: settings.bridge.clone(), found: subnet, wanted });
    }
    if subnet.prefix() > SMALLEST_PREFIX_LENGTH_IN_USE {
        return Err(Error::SubnetTooSmall { bridge: settings.bridge.clone(), found: subnet });
    }
    Ok(Bridge { index: link.index, mtu: link.mtu, address: address.ip(), subnet, ipv6: None })
}

fn make(socket: &mut Socket, settings: &Settings, found: Option<Link>) -> Result<Bridge, Error> {
    let name = &settings.bridge;
    let failed = |action: &str| {
        let action = format!("{action} bridge {name}");
        move |source| Error::Netlink { action, source }
    };
    let routes = host_routes(socket, name)?;
    let subnet = match settings.subnet {
        Some(subnet) => subnet,
        None => choose_subnet(settings, &routes, found.as_ref())?,
    };
    let gateway = pool::gateway_of(subnet);
    if found.is_none() {
        let mtu = uplink_mtu(socket, &routes).map_err(failed("read the links of this host for"))?;
        match link::add_bridge(socket, name, Mac::of(gateway), mtu) {
            Err(error) if error.errno() != Some(Errno::EEXIST) => return Err(failed("make")(error)),
            // Somebody else's of the same moment is as good.
            Ok(()) | Err(_) => {}
        }
    }
    let index = get(socket, name)?.map(|link| link.index).ok_or_else(|| gone(name))?;
    let mut requests = Requests::default();
    if sysctl::has_ipv6() {
        link::set_no_link_local(&mut requests, name);
    }
    link::set_up(&mut requests, name);
    if addresses(socket, name, index)?.is_empty() {
        link::add_address(&mut requests, index, gateway, subnet);
    }
    for answer in socket.exchange(requests).map_err(failed("set up"))? {
        match answer {
            Err(refused) if refused.errno != Errno::EEXIST => return Err(failed("set up")(refused.into())),
            Ok(_) | Err(_) => {}
        }
    }
    // Read back: where two processes chose differently, the kernel's first address is everybody's.
    let link = get(socket, name)?.ok_or_else(|| gone(name))?;
    let address = addresses(socket, name, index)?.first().copied().ok_or_else(|| gone(name))?;
    of(&link, address, settings)
}

fn gone(name: &str) -> Error {
    let refused = netlink::Refused { errno: Errno::ENODEV, said: String::new() };
    Error::Netlink { action: format!("use bridge {name}: somebody removed it meanwhile"), source: refused.into() }
}

fn choose_subnet(settings: &Settings, routes: &[Route], own: Option<&Link>) -> Result<Ipv4Network, Error> {
    // The bridge's own network, from another process of this moment, is no obstacle.
    let others = routes.iter().filter(|route| own.is_none_or(|link| route.link != link.index));
    let others: Vec<_> = others.map(|route| route.destination).collect();
    let servers = host_files::resolv_conf()?.servers.into_iter().filter_map(|server| match server {
        std::net::IpAddr::V4(address) => Some(address),
        std::net::IpAddr::V6(_) => None,
    });
    pool::choose_subnet(&others, &servers.collect::<Vec<_>>())
        .ok_or_else(|| Error::NoSubnet { bridge: settings.bridge.clone() })
}

/// What the way out of the host carries, so that containers need not find out by lost packets.
pub(crate) fn uplink_mtu(socket: &mut Socket, routes: &[Route]) -> Result<u32, netlink::Error> {
    let default = routes.iter().filter(|route| route.destination.prefix() == 0).min_by_key(|route| route.priority);
    let Some(default) = default else { return Ok(LARGEST_MTU) };
    let links: HashMap<u32, Link> = link::list(socket)?.into_iter().map(|link| (link.index, link)).collect();
    Ok(links.get(&default.link).map_or(LARGEST_MTU, |uplink| uplink.mtu.min(LARGEST_MTU)))
}

fn turn_on(setting: &str, said: &mut Vec<String>) -> Result<(), Error> {
    if sysctl::turn_on(setting)? {
        said.push(format!("{setting}=1"));
    }
    Ok(())
}
