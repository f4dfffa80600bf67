//! `awsvpc`: one namespace for the whole task, with an elastic network interface of the task's own. Nothing is mapped:
//! a container's port is the task's.
//! (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-networking-awsvpc.html>)

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use aws::ec2::{NetworkInterfaceId, PublicAddresses, SecurityGroupId, Subnet, VpcNetwork};
use ipnetwork::Ipv4Network;

use super::{
    ContainerPlan, ContainerRequest, InterfaceRequest, NetworkPlan, Place, Refusal, Request, container,
    container_ports, links, own_hostname, refuse,
};
use crate::pool;

/// "There's a limit of 5 security groups that can be specified"
/// (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_AwsVpcConfiguration.html>).
const MAX_SECURITY_GROUPS: usize = 5;
/// The low 32 bits of an interface's IPv6 address are its IPv4 address.
const LONGEST_IPV6_PREFIX: u8 = 96;

/// Everything of an interface but its address.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct InterfacePlan {
    pub(crate) id: NetworkInterfaceId,
    pub(crate) network: Arc<VpcNetwork>,
    pub(crate) subnet: Subnet,
    /// Where its address is taken from: the subnet, or the parts of it that this host gives out.
    pub(crate) ranges: Vec<Ipv4Network>,
    pub(crate) groups: Vec<SecurityGroupId>,
    pub(crate) public: Option<PublicAddresses>,
    pub(crate) domain: String,
}

impl InterfacePlan {
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        pool::gateway_of(self.subnet.cidr_block)
    }

    pub(crate) fn ipv6(&self, ipv4: Ipv4Addr) -> Option<Ipv6Addr> {
        let network = u128::from(self.subnet.ipv6_cidr_block?.network());
        Some(Ipv6Addr::from(network | u128::from(u32::from(ipv4))))
    }

    /// `ip-10-0-1-5.eu-central-1.compute.internal`
    /// (<https://docs.aws.amazon.com/vpc/latest/userguide/vpc-dns.html>).
    pub(crate) fn private_dns_name(&self, ipv4: Ipv4Addr) -> String {
        let [a, b, c, d] = ipv4.octets();
        format!("ip-{a}-{b}-{c}-{d}.{}", self.domain)
    }

    /// The addresses an interface may have, each once, from an arbitrary place on.
    pub(crate) fn candidates(&self, start: u64) -> impl Iterator<Item = Ipv4Addr> {
        pool::interface_candidates(self.subnet.cidr_block, &self.ranges, start)
    }
}

pub(super) fn plan(request: &Request) -> Result<NetworkPlan, Refusal> {
    let asked = request.interface.as_ref().ok_or(Refusal::NoInterface)?;
    let interface = interface(asked)?;
    if request.containers.iter().all(|container| container.disable_networking) {
        return Err(Refusal::NobodyOnTheInterface);
    }
    let containers = request.containers.iter().map(place).collect::<Result<_, _>>()?;
    Ok(NetworkPlan { containers, interface: Some(interface) })
}

fn place(asked: &ContainerRequest) -> Result<ContainerPlan, Refusal> {
    links::none(asked)?;
    if asked.disable_networking {
        return container(asked, Place::Loopback, Some(own_hostname(asked)));
    }
    if asked.hostname.is_some() {
        return Err(refuse(asked, "hostname", "in networkMode awsvpc it is that of the task's interface".into()));
    }
    if !asked.extra_hosts.is_empty() {
        return Err(refuse(asked, "extraHosts", "not supported in networkMode awsvpc: leave them out".into()));
    }
    for (at, mapping) in asked.port_mappings.iter().enumerate() {
        let ports = container_ports(asked, at, mapping)?;
        if let Some(port) = mapping.host_port.filter(|port| ![0, ports.first].contains(port)) {
            let wanted =
                format!("in awsvpc mode it is the containerPort, {}, or left out; {port} is another port", ports.first);
            return Err(refuse(asked, &format!("portMappings[{at}].hostPort"), wanted));
        }
    }
    container(asked, Place::Interface, None)
}

