//! `link` for IPv6: addresses, routes and neighbours, as one rtnetlink message says them.

use std::net::Ipv6Addr;

use ipnetwork::Ipv6Network;

use crate::link::Mac;
use crate::netlink::{self, Reply, Requests, Socket, find, flags};

const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_NEWNEIGH: u16 = 28;
const IFA_ADDRESS: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const FAMILY: u8 = libc::AF_INET6 as u8;
const ADDRESS_HEADER: usize = 8;
const MAIN_TABLE: u8 = libc::RT_TABLE_MAIN;
const PROTOCOL_STATIC: u8 = 4;
const TYPE_UNICAST: u8 = 1;
/// Whoever gives an address knows that nobody else has it: it can be used at once.
const NO_DUPLICATE_DETECTION: u8 = libc::IFA_F_NODAD as u8;

pub(crate) fn add_address(requests: &mut Requests, link: u32, address: Ipv6Addr, subnet: Ipv6Network) {
    requests.push(RTM_NEWADDR, flags::CREATE | flags::EXCL, |body| {
        let header = [FAMILY, subnet.prefix(), NO_DUPLICATE_DETECTION, 0];
        body.raw(&[&header, link.to_ne_bytes().as_slice()].concat());
        body.attribute(IFA_ADDRESS, &address.octets());
    });
}

pub(crate) fn add_default_route(requests: &mut Requests, link: u32, gateway: Ipv6Addr) {
    requests.push(RTM_NEWROUTE, flags::CREATE | flags::EXCL, |body| {
        body.raw(&[FAMILY, 0, 0, 0, MAIN_TABLE, PROTOCOL_STATIC, 0, TYPE_UNICAST, 0, 0, 0, 0]);
        body.attribute(RTA_GATEWAY, &gateway.octets()).u32(RTA_OIF, link);
    });
}

/// A neighbour that never has to be asked for.
pub(crate) fn add_neighbour(requests: &mut Requests, link: u32, address: Ipv6Addr, mac: Mac) {
    requests.push(RTM_NEWNEIGH, flags::CREATE | flags::REPLACE, |body| {
        let state = libc::NUD_PERMANENT.to_ne_bytes();
        body.raw(&[&[FAMILY, 0, 0, 0], link.to_ne_bytes().as_slice(), &state, &[0, 0]].concat());
        body.attribute(NDA_DST, &address.octets()).attribute(NDA_LLADDR, &mac.0);
    });
}

/// The addresses of a link with their prefixes.
pub(crate) fn addresses(socket: &mut Socket, link: u32) -> Result<Vec<Ipv6Network>, netlink::Error> {
    let replies = socket.dump(RTM_GETADDR, |body| {
        body.raw(&[&[FAMILY, 0, 0, 0], link.to_ne_bytes().as_slice()].concat());
    })?;
    let of_link = replies.iter().filter(|reply| reply.body.get(4..8) == Some(&link.to_ne_bytes()));
    Ok(of_link.filter_map(read_address).collect())
}

fn read_address(reply: &Reply) -> Option<Ipv6Network> {
    let (header, area) = reply.body.split_at_checked(ADDRESS_HEADER)?;
    let octets: [u8; 16] = find(area, IFA_ADDRESS)?.try_into().ok()?;
    Ipv6Network::new(octets.into(), header[1]).ok()
}
