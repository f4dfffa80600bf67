//! Trees of files as archives and back, for `coracle cp`: ownership, modes, times, links and attributes are kept.
//!
//! Both sides work below a directory that they are given and never look outside of it, whatever links it holds and
//! whoever changes it meanwhile: one of the two is a running container's.

mod pack;
mod unpack;

use std::io;

use crate::extract::ExtractError;

pub use pack::{Links, What, pack};
pub use unpack::{Destination, Devices, unpack};

/// What was copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    pub entries: u64,
    /// Logical sizes of files.
    pub bytes: u64,
    /// What was left out, and why; the first `MAX_NOTES`.
    pub notes: Vec<String>,
}

/// A tree may hold any number of sockets and devices.
const MAX_NOTES: usize = 20;

impl Copied {
    fn note(&mut self, note: String) {
        if self.notes.len() < MAX_NOTES {
            self.notes.push(note);
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct TreeError(#[from] ExtractError);

impl TreeError {
    /// What the operating system said, where it was that which failed.
    pub fn io(&self) -> Option<&io::Error> {
        match &self.0 {
            ExtractError::Io { source, .. } => Some(source),
            ExtractError::Archive(_) | ExtractError::Refused { .. } | ExtractError::TooLarge { .. } => None,
        }
    }
}
