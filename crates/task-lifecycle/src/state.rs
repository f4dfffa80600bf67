//! The states of a container and of a task while a supervisor runs them, and the only function that changes each.
//!
//! A container:
//!
//! ```text
//!  Waiting ──Start──► Starting ──Started──► Running ──Stop──► Stopping ──Kill──► Killing
//!     │                  │                     │  └────────Kill────────────────►   │
//!   Abandon      Exited, FailedToStart       Exited            Exited            Exited
//!     └──────────────────┴─────────────────────┴─────────────────┴─────────────────┴──────► Stopped
//! ```
//!
//! A task:
//!
//! ```text
//!  Pending ──AllUp──► Running ──Stop──► Stopping ──AllStopped──► CleaningUp ──CleanedUp──► Stopped
//!     └───────────────Stop─────────────────►
//! ```

use ecs::task::{ContainerLastStatus, LastStatus};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContainerState {
    /// For its turn: a dependency's condition is not met yet.
    Waiting,
    /// `Action::Start` was given out; no word yet.
    Starting,
    Running,
    /// The stop signal was given out.
    Stopping,
    /// SIGKILL was given out.
    Killing,
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContainerStep {
    Start,
    Started,
    FailedToStart,
    Stop,
    Kill,
    Exited,
    /// The task ends before this container's turn came.
    Abandon,
}

impl ContainerState {
    pub const ALL: [ContainerState; 6] =
        [Self::Waiting, Self::Starting, Self::Running, Self::Stopping, Self::Killing, Self::Stopped];

    /// The state after `step`, or nothing where the step is late, repeated or impossible: it changes nothing then.
    ///
    /// A container that is starting is not signalled: nobody knows yet whom to signal. It is signalled as soon as it
    /// has started.
    pub fn next(self, step: ContainerStep) -> Option<ContainerState> {
        use ContainerState::*;
        match (self, step) {
            (Waiting, ContainerStep::Start) => Some(Starting),
            (Waiting, ContainerStep::Abandon) => Some(Stopped),
            (Starting, ContainerStep::Started) => Some(Running),
            (Starting, ContainerStep::Exited | ContainerStep::FailedToStart) => Some(Stopped),
            (Running, ContainerStep::Stop) => Some(Stopping),
            (Running | Stopping, ContainerStep::Kill) => Some(Killing),
            (Running | Stopping | Killing, ContainerStep::Exited) => Some(Stopped),
            (Waiting | Starting | Running | Stopping | Killing | Stopped, _) => None,
        }
    }

    /// What clients see. Everything before RUNNING is PENDING, everything until the end is RUNNING.
    pub fn last_status(self) -> ContainerLastStatus {
        match self {
            Self::Waiting | Self::Starting => ContainerLastStatus::Pending,
            Self::Running | Self::Stopping | Self::Killing => ContainerLastStatus::Running,
            Self::Stopped => ContainerLastStatus::Stopped,
        }
    }
}

impl ContainerStep {
    pub const ALL: [ContainerStep; 7] =
        [Self::Start, Self::Started, Self::FailedToStart, Self::Stop, Self::Kill, Self::Exited, Self::Abandon];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskState {
    Pending,
    Running,
    Stopping,
    /// Every container has stopped; what they used is being removed. Clients still see STOPPING.
    CleaningUp,
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskStep {
    /// Every container runs, or has stopped without ending the task.
    AllUp,
    /// The desired status became STOPPED.
    Stop,
    AllStopped,
    CleanedUp,
}

impl TaskState {
    pub const ALL: [TaskState; 5] = [Self::Pending, Self::Running, Self::Stopping, Self::CleaningUp, Self::Stopped];

    /// The state after `step`, or nothing where it changes nothing.
    pub fn next(self, step: TaskStep) -> Option<TaskState> {
        use TaskState::*;
        match (self, step) {
            (Pending, TaskStep::AllUp) => Some(Running),
            (Pending | Running, TaskStep::Stop) => Some(Stopping),
            (Stopping, TaskStep::AllStopped) => Some(CleaningUp),
            (CleaningUp, TaskStep::CleanedUp) => Some(Stopped),
            (Pending | Running | Stopping | CleaningUp | Stopped, _) => None,
        }
    }

    pub fn last_status(self) -> LastStatus {
        match self {
            Self::Pending => LastStatus::Pending,
            Self::Running => LastStatus::Running,
            Self::Stopping | Self::CleaningUp => LastStatus::Stopping,
            Self::Stopped => LastStatus::Stopped,
        }
    }
}

impl TaskStep {
    pub const ALL: [TaskStep; 4] = [Self::AllUp, Self::Stop, Self::AllStopped, Self::CleanedUp];
}
