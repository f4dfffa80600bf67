//! `POST /explain`: where a task would go now, or what each container instance lacks. Asked of a snapshot; nothing changes.

use control_plane::Caller;
use control_plane::answer::{Context, task_definitions, tasks};
use control_plane::explain::Verdict;
use ecs::ContainerInstanceId;
use ecs::arn::Account;
use ecs::operations::ApiError;
use ecs::operations::task_definitions::RegisterTaskDefinitionRequest;
use ecs::operations::tasks::RunTaskRequest;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::operation::{self, Unread};
use super::routes::{only_at_the_socket, refuse, with};
use super::{Content, Door, Front};
use crate::{clock, dice};

/// Of a task definition with what is asked beside it: more than any that may be registered.
const BODY_BYTES: usize = 1 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Question {
    /// A task definition that is not registered.
    definition: Option<RegisterTaskDefinitionRequest>,
    /// As RunTask would be asked.
    run_task: RunTaskRequest,
}

pub(super) async fn explain(front: &Front, door: &Door, request: Request<Incoming>) -> Response<Content> {
    if let Some(refused) = only_at_the_socket(door) {
        return refused;
    }
    let body = match operation::read(front, BODY_BYTES, request.into_body()).await {
        Ok(body) => body,
        Err(Unread::Slow) => return operation::timed_out(),
        Err(Unread::TooLarge(_) | Unread::Gone) => return refuse(StatusCode::BAD_REQUEST, "the body cannot be read"),
    };
    let question: Question = match serde_json::from_slice(&body) {
        Ok(question) => question,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error.to_string()),
    };
    match answer(front, question) {
        Ok(told) => with(StatusCode::OK, "application/json", Content::text(told.to_string())),
        Err(error) => api::encode(&dice::uuid(), Err(&error)).map(Content::from),
    }
}

fn answer(front: &Front, question: Question) -> Result<Value, ApiError> {
    let caller = Caller {
        region: front.region.clone(),
        account_id: front.account_id.clone(),
        principal_arn: front.principal_arn(),
        endpoint: front.endpoint.clone(),
    };
    let snapshot = front.control.snapshot();
    // A copy is a few pointers, and what is registered in it is registered nowhere else.
    let mut state = (*snapshot).clone();
    let (now, mut ids) = (clock::now(), dice::bytes::<16>);
    let mut run_task = question.run_task;
    if let Some(definition) = question.definition {
        let context = &mut Context { state: &snapshot, caller: &caller, now, ids: &mut ids };
        let (registered, changes) = task_definitions::register(context, &definition)?;
        state.apply(&changes);
        run_task.task_definition = registered.task_definition.map(|shown| shown.task_definition_arn);
    }
    let cluster = run_task.cluster.clone().unwrap_or_else(|| "default".to_owned());
    let cluster = cluster.rsplit('/').next().unwrap_or(&cluster).to_owned();
    let verdict = tasks::explain(&mut Context { state: &state, caller: &caller, now, ids: &mut ids }, &run_task)?;
    let account = Account { region: &caller.region, account_id: &caller.account_id };
    let host = |id: &ContainerInstanceId| state.instances.get(id).map(|instance| instance.host_name.clone());
    Ok(match verdict {
        Verdict::Fits(id) => json!({
            "fits": {"containerInstanceArn": account.container_instance(&cluster, &id), "hostName": host(&id)},
            "lacks": [],
        }),
        Verdict::Fails(report) => {
            let lacks = report.lines.iter().map(|line| {
                json!({
                    "containerInstanceArn": account.container_instance(&cluster, &line.instance),
                    "hostName": line.host_name,
                    "reason": line.reason,
                    "detail": line.detail,
                })
            });
            json!({"fits": null, "lacks": lacks.collect::<Vec<_>>()})
        }
    })
}
