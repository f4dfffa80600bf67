//! Names and ids that ECS gives things.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A task's id: 32 lower-case hexadecimal digits, the last part of its ARN.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TaskId(Digits);

/// A container instance's id: as a task's, the last part of its ARN.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerInstanceId(Digits);

/// In place, so that a copy of an id allocates nothing: a large cluster's maps are full of them.
type Digits = [u8; TaskId::LENGTH];

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id is {} lower-case hexadecimal digits, not {given:?}", TaskId::LENGTH)]
pub struct NotATaskId {
    pub given: String,
}

fn digits(random: [u8; 16]) -> Digits {
    const HEXADECIMAL: &[u8; 16] = b"0123456789abcdef";
    std::array::from_fn(|index| {
        let byte = random[index / 2];
        HEXADECIMAL[usize::from(if index.is_multiple_of(2) { byte >> 4 } else { byte & 0x0f })]
    })
}

fn read(given: String) -> Result<Digits, NotATaskId> {
    let all_digits = given.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    match Digits::try_from(given.as_bytes()) {
        Ok(digits) if all_digits => Ok(digits),
        Ok(_) | Err(_) => Err(NotATaskId { given }),
    }
}

fn text(digits: &Digits) -> &str {
    std::str::from_utf8(digits).unwrap_or_default()
}

impl TaskId {
    pub const LENGTH: usize = 32;
}

/// What both ids have.
macro_rules! hexadecimal_id {
    ($name:ident) => {
        impl $name {
            /// From 16 random bytes; where they come from is the caller's matter.
            pub fn from_bytes(random: [u8; 16]) -> Self {
                Self(digits(random))
            }

            pub fn as_str(&self) -> &str {
                text(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NotATaskId;

            fn try_from(given: String) -> Result<Self, NotATaskId> {
                read(given).map(Self)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, concat!(stringify!($name), "({:?})"), self.as_str())
            }
        }
    };
}

hexadecimal_id!(TaskId);
hexadecimal_id!(ContainerInstanceId);

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
