//! Whether a configuration is one that can be carried out, with the first thing in the way named in EC2's code and words.

use std::collections::BTreeSet;

use ipnetwork::{Ipv4Network, Ipv6Network};

use super::{
    Code, DEFAULT_GROUP, Encryption, Error, Overlay, Peer, RuleProtocol, SecurityGroup, SecurityGroupRule, Subnet,
    VpcNetwork,
};

/// Amazon's default quotas (<https://docs.aws.amazon.com/vpc/latest/userguide/amazon-vpc-limits.html>): "Inbound or
/// outbound rules per security group".
pub const MAX_RULES: usize = 60;
/// "Security groups per network interface"
pub const MAX_GROUPS_PER_INTERFACE: usize = 5;
/// "Subnets per VPC"
const MAX_SUBNETS_PER_VPC: usize = 200;
/// "VPC security groups per Region"
const MAX_GROUPS: usize = 2500;
/// "VPCs per Region"
const MAX_VPCS: usize = 5;
/// Of a subnet; each may become an address of the host.
const MAX_PUBLIC_ADDRESSES: u32 = 1024;
/// "between a /28 netmask and /16 netmask"
const PREFIXES: std::ops::RangeInclusive<u8> = 16..=28;
const IPV6_PREFIX: u8 = 64;
const MAX_NAME: usize = 255;
/// A link's name without its terminating zero.
const MAX_LINK_NAME: usize = 15;
/// Base64 of 32 bytes.
const KEY_CHARACTERS: usize = 44;
const MAX_VNI: u32 = (1 << 24) - 1;

/// What is wrong, and where: `subnets[2].cidrBlock`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}")]
pub struct Problem {
    pub path: String,
    #[source]
    pub error: Error,
}

type Checked = Result<(), Problem>;

fn refuse(path: impl Into<String>, code: Code, what: impl Into<String>) -> Checked {
    Err(Problem { path: path.into(), error: Error::new(code, what) })
}

pub fn check(network: &VpcNetwork) -> Checked {
    vpcs(network)?;
    for (at, subnet) in network.subnets.iter().enumerate() {
        check_subnet(network, at, subnet)?;
    }
    let mut ids = BTreeSet::new();
    for (at, group) in network.security_groups.iter().enumerate() {
        check_group(network, at, group)?;
        for rule in group.ingress.iter().chain(&group.egress) {
            if !ids.insert(rule.security_group_rule_id.as_str()) {
                let what = format!("the rule ID {} is there twice", rule.security_group_rule_id);
                return refuse(format!("securityGroups[{at}]"), Code::InvalidParameterValue, what);
            }
        }
    }
    if network.security_groups.len() > MAX_GROUPS {
        let what = "The maximum number of security groups has been reached.";
        return refuse("securityGroups", Code::SecurityGroupLimitExceeded, what);
    }
    for (at, vpc) in network.vpcs.iter().enumerate() {
        if network.default_group(&vpc.vpc_id).is_none() {
            let what = format!("VPC '{}' has no security group '{DEFAULT_GROUP}'", vpc.vpc_id);
            return refuse(format!("vpcs[{at}]"), Code::InvalidGroupNotFound, what);
        }
    }
    if let Some(overlay) = &network.overlay {
        check_overlay(overlay)?;
    }
    remote_interfaces(network)
}

fn vpcs(network: &VpcNetwork) -> Checked {
    for (at, vpc) in network.vpcs.iter().enumerate() {
        let block = vpc.cidr_block;
        if !is_block(block) {
            return refuse(format!("vpcs[{at}].cidrBlock"), Code::InvalidVpcRange, invalid_block(&block));
        }
        for other in &network.vpcs[..at] {
            let path = || format!("vpcs[{at}]");
            if other.vpc_id == vpc.vpc_id {
                return refuse(path(), Code::InvalidParameterValue, format!("{} is there twice", vpc.vpc_id));
            }
            if other.cidr_block.overlaps(block) {
                let what = format!("The CIDR '{block}' conflicts with VPC {}, {}", other.vpc_id, other.cidr_block);
                return refuse(path() + ".cidrBlock", Code::InvalidVpcRange, what);
            }
            if other.is_default && vpc.is_default {
                return refuse(path() + ".isDefault", Code::InvalidParameterValue, "one VPC is the default one");
            }
        }
    }
    if network.vpcs.len() > MAX_VPCS {
        return refuse("vpcs", Code::VpcLimitExceeded, "The maximum number of VPCs has been reached.");
    }
    Ok(())
}

