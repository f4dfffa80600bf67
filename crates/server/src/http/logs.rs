//! `POST /logs`: what a task's containers wrote, read by the task's container instance and passed on as lines of JSON
//! (`agent_protocol::logs::Told`), of which `ended` is the last.

use std::sync::Arc;
use std::time::Duration;

use agent_protocol::logs::{MOST_LINES, Told, Wanted};
use bytes::Bytes;
use ecs::{ContainerInstanceId, ContainerName, TaskId, Timestamp};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::operation::{self, Unread};
use super::routes::{LINES_OF_JSON, is_signed, refuse, with};
use super::{Content, Door, Front};
use crate::dice;
use crate::sessions::{CannotRead, LogReading};

/// A task and the names of all containers that one can have.
const BODY_BYTES: usize = 64 << 10;
/// From the question to the instance's first word.
const START: Duration = Duration::from_secs(30);
/// Lines that the connection has not taken: what is in hand, and the instance's batches, come on top.
const LINES: usize = 1;

pub(super) async fn logs(front: &Arc<Front>, door: &Door, request: Request<Incoming>) -> Response<Content> {
    let (head, body) = request.into_parts();
    let body = match operation::read(front, BODY_BYTES, body).await {
        Ok(body) => body,
        Err(Unread::Slow) => return operation::timed_out(),
        Err(Unread::TooLarge(_) | Unread::Gone) => return refuse(StatusCode::BAD_REQUEST, "the body cannot be read"),
    };
    if let Err(refusal) = is_signed(front, door, &head, &body) {
        return api::refuse(&dice::uuid(), &refusal).map(Content::from);
    }
    let (task, wanted) = match question(&body) {
        Ok(question) => question,
        Err(why) => return refuse(StatusCode::BAD_REQUEST, why),
    };
    let instance = match instance(front, &task) {
        Ok(instance) => instance,
        Err(why) => return refuse(StatusCode::NOT_FOUND, why),
    };
    let mut reading = match front.sessions.read_logs(&instance, task, wanted).await {
        Ok(reading) => reading,
        Err(why @ (CannotRead::NotConnected(_) | CannotRead::TooMany)) => {
            return refuse(StatusCode::SERVICE_UNAVAILABLE, why.to_string());
        }
        Err(why @ CannotRead::OlderAgent(_)) => return refuse(StatusCode::NOT_IMPLEMENTED, why.to_string()),
    };
    match timeout(START, reading.next()).await {
        Ok(Some(opened @ Told::Opened(_))) => {
            let (lines, content) = mpsc::channel(LINES);
            tokio::spawn(pass_on(reading, instance, opened, lines));
            with(StatusCode::OK, LINES_OF_JSON, Content::Lines(content))
        }
        Ok(Some(Told::Refused(why))) => refuse(StatusCode::BAD_REQUEST, why),
        Ok(Some(Told::Records(_) | Told::Ended { .. })) => {
            refuse(StatusCode::BAD_GATEWAY, format!("container instance {instance} speaks out of turn"))
        }
        Ok(None) => refuse(StatusCode::SERVICE_UNAVAILABLE, lost(&instance)),
        Err(_) => refuse(StatusCode::GATEWAY_TIMEOUT, format!("container instance {instance} does not answer")),
    }
}

/// The members of `Wanted` and `task`, an id or an ARN.
fn question(body: &[u8]) -> Result<(TaskId, Wanted), String> {
    let mut members: Map<String, Value> =
        serde_json::from_slice(body).map_err(|error| format!("the body is no object of JSON: {error}"))?;
    let task: String = member(&mut members, "task")?.ok_or("task is missing")?;
    let id = task.rsplit('/').next().unwrap_or(&task).to_owned();
    let task = TaskId::try_from(id).map_err(|error| format!("task: {error}"))?;
    let wanted = Wanted {
        follow: member(&mut members, "follow")?.unwrap_or_default(),
        since: member::<Timestamp>(&mut members, "since")?,
        until: member::<Timestamp>(&mut members, "until")?,
        tail: member(&mut members, "tail")?,
        containers: member::<Vec<ContainerName>>(&mut members, "containers")?.unwrap_or_default(),
    };
    if let Some(lines) = wanted.tail.filter(|lines| *lines > MOST_LINES) {
        return Err(format!(
            "tail: {lines} is more than {MOST_LINES}, the most that a task on another host is asked for"
        ));
    }
    Ok((task, wanted))
}

/// Nothing where it is not there, or null.
fn member<T: for<'de> Deserialize<'de>>(members: &mut Map<String, Value>, name: &str) -> Result<Option<T>, String> {
    let value = members.remove(name).unwrap_or_default();
    Option::deserialize(value).map_err(|error| format!("{name}: {error}"))
}

fn instance(front: &Front, task: &TaskId) -> Result<ContainerInstanceId, String> {
    let state = front.control.snapshot();
    let known = state.tasks.get(task).ok_or_else(|| format!("there is no task {task}, or not any more"))?;
    known.instance.clone().ok_or_else(|| format!("task {task} is on no container instance"))
}

fn lost(instance: &ContainerInstanceId) -> String {
    format!("the connection to container instance {instance} was lost; the logs are still on its host")
}

/// To the end of the logs, or of whoever reads them.
async fn pass_on(mut reading: LogReading, instance: ContainerInstanceId, opened: Told, lines: mpsc::Sender<Bytes>) {
    let mut told = opened;
    loop {
        let (is_batch, is_last) = match &told {
            Told::Opened(_) => (false, false),
            Told::Records(_) => (true, false),
            Told::Refused(_) | Told::Ended { .. } => (false, true),
        };
        let mut line = serde_json::to_vec(&told).expect("plain data with string keys");
        line.push(b'\n');
        if lines.send(Bytes::from(line)).await.is_err() || is_last {
            return;
        }
        if is_batch {
            reading.allow_more().await;
        }
        told = tokio::select! {
            told = reading.next() => told.unwrap_or_else(|| Told::Ended { failed: Some(lost(&instance)) }),
            () = lines.closed() => return,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_is_wrong_is_named() {
        let id = "1f2e3d4c5b6a79880123456789abcdef";
        let arn = format!(r#"{{"task":"arn:aws:ecs:us-east-1:123456789012:task/default/{id}","tail":3,"new":1}}"#);
        let (task, wanted) = question(arn.as_bytes()).expect("a good one");
        assert_eq!((task.as_str(), wanted), (id, Wanted { tail: Some(3), ..Wanted::default() }));
        for (body, named) in [
            ("[]".to_owned(), "the body"),
            ("{}".to_owned(), "task is missing"),
            (r#"{"task":7}"#.to_owned(), "task: "),
            (r#"{"task":"web"}"#.to_owned(), "task: "),
            (format!(r#"{{"task":"{id}","follow":"yes"}}"#), "follow: "),
            (format!(r#"{{"task":"{id}","since":"noon"}}"#), "since: "),
            (format!(r#"{{"task":"{id}","until":-1}}"#), "until: "),
            (format!(r#"{{"task":"{id}","tail":-3}}"#), "tail: "),
            (format!(r#"{{"task":"{id}","tail":100001}}"#), "tail: 100001 is more than 100000"),
            (format!(r#"{{"task":"{id}","containers":["a b"]}}"#), "containers: "),
        ] {
            let why = question(body.as_bytes()).expect_err(&body);
            assert!(why.starts_with(named), "{body}: {why}");
        }
    }
}
