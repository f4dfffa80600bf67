//! Amazon's ECS nouns, spelt Amazon's way, and every rule about them that needs no host: parsing a task definition,
//! checking it, applying RunTask's overrides, and the shapes that DescribeTasks shows.
//!
//! This crate knows nobody, touches no file, clock or network, and never decides what a host does with a value.

pub mod arn;
pub mod capability;
pub mod environment_file;
pub mod fields;
pub mod grammar;
pub mod hash;
pub mod id;
pub mod input;
pub mod json;
pub mod launch_type;
pub mod link;
pub mod lint;
pub mod log_options;
pub mod network_configuration;
pub mod operations;
pub mod overrides;
mod path;
pub mod port;
pub mod register;
pub mod size;
mod suggest;
pub mod tagged;
pub mod task;
pub mod task_definition;
pub mod time;
pub mod value_from;

pub use id::{ContainerInstanceId, ContainerName, TaskId};
pub use launch_type::LaunchType;
pub use time::Timestamp;
