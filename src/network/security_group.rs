//! `coracle network security-group …`.

use std::process::ExitCode;

use agent::Host;
use agent::vpc_store::{Store, uses};
use aws::ec2::changes::{self, Direction, Which};
use aws::ec2::{
    Code, Error, Peer, RuleProtocol, SecurityGroup, SecurityGroupId, SecurityGroupRule, SecurityGroupRuleId,
    VpcNetwork, defaults,
};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{ChangeError, change, random, read};
use crate::failure::{BAD_INPUT, Failure, Outcome};
use crate::options::Output;
use crate::output;

/// Make, change and remove security groups
#[derive(Args, Debug)]
#[command(
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "Example:\n  sudo coracle network security-group authorize-ingress --group-name web --protocol tcp --port 80 --cidr 0.0.0.0/0"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Create(Create),
    Ls(Ls),
    Inspect(Inspect),
    Rm(Rm),
    AuthorizeIngress(Authorize),
    AuthorizeEgress(Authorize),
    RevokeIngress(Revoke),
    RevokeEgress(Revoke),
}

/// Make a security group: nothing in, everything out
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  sudo coracle network security-group create --group-name web --description \"the shop\""
)]
struct Create {
    /// Unique in its VPC; not sg-….
    #[arg(long, value_name = "NAME")]
    group_name: String,
    /// What it is for.
    #[arg(long, default_value = "", value_name = "TEXT")]
    description: String,
    /// The VPC's id or block; the default one.
    #[arg(long, value_name = "VPC")]
    vpc_id: Option<String>,
}

/// List security groups
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  sudo coracle network security-group ls")]
struct Ls {
    #[command(flatten)]
    output: Output,
}

/// Show security groups with their rules
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  sudo coracle network security-group inspect default")]
struct Inspect {
    /// Their ids or names.
    #[arg(required = true)]
    groups: Vec<String>,
    #[command(flatten)]
    output: Output,
}

/// Remove a security group that no task and no rule uses
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  sudo coracle network security-group rm --group-name web")]
struct Rm {
    #[command(flatten)]
    group: Group,
}

/// By id or by name.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Group {
    /// The group, by its id.
    #[arg(long, value_name = "ID")]
    group_id: Option<String>,
    /// The group, by its name; of several of one name the default VPC's.
    #[arg(long, value_name = "NAME")]
    group_name: Option<String>,
}

#[derive(Args, Debug)]
struct Rule {
    /// tcp, udp, icmp, icmpv6, a number, or all.
    #[arg(long)]
    protocol: Option<String>,
    /// A port, a range such as 8000-8010, or all; of ICMP a type, or a type and a code as 8-0.
    #[arg(long, allow_hyphen_values = true)]
    port: Option<String>,
    /// The other side's addresses, IPv4 or IPv6; may be given more than once.
    #[arg(long, value_name = "BLOCK")]
    cidr: Vec<String>,
    /// The members of this group, by id or name; may be given more than once.
    #[arg(long, value_name = "GROUP")]
    source_group: Vec<String>,
}

/// Allow what members of a group are sent (ingress) or send (egress)
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  sudo coracle network security-group authorize-ingress --group-name web --protocol tcp --port 80 --cidr 0.0.0.0/0\n  sudo coracle network security-group authorize-ingress --group-name db --protocol tcp --port 5432 --source-group web"
)]
struct Authorize {
    #[command(flatten)]
    group: Group,
    #[command(flatten)]
    rule: Rule,
    /// What the rule is for.
    #[arg(long, default_value = "", value_name = "TEXT")]
    description: String,
}

/// Allow it no longer; connections that stand are left alone, as at Amazon's
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  sudo coracle network security-group revoke-ingress --group-name web --protocol tcp --port 80 --cidr 0.0.0.0/0\n  sudo coracle network security-group revoke-ingress --group-name web --security-group-rule-ids sgr-0123456789abcdef0"
)]
struct Revoke {
    #[command(flatten)]
    group: Group,
    #[command(flatten)]
    rule: Rule,
    /// The rules themselves, by their ids.
    #[arg(long, value_name = "ID", value_delimiter = ',', conflicts_with_all = ["protocol", "port", "cidr", "source_group"])]
    security_group_rule_ids: Vec<String>,
}