/// From its first address on, of a size that Amazon has, and nobody else's by its meaning.
fn is_block(block: Ipv4Network) -> bool {
    let address = block.ip();
    let special =
        address.is_loopback() || address.is_multicast() || address.is_link_local() || address.octets()[0] == 0;
    block.network() == address && PREFIXES.contains(&block.prefix()) && !special && address.octets()[0] < 240
}

fn invalid_block(block: &Ipv4Network) -> String {
    format!("The CIDR '{block}' is invalid: it is a network from its first address on, of /16 to /28.")
}

fn check_subnet(network: &VpcNetwork, at: usize, subnet: &Subnet) -> Checked {
    let path = |member: &str| format!("subnets[{at}].{member}");
    let block = subnet.cidr_block;
    let Some(vpc) = network.vpcs.iter().find(|vpc| vpc.vpc_id == subnet.vpc_id) else {
        let what = format!("The vpc ID '{}' does not exist", subnet.vpc_id);
        return refuse(path("vpcId"), Code::InvalidVpcIdNotFound, what);
    };
    if !is_block(block) {
        return refuse(path("cidrBlock"), Code::InvalidSubnetRange, invalid_block(&block));
    }
    if !block.is_subnet_of(vpc.cidr_block) {
        let what = format!("The CIDR '{block}' is invalid: VPC {} is {}.", vpc.vpc_id, vpc.cidr_block);
        return refuse(path("cidrBlock"), Code::InvalidSubnetRange, what);
    }
    if subnet.availability_zone.is_empty() || subnet.availability_zone.len() > MAX_NAME {
        let what = format!("Value ({}) for parameter availabilityZone is invalid.", subnet.availability_zone);
        return refuse(path("availabilityZone"), Code::InvalidParameterValue, what);
    }
    let same_vpc = network.subnets.iter().filter(|other| other.vpc_id == subnet.vpc_id);
    if same_vpc.count() > MAX_SUBNETS_PER_VPC {
        return refuse(path("vpcId"), Code::SubnetLimitExceeded, "The maximum number of subnets has been reached.");
    }
    for other in &network.subnets[..at] {
        if other.subnet_id == subnet.subnet_id {
            let what = format!("{} is there twice", subnet.subnet_id);
            return refuse(path("subnetId"), Code::InvalidParameterValue, what);
        }
        if other.cidr_block.overlaps(block) {
            let what = format!("The CIDR '{block}' conflicts with another subnet");
            return refuse(path("cidrBlock"), Code::InvalidSubnetConflict, what);
        }
        if other.ipv6_cidr_block.is_some() && other.ipv6_cidr_block == subnet.ipv6_cidr_block {
            return refuse(
                path("ipv6CidrBlock"),
                Code::InvalidSubnetConflict,
                "another subnet has this IPv6 CIDR block",
            );
        }
        if other.vpc_id == subnet.vpc_id
            && other.availability_zone == subnet.availability_zone
            && other.default_for_az
            && subnet.default_for_az
        {
            let what = format!("{} is the default subnet of its availability zone", other.subnet_id);
            return refuse(path("defaultForAz"), Code::InvalidSubnetConflict, what);
        }
    }
    if let Some(ipv6) = subnet.ipv6_cidr_block {
        check_ipv6(ipv6).or_else(|what| refuse(path("ipv6CidrBlock"), Code::InvalidSubnetRange, what))?;
    }
    check_public_addresses(network, at, subnet)?;
    check_slices(network, at, subnet)
}

fn check_ipv6(block: Ipv6Network) -> Result<(), String> {
    let address = block.ip();
    let special = address.is_loopback() || address.is_multicast() || address.is_unspecified();
    let link_local = address.segments()[0] & 0xffc0 == 0xfe80;
    if block.network() == address && block.prefix() == IPV6_PREFIX && !special && !link_local {
        return Ok(());
    }
    Err(format!(
        "The IPv6 CIDR '{block}' is invalid: it is a /{IPV6_PREFIX} from its first address on, such as fd00:1::/64."
    ))
}

