//! What a SIGKILL or a power cut left of tasks, found and cleaned by the next coracle that looks.
//!
//! A task is cut short when its status is not STOPPED, nobody has claimed it and no supervisor has its lock (see
//! `task_dir` for the two locks). Everything of it is found by names that follow from its id: its cgroups with all
//! processes in them, its run directory, its containers' files. Mounts and network namespaces went with the
//! processes. What the network has besides is the caller's to sweep, by the ids that come back.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use agent_protocol::task_spec::FORMAT;
use agent_protocol::{ContainerStatus, ProcessIdentity, TaskSpec, TaskStatus};
use ecs::task::{ContainerLastStatus, DesiredStatus, HealthStatus, LastStatus, StopCode};
use ecs::{TaskId, Timestamp};

use crate::cgroup::Cgroups;
use crate::host_services;
use crate::process_identity;
use crate::shipper::{self, CGROUP_PREFIX, Stage};
use crate::status_file::{self, Durability};
use crate::supervisor::journal::chain;
use crate::task_dir::{self, CONTAINERS_NAME, Claim, Roots, remove_tree};

/// Why a task stopped whose supervisor did not live to say it.
pub const CUT_SHORT: &str = "Task supervisor ended before its task; what was left of the task was killed and removed";
const UNSEEN: &str = "ContainerRuntimeError: the task's supervisor ended first; how the container ended was not seen";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Tasks that were cut short; they are STOPPED now.
    pub ended: Vec<TaskId>,
    /// Tasks that had not been written down yet; nothing is left of them.
    pub removed: Vec<TaskId>,
    /// What could not be cleaned, each with its cause. The next `recover` tries again where the status says so.
    pub errors: Vec<String>,
}

/// Cleans up after every task that was cut short. Tasks that are being made, and those that are supervised, are not
/// touched; it is safe to call at any time and from several processes at once.
pub fn recover(roots: &Roots, now: Timestamp) -> RecoveryReport {
    let mut report = RecoveryReport::default();
    let orphans = match claim_orphans(roots, &mut report.errors) {
        Ok(orphans) => orphans,
        Err(error) => {
            report.errors.push(chain(&error));
            return report;
        }
    };
    let cgroups = match Cgroups::detect() {
        Ok(cgroups) => cgroups,
        Err(error) => {
            report.errors.push(chain(&error));
            return report;
        }
    };
    remove_empty_leaves(roots, &cgroups);
    remove_empty_shipper_leaves(roots, &cgroups);
    host_services::remove_empty_leaf(roots, &cgroups);
    for (id, claim) in orphans {
        match clean(roots, &cgroups, &id, now) {
            Ok(Left::Stopped) => report.ended.push(id),
            Ok(Left::Nothing) => report.removed.push(id),
            Err(errors) => report.errors.extend(errors.into_iter().map(|error| format!("task {id}: {error}"))),
        }
        drop(claim);
    }
    report
}

/// Every orphan, claimed: from here on no other process thinks so too.
fn claim_orphans(roots: &Roots, errors: &mut Vec<String>) -> Result<Vec<(TaskId, Claim)>, task_dir::TaskDirError> {
    if !roots.tasks().is_dir() {
        return Ok(Vec::new());
    }
    let _all = task_dir::lock_all(roots)?;
    let mut orphans = Vec::new();
    for id in task_dir::ids(roots)? {
        match claim_orphan(&roots.places(&id).state) {
            Ok(Some(claim)) => orphans.push((id, claim)),
            Ok(None) => {}
            Err(error) => errors.push(format!("task {id}: {}", chain(&error))),
        }
    }
    Ok(orphans)
}

/// The tasks that have stopped are many and are told by a look-up each; those that live by two more.
fn claim_orphan(state: &Path) -> Result<Option<Claim>, task_dir::TaskDirError> {
    if task_dir::is_retired(state) || task_dir::supervised(state)? {
        return Ok(None);
    }
    let Some(claim) = task_dir::claim(state)? else { return Ok(None) };
    // Asked again now that nobody can start or remove it: its supervisor may have begun or ended meanwhile.
    if task_dir::supervised(state)? {
        return Ok(None);
    }
    if task_dir::is_stopped(state) {
        task_dir::retire(state)?;
        return Ok(None);
    }
    Ok(Some(claim))
}

/// A supervisor leaves its own cgroup after its last status; killed in between, it leaves the empty cgroup behind. The
/// leaf of a task that is being made is empty too, and stays.
fn remove_empty_leaves(roots: &Roots, cgroups: &Cgroups) {
    let parent = roots.cgroup_parent.strip_prefix("/").unwrap_or(&roots.cgroup_parent);
    // A leaf is in every hierarchy, but may have gone from some of them only. No tasks yet, no directory.
    let listings = cgroups.mounts().filter_map(|mount| fs::read_dir(mount.join(parent)).ok());
    let leaves: BTreeSet<TaskId> =
        listings.flat_map(|listing| listing.flatten()).filter_map(|entry| leaf_of(&entry.file_name())).collect();
    for id in leaves {
        let places = roots.places(&id);
        // Doubt keeps the leaf, which is empty or in use.
        if task_dir::supervised(&places.state).unwrap_or(true) {
            continue;
        }
        // Without a directory there is nobody who could be making it; a claim is kept while the leaf goes.
        let claim = task_dir::claim(&places.state);
        if !places.state.exists() || claim.as_ref().is_ok_and(Option::is_some) {
            cgroups.remove_if_empty(&places.supervisor_cgroup);
        }
    }
}

