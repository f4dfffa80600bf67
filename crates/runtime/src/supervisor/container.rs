//! One container of the task, as its supervisor holds it: its first process, its output, its end.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use agent_protocol::task_spec::NetworkNamespace;
use agent_protocol::{ContainerSecrets, ContainerSpec, TaskSpec};
use ecs::{ContainerName, Timestamp};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use task_lifecycle::Signal;

use super::journal::chain;
use super::report::ContainerFacts;
use super::stop_signal::stop_signal;
use crate::cgroup::{self, Cgroups};
use crate::launch::{self, StartInput, Started};
use crate::logs::{Limits, Stream, Writer};
use crate::process_identity;
use crate::task_dir::LOGS_NAME;

/// One read from a pipe takes up to this much.
const READ_BYTES: usize = 64 << 10;

/// Reads from one pipe before the others get their turn.
const READS_PER_TURN: usize = 16;

/// What a container may write while its supervisor is busy; the kernel may give less.
const PIPE_BYTES: i32 = 256 << 10;

/// What is read at most of a pipe whose container has ended. More than any pipe holds: whoever still writes then
/// got the pipe from the container, and would keep it for ever.
const LAST_READS: usize = 64;

/// Scratch space that the containers of a task share.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    read: Vec<u8>,
    batch: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Container {
    pub(super) name: ContainerName,
    started: Option<Started>,
    /// Standard output and error, until they end.
    outputs: Vec<Output>,
    log: Writer,
    stop_signal: i32,
    facts: ContainerFacts,
}

#[derive(Debug)]
struct Output {
    stream: Stream,
    pipe: File,
}

/// Whether a stream may have more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pumped {
    Open,
    Ended,
}

/// What a start needs that is the supervisor's.
pub(super) struct Surroundings<'a> {
    pub(super) secrets: Option<&'a ContainerSecrets>,
    pub(super) cgroups: &'a Cgroups,
    /// Network namespaces by index.
    pub(super) namespaces: &'a [OwnedFd],
}

impl Container {
    pub(super) fn new(task: &TaskSpec, spec: &ContainerSpec) -> Container {
        let definition = &spec.definition;
        let limits = definition.log_configuration.as_ref().map(|log| Limits::from_options(&log.options));
        let logs = task.places.state.join(LOGS_NAME);
        Container {
            name: definition.name.clone(),
            started: None,
            outputs: Vec::new(),
            log: Writer::new(logs, definition.name.clone(), limits.unwrap_or_default()),
            stop_signal: stop_signal(&spec.image.config.stop_signal),
            facts: ContainerFacts::default(),
        }
    }

    /// Creates and starts it. The error is a reason in Amazon's words.
    pub(super) fn start(
        &mut self,
        task: &TaskSpec,
        spec: &ContainerSpec,
        around: &Surroundings<'_>,
        now: Timestamp,
    ) -> Result<(), String> {
        self.facts.created_at = Some(now);
        let cannot = |what: &str, cause: &dyn std::error::Error| format!("{what}: {}", chain(cause));
        let (stdin, stdout, stderr, outputs) =
            pipes().map_err(|cause| cannot("CannotCreateContainerError: no pipes for its output", &cause))?;
        let network = match spec.network.namespace {
            NetworkNamespace::Host => None,
            NetworkNamespace::Received { index } => around.namespaces.get(index).map(AsFd::as_fd),
        };
        let started = launch::create_and_start(&StartInput {
            task,
            container: spec,
            network_namespace: network,
            stdio: [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
            cgroups: around.cgroups,
            secrets: around.secrets,
        })
        .map_err(|error| error.to_string())?;
        self.facts.process = Some(started.init.clone());
        self.facts.start_stages_us = started.stages_us.clone();
        self.started = Some(started);
        self.outputs = outputs;
        Ok(())
    }

    pub(super) fn signal(&mut self, signal: Signal) -> io::Result<()> {
        let Some(started) = &self.started else { return Ok(()) };
        let number = match signal {
            Signal::Stop => self.stop_signal,
            // The kernel kills the whole pid namespace with its first process.
            Signal::Kill => libc::SIGKILL,
        };
        process_identity::signal(started.pidfd.as_fd(), number).map(|_| ())
    }

    pub(super) fn is_process(&self, pid: i32) -> bool {
        self.started.as_ref().is_some_and(|started| started.init.pid == pid)
    }

    pub(super) fn started(&self) -> Option<&Started> {
        self.started.as_ref()
    }

    pub(super) fn facts(&self) -> ContainerFacts {
        let lost = self.log.lost();
        ContainerFacts { log_lost_bytes: lost.bytes, log_error: lost.cause.clone(), ..self.facts.clone() }
    }

    pub(super) fn outputs(&self) -> impl Iterator<Item = RawFd> + '_ {
        self.outputs.iter().map(|output| output.pipe.as_raw_fd())
    }

