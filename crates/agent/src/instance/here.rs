//! What a host has of its assigned tasks: found again when the agent starts, and kept up by what happens.

use std::collections::BTreeMap;

use agent_protocol::session::{AssignedTask, Desired, TaskReport};
use agent_protocol::{TaskSpec, TaskStatus};
use ecs::TaskId;
use ecs::task::LastStatus;
use runtime::recover::CUT_SHORT;
use runtime::task_dir;

use super::adopt::{self, Found};
use super::disk::{DiskError, Durability, Ended, Kept, Mark};
use super::reconcile::{Standing, Stopping, Why};
use super::report::{self, Around};
use super::start::{Cancel, Starter, ended};
use super::verdict;
use crate::recovery::chain;

#[derive(Debug)]
pub(super) enum Here {
    /// For others whose starts are under way.
    Waiting(Box<AssignedTask>),
    Starting {
        cancel: Cancel,
        stop: Option<Why>,
    },
    /// Its supervisor is taking it over, or is going.
    Settling {
        stop: Option<Why>,
    },
    Living {
        spec: Box<TaskSpec>,
        status: Option<Box<TaskStatus>>,
        stop: Option<Why>,
    },
    Stopped(End),
}

#[derive(Debug)]
pub(super) enum End {
    Told(Box<TaskSpec>, Box<TaskStatus>),
    /// It has no directory that could say it.
    Untold(Ended),
}

impl Here {
    pub(super) fn standing(&self) -> Standing {
        let asked = |stop: &Option<Why>| match stop {
            Some(_) => Standing::Present(Stopping::Asked),
            None => Standing::Present(Stopping::NotAsked),
        };
        match self {
            Here::Waiting(_) => Standing::Present(Stopping::NotAsked),
            Here::Starting { stop, .. } | Here::Settling { stop } | Here::Living { stop, .. } => asked(stop),
            Here::Stopped(_) => Standing::Stopped,
        }
    }

    /// Nothing where neither the task's directory nor its assignment says what it is.
    pub(super) fn report(&self, assigned: Option<&AssignedTask>, around: Around<'_>) -> Option<TaskReport> {
        match self {
            Here::Waiting(_) | Here::Starting { .. } | Here::Settling { .. } => {
                Some(report::of_assigned(assigned?, None, around))
            }
            Here::Living { spec, status, .. } => Some(report::of_task(spec, status.as_deref(), around)),
            Here::Stopped(End::Told(spec, status)) => Some(report::of_task(spec, Some(status), around)),
            Here::Stopped(End::Untold(ended)) => Some(report::of_assigned(assigned?, Some(ended), around)),
        }
    }
}

/// Everything that is known when the agent starts.
#[derive(Debug, Default)]
pub(super) struct Adopted {
    pub(super) here: BTreeMap<TaskId, Here>,
    /// Of tasks that are started again after a reboot.
    pub(super) versions_before: BTreeMap<TaskId, u64>,
}

/// Looks up each task that was begun here or is assigned. Blocks; nothing waits for a supervisor.
///
/// # Errors
/// The marks cannot be read: nobody knows what was begun.
pub(super) fn adopt(starter: &Starter, kept: Option<&Kept>, host_name: &str) -> Result<Adopted, DiskError> {
    let mut marks = starter.disk.marks()?;
    let mut adopted = Adopted::default();
    for assigned in kept.iter().flat_map(|kept| &kept.assignment.tasks) {
        let boot_id = kept.map_or("", |kept| &kept.boot_id);
        let mark = marks.remove(&assigned.id);
        let candidate = Candidate { starter, id: &assigned.id, assigned: Some(assigned), mark, boot_id, host_name };
        candidate.adopt(&mut adopted);
    }
    // No longer assigned: to be stopped, or forgotten.
    for (id, mark) in marks {
        let candidate = Candidate { starter, id: &id, assigned: None, mark: Some(mark), boot_id: "", host_name };
        candidate.adopt(&mut adopted);
    }
    Ok(adopted)
}

struct Candidate<'a> {
    starter: &'a Starter,
    id: &'a TaskId,
    assigned: Option<&'a AssignedTask>,
    mark: Option<Mark>,
    /// Of the boot in which its assignment was written down.
    boot_id: &'a str,
    host_name: &'a str,
}

