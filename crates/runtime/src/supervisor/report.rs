//! `TaskStatus` out of what the lifecycle decided and what the supervisor knows besides. Pure.

use agent_protocol::task_spec::FORMAT;
use agent_protocol::{ContainerStatus, ProcessIdentity, TaskStatus};
use ecs::{TaskId, Timestamp};
use task_lifecycle::{ContainerProgress, Progress};

/// What is known of the task but not decided by its lifecycle.
#[derive(Clone, Debug)]
pub(crate) struct TaskFacts {
    pub(crate) id: TaskId,
    pub(crate) supervisor: ProcessIdentity,
    pub(crate) pull_started_at: Option<Timestamp>,
    pub(crate) pull_stopped_at: Option<Timestamp>,
    pub(crate) teardown_errors: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ContainerFacts {
    pub(crate) process: Option<ProcessIdentity>,
    pub(crate) created_at: Option<Timestamp>,
    pub(crate) start_exit_code: Option<i32>,
    pub(crate) stuck: Option<String>,
    pub(crate) health_output: Option<String>,
    pub(crate) start_stages_us: Vec<(String, u64)>,
    pub(crate) log_lost_bytes: u64,
    pub(crate) log_error: Option<String>,
}

pub(crate) fn status(task: &TaskFacts, containers: &[ContainerFacts], progress: Progress, version: u64) -> TaskStatus {
    TaskStatus {
        format: FORMAT,
        id: task.id.clone(),
        version,
        supervisor: task.supervisor.clone(),
        last_status: progress.last_status,
        desired_status: progress.desired_status,
        pull_started_at: task.pull_started_at,
        pull_stopped_at: task.pull_stopped_at,
        started_at: progress.started_at,
        stopping_at: progress.stopping_at,
        execution_stopped_at: progress.execution_stopped_at,
        stopped_at: progress.stopped_at,
        stop_code: progress.stop_code,
        stopped_reason: progress.stopped_reason,
        ended_by: progress.ended_by,
        health_status: progress.health_status,
        containers: progress.containers.into_iter().zip(containers).map(container).collect(),
        teardown_errors: task.teardown_errors.clone(),
    }
}

fn container((progress, facts): (ContainerProgress, &ContainerFacts)) -> ContainerStatus {
    ContainerStatus {
        name: progress.name,
        last_status: progress.last_status,
        process: facts.process.clone(),
        created_at: facts.created_at,
        started_at: progress.started_at,
        finished_at: progress.finished_at,
        exit_code: progress.exit_code,
        reason: progress.reason,
        start_exit_code: facts.start_exit_code,
        stuck: facts.stuck.clone(),
        health_output: facts.health_output.clone(),
        health_status: progress.health_status,
        health_status_since: progress.health_status_since,
        restart_count: progress.restart_count,
        start_stages_us: facts.start_stages_us.clone(),
        log_lost_bytes: facts.log_lost_bytes,
        log_error: facts.log_error.clone(),
    }
}