fn check_public_addresses(network: &VpcNetwork, at: usize, subnet: &Subnet) -> Checked {
    let Some(addresses) = &subnet.public_addresses else { return Ok(()) };
    let path = |member: &str| format!("subnets[{at}].publicAddresses.{member}");
    if !is_link_name(&addresses.interface) {
        let what = format!("{:?} is not a network interface's name", addresses.interface);
        return refuse(path("interface"), Code::InvalidParameterValue, what);
    }
    let (first, last) = (u32::from(addresses.first), u32::from(addresses.last));
    if first > last || last - first >= MAX_PUBLIC_ADDRESSES {
        let what = format!("{} to {} are not 1 to {MAX_PUBLIC_ADDRESSES} addresses", addresses.first, addresses.last);
        return refuse(path("last"), Code::InvalidParameterValue, what);
    }
    if let Some(vpc) = network
        .vpcs
        .iter()
        .find(|vpc| first <= u32::from(vpc.cidr_block.broadcast()) && u32::from(vpc.cidr_block.network()) <= last)
    {
        let what = format!("public addresses are not addresses of VPC {}", vpc.vpc_id);
        return refuse(path("first"), Code::InvalidParameterValue, what);
    }
    for other in network.subnets[..at].iter().filter_map(|other| other.public_addresses.as_ref()) {
        if first <= u32::from(other.last) && u32::from(other.first) <= last {
            return refuse(
                path("first"),
                Code::InvalidSubnetConflict,
                "another subnet gives out some of these addresses",
            );
        }
    }
    Ok(())
}

fn is_link_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_graphic() && byte != b'/' && byte != b':';
    !name.is_empty() && name.len() <= MAX_LINK_NAME && name != "." && name != ".." && name.bytes().all(allowed)
}

fn check_slices(network: &VpcNetwork, at: usize, subnet: &Subnet) -> Checked {
    for (number, slice) in subnet.slices.iter().enumerate() {
        let path = |member: &str| format!("subnets[{at}].slices[{number}].{member}");
        let block = slice.cidr_block;
        if block.network() != block.ip() || !block.is_subnet_of(subnet.cidr_block) {
            let what = format!("The CIDR '{block}' is invalid: it is no part of {}", subnet.cidr_block);
            return refuse(path("cidrBlock"), Code::InvalidSubnetRange, what);
        }
        if subnet.slices[..number].iter().any(|other| other.cidr_block.overlaps(block)) {
            return refuse(path("cidrBlock"), Code::InvalidSubnetConflict, format!("'{block}' overlaps another slice"));
        }
        let known = network.overlay.iter().flat_map(|overlay| &overlay.hosts).any(|host| host.name == slice.host);
        if !known {
            let what = format!("the overlay has no host {:?}", slice.host);
            return refuse(path("host"), Code::InvalidParameterValue, what);
        }
    }
    Ok(())
}

/// "Names and descriptions are limited to the following characters: a-z, A-Z, 0-9, spaces, and ._-:/()#,@[]+=&;{}!$*."
fn is_text(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b" ._-:/()#,@[]+=&;{}!$*".contains(&byte);
    text.len() <= MAX_NAME && text.bytes().all(allowed)
}

pub(super) fn check_group_name(name: &str) -> Result<(), Error> {
    let wrong = |what: String| Err(Error::new(Code::InvalidParameterValue, what));
    if name.is_empty() || !is_text(name) || name.trim() != name {
        return wrong(format!(
            "Value ({name}) for parameter GroupName is invalid. Character sets beyond ASCII are not supported."
        ));
    }
    if name.starts_with("sg-") {
        return wrong(format!("Invalid value '{name}' for groupName. Group names may not be in the format sg-*."));
    }
    Ok(())
}

