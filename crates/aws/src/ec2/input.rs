//! A configuration as a person writes it, in TOML or JSON: names and blocks instead of ids. Applying it twice is
//! applying it once.
//!
//! A VPC and a subnet are known by their blocks, a group by its name in its VPC. What the file does not mention stays as
//! it is, unless the caller prunes; of what it mentions, members that it leaves out get their defaults.

use ipnetwork::{Ipv4Network, Ipv6Network};
use serde::Deserialize;
use serde_json::Value;

use super::check::{Problem, check};
use super::defaults::{default_group, everything_out, everything_out_ipv6};
use super::{
    Code, DEFAULT_GROUP, Error, Overlay, Peer, PublicAddresses, RemoteInterface, RuleProtocol, SecurityGroup,
    SecurityGroupId, SecurityGroupRule, SecurityGroupRuleId, Slice, Subnet, SubnetId, Vpc, VpcId, VpcNetwork, WayOut,
};

/// The largest file that is read.
pub const MAX_FILE_BYTES: usize = 4 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("it has more than {MAX_FILE_BYTES} bytes")]
    TooLarge,
    #[error("{path}: {message}")]
    Member { path: String, message: String },
    #[error("{0}")]
    Syntax(String),
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NetworkFile {
    #[serde(default)]
    pub vpcs: Vec<VpcEntry>,
    #[serde(default)]
    pub subnets: Vec<SubnetEntry>,
    #[serde(default)]
    pub security_groups: Vec<GroupEntry>,
    #[serde(default)]
    pub overlay: Option<Overlay>,
    #[serde(default)]
    pub remote_interfaces: Option<Vec<RemoteEntry>>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VpcEntry {
    pub cidr_block: Ipv4Network,
    #[serde(default)]
    pub is_default: Option<bool>,
    /// Where another host's files have to know it.
    #[serde(default)]
    pub vpc_id: Option<VpcId>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SubnetEntry {
    pub cidr_block: Ipv4Network,
    #[serde(default)]
    pub subnet_id: Option<SubnetId>,
    #[serde(default)]
    pub ipv6_cidr_block: Option<Ipv6Network>,
    #[serde(default)]
    pub availability_zone: Option<String>,
    #[serde(default)]
    pub default_for_az: bool,
    #[serde(default)]
    pub way_out: WayOut,
    #[serde(default)]
    pub public_addresses: Option<PublicAddresses>,
    #[serde(default)]
    pub slices: Vec<Slice>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GroupEntry {
    pub group_name: String,
    #[serde(default)]
    pub group_id: Option<SecurityGroupId>,
    #[serde(default)]
    pub description: Option<String>,
    /// A block or an id; the default VPC, or the only one.
    #[serde(default)]
    pub vpc: Option<String>,
    /// Absent: as it is, and nothing for a new group.
    #[serde(default)]
    pub ingress: Option<Vec<RuleEntry>>,
    /// Absent: as it is, and everything for a new group.
    #[serde(default)]
    pub egress: Option<Vec<RuleEntry>>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RuleEntry {
    #[serde(default)]
    pub protocol: Option<Word>,
    /// `80`, `"8000-8010"`; a type of ICMP.
    #[serde(default)]
    pub ports: Option<Word>,
    #[serde(default)]
    pub cidr: Option<String>,
    /// A group's name or id.
    #[serde(default)]
    pub group: Option<String>,
    #[serde(default)]
    pub description: String,
}

/// People write numbers where a text is wanted.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Word {
    Number(i64),
    Text(String),
}

impl Word {
    fn text(&self) -> String {
        match self {
            Word::Number(number) => number.to_string(),
            Word::Text(text) => text.clone(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RemoteEntry {
    pub private_ipv4_address: std::net::Ipv4Addr,
    #[serde(default)]
    pub ipv6_address: Option<std::net::Ipv6Addr>,
    pub host: String,
    /// Names or ids.
    #[serde(default)]
    pub groups: Vec<String>,
}

/// Reads a file of either kind: JSON begins with a brace.
pub fn read(text: &str) -> Result<NetworkFile, ReadError> {
    if text.len() > MAX_FILE_BYTES {
        return Err(ReadError::TooLarge);
    }
    let value = if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|error| ReadError::Syntax(error.to_string()))?
    } else {
        let parsed = toml::Deserializer::parse(text).map_err(|error| ReadError::Syntax(error.to_string()))?;
        // One way into the types for both: each more would be a hundred kilobytes of code.
        Value::deserialize(parsed).map_err(|error| ReadError::Syntax(error.to_string()))?
    };
    serde_path_to_error::deserialize(value).map_err(|error: serde_path_to_error::Error<serde_json::Error>| {
        ReadError::Member { path: error.path().to_string(), message: error.inner().to_string() }
    })
}

/// What `apply` needs beside the file.
pub struct Surroundings<'a> {
    pub availability_zone: &'a str,
    /// Randomness for ids.
    pub random: &'a mut dyn FnMut() -> u128,
    /// Whether what the file does not mention goes.
    pub prune: bool,
}

fn problem(path: String) -> impl FnOnce(Error) -> Problem {
    move |error| Problem { path, error }
}

/// The configuration after the file was applied.
pub fn apply(network: &VpcNetwork, file: &NetworkFile, around: &mut Surroundings<'_>) -> Result<VpcNetwork, Problem> {
    let mut changed = network.clone();
    make_way_for_defaults(&mut changed, file);
    apply_vpcs(&mut changed, file, around);
    if around.prune {
        prune(&mut changed, file);
    }
    for (at, entry) in file.subnets.iter().enumerate() {
        apply_subnet(&mut changed, entry, around).map_err(problem(format!("subnets[{at}].cidrBlock")))?;
    }
    if file.overlay.is_some() || around.prune {
        changed.overlay = file.overlay.clone();
    }
    // All groups are there before the first rule that names one.
    let mut ids = Vec::new();
    for (at, entry) in file.security_groups.iter().enumerate() {
        let path = |member: &str| format!("securityGroups[{at}].{member}");
        ids.push(apply_group(&mut changed, entry, around).map_err(problem(path("vpc")))?);
    }
    for (at, (entry, id)) in file.security_groups.iter().zip(ids).enumerate() {
        let path = format!("securityGroups[{at}]");
        apply_rules(&mut changed, entry, &id, around, &path)?;
    }
    if let Some(remotes) = &file.remote_interfaces {
        let each = remotes
            .iter()
            .enumerate()
            .map(|(at, entry)| remote(&changed, entry).map_err(problem(format!("remoteInterfaces[{at}].groups"))));
        changed.remote_interfaces = each.collect::<Result<_, _>>()?;
    } else if around.prune {
        changed.remote_interfaces = Vec::new();
    }
    changed.format = super::FORMAT;
    check(&changed)?;
    Ok(changed)
}

/// There is one default VPC, and one default subnet of a zone: who is made it takes it from who has been it.
fn make_way_for_defaults(network: &mut VpcNetwork, file: &NetworkFile) {
    if file.vpcs.iter().any(|entry| entry.is_default == Some(true)) {
        network.vpcs.iter_mut().for_each(|vpc| vpc.is_default = false);
    }
    for entry in file.subnets.iter().filter(|entry| entry.default_for_az) {
        let vpc = network.vpcs.iter().find(|vpc| entry.cidr_block.is_subnet_of(vpc.cidr_block));
        let zone = entry.availability_zone.as_ref();
        for subnet in network.subnets.iter_mut() {
            let same_zone = zone.is_none_or(|zone| subnet.availability_zone == *zone);
            if same_zone && vpc.is_some_and(|vpc| vpc.vpc_id == subnet.vpc_id) {
                subnet.default_for_az = false;
            }
        }
    }
}

fn apply_vpcs(network: &mut VpcNetwork, file: &NetworkFile, around: &mut Surroundings<'_>) {
    for entry in &file.vpcs {
        let found = network.vpcs.iter_mut().find(|vpc| vpc.cidr_block == entry.cidr_block);
        if let Some(vpc) = found {
            vpc.is_default = entry.is_default.unwrap_or(vpc.is_default);
            continue;
        }
        let vpc_id = entry.vpc_id.clone().unwrap_or_else(|| VpcId::from_random((around.random)()));
        let first = network.vpcs.is_empty() && file.vpcs.len() == 1;
        let is_default = entry.is_default.unwrap_or(first);
        network.vpcs.push(Vpc { vpc_id: vpc_id.clone(), cidr_block: entry.cidr_block, is_default });
        let mut rule = || SecurityGroupRuleId::from_random((around.random)());
        let (ingress, egress) = (rule(), rule());
        let group = SecurityGroupId::from_random((around.random)());
        network.security_groups.push(default_group(vpc_id, group, ingress, egress));
    }
}

/// What the file does not mention goes: of VPCs only if it has any, since subnets alone may be all that it is about.
fn prune(network: &mut VpcNetwork, file: &NetworkFile) {
    if !file.vpcs.is_empty() {
        network.vpcs.retain(|vpc| file.vpcs.iter().any(|entry| entry.cidr_block == vpc.cidr_block));
    }
    network.subnets.retain(|subnet| file.subnets.iter().any(|entry| entry.cidr_block == subnet.cidr_block));
    let vpcs: Vec<VpcId> = network.vpcs.iter().map(|vpc| vpc.vpc_id.clone()).collect();
    network.security_groups.retain(|group| {
        let named = file.security_groups.iter().any(|entry| entry.group_name == group.group_name);
        vpcs.contains(&group.vpc_id) && (named || group.group_name == DEFAULT_GROUP)
    });
}

fn apply_subnet(network: &mut VpcNetwork, entry: &SubnetEntry, around: &mut Surroundings<'_>) -> Result<(), Error> {
    let vpc = network.vpcs.iter().find(|vpc| entry.cidr_block.is_subnet_of(vpc.cidr_block));
    let missing = || Error::new(Code::InvalidSubnetRange, format!("The CIDR '{}' is in no VPC.", entry.cidr_block));
    let vpc_id = vpc.ok_or_else(missing)?.vpc_id.clone();
    let found = network.subnets.iter().position(|subnet| subnet.cidr_block == entry.cidr_block);
    let subnet_id = match found {
        Some(at) => network.subnets[at].subnet_id.clone(),
        None => entry.subnet_id.clone().unwrap_or_else(|| SubnetId::from_random((around.random)())),
    };
    let zone = entry.availability_zone.clone().unwrap_or_else(|| around.availability_zone.to_owned());
    let subnet = Subnet {
        subnet_id,
        vpc_id,
        cidr_block: entry.cidr_block,
        ipv6_cidr_block: entry.ipv6_cidr_block,
        availability_zone: zone,
        default_for_az: entry.default_for_az,
        way_out: entry.way_out,
        public_addresses: entry.public_addresses.clone(),
        slices: entry.slices.clone(),
    };
    match found {
        Some(at) => network.subnets[at] = subnet,
        None => network.subnets.push(subnet),
    }
    Ok(())
}

fn apply_group(
    network: &mut VpcNetwork,
    entry: &GroupEntry,
    around: &mut Surroundings<'_>,
) -> Result<SecurityGroupId, Error> {
    let vpc_id = match (&entry.vpc, network.default_vpc(), network.vpcs.as_slice()) {
        (Some(given), _, _) => network.find_vpc(given)?.vpc_id.clone(),
        (None, Some(vpc), _) => vpc.vpc_id.clone(),
        (None, None, [vpc]) => vpc.vpc_id.clone(),
        (None, None, _) => {
            return Err(Error::new(Code::MissingParameter, "which VPC: there is no default one"));
        }
    };
    let own = |group: &&mut SecurityGroup| group.vpc_id == vpc_id && group.group_name == entry.group_name;
    if let Some(group) = network.security_groups.iter_mut().find(own) {
        group.description = entry.description.clone().unwrap_or_else(|| group.description.clone());
        return Ok(group.group_id.clone());
    }
    let has_ipv6 = network.subnets.iter().any(|subnet| subnet.vpc_id == vpc_id && subnet.ipv6_cidr_block.is_some());
    let mut egress = vec![everything_out(SecurityGroupRuleId::from_random((around.random)()))];
    if has_ipv6 {
        egress.push(everything_out_ipv6(SecurityGroupRuleId::from_random((around.random)())));
    }
    let group_id = entry.group_id.clone().unwrap_or_else(|| SecurityGroupId::from_random((around.random)()));
    network.security_groups.push(SecurityGroup {
        group_id: group_id.clone(),
        group_name: entry.group_name.clone(),
        description: entry.description.clone().unwrap_or_default(),
        vpc_id,
        ingress: Vec::new(),
        egress,
    });
    Ok(group_id)
}

fn apply_rules(
    network: &mut VpcNetwork,
    entry: &GroupEntry,
    id: &SecurityGroupId,
    around: &mut Surroundings<'_>,
    path: &str,
) -> Result<(), Problem> {
    let Some(at) = network.security_groups.iter().position(|group| group.group_id == *id) else { return Ok(()) };
    let old = network.security_groups[at].clone();
    let directions = [("ingress", &entry.ingress, &old.ingress), ("egress", &entry.egress, &old.egress)];
    for (name, wanted, known) in directions {
        let Some(wanted) = wanted else { continue };
        let mut rules = Vec::new();
        for (number, rule) in wanted.iter().enumerate() {
            let rule = read_rule(network, &old.vpc_id, rule, known, around);
            rules.push(rule.map_err(problem(format!("{path}.{name}[{number}]")))?);
        }
        let group = &mut network.security_groups[at];
        let own = if name == "ingress" { &mut group.ingress } else { &mut group.egress };
        *own = rules;
    }
    Ok(())
}

/// A rule that the group has already keeps its id.
fn read_rule(
    network: &VpcNetwork,
    vpc: &VpcId,
    entry: &RuleEntry,
    known: &[SecurityGroupRule],
    around: &mut Surroundings<'_>,
) -> Result<SecurityGroupRule, Error> {
    let protocol = entry.protocol.as_ref().map_or_else(|| "all".to_owned(), Word::text);
    let ports = entry.ports.as_ref().map(Word::text);
    let protocol = RuleProtocol::read(&protocol, ports.as_deref())?;
    let peer = match (&entry.cidr, &entry.group) {
        (Some(cidr), None) => Peer::read_cidr(cidr)?,
        (None, Some(group)) => Peer::ReferencedGroup(network.find_group(Some(vpc), group)?.group_id.clone()),
        (Some(_), Some(_)) | (None, None) => {
            return Err(Error::new(Code::InvalidParameterCombination, "a rule has either a cidr or a group"));
        }
    };
    let same = known.iter().find(|rule| (rule.protocol, &rule.peer) == (protocol, &peer));
    let security_group_rule_id = match same {
        Some(rule) => rule.security_group_rule_id.clone(),
        None => SecurityGroupRuleId::from_random((around.random)()),
    };
    Ok(SecurityGroupRule { security_group_rule_id, protocol, peer, description: entry.description.clone() })
}

fn remote(network: &VpcNetwork, entry: &RemoteEntry) -> Result<RemoteInterface, Error> {
    let subnet = network.subnets.iter().find(|subnet| subnet.cidr_block.contains(entry.private_ipv4_address));
    let vpc = subnet.map(|subnet| &subnet.vpc_id);
    let groups = entry.groups.iter().map(|given| network.find_group(vpc, given).map(|group| group.group_id.clone()));
    Ok(RemoteInterface {
        private_ipv4_address: entry.private_ipv4_address,
        ipv6_address: entry.ipv6_address,
        host: entry.host.clone(),
        groups: groups.collect::<Result<_, _>>()?,
    })
}

/// What is different, a line each, for people.
pub fn differences(old: &VpcNetwork, new: &VpcNetwork) -> Vec<String> {
    let mut said = Vec::new();
    compare(&mut said, &old.vpcs, &new.vpcs, |vpc| (vpc.vpc_id.to_string(), format!("VPC {}", vpc.cidr_block)));
    compare(&mut said, &old.subnets, &new.subnets, |subnet| {
        (subnet.subnet_id.to_string(), format!("subnet {}", subnet.cidr_block))
    });
    compare(&mut said, &old.security_groups, &new.security_groups, |group| {
        (group.group_id.to_string(), format!("security group {}", group.group_name))
    });
    if old.overlay != new.overlay {
        said.push("overlay changed".to_owned());
    }
    compare(&mut said, &old.remote_interfaces, &new.remote_interfaces, |remote| {
        let address = remote.private_ipv4_address.to_string();
        (address.clone(), format!("remote interface of {}", remote.host))
    });
    said
}

fn compare<T: PartialEq>(said: &mut Vec<String>, old: &[T], new: &[T], name: impl Fn(&T) -> (String, String)) {
    let find = |list: &[T], id: &str| list.iter().position(|item| name(item).0 == id);
    for item in old {
        let (id, what) = name(item);
        match find(new, &id) {
            None => said.push(format!("{what} ({id}) removed")),
            Some(at) if new[at] != *item => said.push(format!("{what} ({id}) changed")),
            Some(_) => {}
        }
    }
    for item in new {
        let (id, what) = name(item);
        if find(old, &id).is_none() {
            said.push(format!("{what} ({id}) created"));
        }
    }
}
