//! `coracle rm`: forget stopped tasks, with their logs.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use agent::Host;
use agent::recovery::Network;
use clap::Args;
use ecs::TaskId;
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

/// Removes a stopped task's directories. One that was cut short a moment ago is cleaned up first.
pub(crate) fn forget(host: &Host, id: &TaskId) -> Result<(), Failure> {
    let deadline = Instant::now() + SUPERVISOR_END;
    loop {
        match task_dir::remove(&host.roots, id) {
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
