//! One request of a task that is known.

use std::sync::Arc;

use agent::vpc_store::Store;
use agent::{describe, metadata_file};
use agent_protocol::ContainerSpec;
use bytes::Bytes;
use ecs::task::ContainerLastStatus;
use ecs::{LaunchType, TaskId};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use runtime::stats::detail;
use runtime::{cgroup, clock, process_identity};
use serde_json::{Map, Value, json};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::answer::{self, Answer};
use super::route::Route;
use super::{Http, READ_TIMEOUT, SETTLE, locked, now, samples};
use crate::credentials::CredentialsError;
use crate::metadata::stats::{self, Sample, Subject};
use crate::metadata::{self, ClockDrift, EphemeralStorage, Extra, Version};
use crate::protection::{self, BadUpdate, Update};
use crate::world::Task;

/// Of a request's body.
const MAX_BODY_BYTES: usize = 4096;
const MIB: u64 = 1 << 20;
const MIB_PER_GIB: u64 = 1024;

pub(super) async fn respond(shared: &Arc<Http>, caller: &TaskId, head: &Parts, body: Incoming) -> Answer {
    let route = Route::of(head.uri.path(), head.uri.query());
    if !route.methods().contains(&head.method.as_str()) {
        let mut refused = answer::error(StatusCode::METHOD_NOT_ALLOWED, "this method means nothing here");
        let methods = route.methods().join(", ");
        refused.headers_mut().extend(HeaderValue::try_from(methods).ok().map(|methods| (ALLOW, methods)));
        return refused;
    }
    // Between its end and the closing of its sockets a task has nothing to ask.
    let Some(task) = shared.world.task(caller, SETTLE).await else {
        return answer::error(StatusCode::NOT_FOUND, "the task has ended");
    };
    match route {
        Route::Nothing => answer::no_such_page(),
        Route::Container { version, endpoint } => container(&task, version, &endpoint),
        Route::ContainerById { docker_id } => container_by_id(&task, &docker_id),
        Route::Task { version, endpoint, with_tags } => {
            if let Some(unknown) = unknown(&task, version, "task metadata", endpoint.as_deref()) {
                return unknown;
            }
            task_metadata(shared, task, version, with_tags).await
        }
        Route::ContainerStats { version, endpoint } => match of_endpoint(&task, &endpoint) {
            Some(found) => container_stats(shared, &task, found, StatusCode::INTERNAL_SERVER_ERROR).await,
            None => no_task(version, "container stats", &endpoint),
        },
        Route::ContainerStatsById { docker_id } => match of_docker_id(&task, &docker_id) {
            Some(found) => container_stats(shared, &task, found, StatusCode::BAD_REQUEST).await,
            None => no_container_stats(StatusCode::BAD_REQUEST, &docker_id),
        },
        Route::TaskStats { version, endpoint } => match unknown(&task, version, "task stats", endpoint.as_deref()) {
            Some(unknown) => unknown,
            None => task_stats(shared, &task).await,
        },
        Route::Credentials { version, id } => credentials(shared, task, version, &id).await,
        Route::Protection { endpoint } => protection(task, &endpoint, &head.method, body).await,
        Route::Fault { endpoint } => fault(&task, &endpoint),
    }
}

/// The container of the caller's task that this endpoint is of. An id is never empty.
fn of_endpoint<'a>(task: &'a Task, endpoint: &str) -> Option<&'a ContainerSpec> {
    task.spec.containers.iter().find(|container| !endpoint.is_empty() && container.endpoint_id == endpoint)
}

fn of_docker_id<'a>(task: &'a Task, docker_id: &str) -> Option<&'a ContainerSpec> {
    task.spec.containers.iter().find(|container| container.runtime_id == docker_id)
}

/// The answer where an endpoint is named that is none of the caller's task.
fn unknown(task: &Task, version: Version, what: &str, endpoint: Option<&str>) -> Option<Answer> {
    let endpoint = endpoint?;
    of_endpoint(task, endpoint).is_none().then(|| no_task(version, what, endpoint))
}

