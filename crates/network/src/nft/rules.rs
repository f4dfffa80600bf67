//! The rules of coracle's table. They are the same on every host: bridges, their networks and published ports are
//! elements of the sets that the rules look in.
//!
//! ```text
//! set bridges      { ifname }                     our bridges
//! set bridge-nets  { ipv4_addr; interval }        their networks
//! map published    { transport . port : ipv4_addr . port }
//! map published-at { ipv4_addr . transport . port : ipv4_addr . port }
//! ```
//! The rules never touch traffic that neither enters nor leaves one of our bridges, except what claims to be 127/8
//! on a wire.

use super::batch::{BaseChainShape, Batch, Hook, SetShape, Type, interface_name};
use super::expression::{
    ADDRESS_TYPE_LOCAL, Comparison, Conntrack, Expression, Header, Membership, Meta, Register,
    STATE_ESTABLISHED_OR_RELATED, STATUS_DESTINATION_NAT,
};

pub(super) const BRIDGES: &str = "bridges";
pub(super) const BRIDGE_NETS: &str = "bridge-nets";
pub(super) const PUBLISHED: &str = "published";
pub(super) const PUBLISHED_AT: &str = "published-at";
const IPV4: u8 = libc::NFPROTO_IPV4 as u8;
const LOOPBACK_FIRST_OCTET: u8 = 127;
const SOURCE_OFFSET: u32 = 12;
const DESTINATION_OFFSET: u32 = 16;
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
    write_publish(batch);
    write_forward(batch);
    write_masquerade(batch);
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

fn write_publish(batch: &mut Batch) {
    for chain in ["publish-from-outside", "publish-from-host"] {
        let rule = [
            Expression::FibDestinationType(Register(0)),
            Expression::Compare(Register(0), Comparison::Equal, ADDRESS_TYPE_LOCAL.to_ne_bytes().to_vec()),
            Expression::Jump("publish".into()),
        ];
        batch.add_rule(chain, "to an address of this host", &rule);
    }
    let transport_and_port = |first: u32| {
        [
            Expression::Meta(Meta::Transport, Register(first)),
            Expression::Payload { header: Header::Transport, offset: 2, length: 2, to: Register(first + 1) },
        ]
    };
    let destination_nat = Expression::DestinationNat { address: Register(0), port: Register(1) };
    let mut at = if_ipv4().to_vec();
    at.push(payload_address(DESTINATION_OFFSET));
    at.extend(transport_and_port(1));
    at.extend([Expression::Map { key: Register(0), map: PUBLISHED_AT.into(), to: Register(0) }, destination_nat.clone()]);
    batch.add_rule("publish", "at one address", &at);
    let mut anywhere = if_ipv4().to_vec();
    anywhere.extend(transport_and_port(0));
    anywhere.extend([Expression::Map { key: Register(0), map: PUBLISHED.into(), to: Register(0) }, destination_nat]);
    batch.add_rule("publish", "at every address", &anywhere);
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
    let from_bridge_net = || Expression::Lookup { key: Register(0), set: BRIDGE_NETS.into(), membership: Membership::In };
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

    let published = Expression::ConntrackBits { of: Conntrack::Status, mask: STATUS_DESTINATION_NAT, any: true };
    let mut hairpin = vec![published.clone()];
    hairpin.extend(leaves_by(Membership::In));
    hairpin.extend(if_ipv4());
    hairpin.extend([payload_address(SOURCE_OFFSET), from_bridge_net(), Expression::Masquerade]);
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
