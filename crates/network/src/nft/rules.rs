//! The rules of coracle's table. They are the same on every host: bridges, their networks and published ports are
//! elements of the sets that the rules look in.
//!
//! ```text
//! set bridges       { ifname }                     our bridges
//! set bridge-nets   { ipv4_addr; interval }        their networks
//! set bridge-nets6  { ipv6_addr; interval }
//! map published     { transport . port : ipv4_addr . port }
//! map published-at  { ipv4_addr . transport . port : ipv4_addr . port }
//! map published6    { transport . port : ipv6_addr . port }
//! map published6-at { ipv6_addr . transport . port : ipv6_addr . port }
//! ```
//! The rules never touch traffic that neither enters nor leaves one of our bridges, except what claims to be 127/8
//! on a wire.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::batch::{BaseChainShape, Batch, Hook, SetShape, Type, interface_name};
use super::expression::{
    ADDRESS_TYPE_LOCAL, Comparison, Conntrack, Expression, Header, Membership, Meta, Register,
    STATE_ESTABLISHED_OR_RELATED, STATUS_DESTINATION_NAT,
};
use super::interface_rules;

pub(super) const BRIDGES: &str = "bridges";
pub(super) const BRIDGE_NETS: &str = "bridge-nets";
pub(super) const BRIDGE_NETS6: &str = "bridge-nets6";
pub(super) const PUBLISHED: &str = "published";
pub(super) const PUBLISHED_AT: &str = "published-at";
pub(super) const PUBLISHED6: &str = "published6";
pub(super) const PUBLISHED6_AT: &str = "published6-at";
const IPV4: u8 = libc::NFPROTO_IPV4 as u8;
const IPV6: u8 = libc::NFPROTO_IPV6 as u8;
const LOOPBACK_FIRST_OCTET: u8 = 127;
const SOURCE_OFFSET: u32 = 12;
const DESTINATION_OFFSET: u32 = 16;
const SOURCE6_OFFSET: u32 = 8;
const DESTINATION6_OFFSET: u32 = 24;
/// Where tasks call for their metadata and credentials.
const SERVICE_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 170, 2);
const ICMPV6: u8 = libc::IPPROTO_ICMPV6 as u8;
const ROUTER_ADVERTISEMENT: u8 = 134;
const REDIRECT: u8 = 137;
const PRIORITY_RAW: i32 = -300;
const PRIORITY_DESTINATION_NAT: i32 = -100;
const PRIORITY_FILTER: i32 = 0;
const PRIORITY_SOURCE_NAT: i32 = 100;

/// The whole table but its elements; safe to apply to a table that is there, whose elements stay. A set whose shape
/// changes one day needs another name: the kernel keeps the old shape.
pub(super) fn write_rules(batch: &mut Batch) {
    batch.add_table();
    let sets = [
        SetShape { name: BRIDGES, key: &[Type::InterfaceName], interval: false, data: &[] },
        SetShape { name: BRIDGE_NETS, key: &[Type::Ipv4Address], interval: true, data: &[] },
        SetShape {
            name: PUBLISHED,
            key: &[Type::Transport, Type::Port],
            interval: false,
            data: &[Type::Ipv4Address, Type::Port],
        },
        SetShape {
            name: PUBLISHED_AT,
            key: &[Type::Ipv4Address, Type::Transport, Type::Port],
            interval: false,
            data: &[Type::Ipv4Address, Type::Port],
        },
        SetShape { name: BRIDGE_NETS6, key: &[Type::Ipv6Address], interval: true, data: &[] },
        SetShape {
            name: PUBLISHED6,
            key: &[Type::Transport, Type::Port],
            interval: false,
            data: &[Type::Ipv6Address, Type::Port],
        },
        SetShape {
            name: PUBLISHED6_AT,
            key: &[Type::Ipv6Address, Type::Transport, Type::Port],
            interval: false,
            data: &[Type::Ipv6Address, Type::Port],
        },
    ];
    for set in sets {
        batch.add_set(set);
    }
    batch.add_chain("publish");
    let base_chains = [
        ("loopback-guard", "filter", Hook::Prerouting, PRIORITY_RAW),
        ("publish-from-outside", "nat", Hook::Prerouting, PRIORITY_DESTINATION_NAT),
        ("publish-from-host", "nat", Hook::Output, PRIORITY_DESTINATION_NAT),
        ("forward", "filter", Hook::Forward, PRIORITY_FILTER),
        ("masquerade", "nat", Hook::Postrouting, PRIORITY_SOURCE_NAT),
    ];
    for (name, kind, hook, priority) in base_chains {
        batch.add_base_chain(BaseChainShape { name, kind, hook, priority });
    }
    for chain in base_chains.map(|(name, ..)| name).into_iter().chain(["publish"]) {
        batch.flush_chain(chain);
    }
    write_loopback_guard(batch);
    write_service_guard(batch);
    write_router_guard(batch);
    write_publish(batch);
    write_publish6(batch);
    write_forward(batch);
    write_masquerade(batch);
    interface_rules::write(batch);
}

