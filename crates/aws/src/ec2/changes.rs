//! EC2's operations on a host's configuration, each a function of the configuration before to the one after. Ids are
//! arguments; what is not as EC2 allows is refused in EC2's code and words, and changes nothing.

use super::check::{Problem, check, check_group_name, rule_text};
use super::defaults::{all_ipv4, everything_out_ipv6};
use super::{
    Code, DEFAULT_GROUP, Error, Peer, RuleProtocol, SecurityGroup, SecurityGroupId, SecurityGroupRule,
    SecurityGroupRuleId, Subnet, SubnetId, Vpc, VpcNetwork,
};

/// What interfaces of living tasks stand on, here and on other hosts.
#[derive(Clone, Debug, Default)]
pub struct Uses {
    /// Each with who uses it: `task 0123…`.
    pub subnets: Vec<(SubnetId, String)>,
    pub groups: Vec<(SecurityGroupId, String)>,
    /// A task that is being started: it may stand on anything.
    pub starting: Option<String>,
}

impl Uses {
    fn of_subnet(&self, id: &SubnetId) -> Option<&str> {
        let user = self.subnets.iter().find(|(used, _)| used == id).map(|(_, user)| user);
        user.or(self.starting.as_ref()).map(String::as_str)
    }

    fn of_group(&self, id: &SecurityGroupId) -> Option<&str> {
        let user = self.groups.iter().find(|(used, _)| used == id).map(|(_, user)| user);
        user.or(self.starting.as_ref()).map(String::as_str)
    }
}

/// Whether everything that is used is still there after a change.
pub fn keeps_uses(old: &VpcNetwork, new: &VpcNetwork, uses: &Uses) -> Result<(), Error> {
    let gone = |subnet: &&Subnet| !new.subnets.iter().any(|other| other.subnet_id == subnet.subnet_id);
    for subnet in old.subnets.iter().filter(gone) {
        uses.of_subnet(&subnet.subnet_id).map_or(Ok(()), |user| Err(subnet_in_use(&subnet.subnet_id, user)))?;
    }
    let gone = |group: &&SecurityGroup| !new.security_groups.iter().any(|other| other.group_id == group.group_id);
    for group in old.security_groups.iter().filter(gone) {
        uses.of_group(&group.group_id).map_or(Ok(()), |user| Err(group_in_use(&group.group_id, user)))?;
    }
    Ok(())
}

fn subnet_in_use(id: &SubnetId, user: &str) -> Error {
    let what = format!("The subnet '{id}' has dependencies and cannot be deleted: {user} is in it.");
    Error::new(Code::DependencyViolation, what)
}

