//! Secret values on their way to a supervisor. They cross in memory only, with `Command::Go`: `task.json` never has
//! them, nor does any message or log, for their `Debug` shows names alone.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use ecs::ContainerName;
use serde::{Deserialize, Serialize};

/// One container's secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerSecrets {
    pub container: ContainerName,
    /// Over variables of the same name, as Amazon's agent does.
    #[serde(default)]
    pub environment: Vec<(String, SecretValue)>,
    /// Files of a tmpfs, mode 0400, owned by the container's user.
    #[serde(default)]
    pub files: Vec<(PathBuf, SecretValue)>,
    /// `logConfiguration.secretOptions`.
    #[serde(default)]
    pub log_options: BTreeMap<String, SecretValue>,
}

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretValue(pub String);

impl fmt::Debug for SecretValue {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("(secret)")
    }
}
