//! The overlay's device: what one rtnetlink message says of it, and what of it stands.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};

use super::error::{Error, netlink};
use super::plan::{Carrier, Plan};
use crate::link::{
    self, IFLA_ADDRESS, IFLA_IFALIAS, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MTU,
    LINK_HEADER, Link, Mac, RTM_NEWLINK, link_header,
};
use crate::netlink::{self, Buffer, Requests, Socket, find, flags};
use crate::settings::Settings;
use crate::sysctl;

pub(super) const VXLAN_LINK: &str = "coracle-vxlan";
pub(super) const WIREGUARD_LINK: &str = "coracle-wg";
pub(super) const LINKS: [&str; 2] = [VXLAN_LINK, WIREGUARD_LINK];
const ALIAS_PREFIX: &str = "coracle";
const ALIAS_KIND: &str = "overlay";

const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_COLLECT_METADATA: u16 = 25;
const IFLA_VXLAN_GPE: u16 = 27;

/// A link of one of our names.
pub(super) struct Device {
    pub(super) link: Link,
    mac: Option<Mac>,
    data: Vec<u8>,
}

pub(super) fn name(carrier: Carrier) -> &'static str {
    match carrier {
        Carrier::Ip { .. } | Carrier::Ethernet { .. } => VXLAN_LINK,
        Carrier::Wireguard { .. } => WIREGUARD_LINK,
    }
}

/// What a link says when everything of a plan has been carried out.
pub(super) fn alias(settings: &Settings, plan: &Plan) -> String {
    let mut hasher = DefaultHasher::new();
    plan.hash(&mut hasher);
    format!("{ALIAS_PREFIX} {} {ALIAS_KIND} {:016x}", settings.instance, hasher.finish())
}

/// And until then.
fn alias_under_way(settings: &Settings) -> String {
    format!("{ALIAS_PREFIX} {} {ALIAS_KIND}", settings.instance)
}

/// How the Ethernet address of a host on the device follows from its address: nobody has to ask for it.
pub(super) fn mac(host: Ipv4Addr) -> Mac {
    let [a, b, c, d] = host.octets();
    Mac([0x02, 0x43, a, b, c, d])
}

pub(super) fn get(socket: &mut Socket, name: &'static str) -> Result<Option<Device>, Error> {
    let mut requests = Requests::default();
    link::ask_link(&mut requests, name);
    let answers = socket.exchange(requests).map_err(netlink(format!("look at link {name}")))?;
    match answers.into_iter().next() {
        Some(Ok(replies)) => Ok(replies.iter().find_map(|reply| {
            let area = reply.body.get(LINK_HEADER..)?;
            let mac = find(area, IFLA_ADDRESS).and_then(|bytes| bytes.try_into().ok()).map(Mac);
            let data = find(area, IFLA_LINKINFO).and_then(|info| find(info, IFLA_INFO_DATA));
            Some(Device { link: link::read_link(reply)?, mac, data: data.unwrap_or_default().to_vec() })
        })),
        Some(Err(refused)) if refused.errno == nix::errno::Errno::ENODEV => Ok(None),
        Some(Err(refused)) => Err(netlink(format!("look at link {name}"))(refused.into())),
        None => Ok(None),
    }
}

impl Device {
    /// Whose it is: another run directory's, or not coracle's at all, is an error. One without a label is what a process
    /// left that was killed between making and labelling it.
    pub(super) fn check_owner(&self, name: &'static str, settings: &Settings) -> Result<(), Error> {
        let not_ours = |whose: String| Err(Error::NotOurs { name, whose });
        let kind = self.link.kind.as_deref().unwrap_or("a device");
        let wanted = if name == VXLAN_LINK { "vxlan" } else { "wireguard" };
        let words: Vec<&str> = self.link.alias.as_deref().unwrap_or_default().split(' ').collect();
        match words[..] {
            _ if kind != wanted => not_ours(format!("of kind {kind}")),
            [""] => Ok(()),
            [ALIAS_PREFIX, instance, ALIAS_KIND, ..] if instance == settings.instance => Ok(()),
            [ALIAS_PREFIX, instance, ALIAS_KIND, ..] => {
                not_ours(format!("of another run directory's coracle ({instance})"))
            }
            _ => not_ours(format!("labelled {:?}", words.join(" "))),
        }
    }