fn interface(asked: &InterfaceRequest) -> Result<InterfacePlan, Refusal> {
    let network = &asked.network;
    let no = |field: &str, wanted: String| Refusal::Interface { field: field.to_owned(), wanted };
    let known = network.subnets.iter().find(|subnet| subnet.subnet_id == asked.subnet);
    let subnet = known.ok_or_else(|| {
        let known: Vec<String> = network.subnets.iter().map(|subnet| subnet.subnet_id.to_string()).collect();
        no("subnets[0]", format!("the subnet ID '{}' does not exist; this host has {}", asked.subnet, listed(&known)))
    })?;
    if subnet.ipv6_cidr_block.is_some_and(|block| block.prefix() > LONGEST_IPV6_PREFIX) {
        let wanted = format!("the IPv6 block of {} has no room for IPv4 addresses; give it a /64", subnet.subnet_id);
        return Err(no("subnets[0]", wanted));
    }
    let groups = groups(asked, subnet)?;
    let public = match (asked.assign_public_ip, &subnet.public_addresses) {
        (false, _) => None,
        (true, Some(addresses)) if addresses.first <= addresses.last => Some(addresses.clone()),
        (true, Some(addresses)) => {
            let wanted = format!(
                "the public addresses of {} end, at {}, before they begin, at {}",
                subnet.subnet_id, addresses.last, addresses.first
            );
            return Err(no("assignPublicIp", wanted));
        }
        (true, None) => {
            let wanted = format!("subnet {} has no public addresses to give; use DISABLED", subnet.subnet_id);
            return Err(no("assignPublicIp", wanted));
        }
    };
    let ranges = ranges(network, subnet)?;
    let id = asked.network_interface_id.clone();
    let (network, subnet, domain) = (Arc::clone(network), subnet.clone(), asked.domain.clone());
    Ok(InterfacePlan { id, network, subnet, ranges, groups, public, domain })
}

fn groups(asked: &InterfaceRequest, subnet: &Subnet) -> Result<Vec<SecurityGroupId>, Refusal> {
    let no = |field: String, wanted: String| Refusal::Interface { field, wanted };
    let given = asked.security_groups.len();
    if given == 0 || given > MAX_SECURITY_GROUPS {
        let wanted = format!("an interface has 1 to {MAX_SECURITY_GROUPS} security groups; {given} are given");
        return Err(no("securityGroups".into(), wanted));
    }
    for (at, id) in asked.security_groups.iter().enumerate() {
        let field = format!("securityGroups[{at}]");
        match asked.network.security_groups.iter().find(|group| group.group_id == *id) {
            None => return Err(no(field, format!("the security group '{id}' does not exist"))),
            Some(group) if group.vpc_id != subnet.vpc_id => {
                let wanted =
                    format!("{id} is in {}, and subnet {} in {}", group.vpc_id, subnet.subnet_id, subnet.vpc_id);
                return Err(no(field, wanted));
            }
            Some(_) => {}
        }
    }
    Ok(asked.security_groups.clone())
}

fn ranges(network: &VpcNetwork, subnet: &Subnet) -> Result<Vec<Ipv4Network>, Refusal> {
    if subnet.slices.is_empty() {
        return Ok(vec![subnet.cidr_block]);
    }
    let no = |wanted| Refusal::Interface { field: "subnets[0]".into(), wanted };
    let this_host = network.overlay.as_ref().map_or("", |overlay| &overlay.this_host);
    let ours = subnet.slices.iter().filter(|slice| slice.host == this_host);
    let ranges: Vec<Ipv4Network> = ours.map(|slice| slice.cidr_block).collect();
    if ranges.is_empty() {
        let wanted = format!("no slice of subnet {} belongs to this host ({this_host:?})", subnet.subnet_id);
        return Err(no(wanted));
    }
    let within = |range: &Ipv4Network| {
        subnet.cidr_block.contains(range.network()) && range.prefix() >= subnet.cidr_block.prefix()
    };
    match ranges.iter().find(|range| !within(range)) {
        Some(range) => {
            Err(no(format!("slice {range} does not lie in subnet {}, {}", subnet.subnet_id, subnet.cidr_block)))
        }
        None => Ok(ranges),
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