pub(super) fn run(host: &Host, arguments: &Arguments) -> Outcome {
    match &arguments.command {
        Command::Create(asked) => create(host, asked),
        Command::Ls(asked) => {
            let network = Store::of(host).read()?;
            match asked.output.is_json() {
                true => output::print_json(&network.security_groups.iter().map(shown).collect::<Vec<Value>>())?,
                false => output::print(&table(&network))?,
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Inspect(asked) => inspect(host, asked),
        Command::Rm(asked) => {
            let name = asked.group.given().to_owned();
            change(host, |network| {
                let id = asked.group.find(network)?.group_id.clone();
                Ok(changes::delete_group(network, &id, &uses(host)?)?)
            })?;
            output::print(&format!("{name}\n"))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::AuthorizeIngress(asked) => authorize(host, Direction::Ingress, asked),
        Command::AuthorizeEgress(asked) => authorize(host, Direction::Egress, asked),
        Command::RevokeIngress(asked) => revoke(host, Direction::Ingress, asked),
        Command::RevokeEgress(asked) => revoke(host, Direction::Egress, asked),
    }
}

impl Group {
    fn given(&self) -> &str {
        self.group_id.as_deref().or(self.group_name.as_deref()).unwrap_or_default()
    }

    /// A name is looked for in the default VPC first.
    fn find<'a>(&self, network: &'a VpcNetwork) -> Result<&'a SecurityGroup, Error> {
        find(network, self.given())
    }
}

fn find<'a>(network: &'a VpcNetwork, given: &str) -> Result<&'a SecurityGroup, Error> {
    let default = network.default_vpc().map(|vpc| &vpc.vpc_id);
    let in_default = |group: &&SecurityGroup| Some(&group.vpc_id) == default && group.group_name == given;
    match network.security_groups.iter().find(in_default) {
        Some(group) => Ok(group),
        None => network.find_group(None, given),
    }
}

