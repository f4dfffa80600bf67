//! Why a pull failed, and what would change that. The caller shows it behind ECS's `CannotPullContainerError:`.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::Error;
use crate::limits::{MAX_CONNECTING_ATTEMPTS, MAX_FRUITLESS_ATTEMPTS};

#[derive(Debug, thiserror::Error)]
pub enum PullError {
    #[error("{what} was not found at {host}{}; check the image's name and tag", in_its_words(said))]
    NotFound { host: String, what: String, said: Option<String> },
    #[error("registry {host} denies access: {why}")]
    Denied { host: String, why: String },
    #[error("registry {host} cannot be reached{hint}")]
    Unreachable {
        host: String,
        hint: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error(
        "registry {host} stalled: {what} for {seconds} s; what has arrived is kept, so pull again when the network is better"
    )]
    Stalled { host: String, what: String, seconds: u64 },
    #[error("registry {host} is busy (status {status}); pull again later")]
    Busy { host: String, status: u16, retry_after: Option<Duration> },
    #[error("registry {host} was refused: {why}")]
    Refused { host: String, why: String },
    #[error("{what} is corrupt: {why}")]
    Corrupt {
        what: String,
        why: String,
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    #[error("{what} is larger than this host's limit of {limit} bytes")]
    TooLarge { what: String, limit: u64 },
    #[error("{what} is not supported: {why}")]
    Unsupported { what: String, why: String },
    #[error("{} cannot be used: {why}", path.display())]
    Credentials { path: PathBuf, why: String },
    #[error("the image store failed")]
    Store(#[from] Error),
}

fn in_its_words(said: &Option<String>) -> String {
    said.as_ref().map(|said| format!(" ({said})")).unwrap_or_default()
}

/// Nobody listens there, no way leads there, or the name means nothing.
fn is_without_connection(error: &(dyn StdError + 'static)) -> bool {
    let refused = error.downcast_ref::<io::Error>().is_some_and(|cause| {
        matches!(
            cause.kind(),
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable
        )
    });
    // hyper-util says so in words only.
    refused || error.to_string().starts_with("dns error") || error.source().is_some_and(is_without_connection)
}

impl PullError {
    /// How many attempts in a row may end like this.
    pub(crate) fn max_attempts(&self) -> u32 {
        match self {
            PullError::Unreachable { source, .. } if is_without_connection(source.as_ref()) => MAX_CONNECTING_ATTEMPTS,
            _ => MAX_FRUITLESS_ATTEMPTS,
        }
    }

    /// Whether the same request may succeed in a moment.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            PullError::Unreachable { hint, .. } => hint.is_empty(),
            PullError::Busy { .. } => true,
            PullError::NotFound { .. }
            | PullError::Denied { .. }
            | PullError::Stalled { .. }
            | PullError::Refused { .. }
            | PullError::Corrupt { .. }
            | PullError::TooLarge { .. }
            | PullError::Unsupported { .. }
            | PullError::Credentials { .. }
            | PullError::Store(_) => false,
        }
    }
}
