//! Security groups as nftables rules. Pure: a configured group becomes two chains and two sets, a combination of groups
//! becomes two more chains, and nothing here looks at a host.
//!
//! ```text
//! chain in/<instance>/<group>          one rule for each ingress rule and family: accept
//! chain out/<instance>/<group>         the same of the egress rules
//! set members4/<instance>/<group>      the private addresses of the interfaces in it, members6 the IPv6 ones
//! chain in/<instance>/all-<hash>       jump to each group of the combination; drop
//! ```
//! Interfaces with the same groups share the chain of their combination. What a group's rules allow is accepted, which
//! ends the base chain; so rules of several groups add up, as Amazon has it
//! (<https://docs.aws.amazon.com/vpc/latest/userguide/security-group-rules.html>).

use std::collections::BTreeSet;
use std::fmt;

use aws::ec2::{Peer, PortRange, RuleProtocol, SecurityGroup, SecurityGroupId, SecurityGroupRule};

use super::batch::Batch;
use super::expression::{Comparison, Conntrack, Expression, Header, Membership, Meta, Register, STATE_INVALID};

const ICMP: u8 = libc::IPPROTO_ICMP as u8;
const ICMPV6: u8 = libc::IPPROTO_ICMPV6 as u8;
const TCP: u8 = libc::IPPROTO_TCP as u8;
const UDP: u8 = libc::IPPROTO_UDP as u8;
const DESTINATION_PORT_OFFSET: u32 = 2;
const ICMP_TYPE_OFFSET: u32 = 0;
const ICMP_CODE_OFFSET: u32 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Direction {
    Ingress,
    Egress,
}

pub(super) const DIRECTIONS: [Direction; 2] = [Direction::Ingress, Direction::Egress];

impl fmt::Display for Direction {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Direction::Ingress => "in",
            Direction::Egress => "out",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    /// As sets are named: `members4`.
    pub(super) fn digit(self) -> u8 {
        match self {
            Family::Ipv4 => 4,
            Family::Ipv6 => 6,
        }
    }

    fn number(self) -> u8 {
        match self {
            Family::Ipv4 => libc::NFPROTO_IPV4 as u8,
            Family::Ipv6 => libc::NFPROTO_IPV6 as u8,
        }
    }

    pub(super) fn address_length(self) -> u32 {
        match self {
            Family::Ipv4 => 4,
            Family::Ipv6 => 16,
        }
    }

    fn source_offset(self) -> u32 {
        match self {
            Family::Ipv4 => 12,
            Family::Ipv6 => 8,
        }
    }

    fn destination_offset(self) -> u32 {
        self.source_offset() + self.address_length()
    }
}

pub(super) const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

/// One rule of a chain, and what it is for.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) comment: String,
    pub(super) expressions: Vec<Expression>,
}

impl Rule {
    pub(super) fn new(comment: impl Into<String>, expressions: impl IntoIterator<Item = Expression>) -> Rule {
        Rule { comment: comment.into(), expressions: expressions.into_iter().collect() }
    }
}

/// A chain that others jump to, with all of its rules.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub(super) name: String,
    pub(super) rules: Vec<Rule>,
}

impl Chain {
    /// Makes it, or replaces what it says.
    pub(super) fn write(&self, batch: &mut Batch) {
        batch.add_chain(&self.name);
        self.write_rules(batch);
    }

    pub(super) fn write_rules(&self, batch: &mut Batch) {
        batch.flush_chain(&self.name);
        for rule in &self.rules {
            batch.add_rule(&self.name, &rule.comment, &rule.expressions);
        }
    }
}

pub(super) fn members_name(instance: &str, family: Family, group: &SecurityGroupId) -> String {
    format!("members{}/{instance}/{group}", family.digit())
}

pub(super) fn group_chain_name(instance: &str, direction: Direction, group: &SecurityGroupId) -> String {
    format!("{direction}/{instance}/{group}")
}

/// The chain of a combination. The order in which groups are named means nothing.
pub(super) fn combination_name(instance: &str, direction: Direction, groups: &BTreeSet<SecurityGroupId>) -> String {
    let mut batch = Batch::new("");
    for group in groups {
        batch.add_chain(group.as_str());
    }
    format!("{direction}/{instance}/all-{:016x}", batch.fingerprint())
}

/// What is neither of a flow that was allowed nor allowed by a rule of one of the groups is dropped, and counted.
pub(super) fn combination(instance: &str, direction: Direction, groups: &BTreeSet<SecurityGroupId>) -> Chain {
    let mut rules = Vec::new();
    if direction == Direction::Egress {
        // Its source would not be rewritten: what is of no flow, and begins none, must not leave.
        let invalid = Expression::ConntrackBits { of: Conntrack::State, mask: STATE_INVALID, any: true };
        rules.push(Rule::new("of no flow", [invalid, Expression::Counter, Expression::Drop]));
    }
    rules.extend(groups.iter().map(|group| {
        Rule::new(group.as_str(), [Expression::Jump(group_chain_name(instance, direction, group).into())])
    }));
    rules.push(Rule::new("no rule allows it", [Expression::Counter, Expression::Drop]));
    Chain { name: combination_name(instance, direction, groups), rules }
}

/// The two chains of a group. A reference to a group that is not configured (any more) allows nobody.
pub(super) fn chains(instance: &str, group: &SecurityGroup, configured: &BTreeSet<&SecurityGroupId>) -> [Chain; 2] {
    DIRECTIONS.map(|direction| {
        let rules = match direction {
            Direction::Ingress => &group.ingress,
            Direction::Egress => &group.egress,
        };
        let rendered = rules.iter().flat_map(|rule| rendered(instance, direction, rule, configured));
        Chain { name: group_chain_name(instance, direction, &group.group_id), rules: rendered.collect() }
    })
}

