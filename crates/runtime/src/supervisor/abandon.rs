//! The end of a supervisor that never got its task: nothing of it stays.

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use agent_protocol::TaskSpec;
use ecs::TaskId;

use super::Process;
use super::clock::Clock;
use super::journal::Journal;
use crate::cgroup::Cgroups;
use crate::fork::{self, Fork, Parent};
use crate::process_identity;
use crate::spawn::SupervisorArgs;
use crate::task_dir::{self, remove_tree};

const LEAF_TRIES: u32 = 200;
const LEAF_RETRY_MS: u64 = 1;
const CLAIM_TRIES: u32 = 2_000;
const CLAIM_RETRY_MS: u64 = 1;

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
    // With the file goes our lock on it: without a claim, a cleaner would take the half of it for a task cut short. Who
    // looks has the claim for a moment only; a driver has it until it has heard of us, and keeps cleaners out as well.
    let mut tries = 0..CLAIM_TRIES;
    let _claim = loop {
        match task_dir::claim(&args.places.state) {
            Ok(None) if tries.next().is_some() && args.places.state.exists() => {
                std::thread::sleep(Duration::from_millis(CLAIM_RETRY_MS));
            }
            other => break other,
        }
    };
    for directory in [&args.places.run, &args.places.state] {
        if let Err(cause) = remove_tree(directory) {
            journal.say(clock.now(), &format!("cannot remove {}: {cause}", directory.display()));
            return false;
        }
    }
    true
}

/// Out of the leaf, so that it can go. In v1 a process moves itself for nothing. In v2 it would wait for a grace
/// period, ten milliseconds and more that somebody may be waiting for: there a child that is born in the root, where
/// there are no limits, removes the leaf when this process has ended.
pub(super) fn leave_own_cgroup(process: &Process, args: &SupervisorArgs) -> Result<(), String> {
    leave_cgroup(&process.cgroups, &args.places.supervisor_cgroup)
}

/// The same for any process of ours that has one thread and a leaf of its own.
pub(crate) fn leave_cgroup(cgroups: &Cgroups, leaf: &Path) -> Result<(), String> {
    cgroups.enter_v1(Path::new("/")).map_err(|error| super::chain(&error))?;
    cgroups.remove_if_empty(leaf);
    let Some(unified) = &cgroups.v2 else { return Ok(()) };
    let leaf = unified.mount.join(leaf.strip_prefix("/").unwrap_or(leaf));
    if !leaf.is_dir() {
        return Ok(());
    }
    let root = cgroups.birthplace(Path::new("/")).map_err(|error| super::chain(&error))?;
    let own = process_identity::open_number(std::process::id().cast_signed())
        .map_err(|cause| format!("cannot hold one's own process: {cause}"))?;
    match fork::fork_into(root.as_ref().map(AsFd::as_fd), Parent::Caller) {
        Ok(Fork::Child) => fork::run_survivor(own.as_fd(), || remove_leaf(&leaf)),
        Ok(Fork::Parent { .. }) => Ok(()),
        Err(cause) => Err(format!("cannot fork to remove {}: {cause}", leaf.display())),
    }
}

/// Tried a few times: a process may still be counted for a moment after its end.
fn remove_leaf(leaf: &Path) {
    for _ in 0..LEAF_TRIES {
        match fs::remove_dir(leaf) {
            Err(cause) if cause.raw_os_error() == Some(libc::EBUSY) => {
                std::thread::sleep(Duration::from_millis(LEAF_RETRY_MS));
            }
            // Whatever else is in the way, `recover` sweeps it.
            Ok(()) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task_dir::Roots;

    #[test]
    fn a_task_is_not_forgotten_under_the_hands_of_who_has_claimed_it() {
        let around = tempfile::tempdir().expect("a directory");
        let roots =
            Roots { data: around.path().join("data"), run: around.path().join("run"), cgroup_parent: "/".into() };
        let id = TaskId::try_from("0123456789abcdef0123456789abcdef".to_owned()).expect("an id");
        std::fs::create_dir_all(&roots.data).expect("made");
        std::fs::create_dir_all(&roots.run).expect("made");
        let task = task_dir::create(&roots, &id).expect("made");
        let args = SupervisorArgs { id, places: task.places.clone() };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let claim = task.claim;
                std::thread::sleep(Duration::from_millis(50));
                assert!(args.places.state.exists() && args.places.run.exists());
                drop(claim);
            });
            assert!(forget(&args, &mut Journal::open(&args.places.state), &Clock::new()));
        });
        assert!(!args.places.state.exists() && !args.places.run.exists());
    }
}
