//! `coracle network interface ls`: the interfaces of the tasks that run.

use std::process::ExitCode;

use agent::Host;
use clap::{Args, Subcommand};
use runtime::task_dir::{self, Task};
use serde_json::{Value, json};

use crate::failure::{Explain, Outcome};
use crate::options::Output;
use crate::output;

/// Interfaces of running tasks
#[derive(Args, Debug)]
#[command(
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "Example:\n  sudo coracle network interface ls"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Ls(Ls),
}

/// List them
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  sudo coracle network interface ls --output json")]
struct Ls {
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(host: &Host, arguments: &Arguments) -> Outcome {
    let Command::Ls(asked) = &arguments.command;
    let (tasks, _) = task_dir::list(&host.roots).doing("listing the tasks of this host")?;
    let living: Vec<&Task> = tasks.iter().filter(|task| !task.is_stopped()).collect();
    if asked.output.is_json() {
        output::print_json(&living.iter().filter_map(|task| shown(task)).collect::<Vec<Value>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = living.iter().filter_map(|task| {
        let interface = task.spec.network_interface.as_ref()?;
        let text = |value: Option<String>| value.unwrap_or_default();
        let groups: Vec<&str> = interface.security_groups.iter().map(|group| group.as_str()).collect();
        Some(vec![
            interface.network_interface_id.to_string(),
            task.spec.id.to_string(),
            interface.private_ipv4_address.to_string(),
            text(interface.ipv6_address.map(|address| address.to_string())),
            text(interface.public_ipv4_address.map(|address| address.to_string())),
            interface.subnet_id.to_string(),
            groups.join(","),
        ])
    });
    let header = ["INTERFACE", "TASK", "ADDRESS", "IPV6", "PUBLIC", "SUBNET", "SECURITY GROUPS"];
    output::print(&output::table(&header, rows.collect()))?;
    Ok(ExitCode::SUCCESS)
}

fn shown(task: &Task) -> Option<Value> {
    let interface = task.spec.network_interface.as_ref()?;
    let mut value = ecs::json::value_of(interface).ok()?;
    value["taskArn"] = json!(agent::describe::task_arn(&task.spec));
    Some(value)
}
