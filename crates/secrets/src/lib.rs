//! A host's own store of secrets: what `valueFrom` names, encrypted at rest, with the versions that Secrets Manager
//! knows.
//!
//! One entry answers to its name, to a parameter's ARN and to a secret's ARN. A value leaves this crate only as a
//! `Value`, whose `Debug` does not show it; no error has one in it. Who may read a value, and where it goes, is the
//! caller's matter.

mod entry;
mod error;
mod key;
mod seal;
mod store;

pub use entry::{CURRENT, Entry, Kind, MAX_VERSIONS, PREVIOUS, Put, Value, Version};
pub use error::{Error, NotFound};
pub use store::{MAX_VALUE_BYTES, Store};
