//! Task metadata in Amazon's words: what a container is told of itself and its task. Pure, but for `stats`' looks at a
//! container, which are the caller's.
//!
//! Pages: <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v4-response.html>,
//! <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v3.html>,
//! <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v2.html>. Versions 2 and 3 are
//! version 4 without the members that it added.

mod container;
mod network;
pub mod stats;
mod task;
#[cfg(test)]
mod tests;

pub use container::{Container, container};
pub use network::Network;
pub use task::{ClockDrift, EphemeralStorage, Extra, Task, task};

/// Of the endpoint that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    V2,
    V3,
    V4,
}

impl Version {
    /// As Amazon's agent begins its errors.
    pub fn name(self) -> &'static str {
        match self {
            Version::V2 => "V2",
            Version::V3 => "V3",
            Version::V4 => "V4",
        }
    }
}
