//! Which subnet a bridge gets and in which order a subnet's addresses are tried. Who has an address is written
//! nowhere but in the kernel: the host's link of a container is called by the container's address.

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;

const LINK_PREFIX: &str = "cor";
const INTERFACE_PREFIX: &str = "eni";

/// Rarely used private networks, in the order they are tried. Docker's defaults begin at 172.17.0.0, AWS's default
/// VPC is 172.31.0.0/16.
const CANDIDATES: [(Ipv4Addr, u8); 9] = [
    (Ipv4Addr::new(172, 30, 0, 0), 16),
    (Ipv4Addr::new(172, 29, 0, 0), 16),
    (Ipv4Addr::new(172, 28, 0, 0), 16),
    (Ipv4Addr::new(172, 27, 0, 0), 16),
    (Ipv4Addr::new(172, 26, 0, 0), 16),
    (Ipv4Addr::new(10, 213, 0, 0), 16),
    (Ipv4Addr::new(10, 214, 0, 0), 16),
    (Ipv4Addr::new(192, 168, 208, 0), 20),
    (Ipv4Addr::new(192, 168, 224, 0), 20),
];
/// A shorter route is a way out (a default route, or the halves that VPNs set), not a network that is in use.
const SHORTEST_NETWORK: u8 = 8;

/// The first candidate that overlaps nothing of the host's.
pub(crate) fn choose_subnet(routes: &[Ipv4Network], servers: &[Ipv4Addr]) -> Option<Ipv4Network> {
    let candidates = CANDIDATES
        .iter()
        .map(|(address, prefix)| Ipv4Network::new(*address, *prefix).expect("the candidates' prefixes are 16 and 20"));
    let in_use = |route: &&Ipv4Network| route.prefix() >= SHORTEST_NETWORK;
    candidates.into_iter().find(|candidate| {
        !routes.iter().filter(in_use).any(|route| route.overlaps(*candidate))
            && !servers.iter().any(|server| candidate.contains(*server))
    })
}

/// The bridge's own address.
pub(crate) fn gateway_of(subnet: Ipv4Network) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet.network()) + 1)
}

/// Every address a container may have, each once, from an arbitrary place on: one that was given back is not given
/// to the next container at once, when others may still be talking to it.
pub(crate) fn candidates(subnet: Ipv4Network, gateway: Ipv4Addr, start: u64) -> impl Iterator<Item = Ipv4Addr> {
    let first = u64::from(u32::from(subnet.network())) + 1;
    let usable = u64::from(u32::from(subnet.broadcast())).saturating_sub(first);
    (0..usable)
        .map(move |step| Ipv4Addr::from((first + (start % usable + step) % usable) as u32))
        .filter(move |address| *address != gateway)
}

/// The same for interfaces of a VPC's subnet, out of the parts of it that are given out here: "the first four IP
/// addresses and the last IP address in each subnet CIDR block are not available for your use"
/// (<https://docs.aws.amazon.com/vpc/latest/userguide/subnet-sizing.html>).
pub(crate) fn interface_candidates(
    subnet: Ipv4Network,
    ranges: &[Ipv4Network],
    start: u64,
) -> impl Iterator<Item = Ipv4Addr> {
    let first = u64::from(u32::from(subnet.network())) + RESERVED_FIRST;
    let last = u64::from(u32::from(subnet.broadcast())) - 1;
    let usable = ranges.iter().map(|range| {
        let (begin, end) = (u64::from(u32::from(range.network())), u64::from(u32::from(range.broadcast())));
        (begin.max(first), end.min(last))
    });
    let usable: Vec<(u64, u64)> = usable.filter(|(begin, end)| begin <= end).collect();
    let count: u64 = usable.iter().map(|(begin, end)| end - begin + 1).sum();
    (0..count).filter_map(move |step| {
        let mut place = (start % count + step) % count;
        for (begin, end) in &usable {
            let length = end - begin + 1;
            if place < length {
                return Some(Ipv4Addr::from((begin + place) as u32));
            }
            place -= length;
        }
        None
    })
}

/// Amazon's network address, router, resolver, and one for later.
const RESERVED_FIRST: u64 = 4;

/// The host's end of the interface with this address: `eni` and the address as eight hexadecimal digits.
pub(crate) fn interface_link_name(address: Ipv4Addr) -> String {
    format!("{INTERFACE_PREFIX}{:08x}", u32::from(address))
}

