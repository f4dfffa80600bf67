//! Routes of the overlay: what one rtnetlink message says, and which stand. They are labelled with a routing protocol
//! of their own, so that they are told from everybody else's in the main table.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use nix::errno::Errno;

use super::error::{Error, netlink};
use super::plan::{Hop, Route};
use crate::link::{
    MAIN_TABLE, ROUTE_HEADER, RTA_DST, RTA_GATEWAY, RTA_OIF, RTA_PRIORITY, RTM_GETROUTE, RTM_NEWROUTE, TYPE_UNICAST,
    number,
};
use crate::netlink::{Buffer, Reply, Requests, Socket, find, flags};
use crate::sysctl;

const RTM_DELROUTE: u16 = 25;
const RTA_ENCAP_TYPE: u16 = 21;
const RTA_ENCAP: u16 = 22;
const ENCAP_IP: u16 = 2;
const ENCAP_IP6: u16 = 4;
/// The same numbers in both families (linux/lwtunnel.h).
const ENCAP_ID: u16 = 1;
const ENCAP_DESTINATION: u16 = 2;
const ENCAP_SOURCE: u16 = 3;
const SCOPE_UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
/// In a deletion: any.
const SCOPE_NOWHERE: u8 = 255;
const TYPE_UNREACHABLE: u8 = 7;
/// The next hop is on the link although no address there says so.
const ONLINK: u32 = 4;
/// The label (`ip route` prints `proto 202`). Numbers that no routing daemon uses are free
/// (linux/rtnetlink.h, iproute2's etc/rt_protos).
const PROTOCOL: u8 = 202;
/// Behind the routes of this host's own interfaces, whose priority is 0, and 1024 with IPv6: an interface that is here
/// is here.
const PRIORITY: u32 = 2048;
/// Behind everything: a subnet may be one slice, with a route of the same destination.
const PRIORITY_UNREACHABLE: u32 = 4096;

/// One that stands. `None`: of a shape that this build does not make.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Found {
    destination: IpNetwork,
    priority: u32,
    route: Option<Route>,
    link: u32,
}

/// Makes the labelled routes those of the plan. Routes that stay are not touched; a destination that gets another hop
/// is never without one. Tells what changed.
pub(super) fn carry_out(
    socket: &mut Socket,
    wanted: &BTreeSet<Route>,
    link: u32,
    changes: &mut Vec<String>,
) -> Vec<Error> {
    let found = match list(socket) {
        Ok(found) => found,
        Err(error) => return vec![error],
    };
    let stands = |route: &Route| {
        found.iter().any(|found| found.route == Some(*route) && (route.hop == Hop::Unreachable || found.link == link))
    };
    let mut requests = Requests::default();
    let mut actions = Vec::new();
    for route in wanted.iter().filter(|route| !stands(route)) {
        requests.push(RTM_NEWROUTE, flags::CREATE | flags::REPLACE, |body| write(body, route, link));
        actions.push((format!("route {} {}", route.destination, told(route.hop)), None));
    }
    let keys: BTreeSet<(IpNetwork, u32)> =
        wanted.iter().map(|route| (route.destination, priority(route.hop))).collect();
    for old in found.iter().filter(|old| !keys.contains(&(old.destination, old.priority))) {
        delete(&mut requests, old);
        actions.push((format!("no route {}", old.destination), Some(Errno::ESRCH)));
    }
    perform(socket, requests, actions, changes)
}

/// Deletes every labelled route.
pub(super) fn remove(socket: &mut Socket, changes: &mut Vec<String>) -> Vec<Error> {
    carry_out(socket, &BTreeSet::new(), 0, changes)
}

/// Which errors mean that somebody else was quicker stands with each action.
pub(super) fn perform(
    socket: &mut Socket,
    requests: Requests,
    actions: Vec<(String, Option<Errno>)>,
    changes: &mut Vec<String>,
) -> Vec<Error> {
    let answers = match socket.exchange(requests) {
        Ok(answers) => answers,
        Err(source) => return vec![netlink("change the overlay's routes and neighbours")(source)],
    };
    let mut errors = Vec::new();
    for ((action, harmless), answer) in actions.into_iter().zip(answers) {
        match answer {
            Ok(_) => changes.push(action),
            Err(refused) if Some(refused.errno) == harmless => {}
            Err(refused) => errors.push(netlink(format!("make it so: {action}"))(refused.into())),
        }
    }
    errors
}

fn told(hop: Hop) -> String {
    match hop {
        Hop::Unreachable => "unreachable".to_owned(),
        Hop::Encapsulated { to, .. } => format!("to {to}"),
        Hop::Device => "encrypted".to_owned(),
        Hop::Neighbour(to) => format!("via {to}"),
    }
}

fn priority(hop: Hop) -> u32 {
    match hop {
        Hop::Unreachable => PRIORITY_UNREACHABLE,
        Hop::Encapsulated { .. } | Hop::Device | Hop::Neighbour(_) => PRIORITY,
    }
}

fn family(destination: IpNetwork) -> u8 {
    match destination {
        IpNetwork::V4(_) => libc::AF_INET as u8,
        IpNetwork::V6(_) => libc::AF_INET6 as u8,
    }
}

pub(super) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

pub(super) fn address(octets: &[u8]) -> Option<IpAddr> {
    let four = || <[u8; 4]>::try_from(octets).ok().map(|octets| Ipv4Addr::from(octets).into());
    let sixteen = || <[u8; 16]>::try_from(octets).ok().map(|octets| Ipv6Addr::from(octets).into());
    four().or_else(sixteen)
}

