//! ExecuteCommand (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ExecuteCommand.html>): whether a command may
//! run, and the session under which it will. The session's stream is the server's: it completes `streamUrl` and
//! `tokenValue`.

use ecs::operations::shapes::Session;
use ecs::operations::tasks::{ExecuteCommandRequest, ExecuteCommandResponse};
use ecs::operations::{ApiError, ErrorCode};
use ecs::task::{ContainerLastStatus, LastStatus};
use ecs::{ContainerName, TaskId};

use super::named;
use crate::answer::{Answer, Context};
use crate::names;
use crate::records::TaskRecord;

const MAX_COMMAND_CHARACTERS: usize = 8_192;

pub fn execute_command(context: &mut Context, request: &ExecuteCommandRequest) -> Answer<ExecuteCommandResponse> {
    let cluster = context.state.cluster(&request.cluster)?;
    let task = named(context, &cluster.name, names::required(&request.task, "Task")?)?.clone();
    let command = names::required(&request.command, "command")?;
    if command.chars().count() > MAX_COMMAND_CHARACTERS {
        return Err(ApiError::invalid(format!("command can have at most {MAX_COMMAND_CHARACTERS} characters.")));
    }
    if request.interactive != Some(true) {
        return Err(ApiError::invalid("Interactive is the only mode supported currently."));
    }
    let container = chosen(&task, request.container.as_deref())?;
    ready(context, &task, &container)?;
    let session = TaskId::from_bytes(context.ids.random());
    let account = context.account();
    let response = ExecuteCommandResponse {
        cluster_arn: Some(account.cluster(&cluster.name)),
        container_arn: Some(account.container(&task.cluster, &task.id, &container)),
        container_name: Some(container.into()),
        interactive: Some(true),
        session: Some(Session {
            session_id: Some(format!("ecs-execute-command-{}", &session.as_str()[..17])),
            stream_url: None,
            token_value: None,
        }),
        task_arn: Some(account.task(&cluster.name, &task.id)),
    };
    Ok((response, Default::default()))
}

/// "A container name only needs to be specified for tasks containing multiple containers."
fn chosen(task: &TaskRecord, given: Option<&str>) -> Result<ContainerName, ApiError> {
    let containers = &task.definition.container_definitions;
    match (given.filter(|name| !name.is_empty()), containers.as_slice()) {
        (None, [only]) => Ok(only.name.clone()),
        (None, _) => {
            Err(ApiError::invalid("A container name must be specified for tasks with more than one container."))
        }
        (Some(name), containers) => {
            let found = containers.iter().find(|container| container.name.as_str() == name);
            let missing = || ApiError::invalid(format!("The container {name} was not found in the task."));
            found.map(|container| container.name.clone()).ok_or_else(missing)
        }
    }
}

fn ready(context: &Context<'_>, task: &TaskRecord, container: &ContainerName) -> Result<(), ApiError> {
    if task.last_status == LastStatus::Stopped {
        return Err(ApiError::invalid("The execute command failed because the task is stopped."));
    }
    if !task.enable_execute_command {
        return Err(ApiError::invalid(
            "The execute command failed because execute command was not enabled when the task was run or the execute \
             command agent isn’t running. Wait and try again or run a new task with execute command enabled and try \
             again.",
        ));
    }
    let observed = task.observed.as_ref().into_iter().flat_map(|observed| &observed.containers);
    let mut observed = observed.filter(|one| one.name == *container);
    let runs = observed.any(|one| one.last_status == ContainerLastStatus::Running);
    let instance = task.instance.as_ref().and_then(|id| context.state.instances.get(id));
    if runs && instance.is_some_and(|instance| instance.connected) {
        return Ok(());
    }
    let words = "The execute command failed due to an internal error. Try again later.";
    Err(ApiError::new(ErrorCode::TargetNotConnected, words))
}