/// One nftables rule for each family that the rule is about.
fn rendered(
    instance: &str,
    direction: Direction,
    rule: &SecurityGroupRule,
    configured: &BTreeSet<&SecurityGroupId>,
) -> Vec<Rule> {
    let about = FAMILIES.into_iter().filter(|family| of_protocol(rule.protocol, *family));
    let each = about.filter_map(|family| {
        let mut expressions = if_family(family).to_vec();
        expressions.extend(if_peer(instance, direction, family, &rule.peer, configured)?);
        expressions.extend(if_protocol(rule.protocol));
        expressions.push(Expression::Accept);
        Some(Rule { comment: rule.security_group_rule_id.to_string(), expressions })
    });
    each.collect()
}

/// ICMP is IPv4's, ICMPv6 is IPv6's.
fn of_protocol(protocol: RuleProtocol, family: Family) -> bool {
    match protocol {
        RuleProtocol::Icmp { .. } => family == Family::Ipv4,
        RuleProtocol::Icmpv6 { .. } => family == Family::Ipv6,
        RuleProtocol::All | RuleProtocol::Tcp(_) | RuleProtocol::Udp(_) | RuleProtocol::Number(_) => true,
    }
}

pub(super) fn if_family(family: Family) -> [Expression; 2] {
    [
        Expression::Meta(Meta::FamilyOfPacket, Register(0)),
        Expression::Compare(Register(0), Comparison::Equal, vec![family.number()]),
    ]
}

pub(super) fn source(family: Family, to: Register) -> Expression {
    let (offset, length) = (family.source_offset(), family.address_length());
    Expression::Payload { header: Header::Network, offset, length, to }
}

pub(super) fn destination(family: Family, to: Register) -> Expression {
    let (offset, length) = (family.destination_offset(), family.address_length());
    Expression::Payload { header: Header::Network, offset, length, to }
}

/// None: nobody is meant, not in this family.
fn if_peer(
    instance: &str,
    direction: Direction,
    family: Family,
    peer: &Peer,
    configured: &BTreeSet<&SecurityGroupId>,
) -> Option<Vec<Expression>> {
    let address = match direction {
        Direction::Ingress => source(family, Register(0)),
        Direction::Egress => destination(family, Register(0)),
    };
    match (peer, family) {
        (Peer::CidrIpv4(network), Family::Ipv4) => {
            Some(if_in_network(address, &network.network().octets(), network.prefix()))
        }
        (Peer::CidrIpv6(network), Family::Ipv6) => {
            Some(if_in_network(address, &network.network().octets(), network.prefix()))
        }
        (Peer::ReferencedGroup(group), _) => configured.contains(group).then(|| {
            let set = members_name(instance, family, group).into();
            vec![address, Expression::Lookup { key: Register(0), set, membership: Membership::In }]
        }),
        (Peer::CidrIpv4(_), Family::Ipv6) | (Peer::CidrIpv6(_), Family::Ipv4) => None,
    }
}

/// The address that `load` puts into the first register, under the network's mask.
pub(super) fn if_in_network(load: Expression, network: &[u8], prefix: u8) -> Vec<Expression> {
    if prefix == 0 {
        return Vec::new();
    }
    let mut mask = vec![0; network.len()];
    for bit in 0..usize::from(prefix) {
        mask[bit / 8] |= 0x80 >> (bit % 8);
    }
    let mut expressions = vec![load];
    if mask.iter().any(|byte| *byte != u8::MAX) {
        expressions.push(Expression::Mask(Register(0), mask));
    }
    expressions.push(Expression::Compare(Register(0), Comparison::Equal, network.to_vec()));
    expressions
}

fn if_protocol(protocol: RuleProtocol) -> Vec<Expression> {
    let is = |number: u8| {
        vec![
            Expression::Meta(Meta::Transport, Register(0)),
            Expression::Compare(Register(0), Comparison::Equal, vec![number]),
        ]
    };
    let field = |offset, value: u8| {
        [
            Expression::Payload { header: Header::Transport, offset, length: 1, to: Register(0) },
            Expression::Compare(Register(0), Comparison::Equal, vec![value]),
        ]
    };
    match protocol {
        RuleProtocol::All => Vec::new(),
        RuleProtocol::Number(number) => is(number),
        RuleProtocol::Tcp(ports) => [is(TCP), if_port(ports)].concat(),
        RuleProtocol::Udp(ports) => [is(UDP), if_port(ports)].concat(),
        RuleProtocol::Icmp { icmp_type, code } | RuleProtocol::Icmpv6 { icmp_type, code } => {
            let number = if matches!(protocol, RuleProtocol::Icmp { .. }) { ICMP } else { ICMPV6 };
            let mut expressions = is(number);
            expressions.extend(icmp_type.into_iter().flat_map(|value| field(ICMP_TYPE_OFFSET, value)));
            expressions.extend(code.into_iter().flat_map(|value| field(ICMP_CODE_OFFSET, value)));
            expressions
        }
    }
}

fn if_port(ports: PortRange) -> Vec<Expression> {
    let PortRange { from, to } = ports;
    if (from, to) == (u16::MIN, u16::MAX) {
        return Vec::new();
    }
    let load =
        Expression::Payload { header: Header::Transport, offset: DESTINATION_PORT_OFFSET, length: 2, to: Register(0) };
    let is = |comparison, port: u16| Expression::Compare(Register(0), comparison, port.to_be_bytes().to_vec());
    if from == to {
        return vec![load, is(Comparison::Equal, from)];
    }
    vec![load, is(Comparison::AtLeast, from), is(Comparison::AtMost, to)]
}
