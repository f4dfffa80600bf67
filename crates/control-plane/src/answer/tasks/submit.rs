//! What a foreign agent says of its tasks: the same rules as for our own agents' reports (`observe`).

use ecs::arn::{self, Arn};
use ecs::operations::agent::{
    SubmitAttachmentStateChangesRequest, SubmitAttachmentStateChangesResponse, SubmitContainerStateChangeRequest,
    SubmitContainerStateChangeResponse, SubmitTaskStateChangeRequest, SubmitTaskStateChangeResponse,
};
use ecs::operations::shapes::{AttachmentStateChange, ContainerStateChange};
use ecs::operations::{ApiError, ErrorCode};
use ecs::task::{
    AttachmentStatus, Container, ContainerLastStatus, DesiredStatus, LastStatus, NetworkBinding, StopCode, Task,
};

use super::named;
use crate::answer::{Answer, Context};
use crate::change::Changes;
use crate::draft::Draft;
use crate::names;
use crate::observe;
use crate::records::TaskRecord;
use crate::shown;

pub fn submit_task_state(
    context: &mut Context,
    request: &SubmitTaskStateChangeRequest,
) -> Answer<SubmitTaskStateChangeResponse> {
    let mut report = report(context, &request.cluster, &request.task)?;
    for change in request.containers.as_deref().unwrap_or_default() {
        apply(&mut report.1, change)?;
    }
    attach(&mut report.1, request.attachments.as_deref().unwrap_or_default())?;
    let (task, shown) = &mut report;
    shown.pull_started_at = request.pull_started_at.or(shown.pull_started_at);
    shown.pull_stopped_at = request.pull_stopped_at.or(shown.pull_stopped_at);
    shown.execution_stopped_at = request.execution_stopped_at.or(shown.execution_stopped_at);
    match request.status.as_deref() {
        Some("RUNNING") => {
            shown.last_status = LastStatus::Running;
            shown.started_at = shown.started_at.or(Some(context.now));
        }
        Some("STOPPED") => {
            shown.last_status = LastStatus::Stopped;
            shown.desired_status = DesiredStatus::Stopped;
            let never_ran = shown.started_at.is_none();
            let code = if never_ran { StopCode::TaskFailedToStart } else { StopCode::EssentialContainerExited };
            shown.stop_code = shown.stop_code.or(Some(code));
            let reason = request.reason.clone().filter(|reason| !reason.is_empty());
            shown.stopped_reason = shown.stopped_reason.take().or(reason);
        }
        // Steps of the agent's own: MANIFEST_PULLED, PULLED, CREATED, ….
        Some(_) | None => {}
    }
    let changes = changes(context, task, shown);
    Ok((SubmitTaskStateChangeResponse { acknowledgment: Some(acknowledgment(context)) }, changes))
}

pub fn submit_container_state(
    context: &mut Context,
    request: &SubmitContainerStateChangeRequest,
) -> Answer<SubmitContainerStateChangeResponse> {
    let (task, mut shown) = report(context, &request.cluster, &request.task)?;
    let change = ContainerStateChange {
        container_name: request.container_name.clone(),
        image_digest: None,
        runtime_id: request.runtime_id.clone(),
        exit_code: request.exit_code,
        network_bindings: request.network_bindings.clone().unwrap_or_default(),
        reason: request.reason.clone(),
        status: request.status.clone(),
    };
    apply(&mut shown, &change)?;
    let changes = changes(context, &task, &shown);
    Ok((SubmitContainerStateChangeResponse { acknowledgment: Some(acknowledgment(context)) }, changes))
}

pub fn submit_attachment_states(
    context: &mut Context,
    request: &SubmitAttachmentStateChangesRequest,
) -> Answer<SubmitAttachmentStateChangesResponse> {
    let state = context.state;
    let cluster = state.cluster(&request.cluster)?;
    let Some(changes) = request.attachments.as_deref() else {
        return Err(ApiError::invalid("Attachments cannot be empty."));
    };
    let mut draft = Draft::new(state);
    for change in changes {
        let id = attachment_id(change)?;
        let mut tasks = state.cluster_tasks(&cluster.name).filter(|task| !task.is_stopped());
        let has = |task: &TaskRecord| {
            let shown = shown::task(state, task, context.account());
            shown.attachments.iter().any(|attachment| attachment.id == id)
        };
        let Some(task) = tasks.find(|task| has(task)) else {
            return Err(ApiError::invalid(format!("The attachment {id} was not found.")));
        };
        let mut shown = next_report(context, draft.state().tasks.get(&task.id).unwrap_or(task));
        attach(&mut shown, std::slice::from_ref(change))?;
        if let Some(changed) = observe::merged(task, &shown, context.now) {
            draft.put_task(changed);
        }
    }
    let response = SubmitAttachmentStateChangesResponse { acknowledgment: Some(acknowledgment(context)) };
    Ok((response, draft.finish()))
}

