//! Which interface an awsvpc task gets: what RunTask's `networkConfiguration` says, in a host's own VPC network. Pure.

use std::sync::Arc;

use aws::ec2::{self, NetworkInterfaceId, SecurityGroup, SecurityGroupId, Subnet, VpcNetwork};
use ecs::network_configuration::AwsVpcConfiguration;
use network::InterfaceRequest;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InterfaceError {
    #[error("{0}")]
    Refused(#[source] ec2::Error),
    #[error("this host has no default subnet; its subnets are {}", subnets.join(", "))]
    NoDefaultSubnet { subnets: Vec<String> },
    #[error("this host has no subnet")]
    NoSubnet,
    #[error("VPC {vpc} has no default security group")]
    NoDefaultGroup { vpc: String },
    #[error("assignPublicIp is ENABLED, but subnet {subnet} has no public addresses")]
    NoPublicAddresses { subnet: String },
}

/// A request, and what a person should know of how it came about.
#[derive(Clone, Debug)]
pub struct Choice {
    pub request: InterfaceRequest,
    pub said: Vec<String>,
}

/// Amazon's private DNS names: `ip-10-0-1-5.ec2.internal` in us-east-1, `ip-10-0-1-5.<region>.compute.internal` elsewhere
/// (<https://docs.aws.amazon.com/vpc/latest/userguide/vpc-dns.html>).
fn domain(region: &str) -> String {
    if region == "us-east-1" { "ec2.internal".to_owned() } else { format!("{region}.compute.internal") }
}

pub fn choose(
    network: &Arc<VpcNetwork>,
    asked: &AwsVpcConfiguration,
    region: &str,
    network_interface_id: NetworkInterfaceId,
) -> Result<Choice, InterfaceError> {
    let mut said = Vec::new();
    let subnet = subnet(network, &asked.subnets, &mut said)?;
    let groups = groups(network, subnet, &asked.security_groups)?;
    let assign_public_ip = asked.assign_public_ip.unwrap_or(false);
    if assign_public_ip && subnet.public_addresses.is_none() {
        return Err(InterfaceError::NoPublicAddresses { subnet: subnet.subnet_id.to_string() });
    }
    let only_members = |group: &&SecurityGroup| {
        let own = ec2::Peer::ReferencedGroup(group.group_id.clone());
        group.ingress.iter().all(|rule| rule.peer == own)
    };
    if groups.iter().all(only_members) {
        let names: Vec<&str> = groups.iter().map(|group| group.group_name.as_str()).collect();
        let first = &groups[0].group_id;
        said.push(format!(
            "security group {} lets nobody in but its own members; to open a port: coracle network security-group \
             authorize-ingress --group-id {first} --protocol tcp --port 80 --cidr 0.0.0.0/0",
            names.join(", ")
        ));
    }
    let request = InterfaceRequest {
        network_interface_id,
        network: Arc::clone(network),
        subnet: subnet.subnet_id.clone(),
        security_groups: groups.iter().map(|group| group.group_id.clone()).collect::<Vec<SecurityGroupId>>(),
        assign_public_ip,
        domain: domain(region),
    };
    Ok(Choice { request, said })
}

fn subnet<'a>(network: &'a VpcNetwork, asked: &[String], said: &mut Vec<String>) -> Result<&'a Subnet, InterfaceError> {
    let found = asked.iter().map(|given| network.find_subnet(given)).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(InterfaceError::Refused)?;
    if let Some(first) = found.first() {
        if let Some(other) = found.iter().find(|subnet| subnet.vpc_id != first.vpc_id) {
            let what = format!("subnets {} and {} are in different VPCs", first.subnet_id, other.subnet_id);
            return Err(InterfaceError::Refused(ec2::Error::new(ec2::Code::InvalidParameterValue, what)));
        }
        if found.len() > 1 {
            said.push(format!("of {} subnets the task is in the first, {}", found.len(), first.subnet_id));
        }
        return Ok(first);
    }
    let in_default = |subnet: &&Subnet| network.default_vpc().is_some_and(|vpc| vpc.vpc_id == subnet.vpc_id);
    let default = network.subnets.iter().filter(in_default).find(|subnet| subnet.default_for_az);
    match (default, network.subnets.as_slice()) {
        (Some(subnet), _) | (None, [subnet]) => Ok(subnet),
        (None, []) => Err(InterfaceError::NoSubnet),
        (None, several) => {
            let subnets = several.iter().map(|subnet| format!("{} ({})", subnet.subnet_id, subnet.cidr_block));
            Err(InterfaceError::NoDefaultSubnet { subnets: subnets.collect() })
        }
    }
}

/// Never empty. "If you don't specify a security group, the default security group for the VPC is used."
fn groups<'a>(
    network: &'a VpcNetwork,
    subnet: &Subnet,
    asked: &[String],
) -> Result<Vec<&'a SecurityGroup>, InterfaceError> {
    let mut groups: Vec<&SecurityGroup> = Vec::new();
    for given in asked {
        let group = network.find_group(Some(&subnet.vpc_id), given).map_err(InterfaceError::Refused)?;
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    if groups.is_empty() {
        let missing = || InterfaceError::NoDefaultGroup { vpc: subnet.vpc_id.to_string() };
        groups.push(network.default_group(&subnet.vpc_id).ok_or_else(missing)?);
    }
    Ok(groups)
}
