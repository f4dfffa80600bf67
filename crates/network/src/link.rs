//! Links, addresses, routes and neighbours: what one rtnetlink message says, and how the kernel's lists are read.
//! Which of them a task needs is left to `attach`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnetwork::Ipv4Network;

use crate::netlink::{self, Buffer, Reply, Requests, Socket, attributes, find, flags};

/// The loopback link is the first of every network namespace.
pub(crate) const LOOPBACK_INDEX: u32 = 1;
/// What a container's link is called inside.
pub(crate) const CONTAINER_LINK: &str = "eth0";

/// IFLA_GROUP of the host's end of every task's interface ("eni"), from its creation on: by it the firewall knows the
/// interfaces that it has not been told of, and nothing passes those.
pub(crate) const INTERFACE_GROUP: u32 = 0x0065_6e69;

pub(crate) const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
pub(crate) const RTM_GETADDR: u16 = 22;
pub(crate) const RTM_NEWROUTE: u16 = 24;
pub(crate) const RTM_GETROUTE: u16 = 26;
pub(crate) const RTM_NEWNEIGH: u16 = 28;

pub(crate) const IFLA_ADDRESS: u16 = 1;
pub(crate) const IFLA_IFNAME: u16 = 3;
pub(crate) const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_OPERSTATE: u16 = 16;
pub(crate) const IFLA_LINKINFO: u16 = 18;
pub(crate) const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_GROUP: u16 = 27;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_EXT_MASK: u16 = 29;
pub(crate) const IFLA_INFO_KIND: u16 = 1;
pub(crate) const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_HAIRPIN: u16 = 4;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const OPERSTATE_UP: u8 = 6;
const ADDR_GEN_MODE_NONE: u8 = 1;
const RTEXT_FILTER_SKIP_STATS: u32 = 8;
const VETH_INFO_PEER: u16 = 1;
pub(crate) const IFA_ADDRESS: u16 = 1;
pub(crate) const IFA_LOCAL: u16 = 2;
const IFA_LABEL: u16 = 3;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
pub(crate) const RTA_DST: u16 = 1;
pub(crate) const RTA_OIF: u16 = 4;
pub(crate) const RTA_GATEWAY: u16 = 5;
pub(crate) const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
pub(crate) const NDA_DST: u16 = 1;
pub(crate) const NDA_LLADDR: u16 = 2;

const FAMILY_INET: u8 = libc::AF_INET as u8;
const FAMILY_INET6: u16 = libc::AF_INET6 as u16;
const HOST_PREFIX: u8 = 32;
const FLAG_UP: u32 = libc::IFF_UP as u32;
pub(crate) const LINK_HEADER: usize = 16;
pub(crate) const ADDRESS_HEADER: usize = 8;
pub(crate) const ROUTE_HEADER: usize = 12;
pub(crate) const MAIN_TABLE: u8 = libc::RT_TABLE_MAIN;
const PROTOCOL_STATIC: u8 = 4;
pub(crate) const TYPE_UNICAST: u8 = 1;
/// The gateway is a neighbour although no route says so.
const NEXT_HOP_ONLINK: u32 = 4;

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mac(pub(crate) [u8; 6]);

impl Mac {
    /// Locally administered and a function of the IPv4 address, as Docker's are: an address that is given to
    /// another container keeps its MAC, so no neighbour's cache is ever wrong.
    pub(crate) fn of(address: Ipv4Addr) -> Mac {
        let [a, b, c, d] = address.octets();
        Mac([0x02, 0x42, a, b, c, d])
    }

    /// `02:42:0a:00:01:05`; none where it is anything else.
    pub(crate) fn parse(text: &str) -> Option<Mac> {
        let octets = text.split(':').map(|octet| u8::from_str_radix(octet, 16).ok()).collect::<Option<Vec<u8>>>()?;
        octets.try_into().ok().map(Mac)
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// `bridge`, `veth`, …; none for hardware.
    pub(crate) kind: Option<String>,
    pub(crate) alias: Option<String>,
    /// None where it has none, or one that is not Ethernet's.
    pub(crate) mac: Option<Mac>,
    pub(crate) mtu: u32,
    pub(crate) up: bool,
    /// The kernel has finished bringing it up: what is sent is not dropped.
    pub(crate) carries: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) destination: Ipv4Network,
    pub(crate) link: u32,
    pub(crate) priority: u32,
}

/// A pair: the host's end is a port of a bridge, the other one is `eth0` inside a network namespace.
pub(crate) struct Veth<'a> {
    pub(crate) host_name: &'a str,
    pub(crate) bridge: u32,
    pub(crate) container_mac: Mac,
    pub(crate) namespace: BorrowedFd<'a>,
    pub(crate) mtu: u32,
}