/// The task that is told of, and how it would be reported if nothing had changed.
fn report(
    context: &Context<'_>,
    cluster: &Option<String>,
    task: &Option<String>,
) -> Result<(TaskRecord, Task), ApiError> {
    let cluster = context.state.cluster(cluster)?;
    let task = named(context, &cluster.name, names::required(task, "Task")?)?;
    Ok(((**task).clone(), next_report(context, task)))
}

fn next_report(context: &Context<'_>, task: &TaskRecord) -> Task {
    let mut shown = shown::task(context.state, task, context.account());
    shown.version = task.observed.as_ref().map_or(1, |observed| observed.version.saturating_add(1));
    shown
}

fn changes(context: &Context<'_>, task: &TaskRecord, report: &Task) -> Changes {
    let mut draft = Draft::new(context.state);
    if let Some(changed) = observe::merged(task, report, context.now) {
        draft.put_task(changed);
    }
    draft.finish()
}

fn apply(task: &mut Task, change: &ContainerStateChange) -> Result<(), ApiError> {
    let name = names::required(&change.container_name, "containerName")?;
    let Some(container) = task.containers.iter_mut().find(|container| container.name.as_str() == name) else {
        return Err(ApiError::invalid(format!("The container {name} was not found in the task.")));
    };
    container.runtime_id = change.runtime_id.clone().or(container.runtime_id.take());
    container.image_digest = change.image_digest.clone().or(container.image_digest.take());
    container.reason = change.reason.clone().filter(|reason| !reason.is_empty()).or(container.reason.take());
    // The first exit code is the true one: it is told once.
    let exit_code = change.exit_code.map(i32::try_from).transpose();
    let exit_code = exit_code.map_err(|_| ApiError::invalid("exitCode is not an exit code."))?;
    container.exit_code = container.exit_code.or(exit_code);
    bind(container, &change.network_bindings);
    container.last_status = match (container.last_status, change.status.as_deref()) {
        (ContainerLastStatus::Stopped, _) | (_, Some("STOPPED")) => ContainerLastStatus::Stopped,
        (ContainerLastStatus::Running, _) | (_, Some("RUNNING")) => ContainerLastStatus::Running,
        (ContainerLastStatus::Pending, _) => ContainerLastStatus::Pending,
    };
    Ok(())
}

fn bind(container: &mut Container, bindings: &[NetworkBinding]) {
    if !bindings.is_empty() {
        container.network_bindings = bindings.to_vec();
    }
}

fn attach(task: &mut Task, changes: &[AttachmentStateChange]) -> Result<(), ApiError> {
    for change in changes {
        let id = attachment_id(change)?;
        let status = match change.status.as_deref() {
            Some("ATTACHED") => AttachmentStatus::Attached,
            Some("ATTACHING") => AttachmentStatus::Attaching,
            Some("DETACHED") => AttachmentStatus::Detached,
            Some("FAILED") => AttachmentStatus::Failed,
            Some(_) | None => return Err(ApiError::invalid("status is not the status of an attachment.")),
        };
        if let Some(attachment) = task.attachments.iter_mut().find(|attachment| attachment.id == id) {
            attachment.status = status;
        }
    }
    Ok(())
}

/// The UUID at the end of `arn:…:attachment/<uuid>`.
fn attachment_id(change: &AttachmentStateChange) -> Result<String, ApiError> {
    let given = names::required(&change.attachment_arn, "attachmentArn")?;
    let read = Arn::read(given).filter(|arn| arn.kind == "attachment");
    let id = read.and_then(|arn| arn.path.last().map(|id| (*id).to_owned()));
    id.ok_or_else(|| ApiError::new(ErrorCode::InvalidParameter, "The ARN provided is invalid."))
}

fn acknowledgment(context: &mut Context<'_>) -> String {
    arn::uuid(context.ids.random())
}
