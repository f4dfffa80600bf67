//! What a host has before anybody has configured anything: one VPC with one subnet and its default security group, as
//! an account has at Amazon's (<https://docs.aws.amazon.com/vpc/latest/userguide/default-vpc-components.html>).

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnetwork::{Ipv4Network, Ipv6Network};

use super::{
    FORMAT, Peer, RuleProtocol, SecurityGroup, SecurityGroupId, SecurityGroupRule, SecurityGroupRuleId, Subnet,
    SubnetId, Vpc, VpcId, VpcNetwork, WayOut,
};

/// Of the group that each VPC has from the start, and that nobody deletes.
pub const DEFAULT_GROUP: &str = "default";
/// "A default VPC … with the IPv4 CIDR block 172.31.0.0/16"; the others are for hosts that have a route there.
const CANDIDATES: [(Ipv4Addr, u8); 6] = [
    (Ipv4Addr::new(172, 31, 0, 0), 16),
    (Ipv4Addr::new(10, 31, 0, 0), 16),
    (Ipv4Addr::new(10, 131, 0, 0), 16),
    (Ipv4Addr::new(172, 25, 0, 0), 16),
    (Ipv4Addr::new(10, 231, 0, 0), 16),
    (Ipv4Addr::new(192, 168, 176, 0), 20),
];
/// "a size /20 default subnet"
const SUBNET_PREFIX: u8 = 20;
/// A shorter route is a way out (a default route, or the halves that VPNs set), not a network that is in use.
const SHORTEST_NETWORK: u8 = 8;

/// Ids for the defaults, out of the caller's dice.
#[derive(Clone, Debug)]
pub struct NewIds {
    pub vpc: VpcId,
    pub subnet: SubnetId,
    pub group: SecurityGroupId,
    pub ingress: SecurityGroupRuleId,
    pub egress: SecurityGroupRuleId,
}

/// The first block for a default VPC that overlaps none of these.
pub fn default_block(in_use: &[Ipv4Network]) -> Option<Ipv4Network> {
    let candidates = CANDIDATES.iter().filter_map(|(address, prefix)| Ipv4Network::new(*address, *prefix).ok());
    let networks: Vec<_> = in_use.iter().filter(|network| network.prefix() >= SHORTEST_NETWORK).collect();
    candidates.into_iter().find(|candidate| !networks.iter().any(|network| network.overlaps(*candidate)))
}

/// A default VPC on this block.
pub fn defaults(block: Ipv4Network, availability_zone: &str, ids: NewIds) -> VpcNetwork {
    let NewIds { vpc, subnet, group, ingress, egress } = ids;
    let subnet_block = Ipv4Network::new(block.network(), block.prefix().max(SUBNET_PREFIX)).unwrap_or(block);
    VpcNetwork {
        format: FORMAT,
        vpcs: vec![Vpc { vpc_id: vpc.clone(), cidr_block: block, is_default: true }],
        subnets: vec![Subnet {
            subnet_id: subnet,
            vpc_id: vpc.clone(),
            cidr_block: subnet_block,
            ipv6_cidr_block: None,
            availability_zone: availability_zone.to_owned(),
            default_for_az: true,
            way_out: WayOut::Masquerade,
            public_addresses: None,
            slices: Vec::new(),
        }],
        security_groups: vec![default_group(vpc, group, ingress, egress)],
        overlay: None,
        remote_interfaces: Vec::new(),
    }
}

/// The default group of a VPC: everything from its own members, everything out
/// (<https://docs.aws.amazon.com/vpc/latest/userguide/default-security-group.html>).
pub fn default_group(
    vpc: VpcId,
    group: SecurityGroupId,
    ingress: SecurityGroupRuleId,
    egress: SecurityGroupRuleId,
) -> SecurityGroup {
    let from_members = SecurityGroupRule {
        security_group_rule_id: ingress,
        protocol: RuleProtocol::All,
        peer: Peer::ReferencedGroup(group.clone()),
        description: String::new(),
    };
    SecurityGroup {
        group_id: group,
        group_name: DEFAULT_GROUP.to_owned(),
        description: "default VPC security group".to_owned(),
        vpc_id: vpc,
        ingress: vec![from_members],
        egress: vec![everything_out(egress)],
    }
}

/// "By default, a security group includes an outbound rule that allows all outbound traffic."
pub fn everything_out(id: SecurityGroupRuleId) -> SecurityGroupRule {
    rule_to(id, Peer::CidrIpv4(all_ipv4()))
}

/// The same for IPv6, which groups get in VPCs that have it.
pub fn everything_out_ipv6(id: SecurityGroupRuleId) -> SecurityGroupRule {
    rule_to(id, Peer::CidrIpv6(all_ipv6()))
}

fn rule_to(id: SecurityGroupRuleId, peer: Peer) -> SecurityGroupRule {
    SecurityGroupRule { security_group_rule_id: id, protocol: RuleProtocol::All, peer, description: String::new() }
}

pub(super) fn all_ipv4() -> Ipv4Network {
    Ipv4Network::new(Ipv4Addr::UNSPECIFIED, 0).expect("0 is a prefix")
}

pub(super) fn all_ipv6() -> Ipv6Network {
    Ipv6Network::new(Ipv6Addr::UNSPECIFIED, 0).expect("0 is a prefix")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Ipv4Network {
        text.parse().expect("a network")
    }

    #[test]
    fn the_default_vpc_keeps_out_of_the_way() {
        let chosen = |in_use: &[&str]| {
            let in_use: Vec<Ipv4Network> = in_use.iter().map(|text| network(text)).collect();
            default_block(&in_use).map(|block| block.to_string())
        };
        assert_eq!(chosen(&["0.0.0.0/0", "192.168.1.0/24"]).as_deref(), Some("172.31.0.0/16"));
        assert_eq!(chosen(&["172.31.9.0/24"]).as_deref(), Some("10.31.0.0/16"));
        assert_eq!(chosen(&["172.16.0.0/12", "10.0.0.0/8"]).as_deref(), Some("192.168.176.0/20"));
        assert_eq!(chosen(&["172.16.0.0/12", "10.0.0.0/8", "192.168.0.0/16"]), None);
    }
}