    /// Whether it does what the plan wants, or has to be made anew: most of it cannot be changed later.
    pub(super) fn fits(&self, plan: &Plan) -> bool {
        let has = |kind| find(&self.data, kind);
        let is_port = has(IFLA_VXLAN_PORT) == Some(&plan.port.to_be_bytes());
        let is_external = has(IFLA_VXLAN_COLLECT_METADATA) == Some(&[1]);
        match (plan.carrier, plan.address) {
            (Carrier::Wireguard { .. }, _) => true,
            (Carrier::Ip { .. }, _) => is_port && is_external && has(IFLA_VXLAN_GPE).is_some(),
            (Carrier::Ethernet { vni }, IpAddr::V4(address)) => {
                is_port
                    && !is_external
                    && has(IFLA_VXLAN_ID) == Some(&vni.to_ne_bytes())
                    && has(IFLA_VXLAN_LOCAL) == Some(&address.octets())
                    && self.mac == Some(mac(address))
            }
            (Carrier::Ethernet { .. }, IpAddr::V6(_)) => false,
        }
    }
}

/// Makes it. It is down and says that the rest is still to come.
pub(super) fn add(socket: &mut Socket, plan: &Plan, mtu: u32) -> Result<(), netlink::Error> {
    let answer = socket.request(RTM_NEWLINK, flags::CREATE | flags::EXCL, |link| {
        link.raw(&link_header(0, None)).text(IFLA_IFNAME, name(plan.carrier)).u32(IFLA_MTU, mtu);
        if let (Carrier::Ethernet { .. }, IpAddr::V4(address)) = (plan.carrier, plan.address) {
            link.attribute(IFLA_ADDRESS, &mac(address).0);
        }
        link.nest(IFLA_LINKINFO, |info| write_kind(info, plan));
    });
    answer.map(drop)
}

fn write_kind(info: &mut Buffer, plan: &Plan) {
    match plan.carrier {
        Carrier::Wireguard { .. } => {
            info.text(IFLA_INFO_KIND, "wireguard");
        }
        Carrier::Ip { .. } => {
            info.text(IFLA_INFO_KIND, "vxlan").nest(IFLA_INFO_DATA, |data| {
                data.attribute(IFLA_VXLAN_COLLECT_METADATA, &[1]).attribute(IFLA_VXLAN_GPE, &[]);
                data.attribute(IFLA_VXLAN_LEARNING, &[0]).attribute(IFLA_VXLAN_PORT, &plan.port.to_be_bytes());
            });
        }
        Carrier::Ethernet { vni } => {
            info.text(IFLA_INFO_KIND, "vxlan").nest(IFLA_INFO_DATA, |data| {
                data.u32(IFLA_VXLAN_ID, vni).attribute(IFLA_VXLAN_LEARNING, &[0]);
                data.attribute(IFLA_VXLAN_PORT, &plan.port.to_be_bytes());
                if let IpAddr::V4(address) = plan.address {
                    data.attribute(IFLA_VXLAN_LOCAL, &address.octets());
                }
            });
        }
    }
}

/// Labels it, and gives it its size.
pub(super) fn set(requests: &mut Requests, settings: &Settings, name: &str, mtu: u32) {
    if sysctl::has_ipv6() {
        link::set_no_link_local(requests, name);
    }
    requests.push(RTM_NEWLINK, 0, |link| {
        link.raw(&link_header(0, None)).text(IFLA_IFNAME, name);
        link.text(IFLA_IFALIAS, &alias_under_way(settings)).u32(IFLA_MTU, mtu);
    });
}

/// Says that everything of the plan has been carried out.
pub(super) fn set_alias(socket: &mut Socket, name: &str, alias: &str) -> Result<(), netlink::Error> {
    let answer = socket.request(RTM_NEWLINK, 0, |link| {
        link.raw(&link_header(0, None)).text(IFLA_IFNAME, name).text(IFLA_IFALIAS, alias);
    });
    answer.map(drop)
}
