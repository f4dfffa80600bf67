//! ECS Exec: ExecuteCommand answers with a URL and a token, and whoever comes there with the token gets the command's
//! terminal. Both are good once and for a short time; the command starts when the client is there.

mod channel;
pub mod client;
mod message;
mod websocket;
mod words;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use agent_protocol::session::OpenExec;
use control_plane::Caller;
use ecs::operations::shapes::Session;
use ecs::operations::tasks::{ExecuteCommandRequest, ExecuteCommandResponse};
use ecs::operations::{ApiError, ErrorCode, Operation, Reply};
use ecs::{ContainerInstanceId, ContainerName, TaskId};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use ring::digest::{SHA256, digest};

use crate::http::{Content, refuse};
use crate::metrics::{Gauge, Metrics};
use crate::sessions::Sessions;
use crate::{control, dice};

/// Below it each session has its id.
pub const PATH: &str = "/data-channel/";
/// From ExecuteCommand's answer to the client's coming.
const INVITATION: Duration = Duration::from_secs(60);
/// Clients that have been invited and have not come.
const INVITATIONS: usize = 1_000;
/// Commands at one time.
const SESSIONS: i64 = 500;
/// Of a terminal whose size the client has not told yet.
const ROWS: u16 = 24;
const COLUMNS: u16 = 80;

struct Invitation {
    until: Instant,
    /// SHA-256 of the token.
    token: Vec<u8>,
    instance: ContainerInstanceId,
    open: OpenExec,
}

/// Clones are alike.
#[derive(Clone)]
pub struct Invitations {
    sessions: Sessions,
    metrics: Arc<Metrics>,
    open: Arc<Mutex<HashMap<String, Invitation>>>,
}

impl Invitations {
    pub fn new(sessions: Sessions, metrics: Arc<Metrics>) -> Self {
        Self { sessions, metrics, open: Arc::default() }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, Invitation>> {
        self.open.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The control plane says whether the command may run, and in which container; where it can be met is said here.
    pub async fn execute(
        &self,
        control: &control::Handle,
        caller: Caller,
        request: ExecuteCommandRequest,
    ) -> Result<Reply, ApiError> {
        let command = request.command.as_deref().and_then(words::split).filter(|words| !words.is_empty());
        let endpoint = caller.endpoint.clone();
        let reply = control.ask(caller, Operation::ExecuteCommand(request)).await?;
        let Reply::ExecuteCommand(mut response) = reply else { return Ok(reply) };
        let command = command.ok_or_else(|| ApiError::invalid("command has a quotation mark that nothing closes."))?;
        let (instance, task, container) = self.target(control, &response).ok_or_else(unreachable)?;
        let session = format!("ecs-execute-command-{}", &dice::hex::<9>()[..17]);
        let token = dice::hex::<32>();
        let open = OpenExec { session: session.clone(), task, container, command, rows: ROWS, columns: COLUMNS };
        self.invite(Invitation {
            until: Instant::now() + INVITATION,
            token: digest(&SHA256, token.as_bytes()).as_ref().to_vec(),
            instance,
            open,
        })?;
        // http becomes ws, and https wss.
        let stream_url = format!("{}{PATH}{session}?role=publish_subscribe", endpoint.replacen("http", "ws", 1));
        response.session =
            Some(Session { session_id: Some(session), stream_url: Some(stream_url), token_value: Some(token) });
        Ok(response.into())
    }

    fn target(
        &self,
        control: &control::Handle,
        response: &ExecuteCommandResponse,
    ) -> Option<(ContainerInstanceId, TaskId, ContainerName)> {
        let id = response.task_arn.as_deref()?.rsplit('/').next()?;
        let task = TaskId::try_from(id.to_owned()).ok()?;
        let instance = control.snapshot().tasks.get(&task)?.instance.clone()?;
        let container = ContainerName::try_from(response.container_name.clone()?).ok()?;
        self.sessions.is_connected(&instance).then_some((instance, task, container))
    }

    fn invite(&self, invitation: Invitation) -> Result<(), ApiError> {
        let mut open = self.open();
        let now = Instant::now();
        open.retain(|_, invitation| invitation.until > now);
        let running = self.metrics.exec_sessions.load(std::sync::atomic::Ordering::Relaxed);
        if open.len() >= INVITATIONS || running >= SESSIONS {
            return Err(ApiError::client("There are too many ECS Exec sessions. Try again later."));
        }
        open.insert(invitation.open.session.clone(), invitation);
        Ok(())
    }

    /// What a session's token is good for, once. A wrong one uses the invitation up as well: nobody guesses twice.
    fn accept(&self, session: &str, token: &str) -> Option<(ContainerInstanceId, OpenExec)> {
        let invitation = self.open().remove(session)?;
        let same = digest(&SHA256, token.as_bytes()).as_ref() == invitation.token.as_slice();
        (same && invitation.until > Instant::now()).then_some((invitation.instance, invitation.open))
    }

    fn is_invited(&self, session: &str) -> bool {
        self.open().get(session).is_some_and(|invitation| invitation.until > Instant::now())
    }
}

/// Amazon's words for an agent that does not answer.
fn unreachable() -> ApiError {
    ApiError::new(
        ErrorCode::TargetNotConnected,
        "The execute command failed due to an internal error. Try again later.",
    )
}

/// `GET /data-channel/ID`.
pub(crate) fn websocket(invitations: &Invitations, mut request: Request<Incoming>) -> Response<Content> {
    let session = request.uri().path().trim_start_matches(PATH).to_owned();
    let header = |name| request.headers().get(name).map(HeaderValue::as_bytes);
    let wanted = header(UPGRADE).is_some_and(|kind| kind.eq_ignore_ascii_case(b"websocket"));
    let (true, Some(b"13"), Some(key)) = (wanted, header(SEC_WEBSOCKET_VERSION), header(SEC_WEBSOCKET_KEY)) else {
        return refuse(StatusCode::UPGRADE_REQUIRED, "this is a websocket of version 13");
    };
    let accept = websocket::accept(key);
    if !invitations.is_invited(&session) {
        return refuse(StatusCode::NOT_FOUND, "there is no such session; ExecuteCommand makes another");
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let invitations = invitations.clone();
    tokio::spawn(async move {
        let Ok(stream) = upgrade.await else { return };
        let _counted = Gauge::count(&invitations.metrics.exec_sessions);
        match channel::serve(TokioIo::new(stream), &invitations, &session).await {
            Ok(()) => tracing::info!(session, "an ECS Exec session has ended"),
            Err(error) => tracing::info!(session, %error, "an ECS Exec session has ended"),
        }
    });
    let mut response = Response::new(Content::nothing());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&accept).expect("base64 is visible ASCII"));
    response
}
