//! `coracle network subnet …`.

use std::net::Ipv4Addr;
use std::process::ExitCode;

use agent::Host;
use agent::vpc_store::{Store, uses};
use aws::ec2::{
    Code, Error, PublicAddresses, SecurityGroupRuleId, Subnet, SubnetId, VpcId, VpcNetwork, WayOut, changes,
};
use clap::{Args, Subcommand, ValueEnum};
use ipnetwork::{Ipv4Network, Ipv6Network};

use super::{ChangeError, availability_zone, change, random, read};
use crate::failure::{BAD_INPUT, Failure, Outcome};
use crate::options::Output;
use crate::output;

/// Make, list and remove subnets
#[derive(Args, Debug)]
#[command(
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "Example:\n  sudo coracle network subnet create --cidr-block 172.31.16.0/20"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Create(Box<Create>),
    Ls(Ls),
    Inspect(Inspect),
    Rm(Rm),
}

/// Make a subnet
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  sudo coracle network subnet create --cidr-block 172.31.16.0/20\n  sudo coracle network subnet create --cidr-block 172.31.32.0/24 --public-interface eth0 --public-addresses 192.168.1.200-192.168.1.219"
)]
struct Create {
    /// A /16 to a /28 in its VPC; its first four addresses and its last are nobody's.
    #[arg(long, value_name = "BLOCK")]
    cidr_block: Ipv4Network,
    /// The VPC's id or block; the default one.
    #[arg(long, value_name = "VPC")]
    vpc_id: Option<String>,
    /// A /64: interfaces have an IPv6 address too.
    #[arg(long, value_name = "BLOCK")]
    ipv6_cidr_block: Option<Ipv6Network>,
    /// What tasks in it tell as theirs.
    #[arg(long, value_name = "ZONE")]
    availability_zone: Option<String>,
    /// Make it the one that is meant where none is named.
    #[arg(long)]
    default: bool,
    /// How traffic leaves the VPC: with the host's address (masquerade), with its own (routed), or not at all (none).
    #[arg(long, value_enum, default_value_t = Way::Masquerade, value_name = "WAY", hide_possible_values = true)]
    way_out: Way,
    /// The NIC on whose network the public addresses are.
    #[arg(long, value_name = "NIC", requires = "public_addresses")]
    public_interface: Option<String>,
    /// What --assign-public-ip gives.
    #[arg(long, value_name = "FIRST-LAST", requires = "public_interface")]
    public_addresses: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    Masquerade,
    Routed,
    None,
}

/// List subnets
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  sudo coracle network subnet ls")]
struct Ls {
    #[command(flatten)]
    output: Output,
}

/// Show subnets as JSON
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  sudo coracle network subnet inspect 172.31.0.0/20")]
struct Inspect {
    /// Their ids or blocks.
    #[arg(required = true)]
    subnets: Vec<String>,
}

/// Remove a subnet that no task is in
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  sudo coracle network subnet rm 172.31.16.0/20")]
struct Rm {
    /// Its id or block.
    subnet: String,
}

pub(super) fn run(host: &Host, arguments: &Arguments) -> Outcome {
    match &arguments.command {
        Command::Create(asked) => return create(host, asked),
        Command::Ls(asked) => {
            let network = Store::of(host).read()?;
            match asked.output.is_json() {
                true => output::print_json(&network.subnets)?,
                false => output::print(&table(&network))?,
            }
        }
        Command::Inspect(asked) => {
            let network = Store::of(host).read()?;
            let found = asked.subnets.iter().map(|given| network.find_subnet(given)).collect::<Result<Vec<_>, _>>();
            output::print_json(&found.map_err(|error| Failure::from(error).exit(BAD_INPUT))?)?;
        }
        Command::Rm(asked) => {
            change(host, |network| Ok(changes::delete_subnet(network, &asked.subnet, &uses(host)?)?))?;
            output::print(&format!("{}\n", asked.subnet))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn create(host: &Host, asked: &Create) -> Outcome {
    let bad = |error: ChangeError| error.failure();
    let public_addresses = match (&asked.public_interface, &asked.public_addresses) {
        (Some(interface), Some(range)) => {
            let (first, last) = addresses(range).map_err(|error| bad(error.into()))?;
            Some(PublicAddresses { interface: interface.clone(), first, last })
        }
        (None, None) | (Some(_), None) | (None, Some(_)) => None,
    };
    let subnet_id = SubnetId::from_random(random().map_err(bad)?);
    // Its VPC may be the default one, which is made at its first use.
    if asked.vpc_id.is_none() {
        read(host)?;
    }
    change(host, |network| {
        let subnet = Subnet {
            subnet_id: subnet_id.clone(),
            vpc_id: vpc(network, asked.vpc_id.as_deref())?,
            cidr_block: asked.cidr_block,
            ipv6_cidr_block: asked.ipv6_cidr_block,
            availability_zone: asked.availability_zone.clone().unwrap_or_else(availability_zone),
            default_for_az: asked.default,
            way_out: match asked.way_out {
                Way::Masquerade => WayOut::Masquerade,
                Way::Routed => WayOut::Routed,
                Way::None => WayOut::None,
            },
            public_addresses,
            slices: Vec::new(),
        };
        Ok(changes::create_subnet(network, subnet, SecurityGroupRuleId::from_random(random()?))?)
    })?;
    output::print(&format!("{subnet_id}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// The named VPC, or the default one.
pub(super) fn vpc(network: &VpcNetwork, given: Option<&str>) -> Result<VpcId, Error> {
    match (given, network.default_vpc()) {
        (Some(given), _) => Ok(network.find_vpc(given)?.vpc_id.clone()),
        (None, Some(vpc)) => Ok(vpc.vpc_id.clone()),
        (None, None) => Err(Error::new(Code::MissingParameter, "this host has no default VPC: give --vpc-id")),
    }
}

fn addresses(range: &str) -> Result<(Ipv4Addr, Ipv4Addr), Error> {
    let wrong = || {
        let what = format!("--public-addresses {range}: 192.168.1.200-192.168.1.219, or one address, is wanted");
        Error::new(Code::InvalidParameterValue, what)
    };
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let address = |text: &str| text.trim().parse::<Ipv4Addr>().map_err(|_| wrong());
    Ok((address(first)?, address(last)?))
}

pub(super) fn table(network: &VpcNetwork) -> String {
    let row = |subnet: &Subnet| {
        let public = subnet.public_addresses.as_ref();
        vec![
            subnet.subnet_id.to_string(),
            subnet.vpc_id.to_string(),
            subnet.cidr_block.to_string(),
            subnet.ipv6_cidr_block.map(|block| block.to_string()).unwrap_or_default(),
            if subnet.default_for_az { "yes" } else { "" }.to_owned(),
            match subnet.way_out {
                WayOut::Masquerade => "masquerade",
                WayOut::Routed => "routed",
                WayOut::None => "none",
            }
            .to_owned(),
            public
                .map(|public| format!("{}-{} on {}", public.first, public.last, public.interface))
                .unwrap_or_default(),
        ]
    };
    let header = ["SUBNET", "VPC", "BLOCK", "IPV6", "DEFAULT", "WAY OUT", "PUBLIC ADDRESSES"];
    output::table(&header, network.subnets.iter().map(row).collect())
}
