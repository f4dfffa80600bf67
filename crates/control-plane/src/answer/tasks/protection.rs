//! Scale-in protection of services' tasks
//! (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UpdateTaskProtection.html>).

use ecs::operations::ApiError;
use ecs::operations::shapes::{Failure, ProtectedTask};
use ecs::operations::tasks::{
    GetTaskProtectionRequest, GetTaskProtectionResponse, UpdateTaskProtectionRequest, UpdateTaskProtectionResponse,
};
use ecs::{TaskId, Timestamp};

use super::failure;
use crate::answer::{Answer, Context};
use crate::draft::Draft;
use crate::names;
use crate::records::TaskRecord;

const MAX_READ: usize = 100;
const MAX_UPDATED: usize = 10;
/// "If you don't specify the time, then the task is automatically protected for 120 minutes (2 hours)"; "You can specify a
/// value from 1 minute to up to 2,880 minutes (48 hours)."
const DEFAULT_MINUTES: i64 = 120;
const MOST_MINUTES: i64 = 2_880;
const MS_PER_MINUTE: u64 = 60_000;
const SERVICE_GROUP: &str = "service:";

pub fn get_protection(context: &mut Context, request: &GetTaskProtectionRequest) -> Answer<GetTaskProtectionResponse> {
    let cluster = context.state.cluster(&request.cluster)?;
    let given = request.tasks.as_deref().unwrap_or_default();
    if given.len() > MAX_READ {
        return Err(ApiError::invalid(format!("Tasks cannot be more than {MAX_READ}.")));
    }
    let all: Vec<String>;
    let given = if given.is_empty() {
        // Without tasks: those of the cluster's services, as many as one answer tells of.
        let tasks = context.state.cluster_tasks(&cluster.name).filter(|task| is_protectable(task)).take(MAX_READ);
        all = tasks.map(|task| task.id.to_string()).collect();
        &all
    } else {
        given
    };
    let (mut protected_tasks, mut failures) = (Vec::new(), Vec::new());
    for one in given {
        match protectable(context, &cluster.name, one)? {
            Ok(task) => protected_tasks.push(shown(context, task)),
            Err(failure) => failures.push(failure),
        }
    }
    Ok((GetTaskProtectionResponse { protected_tasks, failures }, Default::default()))
}

pub fn update_protection(
    context: &mut Context,
    request: &UpdateTaskProtectionRequest,
) -> Answer<UpdateTaskProtectionResponse> {
    let cluster = context.state.cluster(&request.cluster)?;
    let given = names::required_list(&request.tasks, "Tasks", MAX_UPDATED)?;
    let Some(enabled) = request.protection_enabled else {
        return Err(ApiError::invalid("protectionEnabled can not be blank."));
    };
    let until = until(context.now, enabled, request.expires_in_minutes)?;
    let mut draft = Draft::new(context.state);
    let (mut protected_tasks, mut failures) = (Vec::new(), Vec::new());
    for one in given {
        match protectable(context, &cluster.name, one)? {
            Ok(task) => {
                let task = TaskRecord { protected_until: until, ..task.clone() };
                protected_tasks.push(shown(context, &task));
                draft.put_task(task);
            }
            Err(failure) => failures.push(failure),
        }
    }
    Ok((UpdateTaskProtectionResponse { protected_tasks, failures }, draft.finish()))
}

fn until(now: Timestamp, enabled: bool, minutes: Option<i64>) -> Result<Option<Timestamp>, ApiError> {
    if !enabled {
        return Ok(None);
    }
    let minutes = minutes.unwrap_or(DEFAULT_MINUTES);
    if !(1..=MOST_MINUTES).contains(&minutes) {
        return Err(ApiError::invalid(format!("expiresInMinutes should be between 1 and {MOST_MINUTES}.")));
    }
    Ok(Some(now.plus_ms(minutes.unsigned_abs() * MS_PER_MINUTE)))
}

fn is_protectable(task: &TaskRecord) -> bool {
    task.group.starts_with(SERVICE_GROUP) && !task.is_stopped()
}

/// The task, or why it can have no protection: TASK_NOT_VALID is one that no service has.
fn protectable<'a>(
    context: &Context<'a>,
    cluster: &str,
    given: &str,
) -> Result<Result<&'a TaskRecord, Failure>, ApiError> {
    let id: Option<TaskId> = names::task(given, cluster)?;
    let task = id.and_then(|id| context.state.tasks.get(&id)).filter(|task| task.cluster == cluster);
    Ok(match task {
        None => Err(failure(context, cluster, given, "MISSING")),
        Some(task) if is_protectable(task) => Ok(&**task),
        Some(_) => Err(failure(context, cluster, given, "TASK_NOT_VALID")),
    })
}

fn shown(context: &Context<'_>, task: &TaskRecord) -> ProtectedTask {
    let until = task.protected_until.filter(|until| *until > context.now);
    ProtectedTask {
        task_arn: Some(context.account().task(&task.cluster, &task.id)),
        protection_enabled: Some(until.is_some()),
        expiration_date: until,
    }
}
