//! A security group and its rules
//! (<https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_SecurityGroupRule.html>): a rule allows, and what no
//! rule allows is dropped.

use ipnetwork::{Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

use super::{SecurityGroupId, SecurityGroupRuleId, VpcId};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecurityGroup {
    pub group_id: SecurityGroupId,
    pub group_name: String,
    #[serde(default)]
    pub description: String,
    pub vpc_id: VpcId,
    #[serde(default)]
    pub ingress: Vec<SecurityGroupRule>,
    #[serde(default)]
    pub egress: Vec<SecurityGroupRule>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecurityGroupRule {
    pub security_group_rule_id: SecurityGroupRuleId,
    pub protocol: RuleProtocol,
    /// The source of an ingress rule, the destination of an egress rule.
    pub peer: Peer,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// `ipProtocol` with the ports or types that go with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleProtocol {
    /// `-1`.
    All,
    Tcp(PortRange),
    Udp(PortRange),
    /// None: all of them. A code only with a type.
    #[serde(rename = "icmp")]
    Icmp {
        icmp_type: Option<u8>,
        code: Option<u8>,
    },
    #[serde(rename = "icmpv6")]
    Icmpv6 {
        icmp_type: Option<u8>,
        code: Option<u8>,
    },
    /// Any other protocol, by its number (<https://www.iana.org/assignments/protocol-numbers>), all of it.
    Number(u8),
}

/// First to last, both included; 0 to 65535 are all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRange {
    pub from: u16,
    pub to: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Peer {
    CidrIpv4(Ipv4Network),
    CidrIpv6(Ipv6Network),
    /// Whoever has an interface in this group, by its private addresses.
    ReferencedGroup(SecurityGroupId),
}