fn check_group(network: &VpcNetwork, at: usize, group: &SecurityGroup) -> Checked {
    let path = |member: &str| format!("securityGroups[{at}].{member}");
    if !network.vpcs.iter().any(|vpc| vpc.vpc_id == group.vpc_id) {
        let what = format!("The vpc ID '{}' does not exist", group.vpc_id);
        return refuse(path("vpcId"), Code::InvalidVpcIdNotFound, what);
    }
    check_group_name(&group.group_name).map_err(|error| Problem { path: path("groupName"), error })?;
    if !is_text(&group.description) {
        let what = format!("Value ({}) for parameter GroupDescription is invalid.", group.description);
        return refuse(path("description"), Code::InvalidParameterValue, what);
    }
    for other in &network.security_groups[..at] {
        if other.group_id == group.group_id {
            let what = format!("The security group '{}' already exists", group.group_id);
            return refuse(path("groupId"), Code::InvalidGroupDuplicate, what);
        }
        if other.vpc_id == group.vpc_id && other.group_name == group.group_name {
            let (name, vpc) = (&group.group_name, &group.vpc_id);
            let what = format!("The security group '{name}' already exists for VPC '{vpc}'");
            return refuse(path("groupName"), Code::InvalidGroupDuplicate, what);
        }
    }
    check_rules(network, group, &group.ingress, &path("ingress"))?;
    check_rules(network, group, &group.egress, &path("egress"))
}

fn check_rules(network: &VpcNetwork, group: &SecurityGroup, rules: &[SecurityGroupRule], path: &str) -> Checked {
    if rules.len() > MAX_RULES {
        let what = format!("The maximum number of rules per security group has been reached: {MAX_RULES} a direction.");
        return refuse(path, Code::RulesPerSecurityGroupLimitExceeded, what);
    }
    for (at, rule) in rules.iter().enumerate() {
        let failed = |error| Problem { path: format!("{path}[{at}]"), error };
        check_rule(network, group, rule).map_err(failed)?;
        if rules[..at].iter().any(|other| (other.protocol, &other.peer) == (rule.protocol, &rule.peer)) {
            let what = format!("the specified rule \"{}\" already exists", rule_text(rule));
            return Err(failed(Error::new(Code::InvalidPermissionDuplicate, what)));
        }
    }
    Ok(())
}

/// `peer: 0.0.0.0/0, TCP, from port: 80, to port: 80, ALLOW`, as EC2 has it.
pub(super) fn rule_text(rule: &SecurityGroupRule) -> String {
    let ports = rule.protocol.from_and_to();
    let ports = ports.map_or_else(String::new, |(from, to)| format!("from port: {from}, to port: {to}, "));
    let protocol = match rule.protocol {
        RuleProtocol::All => "ALL".to_owned(),
        protocol => protocol.name().to_uppercase(),
    };
    format!("peer: {}, {protocol}, {ports}ALLOW", rule.peer)
}

fn check_rule(network: &VpcNetwork, group: &SecurityGroup, rule: &SecurityGroupRule) -> Result<(), Error> {
    let wrong = |what: String| Err(Error::new(Code::InvalidParameterValue, what));
    if !is_text(&rule.description) {
        return wrong(format!("Invalid rule description '{}'", rule.description));
    }
    match rule.protocol {
        RuleProtocol::Tcp(ports) | RuleProtocol::Udp(ports) if ports.from > ports.to => {
            return wrong(format!("Invalid TCP/UDP port range ({}:{})", ports.from, ports.to));
        }
        RuleProtocol::Icmp { icmp_type: None, code: Some(code) }
        | RuleProtocol::Icmpv6 { icmp_type: None, code: Some(code) } => {
            return wrong(format!("Invalid ICMP/ICMPv6 type/code (-1:{code}): a code only with a type"));
        }
        RuleProtocol::Number(number @ (1 | 6 | 17 | 58)) => {
            return wrong(format!("protocol {number} is written by its name: it has ports or types"));
        }
        RuleProtocol::All
        | RuleProtocol::Tcp(_)
        | RuleProtocol::Udp(_)
        | RuleProtocol::Icmp { .. }
        | RuleProtocol::Icmpv6 { .. }
        | RuleProtocol::Number(_) => {}
    }
    match (&rule.peer, rule.protocol) {
        (Peer::CidrIpv4(block), _) if block.network() != block.ip() => {
            wrong(format!("CIDR block {block} is malformed"))
        }
        (Peer::CidrIpv6(block), _) if block.network() != block.ip() => {
            wrong(format!("CIDR block {block} is malformed"))
        }
        (Peer::CidrIpv4(block), RuleProtocol::Icmpv6 { .. }) => wrong(format!("icmpv6 and IPv4's {block} never meet")),
        (Peer::CidrIpv6(block), RuleProtocol::Icmp { .. }) => {
            wrong(format!("icmp and IPv6's {block} never meet; use icmpv6"))
        }
        (Peer::CidrIpv4(_) | Peer::CidrIpv6(_), _) => Ok(()),
        (Peer::ReferencedGroup(id), _) => {
            let same_vpc = |other: &&SecurityGroup| other.group_id == *id && other.vpc_id == group.vpc_id;
            if network.security_groups.iter().any(|other| same_vpc(&other)) {
                return Ok(());
            }
            let what = format!("The security group '{id}' does not exist in VPC '{}'", group.vpc_id);
            Err(Error::new(Code::InvalidGroupNotFound, what))
        }
    }
}