/// `route_localnet` on the bridge lets 127.0.0.1 be the source of a published connection; it also makes the kernel
/// accept 127/8 that comes *from* the bridge (CVE-2020-8558). Neither end of a packet on a wire is ever 127/8.
fn write_loopback_guard(batch: &mut Batch) {
    for (offset, comment) in [(DESTINATION_OFFSET, "to 127/8 from a wire"), (SOURCE_OFFSET, "from 127/8 on a wire")] {
        let mut rule = vec![
            Expression::Meta(Meta::InterfaceNameIn, Register(0)),
            Expression::Compare(Register(0), Comparison::NotEqual, interface_name("lo")),
        ];
        rule.extend(if_loopback_network(offset));
        rule.extend([Expression::Counter, Expression::Drop]);
        batch.add_rule("loopback-guard", comment, &rule);
    }
}

/// What a host offers its tasks at 169.254.170.2 is for processes on this host. A host that has the address is that of
/// tasks in host mode; where it has not, somebody else's agent may translate it, whose packets are let be.
fn write_service_guard(batch: &mut Batch) {
    let mut rule = vec![
        Expression::Meta(Meta::InterfaceNameIn, Register(0)),
        Expression::Compare(Register(0), Comparison::NotEqual, interface_name("lo")),
    ];
    rule.extend(if_ipv4());
    rule.extend([
        payload_address(DESTINATION_OFFSET),
        Expression::Compare(Register(0), Comparison::Equal, SERVICE_ADDRESS.octets().to_vec()),
    ]);
    rule.extend(if_to_this_host());
    rule.extend([Expression::Counter, Expression::Drop]);
    batch.add_rule("loopback-guard", "to 169.254.170.2 from a wire", &rule);
}

/// A container that may send raw packets could tell the host to send everything its way (CVE-2020-13401).
fn write_router_guard(batch: &mut Batch) {
    for (kind, comment) in [(ROUTER_ADVERTISEMENT, "a router in a container"), (REDIRECT, "a redirect by a container")]
    {
        let rule = [
            Expression::Meta(Meta::InterfaceNameIn, Register(0)),
            Expression::Lookup { key: Register(0), set: BRIDGES.into(), membership: Membership::In },
            Expression::Meta(Meta::Transport, Register(0)),
            Expression::Compare(Register(0), Comparison::Equal, vec![ICMPV6]),
            Expression::Payload { header: Header::Transport, offset: 0, length: 1, to: Register(0) },
            Expression::Compare(Register(0), Comparison::Equal, vec![kind]),
            Expression::Counter,
            Expression::Drop,
        ];
        batch.add_rule("loopback-guard", comment, &rule);
    }
}

fn write_publish(batch: &mut Batch) {
    for chain in ["publish-from-outside", "publish-from-host"] {
        let mut rule = if_to_this_host().to_vec();
        rule.push(Expression::Jump("publish".into()));
        batch.add_rule(chain, "to an address of this host", &rule);
    }
    let destination_nat = Expression::DestinationNat { address: Register(0), port: Register(1) };
    let mut at = if_ipv4().to_vec();
    at.push(payload_address(DESTINATION_OFFSET));
    at.extend(transport_and_port(1));
    at.extend([
        Expression::Map { key: Register(0), map: PUBLISHED_AT.into(), to: Register(0) },
        destination_nat.clone(),
    ]);
    batch.add_rule("publish", "at one address", &at);
    let mut anywhere = if_ipv4().to_vec();
    anywhere.extend(transport_and_port(0));
    anywhere.extend([Expression::Map { key: Register(0), map: PUBLISHED.into(), to: Register(0) }, destination_nat]);
    batch.add_rule("publish", "at every address", &anywhere);
}

/// The kernel routes nothing between its loopback and another link in IPv6, so `[::1]` is left to a process.
fn write_publish6(batch: &mut Batch) {
    let destination_nat = Expression::DestinationNat6 { address: Register(0), port: Register(4) };
    let mut at = if_ipv6().to_vec();
    at.push(payload_address6(DESTINATION6_OFFSET));
    at.push(Expression::Compare(Register(0), Comparison::NotEqual, Ipv6Addr::LOCALHOST.octets().to_vec()));
    let mut anywhere = at.clone();
    at.extend(transport_and_port(4));
    at.extend([
        Expression::Map { key: Register(0), map: PUBLISHED6_AT.into(), to: Register(0) },
        destination_nat.clone(),
    ]);
    batch.add_rule("publish", "at one address", &at);
    anywhere.extend(transport_and_port(0));
    anywhere.extend([Expression::Map { key: Register(0), map: PUBLISHED6.into(), to: Register(0) }, destination_nat]);
    batch.add_rule("publish", "at every address", &anywhere);
}

