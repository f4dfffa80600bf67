//! What a task's containers write, on its way to a log service: Docker's network log drivers and FireLens.
//!
//! A supervisor writes local segments and nothing else. One process a task, `coracle log-shipper`, reads them from where
//! it was before, sends them on, and records how far it has come when the service has taken them. It holds nothing of
//! a task's fate: killed at any moment it is started again and loses nothing; a dead service stops no container.
//!
//! `encode` is pure, `connect` speaks to sockets, `ship` brings both together for one container, `process` for a task.

mod batch;
mod calendar;
mod connect;
mod driver;
pub mod encode;
mod message;
mod options;
pub mod process;
mod ship;
mod status;
mod tag;

pub use driver::{Driver, firelens_directory, firelens_socket, is_shipped};
pub use message::{Message, Origin, Part};
pub use options::{Address, OptionError};
pub use process::DRAIN;
pub use status::{Shipping, shipping};
