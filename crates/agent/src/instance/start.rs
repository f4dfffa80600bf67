//! One assigned task started through the driver, on a thread of its own: it may pull for minutes.

use std::sync::{Arc, OnceLock};

use agent_protocol::TaskSpec;
use agent_protocol::session::AssignedTask;
use ecs::LaunchType;
use images::Silent;

use super::adopt::{self, Found};
use super::disk::{Disk, Durability, Ended, Mark};
use super::reconcile::Why;
use super::{clock, verdict};
use crate::compose::{Identity, Plan};
use crate::driver::{self, Images, StartError};
use crate::host::Host;
use crate::recovery::chain;
use crate::wanted_images::{ImageError, Pull, Unreachable, Wanted};

/// What every start of this instance needs.
#[derive(Debug)]
pub(super) struct Starter {
    pub(super) host: Host,
    pub(super) disk: Disk,
    pub(super) boot_id: String,
    pub(super) pull: Pull,
    pub(super) unreachable: Arc<Unreachable>,
}

/// Set once, by a stop that comes before the task has begun.
#[derive(Clone, Debug, Default)]
pub(super) struct Cancel(Arc<OnceLock<Why>>);

impl Cancel {
    pub(super) fn set(&self, why: Why) {
        // The first reason is the one that counts.
        self.0.set(why).ok();
    }

    fn why(&self) -> Option<Why> {
        self.0.get().cloned()
    }
}

impl Starter {
    /// The mark first: from here on this task is never begun again in this boot.
    ///
    /// # Errors
    /// How it ended without having run; that is written down.
    pub(super) fn start(
        &self,
        assigned: &AssignedTask,
        versions_before: u64,
        cancel: &Cancel,
    ) -> Result<Box<TaskSpec>, Ended> {
        let started = self.begin(assigned, versions_before, cancel);
        // Whatever went wrong, a stop that came before is why it does not run.
        started.map(Box::new).map_err(|why| {
            let ended = ended(cancel.why().unwrap_or(why));
            self.write_end(&assigned.id, versions_before, &ended);
            ended
        })
    }

    fn begin(&self, assigned: &AssignedTask, versions_before: u64, cancel: &Cancel) -> Result<TaskSpec, Why> {
        if let Some(why) = cancel.why() {
            return Err(why);
        }
        let mark = Mark { boot_id: self.boot_id.clone(), begun: true, versions_before, ended: None };
        let marked = self.disk.mark(&assigned.id, &mark, Durability::Kernel);
        marked.map_err(|error| verdict::resource(&error))?;
        let plan = plan(assigned)?;
        self.drive(&plan, cancel).or_else(|error| {
            tracing::warn!(task = %assigned.id, error = chain(&error), "a task cannot be started");
            let taken_over = match &error {
                StartError::Handover(_) => self.taken_over(&assigned.id),
                _ => None,
            };
            taken_over.ok_or_else(|| verdict::of_start(&error))
        })
    }

    /// Whether its supervisor got a task and only the answer was lost: what it does then is what counts.
    fn taken_over(&self, id: &ecs::TaskId) -> Option<TaskSpec> {
        loop {
            match adopt::find(&self.host, id) {
                Found::Living(spec) | Found::Stopped(spec, _) => return Some(*spec),
                Found::Nothing => return None,
                Found::Unclear(why) => {
                    tracing::warn!(task = %id, why, "whether a task has been started is not known; it is asked again");
                }
            }
        }
    }

    fn drive(&self, plan: &Plan, cancel: &Cancel) -> Result<TaskSpec, StartError<ImageError>> {
        let wanted = Wanted::of(&self.host, plan, self.pull, Arc::clone(&self.unreachable), Arc::new(Silent));
        let wanted = wanted.map_err(StartError::Images)?;
        let gathered = driver::gather(&self.host, plan, clock::now())?;
        if cancel.why().is_some() {
            return Err(StartError::Unwanted);
        }
        let images = Images { find: || wanted.find(), pull: || wanted.pull() };
        let started = driver::start(&self.host, plan, gathered, images, clock::now, || cancel.why().is_none())?;
        for said in &started.said {
            tracing::info!(task = %plan.task.id, said, "said of a task's start");
        }
        Ok(started.spec)
    }

    /// Writes down how a task ended that has no directory to tell it.
    pub(super) fn write_end(&self, id: &ecs::TaskId, versions_before: u64, ended: &Ended) {
        let mark = Mark { boot_id: self.boot_id.clone(), begun: true, versions_before, ended: Some(ended.clone()) };
        if let Err(error) = self.disk.mark(id, &mark, Durability::Disk) {
            // It is told now. After a restart of the agent it is one whose start was interrupted.
            tracing::warn!(task = %id, error = chain(&error), "how a task ended is not written down");
        }
    }
}

pub(super) fn ended(why: Why) -> Ended {
    Ended { code: why.code, reason: why.reason, at: clock::now() }
}

fn plan(assigned: &AssignedTask) -> Result<Plan, Why> {
    let launch_type = LaunchType::read(&assigned.launch_type).map_err(|error| verdict::resource(&error))?;
    Ok(Plan {
        task: Identity {
            id: assigned.id.clone(),
            cluster: assigned.cluster.clone(),
            account_id: assigned.account_id.clone(),
            group: assigned.group.clone(),
            tags: assigned.tags.clone(),
            created_at: assigned.created_at,
        },
        definition: (*assigned.definition).clone(),
        name: None,
        region: assigned.region.clone(),
        launch_type,
        interface: assigned.network.clone().unwrap_or_default(),
    })
}
