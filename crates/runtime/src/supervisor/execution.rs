//! Further processes in the task's containers (`coracle exec`), each on behalf of one connection.

use std::os::fd::{AsFd, OwnedFd};

use agent_protocol::command::Exec;
use agent_protocol::{ContainerSecrets, TaskSpec};

use super::container::Container;
use super::journal::chain;
use crate::cgroup::Cgroups;
use crate::ctl::ClientId;
use crate::exec;
use crate::process_identity;

/// At a time, in all containers of the task.
const MAX_EXECUTIONS: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Executions {
    running: Vec<Execution>,
}

#[derive(Debug)]
struct Execution {
    /// Nobody once the connection is closed.
    client: Option<ClientId>,
    pid: i32,
    pidfd: OwnedFd,
}

/// Where a process is to be started.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub(super) task: &'a TaskSpec,
    /// Nothing where the task has none of the name.
    pub(super) container: Option<&'a Container>,
    pub(super) secrets: Option<&'a ContainerSecrets>,
    pub(super) cgroups: &'a Cgroups,
}

impl Executions {
    /// Starts a process. Returns the master side of its terminal if it asked for one; the error is for its client.
    pub(super) fn start(
        &mut self,
        client: ClientId,
        wanted: &Exec,
        descriptors: Vec<OwnedFd>,
        around: &Around<'_>,
    ) -> Result<Option<OwnedFd>, String> {
        if self.running.len() >= MAX_EXECUTIONS {
            return Err(format!("{MAX_EXECUTIONS} processes were started by exec and still run; wait for one to end"));
        }
        if self.running.iter().any(|execution| execution.client == Some(client)) {
            return Err("this connection has a process already; open another".to_owned());
        }
        let name = &wanted.container;
        let Around { task, container, secrets, cgroups } = *around;
        let container = container.ok_or_else(|| format!("the task has no container {name}"))?;
        let started = container.started().ok_or_else(|| format!("container {name} is not running"))?;
        let spec = task.containers.iter().find(|spec| spec.definition.name == *name);
        let spec = spec.ok_or_else(|| format!("the task has no container {name}"))?;
        let stdio = match (wanted.terminal, <[OwnedFd; 3]>::try_from(descriptors)) {
            (true, _) => None,
            (false, Ok(stdio)) => Some(stdio),
            (false, Err(given)) => {
                return Err(format!("exec without a terminal comes with 3 descriptors, not {}", given.len()));
            }
        };
        let stdio = stdio.as_ref().map(|stdio| stdio.each_ref().map(AsFd::as_fd));
        let executed =
            exec::start(cgroups, task, spec, secrets, started, wanted, stdio).map_err(|error| chain(&error))?;
        self.running.push(Execution { client: Some(client), pid: executed.pid, pidfd: executed.pidfd });
        Ok(executed.terminal)
    }

    /// Whom to tell of this process's end, if it is one of ours and somebody still listens.
    pub(super) fn ended(&mut self, pid: i32) -> Option<ClientId> {
        let place = self.running.iter().position(|execution| execution.pid == pid)?;
        self.running.swap_remove(place).client
    }

    /// The connection is closed: its process is told as by a terminal that was hung up.
    pub(super) fn hang_up(&mut self, client: ClientId) {
        for execution in &mut self.running {
            if execution.client == Some(client) {
                execution.client = None;
                // It may have ended this moment.
                let _ = process_identity::signal(execution.pidfd.as_fd(), libc::SIGHUP);
            }
        }
    }
}
