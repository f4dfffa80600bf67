//! One container of the task, as its supervisor holds it: its start, its first process, its output, its end.
//!
//! ```text
//!  Idle ──begin──► Starting ──► Running ──► Emptying ──► Idle
//!                     └────────────────────────►
//! ```
//!
//! Emptying is the time between the end of the first process, or of a start that failed, and that of everything else
//! in the container's cgroup. With a pid namespace of its own the kernel has seen to that; with a shared one, or after
//! half a start, there may be something left to kill. Nothing here waits.

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
use crate::launch::{self, Launch, StartInput, Started};
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

/// Why a container did not start whose start took longer than its task's stop.
const KILLED_WHILE_STARTING: &str =
    "CannotStartContainerError: the task was killed before the container's program was executed";

/// What is left in a container is looked for and killed again after this time, doubled each time, milliseconds. A
/// launcher that has just been killed is gone in less than the first.
const FIRST_LOOK_AGAIN_MS: u64 = 1;
const LAST_LOOK_AGAIN_MS: u64 = 32;

/// A process that outlives SIGKILL for so long is called stuck, milliseconds; it is waited for all the same.
const STUCK_AFTER_MS: u64 = 5_000;

/// How often a container that is stuck is looked at, milliseconds.
const STUCK_LOOK_MS: u64 = 1_000;

/// Scratch space that the containers of a task share.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    read: Vec<u8>,
    batch: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Container {
    pub(super) name: ContainerName,
    stage: Stage,
    /// Since when SIGKILL has been under way to its first process.
    killed_at: Option<Timestamp>,
    /// What the kernel had killed in its cgroup for memory before this start.
    oom_kills_before: u64,
    /// Standard output and error, until they end.
    outputs: Vec<Output>,
    log: Writer,
    stop_signal: i32,
    facts: ContainerFacts,
}

#[derive(Debug)]
enum Stage {
    /// Before its turn, between two runs, and after the last.
    Idle,
    Starting(Launch),
    Running(Started),
    Emptying(Emptying),
}

#[derive(Debug)]
struct Emptying {
    end: End,
    since: Timestamp,
    look_at: Timestamp,
    pause_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Exited { exit_code: i32, oom: bool },
    FailedToStart { reason: String },
}

