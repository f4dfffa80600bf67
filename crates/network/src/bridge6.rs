//! IPv6 on the bridge: a unique local network (RFC 4193) out of which every container has an address, and the host's
//! forwarding between it and the rest. Containers reach the world under the host's own addresses, as in IPv4.
//!
//! A host without IPv6, or whose bridge has it disabled, or whose settings say so, has none of it.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnetwork::Ipv6Network;
use nix::errno::Errno;

use crate::error::Error;
use crate::link6;
use crate::netlink::{Requests, Socket};
use crate::settings::{Settings, Subnet6};
use crate::sysctl;

/// A container's address ends with its IPv4 address.
pub(crate) const LONGEST_PREFIX: u8 = 96;
const CHOSEN_PREFIX: u8 = 64;
/// The bridge's on its own wire, as Docker has it: under it the kernel asks for a container that a packet of somebody
/// else's is for.
const ON_THE_WIRE: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// RFC 4193, section 3.1: fc00::/7 with the bit for "locally assigned".
const LOCALLY_ASSIGNED: u8 = 0xfd;
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const ADDRESSES: &str = "/proc/thread-self/net/if_inet6";
const ROUTES: &str = "/proc/thread-self/net/ipv6_route";
/// In /proc/net/ipv6_route: what a router advertised.
const ROUTE_ADVERTISED: u32 = 0x0004_0000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bridge6 {
    pub(crate) address: Ipv6Addr,
    pub(crate) subnet: Ipv6Network,
    /// The host forwards: there is a way from the bridge to the host's other networks and back.
    pub(crate) way_out: bool,
}

impl Bridge6 {
    pub(crate) fn container(self, ipv4: Ipv4Addr) -> Ipv6Addr {
        Ipv6Addr::from(u128::from(self.subnet.network()) | u128::from(u32::from(ipv4)))
    }
}

/// The bridge's IPv6 network as it stands, or made; none where there is to be none.
pub(crate) fn ensure(
    socket: &mut Socket,
    settings: &Settings,
    index: u32,
    said: &mut Vec<String>,
) -> Result<Option<Bridge6>, Error> {
    if settings.subnet6 == Subnet6::Off || !is_enabled(&settings.bridge)? {
        return Ok(None);
    }
    let present = addresses(socket, settings, index)?;
    let address = match of_link(&present) {
        Some(address) => address,
        None => give(socket, settings, index)?,
    };
    if !present.iter().any(|network| network.ip().is_unicast_link_local()) {
        add(
            socket,
            settings,
            index,
            ON_THE_WIRE,
            Ipv6Network::new(ON_THE_WIRE, CHOSEN_PREFIX).expect("64 is a prefix"),
        )?;
    }
    let subnet = network_of(address);
    if let Subnet6::Given(wanted) = settings.subnet6
        && wanted != subnet
    {
        return Err(Error::OtherSubnet6 { bridge: settings.bridge.clone(), found: subnet, wanted });
    }
    Ok(Some(Bridge6 { address: address.ip(), subnet, way_out: forward(&settings.bridge, said)? }))
}

/// The bridge's IPv6 network as it stands; nothing is made.
pub(crate) fn look(socket: &mut Socket, settings: &Settings, index: u32) -> Result<Option<Ipv6Network>, Error> {
    if settings.subnet6 == Subnet6::Off {
        return Ok(None);
    }
    Ok(of_link(&addresses(socket, settings, index)?).map(network_of))
}

fn addresses(socket: &mut Socket, settings: &Settings, index: u32) -> Result<Vec<Ipv6Network>, Error> {
    link6::addresses(socket, index).map_err(|source| Error::Netlink {
        action: format!("read the IPv6 addresses of bridge {}", settings.bridge),
        source,
    })
}

fn is_enabled(bridge: &str) -> Result<bool, Error> {
    Ok(sysctl::read(&sysctl::disable_ipv6(bridge))?.as_deref() == Some("0"))
}