fn group_in_use(id: &SecurityGroupId, user: &str) -> Error {
    Error::new(Code::DependencyViolation, format!("resource {id} has a dependent object: {user}"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    pub fn rules(self, group: &SecurityGroup) -> &[SecurityGroupRule] {
        match self {
            Direction::Ingress => &group.ingress,
            Direction::Egress => &group.egress,
        }
    }

    fn rules_mut(self, group: &mut SecurityGroup) -> &mut Vec<SecurityGroupRule> {
        match self {
            Direction::Ingress => &mut group.ingress,
            Direction::Egress => &mut group.egress,
        }
    }
}

/// Which rule to revoke.
#[derive(Clone, Debug)]
pub enum Which {
    Id(SecurityGroupRuleId),
    Rule { protocol: RuleProtocol, peer: Peer },
}

fn checked(network: VpcNetwork) -> Result<VpcNetwork, Error> {
    match check(&network) {
        Ok(()) => Ok(network),
        Err(Problem { path: _, error }) => Err(error),
    }
}

/// With its default group, as EC2 makes one.
pub fn create_vpc(network: &VpcNetwork, vpc: Vpc, default_group: SecurityGroup) -> Result<VpcNetwork, Error> {
    let mut changed = network.clone();
    changed.vpcs.push(vpc);
    changed.security_groups.push(default_group);
    checked(changed)
}

/// With its default group.
pub fn delete_vpc(network: &VpcNetwork, given: &str) -> Result<VpcNetwork, Error> {
    let vpc = network.find_vpc(given)?.vpc_id.clone();
    let own = |group: &SecurityGroup| group.vpc_id == vpc && group.group_name != DEFAULT_GROUP;
    if network.subnets.iter().any(|subnet| subnet.vpc_id == vpc) || network.security_groups.iter().any(own) {
        let what = format!("The vpc '{vpc}' has dependencies and cannot be deleted.");
        return Err(Error::new(Code::DependencyViolation, what));
    }
    let mut changed = network.clone();
    changed.vpcs.retain(|each| each.vpc_id != vpc);
    changed.security_groups.retain(|group| group.vpc_id != vpc);
    checked(changed)
}

/// `ipv6_rule` is the id of a rule that a VPC's default group gets with the first IPv6 block.
pub fn create_subnet(
    network: &VpcNetwork,
    subnet: Subnet,
    ipv6_rule: SecurityGroupRuleId,
) -> Result<VpcNetwork, Error> {
    let mut changed = network.clone();
    let group = changed.security_groups.iter_mut();
    let mut group = group.filter(|group| group.vpc_id == subnet.vpc_id && group.group_name == DEFAULT_GROUP);
    if let Some(group) = group.next()
        && subnet.ipv6_cidr_block.is_some()
        && opens_ipv4_alone(&group.egress)
    {
        group.egress.push(everything_out_ipv6(ipv6_rule));
    }
    changed.subnets.push(subnet);
    checked(changed)
}

/// "If you associate an IPv6 CIDR block with your VPC, we automatically add a rule that allows all IPv6 traffic to leave"
/// (<https://docs.aws.amazon.com/vpc/latest/userguide/default-security-group.html>).
fn opens_ipv4_alone(egress: &[SecurityGroupRule]) -> bool {
    let everything = Peer::CidrIpv4(all_ipv4());
    let opens = egress.iter().any(|rule| rule.protocol == RuleProtocol::All && rule.peer == everything);
    opens && !egress.iter().any(|rule| matches!(rule.peer, Peer::CidrIpv6(_)))
}

pub fn delete_subnet(network: &VpcNetwork, given: &str, uses: &Uses) -> Result<VpcNetwork, Error> {
    let subnet = network.find_subnet(given)?;
    let id = subnet.subnet_id.clone();
    let remote =
        network.remote_interfaces.iter().find(|remote| subnet.cidr_block.contains(remote.private_ipv4_address));
    let remote = remote.map(|remote| format!("an interface of host {}", remote.host));
    if let Some(user) = uses.of_subnet(&id).or(remote.as_deref()) {
        return Err(subnet_in_use(&id, user));
    }
    let mut changed = network.clone();
    changed.subnets.retain(|subnet| subnet.subnet_id != id);
    checked(changed)
}

pub fn create_group(network: &VpcNetwork, group: SecurityGroup) -> Result<VpcNetwork, Error> {
    check_group_name(&group.group_name)?;
    if group.group_name == DEFAULT_GROUP {
        let what = format!("Cannot use reserved security group name: {DEFAULT_GROUP}");
        return Err(Error::new(Code::InvalidParameterValue, what));
    }
    let mut changed = network.clone();
    changed.security_groups.push(group);
    checked(changed)
}

pub fn delete_group(network: &VpcNetwork, group: &SecurityGroupId, uses: &Uses) -> Result<VpcNetwork, Error> {
    let found = network.find_group(None, group.as_str())?;
    if found.group_name == DEFAULT_GROUP {
        let what = format!("the specified group: \"{group}\" name: \"{DEFAULT_GROUP}\" cannot be deleted by a user");
        return Err(Error::new(Code::CannotDelete, what));
    }
    let user = uses.of_group(group).map(str::to_owned);
    let remote = network.remote_interfaces.iter().find(|remote| remote.groups.contains(group));
    let remote = remote.map(|remote| format!("an interface of host {}", remote.host));
    let referring = network.security_groups.iter().find(|other| other.group_id != *group && refers(other, group));
    let referring = referring.map(|other| format!("a rule of {} ({})", other.group_id, other.group_name));
    if let Some(who) = user.or(remote).or(referring) {
        return Err(group_in_use(group, &who));
    }
    let mut changed = network.clone();
    changed.security_groups.retain(|other| other.group_id != *group);
    checked(changed)
}

fn refers(group: &SecurityGroup, to: &SecurityGroupId) -> bool {
    let mut rules = group.ingress.iter().chain(&group.egress);
    rules.any(|rule| rule.peer == Peer::ReferencedGroup(to.clone()))
}

/// All of the rules or none.
pub fn authorize(
    network: &VpcNetwork,
    group: &SecurityGroupId,
    direction: Direction,
    rules: Vec<SecurityGroupRule>,
) -> Result<VpcNetwork, Error> {
    let mut changed = network.clone();
    let found = group_mut(&mut changed, group)?;
    direction.rules_mut(found).extend(rules);
    checked(changed)
}

/// All of them or none.
pub fn revoke(
    network: &VpcNetwork,
    group: &SecurityGroupId,
    direction: Direction,
    which: &[Which],
) -> Result<VpcNetwork, Error> {
    let mut changed = network.clone();
    let rules = direction.rules_mut(group_mut(&mut changed, group)?);
    for which in which {
        let at = rules.iter().position(|rule| match which {
            Which::Id(id) => rule.security_group_rule_id == *id,
            Which::Rule { protocol, peer } => (rule.protocol, &rule.peer) == (*protocol, peer),
        });
        let missing = || match which {
            Which::Id(id) => {
                let what = format!("The security group rule ID '{id}' does not exist");
                Error::new(Code::InvalidSecurityGroupRuleIdNotFound, what)
            }
            Which::Rule { protocol, peer } => {
                let wanted = SecurityGroupRule {
                    security_group_rule_id: SecurityGroupRuleId::from_random(0),
                    protocol: *protocol,
                    peer: peer.clone(),
                    description: String::new(),
                };
                let what = "The specified rule does not exist in this security group.";
                Error::new(Code::InvalidPermissionNotFound, format!("{what} ({})", rule_text(&wanted)))
            }
        };
        rules.remove(at.ok_or_else(missing)?);
    }
    checked(changed)
}

fn group_mut<'a>(network: &'a mut VpcNetwork, id: &SecurityGroupId) -> Result<&'a mut SecurityGroup, Error> {
    let missing = || Error::new(Code::InvalidGroupNotFound, format!("The security group '{id}' does not exist"));
    network.security_groups.iter_mut().find(|group| group.group_id == *id).ok_or_else(missing)
}
