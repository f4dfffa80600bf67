//! What the host's own network says: whether the configured address is this host's, and how large a packet may be on
//! the way to the other hosts.

use std::net::IpAddr;

use super::error::{Error, netlink};
use super::plan::Plan;
use super::routes::{address, octets};
use crate::link::{
    self, ADDRESS_HEADER, IFA_ADDRESS, IFA_LOCAL, ROUTE_HEADER, RTA_DST, RTA_OIF, RTM_GETADDR, RTM_GETROUTE, number,
};
use crate::netlink::{Reply, Requests, Socket, attributes, find};

const RTA_SRC: u16 = 2;
const RTA_METRICS: u16 = 8;
const RTAX_MTU: u16 = 2;
const TYPE_LOCAL: u8 = 2;
/// Where no host can be reached now, nothing tells better.
const ETHERNET_MTU: u32 = 1500;
/// What every link of IPv6 carries (RFC 8200, section 5), and every host of IPv4 takes (RFC 791, section 3.2).
const LEAST_WITH_IPV6: u32 = 1280;
const LEAST: u32 = 576;

/// The address that this host is to send from has to be one of its own.
pub(super) fn check_address(socket: &mut Socket, plan: &Plan, this_host: &str) -> Result<(), Error> {
    let family = family(plan.address);
    let replies = socket.dump(RTM_GETADDR, |body| {
        body.raw(&[family, 0, 0, 0, 0, 0, 0, 0]);
    });
    let replies = replies.map_err(netlink("read the addresses of this host"))?;
    let here = replies.iter().any(|reply| {
        let area = reply.body.get(ADDRESS_HEADER..).unwrap_or_default();
        let local = find(area, IFA_LOCAL).or_else(|| find(area, IFA_ADDRESS));
        local.and_then(address) == Some(plan.address)
    });
    if here { Ok(()) } else { Err(Error::NotHere { host: this_host.to_owned(), address: plan.address }) }
}

/// The size of packets inside the overlay: the smallest on the ways to the other hosts, less what the overlay adds. A
/// host without a way to it is a warning: it may come later.
pub(super) fn mtu(socket: &mut Socket, plan: &Plan, warnings: &mut Vec<String>) -> Result<u32, Error> {
    let mut requests = Requests::default();
    for peer in &plan.peers {
        requests.push(RTM_GETROUTE, 0, |body| {
            let (to, from) = (octets(peer.address), octets(plan.address));
            let bits = |address: &[u8]| (address.len() * 8) as u8;
            body.raw(&[family(peer.address), bits(&to), bits(&from), 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            body.attribute(RTA_DST, &to).attribute(RTA_SRC, &from);
        });
    }
    let answers = socket.exchange(requests).map_err(netlink("ask for the ways to the other hosts"))?;
    let links = link::list(socket).map_err(netlink("read the links of this host"))?;
    let mut underlay = None;
    for (peer, answer) in plan.peers.iter().zip(answers) {
        let way = match &answer {
            Ok(replies) => replies.first().and_then(read_way),
            Err(refused) => {
                warnings.push(format!("overlay host {} ({}): no way there: {refused}", peer.name, peer.address));
                continue;
            }
        };
        let Some(way) = way else { continue };
        if way.to_itself {
            warnings.push(format!("overlay host {} ({}): this is this host's own address", peer.name, peer.address));
            continue;
        }
        let of_link = links.iter().find(|link| link.index == way.link).map(|link| link.mtu);
        underlay = [underlay, of_link, way.mtu].into_iter().flatten().min();
    }
    let underlay = underlay.unwrap_or(ETHERNET_MTU);
    let least = if plan.has_ipv6 { LEAST_WITH_IPV6 } else { LEAST };
    let left = underlay.saturating_sub(plan.overhead());
    if left < least { Err(Error::TooNarrow { underlay, left, least }) } else { Ok(left) }
}

struct Way {
    link: u32,
    mtu: Option<u32>,
    to_itself: bool,
}

fn read_way(reply: &Reply) -> Option<Way> {
    let (header, area) = reply.body.split_at_checked(ROUTE_HEADER)?;
    let metrics = find(area, RTA_METRICS).unwrap_or_default();
    let mtu = attributes(metrics).find(|(kind, _)| *kind == RTAX_MTU).and_then(|(_, value)| number(value));
    let link = find(area, RTA_OIF).and_then(number)?;
    Some(Way { link, mtu: mtu.filter(|mtu| *mtu > 0), to_itself: header[7] == TYPE_LOCAL })
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { libc::AF_INET as u8 } else { libc::AF_INET6 as u8 }
}
