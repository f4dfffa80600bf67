//! What a host's VPCs and subnets mean in the firewall, beside the groups: who may not come in, who may not go out, and
//! who goes out by the host's address. Pure.
//!
//! ```text
//! set vpc4/<instance> { ipv4_addr; interval }     the VPCs            vpc6: their subnets, which alone have IPv6
//! set subnets4/…                                  all subnets
//! set masquerade4/…                               subnets whose way out is the host's address
//! set closed4/…                                   subnets without a way out
//! set unrouted4/…                                 both: nobody outside knows a way in
//! chain guard/<instance>       prerouting raw     a subnet's address comes from an interface or the overlay, no other wire
//! chain closed/<instance>      prerouting mangle  nothing new leaves a closed subnet, nor goes from VPC to VPC
//! chain outside/<instance>     forward            nothing new comes to an unrouted subnet from outside
//! chain way-out/<instance>     postrouting srcnat mapped public addresses, and masquerading
//! ```
//! All of it carries the instance's name: two run directories of one host know of different VPCs.

use std::net::{Ipv4Addr, Ipv6Addr};

use aws::ec2::{Subnet, VpcNetwork, WayOut};

use super::batch::{BaseChainShape, Batch, Element, Hook, SetShape, Type, interface_name};
use super::expression::{
    Comparison, Conntrack, Expression, Membership, Meta, Nat, Register, STATE_ESTABLISHED_OR_RELATED,
    STATUS_DESTINATION_NAT,
};
use super::groups::{Chain, FAMILIES, Family, Rule, destination, if_family, if_in_network, source};
use super::interface_rules::{OVERLAY_LINKS, PUBLIC_OUT, Side, if_interface_of_task};
use super::rules::BRIDGES;

const PRIORITY_GUARD: i32 = -299;
const PRIORITY_CLOSED: i32 = -151;
const PRIORITY_OUTSIDE: i32 = -1;
const PRIORITY_SOURCE_NAT: i32 = 100;

/// First and last, both included, as numbers; IPv4 in the low 32 bits.
type Range = (u128, u128);

pub(super) struct Frame {
    instance: String,
    sets: Vec<(String, Family, Vec<Range>)>,
    chains: Vec<(BaseChain, Chain)>,
}

struct BaseChain {
    kind: &'static str,
    hook: Hook,
    priority: i32,
}

impl Frame {
    pub(super) fn of(instance: &str, network: &VpcNetwork) -> Frame {
        let mut sets = Vec::new();
        for family in FAMILIES {
            let of_subnets = |which: &dyn Fn(&Subnet) -> bool| {
                merged(
                    network.subnets.iter().filter(|subnet| which(subnet)).filter_map(|one| subnet_range(one, family)),
                )
            };
            let vpcs = match family {
                Family::Ipv4 => merged(network.vpcs.iter().map(|vpc| {
                    (u32::from(vpc.cidr_block.network()).into(), u32::from(vpc.cidr_block.broadcast()).into())
                })),
                Family::Ipv6 => of_subnets(&|_| true),
            };
            let all = [
                ("vpc", vpcs),
                ("subnets", of_subnets(&|_| true)),
                ("masquerade", of_subnets(&|subnet| subnet.way_out == WayOut::Masquerade)),
                ("closed", of_subnets(&|subnet| subnet.way_out == WayOut::None)),
                ("unrouted", of_subnets(&|subnet| subnet.way_out != WayOut::Routed)),
            ];
            sets.extend(all.map(|(kind, ranges)| (set_name(kind, family, instance), family, ranges)));
        }
        Frame { instance: instance.to_owned(), sets, chains: chains(instance, network) }
    }

    pub(super) fn key(&self) -> String {
        key(&self.instance)
    }

    /// Makes it all, or replaces what it says.
    pub(super) fn write(&self, batch: &mut Batch) {
        for (name, family, ranges) in &self.sets {
            let key: &[Type] = match family {
                Family::Ipv4 => &[Type::Ipv4Address],
                Family::Ipv6 => &[Type::Ipv6Address],
            };
            batch.add_set(SetShape { name, key, interval: true, data: &[] });
            batch.flush_set(name);
            let elements: Vec<Element> = ranges.iter().flat_map(|range| elements(*family, *range)).collect();
            batch.add_elements(name, &elements);
        }
        for (BaseChain { kind, hook, priority }, chain) in &self.chains {
            batch.add_base_chain(BaseChainShape { name: &chain.name, kind, hook: *hook, priority: *priority });
            chain.write_rules(batch);
        }
    }
}

/// What the frame's marker is called, up to its hash.
pub(super) fn key(instance: &str) -> String {
    format!("frame/{instance}")
}

fn set_name(kind: &str, family: Family, instance: &str) -> String {
    format!("{kind}{}/{instance}", family.digit())
}

