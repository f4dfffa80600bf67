//! The task supervisor: one small process for each task, from before its first container until after its last.
//!
//! One thread, one poll(2) loop, no async runtime. It alone starts and reaps the task's processes, owns the pipes
//! that they write to, keeps `status.json`, and serves the `ctl` socket. It outlives whoever started it. What to do
//! next is `task-lifecycle`'s to decide; what a container is made of is `launch`'s.
//!
//! The supervisor never dies of a full disk, a broken socket or a bad command, and never writes STOPPED before
//! everything of the task is gone but its state and logs, and the supervisor's own cgroup, which it has to leave
//! first.

mod abandon;
mod attachment;
mod clock;
mod container;
mod execution;
mod health;
pub(crate) mod journal;
mod life;
mod reap;
mod report;
mod router;
pub(crate) mod services;
mod settle;
mod stop_signal;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use agent_protocol::{Answer, Command, ContainerSecrets, TaskSpec};
use ecs::{TaskId, Timestamp};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use task_lifecycle::words;

use crate::cgroup::Cgroups;
use crate::process_identity;
use crate::socket::{Incoming, Limits, Received, send};
use crate::spawn::{START_SOCKET, SupervisorArgs};
use crate::task_dir::{self, SupervisorLock};
pub(crate) use abandon::leave_cgroup;
use clock::Clock;
use journal::{Journal, chain};
use report::TaskFacts;

/// `Go` is one line, with a descriptor for each container's network namespace and each published host port. Secrets
/// are what may make it long: 64 KiB each (Secrets Manager's limit), for each of ten containers.
const GO_LIMITS: Limits = Limits { line_bytes: 8 << 20, descriptors: 4096 };

/// Runs one task to its end. To be called in a process of its own that has one thread, with the start socket as
/// descriptor 3.
///
/// `teardown` removes what of the task's network does not go with its namespaces, and returns what it could not
/// remove, each with its cause. The spec is missing when the driver gave up before it wrote one.
pub fn supervise(args: SupervisorArgs, teardown: impl FnOnce(&TaskId, Option<&TaskSpec>) -> Vec<String>) -> ExitCode {
    let clock = Clock::new();
    let mut journal = Journal::open(&args.places.state);
    let Some(socket) = start_socket() else {
        journal.say(clock.now(), "no start socket: the task-supervisor subcommand is for coracle itself");
        return ExitCode::FAILURE;
    };
    let lock = match task_dir::lock_as_supervisor(&args.places.state) {
        Ok(lock) => lock,
        // Not ours: gone already, or another supervisor's.
        Err(error) => {
            refuse(socket.as_fd(), &chain(&error));
            return ExitCode::FAILURE;
        }
    };
    let process = match Process::prepare(&args, lock, &mut journal, &clock) {
        Ok(process) => process,
        Err(reason) => {
            journal.say(clock.now(), &reason);
            refuse(socket.as_fd(), &reason);
            // The driver may still be writing into the task's directories. It lets go of the socket when it has read
            // the refusal, or when it ends; an error says the same as the end.
            io::copy(&mut UnixStream::from(socket), &mut io::sink()).ok();
            abandon::forget(&args, &mut journal, &clock);
            return ExitCode::FAILURE;
        }
    };
    let go = match wait_for_go(&socket, &process.signals) {
        Ok(Some(go)) => go,
        Ok(None) => return abandon::abandon(&args, process, &mut journal, &clock, teardown),
        Err(cause) => {
            journal.say(clock.now(), &format!("the start socket failed: {cause}"));
            return abandon::abandon(&args, process, &mut journal, &clock, teardown);
        }
    };
    match accept_task(&args, &go) {
        Ok(spec) => {
            let facts = TaskFacts {
                id: args.id.clone(),
                supervisor: process.identity.clone(),
                pull_started_at: go.pull_started_at,
                pull_stopped_at: go.pull_stopped_at,
                teardown_errors: Vec::new(),
            };
            life::Life::begin(spec, facts, go, process, journal, clock, socket).run(teardown)
        }
        Err(reason) => {
            journal.say(clock.now(), &reason);
            refuse(socket.as_fd(), &reason);
            abandon::abandon(&args, process, &mut journal, &clock, teardown)
        }
    }
}

/// The inherited socket; nothing where descriptor 3 is something else.
fn start_socket() -> Option<OwnedFd> {
    // SAFETY: only asks what the number is; a number without a descriptor is an error.
    let mut metadata: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: fstat writes the struct that is lent to it, and nothing else.
    let known = unsafe { libc::fstat(START_SOCKET, &raw mut metadata) } == 0;
    if !known || metadata.st_mode & libc::S_IFMT != libc::S_IFSOCK {
        return None;
    }
    // SAFETY: the driver left this descriptor to us, and nothing in this process has taken it yet.
    let socket = unsafe { OwnedFd::from_raw_fd(START_SOCKET) };
    // Not for those that we start.
    nix::fcntl::fcntl(&socket, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC)).ok()?;
    Some(socket)
}

/// What the process has become before it knows its task.
pub(crate) struct Process {
    pub(crate) identity: agent_protocol::ProcessIdentity,
    pub(crate) signals: SignalFd,
    pub(crate) cgroups: Cgroups,
    /// Held, never used: it goes when this process does.
    pub(crate) _lock: SupervisorLock,
}

