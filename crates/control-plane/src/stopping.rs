//! How a task ends when it is not its instance that tells of it.
//!
//! Reasons are Amazon's words where they are known
//! (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html>).

use ecs::Timestamp;
use ecs::task::{ContainerLastStatus, DesiredStatus, LastStatus, StopCode};

use crate::records::{ContainerInstance, TaskRecord};

/// Why a task stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    pub(crate) code: StopCode,
    pub(crate) reason: String,
}

/// StopTask without a reason.
pub(crate) const BY_USER: &str = "Task stopped by user";

pub(crate) fn lost_by_instance() -> Cause {
    let reason = "Its container instance no longer has this task: how it ended is not known".to_owned();
    Cause { code: StopCode::TerminationNotice, reason }
}

pub(crate) fn lost_with_instance(instance: &ContainerInstance) -> Cause {
    let reason = format!("Host EC2 (instance {}) stopped/terminated.", instance.host_name);
    Cause { code: StopCode::TerminationNotice, reason }
}

pub(crate) fn deregistered() -> Cause {
    let reason = "Container instance deregistration forced by user".to_owned();
    Cause { code: StopCode::UserInitiated, reason }
}

/// `RESOURCE:MEMORY`, `EMPTY CAPACITY PROVIDER`, …
pub(crate) fn failed_to_start(reason: &str) -> Cause {
    Cause { code: StopCode::TaskFailedToStart, reason: reason.to_owned() }
}

/// A task that is asked to stop. With an instance it stops when the instance says so; without one it has never run.
pub(crate) fn asked(mut task: TaskRecord, cause: Cause, now: Timestamp) -> TaskRecord {
    if task.instance.is_none() {
        return ended(task, cause, now);
    }
    if task.desired_status == DesiredStatus::Stopped {
        return task;
    }
    task.desired_status = DesiredStatus::Stopped;
    task.stop_code = task.stop_code.or(Some(cause.code));
    task.stopped_reason = task.stopped_reason.or(Some(cause.reason));
    task.stopping_at = task.stopping_at.or(Some(now));
    task.version += 1;
    task
}

/// A task that is STOPPED from now on. Containers that were not seen to end have no exit code.
pub(crate) fn ended(mut task: TaskRecord, cause: Cause, now: Timestamp) -> TaskRecord {
    if task.is_stopped() {
        return task;
    }
    task.last_status = LastStatus::Stopped;
    task.desired_status = DesiredStatus::Stopped;
    task.stop_code = task.stop_code.or(Some(cause.code));
    task.stopped_reason = task.stopped_reason.or(Some(cause.reason));
    task.stopping_at = task.stopping_at.or(Some(now));
    task.stopped_at = Some(now);
    task.stopped_seen_at = Some(now);
    for container in task.observed.iter_mut().flat_map(|observed| &mut observed.containers) {
        container.last_status = ContainerLastStatus::Stopped;
    }
    task.version += 1;
    task
}