fn subnet_range(subnet: &Subnet, family: Family) -> Option<Range> {
    match family {
        Family::Ipv4 => {
            let block = subnet.cidr_block;
            Some((u32::from(block.network()).into(), u32::from(block.broadcast()).into()))
        }
        Family::Ipv6 => {
            let block = subnet.ipv6_cidr_block?;
            Some((block.network().into(), block.broadcast().into()))
        }
    }
}

/// Sorted, and what overlaps or touches in one: a set of intervals takes no other.
pub(super) fn merged(ranges: impl Iterator<Item = Range>) -> Vec<Range> {
    let mut sorted: Vec<Range> = ranges.collect();
    sorted.sort_unstable();
    let mut merged: Vec<Range> = Vec::new();
    for (first, last) in sorted {
        match merged.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = (*end).max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

pub(super) fn key_of(family: Family, number: u128) -> Vec<u8> {
    match family {
        Family::Ipv4 => Ipv4Addr::from(number as u32).octets().to_vec(),
        Family::Ipv6 => Ipv6Addr::from(number).octets().to_vec(),
    }
}

/// Where an interval begins and, unless it reaches the last address of all, the first key behind it.
pub(super) fn elements(family: Family, (first, last): Range) -> Vec<Element> {
    let mut elements = vec![Element { key: key_of(family, first), ..Element::default() }];
    let highest = match family {
        Family::Ipv4 => u32::MAX.into(),
        Family::Ipv6 => u128::MAX,
    };
    if last < highest {
        elements.push(Element { key: key_of(family, last + 1), interval_end: true, ..Element::default() });
    }
    elements
}

fn chains(instance: &str, network: &VpcNetwork) -> Vec<(BaseChain, Chain)> {
    let named = |kind: &str, rules| Chain { name: format!("{kind}/{instance}"), rules };
    let filter = |hook, priority| BaseChain { kind: "filter", hook, priority };
    vec![
        (filter(Hook::Prerouting, PRIORITY_GUARD), named("guard", guard(instance))),
        (filter(Hook::Prerouting, PRIORITY_CLOSED), named("closed", closed(instance, network))),
        (filter(Hook::Forward, PRIORITY_OUTSIDE), named("outside", outside(instance))),
        (
            BaseChain { kind: "nat", hook: Hook::Postrouting, priority: PRIORITY_SOURCE_NAT },
            named("way-out", way_out(instance)),
        ),
    ]
}

fn is_in(kind: &str, family: Family, instance: &str, membership: Membership) -> Expression {
    Expression::Lookup { key: Register(0), set: set_name(kind, family, instance).into(), membership }
}

fn if_link(end: Meta, set: &'static str) -> [Expression; 2] {
    [
        Expression::Meta(end, Register(0)),
        Expression::Lookup { key: Register(0), set: set.into(), membership: Membership::In },
    ]
}

fn accept_if(comment: &str, condition: impl IntoIterator<Item = Expression>) -> Rule {
    Rule::new(comment, condition.into_iter().chain([Expression::Accept]))
}

fn drop_if(comment: &str, condition: impl IntoIterator<Item = Expression>) -> Rule {
    Rule::new(comment, condition.into_iter().chain([Expression::Counter, Expression::Drop]))
}

fn if_established() -> [Expression; 1] {
    [Expression::ConntrackBits { of: Conntrack::State, mask: STATE_ESTABLISHED_OR_RELATED, any: true }]
}

/// A neighbour that claims a task's address would be taken for a member of its groups.
fn guard(instance: &str) -> Vec<Rule> {
    let loopback = [
        Expression::Meta(Meta::InterfaceNameIn, Register(0)),
        Expression::Compare(Register(0), Comparison::Equal, interface_name("lo")),
    ];
    let mut rules = vec![
        accept_if("from the host itself", loopback),
        accept_if("judged by its own interface", if_interface_of_task(Side::In)),
        accept_if("from the overlay", if_link(Meta::InterfaceNameIn, OVERLAY_LINKS)),
    ];
    rules.extend(FAMILIES.map(|family| {
        let condition = if_family(family)
            .into_iter()
            .chain([source(family, Register(0)), is_in("subnets", family, instance, Membership::In)]);
        drop_if("a subnet's address on a foreign wire", condition)
    }));
    rules
}

fn closed(instance: &str, network: &VpcNetwork) -> Vec<Rule> {
    let from_task = || if_interface_of_task(Side::In);
    let mut rules = vec![accept_if("of a flow that was let in", if_established())];
    rules.extend(FAMILIES.map(|family| {
        let condition = from_task().into_iter().chain(if_family(family)).chain([
            source(family, Register(0)),
            is_in("closed", family, instance, Membership::In),
            destination(family, Register(0)),
            is_in("vpc", family, instance, Membership::NotIn),
        ]);
        drop_if("the subnet has no way out", condition)
    }));
    if network.vpcs.len() > 1 {
        rules.extend(network.vpcs.iter().map(|vpc| {
            let (address, prefix) = (vpc.cidr_block.network().octets(), vpc.cidr_block.prefix());
            let mut condition: Vec<Expression> = from_task().into_iter().chain(if_family(Family::Ipv4)).collect();
            condition.extend(if_in_network(source(Family::Ipv4, Register(0)), &address, prefix));
            condition.push(destination(Family::Ipv4, Register(0)));
            condition.push(is_in("vpc", Family::Ipv4, instance, Membership::In));
            condition.extend(if_in_network(destination(Family::Ipv4, Register(0)), &address, prefix));
            // The last of these compares for being in it; what is meant is the opposite.
            if let Some(Expression::Compare(_, comparison, _)) = condition.last_mut() {
                *comparison = Comparison::NotEqual;
            }
            drop_if(&format!("from {} to another VPC", vpc.vpc_id), condition)
        }));
    }
    rules
}

fn outside(instance: &str) -> Vec<Rule> {
    let mapped = [Expression::ConntrackBits { of: Conntrack::Status, mask: STATUS_DESTINATION_NAT, any: true }];
    let mut rules = vec![
        accept_if("of a flow that was let in", if_established()),
        accept_if("to a public address", mapped),
        accept_if("from a task", if_interface_of_task(Side::In)),
        accept_if("from a container of this host", if_link(Meta::InterfaceNameIn, BRIDGES)),
        accept_if("from the overlay", if_link(Meta::InterfaceNameIn, OVERLAY_LINKS)),
    ];
    rules.extend(FAMILIES.map(|family| {
        let condition = if_family(family)
            .into_iter()
            .chain([destination(family, Register(0)), is_in("unrouted", family, instance, Membership::In)]);
        drop_if("from outside to a subnet that no router knows", condition)
    }));
    rules
}

fn way_out(instance: &str) -> Vec<Rule> {
    let mut rules = vec![
        accept_if("to a task", if_interface_of_task(Side::Out)),
        accept_if("to a container of this host", if_link(Meta::InterfaceNameOut, BRIDGES)),
        accept_if("to the overlay", if_link(Meta::InterfaceNameOut, OVERLAY_LINKS)),
    ];
    rules.extend(FAMILIES.map(|family| {
        let condition = if_family(family)
            .into_iter()
            .chain([destination(family, Register(0)), is_in("vpc", family, instance, Membership::In)]);
        accept_if("within the VPC", condition)
    }));
    let mut mapped = if_family(Family::Ipv4).to_vec();
    mapped.push(source(Family::Ipv4, Register(0)));
    mapped.push(Expression::Map { key: Register(0), map: PUBLIC_OUT.into(), to: Register(0) });
    mapped.push(Expression::AddressNat { kind: Nat::Source, address: Register(0) });
    rules.push(Rule::new("by its public address", mapped));
    rules.extend(FAMILIES.map(|family| {
        let condition = if_family(family).into_iter().chain([
            source(family, Register(0)),
            is_in("masquerade", family, instance, Membership::In),
            Expression::Masquerade,
        ]);
        Rule::new("by the host's address", condition)
    }));
    rules
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_interval_that_ends_with_the_last_address_has_no_end() {
        let ends = |family, range| elements(family, range).iter().filter(|element| element.interval_end).count();
        assert_eq!(ends(Family::Ipv4, (0, u32::MAX.into())), 0);
        assert_eq!(ends(Family::Ipv4, (0, u128::from(u32::MAX) - 1)), 1);
        assert_eq!(ends(Family::Ipv6, (0, u128::MAX)), 0);
        assert_eq!(ends(Family::Ipv6, (0, u32::MAX.into())), 1);
    }

    proptest! {
        /// Neither overlapping nor touching, in order, and of the same addresses as before.
        #[test]
        fn merged_ranges_have_the_same_addresses(ranges in prop::collection::vec((0_u128..40, 0_u128..6), 0..8)) {
            let ranges: Vec<Range> = ranges.into_iter().map(|(first, more)| (first, first + more)).collect();
            let merged = merged(ranges.iter().copied());
            for pair in merged.windows(2) {
                prop_assert!(pair[0].1 + 1 < pair[1].0, "{:?}", merged);
            }
            let has = |ranges: &[Range], address| ranges.iter().any(|(first, last)| (*first..=*last).contains(&address));
            for address in 0..60 {
                prop_assert_eq!(has(&ranges, address), has(&merged, address), "{} in {:?}", address, merged);
            }
        }
    }
}
