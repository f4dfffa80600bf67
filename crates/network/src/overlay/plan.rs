//! Configuration -> `Plan`: the device, the routes, who may send and what may arrive, for this host and without looking
//! at it. Everything follows from the configuration; nothing is learnt from packets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aws::ec2::{Encapsulation, Encryption, Overlay, OverlayHost, Subnet, VpcNetwork};
use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};

use super::key::{self, Key};

/// A VXLAN network identifier has 24 bits (RFC 7348, section 5).
const LARGEST_VNI: u32 = (1 << 24) - 1;
/// Assigned by IANA to VXLAN-GPE and VXLAN; WireGuard's is its custom.
const GPE_PORT: u16 = 4790;
const VXLAN_PORT: u16 = 4789;
const WIREGUARD_PORT: u16 = 51820;
/// An interface's IPv4 address is the last 32 of its IPv6 address's 128 bits.
const IPV6_BITS_BEFORE_IPV4: u8 = 96;

/// What is wrong with the configuration, by the member's path in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {said}")]
pub struct Refusal {
    pub field: String,
    pub said: String,
}

/// What this host needs to reach the others' interfaces.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Plan {
    /// Where this host sends from.
    pub(crate) address: IpAddr,
    /// Of this host, where the configuration says it.
    pub(crate) public_key: Option<Key>,
    /// The other hosts.
    pub(crate) peers: Vec<Peer>,
    pub(crate) carrier: Carrier,
    pub(crate) port: u16,
    pub(crate) routes: BTreeSet<Route>,
    pub(crate) has_ipv6: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    /// Always there with WireGuard.
    pub(crate) public_key: Option<Key>,
    /// Its interfaces' addresses: its slices, and single addresses outside of them.
    pub(crate) networks: BTreeSet<IpNetwork>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Carrier {
    /// VXLAN-GPE without a VNI or address of its own: each route says both.
    Ip {
        vni: u32,
    },
    /// VXLAN with one hop to each host, whose Ethernet address follows from its IPv4 address.
    Ethernet {
        vni: u32,
    },
    Wireguard {
        keepalive_s: u16,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Route {
    pub(crate) destination: IpNetwork,
    pub(crate) hop: Hop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Hop {
    /// An address of a subnet that spans hosts and that nobody has: its packets must not take the default route.
    Unreachable,
    /// To the device, which wraps it up for that host.
    Encapsulated { vni: u32, from: IpAddr, to: IpAddr },
    /// To the device, which knows the rest.
    Device,
    /// To the device, for the neighbour of this address.
    Neighbour(IpAddr),
}

/// `None` where nothing spans hosts. All refusals at once.
pub(crate) fn plan(network: &VpcNetwork) -> Result<Option<Plan>, Vec<Refusal>> {
    let mut refusals = Refusals(Vec::new());
    let Some(overlay) = &network.overlay else {
        refuse_what_needs_an_overlay(network, &mut refusals);
        return refusals.or(None);
    };
    let here = check_hosts(overlay, network, &mut refusals);
    let carrier = carrier(overlay, &mut refusals);
    let networks = networks_of_hosts(overlay, network, &mut refusals);
    let (Some(here), true) = (here, refusals.0.is_empty()) else { return Err(refusals.0) };
    let key = |host: &OverlayHost| host.public_key.as_deref().and_then(key::parse);
    let peers: Vec<Peer> = overlay
        .hosts
        .iter()
        .filter(|host| host.name != here.name)
        .map(|host| Peer {
            name: host.name.clone(),
            address: host.address,
            public_key: key(host),
            networks: networks.get(host.name.as_str()).cloned().unwrap_or_default(),
        })
        .collect();
    let spanning: Vec<&Subnet> = network.subnets.iter().filter(|subnet| !subnet.slices.is_empty()).collect();
    let to_peers = peers.iter().flat_map(|peer| {
        let hop = move |destination| hop(carrier, here.address, peer.address, destination);
        peer.networks.iter().map(move |network| Route { destination: *network, hop: hop(*network) })
    });
    let to_nobody = spanning.iter().flat_map(|subnet| {
        let of_subnet = [Some(subnet.cidr_block.into()), subnet.ipv6_cidr_block.map(IpNetwork::from)];
        of_subnet.into_iter().flatten().map(|destination| Route { destination, hop: Hop::Unreachable })
    });
    let routes = to_peers.chain(to_nobody).collect();
    let has_ipv6 = spanning.iter().any(|subnet| subnet.ipv6_cidr_block.is_some());
    let port = overlay.port.unwrap_or(match carrier {
        Carrier::Ip { .. } => GPE_PORT,
        Carrier::Ethernet { .. } => VXLAN_PORT,
        Carrier::Wireguard { .. } => WIREGUARD_PORT,
    });
    Ok(Some(Plan { address: here.address, public_key: key(here), peers, carrier, port, routes, has_ipv6 }))
}

impl Plan {
    /// The same for a kernel without VXLAN-GPE; `None` where it cannot be had.
    pub(crate) fn with_ethernet(&self) -> Option<Plan> {
        let Carrier::Ip { vni } = self.carrier else { return None };
        let carrier = Carrier::Ethernet { vni };
        let hops = self.routes.iter().map(|route| match route.hop {
            Hop::Encapsulated { from, to, .. } => Route { hop: hop(carrier, from, to, route.destination), ..*route },
            Hop::Unreachable | Hop::Device | Hop::Neighbour(_) => *route,
        });
        self.address.is_ipv4().then(|| Plan { carrier, routes: hops.collect(), ..self.clone() })
    }

    /// Bytes that the device adds to a packet: the headers of IP and UDP, and VXLAN's 8 bytes, with an Ethernet header
    /// in the older form; WireGuard's header and tag are 32 bytes (<https://www.wireguard.com/protocol/>).
    pub(crate) fn overhead(&self) -> u32 {
        let ip = if self.address.is_ipv4() { 20 } else { 40 };
        let carried = match self.carrier {
            Carrier::Ip { .. } => 8,
            Carrier::Ethernet { .. } => 8 + 14,
            Carrier::Wireguard { .. } => 32,
        };
        ip + 8 + carried
    }
}

struct Refusals(Vec<Refusal>);

impl Refusals {
    fn add(&mut self, field: impl Into<String>, said: impl Into<String>) {
        self.0.push(Refusal { field: field.into(), said: said.into() });
    }

    fn or<T>(self, value: T) -> Result<T, Vec<Refusal>> {
        if self.0.is_empty() { Ok(value) } else { Err(self.0) }
    }
}

fn refuse_what_needs_an_overlay(network: &VpcNetwork, refusals: &mut Refusals) {
    let wanted = "there is no `overlay`, which names the hosts and which of them this one is";
    for subnet in network.subnets.iter().filter(|subnet| !subnet.slices.is_empty()) {
        refusals.add(format!("subnets[{}].slices", subnet.subnet_id), wanted);
    }
    if !network.remote_interfaces.is_empty() {
        refusals.add("remoteInterfaces", wanted);
    }
}

/// This host, where it is one of them.
fn check_hosts<'a>(overlay: &'a Overlay, network: &VpcNetwork, refusals: &mut Refusals) -> Option<&'a OverlayHost> {
    let here = overlay.hosts.iter().find(|host| host.name == overlay.this_host);
    if here.is_none() {
        let names: Vec<&str> = overlay.hosts.iter().map(|host| host.name.as_str()).collect();
        let said = format!("{:?} is none of overlay.hosts ({})", overlay.this_host, names.join(", "));
        refusals.add("overlay.thisHost", said);
    }
    let (mut names, mut addresses, mut keys) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for host in &overlay.hosts {
        let field = |member: &str| format!("overlay.hosts[{}].{member}", host.name);
        if host.name.is_empty() || !names.insert(&host.name) {
            refusals.add(field("name"), "each host has a name of its own");
        }
        if let Some(said) = wrong_address(host.address, network) {
            refusals.add(field("address"), said);
        } else if !addresses.insert(host.address) {
            refusals.add(field("address"), format!("{} is another host's, too", host.address));
        } else if let Some(here) = here
            && here.address.is_ipv4() != host.address.is_ipv4()
        {
            let said = format!("{} and this host's {} are not of one IP version", host.address, here.address);
            refusals.add(field("address"), said);
        }
        match host.public_key.as_deref().map(key::parse) {
            Some(None) => refusals.add(field("publicKey"), "it is not base64 of 32 bytes"),
            Some(Some(key)) if !keys.insert(key) => refusals.add(field("publicKey"), "it is another host's, too"),
            // This host's own follows from its private key.
            None if overlay.encryption == Encryption::Wireguard && host.name != overlay.this_host => {
                let said = "with wireguard each host needs one; `coracle network overlay key` prints it there";
                refusals.add(field("publicKey"), said);
            }
            Some(Some(_)) | None => {}
        }
    }
    here
}

fn wrong_address(address: IpAddr, network: &VpcNetwork) -> Option<String> {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() || link_local {
        return Some(format!("{address} is not an address that other hosts can send to"));
    }
    let IpAddr::V4(address) = address else { return None };
    let vpc = network.vpcs.iter().find(|vpc| vpc.cidr_block.contains(address))?;
    let said = format!(
        "{address} lies in {} itself ({}); it has to be one of the host's own network",
        vpc.vpc_id, vpc.cidr_block
    );
    Some(said)
}

fn carrier(overlay: &Overlay, refusals: &mut Refusals) -> Carrier {
    if overlay.vni == 0 || overlay.vni > LARGEST_VNI {
        refusals.add("overlay.vni", format!("{} is not 1 to {LARGEST_VNI}", overlay.vni));
    }
    if overlay.port == Some(0) {
        refusals.add("overlay.port", "0 is not a port; leave it out for the usual one");
    }
    match (overlay.encryption, overlay.encapsulation) {
        (Encryption::Wireguard, _) => Carrier::Wireguard { keepalive_s: overlay.keepalive_s.unwrap_or(0) },
        (Encryption::None, Encapsulation::Ip) => Carrier::Ip { vni: overlay.vni },
        (Encryption::None, Encapsulation::Ethernet) => {
            let ipv6 = overlay.hosts.iter().find(|host| host.address.is_ipv6());
            if let Some(host) = ipv6 {
                let said = format!("ethernet needs hosts with IPv4 addresses, and {} has {}", host.name, host.address);
                refusals.add("overlay.encapsulation", said);
            }
            Carrier::Ethernet { vni: overlay.vni }
        }
    }
}

/// Which addresses are whose, the other hosts' alone.
fn networks_of_hosts<'a>(
    overlay: &'a Overlay,
    network: &'a VpcNetwork,
    refusals: &mut Refusals,
) -> BTreeMap<&'a str, BTreeSet<IpNetwork>> {
    let known: BTreeSet<&str> = overlay.hosts.iter().map(|host| host.name.as_str()).collect();
    let mut networks: BTreeMap<&str, BTreeSet<IpNetwork>> = BTreeMap::new();
    let mut slices: Vec<(&str, Ipv4Network)> = Vec::new();
    for subnet in &network.subnets {
        for (number, slice) in subnet.slices.iter().enumerate() {
            let field = |member: &str| format!("subnets[{}].slices[{number}].{member}", subnet.subnet_id);
            let cidr = slice.cidr_block;
            let (whole, host) = (subnet.cidr_block, slice.host.as_str());
            if !known.contains(host) {
                refusals.add(field("host"), format!("{host:?} is none of overlay.hosts"));
            }
            if cidr.ip() != cidr.network() {
                let said = format!("{cidr} does not begin at its first address; {}/{}", cidr.network(), cidr.prefix());
                refusals.add(field("cidrBlock"), said);
            } else if !cidr.is_subnet_of(whole) {
                refusals.add(field("cidrBlock"), format!("{cidr} does not lie in the subnet, {whole}"));
            } else if let Some((other, taken)) = slices.iter().find(|(_, taken)| taken.overlaps(cidr)) {
                refusals.add(field("cidrBlock"), format!("{cidr} overlaps {taken}, a slice of {other}"));
            }
            slices.push((host, cidr));
            let of_host = networks.entry(host).or_default();
            of_host.insert(cidr.into());
            of_host.extend(subnet.ipv6_cidr_block.map(|ipv6| IpNetwork::from(in_ipv6(ipv6, cidr))));
        }
    }
    add_remote_interfaces(overlay, network, &mut networks, refusals);
    networks.remove(overlay.this_host.as_str());
    networks
}

