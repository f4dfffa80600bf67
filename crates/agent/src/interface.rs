//! Which interface an awsvpc task gets: what RunTask's `networkConfiguration` says, in a host's own VPC network. Pure.

use std::sync::Arc;

use aws::ec2::{self, NetworkInterfaceId, SecurityGroup, SecurityGroupId, Subnet, VpcNetwork};
use ecs::network_configuration::AwsVpcConfiguration;
use network::InterfaceRequest;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InterfaceError {
    #[error(transparent)]
    Refused(ec2::Error),
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

#[cfg(test)]
mod tests {
    use super::*;
    use aws::ec2::input::{self, Surroundings};

    /// Two VPCs, one with two subnets, and a group in each called web.
    const FILE: &str = r#"
        vpcs = [{ cidrBlock = "10.1.0.0/16", isDefault = true }, { cidrBlock = "10.2.0.0/16" }]
        subnets = [
            { cidrBlock = "10.1.1.0/24" }, { cidrBlock = "10.1.2.0/24", defaultForAz = true }, { cidrBlock = "10.2.1.0/24" }
        ]
        securityGroups = [
            { groupName = "web", ingress = [{ protocol = "tcp", ports = 80, cidr = "0.0.0.0/0" }] },
            { groupName = "web", vpc = "10.2.0.0/16" },
        ]
    "#;

    fn configured() -> Arc<VpcNetwork> {
        let mut next = 0;
        let mut random = || {
            next += 1;
            next
        };
        let mut around = Surroundings { availability_zone: "us-east-1a", random: &mut random, prune: false };
        let file = input::read(FILE).expect("TOML");
        Arc::new(input::apply(&VpcNetwork::default(), &file, &mut around).expect("it is right"))
    }

    fn chosen(subnets: &[&str], groups: &[&str]) -> Result<(String, Vec<String>, Vec<String>), String> {
        let network = configured();
        let texts = |given: &[&str]| given.iter().map(|text| (*text).to_owned()).collect();
        let asked =
            AwsVpcConfiguration { subnets: texts(subnets), security_groups: texts(groups), assign_public_ip: None };
        let choice = choose(&network, &asked, "eu-central-1", NetworkInterfaceId::from_random(9));
        let choice = choice.map_err(|error| error.to_string())?;
        assert_eq!(choice.request.domain, "eu-central-1.compute.internal");
        let subnet = network.find_subnet(choice.request.subnet.as_str()).expect("it is one of them");
        let group = |id: &SecurityGroupId| network.find_group(None, id.as_str()).expect("it is one").group_name.clone();
        let groups = choice.request.security_groups.iter().map(group).collect();
        Ok((subnet.cidr_block.to_string(), groups, choice.said))
    }

    #[test]
    fn nothing_said_means_the_defaults_and_how_to_open_them_is_told() {
        let (subnet, groups, said) = chosen(&[], &[]).expect("there are defaults");
        assert_eq!((subnet.as_str(), groups), ("10.1.2.0/24", vec!["default".to_owned()]));
        assert!(said[0].contains("authorize-ingress --group-id sg-"), "{said:?}");
    }

    #[test]
    fn names_and_blocks_are_found_in_one_vpc() {
        let (subnet, groups, said) = chosen(&["10.1.1.0/24"], &["web", "web"]).expect("both are there");
        assert_eq!((subnet.as_str(), groups.len(), said.len()), ("10.1.1.0/24", 1, 0));
        let (_, _, said) = chosen(&["10.1.1.0/24", "10.1.2.0/24"], &["web"]).expect("both are there");
        assert!(said[0].starts_with("of 2 subnets the task is in the first, subnet-"), "{said:?}");
        let network = configured();
        let of_other = network.security_groups.iter().rfind(|group| group.group_name == "web").expect("there are two");
        let refused = chosen(&["10.1.1.0/24"], &[of_other.group_id.as_str()]).expect_err("another VPC");
        assert!(refused.contains("belong to different networks"), "{refused}");
        assert!(chosen(&["10.1.1.0/24", "10.2.1.0/24"], &[]).expect_err("two VPCs").contains("different VPCs"));
        assert!(chosen(&["10.9.0.0/24"], &[]).expect_err("no such").contains("InvalidSubnetID.NotFound"));
    }
}