fn no_task(version: Version, what: &str, endpoint: &str) -> Answer {
    let reason = "unable to get task arn from request: unable to get task Arn from v3 endpoint ID";
    answer::error(StatusCode::NOT_FOUND, &format!("{} {what} handler: {reason}: {endpoint}", version.name()))
}

fn container(task: &Task, version: Version, endpoint: &str) -> Answer {
    if let Some(found) = of_endpoint(task, endpoint) {
        return answer::good(&metadata::container(version, &task.spec, &task.status, found));
    }
    let reason = "unable to get container ID from request: unable to get docker ID from v3 endpoint ID";
    let text = format!("{} container metadata handler: {reason}: {endpoint}", version.name());
    answer::error(StatusCode::NOT_FOUND, &text)
}

fn container_by_id(task: &Task, docker_id: &str) -> Answer {
    match of_docker_id(task, docker_id) {
        Some(found) => answer::good(&metadata::container(Version::V2, &task.spec, &task.status, found)),
        None => {
            let text = format!("Unable to generate metadata for container '{docker_id}'");
            answer::error(StatusCode::BAD_REQUEST, &text)
        }
    }
}

async fn task_metadata(shared: &Arc<Http>, task: Task, version: Version, with_tags: bool) -> Answer {
    let Task { spec, status } = task.clone();
    let shared = Arc::clone(shared);
    let extra = match version {
        Version::V2 | Version::V3 => Ok(Extra { with_tags, ..Extra::default() }),
        Version::V4 => spawn_blocking(move || Extra { with_tags, ..extra(&shared, &task) }).await,
    };
    match extra {
        Ok(extra) => answer::good(&metadata::task(version, &spec, &status, extra)),
        Err(_) => answer::error(StatusCode::INTERNAL_SERVER_ERROR, "failed to get task metadata"),
    }
}

/// What cannot be had is left out.
fn extra(shared: &Http, task: &Task) -> Extra {
    let vpc_id = task.spec.network_interface.as_ref().and_then(|interface| {
        let network = Store::of(&shared.host).read().ok()?;
        let subnet = network.subnets.iter().find(|subnet| subnet.subnet_id == interface.subnet_id)?;
        Some(subnet.vpc_id.to_string())
    });
    if task.spec.launch_type != LaunchType::Fargate.name() {
        return Extra { vpc_id, ..Extra::default() };
    }
    let clock_drift = clock::drift().ok().map(|drift| ClockDrift {
        clock_error_bound: drift.error_bound_us as f64 / 1000.0,
        reference_timestamp: now().rfc3339(),
        clock_synchronization_status: if drift.synchronized { "SYNCHRONIZED" } else { "NOT_SYNCHRONIZED" },
    });
    Extra { vpc_id, clock_drift, ephemeral_storage: ephemeral_storage(task), with_tags: false }
}

/// Of a task with a file system of its own, which only its supervisor sees. What another shares is not measured: that
/// would be a walk through its files.
fn ephemeral_storage(task: &Task) -> Option<EphemeralStorage> {
    let reserved_gib = task.spec.ephemeral_storage_gib?;
    let supervisor = process_identity::open(&task.status.supervisor).ok()??;
    let place = task.spec.places.state.join(runtime::task_dir::CONTAINERS_NAME);
    let root = format!("/proc/{}/root{}", task.status.supervisor.pid, place.display());
    let storage = nix::sys::statvfs::statvfs(root.as_str()).ok()?;
    drop(supervisor);
    let used = (storage.blocks()).saturating_sub(storage.blocks_free()).saturating_mul(storage.fragment_size());
    Some(EphemeralStorage { utilized: used / MIB, reserved: reserved_gib.saturating_mul(MIB_PER_GIB) })
}