fn transport_and_port(first: u32) -> [Expression; 2] {
    [
        Expression::Meta(Meta::Transport, Register(first)),
        Expression::Payload { header: Header::Transport, offset: 2, length: 2, to: Register(first + 1) },
    ]
}

fn if_to_this_host() -> [Expression; 2] {
    [
        Expression::FibDestinationType(Register(0)),
        Expression::Compare(Register(0), Comparison::Equal, ADDRESS_TYPE_LOCAL.to_ne_bytes().to_vec()),
    ]
}

/// From outside a bridge only what was published is let in: a neighbour that adds a route to a container's address
/// meets the same closed ports as one that does not.
fn write_forward(batch: &mut Batch) {
    let rule = [
        Expression::Meta(Meta::InterfaceNameOut, Register(0)),
        Expression::Lookup { key: Register(0), set: BRIDGES.into(), membership: Membership::In },
        Expression::Meta(Meta::InterfaceNameIn, Register(0)),
        Expression::Lookup { key: Register(0), set: BRIDGES.into(), membership: Membership::NotIn },
        Expression::ConntrackBits { of: Conntrack::State, mask: STATE_ESTABLISHED_OR_RELATED, any: false },
        Expression::ConntrackBits { of: Conntrack::Status, mask: STATUS_DESTINATION_NAT, any: false },
        Expression::Counter,
        Expression::Drop,
    ];
    batch.add_rule("forward", "not published", &rule);
}

fn write_masquerade(batch: &mut Batch) {
    let from_bridge_net =
        || Expression::Lookup { key: Register(0), set: BRIDGE_NETS.into(), membership: Membership::In };
    let leaves_by = |membership| {
        [
            Expression::Meta(Meta::InterfaceNameOut, Register(0)),
            Expression::Lookup { key: Register(0), set: BRIDGES.into(), membership },
        ]
    };
    let mut outbound = if_ipv4().to_vec();
    outbound.extend([payload_address(SOURCE_OFFSET), from_bridge_net()]);
    outbound.extend(leaves_by(Membership::NotIn));
    outbound.push(Expression::Masquerade);
    batch.add_rule("masquerade", "from a container to outside", &outbound);

    let from_bridge_net6 =
        || Expression::Lookup { key: Register(0), set: BRIDGE_NETS6.into(), membership: Membership::In };
    let mut outbound = if_ipv6().to_vec();
    outbound.extend([payload_address6(SOURCE6_OFFSET), from_bridge_net6()]);
    outbound.extend(leaves_by(Membership::NotIn));
    outbound.push(Expression::Masquerade);
    batch.add_rule("masquerade", "from a container to outside", &outbound);

    let published = Expression::ConntrackBits { of: Conntrack::Status, mask: STATUS_DESTINATION_NAT, any: true };
    let mut hairpin = vec![published.clone()];
    hairpin.extend(leaves_by(Membership::In));
    hairpin.extend(if_ipv4());
    hairpin.extend([payload_address(SOURCE_OFFSET), from_bridge_net(), Expression::Masquerade]);
    batch.add_rule("masquerade", "from a container to a published port", &hairpin);

    let mut hairpin = vec![published.clone()];
    hairpin.extend(leaves_by(Membership::In));
    hairpin.extend(if_ipv6());
    hairpin.extend([payload_address6(SOURCE6_OFFSET), from_bridge_net6(), Expression::Masquerade]);
    batch.add_rule("masquerade", "from a container to a published port", &hairpin);

    let mut from_loopback = vec![published];
    from_loopback.extend(leaves_by(Membership::In));
    from_loopback.extend(if_loopback_network(SOURCE_OFFSET));
    from_loopback.push(Expression::Masquerade);
    batch.add_rule("masquerade", "from the host's loopback to a published port", &from_loopback);
}

fn if_ipv4() -> [Expression; 2] {
    [
        Expression::Meta(Meta::FamilyOfPacket, Register(0)),
        Expression::Compare(Register(0), Comparison::Equal, vec![IPV4]),
    ]
}

fn if_ipv6() -> [Expression; 2] {
    [
        Expression::Meta(Meta::FamilyOfPacket, Register(0)),
        Expression::Compare(Register(0), Comparison::Equal, vec![IPV6]),
    ]
}

fn payload_address6(offset: u32) -> Expression {
    Expression::Payload { header: Header::Network, offset, length: 16, to: Register(0) }
}

fn if_loopback_network(offset: u32) -> [Expression; 4] {
    let [family, is_ipv4] = if_ipv4();
    [
        family,
        is_ipv4,
        Expression::Payload { header: Header::Network, offset, length: 1, to: Register(0) },
        Expression::Compare(Register(0), Comparison::Equal, vec![LOOPBACK_FIRST_OCTET]),
    ]
}

fn payload_address(offset: u32) -> Expression {
    Expression::Payload { header: Header::Network, offset, length: 4, to: Register(0) }
}
