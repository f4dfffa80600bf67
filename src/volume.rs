//! `coracle volume …`: volumes that outlive their tasks.

use std::collections::BTreeMap;
use std::process::ExitCode;

use agent::volumes::{self, Store, StoreError, StoredVolume};
use agent_protocol::{VolumeSource, VolumeSpec};
use clap::{Args, Subcommand};
use runtime::task_dir::{self, Task};
use serde_json::{Value, json};

use crate::failure::{BAD_INPUT, Explain, Failure, Outcome};
use crate::options::{Options, Output, require_root};
use crate::{clock, output, recovery};

/// Make, list and remove volumes that outlive tasks
#[derive(Args, Debug)]
#[command(
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "Example:\n  sudo coracle volume create --label team=shop orders\n\nA task definition names it with \"dockerVolumeConfiguration\": {\"scope\": \"shared\"}."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Ls(Ls),
    Create(Create),
    Inspect(Inspect),
    Rm(Rm),
}

/// List the volumes of this host and who uses them
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  sudo coracle volume ls --output json")]
struct Ls {
    #[command(flatten)]
    output: Output,
}

/// Make a volume
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  sudo coracle volume create orders\n  sudo coracle volume create --opt type=nfs --opt device=:/export --opt o=addr=files.lan,nfsvers=4.1 shared-files"
)]
struct Create {
    /// Letters, digits, '_', '-' and '.'.
    name: String,
    /// A label; may be given more than once.
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    /// type, device or o, as Docker's local driver takes them; may be given more than once.
    #[arg(long, value_name = "NAME=VALUE")]
    opt: Vec<String>,
}