fn check_overlay(overlay: &Overlay) -> Checked {
    let wrong = |path: String, what: String| refuse(path, Code::InvalidParameterValue, what);
    for (at, host) in overlay.hosts.iter().enumerate() {
        let path = |member: &str| format!("overlay.hosts[{at}].{member}");
        let others = &overlay.hosts[..at];
        if host.name.is_empty() || !is_text(&host.name) || others.iter().any(|other| other.name == host.name) {
            return wrong(path("name"), format!("{:?} is no host's own name", host.name));
        }
        if others.iter().any(|other| other.address == host.address) {
            return wrong(path("address"), format!("{} is another host's", host.address));
        }
        let key_is_good = match &host.public_key {
            None => overlay.encryption == Encryption::None,
            Some(key) => key.len() == KEY_CHARACTERS && key.ends_with('='),
        };
        if !key_is_good {
            return wrong(path("publicKey"), "base64 of a WireGuard key's 32 bytes is wanted".to_owned());
        }
    }
    if !overlay.hosts.iter().any(|host| host.name == overlay.this_host) {
        return wrong("overlay.thisHost".to_owned(), format!("{:?} is not among the hosts", overlay.this_host));
    }
    if overlay.vni == 0 || overlay.vni > MAX_VNI {
        return wrong("overlay.vni".to_owned(), format!("{} is not 1 to {MAX_VNI}", overlay.vni));
    }
    if overlay.port == Some(0) {
        return wrong("overlay.port".to_owned(), "0 is no port".to_owned());
    }
    Ok(())
}

fn remote_interfaces(network: &VpcNetwork) -> Checked {
    for (at, remote) in network.remote_interfaces.iter().enumerate() {
        let wrong = |member: &str, code, what: String| refuse(format!("remoteInterfaces[{at}].{member}"), code, what);
        let address = remote.private_ipv4_address;
        if !network.subnets.iter().any(|subnet| subnet.cidr_block.contains(address)) {
            let what = format!("{address} is in no subnet");
            return wrong("privateIpv4Address", Code::InvalidParameterValue, what);
        }
        if network.remote_interfaces[..at].iter().any(|other| other.private_ipv4_address == address) {
            return wrong("privateIpv4Address", Code::InvalidParameterValue, format!("{address} is there twice"));
        }
        let host = network.overlay.as_ref().and_then(|overlay| {
            let others = overlay.hosts.iter().filter(|host| host.name != overlay.this_host);
            others.into_iter().find(|host| host.name == remote.host)
        });
        if host.is_none() {
            let what = format!("the overlay has no other host {:?}", remote.host);
            return wrong("host", Code::InvalidParameterValue, what);
        }
        for group in &remote.groups {
            if !network.security_groups.iter().any(|known| known.group_id == *group) {
                let what = format!("The security group '{group}' does not exist");
                return wrong("groups", Code::InvalidGroupNotFound, what);
            }
        }
        if remote.groups.len() > MAX_GROUPS_PER_INTERFACE {
            let what = format!("an interface has at most {MAX_GROUPS_PER_INTERFACE} groups");
            return wrong("groups", Code::InvalidParameterValue, what);
        }
    }
    Ok(())
}