impl Process {
    fn prepare(
        args: &SupervisorArgs,
        lock: SupervisorLock,
        journal: &mut Journal,
        clock: &Clock,
    ) -> Result<Process, String> {
        journal::take_standard_streams(journal).map_err(|cause| format!("no standard streams: {cause}"))?;
        for note in settle::settle().map_err(|error| chain(&error))? {
            journal.say(clock.now(), &note);
        }
        let signals = settle::signals().map_err(|error| chain(&error))?;
        let cgroups = Cgroups::detect().map_err(|error| chain(&error))?;
        cgroups.enter_supervisor_leaf(&args.places.supervisor_cgroup).map_err(|error| chain(&error))?;
        // Costs nothing while the driver makes the network; the limits come with the task.
        cgroups.make(&args.places.cgroup).map_err(|error| chain(&error))?;
        let identity = process_identity::own().map_err(|cause| format!("cannot read /proc/self/stat: {cause}"))?;
        Ok(Process { identity, signals, cgroups, _lock: lock })
    }
}

/// `Command::Go` with what came along.
struct Go {
    network_namespaces: Vec<OwnedFd>,
    service_sockets: Vec<OwnedFd>,
    held_ports: Vec<OwnedFd>,
    pull_started_at: Option<Timestamp>,
    pull_stopped_at: Option<Timestamp>,
    secrets: Vec<ContainerSecrets>,
}

/// Nothing when the driver has gone, or when we are told to end.
fn wait_for_go(socket: &OwnedFd, signals: &SignalFd) -> io::Result<Option<Go>> {
    let mut incoming = Incoming::default();
    loop {
        let mut interest = [readable(socket.as_raw_fd()), readable(signals.as_raw_fd())];
        poll(&mut interest, -1)?;
        if interest[1].revents != 0 && read_signals(signals).contains(&Signal::SIGTERM) {
            return Ok(None);
        }
        if interest[0].revents == 0 {
            continue;
        }
        if incoming.receive(socket.as_fd(), GO_LIMITS)? == Received::End {
            return Ok(None);
        }
        let Some(line) = incoming.line() else { continue };
        return match serde_json::from_slice(&line) {
            Ok(Command::Go { network_namespaces, service_sockets, pull_started_at, pull_stopped_at, secrets }) => {
                let mut namespaces = incoming.descriptors();
                let mut services = namespaces.split_off(network_namespaces.min(namespaces.len()));
                let held_ports = services.split_off(service_sockets.min(services.len()));
                let network_namespaces = namespaces;
                let service_sockets = services;
                Ok(Some(Go {
                    network_namespaces,
                    service_sockets,
                    held_ports,
                    pull_started_at,
                    pull_stopped_at,
                    secrets,
                }))
            }
            Ok(
                Command::Stop { .. }
                | Command::Kill { .. }
                | Command::Watch
                | Command::Serve
                | Command::Exec(_)
                | Command::Attach { .. },
            ) => Err(io::Error::other("the start socket takes no command but Go")),
            Err(cause) => Err(io::Error::other(cause)),
        };
    }
}

/// The task that the driver has written down, if it is the one that this supervisor was started for.
fn accept_task(args: &SupervisorArgs, go: &Go) -> Result<TaskSpec, String> {
    let spec = task_dir::read_spec(&args.places.state).map_err(|error| chain(&error))?;
    let spec = spec.ok_or_else(|| format!("there is no {} in the task's state directory", task_dir::SPEC_NAME))?;
    if spec.id != args.id || spec.places != args.places {
        return Err(format!("{} is of another task, {}", task_dir::SPEC_NAME, spec.id));
    }
    let (given, wanted) = (go.service_sockets.len(), spec.service_sockets.len());
    if given != wanted || wanted > services::MAX_SOCKETS {
        let most = services::MAX_SOCKETS;
        return Err(format!("{given} service sockets came with Go, and the task has {wanted} of at most {most}"));
    }
    for container in &spec.containers {
        if let agent_protocol::task_spec::NetworkNamespace::Received { index } = container.network.namespace
            && index >= go.network_namespaces.len()
        {
            let (name, count) = (&container.definition.name, go.network_namespaces.len());
            return Err(format!("container {name} wants network namespace {index}, but {count} came with Go"));
        }
    }
    Ok(spec)
}

fn refuse(socket: BorrowedFd<'_>, reason: &str) {
    let line = serde_json::to_vec(&Answer::Refused { reason: reason.to_owned() });
    let mut line = line.expect("an answer is plain data with string keys");
    line.push(b'\n');
    // Where the driver has gone there is nobody to refuse.
    let _ = send(socket, &line, &[]);
}

fn readable(fd: RawFd) -> libc::pollfd {
    libc::pollfd { fd, events: libc::POLLIN, revents: 0 }
}

/// poll(2); a signal is as good as a timeout.
fn poll(interest: &mut [libc::pollfd], timeout_ms: i32) -> io::Result<()> {
    let count = interest.len() as libc::nfds_t;
    // SAFETY: the kernel reads and writes exactly the slice that is lent to it.
    if unsafe { libc::poll(interest.as_mut_ptr(), count, timeout_ms) } < 0 {
        let cause = io::Error::last_os_error();
        if cause.kind() != io::ErrorKind::Interrupted {
            return Err(cause);
        }
        interest.iter_mut().for_each(|one| one.revents = 0);
    }
    Ok(())
}

/// Which signals wait. SIGINT, SIGQUIT and SIGTERM are one request: stop. SIGHUP is none.
fn read_signals(signals: &SignalFd) -> Vec<Signal> {
    let mut read = Vec::new();
    while let Ok(Some(info)) = signals.read_signal() {
        match i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok()) {
            Some(Signal::SIGCHLD) => read.push(Signal::SIGCHLD),
            Some(Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT) => read.push(Signal::SIGTERM),
            Some(_) | None => {}
        }
    }
    read
}

/// Why a task stops whose supervisor was told to.
const TOLD_TO_STOP: &str = words::STOPPED_BY_USER;
