//! HTTP at 169.254.170.2: task metadata, credentials and task protection, one listener a namespace.
//!
//! A caller gets what its own task's is and nothing else, whatever ids it knows: which task that is, `caller` says
//! before a byte of the request is read. Every caller is held to limits of its own, so that none is in another's way.

mod answer;
mod rate;
mod refuse;
mod respond;
mod route;
mod samples;

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent::Host;
use ecs::{TaskId, Timestamp};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use runtime::cgroup::{CgroupError, Cgroups};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep, timeout};

use crate::caller::{self, Connection, NoTask};
use crate::credentials::CredentialsSource;
use crate::origin::Origin;
use crate::world::World;
use answer::Answer;
use rate::Rates;
use samples::Samples;

pub use rate::{BURST, REQUESTS_PER_SECOND};
pub use refuse::MAX_HEAD_BYTES;

/// Where callers find it. Our own end has another one: `network` rewrites it on the way, and nobody who calls that one
/// gets a connection.
const PORT: u16 = 80;
/// Open at once on one listener; more wait in the kernel's queue.
pub const MAX_CONNECTIONS: usize = 1024;
/// Open at once from one task; one more is closed.
pub const MAX_CONNECTIONS_OF_TASK: usize = 64;
/// Open at once from all who are no task.
pub const MAX_CONNECTIONS_OF_NOBODY: usize = 16;
/// "readTimeout … 5 seconds as per AWS SDK defaults", as Amazon's agent has it: for a request's head, and for its body.
pub const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Then a connection is closed after the answer that is under way.
pub const CONNECTION_LIFE: Duration = Duration::from_secs(60);
/// How long a caller may be of a task that has not been told of yet.
const SETTLE: Duration = Duration::from_secs(1);
/// hyper's least. What has more is refused, and what has more than `MAX_HEAD_BYTES` as well.
const READ_BUFFER: usize = 8192;
const MAX_HEADERS: usize = 64;
/// Where no connection can be taken: until a descriptor may have been given back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What all listeners of this process share.
pub struct Http {
    world: World,
    host: Host,
    cgroups: Cgroups,
    credentials: Box<dyn CredentialsSource>,
    rates: Mutex<Rates<Option<TaskId>>>,
    connections: Mutex<HashMap<Option<TaskId>, usize>>,
    samples: Mutex<Samples>,
}

impl Http {
    /// Credentials come from the host's store of secrets.
    ///
    /// # Errors
    /// The host has no cgroups.
    pub fn new(world: World, host: Host) -> Result<Http, CgroupError> {
        let credentials = Box::new(host.secrets());
        Ok(Http {
            world,
            cgroups: Cgroups::detect()?,
            host,
            credentials,
            rates: Mutex::new(Rates::new()),
            connections: Mutex::new(HashMap::new()),
            samples: Mutex::new(Samples::default()),
        })
    }
}

impl std::fmt::Debug for Http {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Http").field("host", &self.host).finish_non_exhaustive()
    }
}

/// Answers on this listener until the future is dropped, which closes its connections.
pub async fn serve(listener: TcpListener, origin: Origin, shared: Arc<Http>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= MAX_CONNECTIONS {
            connections.join_next().await;
        }
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(connection(stream, peer, origin.clone(), Arc::clone(&shared)));
                }
                Err(error) => {
                    tracing::warn!(?origin, error = %error, "a connection cannot be taken");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, origin: Origin, shared: Arc<Http>) {
    let caller = shared.identify(&stream, peer, origin).await;
    let Some(_slot) = Slot::take(&shared, caller.as_ref().ok().cloned()) else { return };
    // Small answers, each of them waited for. A socket that cannot have this is slower.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| answer(&shared, &caller, request));
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(READ_TIMEOUT)
        .max_buf_size(READ_BUFFER)
        .max_headers(MAX_HEADERS);
    // Who has nothing more to say still listens.
    server.half_close(true);
    let mut serving = pin!(server.serve_connection(TokioIo::new(stream), service));
    let outcome = match timeout(CONNECTION_LIFE, serving.as_mut()).await {
        Ok(outcome) => outcome,
        Err(_) => {
            serving.as_mut().graceful_shutdown();
            timeout(READ_TIMEOUT, serving).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(error = %error, "a connection ended in the middle");
    }
}

async fn answer(
    shared: &Arc<Http>,
    caller: &Result<TaskId, NoTask>,
    request: Request<Incoming>,
) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    if let Err(refusal) = refuse::check(&head) {
        tracing::debug!(task = ?caller.as_ref().ok(), reason = %refusal, "request refused");
        return Ok(answer::refused(refusal.status(), &refusal.to_string()));
    }
    let key = caller.as_ref().ok().cloned();
    if !locked(&shared.rates).take(key, now()) {
        return Ok(answer::too_many());
    }
    match caller {
        Ok(task) => Ok(respond::respond(shared, task, &head, body).await),
        Err(reason) => {
            tracing::debug!(reason = %reason, "caller refused");
            Ok(answer::refused(StatusCode::FORBIDDEN, "this service is for tasks, and the caller is none"))
        }
    }
}

impl Http {
    async fn identify(
        self: &Arc<Self>,
        stream: &TcpStream,
        peer: SocketAddr,
        origin: Origin,
    ) -> Result<TaskId, NoTask> {
        // A namespace of the task's own needs no look at the connection.
        if let Origin::Task { task, .. } = origin {
            return Ok(task);
        }
        let (SocketAddr::V4(caller), Ok(SocketAddr::V4(here))) = (peer, stream.local_addr()) else {
            return Err(NoTask::Gone);
        };
        let connection = Connection { caller, here: SocketAddrV4::new(*here.ip(), PORT) };
        let end = Instant::now() + SETTLE;
        loop {
            let tasks = self.world.snapshot();
            let (shared, seen, origin) = (Arc::clone(self), Arc::clone(&tasks), origin.clone());
            let found = spawn_blocking(move || caller::identify(&origin, connection, &seen, &shared.cgroups));
            let found = found.await.unwrap_or_else(|error| Err(NoTask::Kernel(io::Error::other(error))));
            let left = end.saturating_duration_since(Instant::now());
            if !matches!(found, Err(NoTask::Nobody)) || left.is_zero() {
                return found;
            }
            self.world.change(&tasks, left).await;
        }
    }
}

/// One of a caller's connections, counted as long as this lives.
struct Slot<'a> {
    shared: &'a Http,
    caller: Option<TaskId>,
}

impl<'a> Slot<'a> {
    fn take(shared: &'a Http, caller: Option<TaskId>) -> Option<Slot<'a>> {
        let limit = if caller.is_some() { MAX_CONNECTIONS_OF_TASK } else { MAX_CONNECTIONS_OF_NOBODY };
        let mut connections = locked(&shared.connections);
        let open = connections.entry(caller.clone()).or_default();
        if *open >= limit {
            return None;
        }
        *open += 1;
        drop(connections);
        Some(Slot { shared, caller })
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let mut connections = locked(&self.shared.connections);
        if let Some(open) = connections.get_mut(&self.caller) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                connections.remove(&self.caller);
            }
        }
    }
}

/// None of what is locked here is left half done by a panic.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_epoch_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
