//! The states of a container and of a task while a supervisor runs them, and the only function that changes each.
//!
//! A container:
//!
//! ```text
//! Waiting ──Start──► Starting ──Started──► Running ──Stop──► Stopping ──Kill──► Killing
//!                     │    ▲                │  └────────────────Kill──────────────►
//!                    Kill  └──Start── Restarting ◄──Restart── Running, Starting
//!                     ▼
//!                  Aborting ──Started──► Running
//!
//! Waiting, Restarting ──Abandon──►              Stopped
//! Starting, Aborting ──Exited, FailedToStart──► Stopped
//! Running, Stopping, Killing ──Exited──►        Stopped
//! ```
//!
//! A task:
//!
//! ```text
//!  Pending ──AllUp──► Running ──Stop──► Stopping ──AllStopped──► CleaningUp ──CleanedUp──► Stopped
//!     └───────────────Stop─────────────────►
//! ```
//!
//! Amazon's other task states have no meaning while a supervisor runs a task on its own host: PROVISIONING and
//! DEPROVISIONING stand for an elastic network interface or a volume that the service attaches before the agent hears
//! of the task and detaches after it, ACTIVATING and DEACTIVATING for a load balancer or service discovery. What this
//! host itself makes and removes is part of PENDING and of STOPPING, as it is for Amazon's tasks in the network modes
//! bridge and host.

use ecs::task::{ContainerLastStatus, LastStatus};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContainerState {
    /// For its turn: a dependency's condition is not met yet.
    Waiting,
    /// `Action::Start` was given out; no word yet.
    Starting,
    /// SIGKILL was given out before the start was reported.
    Aborting,
    Running,
    /// The stop signal was given out.
    Stopping,
    /// SIGKILL was given out.
    Killing,
    /// It has exited and its restart policy starts it again; `Action::Start` is not given out yet.
    Restarting,
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContainerStep {
    Start,
    Started,
    FailedToStart,
    Stop,
    Kill,
    /// For good.
    Exited,
    /// It has exited, and its restart policy starts it again.
    Restart,
    /// The task ends before this container's turn came, the first or the next one.
    Abandon,
}

impl ContainerState {
    pub const ALL: [ContainerState; 8] = [
        Self::Waiting,
        Self::Starting,
        Self::Aborting,
        Self::Running,
        Self::Stopping,
        Self::Killing,
        Self::Restarting,
        Self::Stopped,
    ];

    /// The state after `step`, or nothing where the step is late, repeated or impossible: it changes nothing then.
    ///
    /// A container that is starting gets no stop signal: nobody knows yet whom to signal. It is signalled as soon as
    /// it has started. SIGKILL does not wait: it aborts the start. One that was aborted too late runs, and is killed
    /// again.
    pub fn next(self, step: ContainerStep) -> Option<ContainerState> {
        use ContainerState::*;
        match (self, step) {
            (Waiting | Restarting, ContainerStep::Start) => Some(Starting),
            (Waiting | Restarting, ContainerStep::Abandon) => Some(Stopped),
            (Starting | Aborting, ContainerStep::Started) => Some(Running),
            (Starting | Aborting, ContainerStep::FailedToStart) => Some(Stopped),
            (Starting, ContainerStep::Kill) => Some(Aborting),
            (Running, ContainerStep::Stop) => Some(Stopping),
            (Running | Stopping, ContainerStep::Kill) => Some(Killing),
            (Starting | Running, ContainerStep::Restart) => Some(Restarting),
            (Starting | Aborting | Running | Stopping | Killing, ContainerStep::Exited) => Some(Stopped),
            (Waiting | Starting | Aborting | Running | Stopping | Killing | Restarting | Stopped, _) => None,
        }
    }

    /// What clients see of a container that has not been up before. Everything before RUNNING is PENDING, everything
    /// until the end is RUNNING.
    pub fn last_status(self) -> ContainerLastStatus {
        match self {
            Self::Waiting | Self::Starting | Self::Aborting => ContainerLastStatus::Pending,
            Self::Running | Self::Stopping | Self::Killing | Self::Restarting => ContainerLastStatus::Running,
            Self::Stopped => ContainerLastStatus::Stopped,
        }
    }
}

impl ContainerStep {
    pub const ALL: [ContainerStep; 8] = [
        Self::Start,
        Self::Started,
        Self::FailedToStart,
        Self::Stop,
        Self::Kill,
        Self::Exited,
        Self::Restart,
        Self::Abandon,
    ];
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
