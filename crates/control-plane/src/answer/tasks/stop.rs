//! StopTask (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_StopTask.html>).

use ecs::operations::ApiError;
use ecs::operations::tasks::{StopTaskRequest, StopTaskResponse};
use ecs::task::StopCode;

use super::{answered, any_cluster, named};
use crate::answer::{Answer, Context};
use crate::draft::Draft;
use crate::names;
use crate::stopping::{self, Cause};

const MAX_REASON_CHARACTERS: usize = 255;

/// A task that is stopping, or has stopped, is answered as it is: its first reason stays.
pub fn stop(context: &mut Context, request: &StopTaskRequest) -> Answer<StopTaskResponse> {
    let cluster = any_cluster(context, &request.cluster)?;
    let task = named(context, &cluster.name, names::required(&request.task, "Task")?)?;
    let reason = request.reason.as_deref().unwrap_or(stopping::BY_USER);
    if reason.chars().count() > MAX_REASON_CHARACTERS {
        return Err(ApiError::invalid(format!("reason can have at most {MAX_REASON_CHARACTERS} characters.")));
    }
    let cause = Cause { code: StopCode::UserInitiated, reason: reason.to_owned() };
    let stopped = stopping::asked((**task).clone(), cause, context.now);
    let mut draft = Draft::new(context.state);
    if stopped != **task {
        draft.put_task(stopped);
    }
    let task = draft.state().tasks.get(&task.id).unwrap_or(task);
    let task = answered(draft.state(), task, context.account());
    Ok((StopTaskResponse { task: Some(task) }, draft.finish()))
}