/// What the lifecycle is told of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Started,
    Exited {
        exit_code: i32,
        oom: bool,
    },
    /// In Amazon's words.
    FailedToStart {
        reason: String,
    },
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
            stage: Stage::Idle,
            killed_at: None,
            oom_kills_before: 0,
            outputs: Vec::new(),
            log: Writer::new(logs, definition.name.clone(), limits.unwrap_or_default()),
            stop_signal: stop_signal(&spec.image.config.stop_signal),
            facts: ContainerFacts::default(),
        }
    }

    /// Begins to create and start it, for the first time or again: with the same writable layer, cgroup and network,
    /// and a new process. `advance` tells what becomes of it.
    pub(super) fn begin(&mut self, task: &TaskSpec, spec: &ContainerSpec, around: &Surroundings<'_>, now: Timestamp) {
        self.facts.created_at.get_or_insert(now);
        self.facts.start_exit_code = None;
        self.killed_at = None;
        // Absent before the first start, when nothing has been counted.
        self.oom_kills_before = around.cgroups.oom_kills(&cgroup::of_container(task, &self.name)).unwrap_or(0);
        match self.launch(task, spec, around) {
            Ok(launch) => self.stage = Stage::Starting(launch),
            Err(reason) => self.empty(End::FailedToStart { reason }, now),
        }
    }

    fn launch(&mut self, task: &TaskSpec, spec: &ContainerSpec, around: &Surroundings<'_>) -> Result<Launch, String> {
        let cannot = |what: &str, cause: &dyn std::error::Error| format!("{what}: {}", chain(cause));
        let (stdin, stdout, stderr, outputs) =
            pipes().map_err(|cause| cannot("CannotCreateContainerError: no pipes for its output", &cause))?;
        let network = match spec.network.namespace {
            NetworkNamespace::Host => None,
            NetworkNamespace::Received { index } => around.namespaces.get(index).map(AsFd::as_fd),
        };
        let launch = launch::begin(&StartInput {
            task,
            container: spec,
            network_namespace: network,
            stdio: [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
            cgroups: around.cgroups,
            secrets: around.secrets,
        })
        .map_err(|error| error.to_string())?;
        self.outputs = outputs;
        Ok(launch)
    }

    /// The task is to stop before this start is done: nothing of it is to become a process that would then have to be
    /// stopped.
    pub(super) fn abort(&mut self, reason: &str, now: Timestamp) {
        if matches!(self.stage, Stage::Starting(_)) {
            self.empty(End::FailedToStart { reason: reason.to_owned() }, now);
        }
    }

    /// A process of the task has ended: it may have been the last that was waited for.
    pub(super) fn hurry(&mut self, now: Timestamp) {
        if let Stage::Emptying(emptying) = &mut self.stage {
            emptying.look_at = emptying.look_at.min(now);
        }
    }

    fn empty(&mut self, end: End, now: Timestamp) {
        // A start in progress ends with its launch.
        self.stage = Stage::Emptying(Emptying { end, since: now, look_at: now, pause_ms: FIRST_LOOK_AGAIN_MS });
    }

    /// What has become of it since the last call. To be called before an ended child is waited for, and when
    /// `look_again_at` has come.
    pub(super) fn advance(
        &mut self,
        task: &TaskSpec,
        cgroups: &Cgroups,
        now: Timestamp,
        buffers: &mut Buffers,
    ) -> Option<Outcome> {
        if let Stage::Starting(launch) = &mut self.stage {
            match launch.advance()? {
                Ok(started) => {
                    self.facts.process = Some(started.init.clone());
                    self.facts.start_stages_us = started.stages_us.clone();
                    self.stage = Stage::Running(started);
                    return Some(Outcome::Started);
                }
                Err(error) => {
                    self.facts.start_exit_code = error.exit_code;
                    self.empty(End::FailedToStart { reason: error.to_string() }, now);
                }
            }
        }
        let Stage::Emptying(emptying) = &mut self.stage else { return None };
        if now < emptying.look_at {
            return None;
        }
        let path = cgroup::of_container(task, &self.name);
        let left = match cgroups.kill_once(&path) {
            Ok(left) => left,
            Err(error) => {
                self.facts.stuck = Some(chain(&error));
                Vec::new()
            }
        };
        if !left.is_empty() {
            let late = now.ms_since(emptying.since) >= STUCK_AFTER_MS;
            emptying.look_at = now.plus_ms(if late { STUCK_LOOK_MS } else { emptying.pause_ms });
            emptying.pause_ms = (emptying.pause_ms * 2).min(LAST_LOOK_AGAIN_MS);
            if late {
                self.facts.stuck = Some(stuck(&left));
            }
            return None;
        }
        let end = emptying.end.clone();
        self.stage = Stage::Idle;
        self.facts.stuck = None;
        self.drain(now, buffers);
        Some(match end {
            End::Exited { exit_code, oom } => Outcome::Exited { exit_code, oom },
            End::FailedToStart { reason } => Outcome::FailedToStart { reason },
        })
    }

    /// When `advance` is to be called though nothing has happened.
    pub(super) fn look_again_at(&self, now: Timestamp) -> Option<Timestamp> {
        match &self.stage {
            Stage::Idle => None,
            Stage::Starting(launch) => {
                Some(now.plus_ms(u64::try_from(launch.left().as_millis()).unwrap_or(u64::MAX).saturating_add(1)))
            }
            Stage::Running(_) => self.killed_at.map(|at| match at.plus_ms(STUCK_AFTER_MS) {
                first if now < first => first,
                _ => now.plus_ms(STUCK_LOOK_MS),
            }),
            Stage::Emptying(emptying) => Some(emptying.look_at),
        }
    }

    /// A first process that outlives SIGKILL sleeps in the kernel, as long as its device or file system does: the
    /// status says so until it ends. True when there is news.
    pub(super) fn look_for_stuck(&mut self, task: &TaskSpec, cgroups: &Cgroups, now: Timestamp) -> bool {
        let overdue = self.killed_at.is_some_and(|at| now.ms_since(at) >= STUCK_AFTER_MS);
        if !overdue || !matches!(self.stage, Stage::Running(_)) {
            return false;
        }
        let before = self.facts.stuck.clone();
        // What was born meanwhile, or was frozen, is killed too.
        self.facts.stuck = match cgroups.kill_once(&cgroup::of_container(task, &self.name)) {
            Ok(left) => (!left.is_empty()).then(|| stuck(&left)),
            Err(error) => Some(chain(&error)),
        };
        self.facts.stuck != before
    }

    /// SIGKILL goes to everything in its cgroup: with its first process the kernel kills the rest of its pid
    /// namespace, but that may be the whole task's or the host's, and what somebody froze has to be thawed to die.
    pub(super) fn signal(
        &mut self,
        signal: Signal,
        task: &TaskSpec,
        cgroups: &Cgroups,
        now: Timestamp,
    ) -> Result<(), String> {
        if signal == Signal::Kill {
            self.abort(KILLED_WHILE_STARTING, now);
        }
        let Stage::Running(started) = &self.stage else { return Ok(()) };
        let (number, everything) = match signal {
            Signal::Stop => (self.stop_signal, false),
            Signal::Kill => (libc::SIGKILL, true),
        };
        let first = process_identity::signal(started.pidfd.as_fd(), number).map_err(|cause| cause.to_string());
        if everything {
            self.killed_at.get_or_insert(now);
            let path = cgroup::of_container(task, &self.name);
            cgroups.thaw(&task.places.cgroup);
            cgroups.kill_once(&path).map_err(|error| chain(&error))?;
        }
        first.map(|_| ())
    }

    pub(super) fn is_starting(&self) -> bool {
        matches!(self.stage, Stage::Starting(_))
    }

    pub(super) fn set_health_output(&mut self, output: String) {
        self.facts.health_output = Some(output);
    }

    pub(super) fn is_process(&self, pid: i32) -> bool {
        self.started().is_some_and(|started| started.init.pid == pid)
    }

    pub(super) fn started(&self) -> Option<&Started> {
        match &self.stage {
            Stage::Running(started) => Some(started),
            Stage::Idle | Stage::Starting(_) | Stage::Emptying(_) => None,
        }
    }

    pub(super) fn facts(&self) -> ContainerFacts {
        let lost = self.log.lost();
        ContainerFacts { log_lost_bytes: lost.bytes, log_error: lost.cause.clone(), ..self.facts.clone() }
    }

    /// What to poll for.
    pub(super) fn interest(&self) -> impl Iterator<Item = RawFd> + '_ {
        let start = match &self.stage {
            Stage::Starting(launch) => Some(launch.interest()),
            Stage::Idle | Stage::Running(_) | Stage::Emptying(_) => None,
        };
        self.outputs.iter().map(|output| output.pipe.as_raw_fd()).chain(start.into_iter().flatten())
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

    /// Its first process has ended. `advance` tells, as soon as everything else in it has ended too.
    pub(super) fn ended(&mut self, exit_code: i32, task: &TaskSpec, cgroups: &Cgroups, now: Timestamp) {
        self.facts.process = None;
        let kills = cgroups.oom_kills(&cgroup::of_container(task, &self.name));
        let oom = kills.is_some_and(|kills| kills > self.oom_kills_before);
        self.empty(End::Exited { exit_code, oom }, now);
    }

    /// Everything that wrote into its pipes has ended; what is in them now is all.
    fn drain(&mut self, now: Timestamp, buffers: &mut Buffers) {
        for mut output in std::mem::take(&mut self.outputs) {
            if output.pump(&mut self.log, LAST_READS, now, buffers) == Pumped::Open {
                self.log.end(output.stream, now, &mut buffers.batch);
            }
        }
    }
}

fn stuck(left: &[i32]) -> String {
    const NAMED: usize = 3;
    let named: Vec<String> = left.iter().take(NAMED).map(|pid| pid.to_string()).collect();
    let more = if left.len() > NAMED { format!(" and {} more", left.len() - NAMED) } else { String::new() };
    format!(
        "CannotStopContainerError: process {}{more} outlives SIGKILL: it sleeps in the kernel until its device or file \
         system answers",
        named.join(", ")
    )
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