impl Candidate<'_> {
    fn adopt(self, adopted: &mut Adopted) {
        let versions_before = self.mark.as_ref().map_or(0, |mark| mark.versions_before);
        if versions_before > 0 {
            adopted.versions_before.insert(self.id.clone(), versions_before);
        }
        let here = match &self.mark {
            Some(Mark { ended: Some(ended), .. }) => Some(Here::Stopped(End::Untold(ended.clone()))),
            Some(Mark { begun: false, .. }) => None,
            None if self.has_directory() => {
                // Somebody has taken its mark away. It is this instance's all the same.
                self.mark_again();
                self.begun(versions_before, adopted)
            }
            None if !self.is_of_an_earlier_boot() => None,
            Some(_) | None => self.begun(versions_before, adopted),
        };
        if let Some(here) = here {
            adopted.here.insert(self.id.clone(), here);
        }
    }

    fn has_directory(&self) -> bool {
        self.starter.host.roots.places(self.id).state.exists()
    }

    fn mark_again(&self) {
        let mark = Mark { boot_id: self.boot_id.to_owned(), begun: true, ..Mark::default() };
        if let Err(error) = self.starter.disk.mark(self.id, &mark, Durability::Disk) {
            tracing::warn!(task = %self.id, error = chain(&error), "a task is not marked");
        }
    }

    /// Without a mark it may have been begun all the same: one that was lost with the power.
    fn is_of_an_earlier_boot(&self) -> bool {
        let boot_id = self.mark.as_ref().map_or(self.boot_id, |mark| &mark.boot_id);
        !boot_id.is_empty() && boot_id != self.starter.boot_id
    }

    /// "Only those of services": a task that nobody replaces is not run a second time.
    fn is_to_run_again(&self) -> bool {
        let wanted = |assigned: &AssignedTask| assigned.service.is_some() && assigned.desired == Desired::Running;
        self.is_of_an_earlier_boot() && self.assigned.is_some_and(wanted)
    }

    fn begun(&self, versions_before: u64, adopted: &mut Adopted) -> Option<Here> {
        match adopt::look(&self.starter.host, self.id) {
            Ok(Found::Living(spec)) => Some(Here::Living { spec, status: None, stop: None }),
            Ok(Found::Stopped(spec, status)) => {
                if self.is_to_run_again() && was_cut_short(&status) {
                    let versions = versions_before + status.version;
                    match self.make_way(versions) {
                        Ok(()) => {
                            adopted.versions_before.insert(self.id.clone(), versions);
                            return None;
                        }
                        Err(why) => tracing::warn!(task = %self.id, why, "a task is not started again"),
                    }
                }
                Some(Here::Stopped(End::Told(spec, status)))
            }
            Ok(Found::Nothing) if self.is_to_run_again() => None,
            Ok(Found::Nothing) => {
                let of_before = self.is_of_an_earlier_boot();
                let why = if of_before { verdict::rebooted(self.host_name) } else { verdict::interrupted() };
                let ended = ended(why);
                self.starter.write_end(self.id, versions_before, &ended);
                Some(Here::Stopped(End::Untold(ended)))
            }
            Ok(Found::Unclear(_)) | Err(_) => Some(Here::Settling { stop: None }),
        }
    }

    /// The mark first: its directory is what says that it ran before.
    fn make_way(&self, versions_before: u64) -> Result<(), String> {
        let mark = Mark { boot_id: self.starter.boot_id.clone(), begun: false, versions_before, ended: None };
        self.starter.disk.mark(self.id, &mark, Durability::Disk).map_err(|error| chain(&error))?;
        task_dir::remove(&self.starter.host.roots, self.id).map_err(|error| {
            // As before: it was begun, and is not begun again.
            let mark = Mark { begun: true, ..mark };
            self.starter.disk.mark(self.id, &mark, Durability::Disk).err();
            chain(&error)
        })
    }
}

fn was_cut_short(status: &TaskStatus) -> bool {
    let reason = status.stopped_reason.as_deref();
    status.last_status == LastStatus::Stopped && reason.is_some_and(|reason| reason.contains(CUT_SHORT))
}
