//! `coracle rm`: forget stopped tasks, with their logs.

use std::process::ExitCode;
use std::time::{Duration, Instant};

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
    let roots = &host.roots;
    let mut exit = ExitCode::SUCCESS;
    for wanted in &arguments.tasks {
        match remove(roots, wanted, arguments.force) {
            Ok(id) => output::print(&format!("{id}\n"))?,
            Err(failure) => {
                eprint!("{failure}");
                exit = ExitCode::from(failure.exit);
            }
        }
    }
    Ok(exit)
}

fn remove(roots: &task_dir::Roots, wanted: &str, force: bool) -> Result<String, Failure> {
    let task = task_dir::find(roots, wanted).doing("no task to remove")?;
    if !task.is_stopped() {
        if !force {
            return Err(Failure::new(format!("task {} still runs", ps::short_id(&task)))
                .next(format!("coracle stop {wanted} first, or coracle rm --force {wanted}")));
        }
        stop::kill_and_wait(&task)?;
    }
    forget(roots, &task.spec.id)?;
    Ok(task.spec.id.to_string())
}

/// How long a supervisor that has written STOPPED may take to be gone.
const SUPERVISOR_END: Duration = Duration::from_secs(5);

/// Removes a stopped task's directories.
pub(crate) fn forget(roots: &task_dir::Roots, id: &TaskId) -> Result<(), Failure> {
    let deadline = Instant::now() + SUPERVISOR_END;
    loop {
        match task_dir::remove(roots, id) {
            Err(TaskDirError::Running { .. }) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            result => return result.doing(format!("removing task {id}")),
        }
    }
}