fn add_remote_interfaces<'a>(
    overlay: &'a Overlay,
    network: &'a VpcNetwork,
    networks: &mut BTreeMap<&'a str, BTreeSet<IpNetwork>>,
    refusals: &mut Refusals,
) {
    let mut seen = BTreeSet::new();
    for interface in &network.remote_interfaces {
        let address = interface.private_ipv4_address;
        let field = |member: &str| format!("remoteInterfaces[{address}].{member}");
        let host = interface.host.as_str();
        if !overlay.hosts.iter().any(|known| known.name == host) {
            refusals.add(field("host"), format!("{host:?} is none of overlay.hosts"));
        }
        if !seen.insert(address) {
            refusals.add(field("privateIpv4Address"), "it is there twice");
        }
        let subnet = network.subnets.iter().find(|subnet| subnet.cidr_block.contains(address));
        let Some(subnet) = subnet else {
            refusals.add(field("privateIpv4Address"), "it lies in none of the subnets");
            continue;
        };
        let mut addresses: Vec<IpNetwork> = vec![IpAddr::V4(address).into()];
        match (interface.ipv6_address, subnet.ipv6_cidr_block) {
            (Some(ipv6), Some(block)) if block.contains(ipv6) => addresses.push(IpAddr::V6(ipv6).into()),
            (Some(ipv6), _) => {
                let said = format!("{ipv6} does not lie in an ipv6CidrBlock of {}", subnet.subnet_id);
                refusals.add(field("ipv6Address"), said);
            }
            (None, _) => {}
        }
        let of_host = networks.entry(host).or_default();
        // What its host's slices say already needs no route of its own.
        addresses.retain(|single| !of_host.iter().any(|network| network.contains(single.ip())));
        of_host.extend(addresses);
    }
}

