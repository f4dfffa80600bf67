//! What security groups are rendered to, as text, and whether an interpreter of nftables' expressions comes to the verdict
//! that the groups' words mean.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aws::ec2::{
    Peer, PortRange, RuleProtocol, SecurityGroup, SecurityGroupId, SecurityGroupRule, SecurityGroupRuleId, VpcId,
};
use proptest::prelude::*;

use super::expression::{Comparison, Expression, Header, Membership, Meta, Register};
use super::groups::{Chain, Direction, Family, chains, combination, members_name};

const INSTANCE: &str = "i";

fn id(digit: u8) -> SecurityGroupId {
    SecurityGroupId::try_from(format!("sg-{digit:08x}")).unwrap()
}

fn rule(number: u8, protocol: RuleProtocol, peer: Peer) -> SecurityGroupRule {
    let security_group_rule_id = SecurityGroupRuleId::try_from(format!("sgr-{number:08x}")).unwrap();
    SecurityGroupRule { security_group_rule_id, protocol, peer, description: String::new() }
}

fn group(digit: u8, ingress: Vec<SecurityGroupRule>, egress: Vec<SecurityGroupRule>) -> SecurityGroup {
    SecurityGroup {
        group_id: id(digit),
        group_name: format!("group {digit}"),
        description: String::new(),
        vpc_id: VpcId::try_from("vpc-00000001".to_owned()).unwrap(),
        ingress,
        egress,
    }
}

fn cidr4(text: &str) -> Peer {
    Peer::CidrIpv4(text.parse().unwrap())
}

fn cidr6(text: &str) -> Peer {
    Peer::CidrIpv6(text.parse().unwrap())
}

