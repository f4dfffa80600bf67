//! `coracle ps`: the tasks of this host, and where a daemon answers those of its clusters.

use std::collections::BTreeMap;
use std::process::ExitCode;

use agent::recovery::Network;
use agent_protocol::ContainerStatus;
use clap::Args;
use ecs::Timestamp;
use ecs::task::{ContainerLastStatus, DesiredStatus, HealthStatus, LastStatus};
use runtime::task_dir::{self, Task};
use serde_json::Value;

use crate::api_client::Api;
use crate::cluster::{self, Described, Scope};
use crate::failure::{Failure, Outcome};
use crate::options::{Options, Output, require_root};
use crate::{clock, inspect, output, recovery, show, time_text};

/// Digits of a task's id that a table shows.
const SHORT_ID: usize = 12;

/// List the tasks of this host, and of the cluster where a daemon runs
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  sudo coracle ps\n  sudo coracle ps --all --output json\n  coracle ps --endpoint https://192.0.2.10:4870 --cluster default"
)]
pub(crate) struct Arguments {
    /// Stopped tasks too.
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    scope: Scope,
    #[command(flatten)]
    output: Output,
}

pub(crate) fn run(options: &Options, arguments: &Arguments) -> Outcome {
    let scope = &arguments.scope;
    if scope.endpoint.endpoint.is_none() {
        require_root("ps")?;
    }
    let api = Api::find(options, &scope.endpoint)?;
    if scope.cluster.is_some() && api.is_none() {
        // Says what is missing.
        Api::need(options, &scope.endpoint, "ps")?;
    }
    let here = if api.as_ref().is_none_or(Api::is_of_this_host) { here(options)? } else { Vec::new() };
    let Some(api) = api else { return local(&here, arguments) };
    let seen = Seen::of(&api, arguments)?;
    let entries = merged(here, seen.tasks, arguments);
    if arguments.output.is_json() {
        output::print_json(&entries.iter().map(Entry::json).collect::<Vec<Value>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    let now = clock::now();
    let own_host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let several = entries.iter().any(|entry| entry.cluster().is_some_and(|cluster| cluster != DEFAULT_CLUSTER));
    let rows = entries.iter().map(|entry| {
        let mut row = entry.row(now);
        row.insert(STATUS_COLUMN + 1, entry.host(&seen.hosts).unwrap_or(&own_host).to_owned());
        if several {
            row.insert(STATUS_COLUMN + 1, entry.cluster().unwrap_or_default().to_owned());
        }
        row
    });
    let mut header = HEADER.to_vec();
    header.insert(STATUS_COLUMN + 1, "HOST");
    if several {
        header.insert(STATUS_COLUMN + 1, "CLUSTER");
    }
    output::print(&output::table(&header, rows.collect()))?;
    Ok(ExitCode::SUCCESS)
}

const HEADER: [&str; 8] = ["TASK", "NAME", "DEFINITION", "STATUS", "CREATED", "CONTAINERS", "ADDRESS", "PORTS"];
const STATUS_COLUMN: usize = 3;
const DEFAULT_CLUSTER: &str = "default";

/// Every task that this host knows.
fn here(options: &Options) -> Result<Vec<Task>, Failure> {
    let host = recovery::host(options)?;
    recovery::recover(&host, Network::Always);
    let (tasks, unreadable) = task_dir::list(&host.roots)?;
    for error in unreadable {
        eprint!("{}", Failure::from(error));
    }
    Ok(tasks)
}

fn local(tasks: &[Task], arguments: &Arguments) -> Outcome {
    let shown: Vec<&Task> = tasks.iter().filter(|task| arguments.all || !task.is_stopped()).collect();
    if arguments.output.is_json() {
        output::print_json(&shown.iter().map(|task| inspect::json(task)).collect::<Vec<Value>>())?;
    } else {
        let now = clock::now();
        let rows = shown.iter().map(|task| row(task, now)).collect();
        output::print(&output::table(&HEADER, rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the API tells of the clusters.
struct Seen {
    tasks: Vec<Described>,
    hosts: BTreeMap<String, String>,
}

impl Seen {
    fn of(api: &Api, arguments: &Arguments) -> Result<Seen, Failure> {
        let mut seen = Seen { tasks: Vec::new(), hosts: BTreeMap::new() };
        for cluster in cluster::clusters(api, &arguments.scope)? {
            let mut arns = cluster::arns(api, &cluster, DesiredStatus::Running)?;
            if arguments.all {
                arns.extend(cluster::arns(api, &cluster, DesiredStatus::Stopped)?);
            }
            let tasks = cluster::describe(api, &cluster, &arns)?;
            // Names of hosts are for the table, and only where there is something in it.
            if !tasks.is_empty() && !arguments.output.is_json() {
                seen.hosts.extend(cluster::hosts(&cluster::instances(api, &cluster)?));
            }
            seen.tasks.extend(tasks);
        }
        Ok(seen)
    }
}

/// A task by who knows it: each is there once.
enum Entry {
    Here(Box<Task>),
    InCluster(Box<Described>),
    Both(Box<Task>, Box<Described>),
}

/// The newest first.
fn merged(here: Vec<Task>, tasks: Vec<Described>, arguments: &Arguments) -> Vec<Entry> {
    let mut described: BTreeMap<String, Described> =
        tasks.into_iter().map(|task| (task.id().to_owned(), task)).collect();
    let mut entries = Vec::new();
    for task in here {
        match described.remove(task.spec.id.as_str()) {
            Some(described) => entries.push(Entry::Both(Box::new(task), Box::new(described))),
            // With a cluster named, tasks of none are not meant.
            None if arguments.scope.cluster.is_some() => {}
            None => entries.push(Entry::Here(Box::new(task))),
        }
    }
    entries.extend(described.into_values().map(|task| Entry::InCluster(Box::new(task))));
    entries.retain(|entry| arguments.all || !entry.is_stopped());
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.created_at()));
    entries
}

impl Entry {
    fn is_stopped(&self) -> bool {
        match self {
            Entry::Here(task) => task.is_stopped(),
            Entry::InCluster(described) | Entry::Both(_, described) => described.is_stopped(),
        }
    }

    fn created_at(&self) -> Timestamp {
        match self {
            Entry::Here(task) | Entry::Both(task, _) => task.spec.created_at,
            Entry::InCluster(described) => described.task.created_at,
        }
    }

    fn cluster(&self) -> Option<&str> {
        match self {
            Entry::Here(_) => None,
            Entry::InCluster(described) | Entry::Both(_, described) => Some(&described.cluster),
        }
    }

    /// Nothing for this host.
    fn host<'a>(&self, hosts: &'a BTreeMap<String, String>) -> Option<&'a str> {
        match self {
            Entry::Here(_) | Entry::Both(..) => None,
            Entry::InCluster(described) => Some(cluster::host_of(&described.task, hosts).unwrap_or("-")),
        }
    }

    fn json(&self) -> Value {
        match self {
            Entry::Here(task) => inspect::json(task),
            Entry::InCluster(described) => described.value.clone(),
            Entry::Both(task, described) => inspect::both(task, described),
        }
    }

    fn row(&self, now: Timestamp) -> Vec<String> {
        match self {
            Entry::Here(task) | Entry::Both(task, _) => row(task, now),
            Entry::InCluster(described) => vec![
                cluster::short(&described.task.task_arn),
                described.name(),
                output::printable(described.definition()),
                described.status(now),
                format!("{} ago", time_text::span(now.ms_since(described.task.created_at))),
                described.containers(),
                described.address(),
                described.ports(),
            ],
        }
    }
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