/// What the bridge has, of whoever gave it: the lowest, so that all who look at several see the same.
fn of_link(present: &[Ipv6Network]) -> Option<Ipv6Network> {
    let fit = |network: &&Ipv6Network| network.prefix() <= LONGEST_PREFIX && !network.ip().is_unicast_link_local();
    present.iter().filter(fit).min_by_key(|network| network.ip()).copied()
}

fn give(socket: &mut Socket, settings: &Settings, index: u32) -> Result<Ipv6Network, Error> {
    let subnet = match settings.subnet6 {
        Subnet6::Given(subnet) => subnet,
        Subnet6::Chosen | Subnet6::Off => choose(&boot_id()?, &settings.bridge),
    };
    let gateway = Ipv6Addr::from(u128::from(subnet.network()) + 1);
    add(socket, settings, index, gateway, subnet)?;
    Ok(Ipv6Network::new(gateway, subnet.prefix()).expect("the prefix is a network's own"))
}

fn add(
    socket: &mut Socket,
    settings: &Settings,
    index: u32,
    address: Ipv6Addr,
    subnet: Ipv6Network,
) -> Result<(), Error> {
    let mut requests = Requests::default();
    link6::add_address(&mut requests, index, address, subnet);
    let failed = |source| Error::Netlink {
        action: format!(
            "give bridge {} the IPv6 address {address}/{} (CORACLE_BRIDGE_SUBNET6=off does without)",
            settings.bridge,
            subnet.prefix()
        ),
        source,
    };
    match socket.exchange(requests).map_err(failed)?.pop() {
        // Another process of this moment came first, with the same.
        Some(Err(refused)) if refused.errno != Errno::EEXIST => Err(failed(refused.into())),
        Some(_) | None => Ok(()),
    }
}

fn network_of(address: Ipv6Network) -> Ipv6Network {
    Ipv6Network::new(address.network(), address.prefix()).expect("the prefix is the address's own")
}

/// 128 bits that the kernel throws when it boots. A bridge does not outlive them, and two processes that make it at
/// the same moment see the same.
fn boot_id() -> Result<String, Error> {
    fs::read_to_string(BOOT_ID).map_err(|source| Error::Read { path: BOOT_ID.to_owned(), source })
}

/// A global id of 40 bits that are this boot's, a subnet id of 16 that are this bridge's.
fn choose(boot_id: &str, bridge: &str) -> Ipv6Network {
    let digits: Vec<u8> = boot_id.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |at: usize| {
        let text = digits.get(at * 2..at * 2 + 2).and_then(|pair| std::str::from_utf8(pair).ok());
        text.and_then(|text| u8::from_str_radix(text, 16).ok()).unwrap_or(0)
    };
    let name = bridge.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let [high, low, ..] = (name ^ name >> 16).to_le_bytes();
    let mut octets = [0; 16];
    octets[..8].copy_from_slice(&[LOCALLY_ASSIGNED, byte(0), byte(1), byte(2), byte(3), byte(4), high, low]);
    Ipv6Network::new(octets.into(), CHOSEN_PREFIX).expect("64 is a prefix")
}

/// Turns forwarding on where the host has IPv6 beside the bridge.
fn forward(bridge: &str, said: &mut Vec<String>) -> Result<bool, Error> {
    if sysctl::read(sysctl::IP6_FORWARD)?.as_deref() == Some("1") {
        return Ok(true);
    }
    if !has_ipv6_beside(&read(ADDRESSES)?, bridge) {
        return Ok(false);
    }
    turn_forwarding_on(said)?;
    Ok(true)
}

/// A kernel that forwards no longer listens to routers, and forgets what they told it: links that live by that are told
/// to go on, first.
pub(crate) fn turn_forwarding_on(said: &mut Vec<String>) -> Result<(), Error> {
    if sysctl::read(sysctl::IP6_FORWARD)?.as_deref() == Some("1") {
        return Ok(());
    }
    for link in listening()? {
        let setting = sysctl::accept_router_advertisements(&link);
        sysctl::write(&setting, "2")?;
        said.push(format!("{setting}=2"));
    }
    if sysctl::turn_on(sysctl::IP6_FORWARD)? {
        said.push(format!("{}=1", sysctl::IP6_FORWARD));
    }
    Ok(())
}

