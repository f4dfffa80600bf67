//! Names and ids that ECS gives things.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A task's id: 32 lower-case hexadecimal digits, the last part of its ARN.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TaskId(String);

impl TaskId {
    pub const LENGTH: usize = 32;

    /// From 16 random bytes; where they come from is the caller's matter.
    pub fn from_bytes(random: [u8; 16]) -> Self {
        Self(random.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id is {} lower-case hexadecimal digits, not {given:?}", TaskId::LENGTH)]
pub struct NotATaskId {
    pub given: String,
}

impl TryFrom<String> for TaskId {
    type Error = NotATaskId;

    fn try_from(given: String) -> Result<Self, NotATaskId> {
        let digits = given.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if given.len() == Self::LENGTH && digits { Ok(Self(given)) } else { Err(NotATaskId { given }) }
    }
}

impl From<TaskId> for String {
    fn from(id: TaskId) -> String {
        id.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A container instance's id: as a task's, the last part of its ARN.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerInstanceId(String);

impl ContainerInstanceId {
    /// From 16 random bytes; where they come from is the caller's matter.
    pub fn from_bytes(random: [u8; 16]) -> Self {
        Self(TaskId::from_bytes(random).into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ContainerInstanceId {
    type Error = NotATaskId;

    fn try_from(given: String) -> Result<Self, NotATaskId> {
        TaskId::try_from(given).map(|id| Self(id.into()))
    }
}

impl From<ContainerInstanceId> for String {
    fn from(id: ContainerInstanceId) -> String {
        id.0
    }
}

impl fmt::Display for ContainerInstanceId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A container's name inside its task: 1 to 255 of `[A-Za-z0-9_-]`, so it is safe as one path component.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerName(String);

impl ContainerName {
    pub const MAX_LENGTH: usize = 255;

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a container name is 1 to {} letters, digits, '-' and '_', not {given:?}", ContainerName::MAX_LENGTH)]
pub struct NotAContainerName {
    pub given: String,
}

impl TryFrom<String> for ContainerName {
    type Error = NotAContainerName;

    fn try_from(given: String) -> Result<Self, NotAContainerName> {
        let grammar = given.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if !given.is_empty() && given.len() <= Self::MAX_LENGTH && grammar {
            Ok(Self(given))
        } else {
            Err(NotAContainerName { given })
        }
    }
}

impl From<ContainerName> for String {
    fn from(name: ContainerName) -> String {
        name.0
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}