fn write(body: &mut Buffer, route: &Route, link: u32) {
    let (scope, kind, set) = match (route.hop, route.destination) {
        (Hop::Unreachable, _) => (SCOPE_UNIVERSE, TYPE_UNREACHABLE, 0),
        (Hop::Neighbour(_), _) => (SCOPE_UNIVERSE, TYPE_UNICAST, ONLINK),
        (Hop::Encapsulated { .. } | Hop::Device, IpNetwork::V4(_)) => (SCOPE_LINK, TYPE_UNICAST, 0),
        (Hop::Encapsulated { .. } | Hop::Device, IpNetwork::V6(_)) => (SCOPE_UNIVERSE, TYPE_UNICAST, 0),
    };
    let destination = route.destination;
    let fixed = [family(destination), destination.prefix(), 0, 0, MAIN_TABLE, PROTOCOL, scope, kind];
    body.raw(
        &[fixed, [set.to_ne_bytes(), [0; 4]].concat().try_into().expect("twice four bytes")].concat()[..ROUTE_HEADER],
    );
    body.attribute(RTA_DST, &octets(destination.network())).u32(RTA_PRIORITY, priority(route.hop));
    match route.hop {
        Hop::Unreachable => {}
        Hop::Device => {
            body.u32(RTA_OIF, link);
        }
        Hop::Neighbour(neighbour) => {
            body.u32(RTA_OIF, link).attribute(RTA_GATEWAY, &octets(neighbour));
        }
        Hop::Encapsulated { vni, from, to } => {
            let kind = if to.is_ipv4() { ENCAP_IP } else { ENCAP_IP6 };
            body.u32(RTA_OIF, link).attribute(RTA_ENCAP_TYPE, &kind.to_ne_bytes());
            body.nest(RTA_ENCAP, |encapsulation| {
                encapsulation.attribute(ENCAP_ID, &u64::from(vni).to_be_bytes());
                encapsulation.attribute(ENCAP_DESTINATION, &octets(to)).attribute(ENCAP_SOURCE, &octets(from));
            });
        }
    }
}

fn delete(requests: &mut Requests, old: &Found) {
    requests.push(RTM_DELROUTE, 0, |body| {
        let destination = old.destination;
        let scope = if destination.is_ipv4() { SCOPE_NOWHERE } else { SCOPE_UNIVERSE };
        body.raw(&[family(destination), destination.prefix(), 0, 0, MAIN_TABLE, PROTOCOL, scope, 0, 0, 0, 0, 0]);
        body.attribute(RTA_DST, &octets(destination.network())).u32(RTA_PRIORITY, old.priority);
    });
}

/// The labelled routes.
fn list(socket: &mut Socket) -> Result<Vec<Found>, Error> {
    let mut found = Vec::new();
    let ipv6 = sysctl::has_ipv6().then_some(libc::AF_INET6 as u8);
    for family in [Some(libc::AF_INET as u8), ipv6].into_iter().flatten() {
        let replies = socket.dump(RTM_GETROUTE, |body| {
            // A kernel that checks strictly sends those of the protocol alone.
            let mut header = [0; ROUTE_HEADER];
            (header[0], header[5]) = (family, PROTOCOL);
            body.raw(&header);
        });
        found.extend(replies.map_err(netlink("read the routes of this host"))?.iter().filter_map(read));
    }
    Ok(found)
}

/// A route that is labelled as ours.
fn read(reply: &Reply) -> Option<Found> {
    let (header, area) = reply.body.split_at_checked(ROUTE_HEADER)?;
    if header[4] != MAIN_TABLE || header[5] != PROTOCOL {
        return None;
    }
    let destination = IpNetwork::new(find(area, RTA_DST).and_then(address)?, header[1]).ok()?;
    let link = find(area, RTA_OIF).and_then(number).unwrap_or(0);
    let gateway = find(area, RTA_GATEWAY).and_then(address);
    let hop = match (header[7], find(area, RTA_ENCAP), gateway) {
        (TYPE_UNREACHABLE, None, None) => Some(Hop::Unreachable),
        (TYPE_UNICAST, None, None) => Some(Hop::Device),
        (TYPE_UNICAST, None, Some(neighbour)) => Some(Hop::Neighbour(neighbour)),
        (TYPE_UNICAST, Some(encapsulation), None) => read_encapsulation(encapsulation),
        _ => None,
    };
    let priority = find(area, RTA_PRIORITY).and_then(number).unwrap_or(0);
    let route = hop.filter(|hop| self::priority(*hop) == priority).map(|hop| Route { destination, hop });
    Some(Found { destination, priority, route, link })
}

fn read_encapsulation(area: &[u8]) -> Option<Hop> {
    let id = find(area, ENCAP_ID)?.try_into().ok().map(u64::from_be_bytes)?;
    let (from, to) = (address(find(area, ENCAP_SOURCE)?)?, address(find(area, ENCAP_DESTINATION)?)?);
    Some(Hop::Encapsulated { vni: id.try_into().ok()?, from, to })
}

/// How many lead where, for people: `ip route` shows them with `proto 202`.
pub(super) fn count(socket: &mut Socket) -> Result<BTreeMap<&'static str, usize>, Error> {
    let mut counts = BTreeMap::new();
    for found in list(socket)? {
        let kind = match found.route.map(|route| route.hop) {
            Some(Hop::Unreachable) => "unreachable",
            Some(Hop::Encapsulated { .. } | Hop::Device | Hop::Neighbour(_)) => "to other hosts",
            None => "unknown",
        };
        *counts.entry(kind).or_default() += 1;
    }
    Ok(counts)
}
