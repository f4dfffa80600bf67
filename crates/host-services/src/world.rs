//! The tasks of this run directory as they stand, for whoever answers questions about them.

use std::sync::Arc;

use agent_protocol::{TaskSpec, TaskStatus};
use ecs::TaskId;
use tokio::sync::watch;

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
}