pub(crate) fn add_veth(socket: &mut Socket, veth: &Veth<'_>) -> Result<(), netlink::Error> {
    let answer = socket.request(RTM_NEWLINK, flags::CREATE | flags::EXCL, |link| {
        link.raw(&link_header(0, None)).text(IFLA_IFNAME, veth.host_name);
        link.u32(IFLA_MTU, veth.mtu).u32(IFLA_MASTER, veth.bridge);
        link.nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |data| {
                data.nest(VETH_INFO_PEER, |peer| {
                    peer.raw(&link_header(0, None)).text(IFLA_IFNAME, CONTAINER_LINK);
                    peer.attribute(IFLA_ADDRESS, &veth.container_mac.0).u32(IFLA_MTU, veth.mtu);
                    peer.attribute(IFLA_NET_NS_FD, &veth.namespace.as_raw_fd().to_ne_bytes());
                });
            });
        });
    });
    answer.map(drop)
}

/// A pair of which neither end is on a bridge: the host's is routed to, the other one is `eth0` of an awsvpc task.
pub(crate) struct InterfacePair<'a> {
    pub(crate) host_name: &'a str,
    pub(crate) host_mac: Mac,
    pub(crate) task_mac: Mac,
    pub(crate) namespace: BorrowedFd<'a>,
    pub(crate) mtu: u32,
}

pub(crate) fn add_interface_pair(socket: &mut Socket, pair: &InterfacePair<'_>) -> Result<(), netlink::Error> {
    let answer = socket.request(RTM_NEWLINK, flags::CREATE | flags::EXCL, |link| {
        link.raw(&link_header(0, None)).text(IFLA_IFNAME, pair.host_name);
        link.attribute(IFLA_ADDRESS, &pair.host_mac.0).u32(IFLA_MTU, pair.mtu).u32(IFLA_GROUP, INTERFACE_GROUP);
        link.nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |data| {
                data.nest(VETH_INFO_PEER, |peer| {
                    peer.raw(&link_header(0, None)).text(IFLA_IFNAME, CONTAINER_LINK);
                    peer.attribute(IFLA_ADDRESS, &pair.task_mac.0).u32(IFLA_MTU, pair.mtu);
                    peer.attribute(IFLA_NET_NS_FD, &pair.namespace.as_raw_fd().to_ne_bytes());
                });
            });
        });
    });
    answer.map(drop)
}

pub(crate) fn set_alias(requests: &mut Requests, name: &str, alias: &str) {
    requests.push(RTM_NEWLINK, 0, |link| {
        link.raw(&link_header(0, None)).text(IFLA_IFNAME, name).text(IFLA_IFALIAS, alias);
    });
}

/// Labels a bridge port and lets it send frames back to where they came from, which a container needs to reach its
/// own published port when `bridge-nf-call-iptables` is on.
pub(crate) fn set_port(requests: &mut Requests, name: &str, alias: &str) {
    requests.push(RTM_NEWLINK, 0, |link| {
        link.raw(&link_header(0, None)).text(IFLA_IFNAME, name).text(IFLA_IFALIAS, alias);
        link.nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_SLAVE_KIND, "bridge").nest(IFLA_INFO_SLAVE_DATA, |data| {
                data.attribute(IFLA_BRPORT_HAIRPIN, &[1]);
            });
        });
    });
}

pub(crate) fn add_bridge(socket: &mut Socket, name: &str, mac: Mac, mtu: u32) -> Result<(), netlink::Error> {
    let answer = socket.request(RTM_NEWLINK, flags::CREATE | flags::EXCL, |link| {
        // Without an address of its own a bridge takes its lowest port's, and changes it as containers come and go.
        link.raw(&link_header(0, None)).text(IFLA_IFNAME, name).attribute(IFLA_ADDRESS, &mac.0).u32(IFLA_MTU, mtu);
        link.nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "bridge");
        });
    });
    answer.map(drop)
}

/// A link of a kind without any details.
pub(crate) fn add_of_kind(requests: &mut Requests, name: &str, kind: &str) {
    requests.push(RTM_NEWLINK, flags::CREATE | flags::EXCL, |link| {
        link.raw(&link_header(0, None)).text(IFLA_IFNAME, name).nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, kind);
        });
    });
}

