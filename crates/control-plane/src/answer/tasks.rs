//! Operations of tasks: making them, stopping them, showing them, and what foreign agents say of them.

mod exec;
mod launch;
mod making;
mod network;
mod protection;
mod reading;
mod run;
mod start;
mod stop;
mod strategy;
mod submit;

pub use exec::execute_command;
pub use protection::{get_protection, update_protection};
pub use reading::{describe, list};
pub use run::{explain, run};
pub use start::start;
pub use stop::stop;
pub use submit::{submit_attachment_states, submit_container_state, submit_task_state};

use std::sync::Arc;

use ecs::arn::Account;
use ecs::operations::ApiError;
use ecs::operations::shapes::Failure;
use ecs::task::Task;

use super::Context;
use crate::names;
use crate::records::{Cluster, TaskRecord};
use crate::shown;
use crate::state::State;

/// The cluster that a request names, whether it is ACTIVE or not: its tasks outlive it for a while.
fn any_cluster<'a>(context: &Context<'a>, given: &Option<String>) -> Result<&'a Arc<Cluster>, ApiError> {
    let name = names::cluster_name(given.as_deref())?;
    context.state.clusters.get(name).ok_or_else(names::cluster_not_found)
}

/// The task that a request names.
fn named<'a>(context: &Context<'a>, cluster: &str, given: &str) -> Result<&'a Arc<TaskRecord>, ApiError> {
    let id = names::task(given, cluster)?;
    let task = id.and_then(|id| context.state.tasks.get(&id)).filter(|task| task.cluster == cluster);
    task.ok_or_else(|| ApiError::invalid("The referenced task was not found."))
}

/// What a batch's answer says of a task that it does not have, or cannot do this with.
fn failure(context: &Context<'_>, cluster: &str, given: &str, reason: &str) -> Failure {
    let whole = |id: &str| context.account().arn(&format!("task/{cluster}/{id}"));
    Failure { arn: Some(names::missing_arn(given, whole)), reason: Some(reason.to_owned()), detail: None }
}

/// A new or changed task as its answer shows it, with its tags.
fn answered(state: &State, task: &TaskRecord, account: Account<'_>) -> Task {
    Task { tags: task.tags.clone(), ..shown::task(state, task, account) }
}
