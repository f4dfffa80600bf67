//! `coracle rm`: forget stopped tasks, with their logs.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use agent::Host;
use agent::recovery::Network;
use clap::Args;
use ecs::TaskId;
use runtime::shipper::{self, Stage};
use runtime::task_dir::{self, TaskDirError};

use crate::failure::{Explain, Failure, Outcome};
use crate::options::{Options, require_root};
use crate::{output, ps, recovery, stop};

/// Remove stopped tasks with their logs
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  sudo coracle rm web\n  sudo coracle rm --force 1f2e3d 4c5b6a")]
pub(crate) struct Arguments {
    /// Ids, starts of ids, names or families.
    #[arg(required = true)]
    tasks: Vec<String>,
    /// Kill a task that still runs, then remove it.
    #[arg(short, long)]
    force: bool,
}

pub(crate) fn run(options: &Options, arguments: &Arguments) -> Outcome {
    require_root("rm")?;
    let host = recovery::host(options)?;
    recovery::recover(&host, Network::IfCutShort);
    let mut exit = ExitCode::SUCCESS;
    for wanted in &arguments.tasks {
        match remove(&host, wanted, arguments.force) {
            Ok(id) => output::print(&format!("{id}\n"))?,
            Err(failure) => {
                eprint!("{failure}");
                exit = ExitCode::from(failure.exit);
            }
        }
    }
    Ok(exit)
}

fn remove(host: &Host, wanted: &str, force: bool) -> Result<String, Failure> {
    let task = task_dir::find(&host.roots, wanted).doing("no task to remove")?;
    if !task.is_stopped() {
        if !force {
            return Err(Failure::new(format!("task {} still runs", ps::short_id(&task)))
                .next(format!("coracle stop {wanted} first, or coracle rm --force {wanted}")));
        }
        stop::kill_and_wait(&task)?;
    }
    forget(host, &task.spec.id)?;
    Ok(task.spec.id.to_string())
}

/// How long a supervisor that has written STOPPED, or was killed, may take to be gone.
const SUPERVISOR_END: Duration = Duration::from_secs(5);

/// How long a shipper may take beyond `log_shipping::DRAIN`: its last attempt may have begun just before.
const SHIPPER_END: Duration = Duration::from_secs(10);
const SHIPPER_LOOK: Duration = Duration::from_millis(5);
/// A shipper that is done within this is not worth a word.
const SHIPPER_QUIET: Duration = Duration::from_millis(500);

/// Waits until the task's output is shipped or given up; says what is waited for, and what got nowhere.
fn settle_logs(host: &Host, id: &TaskId) {
    let start = Instant::now();
    let limit = log_shipping::DRAIN + SHIPPER_END;
    let (mut told, mut replaced) = (false, false);
    loop {
        match shipper::stage(&host.roots.places(id).state) {
            Ok(Stage::Done) => break,
            Ok(Stage::Running) => {}
            Ok(Stage::CutShort) if !replaced => {
                replaced = true;
                recovery::recover(host, Network::IfCutShort);
            }
            // What can be said of it is in the task's directory, and goes with it.
            Ok(Stage::CutShort) | Err(_) => return,
        }
        if start.elapsed() > limit {
            return;
        }
        if start.elapsed() > SHIPPER_QUIET && !told {
            told = true;
            eprintln!("waiting for the logs of task {id} to be shipped, for at most {} s", limit.as_secs());
        }
        std::thread::sleep(SHIPPER_LOOK);
    }
    if let Ok(Some(task)) = task_dir::read(&host.roots, id) {
        tell_unshipped(&task);
    }
}

/// Beyond what the task's own end has told.
fn tell_unshipped(task: &task_dir::Task) {
    for container in &task.spec.containers {
        let name = &container.definition.name;
        let Some(shipping) = log_shipping::shipping(&task.spec, container) else { continue };
        let status = task.status.iter().flat_map(|status| &status.containers).find(|status| status.name == *name);
        let lost = shipping.lost_bytes.saturating_sub(status.map_or(0, |status| status.log_lost_bytes));
        if lost > 0 {
            let target = shipping.target.as_deref().unwrap_or("its log service");
            let why = shipping.last_error.map(|error| format!(": {error}")).unwrap_or_default();
            eprintln!("coracle: {lost} bytes of {name}'s output did not get to {target}{why}");
        }
    }
}

/// Removes a stopped task's directories. One that was cut short a moment ago is cleaned up first.
pub(crate) fn forget(host: &Host, id: &TaskId) -> Result<(), Failure> {
    settle_logs(host, id);
    let deadline = Instant::now() + SUPERVISOR_END;
    loop {
        match task_dir::remove(&host.roots, id) {
            Err(TaskDirError::Shipping { .. }) if Instant::now() < deadline => std::thread::sleep(SHIPPER_LOOK),
            // Its supervisor is not gone yet, or another coracle looks whether it must clean up after it.
            Err(TaskDirError::Running { .. } | TaskDirError::Claimed { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(TaskDirError::CutShort { .. }) if Instant::now() < deadline => {
                recovery::recover(host, Network::IfCutShort);
                // Nothing was written down of a task that had not begun, and nothing of it stays.
                if !host.roots.places(id).state.exists() {
                    return Ok(());
                }
            }
            result => return result.doing(format!("removing task {id}")),
        }
    }
}
