//! The tasks of this run directory as they stand, for whoever answers questions about them.

use std::sync::Arc;
use std::time::Duration;

use agent_protocol::{TaskSpec, TaskStatus};
use ecs::TaskId;
use tokio::sync::watch;
use tokio::time::timeout;

/// One task that has not stopped.
#[derive(Clone, Debug)]
pub struct Task {
    pub spec: Arc<TaskSpec>,
    pub status: Arc<TaskStatus>,
}

/// All of them at one moment, in the order of their creation.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub tasks: Vec<Task>,
}

impl Snapshot {
    pub fn task(&self, id: &TaskId) -> Option<&Task> {
        self.tasks.iter().find(|task| task.spec.id == *id)
    }
}

/// A view that is always the newest. Cheap to clone.
#[derive(Clone, Debug)]
pub struct World {
    newest: watch::Receiver<Arc<Snapshot>>,
}

impl World {
    pub fn new(newest: watch::Receiver<Arc<Snapshot>>) -> World {
        World { newest }
    }

    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.newest.borrow().clone()
    }

    /// This task, where it is known now or within some time: what has just begun may not have been told of yet.
    pub async fn task(&self, id: &TaskId, within: Duration) -> Option<Task> {
        let mut newest = self.newest.clone();
        let known = timeout(within, newest.wait_for(|snapshot| snapshot.task(id).is_some())).await;
        known.ok()?.ok()?.task(id).cloned()
    }

    /// The next one that differs from the last that this returned; nothing where there is no other any more.
    pub(crate) async fn changed(&mut self) -> Option<Arc<Snapshot>> {
        self.newest.changed().await.ok()?;
        Some(self.newest.borrow_and_update().clone())
    }

    /// Until something changes, or that time is over.
    pub async fn change(&self, seen: &Arc<Snapshot>, within: Duration) {
        let mut newest = self.newest.clone();
        // The time being over is an answer as well, and so is that nothing will ever change again.
        let _ = timeout(within, newest.wait_for(|snapshot| !Arc::ptr_eq(snapshot, seen))).await;
    }
}
