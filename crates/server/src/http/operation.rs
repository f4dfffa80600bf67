//! Operations of Amazon ECS: read, decoded, asked, encoded.

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::{Auth, Refusal};
use bytes::Bytes;
use control_plane::Caller;
use ecs::operations::{ApiError, Operation, Reply};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, HOST, HeaderValue};
use hyper::{Request, Response, StatusCode};
use tokio::time::timeout;

use super::{Content, Door, Front};
use crate::{clock, dice};

/// What a metric calls a request that is no operation.
const NONE: &str = "none";
/// Of a body that is too large: read, so that its client is ready for the answer, and thrown away.
const DISCARDED_BYTES: usize = 16 << 20;
/// A body counts at least so much while it is read.
const LEAST_BODY_BYTES: usize = 4_096;

pub(super) async fn answer(front: &Arc<Front>, door: &Door, request: Request<Incoming>) -> Response<Content> {
    let started = Instant::now();
    let id = dice::uuid();
    let (head, body) = request.into_parts();
    let refused = |refusal: &Refusal| {
        front.metrics.answered(NONE, refusal.code(), started.elapsed());
        api::refuse(&id, refusal).map(Content::from)
    };
    let body = match read(front, api::body_limit(&head), body).await {
        Ok(body) => body,
        Err(Unread::TooLarge(limit)) => {
            let mut response = refused(&Refusal::TooLarge { what: "body", limit });
            // The rest of the body is not the next request.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            return response;
        }
        Err(Unread::Slow) => return timed_out(),
        Err(Unread::Gone) => return refused(&Refusal::Serialization("The body ended too early".to_owned())),
    };
    let call = with_auth(front, door, |auth| api::decode(&head, &body, &auth, clock::now()));
    let call = match call {
        Ok(call) => call,
        Err(refusal) => return refused(&refusal),
    };
    drop(body);
    let name = call.operation.name();
    let caller = Caller {
        region: call.caller.region,
        account_id: front.account_id.clone(),
        principal_arn: call.caller.principal_arn,
        endpoint: endpoint(front, door, &head),
    };
    let answer = ask(front, caller, call.operation).await;
    let error = answer.as_ref().err().map_or("", |error| error.code.name());
    front.metrics.answered(name, error, started.elapsed());
    api::encode(&id, answer.as_ref()).map(Content::from)
}

async fn ask(front: &Front, caller: Caller, operation: Operation) -> Result<Reply, ApiError> {
    match operation {
        Operation::ExecuteCommand(request) => front.exec.execute(&front.control, caller, request).await,
        operation => front.control.ask(caller, operation).await,
    }
}

/// What the door asks of its callers.
pub(super) fn with_auth<T>(front: &Front, door: &Door, then: impl FnOnce(Auth<'_>) -> T) -> T {
    let principal_arn = front.principal_arn();
    match door {
        Door::Socket => then(Auth::Local { region: &front.region, principal_arn: &principal_arn }),
        Door::Tcp { .. } if front.any_key => then(Auth::AnyKey { principal_arn: &principal_arn }),
        Door::Tcp { .. } => then(Auth::Signed(&|id| {
            (id == front.key.access_key_id).then(|| api::Key {
                secret: api::Secret::new(front.key.secret_access_key.clone()),
                session_token: None,
                principal_arn: principal_arn.clone(),
            })
        })),
    }
}

/// As the client has it, since it may know this host by another name than we do.
fn endpoint(front: &Front, door: &Door, head: &http::request::Parts) -> String {
    let authority = head.uri.authority().map(|authority| authority.as_str());
    let host = authority.or_else(|| head.headers.get(HOST)?.to_str().ok());
    let host = host.filter(|host| host.parse::<http::uri::Authority>().is_ok());
    match (door, host) {
        (Door::Tcp { tls: false, .. }, Some(host)) => format!("http://{host}"),
        (Door::Tcp { tls: true, .. }, Some(host)) => format!("https://{host}"),
        (Door::Socket, _) | (Door::Tcp { .. }, None) => front.endpoint.clone(),
    }
}

pub(super) enum Unread {
    TooLarge(usize),
    Slow,
    Gone,
}

/// A body of at most `limit` bytes. Those of all clients together have a limit as well, and wait for each other.
///
/// What is too large is still taken, up to a limit: a client that writes when its connection is closed sees the end of the
/// connection and not the answer.
pub(super) async fn read(front: &Front, limit: usize, mut body: Incoming) -> Result<Bytes, Unread> {
    let said = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if said > limit {
        if said <= DISCARDED_BYTES {
            discard(front.patience.body, &mut body).await;
        }
        return Err(Unread::TooLarge(limit));
    }
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let costs = if body.size_hint().exact().is_some() { said.max(LEAST_BODY_BYTES) } else { limit };
    let reading = async {
        let costs = u32::try_from(costs).unwrap_or(u32::MAX);
        let _place = front.body_places.acquire_many(costs).await;
        Limited::new(&mut body, limit).collect().await
    };
    match timeout(front.patience.body, reading).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            discard(front.patience.body, &mut body).await;
            Err(Unread::TooLarge(limit))
        }
        Ok(Err(_)) => Err(Unread::Gone),
        Err(_) => Err(Unread::Slow),
    }
}

/// To the body's end, or as much of it as is worth it.
async fn discard(patience: Duration, body: &mut Incoming) {
    let mut left = DISCARDED_BYTES;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            left = match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                Some(left) => left,
                None => return,
            };
        }
    };
    // Who is slow is answered all the same.
    let _ = timeout(patience, reading).await;
}

pub(super) fn timed_out() -> Response<Content> {
    let mut response = Response::new(Content::nothing());
    *response.status_mut() = StatusCode::REQUEST_TIMEOUT;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
