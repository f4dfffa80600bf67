//! A subnet (<https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Subnet.html>), and how its interfaces reach
//! what lies outside of the VPC.

use std::net::Ipv4Addr;

use ipnetwork::{Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

use super::{SubnetId, VpcId};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subnet {
    pub subnet_id: SubnetId,
    pub vpc_id: VpcId,
    /// A /16 to a /28; its first four addresses and its last belong to nobody.
    pub cidr_block: Ipv4Network,
    /// A /64; an interface's address is this network with its IPv4 address in the last 32 bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_cidr_block: Option<Ipv6Network>,
    pub availability_zone: String,
    #[serde(default)]
    pub default_for_az: bool,
    #[serde(default)]
    pub way_out: WayOut,
    /// What `assignPublicIp` gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_addresses: Option<PublicAddresses>,
    /// Which part of the subnet is whose, where it spans hosts. Empty: all of it is this host's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<Slice>,
}

/// What becomes of traffic that leaves the VPC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WayOut {
    /// It has the host's address.
    #[default]
    Masquerade,
    /// It keeps its own: the routers outside know the way back.
    Routed,
    /// It is dropped.
    None,
}

/// Addresses of the LAN, each mapped to one interface in both directions, as Amazon maps public addresses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PublicAddresses {
    /// The NIC on that LAN, which will answer for them.
    pub interface: String,
    pub first: Ipv4Addr,
    pub last: Ipv4Addr,
}

/// The part of a subnet whose addresses one host gives out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Slice {
    /// `OverlayHost::name`.
    pub host: String,
    pub cidr_block: Ipv4Network,
}