pub(crate) fn address_of_interface_link(name: &str) -> Option<Ipv4Addr> {
    address_behind(INTERFACE_PREFIX, name)
}

/// `cor` and the address as eight hexadecimal digits.
pub(crate) fn link_name(address: Ipv4Addr) -> String {
    format!("{LINK_PREFIX}{:08x}", u32::from(address))
}

pub(crate) fn address_of_link(name: &str) -> Option<Ipv4Addr> {
    address_behind(LINK_PREFIX, name)
}

fn address_behind(prefix: &str, name: &str) -> Option<Ipv4Addr> {
    let digits = name.strip_prefix(prefix).filter(|digits| digits.len() == 8)?;
    u32::from_str_radix(digits, 16).ok().map(Ipv4Addr::from)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn network(text: &str) -> Ipv4Network {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_free_candidate_is_chosen() {
        assert_eq!(choose_subnet(&[], &[]), Some(network("172.30.0.0/16")));
        let routes = ["0.0.0.0/0", "0.0.0.0/1", "172.30.4.0/24", "172.28.0.0/15"].map(network);
        assert_eq!(choose_subnet(&routes, &[Ipv4Addr::new(172, 27, 0, 9)]), Some(network("172.26.0.0/16")));
        assert_eq!(choose_subnet(&["172.16.0.0/12", "10.0.0.0/8", "192.168.0.0/16"].map(network), &[]), None);
    }

    #[test]
    fn a_small_subnet_is_used_up_without_network_gateway_and_broadcast() {
        let subnet = network("192.0.2.8/29");
        let all: BTreeSet<_> = candidates(subnet, gateway_of(subnet), 3).collect();
        let expected: BTreeSet<_> = (10..=14).map(|last| Ipv4Addr::new(192, 0, 2, last)).collect();
        assert_eq!(all, expected);
    }

    #[test]
    fn links_are_called_by_their_address() {
        assert_eq!(link_name(Ipv4Addr::new(172, 30, 0, 2)), "corac1e0002");
        assert_eq!(address_of_link("corac1e0002"), Some(Ipv4Addr::new(172, 30, 0, 2)));
        assert_eq!(address_of_link("coracle0"), None);
        assert_eq!(address_of_link("corac1e00zz"), None);
    }

    #[test]
    fn a_small_subnet_has_eleven_interfaces() {
        let subnet = network("10.0.1.16/28");
        let all: BTreeSet<_> = interface_candidates(subnet, &[subnet], 7).collect();
        assert_eq!(all, (20..=30).map(|last| Ipv4Addr::new(10, 0, 1, last)).collect());
        // Parts of a subnet have no addresses of their own to keep back.
        let parts = ["10.0.1.16/30", "10.0.1.24/30"].map(network);
        let all: BTreeSet<_> = interface_candidates(subnet, &parts, u64::MAX).collect();
        assert_eq!(all, (24..=27).map(|last| Ipv4Addr::new(10, 0, 1, last)).collect());
        assert_eq!(interface_candidates(subnet, &[network("10.0.1.16/30")], 3).count(), 0);
        assert_eq!(address_of_interface_link("eni0a000118"), Some(Ipv4Addr::new(10, 0, 1, 24)));
        assert_eq!(address_of_interface_link("corac1e0002"), None);
    }

    proptest! {
        #[test]
        fn candidates_are_distinct_and_usable(prefix in 20u8..=29, at: u32, start: u64) {
            let subnet = Ipv4Network::new(Ipv4Addr::from(at & !0u32.checked_shr(prefix.into()).unwrap_or(0)), prefix).unwrap();
            let gateway = gateway_of(subnet);
            let all: Vec<_> = candidates(subnet, gateway, start).collect();
            let distinct: BTreeSet<_> = all.iter().copied().collect();
            prop_assert_eq!(all.len(), distinct.len());
            prop_assert_eq!(all.len(), (1usize << (32 - prefix)) - 3);
            for address in all {
                prop_assert!(subnet.contains(address) && address != gateway);
                prop_assert!(address != subnet.network() && address != subnet.broadcast());
                prop_assert_eq!(address_of_link(&link_name(address)), Some(address));
            }
        }
    }
}