fn text(chain: &Chain) -> String {
    let rules = chain.rules.iter().map(|rule| {
        let expressions: Vec<String> = rule.expressions.iter().map(expression_text).collect();
        format!("  {} # {}\n", expressions.join("; "), rule.comment)
    });
    format!("{}\n{}", chain.name, rules.collect::<String>())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn expression_text(expression: &Expression) -> String {
    match expression {
        Expression::Meta(Meta::FamilyOfPacket, to) => format!("r{} = family", to.0),
        Expression::Meta(Meta::Transport, to) => format!("r{} = protocol", to.0),
        Expression::Payload { header, offset, length, to } => format!("r{} = {header:?}[{offset}+{length}]", to.0),
        Expression::Compare(register, comparison, value) => {
            format!("r{} {comparison:?} {}", register.0, hexadecimal(value))
        }
        Expression::Mask(register, mask) => format!("r{} &= {}", register.0, hexadecimal(mask)),
        Expression::Lookup { key, set, membership } => format!("r{} {membership:?} {set}", key.0),
        Expression::ConntrackBits { mask, any: true, .. } => format!("state has {mask}"),
        Expression::Jump(chain) => format!("jump {chain}"),
        Expression::Accept => "accept".to_owned(),
        Expression::Drop => "drop".to_owned(),
        Expression::Counter => "count".to_owned(),
        other => panic!("groups are not made of {other:?}"),
    }
}

#[test]
fn rules_become_these_expressions() {
    let ports = |from, to| PortRange { from, to };
    let ingress = vec![
        rule(1, RuleProtocol::Tcp(ports(80, 443)), cidr4("192.0.2.0/25")),
        rule(2, RuleProtocol::Udp(ports(53, 53)), cidr6("2001:db8::/61")),
        rule(3, RuleProtocol::All, Peer::ReferencedGroup(id(1))),
        rule(4, RuleProtocol::Icmp { icmp_type: Some(8), code: Some(0) }, cidr4("0.0.0.0/0")),
        rule(5, RuleProtocol::Icmpv6 { icmp_type: None, code: None }, Peer::ReferencedGroup(id(2))),
        rule(6, RuleProtocol::Icmp { icmp_type: None, code: None }, cidr6("::/0")),
        rule(7, RuleProtocol::Tcp(ports(22, 22)), Peer::ReferencedGroup(id(9))),
    ];
    let egress = vec![
        rule(8, RuleProtocol::Tcp(ports(0, 65535)), cidr4("198.51.100.7/32")),
        rule(9, RuleProtocol::Number(50), cidr6("::/0")),
    ];
    let own = group(1, ingress, egress);
    let (first, second) = (id(1), id(2));
    let rendered = chains(INSTANCE, &own, &BTreeSet::from([&first, &second]));
    let shown = rendered.iter().map(text).collect::<String>();
    let expected = "\
in/i/sg-00000001
  r0 = family; r0 Equal 02; r0 = Network[12+4]; r0 &= ffffff80; r0 Equal c0000200; r0 = protocol; r0 Equal 06; r0 = Transport[2+2]; r0 AtLeast 0050; r0 AtMost 01bb; accept # sgr-00000001
  r0 = family; r0 Equal 0a; r0 = Network[8+16]; r0 &= fffffffffffffff80000000000000000; r0 Equal 20010db8000000000000000000000000; r0 = protocol; r0 Equal 11; r0 = Transport[2+2]; r0 Equal 0035; accept # sgr-00000002
  r0 = family; r0 Equal 02; r0 = Network[12+4]; r0 In members4/i/sg-00000001; accept # sgr-00000003
  r0 = family; r0 Equal 0a; r0 = Network[8+16]; r0 In members6/i/sg-00000001; accept # sgr-00000003
  r0 = family; r0 Equal 02; r0 = protocol; r0 Equal 01; r0 = Transport[0+1]; r0 Equal 08; r0 = Transport[1+1]; r0 Equal 00; accept # sgr-00000004
  r0 = family; r0 Equal 0a; r0 = Network[8+16]; r0 In members6/i/sg-00000002; r0 = protocol; r0 Equal 3a; accept # sgr-00000005
out/i/sg-00000001
  r0 = family; r0 Equal 02; r0 = Network[16+4]; r0 Equal c6336407; r0 = protocol; r0 Equal 06; accept # sgr-00000008
  r0 = family; r0 Equal 0a; r0 = protocol; r0 Equal 32; accept # sgr-00000009
";
    assert_eq!(shown, expected);
    let both = combination(INSTANCE, Direction::Ingress, &BTreeSet::from([id(2), id(1)]));
    let behind_the_name = text(&both).split_once('\n').unwrap().1.to_owned();
    let expected = "  jump in/i/sg-00000001 # sg-00000001\n  \
                    jump in/i/sg-00000002 # sg-00000002\n  \
                    count; drop # no rule allows it\n";
    assert_eq!(behind_the_name, expected);
}

/// Names are the same however groups were ordered, and differ between directions, instances and combinations.
#[test]
fn a_combination_has_a_name_of_its_own() {
    let name = |instance, direction, groups: &[u8]| {
        combination(instance, direction, &groups.iter().map(|digit| id(*digit)).collect()).name
    };
    let one = name("i", Direction::Ingress, &[1, 2]);
    assert_eq!(one, name("i", Direction::Ingress, &[2, 1]));
    let others = [
        name("i", Direction::Egress, &[1, 2]),
        name("j", Direction::Ingress, &[1, 2]),
        name("i", Direction::Ingress, &[1]),
        name("i", Direction::Ingress, &[1, 3]),
    ];
    assert!(!others.contains(&one), "{one} {others:?}");
}

/// The first packet of a flow.
#[derive(Clone, Debug)]
struct Packet {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    /// Of TCP and UDP the ports, of ICMP type and code.
    transport: [u8; 4],
}

impl Packet {
    fn network_header(&self) -> Vec<u8> {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                [&[0x45; 12], source.octets().as_slice(), &destination.octets()].concat()
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                [&[0x60; 8], source.octets().as_slice(), &destination.octets()].concat()
            }
            mixed => panic!("{mixed:?}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Accept,
    Drop,
}

/// A chain's verdict, by the letter of its expressions.
fn interpret(chain: &str, all: &[Chain], members: &[(String, Vec<u8>)], packet: &Packet) -> Option<Verdict> {
    let chain = all.iter().find(|known| known.name == chain).expect("a chain that was rendered");
    chain.rules.iter().find_map(|rule| interpret_rule(&rule.expressions, all, members, packet))
}

fn interpret_rule(
    expressions: &[Expression],
    all: &[Chain],
    members: &[(String, Vec<u8>)],
    packet: &Packet,
) -> Option<Verdict> {
    let mut registers = [0_u8; 64];
    let at = |register: Register| register.0 as usize * 4;
    let load = |registers: &mut [u8; 64], register: Register, value: &[u8]| {
        registers[at(register)..][..value.len()].copy_from_slice(value);
    };
    for expression in expressions {
        let goes_on = match expression {
            Expression::Meta(Meta::FamilyOfPacket, to) => {
                let family = if packet.source.is_ipv4() { libc::NFPROTO_IPV4 } else { libc::NFPROTO_IPV6 };
                load(&mut registers, *to, &[family as u8]);
                true
            }
            Expression::Meta(Meta::Transport, to) => {
                load(&mut registers, *to, &[packet.protocol]);
                true
            }
            Expression::Payload { header, offset, length, to } => {
                let header = match header {
                    Header::Network => packet.network_header(),
                    Header::Transport => packet.transport.to_vec(),
                    Header::Link => panic!("groups know nothing of MACs"),
                };
                load(&mut registers, *to, &header[*offset as usize..][..*length as usize]);
                true
            }
            Expression::Mask(register, mask) => {
                let register = &mut registers[at(*register)..];
                mask.iter().zip(register).for_each(|(mask, byte)| *byte &= mask);
                true
            }
            Expression::Compare(register, comparison, value) => {
                let found = &registers[at(*register)..][..value.len()];
                match comparison {
                    Comparison::Equal => found == value,
                    Comparison::NotEqual => found != value,
                    Comparison::AtMost => found <= value.as_slice(),
                    Comparison::AtLeast => found >= value.as_slice(),
                }
            }
            Expression::Lookup { key, set, membership: Membership::In } => {
                members.iter().any(|(of, address)| of == set && registers[at(*key)..][..address.len()] == address[..])
            }
            // The packet begins a flow.
            Expression::ConntrackBits { .. } => false,
            Expression::Counter => true,
            Expression::Accept => return Some(Verdict::Accept),
            Expression::Drop => return Some(Verdict::Drop),
            Expression::Jump(chain) => match interpret(chain, all, members, packet) {
                Some(verdict) => return Some(verdict),
                None => true,
            },
            other => panic!("groups are not made of {other:?}"),
        };
        if !goes_on {
            return None;
        }
    }
    None
}

/// What the words of a rule mean.
fn allows(rule: &SecurityGroupRule, peer: IpAddr, packet: &Packet, members: &[(SecurityGroupId, IpAddr)]) -> bool {
    let by_peer = match (&rule.peer, peer) {
        (Peer::CidrIpv4(network), IpAddr::V4(peer)) => network.contains(peer),
        (Peer::CidrIpv6(network), IpAddr::V6(peer)) => network.contains(peer),
        (Peer::CidrIpv4(_), IpAddr::V6(_)) | (Peer::CidrIpv6(_), IpAddr::V4(_)) => false,
        (Peer::ReferencedGroup(group), peer) => members.contains(&(group.clone(), peer)),
    };
    let port = u16::from_be_bytes([packet.transport[2], packet.transport[3]]);
    let in_range = |range: PortRange| (range.from..=range.to).contains(&port);
    let is_type = |icmp_type: Option<u8>, code: Option<u8>| {
        icmp_type.is_none_or(|wanted| wanted == packet.transport[0])
            && code.is_none_or(|wanted| wanted == packet.transport[1])
    };
    by_peer
        && match rule.protocol {
            RuleProtocol::All => true,
            RuleProtocol::Tcp(range) => packet.protocol == 6 && in_range(range),
            RuleProtocol::Udp(range) => packet.protocol == 17 && in_range(range),
            RuleProtocol::Icmp { icmp_type, code } => {
                peer.is_ipv4() && packet.protocol == 1 && is_type(icmp_type, code)
            }
            RuleProtocol::Icmpv6 { icmp_type, code } => {
                peer.is_ipv6() && packet.protocol == 58 && is_type(icmp_type, code)
            }
            RuleProtocol::Number(number) => packet.protocol == number,
        }
}

/// Few numbers of each kind, so that rules and packets meet, and lie beside each other.
fn any_rule() -> impl Strategy<Value = SecurityGroupRule> {
    let range = (0_u16..6, 0_u16..6).prop_map(|(one, other)| PortRange { from: one.min(other), to: one.max(other) });
    let range = prop_oneof![range, Just(PortRange { from: 0, to: u16::MAX })];
    let kind = (proptest::option::of(0_u8..3), 0_u8..3, any::<bool>())
        .prop_map(|(icmp_type, code, has_code)| (icmp_type, icmp_type.and(has_code.then_some(code))));
    let protocol = prop_oneof![
        Just(RuleProtocol::All),
        range.clone().prop_map(RuleProtocol::Tcp),
        range.prop_map(RuleProtocol::Udp),
        kind.clone().prop_map(|(icmp_type, code)| RuleProtocol::Icmp { icmp_type, code }),
        kind.prop_map(|(icmp_type, code)| RuleProtocol::Icmpv6 { icmp_type, code }),
        prop_oneof![Just(6), Just(17), Just(50)].prop_map(RuleProtocol::Number),
    ];
    let network4 = (0_u8..8, prop_oneof![Just(0_u8), 28_u8..=32])
        .prop_map(|(last, prefix)| ipnetwork::Ipv4Network::new([10, 0, 0, last].into(), prefix).unwrap());
    let network6 = (0_u16..8, prop_oneof![Just(0_u8), 61_u8..=64, 124_u8..=128]).prop_map(|(last, prefix)| {
        ipnetwork::Ipv6Network::new([0xfd00, 0, 0, last, 0, 0, 0, last].into(), prefix).unwrap()
    });
    let peer = prop_oneof![
        network4.prop_map(Peer::CidrIpv4),
        network6.prop_map(Peer::CidrIpv6),
        // Group 4 is configured nowhere.
        (1_u8..=4).prop_map(|digit| Peer::ReferencedGroup(id(digit))),
    ];
    (any::<u8>(), protocol, peer).prop_map(|(number, protocol, peer)| rule(number, protocol, peer))
}

fn any_packet() -> impl Strategy<Value = Packet> {
    let four = || (0_u8..8).prop_map(|last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)));
    let six = || {
        (0_u16..8, 0_u16..8)
            .prop_map(|(subnet, last)| IpAddr::V6(Ipv6Addr::from([0xfd00, 0, 0, subnet, 0, 0, 0, last])))
    };
    let addresses = prop_oneof![(four(), four()), (six(), six())];
    let protocol = prop_oneof![Just(6_u8), Just(17), Just(1), Just(58), Just(50)];
    (addresses, protocol, [0_u8..3, 0..3, 0..1, 0..7]).prop_map(|((source, destination), protocol, transport)| Packet {
        source,
        destination,
        protocol,
        transport,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn rendered_rules_decide_as_the_groups_mean(
        rules in prop::collection::vec((any_rule(), 1_u8..=3, any::<bool>()), 0..12),
        combined in prop::collection::btree_set(1_u8..=3, 1..=3),
        members in prop::collection::vec((1_u8..=3, 0_u8..8, any::<bool>()), 0..8),
        packets in prop::collection::vec(any_packet(), 40),
    ) {
        let of = |digit: u8, ingress: bool| -> Vec<SecurityGroupRule> {
            let own = rules.iter().filter(|(_, group, is_ingress)| *group == digit && *is_ingress == ingress);
            own.map(|(rule, ..)| rule.clone()).collect()
        };
        let configured: Vec<SecurityGroup> = (1..=3).map(|digit| group(digit, of(digit, true), of(digit, false))).collect();
        let ids: BTreeSet<&SecurityGroupId> = configured.iter().map(|group| &group.group_id).collect();
        let members: Vec<(SecurityGroupId, IpAddr)> = members.into_iter().map(|(group, last, is_ipv4)| {
            let six = Ipv6Addr::from([0xfd00, 0, 0, u16::from(last), 0, 0, 0, u16::from(last)]);
            (id(group), if is_ipv4 { Ipv4Addr::new(10, 0, 0, last).into() } else { six.into() })
        }).collect();
        let sets: Vec<(String, Vec<u8>)> = members.iter().map(|(group, address)| match address {
            IpAddr::V4(address) => (members_name(INSTANCE, Family::Ipv4, group), address.octets().to_vec()),
            IpAddr::V6(address) => (members_name(INSTANCE, Family::Ipv6, group), address.octets().to_vec()),
        }).collect();
        let combined: BTreeSet<SecurityGroupId> = combined.into_iter().map(id).collect();
        for direction in [Direction::Ingress, Direction::Egress] {
            let top = combination(INSTANCE, direction, &combined);
            let name = top.name.clone();
            let mut all: Vec<Chain> = configured.iter().flat_map(|group| chains(INSTANCE, group, &ids)).collect();
            all.push(top);
            for packet in &packets {
                let meant = configured.iter().filter(|group| combined.contains(&group.group_id)).any(|group| {
                    let (rules, peer) = match direction {
                        Direction::Ingress => (&group.ingress, packet.source),
                        Direction::Egress => (&group.egress, packet.destination),
                    };
                    rules.iter().any(|rule| allows(rule, peer, packet, &members))
                });
                let expected = if meant { Verdict::Accept } else { Verdict::Drop };
                prop_assert_eq!(interpret(&name, &all, &sets, packet), Some(expected), "{:?} {:?}", direction, packet);
            }
        }
    }
}