fn create(host: &Host, asked: &Create) -> Outcome {
    let group_id = SecurityGroupId::from_random(random().map_err(ChangeError::failure)?);
    if asked.vpc_id.is_none() {
        read(host)?;
    }
    change(host, |network| {
        let vpc_id = super::subnet::vpc(network, asked.vpc_id.as_deref())?;
        let has_ipv6 = network.subnets.iter().any(|subnet| subnet.vpc_id == vpc_id && subnet.ipv6_cidr_block.is_some());
        let mut egress = vec![defaults::everything_out(SecurityGroupRuleId::from_random(random()?))];
        if has_ipv6 {
            egress.push(defaults::everything_out_ipv6(SecurityGroupRuleId::from_random(random()?)));
        }
        let group = SecurityGroup {
            group_id: group_id.clone(),
            group_name: asked.group_name.clone(),
            description: asked.description.clone(),
            vpc_id,
            ingress: Vec::new(),
            egress,
        };
        Ok(changes::create_group(network, group)?)
    })?;
    output::print(&format!("{group_id}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// One rule for each peer.
fn rules(network: &VpcNetwork, group: &SecurityGroup, rule: &Rule) -> Result<Vec<(RuleProtocol, Peer)>, Error> {
    let Some(protocol) = &rule.protocol else {
        return Err(Error::new(
            Code::MissingParameter,
            "The request must contain the parameter ipProtocol: --protocol",
        ));
    };
    let protocol = RuleProtocol::read(protocol, rule.port.as_deref())?;
    let mut peers = rule.cidr.iter().map(|cidr| Peer::read_cidr(cidr)).collect::<Result<Vec<_>, _>>()?;
    for given in &rule.source_group {
        let found = network.find_group(Some(&group.vpc_id), given)?;
        peers.push(Peer::ReferencedGroup(found.group_id.clone()));
    }
    if peers.is_empty() {
        return Err(Error::new(
            Code::MissingParameter,
            "the other side is missing: --cidr BLOCK or --source-group GROUP",
        ));
    }
    Ok(peers.into_iter().map(|peer| (protocol, peer)).collect())
}

fn authorize(host: &Host, direction: Direction, asked: &Authorize) -> Outcome {
    read(host)?;
    let mut made = Vec::new();
    change(host, |network| {
        let group = asked.group.find(network)?;
        let mut rules = rules(network, group, &asked.rule)?.into_iter().map(|(protocol, peer)| {
            let security_group_rule_id = SecurityGroupRuleId::from_random(random()?);
            made.push(security_group_rule_id.clone());
            let description = asked.description.clone();
            Ok(SecurityGroupRule { security_group_rule_id, protocol, peer, description })
        });
        let rules = rules.by_ref().collect::<Result<Vec<_>, ChangeError>>()?;
        Ok(changes::authorize(network, &group.group_id, direction, rules)?)
    })?;
    let text: String = made.iter().map(|id| format!("{id}\n")).collect();
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn revoke(host: &Host, direction: Direction, asked: &Revoke) -> Outcome {
    change(host, |network| {
        let group = asked.group.find(network)?;
        let which = if asked.security_group_rule_ids.is_empty() {
            let rules = rules(network, group, &asked.rule)?.into_iter();
            rules.map(|(protocol, peer)| Which::Rule { protocol, peer }).collect::<Vec<_>>()
        } else {
            let ids = asked.security_group_rule_ids.iter().cloned().map(SecurityGroupRuleId::try_from);
            let malformed = |error: aws::ec2::BadId| Error::new(Code::InvalidParameterValue, error.to_string());
            ids.map(|id| id.map(Which::Id).map_err(malformed)).collect::<Result<Vec<_>, _>>()?
        };
        Ok(changes::revoke(network, &group.group_id, direction, &which)?)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn inspect(host: &Host, asked: &Inspect) -> Outcome {
    let network = Store::of(host).read()?;
    let found = asked.groups.iter().map(|given| find(&network, given)).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| Failure::from(error).exit(BAD_INPUT))?;
    if asked.output.is_json() {
        output::print_json(&found.into_iter().map(shown).collect::<Vec<Value>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    for group in found {
        let head = format!("{} ({}) in {}", group.group_name, group.group_id, group.vpc_id);
        let mut rows = Vec::new();
        for (direction, name) in [(Direction::Ingress, "ingress"), (Direction::Egress, "egress")] {
            rows.extend(direction.rules(group).iter().map(|rule| {
                vec![
                    name.to_owned(),
                    match rule.protocol {
                        RuleProtocol::All => "all".to_owned(),
                        protocol => protocol.name(),
                    },
                    rule.protocol.ports_text(),
                    peer_text(&network, &rule.peer),
                    rule.security_group_rule_id.to_string(),
                    rule.description.clone(),
                ]
            }));
        }
        let table = output::table(&["DIRECTION", "PROTOCOL", "PORTS", "PEER", "RULE", "DESCRIPTION"], rows);
        output::print(&format!("{head}\n{table}\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn peer_text(network: &VpcNetwork, peer: &Peer) -> String {
    let name = match peer {
        Peer::ReferencedGroup(id) => network.security_groups.iter().find(|group| group.group_id == *id),
        Peer::CidrIpv4(_) | Peer::CidrIpv6(_) => None,
    };
    name.map_or_else(|| peer.to_string(), |group| format!("{} ({})", group.group_name, group.group_id))
}

/// Rules as EC2's DescribeSecurityGroupRules has them.
pub(super) fn shown(group: &SecurityGroup) -> Value {
    let rules = |direction: Direction| {
        let each = direction.rules(group).iter().map(|rule| {
            let mut value = json!({
                "securityGroupRuleId": rule.security_group_rule_id,
                "isEgress": direction == Direction::Egress,
                "ipProtocol": rule.protocol.name(),
                "description": rule.description,
            });
            if let Some((from, to)) = rule.protocol.from_and_to() {
                value["fromPort"] = json!(from);
                value["toPort"] = json!(to);
            }
            match &rule.peer {
                Peer::CidrIpv4(block) => value["cidrIpv4"] = json!(block),
                Peer::CidrIpv6(block) => value["cidrIpv6"] = json!(block),
                Peer::ReferencedGroup(id) => value["referencedGroupInfo"] = json!({ "groupId": id }),
            }
            value
        });
        each.collect::<Vec<Value>>()
    };
    json!({
        "groupId": group.group_id,
        "groupName": group.group_name,
        "description": group.description,
        "vpcId": group.vpc_id,
        "ingress": rules(Direction::Ingress),
        "egress": rules(Direction::Egress),
    })
}

pub(super) fn table(network: &VpcNetwork) -> String {
    let row = |group: &SecurityGroup| {
        vec![
            group.group_id.to_string(),
            group.group_name.clone(),
            group.vpc_id.to_string(),
            group.ingress.len().to_string(),
            group.egress.len().to_string(),
            group.description.clone(),
        ]
    };
    let header = ["SECURITY GROUP", "NAME", "VPC", "INGRESS", "EGRESS", "DESCRIPTION"];
    output::table(&header, network.security_groups.iter().map(row).collect())
}
