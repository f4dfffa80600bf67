//! `coracle network apply`: a whole configuration from a file.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agent::Host;
use agent::vpc_store::{Store, uses};
use aws::ec2::input::{self, NetworkFile, Surroundings};
use aws::ec2::{VpcNetwork, changes};
use clap::Args;
use serde_json::json;

use super::{ChangeError, availability_zone, change, random};
use crate::failure::{BAD_INPUT, Explain, Failure, Outcome};
use crate::options::Output;
use crate::{definition, output};

/// Bring VPCs, subnets and security groups to what a file says
#[derive(Args, Debug)]
#[command(after_help = r#"Example:
  sudo coracle network apply network.toml

A file, in TOML or JSON, with VPCs and subnets by their blocks and groups by their names:

  [[vpcs]]
  cidrBlock = "10.1.0.0/16"
  isDefault = true

  [[subnets]]
  cidrBlock = "10.1.1.0/24"
  ipv6CidrBlock = "fd00:1:1:1::/64"   # may be left out, as may all that follows
  defaultForAz = true
  availabilityZone = "us-east-1a"
  wayOut = "masquerade"               # or routed, or none
  publicAddresses = { interface = "eth0", first = "192.168.1.200", last = "192.168.1.219" }

  [[securityGroups]]
  groupName = "web"
  description = "the shop"
  ingress = [
    { protocol = "tcp", ports = 80, cidr = "0.0.0.0/0" },
    { protocol = "tcp", ports = "9000-9010", group = "db" },
  ]
  egress = [{ protocol = "all", cidr = "0.0.0.0/0" }]

What the file does not mention stays as it is, unless --prune is given. A group's ingress and egress are replaced where \
the file has them. Applying a file twice changes nothing the second time."#)]
pub(super) struct Arguments {
    /// TOML or JSON; - is standard input.
    file: PathBuf,
    /// Say what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Remove what the file does not mention. The default security groups stay.
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(host: &Host, arguments: &Arguments) -> Outcome {
    let file = load(&arguments.file)?;
    let named =
        |error: ChangeError| error.failure().doing(format!("{} is not applied", definition::shown(&arguments.file)));
    let store = Store::of(host);
    let (old, new) = if arguments.dry_run {
        let old = store.read()?;
        let new = applied(host, &old, &file, arguments.prune).map_err(named)?;
        (old, new)
    } else {
        let mut old = VpcNetwork::default();
        let new = change(host, |network| {
            old = network.clone();
            applied(host, network, &file, arguments.prune)
        });
        (old.clone(), new.doing(format!("applying {}", definition::shown(&arguments.file)))?)
    };
    let said = input::differences(&old, &new);
    if arguments.output.is_json() {
        output::print_json(&json!({ "changes": said, "dryRun": arguments.dry_run }))?;
    } else if said.is_empty() {
        output::print("nothing to change\n")?;
    } else {
        let would = if arguments.dry_run { "would be: " } else { "" };
        output::print(&said.iter().map(|line| format!("{would}{line}\n")).collect::<String>())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn applied(host: &Host, network: &VpcNetwork, file: &NetworkFile, prune: bool) -> Result<VpcNetwork, ChangeError> {
    // One look at the dice for all ids: they are counted up from there.
    let mut next = random()?;
    let mut random = || {
        next = next.wrapping_add(1);
        next
    };
    let zone = availability_zone();
    let mut around = Surroundings { availability_zone: &zone, random: &mut random, prune };
    let new = input::apply(network, file, &mut around)?;
    changes::keeps_uses(network, &new, &uses(host)?)?;
    Ok(new)
}

fn load(path: &Path) -> Result<NetworkFile, Failure> {
    let reading = format!("reading {}", definition::shown(path));
    let bad = |failure: Failure| failure.exit(BAD_INPUT);
    let mut bytes = Vec::new();
    let limit = input::MAX_FILE_BYTES as u64 + 1;
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    read.doing(reading.as_str()).map_err(bad)?;
    let text = String::from_utf8(bytes).doing(reading.as_str()).map_err(bad)?;
    input::read(&text)
        .doing(format!("{} is no network's configuration", definition::shown(path)))
        .next("coracle network apply --help shows one")
        .map_err(bad)
}
