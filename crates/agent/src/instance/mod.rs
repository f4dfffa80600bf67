//! One container instance: it tells a control plane what this host is, receives the whole set of its tasks, makes it so, and
//! reports how they stand.
//!
//! - A task is started at most once in a boot, and one of no service at most once ever: a mark on the disk comes first.
//! - An assignment is written down before anything is done about it; one that is not newer does nothing.
//! - Tasks live with their supervisors: when this process ends, or loses its control plane, they go on. When it comes back it
//!   finds them by their marks, and knows how they stand from their sockets and directories.
//! - Nothing is looked at again and again: a supervisor's socket tells of each change.
//!
//! `reconcile`, `report` and `verdict` are pure; `Instance` in `run` owns all state.

mod adopt;
mod clock;
mod connection;
mod ctl;
mod disk;
mod exec;
mod here;
pub mod introspection;
pub mod join;
mod logs;
pub mod reconcile;
pub mod register;
mod report;
mod run;
#[cfg(test)]
mod samples;
mod start;
mod verdict;

pub use connection::{Peer, Refused};
pub use disk::DiskError;
pub use register::Settings;
pub use run::{RunError, run};
