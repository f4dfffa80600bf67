//! The end of a supervisor that never got its task: nothing of it stays.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use agent_protocol::TaskSpec;
use ecs::TaskId;

use super::Process;
use super::clock::Clock;
use super::journal::Journal;
use crate::spawn::SupervisorArgs;
use crate::task_dir::{self, remove_tree};

/// The driver has gone before `Go`, or its `Go` made no sense: nobody was promised this task, so its directories go
/// too. What cannot be removed is found by `recover`, which sees a task that nobody owns.
pub(super) fn abandon(
    args: &SupervisorArgs,
    process: Process,
    journal: &mut Journal,
    clock: &Clock,
    teardown: impl FnOnce(&TaskId, Option<&TaskSpec>) -> Vec<String>,
) -> ExitCode {
    // An unreadable spec is as good as none: the network is found by the task's id then.
    let spec = task_dir::read_spec(&args.places.state).unwrap_or(None);
    let mut errors = teardown(&args.id, spec.as_ref());
    errors.extend(process.cgroups.remove(&args.places.cgroup).iter().map(|error| super::chain(error)));
    errors.extend(leave_own_cgroup(&process, args).err());
    for error in &errors {
        journal.say(clock.now(), error);
    }
    if !errors.is_empty() {
        return ExitCode::FAILURE;
    }
    if forget(args, journal, clock) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Removes the task's directories; whether that worked. For a supervisor that could not even begin, whose driver has
/// been told why.
pub(super) fn forget(args: &SupervisorArgs, journal: &mut Journal, clock: &Clock) -> bool {
    for directory in [&args.places.run, &args.places.state] {
        if let Err(cause) = remove_tree(directory) {
            journal.say(clock.now(), &format!("cannot remove {}: {cause}", directory.display()));
            return false;
        }
    }
    true
}

/// Out of the leaf and into the root, where there are no limits, so that the leaf can go. On v2 this waits for a
/// grace period, some milliseconds: it comes after everything that somebody may be waiting for.
pub(super) fn leave_own_cgroup(process: &Process, args: &SupervisorArgs) -> Result<(), String> {
    process.cgroups.enter_v1(Path::new("/")).map_err(|error| super::chain(&error))?;
    let leaf = &args.places.supervisor_cgroup;
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let in_leaf = own.lines().any(|line| line.strip_prefix("0::").is_some_and(|path| Path::new(path) == leaf));
    if let (true, Some(unified)) = (in_leaf, &process.cgroups.v2) {
        let procs = unified.mount.join("cgroup.procs");
        fs::write(&procs, "0").map_err(|cause| format!("cannot enter {}: {cause}", procs.display()))?;
    }
    process.cgroups.remove_if_empty(leaf);
    Ok(())
}