/// Show volumes as JSON
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  sudo coracle volume inspect orders")]
struct Inspect {
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

/// Remove volumes with their data; one in use stays
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  sudo coracle volume rm orders")]
struct Rm {
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

pub(crate) fn run(options: &Options, arguments: &Arguments) -> Outcome {
    require_root("volume")?;
    let host = recovery::host(options)?;
    // What a killed task left says that it still uses its volumes.
    recovery::recover(&host, agent::recovery::Network::IfCutShort);
    let store = Store::of(&host);
    let tasks = || task_dir::list(&host.roots).map(|(tasks, _)| tasks).doing("listing the tasks");
    match &arguments.command {
        Command::Ls(arguments) => list(&store, &tasks()?, arguments.output),
        Command::Create(arguments) => create(&store, arguments),
        Command::Inspect(arguments) => inspect(&store, &tasks()?, &arguments.names),
        Command::Rm(arguments) => remove(&store, &arguments.names, || {
            let list = task_dir::list(&host.roots).map(|(tasks, _)| tasks);
            list.map_err(|error| StoreError::Io {
                action: "list the tasks in",
                path: host.roots.tasks(),
                source: std::io::Error::other(error),
            })
        }),
    }
}

fn list(store: &Store, tasks: &[Task], output: Output) -> Outcome {
    let volumes = store.list().doing("listing the volumes")?;
    if output.is_json() {
        let stored = volumes.iter().map(|volume| shown(store, volume, tasks));
        output::print_json(&stored.chain(of_tasks(tasks)).collect::<Vec<Value>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    let stored = volumes.iter().map(|volume| {
        let users = volumes::users(tasks, &volume.name);
        vec![
            volume.name.clone(),
            "shared".to_owned(),
            labels(&volume.labels),
            if users.is_empty() { "-".to_owned() } else { output::printable(&users.join(", ")) },
            output::printable(&place(store, volume)),
        ]
    });
    let own = task_volumes(tasks).map(|(task, volume)| {
        let user = output::printable(&user(task));
        vec![output::printable(&volume.name), "task".to_owned(), labels(&volume.labels), user, "-".to_owned()]
    });
    let rows = stored.chain(own).collect();
    output::print(&output::table(&["NAME", "SCOPE", "LABELS", "USED BY", "MOUNTPOINT"], rows))?;
    Ok(ExitCode::SUCCESS)
}

fn labels(labels: &BTreeMap<String, String>) -> String {
    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if labels.is_empty() { "-".to_owned() } else { output::printable(&labels.join(",")) }
}

/// Volumes that live as long as their tasks, of those that live.
fn task_volumes(tasks: &[Task]) -> impl Iterator<Item = (&Task, &VolumeSpec)> {
    let living = tasks.iter().filter(|task| !task.is_stopped());
    living.flat_map(|task| task.spec.volumes.iter().map(move |volume| (task, volume))).filter(|(_, volume)| {
        let is_path = matches!(volume.source, VolumeSource::Host { .. } | VolumeSource::Shared { .. });
        !volume.shared && !is_path
    })
}

fn user(task: &Task) -> String {
    format!("task {} ({}:{})", task.spec.id, task.spec.family, task.spec.revision)
}

fn of_tasks(tasks: &[Task]) -> impl Iterator<Item = Value> {
    task_volumes(tasks).map(|(task, volume)| {
        json!({
            "name": volume.name,
            "driver": "local",
            "scope": "task",
            "labels": volume.labels,
            "createdAt": task.spec.created_at,
            "mountpoint": Value::Null,
            "usedBy": [user(task)],
        })
    })
}

/// A directory of this host, or what a task mounts.
fn place(store: &Store, volume: &StoredVolume) -> String {
    match volume.driver_opts.get("device").filter(|device| !device.is_empty()) {
        Some(device) => device.clone(),
        None => store.mountpoint(&volume.name).display().to_string(),
    }
}

fn shown(store: &Store, volume: &StoredVolume, tasks: &[Task]) -> Value {
    let mounted = volume.driver_opts.get("device").is_some_and(|device| !device.is_empty());
    json!({
        "name": volume.name,
        "driver": "local",
        "scope": "shared",
        "labels": volume.labels,
        "driverOpts": volume.driver_opts,
        "createdAt": volume.created_at,
        "mountpoint": if mounted { Value::Null } else { json!(store.mountpoint(&volume.name)) },
        "usedBy": volumes::users(tasks, &volume.name),
    })
}

fn create(store: &Store, arguments: &Create) -> Outcome {
    let bad = |failure: Failure| failure.exit(BAD_INPUT);
    let volume = StoredVolume {
        name: arguments.name.clone(),
        labels: pairs("--label", &arguments.label).map_err(bad)?,
        driver_opts: pairs("--opt", &arguments.opt).map_err(bad)?,
        created_at: clock::now(),
    };
    volumes::local_driver(&volume.driver_opts).map_err(|why| bad(Failure::new(why)))?;
    store.create(&volume).doing("no volume was made").map_err(|failure| match store.get(&arguments.name) {
        Err(StoreError::Name { .. }) => bad(failure),
        _ => failure,
    })?;
    output::print(&format!("{}\n", volume.name))?;
    Ok(ExitCode::SUCCESS)
}

fn pairs(option: &str, given: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => {
            Err(Failure::new(format!("{option} {text:?} has no value")).next(format!("{option} NAME=VALUE")))
        }
    };
    given.iter().map(pair).collect()
}

fn inspect(store: &Store, tasks: &[Task], names: &[String]) -> Outcome {
    let found = names.iter().map(|name| {
        let volume = store.get(name).doing("no volume to show")?;
        let missing = || Failure::new(format!("there is no volume {name}")).next("coracle volume ls");
        Ok(shown(store, &volume.ok_or_else(missing)?, tasks))
    });
    output::print_json(&found.collect::<Result<Vec<Value>, Failure>>()?)?;
    Ok(ExitCode::SUCCESS)
}

fn remove(store: &Store, names: &[String], tasks: impl Fn() -> Result<Vec<Task>, StoreError>) -> Outcome {
    let mut exit = ExitCode::SUCCESS;
    for name in names {
        match store.remove(name, &tasks) {
            Ok(()) => output::print(&format!("{name}\n"))?,
            Err(error) => {
                let next = match &error {
                    StoreError::InUse { .. } => Some("coracle stop TASK first"),
                    StoreError::NotFound { .. } => Some("coracle volume ls"),
                    StoreError::Name { .. } | StoreError::Exists { .. } | StoreError::Io { .. } => None,
                };
                let failure = Failure::from(error).doing(format!("volume {name} was not removed"));
                let failure = next.into_iter().fold(failure, Failure::next);
                eprint!("{failure}");
                exit = ExitCode::from(failure.exit);
            }
        }
    }
    Ok(exit)
}