/// What `ensure` would do on a host that does not forward: nothing, or turn it on and tell these links to go on
/// listening.
pub(crate) fn forwarding_to_come(bridge: &str) -> Result<Option<Vec<String>>, Error> {
    if has_ipv6_beside(&read(ADDRESSES)?, bridge) { listening().map(Some) } else { Ok(None) }
}

/// Links that live by what routers tell, and would not once the host forwards.
fn listening() -> Result<Vec<String>, Error> {
    let mut listening = Vec::new();
    for link in advised_links(&read(ROUTES)?) {
        if sysctl::read(&sysctl::accept_router_advertisements(&link))?.as_deref() == Some("1") {
            listening.push(link);
        }
    }
    Ok(listening)
}

fn read(path: &str) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

/// Whether a link other than the bridge has an address that is good beyond its own wire. The columns of if_inet6 are
/// address, link, prefix, scope, flags and the link's name; a scope of 00 is the world.
fn has_ipv6_beside(addresses: &str, bridge: &str) -> bool {
    addresses.lines().any(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        matches!(columns[..], [_, _, _, "00", _, name] if name != bridge)
    })
}

/// Links whose routes a router advertised. The ninth column of ipv6_route is the route's flags, the tenth the link.
fn advised_links(routes: &str) -> BTreeSet<String> {
    let link = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let flags = u32::from_str_radix(columns.get(8)?, 16).ok()?;
        (flags & ROUTE_ADVERTISED != 0).then_some(columns.get(9)?).map(|name| (*name).to_owned())
    };
    routes.lines().filter_map(link).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chosen_network_is_a_unique_local_one_of_this_boot_and_bridge() {
        let boot = "0123abcd-ef45-4678-9abc-def012345678\n";
        let chosen = choose(boot, "coracle0");
        assert!(chosen.to_string().starts_with("fd01:23ab:cdef:"), "{chosen}");
        assert_eq!((chosen.prefix(), chosen.network()), (64, chosen.ip()));
        assert_eq!(choose(boot, "coracle0"), chosen);
        assert_ne!(choose(boot, "coracle1"), chosen);
        assert_ne!(choose("1123abcd-ef45-4678-9abc-def012345678", "coracle0"), chosen);
    }

    #[test]
    fn a_container_is_found_by_its_ipv4_address() {
        let subnet: Ipv6Network = "fd01:2:3:4::/64".parse().unwrap();
        let bridge = Bridge6 { address: "fd01:2:3:4::1".parse().unwrap(), subnet, way_out: true };
        let address: Ipv6Addr = "fd01:2:3:4::ac1e:102".parse().unwrap();
        assert_eq!(bridge.container(Ipv4Addr::new(172, 30, 1, 2)), address);
    }

    #[test]
    fn addresses_of_other_links_count_and_those_of_a_wire_do_not() {
        let lo = "00000000000000000000000000000001 01 80 10 80       lo\n";
        let own = "fd0102030405060700000000ac1e0001 05 40 00 80 coracle0\n";
        let wire = "fe80000000000000000000fffe000001 02 40 20 80     eth0\n";
        let world = "20010db8000000000000000000000001 02 40 00 00     eth0\n";
        assert!(!has_ipv6_beside(&[lo, own, wire].concat(), "coracle0"));
        assert!(has_ipv6_beside(&[lo, own, wire, world].concat(), "coracle0"));
    }

    #[test]
    fn links_that_routers_advise_are_found() {
        let zero = "0".repeat(32);
        let line = |flags, link| format!("{zero} 00 {zero} 00 {zero} 00000400 00000001 00000000 {flags} {link}\n");
        let routes = [line("00450003", "eth0"), line("00000001", "eth1"), line("00040001", "eth0")].concat();
        assert_eq!(advised_links(&routes), BTreeSet::from(["eth0".to_owned()]));
        assert!(advised_links("garbage\n").is_empty());
    }
}
