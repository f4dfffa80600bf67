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
use agent_protocol::{Answer, ContainerSecrets, ContainerSpec, TaskSpec};
use ecs::{ContainerName, Timestamp};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use task_lifecycle::Signal;

use super::attachment::Screen;
use super::clock::Clock;
use super::journal::chain;
use super::report::ContainerFacts;
use super::stop_signal::stop_signal;
use crate::cgroup::{self, Cgroups};
use crate::launch::{self, Launch, StartInput, Started};
use crate::logs::{self, Limits, SHORT_READ_BYTES, Stream, Writer};
use crate::namespaces::TaskNamespaces;
use crate::process_identity;

/// Reads from one pipe before the others get their turn.
pub(super) const READS_PER_TURN: usize = 16;

/// What a container may write while its supervisor is busy; the kernel may give less.
const PIPE_BYTES: i32 = 256 << 10;

/// What a program says before it does anything.
const FIRST_LINES_BYTES: usize = 4096;

/// What is read at most of a pipe whose container has ended. More than any pipe holds: whoever still writes then
/// got the pipe from the container, and would keep it for ever.
const LAST_BYTES: usize = 16 << 20;

/// How often the log of a container that has to wait for it is looked at, milliseconds.
const LOG_LOOK_MS: u64 = 50;

/// A container that writes little at a time, and often, is read so much later, milliseconds: once for many lines. Its
/// writes do not wait, as long as the pipe takes them.
const GATHER_MS: u64 = 1;

/// What is little, of all that a pipe holds.
const LITTLE_BYTES: usize = PIPE_BYTES as usize / 8;

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
    scratch: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Container {
    pub(super) name: ContainerName,
    stage: Stage,
    /// When to look whether its first process, which was killed, is still there.
    stuck_look_at: Option<Timestamp>,
    /// What the kernel had killed in its cgroup for memory before this start.
    oom_kills_before: u64,
    /// Standard output and error, until they end.
    outputs: Vec<Output>,
    /// The writer of its standard input, kept so that it stays open, until somebody is attached.
    input: Option<OwnedFd>,
    log: Writer,
    /// Until when its output is left in the pipes: the log can take no more for now, or there is little.
    log_look_at: Option<Timestamp>,
    /// When it wrote something last.
    wrote_at: Option<Timestamp>,
    /// All that was read of its output.
    taken_bytes: usize,
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
    /// Never waits, but for a terminal's master side, whose file others have too.
    pipe: File,
    /// A terminal's.
    screen: Option<Screen>,
}

/// Whether a stream may have more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pumped {
    /// After so many bytes.
    Open(usize),
    Ended,
}

/// What a start needs that is the supervisor's.
pub(super) struct Surroundings<'a> {
    pub(super) secrets: Option<&'a ContainerSecrets>,
    pub(super) cgroups: &'a Cgroups,
    /// Network namespaces by index.
    pub(super) networks: &'a [OwnedFd],
    pub(super) namespaces: &'a TaskNamespaces,
}

impl Container {
    pub(super) fn new(task: &TaskSpec, spec: &ContainerSpec) -> Container {
        let definition = &spec.definition;
        if let Some(stream) = logs::groups::of_container(task, spec) {
            // Where it cannot be made, the first write says why.
            let _ = logs::groups::make(&stream);
        }
        let limits = Limits::of(definition.log_configuration.as_ref());
        Container {
            name: definition.name.clone(),
            stage: Stage::Idle,
            stuck_look_at: None,
            oom_kills_before: 0,
            outputs: Vec::new(),
            input: None,
            log: Writer::new(logs::directory(task, spec), definition.name.clone(), limits),
            log_look_at: None,
            wrote_at: None,
            taken_bytes: 0,
            stop_signal: stop_signal(&spec.image.config.stop_signal),
            facts: ContainerFacts::default(),
        }
    }

    /// Begins to create and start it, for the first time or again: with the same writable layer, cgroup and network,
    /// and a new process. `advance` tells what becomes of it.
    pub(super) fn begin(&mut self, task: &TaskSpec, spec: &ContainerSpec, around: &Surroundings<'_>, now: Timestamp) {
        self.facts.created_at.get_or_insert(now);
        self.facts.start_exit_code = None;
        self.stuck_look_at = None;
        // Absent before the first start, when nothing has been counted.
        self.oom_kills_before = around.cgroups.oom_kills(&cgroup::of_container(task, &self.name)).unwrap_or(0);
        match self.launch(task, spec, around) {
            Ok(launch) => self.stage = Stage::Starting(launch),
            Err(reason) => self.empty(End::FailedToStart { reason }, now),
        }
    }

