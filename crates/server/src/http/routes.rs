//! Where a request goes, and the answers that are no operations.

use std::sync::Arc;

use agent_protocol::session::PROTOCOL;
use api::sigv4::{self, PathForm, Rules};
use base64::Engine;
use bytes::Bytes;
use ecs::ContainerInstanceId;
use http::request::Parts;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::mpsc;

use super::operation::{self, Unread};
use super::{Content, Door, Front, explain, guard, logs};
use crate::sessions::Peer;
use crate::{backup, clock, dice, exec, join, tls};

/// What `GET /agent` becomes.
const AGENT_UPGRADE: &str = "coracle-agent";
/// Whose certificate the connection has.
const INSTANCE_HEADER: &str = "x-coracle-container-instance";
/// A new instance's single-use token.
const TOKEN_HEADER: &str = "x-coracle-join-token";
const JOIN_BODY_BYTES: usize = 4_096;
/// Lines of a response that its client has not taken yet.
const LINES: usize = 64;
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
pub(super) const LINES_OF_JSON: &str = "application/x-ndjson";

pub(super) async fn answer(front: &Arc<Front>, door: &Door, request: Request<Incoming>) -> Response<Content> {
    let (head, body) = request.into_parts();
    if let Err(refusal) = guard::check(door, &front.names, &head) {
        return api::refuse(&dice::uuid(), &refusal).map(Content::from);
    }
    let request = Request::from_parts(head, body);
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::GET, "/healthz") => with(StatusCode::OK, TEXT, Content::text("ok\n")),
        (&Method::GET, "/readyz") => ready(front),
        (&Method::GET, "/metrics") => {
            with(StatusCode::OK, TEXT, Content::text(front.metrics.text(&front.control.snapshot())))
        }
        (&Method::GET, "/events") => events(front, door, request),
        (&Method::POST, "/logs") => logs::logs(front, door, request).await,
        (&Method::GET, "/agent") => agent(front, door, request),
        (&Method::POST, "/agent/join") => agent_join(front, door, request).await,
        (&Method::POST, "/join-tokens") => join_token(front, door, request.uri().query().unwrap_or_default()),
        (&Method::POST, "/explain") => explain::explain(front, door, request).await,
        (&Method::GET, "/backup") => whole_backup(front, door),
        (&Method::GET, path) if path.starts_with(exec::PATH) => exec::websocket(&front.exec, request),
        _ => operation::answer(front, door, request).await,
    }
}

