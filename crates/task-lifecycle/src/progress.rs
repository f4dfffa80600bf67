//! How a task stands, as its status file and DescribeTasks show it.

use ecs::task::{ContainerLastStatus, DesiredStatus, HealthStatus, LastStatus, StopCode};
use ecs::{ContainerName, Timestamp};

#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    pub last_status: LastStatus,
    pub desired_status: DesiredStatus,
    pub started_at: Option<Timestamp>,
    pub stopping_at: Option<Timestamp>,
    /// The end of the first essential container.
    pub execution_stopped_at: Option<Timestamp>,
    pub stopped_at: Option<Timestamp>,
    pub stop_code: Option<StopCode>,
    pub stopped_reason: Option<String>,
    /// The essential container whose end ended the task.
    pub ended_by: Option<ContainerName>,
    /// In the order of the definition.
    pub containers: Vec<ContainerProgress>,
    /// Of the essential containers that have a check: UNHEALTHY if one is, HEALTHY if all are, else UNKNOWN
    /// (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/healthcheck.html>).
    pub health_status: HealthStatus,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerProgress {
    pub name: ContainerName,
    /// A container that is being started again stays RUNNING, as it does for the ECS agent.
    pub last_status: ContainerLastStatus,
    /// The first start.
    pub started_at: Option<Timestamp>,
    /// Absent until the container has stopped for good, and when its turn never came.
    pub finished_at: Option<Timestamp>,
    /// Absent until the container has stopped for good, and when it never ran.
    pub exit_code: Option<i32>,
    pub reason: Option<String>,
    /// UNKNOWN for a container without a check; the last thing known for one that has stopped.
    pub health_status: HealthStatus,
    pub health_status_since: Option<Timestamp>,
    pub restart_count: u32,
}

/// The task's health out of those of its essential containers that have a check.
pub(crate) fn task_health(of_essentials: impl Iterator<Item = HealthStatus>) -> HealthStatus {
    of_essentials
        .reduce(|all, one| match (all, one) {
            (HealthStatus::Unhealthy, _) | (_, HealthStatus::Unhealthy) => HealthStatus::Unhealthy,
            (HealthStatus::Unknown, _) | (_, HealthStatus::Unknown) => HealthStatus::Unknown,
            (HealthStatus::Healthy, HealthStatus::Healthy) => HealthStatus::Healthy,
        })
        .unwrap_or_default()
}