    fn launch(&mut self, task: &TaskSpec, spec: &ContainerSpec, around: &Surroundings<'_>) -> Result<Launch, String> {
        let cannot = |what: &str, cause: &dyn std::error::Error| format!("{what}: {}", chain(cause));
        let streams = match spec.definition.pseudo_terminal {
            Some(true) => Streams::of_terminal(),
            Some(false) | None => Streams::of_pipes(spec.definition.interactive == Some(true), logs::is_kept(spec)),
        };
        let Streams { given: [stdin, stdout, stderr], outputs, input } =
            streams.map_err(|cause| cannot("CannotCreateContainerError: no pipes for its streams", &cause))?;
        let network = match spec.network.namespace {
            NetworkNamespace::Host => None,
            NetworkNamespace::Received { index } => around.networks.get(index).map(AsFd::as_fd),
        };
        let launch = launch::begin(&StartInput {
            task,
            container: spec,
            network_namespace: network,
            namespaces: around.namespaces,
            stdio: [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
            cgroups: around.cgroups,
            secrets: around.secrets,
        })
        .map_err(|error| error.to_string())?;
        self.outputs = outputs;
        self.input = input;
        Ok(launch)
    }

    /// The task is to stop before this start is done: nothing of it is to become a process that would then have to be
    /// stopped. One that has become it already is stopped as any other, when its launcher has said so.
    pub(super) fn abort_start(&mut self, reason: &str, now: Timestamp) {
        if !matches!(&self.stage, Stage::Starting(launch) if launch.has_executed()) {
            self.abort(reason, now);
        }
    }

    /// However far it has come.
    fn abort(&mut self, reason: &str, now: Timestamp) {
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
                Ok(mut started) => {
                    let terminal = started.terminal.take();
                    self.outputs.extend(terminal.map(|master| Output {
                        stream: Stream::Stdout,
                        pipe: File::from(master),
                        screen: Some(Screen::new()),
                    }));
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
        // A cgroup that cannot be looked into is the teardown's to report.
        let left = cgroups.kill_once(&path).unwrap_or_default();
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
        self.input = None;
        self.facts.stuck = None;
        self.drain(now, buffers);
        Some(match end {
            End::Exited { exit_code, oom } => Outcome::Exited { exit_code, oom },
            End::FailedToStart { reason } => Outcome::FailedToStart { reason },
        })
    }

    /// Whether its shipper has passed on all that it has written.
    pub(super) fn is_shipped(&mut self) -> bool {
        self.log.look_again();
        self.log.is_shipped()
    }

    /// When `advance` is to be called though nothing has happened.
    pub(super) fn look_again_at(&self, now: Timestamp) -> Option<Timestamp> {
        let stage = match &self.stage {
            Stage::Idle => None,
            Stage::Starting(launch) => {
                Some(now.plus_ms(u64::try_from(launch.left().as_millis()).unwrap_or(u64::MAX).saturating_add(1)))
            }
            Stage::Running(_) => self.stuck_look_at,
            Stage::Emptying(emptying) => Some(emptying.look_at),
        };
        stage.into_iter().chain(self.log_look_at).min()
    }

    /// A first process that outlives SIGKILL sleeps in the kernel, as long as its device or file system does: the
    /// status says so until it ends. True when there is news.
    pub(super) fn look_for_stuck(&mut self, task: &TaskSpec, cgroups: &Cgroups, now: Timestamp) -> bool {
        let due = self.stuck_look_at.is_some_and(|at| now >= at);
        if !due || !matches!(self.stage, Stage::Running(_)) {
            return false;
        }
        self.stuck_look_at = Some(now.plus_ms(STUCK_LOOK_MS));
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
            self.stuck_look_at.get_or_insert(now.plus_ms(STUCK_AFTER_MS));
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

    /// What the one who is attached gets; the error is for a client.
    pub(super) fn attach(&mut self) -> Result<(Answer, Vec<OwnedFd>), String> {
        let name = &self.name;
        if !matches!(self.stage, Stage::Running(_)) {
            return Err(format!("container {name} is not running"));
        }
        let cannot = |cause: io::Error| format!("cannot attach to container {name}: {cause}");
        if let Some(Output { pipe, screen: Some(screen), .. }) = self.outputs.first_mut() {
            let master = pipe.try_clone().map_err(cannot)?;
            let shown = screen.attach().map_err(cannot)?;
            return Ok((Answer::Attached { terminal: true }, vec![master.into(), shown]));
        }
        let input = self.input.take().ok_or_else(|| {
            format!("container {name} has no open standard input: it is not interactive, or somebody has it already")
        })?;
        Ok((Answer::Attached { terminal: false }, vec![input]))
    }

    /// What to poll for, and which events.
    pub(super) fn interest(&self) -> impl Iterator<Item = (RawFd, i16)> + '_ {
        let start = match &self.stage {
            Stage::Starting(launch) => Some(launch.interest()),
            Stage::Idle | Stage::Running(_) | Stage::Emptying(_) => None,
        };
        let start = start.into_iter().flatten().map(|fd| (fd, libc::POLLIN));
        let outputs = if self.log_look_at.is_some() { &[][..] } else { &self.outputs[..] };
        outputs.iter().map(Output::interest).chain(start)
    }

    /// More than the first lines of a program were read from its pipes or wait in them.
    pub(super) fn has_much_output(&self) -> bool {
        let waiting: usize = self.outputs.iter().map(|output| waiting_bytes(output.pipe.as_raw_fd())).sum();
        self.taken_bytes.saturating_add(waiting) > FIRST_LINES_BYTES
    }

    /// Moves what is there from its pipes to its log, with so many reads of each. True when output was lost.
    pub(super) fn serve_output(
        &mut self,
        ready: &[RawFd],
        reads: usize,
        now: Timestamp,
        buffers: &mut Buffers,
    ) -> bool {
        let lost = self.log.lost().bytes;
        let waited = self.log_look_at.is_some();
        if self.log_look_at.is_some_and(|at| now < at) {
            return false;
        }
        if self.log.must_wait() {
            self.log.look_again();
        }
        if self.log.must_wait() {
            self.log_look_at = self.rest(0, now);
            return self.log.lost().bytes != lost;
        }
        let log = &mut self.log;
        let mut taken = 0;
        self.outputs.retain_mut(|output| {
            if let Some(screen) = &mut output.screen
                && screen.behind().is_some_and(|fd| ready.contains(&fd))
            {
                screen.flush();
            }
            if !waited && !ready.contains(&output.pipe.as_raw_fd()) {
                return true;
            }
            match output.pump(log, reads, Clock::wall(), buffers) {
                Pumped::Open(bytes) => {
                    taken += bytes;
                    true
                }
                Pumped::Ended => false,
            }
        });
        self.log_look_at = self.rest(taken, now);
        self.taken_bytes = self.taken_bytes.saturating_add(taken);
        if taken > 0 {
            self.wrote_at = Some(now);
        }
        self.log.lost().bytes != lost
    }

    /// Until when nothing is to be read after a turn that took so many bytes.
    fn rest(&self, taken: usize, now: Timestamp) -> Option<Timestamp> {
        if self.log.must_wait() {
            return Some(now.plus_ms(LOG_LOOK_MS));
        }
        let often = self.wrote_at.is_some_and(|at| now.ms_since(at) <= GATHER_MS);
        let shown = self.outputs.iter().any(|output| output.screen.is_some());
        (often && !shown && (1..LITTLE_BYTES).contains(&taken)).then(|| now.plus_ms(GATHER_MS))
    }

    /// Its first process has ended. `advance` tells, as soon as everything else in it has ended too.
    pub(super) fn ended(&mut self, exit_code: i32, task: &TaskSpec, cgroups: &Cgroups, now: Timestamp) {
        self.facts.process = None;
        let kills = cgroups.oom_kills(&cgroup::of_container(task, &self.name));
        let oom = kills.is_some_and(|kills| kills > self.oom_kills_before);
        self.empty(End::Exited { exit_code, oom }, now);
    }

    /// Everything that wrote into its pipes has ended; what is in them now is all, and does not wait for its log.
    fn drain(&mut self, now: Timestamp, buffers: &mut Buffers) {
        self.log_look_at = None;
        for mut output in std::mem::take(&mut self.outputs) {
            let mut left = LAST_BYTES;
            while let Taken::Bytes(count) = output.take(&mut self.log, now, buffers)
                && left > 0
            {
                left = left.saturating_sub(count);
            }
            self.log.end(output.stream, now, &mut buffers.scratch);
        }
        self.log.look_again();
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
    fn interest(&self) -> (RawFd, i16) {
        match self.screen.as_ref().and_then(Screen::behind) {
            Some(viewer) => (viewer, libc::POLLOUT),
            None => (self.pipe.as_raw_fd(), libc::POLLIN),
        }
    }

    /// Whether a read would not wait.
    fn is_readable(&self) -> bool {
        let mut watched = [PollFd::new(self.pipe.as_fd(), PollFlags::POLLIN)];
        self.screen.is_none() || matches!(poll(&mut watched, PollTimeout::ZERO), Ok(1))
    }

    fn pump(&mut self, log: &mut Writer, reads: usize, now: Timestamp, buffers: &mut Buffers) -> Pumped {
        let mut taken = 0;
        for _ in 0..reads {
            match self.take(log, now, buffers) {
                Taken::Bytes(count) => {
                    taken += count;
                    // After a short read it is most likely empty; poll(2) tells if not.
                    if count < SHORT_READ_BYTES || log.must_wait() {
                        break;
                    }
                }
                Taken::Nothing => break,
                Taken::End => {
                    log.end(self.stream, now, &mut buffers.scratch);
                    return Pumped::Ended;
                }
            }
        }
        Pumped::Open(taken)
    }

    /// One read.
    fn take(&mut self, log: &mut Writer, now: Timestamp, buffers: &mut Buffers) -> Taken {
        if !self.is_readable() {
            return Taken::Nothing;
        }
        let Output { stream, pipe, screen } = self;
        loop {
            let mut shown = Shown { pipe: &mut *pipe, screen: screen.as_mut() };
            return match log.take_from(*stream, &mut shown, now, &mut buffers.scratch) {
                Ok(0) => Taken::End,
                Ok(count) => Taken::Bytes(count),
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => Taken::Nothing,
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => continue,
                // A pipe has no other error to give, and a terminal that nobody has open gives this one: it would be
                // given again for ever.
                Err(_) => Taken::End,
            };
        }
    }
}

/// What one read brought.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    Bytes(usize),
    /// For now.
    Nothing,
    End,
}

/// What is read from a terminal is shown to whoever is attached.
struct Shown<'a> {
    pipe: &'a mut File,
    screen: Option<&'a mut Screen>,
}

impl Read for Shown<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.pipe.read(buffer)?;
        if let Some(screen) = &mut self.screen {
            screen.show(&buffer[..count]);
        }
        Ok(count)
    }
}

