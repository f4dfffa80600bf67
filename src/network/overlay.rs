//! `coracle network overlay …`: subnets that span hosts, this host's part of them.

use std::process::ExitCode;

use agent::Host;
use agent::vpc_store::Store;
use clap::{Args, Subcommand};
use network::overlay::{HostState, Report, State};
use serde_json::{Value, json};

use crate::failure::{Explain, Failure, Outcome};
use crate::options::Output;
use crate::output;

/// Subnets that span hosts: this host's part of them
#[derive(Args, Debug)]
#[command(
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = r#"Every host gets the same file, with its own name as thisHost, by `coracle network apply`:

  [overlay]
  thisHost = "a"
  encryption = "none"                 # or wireguard
  encapsulation = "ip"                # or ethernet, where a kernel has no VXLAN-GPE; the same on all hosts
  vni = 1
  # port = 4790                       # UDP; 4789 with ethernet, 51820 with wireguard, where it is left out
  # keepaliveS = 25                   # of wireguard, where a NAT or firewall stands between the hosts

  [[overlay.hosts]]
  name = "a"
  address = "192.168.1.11"            # of the host's own network, where the others send to
  # publicKey = "…"                   # of wireguard: `coracle network overlay key` prints it on that host

  [[overlay.hosts]]
  name = "b"
  address = "192.168.1.12"

  [[subnets]]
  cidrBlock = "10.1.1.0/24"
  slices = [
    { host = "a", cidrBlock = "10.1.1.0/25" },
    { host = "b", cidrBlock = "10.1.1.128/25" },
  ]

A host gives its tasks addresses of its slice. Without encryption only the hosts' addresses may send into the overlay, \
so the network between them has to be trusted; with wireguard their keys say who they are. Let the port through the \
hosts' firewalls. Tasks of other hosts are reached by tasks, not by the host itself."#
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Show(Show),
    /// Make it what is configured, once more
    Apply,
    /// Take this host's part away; the configuration stays, and the next awsvpc task brings it back
    Down,
    /// Print this host's public key for wireguard, and make its private key where there is none
    Key,
}

/// How this host's part of the overlay stands
#[derive(Args, Debug)]
struct Show {
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(host: &Host, arguments: &Arguments) -> Outcome {
    match &arguments.command {
        Command::Show(arguments) => show(host, arguments),
        Command::Apply => {
            let report = apply(host, &Store::of(host).read()?)?;
            let nothing = if report.warnings.is_empty() { "nothing to change\n" } else { "" };
            print(&report, nothing)
        }
        Command::Down => {
            let report = network::overlay::remove(&host.network).map_err(|errors| network::Error::Overlay { errors });
            print(&report.doing("taking this host's part of the overlay away")?, "nothing is there\n")
        }
        Command::Key => {
            let key = network::overlay::public_key(&host.network).doing("looking for this host's public key")?;
            output::print(&format!("{key}\n"))?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Makes the overlay what the configuration says.
fn apply(host: &Host, network: &aws::ec2::VpcNetwork) -> Result<Report, Failure> {
    let applied = network::overlay::apply(&host.network, network);
    applied.map_err(|errors| network::Error::Overlay { errors }).doing("making this host's part of the overlay")
}

fn print(report: &Report, nothing: &str) -> Outcome {
    for warning in &report.warnings {
        eprintln!("warning: {warning}");
    }
    let text: String = report.changes.iter().map(|change| format!("{change}\n")).collect();
    output::print(if text.is_empty() { nothing } else { &text })?;
    Ok(ExitCode::SUCCESS)
}

fn show(host: &Host, arguments: &Show) -> Outcome {
    let network = Store::of(host).read()?;
    let state = network::overlay::state(&host.network, &network).map_err(|errors| network::Error::Overlay { errors });
    let Some(state) = state.doing("looking at this host's part of the overlay")? else {
        let none = "no overlay is configured; coracle network overlay --help shows one\n";
        if arguments.output.is_json() {
            output::print_json(&Value::Null)?
        } else {
            output::print(none)?
        };
        return Ok(ExitCode::SUCCESS);
    };
    if arguments.output.is_json() {
        output::print_json(&shown(&state))?;
    } else {
        output::print(&text(&state))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(state: &State) -> Value {
    let link = state
        .link
        .as_ref()
        .map(|link| json!({ "name": link.name, "mtu": link.mtu, "isUp": link.up, "isCurrent": link.is_current }));
    let host = |host: &HostState| {
        let peer = host.peer.as_ref();
        json!({
            "name": host.name,
            "address": host.address,
            "networks": host.networks,
            "lastHandshakeS": peer.and_then(|peer| peer.last_handshake_s),
            "receivedBytes": peer.map(|peer| peer.received_bytes),
            "sentBytes": peer.map(|peer| peer.sent_bytes),
        })
    };
    json!({
        "link": link,
        "hosts": state.hosts.iter().map(host).collect::<Vec<Value>>(),
        "routes": state.routes.iter().map(|(kind, count)| json!({ "kind": kind, "count": count })).collect::<Vec<Value>>(),
    })
}

fn text(state: &State) -> String {
    let link = match &state.link {
        None => {
            "the device is not there; `coracle network overlay apply` or the next awsvpc task makes it\n".to_owned()
        }
        Some(link) => {
            let up = if link.up { "up" } else { "down" };
            let current = if link.is_current { "as configured" } else { "not as configured" };
            format!("{}: {up}, {} bytes, {current}\n", link.name, link.mtu)
        }
    };
    let routes: Vec<String> = state.routes.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let traffic = |host: &HostState| {
        host.peer.as_ref().map_or_else(String::new, |peer| {
            let sent = format!("{} in, {} out", output::bytes(peer.received_bytes), output::bytes(peer.sent_bytes));
            if peer.last_handshake_s.is_some() { sent } else { "no word from it yet".to_owned() }
        })
    };
    let rows = state
        .hosts
        .iter()
        .map(|host| vec![host.name.clone(), host.address.to_string(), host.networks.join(" "), traffic(host)]);
    let table = output::table(&["HOST", "ADDRESS", "NETWORKS", "ENCRYPTED"], rows.collect());
    format!("{link}routes: {}\n\n{table}", if routes.is_empty() { "none".to_owned() } else { routes.join(", ") })
}
