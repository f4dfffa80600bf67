//! How many instances and tasks a cluster has. Kept up as records come and go: nobody counts 100,000 tasks for an answer.

use ecs::LaunchType;
use ecs::task::LastStatus;

use crate::records::{ContainerInstance, InstanceStatus, TaskRecord};

const LAUNCH_TYPES: usize = 3;
const STATUSES: usize = LastStatus::Stopped as usize + 1;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// "This includes container instances in both ACTIVE and DRAINING status."
    pub registered_instances: usize,
    /// By launch type and last status.
    tasks: [[usize; STATUSES]; LAUNCH_TYPES],
}

/// One more, or one less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    In,
    Out,
}

/// How a task counts in `runningTasksCount` and `pendingTasksCount`; one that is on its way down counts in neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Pending,
    Running,
}

pub fn phase(status: LastStatus) -> Option<Phase> {
    match status {
        LastStatus::Provisioning | LastStatus::Pending | LastStatus::Activating => Some(Phase::Pending),
        LastStatus::Running => Some(Phase::Running),
        LastStatus::Deactivating | LastStatus::Stopping | LastStatus::Deprovisioning | LastStatus::Stopped => None,
    }
}

impl Counts {
    pub(crate) fn task(&mut self, task: &TaskRecord, count: Count) {
        let launch_type = LaunchType::read(&task.launch_type).unwrap_or(LaunchType::Ec2);
        change(&mut self.tasks[place(launch_type)][task.last_status as usize], count);
    }

    pub(crate) fn instance(&mut self, instance: &ContainerInstance, count: Count) {
        match instance.status {
            InstanceStatus::Active | InstanceStatus::Draining => change(&mut self.registered_instances, count),
            InstanceStatus::Inactive => {}
        }
    }

    pub(crate) fn is_nothing(&self) -> bool {
        *self == Counts::default()
    }

    /// Of one launch type.
    pub fn in_phase(&self, launch_type: LaunchType, wanted: Phase) -> usize {
        let statuses = ALL_STATUSES.into_iter().filter(|status| phase(*status) == Some(wanted));
        statuses.map(|status| self.tasks[place(launch_type)][status as usize]).sum()
    }

    /// Of all launch types.
    pub fn with_status(&self, status: LastStatus) -> usize {
        self.tasks.iter().map(|of_type| of_type[status as usize]).sum()
    }
}

pub const ALL_STATUSES: [LastStatus; STATUSES] = [
    LastStatus::Provisioning,
    LastStatus::Pending,
    LastStatus::Activating,
    LastStatus::Running,
    LastStatus::Deactivating,
    LastStatus::Stopping,
    LastStatus::Deprovisioning,
    LastStatus::Stopped,
];

fn place(launch_type: LaunchType) -> usize {
    match launch_type {
        LaunchType::Ec2 => 0,
        LaunchType::Fargate => 1,
        LaunchType::External => 2,
    }
}

fn change(number: &mut usize, count: Count) {
    *number = match count {
        Count::In => *number + 1,
        Count::Out => number.saturating_sub(1),
    };
}