pub(super) fn with(status: StatusCode, kind: &'static str, content: Content) -> Response<Content> {
    let mut response = Response::new(content);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

pub(crate) fn refuse(status: StatusCode, why: impl Into<String>) -> Response<Content> {
    with(status, "application/json", Content::text(json!({"message": why.into()}).to_string()))
}

fn ready(front: &Front) -> Response<Content> {
    let no = |why: &'static str| with(StatusCode::SERVICE_UNAVAILABLE, TEXT, Content::text(why));
    if !front.control.is_running() {
        no("ending\n")
    } else if front.own_instance.as_ref().is_some_and(|connected| !*connected.borrow()) {
        no("this host is no container instance\n")
    } else {
        with(StatusCode::OK, TEXT, Content::text("ready\n"))
    }
}

pub(super) fn only_at_the_socket(door: &Door) -> Option<Response<Content>> {
    match door {
        Door::Socket => None,
        Door::Tcp { .. } => Some(refuse(StatusCode::FORBIDDEN, "this is asked for at the unix socket alone")),
    }
}

/// As an operation has to be, where the door asks for it.
pub(super) fn is_signed(front: &Front, door: &Door, head: &Parts, body: &[u8]) -> Result<(), api::Refusal> {
    let rules = Rules { services: &["ecs"], path: PathForm::Normalised };
    operation::with_auth(front, door, |auth| match auth {
        api::Auth::Signed(keys) => sigv4::verify(&sigv4::Request::of(head, body), &rules, keys, clock::now()).map(drop),
        api::Auth::AnyKey { .. } | api::Auth::Local { .. } => Ok(()),
    })
}

fn events(front: &Front, door: &Door, request: Request<Incoming>) -> Response<Content> {
    let (head, _) = request.into_parts();
    if let Err(refusal) = is_signed(front, door, &head, &[]) {
        return api::refuse(&dice::uuid(), &refusal).map(Content::from);
    }
    let mut follower = front.events.follow();
    let (lines, content) = mpsc::channel(LINES);
    tokio::spawn(async move {
        // To its client's end, or ours.
        loop {
            let line = tokio::select! {
                line = follower.next() => line,
                () = lines.closed() => None,
            };
            let Some(line) = line else { return };
            if lines.send(Bytes::copy_from_slice(line.as_bytes())).await.is_err() {
                return;
            }
        }
    });
    with(StatusCode::OK, LINES_OF_JSON, Content::Lines(content))
}

/// A session: 101, and from then on frames.
fn agent(front: &Arc<Front>, door: &Door, mut request: Request<Incoming>) -> Response<Content> {
    let asked = request.headers().get(UPGRADE).is_some_and(|kind| kind.as_bytes() == AGENT_UPGRADE.as_bytes());
    if !asked {
        return refuse(StatusCode::UPGRADE_REQUIRED, format!("this is for agents, with Upgrade: {AGENT_UPGRADE}"));
    }
    let peer = match peer(front, door, &request) {
        Ok(peer) => peer,
        Err(why) => return refuse(StatusCode::FORBIDDEN, why),
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let sessions = front.sessions.clone();
    tokio::spawn(async move {
        // A client that went away in between is nobody's loss.
        if let Ok(stream) = upgrade.await {
            sessions.serve(TokioIo::new(stream), peer).await;
        }
    });
    let mut response = Response::new(Content::nothing());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(AGENT_UPGRADE));
    response
}

fn peer(front: &Front, door: &Door, request: &Request<Incoming>) -> Result<Peer, String> {
    let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let certificate = match door {
        Door::Socket => return Ok(Peer::Local),
        Door::Tcp { certificate, .. } => certificate,
    };
    if let Some(token) = text(TOKEN_HEADER) {
        return match join::consume(&front.state_directory, token, clock::now()) {
            Ok(true) => Ok(Peer::Invited),
            Ok(false) => {
                Err("the join token is unknown, used or expired: coracle serve's host makes another".to_owned())
            }
            Err(error) => {
                tracing::error!(%error, "join tokens cannot be read");
                Err("join tokens cannot be read".to_owned())
            }
        };
    }
    let instance = text(INSTANCE_HEADER).and_then(|id| ContainerInstanceId::try_from(id.to_owned()).ok());
    match (certificate, instance) {
        (Some(certificate), Some(instance)) if tls::is_of(certificate, &instance) => Ok(Peer::Instance(instance)),
        (Some(_), Some(instance)) => Err(format!("the certificate is not of {instance}")),
        (Some(_), None) => Err(format!("{INSTANCE_HEADER} is missing")),
        (None, _) => Err(format!("an agent shows its certificate, or a join token in {TOKEN_HEADER}")),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Join {
    token: String,
    /// The uncompressed point of a P-256 key, in base64.
    public_key: String,
}

/// A new instance's id and certificate for a token.
async fn agent_join(front: &Front, door: &Door, request: Request<Incoming>) -> Response<Content> {
    let (Some(authority), Door::Tcp { tls: true, .. }) = (&front.authority, door) else {
        return refuse(
            StatusCode::FORBIDDEN,
            "hosts join over TLS: coracle serve --listen with an address of the network",
        );
    };
    let body = match operation::read(front, JOIN_BODY_BYTES, request.into_body()).await {
        Ok(body) => body,
        Err(Unread::Slow) => return operation::timed_out(),
        Err(Unread::TooLarge(_) | Unread::Gone) => return refuse(StatusCode::BAD_REQUEST, "the body cannot be read"),
    };
    let Ok(join) = serde_json::from_slice::<Join>(&body) else {
        return refuse(StatusCode::BAD_REQUEST, "the body is to be JSON with token and publicKey");
    };
    let Ok(key) = base64::engine::general_purpose::STANDARD.decode(&join.public_key) else {
        return refuse(StatusCode::BAD_REQUEST, "publicKey is to be base64");
    };
    let instance = ContainerInstanceId::from_bytes(dice::bytes());
    let certificate = match authority.certify(&instance, &key) {
        Ok(certificate) => certificate,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, error.to_string()),
    };
    // Last, so that a mistake does not cost a token.
    match join::consume(&front.state_directory, &join.token, clock::now()) {
        Ok(true) => {
            tracing::info!(%instance, "a host has joined");
            let answer = json!({
                "protocol": PROTOCOL,
                "containerInstance": instance.as_str(),
                "certificate": certificate,
                "certificateAuthority": authority.certificate_pem,
            });
            with(StatusCode::OK, "application/json", Content::text(answer.to_string()))
        }
        Ok(false) => refuse(StatusCode::FORBIDDEN, "the join token is unknown, used or expired"),
        Err(error) => broken(&error, "join tokens cannot be read"),
    }
}

fn join_token(front: &Front, door: &Door, query: &str) -> Response<Content> {
    if let Some(refused) = only_at_the_socket(door) {
        return refused;
    }
    let life_s = match query.strip_prefix("life_s=").map(str::parse) {
        Some(Ok(life_s)) => life_s,
        Some(Err(_)) => return refuse(StatusCode::BAD_REQUEST, "life_s is a number of seconds"),
        None => join::LONGEST_LIFE_S,
    };
    match join::create(&front.state_directory, life_s, clock::now()) {
        Ok((token, expires_at)) => {
            let authority = front.authority.as_ref().map(|authority| authority.certificate_pem.as_str());
            let answer = json!({
                "token": token,
                "expiresAt": expires_at,
                "endpoint": front.endpoint,
                "certificateAuthority": authority,
            });
            with(StatusCode::OK, "application/json", Content::text(answer.to_string()))
        }
        Err(error) => broken(&error, "a join token cannot be made"),
    }
}

fn broken(error: &dyn std::error::Error, what: &'static str) -> Response<Content> {
    tracing::error!(%error, what);
    refuse(StatusCode::INTERNAL_SERVER_ERROR, format!("{what}: {error}"))
}

fn whole_backup(front: &Front, door: &Door) -> Response<Content> {
    if let Some(refused) = only_at_the_socket(door) {
        return refused;
    }
    let state = front.control.snapshot();
    let files = match backup::read_files(&front.state_directory) {
        Ok(files) => files,
        Err(error) => return broken(&error, "the keys cannot be read"),
    };
    let epoch = state.epoch;
    let (lines, content) = mpsc::channel(LINES);
    // Records become text one by one: a large state is never in memory twice.
    tokio::task::spawn_blocking(move || {
        let sent = backup::write(epoch, &files, backup::records(&state), |line| {
            lines.blocking_send(Bytes::from(line)).map_err(|_| std::io::ErrorKind::BrokenPipe.into())
        });
        if let Err(error) = sent {
            tracing::warn!(%error, "a backup was not taken whole");
        }
    });
    with(StatusCode::OK, LINES_OF_JSON, Content::Lines(content))
}
