//! VPCs, subnets, security groups and elastic network interfaces
//! (<https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Operations_Amazon_Virtual_Private_Cloud.html>), as a
//! host's own configuration knows them. What Amazon has no word for, because its network is Amazon's (which NIC, which
//! other hosts), stands beside Amazon's members.

pub mod changes;
mod check;
pub mod defaults;
mod error;
mod id;
pub mod input;
mod lookup;
pub mod rule_text;
mod security_group;
mod subnet;

pub use check::{MAX_GROUPS_PER_INTERFACE, MAX_RULES, Problem, check};
pub use defaults::DEFAULT_GROUP;
pub use error::{Code, Error};
pub use id::{BadId, NetworkInterfaceId, SecurityGroupId, SecurityGroupRuleId, SubnetId, VpcId};
pub use security_group::{Peer, PortRange, RuleProtocol, SecurityGroup, SecurityGroupRule};
pub use subnet::{PublicAddresses, Slice, Subnet, WayOut};

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::Ipv4Network;
use serde::{Deserialize, Serialize};

/// The version of `network.json`.
pub const FORMAT: u32 = 1;

/// Everything that is configured of a host's VPC network: what `coracle network` writes and `network` carries out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VpcNetwork {
    #[serde(default)]
    pub format: u32,
    #[serde(default)]
    pub vpcs: Vec<Vpc>,
    #[serde(default)]
    pub subnets: Vec<Subnet>,
    #[serde(default)]
    pub security_groups: Vec<SecurityGroup>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlay: Option<Overlay>,
    /// Interfaces of other hosts' tasks: they are reached through the overlay, and are members of groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remote_interfaces: Vec<RemoteInterface>,
}

/// Shape: <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Vpc.html>. VPCs of one host do not overlap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Vpc {
    pub vpc_id: VpcId,
    pub cidr_block: Ipv4Network,
    #[serde(default)]
    pub is_default: bool,
}

/// Subnets that span hosts: VXLAN between the hosts' own addresses, or WireGuard instead. Nothing is learnt; who has
/// which addresses stands in `Subnet::slices` and `VpcNetwork::remote_interfaces`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Overlay {
    /// Which of `hosts` this one is.
    pub this_host: String,
    pub hosts: Vec<OverlayHost>,
    #[serde(default)]
    pub encryption: Encryption,
    /// Of VXLAN; the same on every host.
    #[serde(default)]
    pub encapsulation: Encapsulation,
    /// The VXLAN network identifier, 1 to 16777215.
    #[serde(default = "default_vni")]
    pub vni: u32,
    /// Of the encapsulated packets; none: 4790 (`Encapsulation::Ip`), 4789 (`Encapsulation::Ethernet`) or 51820
    /// (WireGuard).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Of WireGuard: how often something is sent to each host, in seconds, so that a NAT or firewall between them
    /// keeps the way open. None: only when there is something to send.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive_s: Option<u16>,
}

fn default_vni() -> u32 {
    1
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OverlayHost {
    pub name: String,
    /// Where the other hosts send to: an address of the host's own network.
    pub address: IpAddr,
    /// Of WireGuard, base64 of 32 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encryption {
    #[default]
    None,
    Wireguard,
}

/// What VXLAN carries. Hosts of one overlay have to agree on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encapsulation {
    /// IP packets: VXLAN-GPE (<https://datatracker.ietf.org/doc/html/draft-ietf-nvo3-vxlan-gpe>), 36 bytes over IPv4.
    #[default]
    Ip,
    /// Ethernet frames (RFC 7348), 50 bytes, for hosts whose kernel has no VXLAN-GPE.
    Ethernet,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RemoteInterface {
    pub private_ipv4_address: Ipv4Addr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<Ipv6Addr>,
    /// `OverlayHost::name`.
    pub host: String,
    #[serde(default)]
    pub groups: Vec<SecurityGroupId>,
}
