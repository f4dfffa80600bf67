//! `coracle ps`: the tasks of this host.

use std::process::ExitCode;

use agent::recovery::Network;
use agent_protocol::ContainerStatus;
use clap::Args;
use ecs::Timestamp;
use ecs::task::{ContainerLastStatus, HealthStatus, LastStatus};
use runtime::task_dir::{self, Task};
use serde_json::Value;

use crate::failure::Outcome;
use crate::options::{Options, Output, require_root};
use crate::{clock, inspect, output, recovery, show, time_text};

/// Digits of a task's id that a table shows.
const SHORT_ID: usize = 12;

/// List the tasks of this host
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  sudo coracle ps\n  sudo coracle ps --all --output json")]
pub(crate) struct Arguments {
    /// Stopped tasks too.
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(options: &Options, arguments: &Arguments) -> Outcome {
    require_root("ps")?;
    let host = recovery::host(options)?;
    recovery::recover(&host, Network::Always);
    let roots = &host.roots;
    let (tasks, unreadable) = task_dir::list(roots)?;
    for error in unreadable {
        eprint!("{}", crate::failure::Failure::from(error));
    }
    let shown: Vec<&Task> = tasks.iter().filter(|task| arguments.all || !task.is_stopped()).collect();
    if arguments.output.is_json() {
        output::print_json(&shown.iter().map(|task| inspect::json(task)).collect::<Vec<Value>>())?;
    } else {
        let now = clock::now();
        let rows = shown.iter().map(|task| row(task, now)).collect();
        output::print(&output::table(
            &["TASK", "NAME", "DEFINITION", "STATUS", "CREATED", "CONTAINERS", "ADDRESS", "PORTS"],
            rows,
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(task: &Task, now: Timestamp) -> Vec<String> {
    let spec = &task.spec;
    let ports = spec.containers.iter().map(|container| show::ports_cell(&container.network.bindings));
    vec![
        short_id(task),
        spec.name.clone().unwrap_or_default(),
        output::printable(&format!("{}:{}", spec.family, spec.revision)),
        status(task, now),
        format!("{} ago", time_text::span(now.ms_since(spec.created_at))),
        containers(task),
        show::address_cell(spec),
        ports.filter(|ports| !ports.is_empty()).collect::<Vec<_>>().join(", "),
    ]
}

pub(crate) fn short_id(task: &Task) -> String {
    task.spec.id.as_str().chars().take(SHORT_ID).collect()
}

/// `RUNNING for 5m`, `STOPPED (143) 2h ago`.
fn status(task: &Task, now: Timestamp) -> String {
    let Some(status) = &task.status else { return "PENDING".to_owned() };
    let name = format!("{:?}", status.last_status).to_uppercase();
    let since = |at: Option<Timestamp>| at.map(|at| time_text::span(now.ms_since(at)));
    match status.last_status {
        LastStatus::Running => since(status.started_at).map_or(name.clone(), |span| format!("{name} for {span}")),
        LastStatus::Stopped => {
            let code = agent::ending::exit_code(&task.spec, status);
            let span = since(status.stopped_at).map(|span| format!(" {span} ago")).unwrap_or_default();
            format!("{name} ({code}){span}")
        }
        LastStatus::Provisioning
        | LastStatus::Pending
        | LastStatus::Activating
        | LastStatus::Deactivating
        | LastStatus::Stopping
        | LastStatus::Deprovisioning => name,
    }
}

/// What is worth knowing of a container that runs: ` (healthy, restarted 2×)`.
fn notes(status: &ContainerStatus) -> String {
    let health = match status.health_status {
        HealthStatus::Healthy => Some("healthy".to_owned()),
        HealthStatus::Unhealthy => Some("unhealthy".to_owned()),
        HealthStatus::Unknown => None,
    };
    let restarts = (status.restart_count > 0).then(|| format!("restarted {}×", status.restart_count));
    let stuck = status.stuck.as_ref().map(|_| "does not die".to_owned());
    let lost = (status.log_lost_bytes > 0).then(|| format!("{} bytes of output lost", status.log_lost_bytes));
    let notes: Vec<String> = health.into_iter().chain(restarts).chain(stuck).chain(lost).collect();
    if notes.is_empty() { String::new() } else { format!(" ({})", notes.join(", ")) }
}

/// Names; what is not running says how it stands.
fn containers(task: &Task) -> String {
    let shown = task.spec.containers.iter().map(|container| {
        let name = &container.definition.name;
        let status =
            task.status.as_ref().and_then(|status| status.containers.iter().find(|candidate| candidate.name == *name));
        match status.map(|status| (status.last_status, status.exit_code)) {
            Some((ContainerLastStatus::Running, _)) => {
                let shipping = log_shipping::shipping(&task.spec, container);
                let failing = shipping.is_some_and(|shipping| shipping.failing.is_some());
                let unshipped = if failing { " (its logs do not get through)" } else { "" };
                format!("{name}{}{unshipped}", status.map(notes).unwrap_or_default())
            }
            Some((ContainerLastStatus::Stopped, Some(code))) => format!("{name} ({code})"),
            Some((ContainerLastStatus::Stopped, None)) => format!("{name} (stopped)"),
            Some((ContainerLastStatus::Pending, _)) | None => format!("{name} (pending)"),
        }
    });
    shown.collect::<Vec<_>>().join(", ")
}