/// A container's standard streams, and our ends of them.
struct Streams {
    given: [OwnedFd; 3],
    outputs: Vec<Output>,
    input: Option<OwnedFd>,
}

impl Streams {
    /// Without `interactive` the input has ended from the beginning; output that is not `kept` is nobody's.
    fn of_pipes(interactive: bool, kept: bool) -> io::Result<Streams> {
        let (stdin, input) = match interactive {
            true => {
                let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
                (reader, Some(writer))
            }
            false => (File::open("/dev/null")?.into(), None),
        };
        if !kept {
            let null = || File::options().write(true).open("/dev/null").map(OwnedFd::from);
            return Ok(Streams { given: [stdin, null()?, null()?], outputs: Vec::new(), input });
        }
        let (stdout_reader, stdout) = pipe()?;
        let (stderr_reader, stderr) = pipe()?;
        let outputs = vec![
            Output { stream: Stream::Stdout, pipe: stdout_reader, screen: None },
            Output { stream: Stream::Stderr, pipe: stderr_reader, screen: None },
        ];
        Ok(Streams { given: [stdin, stdout, stderr], outputs, input })
    }

    /// The container opens the terminal itself, when it has one.
    fn of_terminal() -> io::Result<Streams> {
        let null = || File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from);
        Ok(Streams { given: [null()?, null()?, null()?], outputs: Vec::new(), input: None })
    }
}

fn pipe() -> io::Result<(File, OwnedFd)> {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    // Without CAP_SYS_RESOURCE a host with many pipes keeps them small: slower, not wrong.
    let _ = fcntl(&reader, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
    Ok((File::from(reader), writer))
}

/// Nothing where the kernel does not say.
fn waiting_bytes(fd: RawFd) -> usize {
    let mut waiting: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int, which is lent to it; a number that is no descriptor is an error.
    let told = unsafe { libc::ioctl(fd, libc::FIONREAD as libc::Ioctl, &raw mut waiting) } == 0;
    if told { usize::try_from(waiting).unwrap_or(0) } else { 0 }
}
