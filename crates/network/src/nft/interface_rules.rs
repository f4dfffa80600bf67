//! The rules about tasks' interfaces, the same on every host: interfaces are elements of the sets and maps that the rules
//! look in. Part of the table as `rules` makes it.
//!
//! ```text
//! set eni-source4   { ifname . ether_addr . ipv4_addr }   who an interface is; eni-source6 the same
//! map eni-out       { ifname : verdict }                  the chain of its groups, for what the task sends
//! map eni-in        { ifname : verdict }                  … for what is sent to it
//! map public-in     { ipv4_addr : ipv4_addr }             public to private address
//! map public-out    { ipv4_addr : ipv4_addr }             private to public address
//! set overlay-links { ifname }                            links that other hosts' tasks come in by
//! ```
//! A task's traffic is judged where it comes out of the interface (before its destination can be rewritten) and where it
//! goes into one (after that, and before its source is): what the rules of its groups name is what the task sees. So
//! the host's own traffic to a task is judged too. A link of the group of tasks' interfaces that is in no
//! map is one that is being made or taken away: nothing passes it.

use std::net::Ipv4Addr;

use super::batch::{BaseChainShape, Batch, Hook, SetShape, Type};
use super::expression::{
    Comparison, Conntrack, Expression, Header, Membership, Meta, Nat, Register, STATE_ESTABLISHED_OR_RELATED,
    STATUS_DESTINATION_NAT,
};
use super::groups::{FAMILIES, Family, destination, if_family, source};
use crate::link::INTERFACE_GROUP;

pub(super) const SOURCE4: &str = "eni-source4";
pub(super) const SOURCE6: &str = "eni-source6";
pub(super) const ENI_OUT: &str = "eni-out";
pub(super) const ENI_IN: &str = "eni-in";
pub(super) const PUBLIC_IN: &str = "public-in";
pub(super) const PUBLIC_OUT: &str = "public-out";
pub(super) const OVERLAY_LINKS: &str = "overlay-links";

/// Instance metadata, which security groups do not filter
/// (<https://docs.aws.amazon.com/vpc/latest/userguide/security-group-rules.html>). Where it leads is the host's matter.
const INSTANCE_METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
const ETHERNET_SOURCE_OFFSET: u32 = 6;
const ETHERNET_ADDRESS_LENGTH: u32 = 6;
const PRIORITY_RAW: i32 = -300;
const PRIORITY_MANGLE: i32 = -150;
/// Before published ports (-100) and before masquerading (100).
const PRIORITY_PUBLIC_IN: i32 = -101;
const PRIORITY_PUBLIC_OUT: i32 = 99;
const NAME_REGISTERS: u32 = 4;
const ETHERNET_REGISTERS: u32 = 2;

const BASE_CHAINS: [(&str, &str, Hook, i32); 6] = [
    ("eni-guard", "filter", Hook::Prerouting, PRIORITY_RAW),
    ("eni-egress", "filter", Hook::Prerouting, PRIORITY_MANGLE),
    ("eni-ingress", "filter", Hook::Postrouting, PRIORITY_MANGLE),
    ("public-from-outside", "nat", Hook::Prerouting, PRIORITY_PUBLIC_IN),
    ("public-from-host", "nat", Hook::Output, PRIORITY_PUBLIC_IN),
    ("public-to-task", "nat", Hook::Postrouting, PRIORITY_PUBLIC_OUT),
];

/// Safe to apply to a table that has them.
pub(super) fn write(batch: &mut Batch) {
    use Type::{EthernetAddress, InterfaceName, Ipv4Address, Ipv6Address, Verdict};
    let sets: [(&str, &[Type], &[Type]); 7] = [
        (SOURCE4, &[InterfaceName, EthernetAddress, Ipv4Address], &[]),
        (SOURCE6, &[InterfaceName, EthernetAddress, Ipv6Address], &[]),
        (ENI_OUT, &[InterfaceName], &[Verdict]),
        (ENI_IN, &[InterfaceName], &[Verdict]),
        (PUBLIC_IN, &[Ipv4Address], &[Ipv4Address]),
        (PUBLIC_OUT, &[Ipv4Address], &[Ipv4Address]),
        (OVERLAY_LINKS, &[InterfaceName], &[]),
    ];
    for (name, key, data) in sets {
        batch.add_set(SetShape { name, key, interval: false, data });
    }
    batch.add_chain("eni-source");
    for (name, kind, hook, priority) in BASE_CHAINS {
        batch.add_base_chain(BaseChainShape { name, kind, hook, priority });
    }
    for name in BASE_CHAINS.map(|(name, ..)| name).into_iter().chain(["eni-source"]) {
        batch.flush_chain(name);
    }
    write_guard(batch);
    write_groups(batch);
    write_public(batch);
}

