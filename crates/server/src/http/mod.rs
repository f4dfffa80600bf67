//! The front door: sockets, TLS, what a request may cost, and where each goes.
//!
//! | | who may | |
//! |---|---|---|
//! | `POST /` | who signs (root at the unix socket) | an operation of Amazon ECS |
//! | `GET /healthz`, `/readyz`, `/metrics` | anybody | |
//! | `GET /events` | who signs | state changes as lines of JSON, as they happen |
//! | `POST /logs` | who signs | what a task wrote, as lines of JSON |
//! | `GET /agent` | a certificate or a token | `Upgrade: coracle-agent`: a container instance's session |
//! | `POST /agent/join` | a token | a certificate for a new container instance |
//! | `GET /data-channel/ID` | the session's own token | ECS Exec's websocket |
//! | `POST /join-tokens`, `GET /backup` | root at the unix socket | |
//! | `POST /explain` | root at the unix socket | why a task would go nowhere |

mod content;
mod explain;
mod guard;
mod listen;
mod logs;
mod operation;
mod routes;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::sync::{Semaphore, watch};

use crate::events::Events;
use crate::keys::RootKey;
use crate::metrics::Metrics;
use crate::sessions::Sessions;
use crate::tls::Authority;
use crate::{control, exec};

pub use content::Content;
pub use listen::{Bound, Error, Listeners, serve};
pub(crate) use routes::refuse;

/// Connections at one time; the next is closed at once.
pub const CONNECTIONS: usize = 2_048;
/// From a connection's begin, or the end of a response, to the end of the next request's head.
pub const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// From a request's head to the end of its body.
pub const BODY_LIMIT: Duration = Duration::from_secs(15);
pub const TLS_HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// What a client does not take for so long it never will.
pub const UNREAD_LIMIT: Duration = Duration::from_secs(30);
/// Of a request's line and headers, as hyper buffers them; `api::limits` says what is good.
pub const HEAD_BYTES: usize = 80 * 1024;
/// All bodies that are being read.
pub const BODY_BYTES_IN_FLIGHT: usize = 32 << 20;
/// Requests of one HTTP/2 connection at one time.
pub const STREAMS: u32 = 64;
/// What is being answered when the server is told to end is answered within this.
pub const FAREWELL: Duration = Duration::from_secs(5);

/// What a client is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    pub head: Duration,
    pub body: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { head: HEAD_LIMIT, body: BODY_LIMIT }
    }
}

/// What every request may need.
pub struct Front {
    pub control: control::Handle,
    pub sessions: Sessions,
    pub metrics: Arc<Metrics>,
    pub events: Events,
    pub exec: exec::Invitations,
    pub key: RootKey,
    /// `--dev`: any key id and signature.
    pub any_key: bool,
    pub account_id: String,
    /// Of callers who do not say theirs.
    pub region: String,
    /// Whether the agent of this very process is connected, where there is to be one.
    pub own_instance: Option<watch::Receiver<bool>>,
    /// Under which this host's own clients reach it.
    pub endpoint: String,
    /// By which clients reach it without TLS, besides addresses.
    pub names: Vec<String>,
    pub state_directory: PathBuf,
    pub authority: Option<Authority>,
    pub patience: Patience,
    body_places: Arc<Semaphore>,
}

/// What `Front` is made of, besides its own.
pub struct Parts {
    pub control: control::Handle,
    pub sessions: Sessions,
    pub metrics: Arc<Metrics>,
    pub events: Events,
    pub key: RootKey,
    pub any_key: bool,
    pub account_id: String,
    pub region: String,
    pub own_instance: Option<watch::Receiver<bool>>,
    pub endpoint: String,
    pub names: Vec<String>,
    pub state_directory: PathBuf,
    pub authority: Option<Authority>,
    pub patience: Patience,
}

impl Front {
    pub fn new(parts: Parts) -> Front {
        let exec = exec::Invitations::new(parts.sessions.clone(), Arc::clone(&parts.metrics));
        Front {
            control: parts.control,
            sessions: parts.sessions,
            metrics: parts.metrics,
            events: parts.events,
            exec,
            key: parts.key,
            any_key: parts.any_key,
            account_id: parts.account_id,
            region: parts.region,
            own_instance: parts.own_instance,
            endpoint: parts.endpoint,
            names: parts.names,
            state_directory: parts.state_directory,
            authority: parts.authority,
            patience: parts.patience,
            body_places: Arc::new(Semaphore::new(BODY_BYTES_IN_FLIGHT)),
        }
    }

    /// The account's root: the only principal there is.
    pub fn principal_arn(&self) -> String {
        format!("arn:aws:iam::{}:root", self.account_id)
    }
}

/// Through which door a request has come.
#[derive(Clone)]
pub enum Door {
    /// The unix socket, which only root can open.
    Socket,
    Tcp {
        tls: bool,
        /// That TLS has verified.
        certificate: Option<CertificateDer<'static>>,
    },
}