fn no_container_stats(status: StatusCode, docker_id: &str) -> Answer {
    answer::error(status, &format!("Unable to get container stats for: {docker_id}"))
}

async fn container_stats(shared: &Arc<Http>, task: &Task, container: &ContainerSpec, failure: StatusCode) -> Answer {
    let mut looks = look(shared, task, vec![container.clone()]).await;
    match looks.pop().and_then(|(_, stats)| stats) {
        Some(stats) => answer::good(&stats),
        None => no_container_stats(failure, &container.runtime_id),
    }
}

/// By Docker id; null for one that does not run.
async fn task_stats(shared: &Arc<Http>, task: &Task) -> Answer {
    let looks = look(shared, task, task.spec.containers.clone()).await;
    let members = looks.into_iter().map(|(docker_id, stats)| (docker_id, stats.unwrap_or_default()));
    answer::good(&members.collect::<Map<String, Value>>())
}

type Look = (String, Option<Value>);

/// A first look has nothing to be compared with: then there is a second one, as Docker does it.
async fn look(shared: &Arc<Http>, task: &Task, containers: Vec<ContainerSpec>) -> Vec<Look> {
    let once = || {
        let (shared, task, containers) = (Arc::clone(shared), task.clone(), containers.clone());
        spawn_blocking(move || containers.iter().map(|container| look_once(&shared, &task, container)).collect())
    };
    let looks: Vec<(Look, Compared)> = once().await.unwrap_or_default();
    if looks.iter().all(|(_, compared)| *compared == Compared::Yes) {
        return looks.into_iter().map(|(look, _)| look).collect();
    }
    sleep(samples::INTERVAL).await;
    once().await.unwrap_or_default().into_iter().map(|(look, _)| look).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compared {
    /// Or there is nothing to compare, for it does not run.
    Yes,
    No,
}

fn look_once(shared: &Http, task: &Task, container: &ContainerSpec) -> (Look, Compared) {
    let docker_id = container.runtime_id.clone();
    let status = task.status.containers.iter().find(|status| status.name == container.definition.name);
    let running = status.filter(|status| status.last_status == ContainerLastStatus::Running);
    let Some(running) = running else { return ((docker_id, None), Compared::Yes) };
    let cgroup = cgroup::of_container(&task.spec, &container.definition.name);
    // One that has just ended is as one that does not run.
    let Ok(detail) = detail::read(&shared.cgroups, &cgroup, running.process.as_ref()) else {
        return ((docker_id, None), Compared::Yes);
    };
    let sample = Sample { at: now(), detail };
    let before = locked(&shared.samples).record(&docker_id, &sample);
    let docker_name = metadata_file::docker_name(&task.spec, container);
    let subject = Subject { docker_id: &docker_id, docker_name: &docker_name };
    let stats = stats::of(subject, &sample, before.as_ref());
    let compared = if before.is_some() { Compared::Yes } else { Compared::No };
    ((docker_id, Some(stats)), compared)
}

/// An id of another task's is as one that nobody has.
async fn credentials(shared: &Arc<Http>, task: Task, version: u8, id: &str) -> Answer {
    let error = |status, code: &str, text: &str| {
        answer::credentials_error(status, code, &format!("CredentialsV{version}Request: {text}"))
    };
    if id.is_empty() {
        return error(StatusCode::BAD_REQUEST, "NoIdInRequest", "No Credential ID in the request");
    }
    let own = task.spec.credentials_id.as_deref().filter(|own| *own == id);
    let Some(role) = own.and(task.spec.task_role_arn.clone()) else {
        return error(StatusCode::BAD_REQUEST, "InvalidIdInRequest", "Credentials not found");
    };
    let shared = Arc::clone(shared);
    let failed =
        || answer::credentials_error(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError", "Internal server error");
    let Ok(found) = spawn_blocking(move || shared.credentials.of(&role, now())).await else { return failed() };
    match found {
        Ok(credentials) => answer::good(&credentials),
        Err(reason @ (CredentialsError::None { .. } | CredentialsError::Over { .. })) => {
            tracing::warn!(task = %task.spec.id, reason = %reason, "no credentials");
            let text = "Credentials uninitialized for ID";
            error(StatusCode::SERVICE_UNAVAILABLE, "CredentialsUninitialized", text)
        }
        Err(reason @ (CredentialsError::Malformed { .. } | CredentialsError::Store { .. })) => {
            tracing::warn!(task = %task.spec.id, reason = %agent::recovery::chain(&reason), "no credentials");
            failed()
        }
    }
}

/// In the order of Amazon's agent: what was sent, whose it is, what it says, the task's role.
async fn protection(task: Task, endpoint: &str, method: &Method, body: Incoming) -> Answer {
    let wanted = if *method == Method::PUT {
        let Some(bytes) = whole(body).await else { return bad_update(None, BadUpdate::Malformed) };
        match Update::read(&bytes) {
            Err(BadUpdate::Malformed) => return bad_update(None, BadUpdate::Malformed),
            read => Some(read),
        }
    } else {
        None
    };
    if of_endpoint(&task, endpoint).is_none() {
        let text = "Failed to find a task for the request";
        return answer::protection_error(StatusCode::NOT_FOUND, None, "ResourceNotFoundException", text);
    }
    let arn = describe::task_arn(&task.spec);
    if let Some(Err(BadUpdate::NoFlag)) = wanted {
        return bad_update(Some(&arn), BadUpdate::NoFlag);
    }
    if task.spec.task_role_arn.is_none() {
        let text = "Invalid Request: no task IAM role credentials available for task";
        return answer::protection_error(StatusCode::FORBIDDEN, Some(&arn), "AccessDeniedException", text);
    }
    let wanted = match wanted.transpose() {
        Ok(wanted) => wanted,
        Err(bad) => return bad_update(Some(&arn), bad),
    };
    if !protection::is_offered(&task.spec) {
        return answer::good(&protection::refused(&arn));
    }
    let state = task.spec.places.state.clone();
    let done = spawn_blocking(move || match wanted {
        Some(wanted) => protection::update(&state, wanted, now()),
        None => protection::of(&state, now()),
    });
    let failed = |reason: String| {
        tracing::warn!(task = %task.spec.id, reason, "task protection failed");
        let text = "Unexpected error occurred";
        answer::protection_error(StatusCode::INTERNAL_SERVER_ERROR, Some(&arn), "ServerException", text)
    };
    match done.await {
        Ok(Ok(protection)) => answer::good(&protection.shown(&arn)),
        Ok(Err(error)) => failed(agent::recovery::chain(&error)),
        Err(error) => failed(error.to_string()),
    }
}

fn bad_update(arn: Option<&str>, bad: BadUpdate) -> Answer {
    answer::protection_error(StatusCode::BAD_REQUEST, arn, "InvalidParameterException", &bad.to_string())
}

/// Nothing where it is too long or does not come.
async fn whole(body: Incoming) -> Option<Bytes> {
    let collected = timeout(READ_TIMEOUT, Limited::new(body, MAX_BODY_BYTES).collect()).await;
    Some(collected.ok()?.ok()?.to_bytes())
}

/// In the shape of the agent's answer where `enableFaultInjection` is off, which it always is.
fn fault(task: &Task, endpoint: &str) -> Answer {
    if of_endpoint(task, endpoint).is_none() {
        let text = format!("unable to lookup container: {endpoint}");
        return answer::json(StatusCode::NOT_FOUND, &json!({ "Error": text }));
    }
    let arn = describe::task_arn(&task.spec);
    let text = format!("enableFaultInjection is not enabled for task: {arn} (faults cannot be injected on this host)");
    answer::json(StatusCode::BAD_REQUEST, &json!({ "Error": text }))
}