/// Which end of a packet's way through the host.
#[derive(Clone, Copy, Debug)]
pub(super) enum Side {
    In,
    Out,
}

/// Whether the packet comes from, or goes to, a task's interface.
pub(super) fn if_interface_of_task(side: Side) -> Vec<Expression> {
    let group = match side {
        Side::In => Meta::GroupIn,
        Side::Out => Meta::GroupOut,
    };
    vec![
        Expression::Meta(group, Register(0)),
        Expression::Compare(Register(0), Comparison::Equal, INTERFACE_GROUP.to_ne_bytes().to_vec()),
    ]
}

fn write_guard(batch: &mut Batch) {
    let mut of_task = if_interface_of_task(Side::In);
    of_task.push(Expression::Goto("eni-source".into()));
    batch.add_rule("eni-guard", "from a task", &of_task);
    for family in FAMILIES {
        let set = match family {
            Family::Ipv4 => SOURCE4,
            Family::Ipv6 => SOURCE6,
        };
        let mut own = if_family(family).to_vec();
        own.extend([
            Expression::Meta(Meta::InterfaceNameIn, Register(0)),
            Expression::Payload {
                header: Header::Link,
                offset: ETHERNET_SOURCE_OFFSET,
                length: ETHERNET_ADDRESS_LENGTH,
                to: Register(NAME_REGISTERS),
            },
            source(family, Register(NAME_REGISTERS + ETHERNET_REGISTERS)),
            Expression::Lookup { key: Register(0), set: set.into(), membership: Membership::In },
            Expression::Accept,
        ]);
        batch.add_rule("eni-source", "its own MAC and address", &own);
    }
    batch.add_rule("eni-source", "not its own MAC or address", &[Expression::Counter, Expression::Drop]);
}

fn is_address(address: Ipv4Addr) -> Expression {
    Expression::Compare(Register(0), Comparison::Equal, address.octets().to_vec())
}

fn write_groups(batch: &mut Batch) {
    let established = [
        Expression::ConntrackBits { of: Conntrack::State, mask: STATE_ESTABLISHED_OR_RELATED, any: true },
        Expression::Accept,
    ];
    for chain in ["eni-egress", "eni-ingress"] {
        batch.add_rule(chain, "of a flow that was let in", &established);
    }
    let mut metadata = if_family(Family::Ipv4).to_vec();
    metadata.extend([destination(Family::Ipv4, Register(0)), is_address(INSTANCE_METADATA), Expression::Accept]);
    batch.add_rule("eni-egress", "to instance metadata", &metadata);
    for (chain, link, side, map) in [
        ("eni-egress", Meta::InterfaceNameIn, Side::In, ENI_OUT),
        ("eni-ingress", Meta::InterfaceNameOut, Side::Out, ENI_IN),
    ] {
        let rule = [Expression::Meta(link, Register(0)), Expression::VerdictMap { key: Register(0), map: map.into() }];
        batch.add_rule(chain, "as its groups say", &rule);
        let mut unknown = if_interface_of_task(side);
        unknown.extend([Expression::Counter, Expression::Drop]);
        batch.add_rule(chain, "an interface that is being made or taken away", &unknown);
    }
}

/// A mapped address is the NIC's, so it is local to the host: the mapping comes before published ports.
fn write_public(batch: &mut Batch) {
    let mut mapped = if_family(Family::Ipv4).to_vec();
    mapped.extend([
        destination(Family::Ipv4, Register(0)),
        Expression::Map { key: Register(0), map: PUBLIC_IN.into(), to: Register(0) },
        Expression::AddressNat { kind: Nat::Destination, address: Register(0) },
    ]);
    for chain in ["public-from-outside", "public-from-host"] {
        batch.add_rule(chain, "to a public address", &mapped);
    }
    let mut from_task =
        vec![Expression::ConntrackBits { of: Conntrack::Status, mask: STATUS_DESTINATION_NAT, any: true }];
    from_task.extend(if_interface_of_task(Side::Out));
    from_task.extend(if_family(Family::Ipv4));
    from_task.extend([
        source(Family::Ipv4, Register(0)),
        Expression::Map { key: Register(0), map: PUBLIC_OUT.into(), to: Register(0) },
        Expression::AddressNat { kind: Nat::Source, address: Register(0) },
    ]);
    // One interface that calls its own public address would otherwise be called by itself.
    batch.add_rule("public-to-task", "from one public address to another", &from_task);
}
