//! Which task is calling. In a task's own namespace the socket says so; on the host's, the cgroup of the process that
//! has the other end of the connection.

use std::fs;
use std::io;
use std::net::SocketAddrV4;
use std::path::PathBuf;

use ecs::TaskId;
use ecs::task_definition::NetworkMode;
use runtime::cgroup::{CgroupError, Cgroups};

use crate::origin::Origin;
use crate::world::Snapshot;

/// A connection as the caller's socket has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    pub caller: SocketAddrV4,
    /// What it called.
    pub here: SocketAddrV4,
}

/// Why a caller is nobody's.
#[derive(Debug, thiserror::Error)]
pub enum NoTask {
    #[error("the connection is gone")]
    Gone,
    #[error("no process of a task in host mode has the other end of the connection")]
    Nobody,
    #[error("processes of several tasks have the other end of the connection")]
    Several,
    #[error("the kernel does not tell whose connection it is")]
    Kernel(#[source] io::Error),
    #[error("the processes of a task cannot be listed")]
    Cgroup(#[source] CgroupError),
    #[error("cannot read {path}", path = path.display())]
    Process {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The task of the caller. On a namespace of the task's own that is never asked of the connection.
///
/// A socket that processes of several tasks hold, because one has handed it to another, belongs to none of them. A
/// process that has left its task's cgroup, for which it must be privileged, is no task's either.
///
/// # Errors
/// Nobody's, or it cannot be found out; both are a refusal.
pub fn identify(
    origin: &Origin,
    connection: Connection,
    tasks: &Snapshot,
    cgroups: &Cgroups,
) -> Result<TaskId, NoTask> {
    match origin {
        Origin::Task { task, .. } => Ok(task.clone()),
        Origin::Host { .. } => {
            let inode = network::socket_inode(connection.caller, connection.here).map_err(NoTask::Kernel)?;
            holder(inode.ok_or(NoTask::Gone)?, tasks, cgroups)
        }
    }
}

/// The task in host mode whose processes have this socket open.
pub(crate) fn holder(inode: u64, tasks: &Snapshot, cgroups: &Cgroups) -> Result<TaskId, NoTask> {
    let wanted = format!("socket:[{inode}]");
    let mut found = None;
    for task in tasks.tasks.iter().filter(|task| task.spec.network_mode == NetworkMode::Host) {
        for pid in cgroups.processes(&task.spec.places.cgroup).map_err(NoTask::Cgroup)? {
            if !holds(pid, &wanted)? {
                continue;
            }
            if found.is_some() {
                return Err(NoTask::Several);
            }
            found = Some(task.spec.id.clone());
            break;
        }
    }
    found.ok_or(NoTask::Nobody)
}

/// A process that has ended holds nothing.
fn holds(pid: i32, wanted: &str) -> Result<bool, NoTask> {
    let path = PathBuf::from(format!("/proc/{pid}/fd"));
    let ended = |error: &io::Error| {
        error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::errno::Errno::ESRCH as i32)
    };
    let descriptors = match fs::read_dir(&path) {
        Ok(descriptors) => descriptors,
        Err(error) if ended(&error) => return Ok(false),
        Err(source) => return Err(NoTask::Process { path, source }),
    };
    // One that is closed meanwhile is left out.
    let mut links = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    Ok(links.any(|link| link.as_os_str() == wanted))
}