/// A part of a subnet as its interfaces' IPv6 addresses have it.
fn in_ipv6(block: Ipv6Network, part: Ipv4Network) -> Ipv6Network {
    let low = u128::from(u32::from(part.network()));
    let address = Ipv6Addr::from(u128::from(block.network()) | low);
    Ipv6Network::new(address, IPV6_BITS_BEFORE_IPV4 + part.prefix()).expect("an IPv4 prefix is at most 32 bits long")
}

fn hop(carrier: Carrier, from: IpAddr, to: IpAddr, destination: IpNetwork) -> Hop {
    match carrier {
        Carrier::Ip { vni } => Hop::Encapsulated { vni, from, to },
        Carrier::Wireguard { .. } => Hop::Device,
        Carrier::Ethernet { .. } => Hop::Neighbour(match (to, destination) {
            (IpAddr::V4(host), IpNetwork::V6(_)) => IpAddr::V6(neighbour_in_ipv6(host)),
            (to, IpNetwork::V4(_) | IpNetwork::V6(_)) => to,
        }),
    }
}

/// What a host is called on the device where IPv6 packets are meant: a link-local address.
pub(crate) fn neighbour_in_ipv6(host: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::from(0xfe80_u128 << 112 | u128::from(u32::from(host)))
}

#[cfg(test)]
mod tests;
