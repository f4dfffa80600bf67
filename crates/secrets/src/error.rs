//! Why the store failed, and what it does not have.

use std::io;
use std::path::{Path, PathBuf};

use crate::store::MAX_VALUE_BYTES;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "{} cannot be decrypted: it was changed, or it was written with another key than {}",
        path.display(),
        key.display()
    )]
    Sealed { path: PathBuf, key: PathBuf },
    #[error("{} is no entry of a secret store", path.display())]
    Malformed { path: PathBuf },
    #[error("{} is not a key: it has to be a file of {} bytes that only its owner may read", path.display(), crate::key::KEY_BYTES)]
    Key { path: PathBuf },
    #[error("{} is missing, and without it what is in {} cannot be read", key.display(), directory.display())]
    KeyLost { key: PathBuf, directory: PathBuf },
    #[error("the kernel gives no random numbers")]
    Dice,
    #[error("the value has {bytes} bytes; a secret has 1 to {MAX_VALUE_BYTES}")]
    Size { bytes: usize },
    #[error("the value has a NUL character, which no environment variable can hold")]
    Nul,
}

pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { action, path: path.to_owned(), source }
}

/// The store has an answer, and it is no. Texts: those of Secrets Manager's GetSecretValue and of Amazon's agent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotFound {
    /// As SSM's GetParameters names what it does not know, through Amazon's agent (agent/ssm/ssm.go).
    #[error("invalid parameters: {name}")]
    Parameter { name: String },
    #[error("ResourceNotFoundException: Secrets Manager can't find the specified secret.")]
    Secret,
    #[error(
        "ResourceNotFoundException: Secrets Manager can't find the specified secret value for staging label: {stage}"
    )]
    Stage { stage: String },
    #[error("ResourceNotFoundException: Secrets Manager can't find the specified secret value for VersionId: {id}")]
    Version { id: String },
    #[error("InvalidRequestException: You provided a VersionStage that is not associated to the provided VersionId.")]
    StageOfVersion,
    /// The words of Amazon's agent, in agent/asm/asm.go.
    #[error("retrieved secret from Secrets Manager did not contain json key {key}")]
    JsonKey { key: String },
    #[error("retrieved secret from Secrets Manager is not a JSON object, so it has no json key {key}")]
    NotAnObject { key: String },
}