/// No IPv6 link-local address: nothing here speaks IPv6 yet, and duplicate address detection would send for nothing.
pub(crate) fn set_no_link_local(requests: &mut Requests, name: &str) {
    requests.push(RTM_NEWLINK, 0, |link| {
        link.raw(&link_header(0, None)).text(IFLA_IFNAME, name).nest(IFLA_AF_SPEC, |families| {
            families.nest(FAMILY_INET6, |inet6| {
                inet6.attribute(IFLA_INET6_ADDR_GEN_MODE, &[ADDR_GEN_MODE_NONE]);
            });
        });
    });
}

pub(crate) fn set_up(requests: &mut Requests, name: &str) {
    requests.push(RTM_NEWLINK, 0, |link| {
        link.raw(&link_header(0, Some(FLAG_UP))).text(IFLA_IFNAME, name);
    });
}

pub(crate) fn set_loopback_up(requests: &mut Requests) {
    requests.push(RTM_NEWLINK, 0, |link| {
        link.raw(&link_header(LOOPBACK_INDEX, Some(FLAG_UP)));
    });
}

pub(crate) fn ask_link(requests: &mut Requests, name: &str) {
    requests.push(RTM_GETLINK, 0, |link| {
        link.raw(&link_header(0, None)).text(IFLA_IFNAME, name).u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    });
}

pub(crate) fn delete(requests: &mut Requests, name: &str) {
    requests.push(RTM_DELLINK, 0, |link| {
        link.raw(&link_header(0, None)).text(IFLA_IFNAME, name);
    });
}

pub(crate) fn add_address(requests: &mut Requests, link: u32, address: Ipv4Addr, subnet: Ipv4Network) {
    requests.push(RTM_NEWADDR, flags::CREATE | flags::EXCL, |body| {
        body.raw(&[&[FAMILY_INET, subnet.prefix(), 0, 0], link.to_ne_bytes().as_slice()].concat());
        body.attribute(IFA_LOCAL, &address.octets()).attribute(IFA_ADDRESS, &address.octets());
        body.attribute(IFA_BROADCAST, &subnet.broadcast().octets());
    });
}

/// An address of this host alone, on a link that needs no route for it.
pub(crate) fn add_host_address(requests: &mut Requests, link: u32, address: Ipv4Addr) {
    requests.push(RTM_NEWADDR, flags::CREATE | flags::EXCL, |body| host_address(body, link, address));
}

pub(crate) fn delete_host_address(requests: &mut Requests, link: u32, address: Ipv4Addr) {
    requests.push(RTM_DELADDR, 0, |body| host_address(body, link, address));
}

fn host_address(body: &mut Buffer, link: u32, address: Ipv4Addr) {
    body.raw(&[&[FAMILY_INET, HOST_PREFIX, 0, libc::RT_SCOPE_HOST], link.to_ne_bytes().as_slice()].concat());
    body.attribute(IFA_LOCAL, &address.octets()).attribute(IFA_ADDRESS, &address.octets());
}

/// An address whose network no route leads to, and which nobody is asked whether it is theirs.
pub(crate) fn add_address_without_route(requests: &mut Requests, link: u32, address: IpAddr, prefix: u8) {
    requests.push(RTM_NEWADDR, flags::CREATE | flags::EXCL, |body| {
        body.raw(&[&[family(address), prefix, 0, 0], link.to_ne_bytes().as_slice()].concat());
        octets(body, IFA_LOCAL, address);
        octets(body, IFA_ADDRESS, address);
        body.u32(IFA_FLAGS, libc::IFA_F_NOPREFIXROUTE | libc::IFA_F_NODAD);
    });
}

/// One address, /32, under a label other than the link's name.
pub(crate) fn add_labelled_address(requests: &mut Requests, link: u32, address: Ipv4Addr, label: &str) {
    requests.push(RTM_NEWADDR, flags::CREATE | flags::EXCL, |body| {
        body.raw(&[&[FAMILY_INET, HOST_PREFIX, 0, 0], link.to_ne_bytes().as_slice()].concat());
        body.attribute(IFA_LOCAL, &address.octets()).attribute(IFA_ADDRESS, &address.octets()).text(IFA_LABEL, label);
    });
}

/// Of those with /32.
pub(crate) fn delete_address(requests: &mut Requests, link: u32, address: Ipv4Addr) {
    requests.push(RTM_DELADDR, 0, |body| {
        body.raw(&[&[FAMILY_INET, HOST_PREFIX, 0, 0], link.to_ne_bytes().as_slice()].concat());
        body.attribute(IFA_LOCAL, &address.octets()).attribute(IFA_ADDRESS, &address.octets());
    });
}

/// A way to the whole world, or to one address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// None: everywhere.
    to: Option<IpAddr>,
    link: u32,
    gateway: Option<IpAddr>,
    /// What this host's own packets come from.
    source: Option<IpAddr>,
}