    /// Moves what is there from its pipes to its log. True when output was lost.
    pub(super) fn serve_output(&mut self, ready: &[RawFd], now: Timestamp, buffers: &mut Buffers) -> bool {
        let lost = self.log.lost().bytes;
        let log = &mut self.log;
        self.outputs.retain_mut(|output| {
            !ready.contains(&output.pipe.as_raw_fd()) || output.pump(log, READS_PER_TURN, now, buffers) == Pumped::Open
        });
        self.log.lost().bytes != lost
    }

    /// Its first process has ended, and with it, by the kernel's rule for pid namespaces, every other one in it:
    /// what they wrote is in the pipes now. Returns whether the kernel killed in it for memory.
    pub(super) fn ended(&mut self, task: &TaskSpec, cgroups: &Cgroups, now: Timestamp, buffers: &mut Buffers) -> bool {
        for mut output in std::mem::take(&mut self.outputs) {
            if output.pump(&mut self.log, LAST_READS, now, buffers) == Pumped::Open {
                self.log.end(output.stream, now, &mut buffers.batch);
            }
        }
        self.started = None;
        self.facts.process = None;
        cgroups.oom_kills(&cgroup::of_container(task, &self.name)).is_some_and(|kills| kills > 0)
    }
}

impl Output {
    fn pump(&mut self, log: &mut Writer, reads: usize, now: Timestamp, buffers: &mut Buffers) -> Pumped {
        buffers.read.resize(READ_BYTES, 0);
        for _ in 0..reads {
            match self.pipe.read(&mut buffers.read) {
                Ok(0) => {
                    log.end(self.stream, now, &mut buffers.batch);
                    return Pumped::Ended;
                }
                Ok(count) => {
                    log.take(self.stream, &buffers.read[..count], now, &mut buffers.batch);
                    if count < READ_BYTES / 2 {
                        // Most likely empty now; poll(2) tells if not.
                        return Pumped::Open;
                    }
                }
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => return Pumped::Open,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                // A pipe has no other error to give; it would be given again for ever.
                Err(_) => {
                    log.end(self.stream, now, &mut buffers.batch);
                    return Pumped::Ended;
                }
            }
        }
        Pumped::Open
    }
}

/// A container's standard streams, and our ends of its output.
fn pipes() -> io::Result<(OwnedFd, OwnedFd, OwnedFd, Vec<Output>)> {
    let stdin = File::open("/dev/null")?;
    let (stdout_reader, stdout) = pipe()?;
    let (stderr_reader, stderr) = pipe()?;
    let outputs = vec![
        Output { stream: Stream::Stdout, pipe: stdout_reader },
        Output { stream: Stream::Stderr, pipe: stderr_reader },
    ];
    Ok((stdin.into(), stdout, stderr, outputs))
}

fn pipe() -> io::Result<(File, OwnedFd)> {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    // Without CAP_SYS_RESOURCE a host with many pipes keeps them small: slower, not wrong.
    let _ = fcntl(&reader, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
    Ok((File::from(reader), writer))
}