fn leaf_of(name: &OsStr) -> Option<TaskId> {
    TaskId::try_from(name.to_str()?.strip_prefix("supervisor-")?.to_owned()).ok()
}

/// A log shipper's empty cgroup, where it was killed. Whoever starts another makes it anew.
fn remove_empty_shipper_leaves(roots: &Roots, cgroups: &Cgroups) {
    let parent = roots.cgroup_parent.strip_prefix("/").unwrap_or(&roots.cgroup_parent);
    let listings = cgroups.mounts().filter_map(|mount| fs::read_dir(mount.join(parent)).ok());
    let names: BTreeSet<String> = listings
        .flat_map(|listing| listing.flatten())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    for id in names.iter().filter_map(|name| TaskId::try_from(name.strip_prefix(CGROUP_PREFIX)?.to_owned()).ok()) {
        let places = roots.places(&id);
        // One that is being started has its lock already.
        if shipper::stage(&places.state).is_ok_and(|stage| stage != Stage::Running) {
            cgroups.remove_if_empty(&shipper::cgroup(&id, &places));
        }
    }
}

enum Left {
    /// Its state directory, with a last status.
    Stopped,
    Nothing,
}

fn clean(roots: &Roots, cgroups: &Cgroups, id: &TaskId, now: Timestamp) -> Result<Left, Vec<String>> {
    let places = roots.places(id);
    let mut errors: Vec<String> = Vec::new();
    for cgroup in [&places.supervisor_cgroup, &places.cgroup] {
        errors.extend(cgroups.remove(cgroup).iter().map(|error| chain(error)));
    }
    for directory in [places.run, places.state.join(CONTAINERS_NAME)] {
        if let Err(cause) = remove_tree(&directory) {
            errors.push(format!("cannot remove {}: {cause}", directory.display()));
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let one = |error: &dyn std::error::Error| vec![chain(error)];
    let Some(spec) = task_dir::read_spec(&places.state).unwrap_or(None) else {
        remove_tree(&places.state).map_err(|cause| one(&cause))?;
        return Ok(Left::Nothing);
    };
    // An unreadable status tells as little as a missing one.
    let last = status_file::read(&places.state).unwrap_or(None);
    let cleaner = process_identity::own().map_err(|cause| one(&cause))?;
    let status = cut_short(&spec, last, cleaner, now);
    status_file::write(&places.state, &status, Durability::Disk).map_err(|error| one(&error))?;
    task_dir::retire(&places.state).map_err(|error| one(&error))?;
    Ok(Left::Stopped)
}

/// The last status of a task that nobody saw end.
fn cut_short(spec: &TaskSpec, last: Option<TaskStatus>, cleaner: ProcessIdentity, now: Timestamp) -> TaskStatus {
    let last = last.unwrap_or_else(|| never_began(spec, cleaner));
    let ran = last.containers.iter().any(|container| container.started_at.is_some());
    let code = if ran { StopCode::EssentialContainerExited } else { StopCode::TaskFailedToStart };
    TaskStatus {
        version: last.version + 1,
        last_status: LastStatus::Stopped,
        desired_status: DesiredStatus::Stopped,
        stopping_at: last.stopping_at.or(Some(now)),
        stopped_at: Some(now),
        stop_code: last.stop_code.or(Some(code)),
        stopped_reason: Some(match &last.stopped_reason {
            Some(reason) => format!("{reason} ({CUT_SHORT})"),
            None => CUT_SHORT.to_owned(),
        }),
        containers: last.containers.iter().map(|container| end_unseen(container, now)).collect(),
        ..last
    }
}

fn end_unseen(container: &ContainerStatus, now: Timestamp) -> ContainerStatus {
    let running = container.last_status != ContainerLastStatus::Stopped && container.started_at.is_some();
    ContainerStatus {
        last_status: ContainerLastStatus::Stopped,
        process: None,
        stuck: None,
        finished_at: if running { Some(now) } else { container.finished_at },
        reason: if running { Some(UNSEEN.to_owned()) } else { container.reason.clone() },
        ..container.clone()
    }
}

fn never_began(spec: &TaskSpec, cleaner: ProcessIdentity) -> TaskStatus {
    let containers = spec.containers.iter().map(|container| ContainerStatus {
        name: container.definition.name.clone(),
        last_status: ContainerLastStatus::Pending,
        process: None,
        created_at: None,
        started_at: None,
        finished_at: None,
        exit_code: None,
        reason: None,
        start_exit_code: None,
        health_status: HealthStatus::Unknown,
        health_status_since: None,
        health_output: None,
        stuck: None,
        restart_count: 0,
        start_stages_us: Vec::new(),
        log_lost_bytes: 0,
        log_error: None,
    });
    TaskStatus {
        format: FORMAT,
        id: spec.id.clone(),
        version: 0,
        supervisor: cleaner,
        last_status: LastStatus::Pending,
        desired_status: DesiredStatus::Running,
        pull_started_at: None,
        pull_stopped_at: None,
        started_at: None,
        stopping_at: None,
        execution_stopped_at: None,
        stopped_at: None,
        stop_code: None,
        stopped_reason: None,
        ended_by: None,
        containers: containers.collect(),
        health_status: HealthStatus::Unknown,
        teardown_errors: Vec::new(),
    }
}