impl Way {
    /// The gateway is on the link, whatever the link's own addresses are.
    pub(crate) fn everywhere_by(gateway: IpAddr, link: u32) -> Way {
        Way { to: None, link, gateway: Some(gateway), source: None }
    }

    pub(crate) fn to(address: IpAddr, link: u32, source: IpAddr) -> Way {
        Way { to: Some(address), link, gateway: None, source: Some(source) }
    }
}

pub(crate) fn add_way(requests: &mut Requests, way: Way) {
    requests.push(RTM_NEWROUTE, flags::CREATE | flags::EXCL, |body| {
        let version = way.to.or(way.gateway).map_or(FAMILY_INET, family);
        let length = way.to.map_or(0, |to| if to.is_ipv4() { 32 } else { 128 });
        let onlink = if way.gateway.is_some() { NEXT_HOP_ONLINK } else { 0 };
        let scope = if way.gateway.is_none() && version == FAMILY_INET { libc::RT_SCOPE_LINK } else { 0 };
        let header = [version, length, 0, 0, MAIN_TABLE, PROTOCOL_STATIC, scope, TYPE_UNICAST];
        body.raw(&[header.as_slice(), &onlink.to_ne_bytes()].concat());
        for (kind, address) in [(RTA_DST, way.to), (RTA_GATEWAY, way.gateway), (RTA_PREFSRC, way.source)] {
            if let Some(address) = address {
                octets(body, kind, address);
            }
        }
        body.u32(RTA_OIF, way.link);
    });
}

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => FAMILY_INET,
        IpAddr::V6(_) => FAMILY_INET6 as u8,
    }
}

fn octets(body: &mut Buffer, kind: u16, address: IpAddr) {
    match address {
        IpAddr::V4(address) => body.attribute(kind, &address.octets()),
        IpAddr::V6(address) => body.attribute(kind, &address.octets()),
    };
}

/// `add_neighbour` for either version.
pub(crate) fn add_neighbour_of(requests: &mut Requests, link: u32, address: IpAddr, mac: Mac) {
    match address {
        IpAddr::V4(address) => add_neighbour(requests, link, address, mac),
        IpAddr::V6(address) => crate::link6::add_neighbour(requests, link, address, mac),
    }
}

pub(crate) fn add_default_route(requests: &mut Requests, link: u32, gateway: Ipv4Addr) {
    requests.push(RTM_NEWROUTE, flags::CREATE | flags::EXCL, |body| {
        body.raw(&[FAMILY_INET, 0, 0, 0, MAIN_TABLE, PROTOCOL_STATIC, 0, TYPE_UNICAST, 0, 0, 0, 0]);
        body.attribute(RTA_GATEWAY, &gateway.octets()).u32(RTA_OIF, link);
    });
}

/// A neighbour that never has to be asked for.
pub(crate) fn add_neighbour(requests: &mut Requests, link: u32, address: Ipv4Addr, mac: Mac) {
    requests.push(RTM_NEWNEIGH, flags::CREATE | flags::REPLACE, |body| {
        let state = libc::NUD_PERMANENT.to_ne_bytes();
        body.raw(&[&[FAMILY_INET, 0, 0, 0], link.to_ne_bytes().as_slice(), &state, &[0, 0]].concat());
        body.attribute(NDA_DST, &address.octets()).attribute(NDA_LLADDR, &mac.0);
    });
}

/// The link of a name; `None` where there is none.
pub(crate) fn get(socket: &mut Socket, name: &str) -> Result<Option<Link>, netlink::Error> {
    let mut requests = Requests::default();
    ask_link(&mut requests, name);
    match socket.exchange(requests)?.pop() {
        Some(Ok(replies)) => Ok(replies.iter().find_map(read_link)),
        Some(Err(refused)) if refused.errno == nix::errno::Errno::ENODEV => Ok(None),
        Some(Err(refused)) => Err(refused.into()),
        None => Ok(None),
    }
}

/// Every port of a bridge.
pub(crate) fn ports_of(socket: &mut Socket, bridge: u32) -> Result<Vec<Link>, netlink::Error> {
    let replies = socket.dump(RTM_GETLINK, |link| {
        link.raw(&link_header(0, None)).u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS).u32(IFLA_MASTER, bridge);
    })?;
    // A kernel that does not know the filter sends all links; what is not ours has another name.
    Ok(replies.iter().filter_map(read_link).collect())
}

