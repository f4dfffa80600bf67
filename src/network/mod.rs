//! `coracle network …`: this host's VPC network, with EC2's operations under the AWS CLI's names.

mod apply;
mod interface;
mod overlay;
mod security_group;
mod subnet;
mod vpc;

use std::process::ExitCode;

use agent::vpc_store::{Store, StoreError};
use agent::{Host, compose, vpc_store};
use aws::ec2::{self, VpcNetwork};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::failure::{BAD_INPUT, Explain, Failure, Outcome};
use crate::options::{Options, Output, require_root};
use crate::{output, recovery};

/// Subnets, security groups and interfaces of awsvpc tasks
#[derive(Args, Debug)]
#[command(
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "Examples:
  sudo coracle network ls
  sudo coracle network security-group authorize-ingress --group-name default --protocol tcp --port 80 --cidr 0.0.0.0/0
  sudo coracle network apply network.toml

Running tasks follow a change of their security groups at once. Without any configuration, the first awsvpc task gets a \
default VPC, a subnet and a security group as an account has them at Amazon's."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Ls(Ls),
    Vpc(vpc::Arguments),
    Subnet(subnet::Arguments),
    SecurityGroup(security_group::Arguments),
    Interface(interface::Arguments),
    Overlay(overlay::Arguments),
    Apply(apply::Arguments),
}

/// List VPCs, subnets and security groups
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  sudo coracle network ls --output json")]
struct Ls {
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(options: &Options, arguments: &Arguments) -> Outcome {
    require_root("network")?;
    let host = recovery::host(options)?;
    match &arguments.command {
        Command::Ls(arguments) => list(&host, arguments),
        Command::Vpc(arguments) => vpc::run(&host, arguments),
        Command::Subnet(arguments) => subnet::run(&host, arguments),
        Command::SecurityGroup(arguments) => security_group::run(&host, arguments),
        Command::Interface(arguments) => interface::run(&host, arguments),
        Command::Overlay(arguments) => overlay::run(&host, arguments),
        Command::Apply(arguments) => apply::run(&host, arguments),
    }
}

fn list(host: &Host, arguments: &Ls) -> Outcome {
    let network = Store::of(host).read()?;
    if arguments.output.is_json() {
        output::print_json(&json!({
            "vpcs": network.vpcs,
            "subnets": network.subnets,
            "securityGroups": network.security_groups.iter().map(security_group::shown).collect::<Vec<Value>>(),
            "overlay": network.overlay,
            "remoteInterfaces": network.remote_interfaces,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    if network == VpcNetwork::default() {
        output::print("nothing is configured yet; the first awsvpc task gets a default VPC\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = vpc::table(&network);
    text.push('\n');
    text.push_str(&subnet::table(&network));
    text.push('\n');
    text.push_str(&security_group::table(&network));
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Why a configuration was not changed.
#[derive(Debug, thiserror::Error)]
enum ChangeError {
    #[error(transparent)]
    Refused(#[from] ec2::Error),
    #[error(transparent)]
    Problem(#[from] ec2::Problem),
    #[error("this host cannot have such an overlay")]
    Overlay(#[source] network::overlay::Refusal),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("an id cannot be made")]
    Dice(#[source] agent::dice::NoDice),
}

impl ChangeError {
    /// What was asked for is wrong, or this host is.
    fn failure(self) -> Failure {
        let refused = matches!(self, ChangeError::Refused(_) | ChangeError::Problem(_) | ChangeError::Overlay(_));
        let failure = Failure::from(self);
        if refused { failure.exit(BAD_INPUT) } else { failure }
    }
}

fn random() -> Result<u128, ChangeError> {
    agent::dice::random().map_err(ChangeError::Dice)
}

fn region() -> String {
    std::env::var("AWS_REGION").ok().filter(|region| !region.is_empty()).unwrap_or_else(|| compose::REGION.to_owned())
}

/// The configuration, with the defaults where there was none.
fn read(host: &Host) -> Result<VpcNetwork, Failure> {
    Ok(Store::of(host).hold_with_defaults(&region())?.0)
}

/// Changes the configuration and has running tasks follow.
fn change(
    host: &Host,
    decide: impl FnOnce(&VpcNetwork) -> Result<VpcNetwork, ChangeError>,
) -> Result<VpcNetwork, Failure> {
    let decide = |old: &VpcNetwork| {
        let new = decide(old)?;
        network::overlay::check(&new).map_err(ChangeError::Overlay)?;
        Ok(new)
    };
    let carried_out = Store::of(host).change(decide, |old, new| {
        // Even where nothing changed: what an earlier change could not carry out is made up for.
        carry_out(host, old, new).map(|()| new.clone())
    });
    carried_out.map_err(ChangeError::failure)?
}

fn carry_out(host: &Host, old: &VpcNetwork, new: &VpcNetwork) -> Result<(), Failure> {
    // Rules first: a way to other hosts that fails leaves no task open.
    let next = "coracle doctor; running tasks follow with the next change, or when one more task starts";
    network::apply_groups(&host.network, new)
        .doing("the configuration is written, but the rules of running tasks could not be changed")
        .next(next)?;
    if old.overlay.is_none() && new.overlay.is_none() {
        return Ok(());
    }
    let report = network::overlay::apply(&host.network, new);
    let report = report
        .map_err(|errors| all("the configuration is written, but the way to the other hosts is not made", &errors))?;
    for warning in report.warnings {
        eprintln!("coracle: {}", output::printable(&warning));
    }
    Ok(())
}

/// Several errors of one thing.
fn all<E: std::error::Error>(what: &str, errors: &[E]) -> Failure {
    let each: Vec<String> = errors.iter().map(|error| agent::recovery::chain(error)).collect();
    Failure::new(each.join("; ")).doing(what)
}

fn availability_zone() -> String {
    vpc_store::availability_zone(&region())
}
