//! One host's tasks: how one is started, found again after a fault, and described. `coracle run` and, later, the agent
//! of a container instance go this one way: images and network side by side, then a supervisor.
//!
//! This crate never touches libcontainer or netlink; it never holds a task's fate: a task lives and ends with its own
//! supervisor, whoever started it.

pub mod compose;
pub mod describe;
pub mod dice;
pub mod driver;
pub mod ending;
pub mod environment;
pub mod events;
#[cfg(test)]
mod example;
pub mod firelens;
pub mod gpu;
pub mod host;
pub mod instance;
pub mod interface;
mod links;
pub mod logs;
pub mod metadata_file;
pub mod recovery;
pub mod registries;
pub mod resolve;
pub mod shipping;
pub mod volumes;
pub mod vpc_store;
pub mod wanted_images;

pub use compose::Plan;
pub use host::Host;
