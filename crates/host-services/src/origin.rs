//! Who is calling. Never taken from what the caller says: from the socket that the call came in on, which lies in one
//! network namespace, and for callers in the host's own namespace from the cgroup of the process that made the call.

use ecs::{ContainerName, TaskId};

/// Where a socket that is served lies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// In a namespace of this task: the callers are these of its containers, all of them in awsvpc mode.
    Task { task: TaskId, containers: Vec<ContainerName> },
    /// In the host's namespace, held by this task's supervisor; the caller may be of any task in host mode.
    Host { holder: TaskId },
}
