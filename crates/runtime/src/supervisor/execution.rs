//! Further processes in the task's containers (`coracle exec`), each on behalf of one connection. Nothing here waits:
//! a process that a container delays is an execution that has not begun yet.

use std::os::fd::{AsFd, OwnedFd, RawFd};

use agent_protocol::command::Exec;
use agent_protocol::{ContainerSecrets, TaskSpec};
use ecs::{ContainerName, Timestamp};

use super::container::Container;
use super::journal::chain;
use crate::cgroup::Cgroups;
use crate::ctl::ClientId;
use crate::exec::{self, ExecInput, Executed, Launch};
use crate::process_identity;

/// At a time, in all containers of the task.
const MAX_EXECUTIONS: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Executions {
    running: Vec<Execution>,
}

#[derive(Debug)]
struct Execution {
    container: ContainerName,
    /// Nobody once the connection is closed.
    client: Option<ClientId>,
    process: Process,
}

#[derive(Debug)]
enum Process {
    Starting(Launch),
    Running { pid: i32, pidfd: OwnedFd },
}

/// What a client is told.
#[derive(Debug)]
pub(super) enum News {
    /// Its process runs; with the master side of its terminal if it asked for one.
    Began {
        client: ClientId,
        terminal: Option<OwnedFd>,
    },
    Refused {
        client: ClientId,
        reason: String,
    },
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

impl Around<'_> {
    /// Begins to start a process; the error is for whoever asked for it.
    pub(super) fn begin(&self, wanted: &Exec, stdio: Option<&[OwnedFd; 3]>) -> Result<Launch, String> {
        let name = &wanted.container;
        let container = self.container.ok_or_else(|| format!("the task has no container {name}"))?;
        let started = container.started().ok_or_else(|| format!("container {name} is not running"))?;
        let spec = self.task.containers.iter().find(|spec| spec.definition.name == *name);
        exec::begin(&ExecInput {
            cgroups: self.cgroups,
            task: self.task,
            container: spec.ok_or_else(|| format!("the task has no container {name}"))?,
            secrets: self.secrets,
            started,
            wanted,
            stdio: stdio.map(|stdio| stdio.each_ref().map(AsFd::as_fd)),
        })
        .map_err(|error| chain(&error))
    }
}

impl Executions {
    /// Begins to start a process; `advance` tells when it runs. The error is for its client.
    pub(super) fn begin(
        &mut self,
        client: ClientId,
        wanted: &Exec,
        descriptors: Vec<OwnedFd>,
        around: &Around<'_>,
    ) -> Result<(), String> {
        if self.running.len() >= MAX_EXECUTIONS {
            return Err(format!("{MAX_EXECUTIONS} processes were started by exec and still run; wait for one to end"));
        }
        if self.running.iter().any(|execution| execution.client == Some(client)) {
            return Err("this connection has a process already; open another".to_owned());
        }
        let stdio = match (wanted.terminal, <[OwnedFd; 3]>::try_from(descriptors)) {
            (true, _) => None,
            (false, Ok(stdio)) => Some(stdio),
            (false, Err(given)) => {
                return Err(format!("exec without a terminal comes with 3 descriptors, not {}", given.len()));
            }
        };
        let launch = around.begin(wanted, stdio.as_ref())?;
        let container = wanted.container.clone();
        self.running.push(Execution { container, client: Some(client), process: Process::Starting(launch) });
        Ok(())
    }

    /// What to poll for.
    pub(super) fn interest(&self) -> impl Iterator<Item = RawFd> + '_ {
        self.running.iter().filter_map(|execution| match &execution.process {
            Process::Starting(launch) => Some(launch.interest()),
            Process::Running { .. } => None,
        })
    }

    /// When `advance` is to be called though nothing has happened.
    pub(super) fn look_again_at(&self, now: Timestamp) -> Option<Timestamp> {
        let starting = self.running.iter().filter_map(|execution| match &execution.process {
            Process::Starting(launch) => Some(launch.left()),
            Process::Running { .. } => None,
        });
        starting.min().map(|left| now.plus_ms(u64::try_from(left.as_millis()).unwrap_or(u64::MAX).saturating_add(1)))
    }

    /// Which processes run now, or will never. To be called before an ended child is waited for.
    pub(super) fn advance(&mut self) -> Vec<News> {
        let mut news = Vec::new();
        self.running.retain_mut(|execution| {
            let Process::Starting(launch) = &mut execution.process else { return true };
            match launch.advance() {
                None => true,
                Some(Ok(Executed { pid, pidfd, terminal })) => {
                    execution.process = Process::Running { pid, pidfd };
                    news.extend(execution.client.map(|client| News::Began { client, terminal }));
                    true
                }
                Some(Err(error)) => {
                    let reason = chain(&error);
                    news.extend(execution.client.map(|client| News::Refused { client, reason }));
                    false
                }
            }
        });
        news
    }

    /// Whom to tell of this process's end, if it is one of ours and somebody still listens.
    pub(super) fn ended(&mut self, pid: i32) -> Option<ClientId> {
        let is = |execution: &Execution| matches!(execution.process, Process::Running { pid: own, .. } if own == pid);
        let place = self.running.iter().position(is)?;
        self.running.swap_remove(place).client
    }

    /// The connection is closed: its process is told as by a terminal that was hung up.
    pub(super) fn hang_up(&mut self, client: ClientId) {
        self.running.retain_mut(|execution| {
            if execution.client != Some(client) {
                return true;
            }
            execution.client = None;
            match &execution.process {
                // What has not begun ends with its launch.
                Process::Starting(_) => false,
                Process::Running { pidfd, .. } => {
                    // It may have ended this moment.
                    let _ = process_identity::signal(pidfd.as_fd(), libc::SIGHUP);
                    true
                }
            }
        });
    }

    /// The container's first process has ended: what has not begun in it never will. What runs in it is killed with
    /// its cgroup, and its end is told as any other.
    pub(super) fn container_ended(&mut self, container: &ContainerName) -> Vec<News> {
        let mut news = Vec::new();
        self.running.retain_mut(|execution| {
            let gone = execution.container == *container && matches!(execution.process, Process::Starting(_));
            if gone {
                let reason = format!("container {container} has ended");
                news.extend(execution.client.map(|client| News::Refused { client, reason }));
            }
            !gone
        });
        news
    }
}
