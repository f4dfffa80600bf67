//! What crosses between two builds of coracle: the task that a supervisor is given, the status that it reports, and
//! the commands it takes while it runs. A supervisor of an older build may still be running when a newer one reads
//! its files, so members are only ever added, each with a default.
//!
//! Pure: types, their JSON, and what follows from them. Nobody here opens a file or a socket.

pub mod command;
pub mod logs;
pub mod secrets;
pub mod session;
pub mod status;
pub mod task_spec;

pub use command::{Answer, Command};
pub use secrets::{ContainerSecrets, SecretValue};
pub use status::{ContainerStatus, ProcessIdentity, TaskStatus};
pub use task_spec::{Bind, ContainerSpec, ElasticNetworkInterface, MetadataFile, TaskSpec, VolumeSource, VolumeSpec};