/// The IPv4 addresses of a link with their prefixes, in the kernel's order.
pub(crate) fn addresses(socket: &mut Socket, link: u32) -> Result<Vec<Ipv4Network>, netlink::Error> {
    let replies = socket.dump(RTM_GETADDR, |body| {
        body.raw(&[&[FAMILY_INET, 0, 0, 0], link.to_ne_bytes().as_slice()].concat());
    })?;
    let of_link = replies.iter().filter(|reply| reply.body.get(4..8) == Some(&link.to_ne_bytes()));
    Ok(of_link.filter_map(read_address).collect())
}

/// An address whose label is not its link's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LabelledAddress {
    pub(crate) link: u32,
    pub(crate) address: Ipv4Addr,
    pub(crate) label: String,
}

/// Every IPv4 address of this namespace that has a label.
pub(crate) fn labelled_addresses(socket: &mut Socket) -> Result<Vec<LabelledAddress>, netlink::Error> {
    let replies = socket.dump(RTM_GETADDR, |body| {
        body.raw(&[FAMILY_INET, 0, 0, 0, 0, 0, 0, 0]);
    })?;
    let read = |reply: &Reply| {
        let area = reply.body.get(ADDRESS_HEADER..)?;
        let octets: [u8; 4] = find(area, IFA_LOCAL)?.try_into().ok()?;
        let label = text(find(area, IFA_LABEL)?);
        Some(LabelledAddress { link: number(reply.body.get(4..8)?)?, address: octets.into(), label })
    };
    Ok(replies.iter().filter_map(read).collect())
}

/// The IPv4 routes of the main table.
pub(crate) fn routes(socket: &mut Socket) -> Result<Vec<Route>, netlink::Error> {
    let replies = socket.dump(RTM_GETROUTE, |body| {
        let mut header = [0; ROUTE_HEADER];
        header[0] = FAMILY_INET;
        body.raw(&header);
    })?;
    Ok(replies.iter().filter_map(read_route).collect())
}

pub(crate) fn list(socket: &mut Socket) -> Result<Vec<Link>, netlink::Error> {
    let replies = socket.dump(RTM_GETLINK, |link| {
        link.raw(&link_header(0, None)).u32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
    })?;
    Ok(replies.iter().filter_map(read_link).collect())
}

pub(crate) fn read_link(reply: &Reply) -> Option<Link> {
    let (header, area) = reply.body.split_at_checked(LINK_HEADER)?;
    let mut link = Link {
        index: number(&header[4..8])?,
        name: String::new(),
        kind: None,
        alias: None,
        mac: None,
        mtu: 0,
        up: number(&header[8..12])? & FLAG_UP != 0,
        carries: false,
    };
    for (kind, payload) in attributes(area) {
        match kind {
            IFLA_IFNAME => link.name = text(payload),
            IFLA_IFALIAS => link.alias = Some(text(payload)),
            IFLA_ADDRESS => link.mac = payload.try_into().ok().map(Mac),
            IFLA_OPERSTATE => link.carries = payload == [OPERSTATE_UP],
            IFLA_MTU => link.mtu = number(payload)?,
            IFLA_LINKINFO => link.kind = find(payload, IFLA_INFO_KIND).map(text),
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

fn read_address(reply: &Reply) -> Option<Ipv4Network> {
    let (header, area) = reply.body.split_at_checked(ADDRESS_HEADER)?;
    let octets: [u8; 4] = find(area, IFA_LOCAL)?.try_into().ok()?;
    Ipv4Network::new(octets.into(), header[1]).ok()
}

fn read_route(reply: &Reply) -> Option<Route> {
    let (header, area) = reply.body.split_at_checked(ROUTE_HEADER)?;
    if header[4] != MAIN_TABLE || header[7] != TYPE_UNICAST {
        return None;
    }
    let octets: [u8; 4] = find(area, RTA_DST).unwrap_or(&[0; 4]).try_into().ok()?;
    Some(Route {
        destination: Ipv4Network::new(octets.into(), header[1]).ok()?,
        link: find(area, RTA_OIF).and_then(number).unwrap_or(0),
        priority: find(area, RTA_PRIORITY).and_then(number).unwrap_or(0),
    })
}

pub(crate) fn link_header(index: u32, set_flags: Option<u32>) -> [u8; LINK_HEADER] {
    let mut header = [0; LINK_HEADER];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    if let Some(set) = set_flags {
        header[8..12].copy_from_slice(&set.to_ne_bytes());
        header[12..16].copy_from_slice(&set.to_ne_bytes());
    }
    header
}

pub(crate) fn number(payload: &[u8]) -> Option<u32> {
    payload.try_into().ok().map(u32::from_ne_bytes)
}

pub(crate) fn text(payload: &[u8]) -> String {
    String::from_utf8_lossy(payload).trim_end_matches('\0').to_owned()
}
