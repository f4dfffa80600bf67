//! A container's network as the metadata endpoints show it.

use std::net::IpAddr;

use agent_protocol::{ContainerSpec, TaskSpec};
use ecs::task_definition::NetworkMode;
use serde::Serialize;

use super::Version;

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Network {
    pub network_mode: &'static str,
    #[serde(rename = "IPv4Addresses", skip_serializing_if = "Vec::is_empty")]
    pub ipv4_addresses: Vec<String>,
    #[serde(rename = "IPv6Addresses", skip_serializing_if = "Vec::is_empty")]
    pub ipv6_addresses: Vec<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub interface: Option<Interface>,
}

/// Version 4 in awsvpc mode.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Interface {
    pub attachment_index: u32,
    #[serde(rename = "MACAddress")]
    pub mac_address: String,
    #[serde(rename = "IPv4SubnetCIDRBlock")]
    pub ipv4_subnet_cidr_block: String,
    #[serde(rename = "IPv6SubnetCIDRBlock", skip_serializing_if = "Option::is_none")]
    pub ipv6_subnet_cidr_block: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub domain_name_servers: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub domain_name_search_list: Vec<String>,
    #[serde(rename = "PrivateDNSName")]
    pub private_dns_name: String,
    /// With the subnet's prefix length: `10.0.2.1/20`.
    pub subnet_gateway_ipv4_address: String,
}

/// Version 2 has it in awsvpc mode alone.
pub(super) fn of(version: Version, task: &TaskSpec, container: &ContainerSpec) -> Option<Network> {
    let network_mode = match task.network_mode {
        NetworkMode::Awsvpc => "awsvpc",
        NetworkMode::Bridge => "bridge",
        NetworkMode::Host => "host",
        NetworkMode::None => "none",
    };
    let Some(interface) = &task.network_interface else {
        return (version != Version::V2).then(|| Network {
            network_mode,
            ipv4_addresses: container.network.ipv4_address.iter().map(ToString::to_string).collect(),
            ipv6_addresses: container.network.ipv6_address.iter().map(ToString::to_string).collect(),
            interface: None,
        });
    };
    let (domain_name_servers, domain_name_search_list) = resolver(&container.network.resolv_conf);
    let subnet = interface.subnet_ipv4_cidr_block;
    Some(Network {
        network_mode,
        ipv4_addresses: vec![interface.private_ipv4_address.to_string()],
        ipv6_addresses: interface.ipv6_address.iter().map(ToString::to_string).collect(),
        interface: (version == Version::V4).then(|| Interface {
            attachment_index: 0,
            mac_address: interface.mac_address.clone(),
            ipv4_subnet_cidr_block: subnet.to_string(),
            ipv6_subnet_cidr_block: interface.subnet_ipv6_cidr_block.map(|block| block.to_string()),
            domain_name_servers,
            domain_name_search_list,
            private_dns_name: interface.private_dns_name.clone(),
            subnet_gateway_ipv4_address: format!("{}/{}", interface.subnet_gateway, subnet.prefix()),
        }),
    })
}

/// The servers and search domains that the container finds in its resolv.conf (resolv.conf(5)).
fn resolver(resolv_conf: &str) -> (Vec<String>, Vec<String>) {
    let (mut servers, mut search) = (Vec::new(), Vec::new());
    for line in resolv_conf.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => servers.extend(words.next().filter(|word| word.parse::<IpAddr>().is_ok())),
            // The last line counts.
            Some("search" | "domain") => search = words.collect(),
            Some(_) | None => {}
        }
    }
    let owned = |words: Vec<&str>| words.into_iter().map(str::to_owned).collect();
    (owned(servers), owned(search))
}
