//! `coracle network vpc …`.

use std::process::ExitCode;

use agent::Host;
use aws::ec2::{SecurityGroupId, SecurityGroupRuleId, Vpc, VpcId, VpcNetwork, changes, defaults};
use clap::{Args, Subcommand};
use ipnetwork::Ipv4Network;

use super::{change, random};
use crate::failure::Outcome;
use crate::output;

/// Make and remove VPCs
#[derive(Args, Debug)]
#[command(
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "Example:\n  sudo coracle network vpc create --cidr-block 10.1.0.0/16"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Create(Create),
    Rm(Rm),
}

/// Make a VPC with its default security group
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  sudo coracle network vpc create --cidr-block 10.1.0.0/16")]
struct Create {
    /// A /16 to a /28 that overlaps no other VPC.
    #[arg(long, value_name = "BLOCK")]
    cidr_block: Ipv4Network,
    /// Make it the one that is meant where none is named.
    #[arg(long)]
    default: bool,
}

/// Remove a VPC that has neither subnets nor groups of its own
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  sudo coracle network vpc rm 10.1.0.0/16")]
struct Rm {
    /// Its id or block.
    vpc: String,
}

pub(super) fn run(host: &Host, arguments: &Arguments) -> Outcome {
    match &arguments.command {
        Command::Create(asked) => {
            let vpc_id = VpcId::from_random(random().map_err(super::ChangeError::failure)?);
            change(host, |network| {
                let vpc = Vpc { vpc_id: vpc_id.clone(), cidr_block: asked.cidr_block, is_default: asked.default };
                let group = defaults::default_group(
                    vpc_id.clone(),
                    SecurityGroupId::from_random(random()?),
                    SecurityGroupRuleId::from_random(random()?),
                    SecurityGroupRuleId::from_random(random()?),
                );
                Ok(changes::create_vpc(network, vpc, group)?)
            })?;
            output::print(&format!("{vpc_id}\n"))?;
        }
        Command::Rm(asked) => {
            change(host, |network| Ok(changes::delete_vpc(network, &asked.vpc)?))?;
            output::print(&format!("{}\n", asked.vpc))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn table(network: &VpcNetwork) -> String {
    let row = |vpc: &Vpc| {
        let default = if vpc.is_default { "yes" } else { "" };
        vec![vpc.vpc_id.to_string(), vpc.cidr_block.to_string(), default.to_owned()]
    };
    output::table(&["VPC", "BLOCK", "DEFAULT"], network.vpcs.iter().map(row).collect())
}
