//! A further process in a running container, for `coracle exec`: as confined as the container's own, by the same
//! last steps.
//!
//! libcontainer's way is not used: it joins no user namespace and applies no seccomp profile. A child joins the
//! container's cgroup first and all its namespaces at once through the pidfd of its first process, so that a recycled
//! number can never lead elsewhere; its child, which is in the pid namespace, is the process.
//!
//! A container can delay all of this (a file system that does not answer), so the caller is never made to wait.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use agent_protocol::command::{DebugTools, Exec};
use agent_protocol::{ContainerSecrets, ContainerSpec, TaskSpec};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::cgroup::{self, Cgroups};
use crate::enter::{Entry, EntryError};
use crate::fork::{self, Fork, Parent};
use crate::launch::{self, Started, chain};
use crate::report::{self, Failure, Heard, Progress};
use crate::spec::{self, ProcessPlan};
use crate::volumes::tree;
use crate::{busybox, debug_mounts, process, process_identity, sealed_exe, terminal};

/// How long it may take until the program is executed, milliseconds.
const EXEC_TIMEOUT_MS: u64 = 20_000;

const REPORT_FD: i32 = 3;
const PIDFD_FD: i32 = 4;
const TERMINAL_FD: i32 = 5;
const TOOLS_FD: i32 = 6;

/// A process that runs. The caller is its parent and reaps it.
#[derive(Debug)]
pub struct Executed {
    pub pid: i32,
    pub pidfd: OwnedFd,
    /// The master side, when a terminal was asked for.
    pub terminal: Option<OwnedFd>,
}

#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    #[error("container {container}: {reason}")]
    Refused { container: String, reason: String },
    #[error("container {container}: cannot {step}")]
    Io {
        container: String,
        step: &'static str,
        #[source]
        source: io::Error,
    },
}

/// What a process is started in and with.
#[derive(Clone, Copy)]
pub struct ExecInput<'a> {
    pub cgroups: &'a Cgroups,
    pub task: &'a TaskSpec,
    pub container: &'a ContainerSpec,
    pub secrets: Option<&'a ContainerSecrets>,
    pub started: &'a Started,
    pub wanted: &'a Exec,
    /// Standard input, output and error; without them it gets a new terminal.
    pub stdio: Option<[BorrowedFd<'a>; 3]>,
}

/// A process that is being started. Dropping it before the end kills what there is of it.
#[derive(Debug)]
pub struct Launch {
    container: String,
    /// The one that joins; ended by the time that the process runs.
    helper: OwnedFd,
    receiver: report::Receiver,
    begun: Instant,
    created: Option<(i32, OwnedFd)>,
    terminal: Option<UnixStream>,
}

/// Begins to start a process in a running container. The caller has one thread, and reaps what ends: a helper, and
/// later the process, become its children.
///
/// # Errors
/// The command makes no sense, or a first step failed; nothing runs then.
pub fn begin(input: &ExecInput<'_>) -> Result<Launch, ExecError> {
    let ExecInput { cgroups, task, container, secrets, started, wanted, stdio } = *input;
    let name = container.definition.name.as_str();
    let refused = |reason: String| ExecError::Refused { container: name.to_owned(), reason };
    let io = |step| move |source| ExecError::Io { container: name.to_owned(), step, source };
    sealed_exe::verify().map_err(|error| refused(chain(&error)))?;
    let plan = plan(container, secrets, wanted, stdio.is_none()).map_err(refused)?;
    let path = cgroup::of_container(task, &container.definition.name);
    let birthplace = cgroups.birthplace(&path).map_err(|error| refused(chain(&error)))?;
    let null = File::options().read(true).write(true).open("/dev/null").map_err(io("open /dev/null"))?;
    let tools = wanted.debug.as_ref().map(tools).transpose().map_err(refused)?;
    let (receiver, sender) = report::channel().map_err(io("make a pipe"))?;
    let (ours, theirs) = UnixStream::pair().map_err(io("make a socket pair"))?;
    let terminal = stdio.is_none();
    let joining = Joining {
        cgroups,
        path: &path,
        plan: &plan,
        namespaces: namespaces(started).map_err(io("look at its namespaces"))?,
        terminal,
        terminal_size: wanted.terminal_size,
        applets: wanted.debug.as_ref().map(|tools| tools.applets.as_slice()),
    };
    let stdio = stdio.unwrap_or([null.as_fd(), null.as_fd(), null.as_fd()]);
    let mut placed = vec![
        (stdio[0].as_raw_fd(), 0),
        (stdio[1].as_raw_fd(), 1),
        (stdio[2].as_raw_fd(), 2),
        (sender.as_fd().as_raw_fd(), REPORT_FD),
        (started.pidfd.as_raw_fd(), PIDFD_FD),
        (theirs.as_raw_fd(), TERMINAL_FD),
    ];
    placed.extend(tools.iter().map(|tools| (tools.as_fd().as_raw_fd(), TOOLS_FD)));
    let parent = std::process::id();
    let helper = match fork::fork_into(birthplace.as_ref().map(AsFd::as_fd), Parent::Caller).map_err(io("fork"))? {
        Fork::Child => fork::run_child(parent, || {
            fork::place_descriptors(&mut placed)?;
            joining.run();
            Ok(())
        }),
        Fork::Parent { pid } => process_identity::open_number(pid).map_err(|source| {
            fork::kill_child(pid);
            io("hold its helper")(source)
        })?,
    };
    let (container, terminal) = (name.to_owned(), terminal.then_some(ours));
    Ok(Launch { container, helper, receiver, begun: Instant::now(), created: None, terminal })
}

/// `begin`, and the wait until it is done, for a caller that has nothing else to do.
///
/// # Errors
/// The container or the program is not there, or a step failed; nothing runs then.
pub fn start(input: &ExecInput<'_>) -> Result<Executed, ExecError> {
    let mut launch = begin(input)?;
    loop {
        if let Some(outcome) = launch.advance() {
            launch.end();
            return outcome;
        }
        let left = PollTimeout::try_from(launch.left()).unwrap_or(PollTimeout::MAX);
        // SAFETY: the launch holds the descriptor open for as long as it is borrowed.
        let report = unsafe { BorrowedFd::borrow_raw(launch.interest()) };
        // Whatever happens, the next look tells.
        let _ = poll(&mut [PollFd::new(report, PollFlags::POLLIN)], left);
    }
}

impl Launch {
    /// Ends what is not the process asked for, and waits for it: a pid namespace does not end before the last process
    /// that was in it has been waited for.
    fn end(self) {
        let process = self.created.as_ref().map(|(_, pidfd)| pidfd);
        for ended in std::iter::once(&self.helper).chain(process) {
            // It may have ended already.
            let _ = process_identity::signal(ended.as_fd(), libc::SIGKILL);
            let number = ended.as_raw_fd() as libc::id_t;
            // SAFETY: a null siginfo is allowed; the child is ours and is being killed.
            unsafe { libc::waitid(libc::P_PIDFD, number, std::ptr::null_mut(), libc::WEXITED) };
        }
    }

    /// For poll(2): when it is readable, `advance` may know more.
    pub fn interest(&self) -> RawFd {
        self.receiver.as_raw_fd()
    }

    /// How long `advance` may still answer nothing.
    pub fn left(&self) -> Duration {
        Duration::from_millis(EXEC_TIMEOUT_MS).saturating_sub(self.begun.elapsed())
    }

    /// Takes what was reported. Nothing while it is still under way; else the start is over. The report closes when
    /// the program is executed.
    ///
    /// To be called before any ended child is waited for: the number that a report names is then still its process's.
    pub fn advance(&mut self) -> Option<Result<Executed, ExecError>> {
        let refused = |reason: String| ExecError::Refused { container: self.container.clone(), reason };
        loop {
            match self.receiver.take() {
                Ok(Heard::Report(Progress::Created { pid, .. })) => match process_identity::open_number(pid) {
                    Ok(pidfd) => self.created = Some((pid, pidfd)),
                    Err(error) => return Some(Err(refused(format!("cannot hold process {pid}: {error}")))),
                },
                Ok(Heard::Report(Progress::Released)) => {}
                Ok(Heard::Report(Progress::Failed(failure))) => return Some(Err(refused(failure.text))),
                Ok(Heard::Closed) => return Some(self.executed()),
                Ok(Heard::Nothing) if self.left().is_zero() => {
                    return Some(Err(refused(format!("no answer in {EXEC_TIMEOUT_MS} ms"))));
                }
                Ok(Heard::Nothing) => return None,
                Err(error) => return Some(Err(refused(error.to_string()))),
            }
        }
    }

    fn executed(&mut self) -> Result<Executed, ExecError> {
        let terminal = match self.terminal.take().map(|socket| terminal::receive(&socket)).transpose() {
            Ok(terminal) => terminal,
            Err(source) => {
                let (container, step) = (self.container.clone(), "take over the terminal");
                return Err(ExecError::Io { container, step, source });
            }
        };
        let (pid, pidfd) = self.created.take().ok_or_else(|| ExecError::Refused {
            container: self.container.clone(),
            reason: "no process was made; was it killed?".to_owned(),
        })?;
        Ok(Executed { pid, pidfd, terminal })
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        // They have nothing more to do, or have ended already.
        let _ = process_identity::signal(self.helper.as_fd(), libc::SIGKILL);
        if let Some((_, pidfd)) = &self.created {
            let _ = process_identity::signal(pidfd.as_fd(), libc::SIGKILL);
        }
    }
}

/// The container's own process, with what was asked for in its place.
fn plan(
    container: &ContainerSpec,
    secrets: Option<&ContainerSecrets>,
    wanted: &Exec,
    terminal: bool,
) -> Result<ProcessPlan, String> {
    if wanted.command.is_empty() {
        return Err("No exec command specified".to_owned());
    }
    let mut container = container.clone();
    container.definition.entry_point = Some(Vec::new());
    container.definition.command = Some(wanted.command.clone());
    let directory = wanted.working_directory.as_deref().filter(|directory| !directory.is_empty());
    if let Some(directory) = directory {
        container.definition.working_directory = Some(directory.to_owned());
    }
    let user = wanted.user.as_deref().filter(|user| !user.is_empty());
    // Who looks for what is wrong with a container wants to see all of it.
    if let Some(user) = user.or(wanted.debug.as_ref().map(|_| "0")) {
        container.definition.user = Some(user.to_owned());
    }
    let mut plan = spec::process_plan(&container, secrets).map_err(|error| chain(&error))?;
    // The container has its own.
    plan.init = false;
    if terminal && process::get(&plan.environment, "TERM").is_none() {
        process::set(&mut plan.environment, terminal::TERM.to_owned());
    }
    for variable in &wanted.environment {
        if !variable.contains('=') || variable.starts_with('=') {
            return Err(format!("an environment variable is NAME=VALUE, not {variable:?}"));
        }
        process::set(&mut plan.environment, variable.clone());
    }
    if wanted.debug.is_some() {
        let path = match process::get(&plan.environment, "PATH") {
            Some(path) if !path.is_empty() => format!("PATH={}:{path}", debug_mounts::DIRECTORY),
            Some(_) | None => format!("PATH={}", debug_mounts::DIRECTORY),
        };
        process::set(&mut plan.environment, path);
    }
    Ok(plan)
}

/// A mount of the tools' file, attached nowhere: what this host has mounted where cannot be told from inside.
fn tools(wanted: &DebugTools) -> Result<tree::Tree, String> {
    busybox::check_names(&wanted.applets)?;
    let file = busybox::open(&wanted.busybox).map_err(|error| chain(&error))?;
    tree::take(&busybox::path_of(&file), true)
        .map_err(|error| format!("cannot mount {}: {error}", wanted.busybox.display()))
}

/// Which namespaces to join: those that differ from ours. Nobody can enter the user namespace that they are in, and a
/// task may share others with the host.
fn namespaces(started: &Started) -> io::Result<i32> {
    const KINDS: [(&str, i32); 7] = [
        ("user", libc::CLONE_NEWUSER),
        ("mnt", libc::CLONE_NEWNS),
        ("pid", libc::CLONE_NEWPID),
        ("net", libc::CLONE_NEWNET),
        ("ipc", libc::CLONE_NEWIPC),
        ("uts", libc::CLONE_NEWUTS),
        ("cgroup", libc::CLONE_NEWCGROUP),
    ];
    let mut flags = 0;
    for (kind, flag) in KINDS {
        let own = fs::metadata(format!("/proc/self/ns/{kind}"))?;
        let theirs = fs::metadata(format!("/proc/{}/ns/{kind}", started.init.pid))?;
        if (own.dev(), own.ino()) != (theirs.dev(), theirs.ino()) {
            flags |= flag;
        }
    }
    Ok(flags)
}

struct Joining<'a> {
    cgroups: &'a Cgroups,
    path: &'a std::path::Path,
    plan: &'a ProcessPlan,
    namespaces: i32,
    terminal: bool,
    terminal_size: Option<(u16, u16)>,
    /// The names of the tools that only this process is to see.
    applets: Option<&'a [String]>,
}

impl Joining<'_> {
    fn run(&self) {
        let report = report::Sender::at(REPORT_FD);
        // The process goes on only when its number has been told: nobody would know whose end it is otherwise.
        let joined = io::pipe().and_then(|gate| self.join().map(|fork| (gate, fork)));
        match joined {
            Ok(((_, mut go), Fork::Parent { pid })) => {
                report.send(&Progress::Created { pid, stages_us: Vec::new() });
                // The process's copy is the last from here on: it closes before the process can have ended, however
                // late this one ends. An end that came first would be nobody's.
                drop(report);
                // It may have been killed already.
                let _ = go.write_all(b"g");
            }
            Ok(((mut gate, go), Fork::Child)) => {
                fork::die_with_parent();
                drop(go);
                if gate.read_exact(&mut [0]).is_err() {
                    return;
                }
                drop(gate);
                let Err(failure) = self.enter(&report);
                report.send(&Progress::Failed(failure));
            }
            Err(error) => report.send(&Progress::Failed(Failure::create(error.to_string()))),
        }
    }

    /// Into the cgroup, then into the namespaces, then a child, because a pid namespace is only entered by one.
    fn join(&self) -> io::Result<Fork> {
        self.cgroups.enter_v1(self.path).map_err(io::Error::other)?;
        // From the moment that the container sees us, it must not look into us (CVE-2016-9962).
        // SAFETY: numbers only.
        if unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: numbers only.
        if unsafe { libc::setns(PIDFD_FD, self.namespaces) } != 0 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::ESRCH) => Err(io::Error::other("its first process has ended")),
                _ => Err(error),
            };
        }
        fork::fork_into(None, Parent::Sibling)
    }

    fn enter(&self, report: &report::Sender) -> Result<std::convert::Infallible, Failure> {
        let failed =
            |error: EntryError| Failure { created: true, exit_code: Some(error.exit_code()), text: error.to_string() };
        let step = |step| move |source| failed(EntryError::Step { step, source });
        if let Some(applets) = self.applets {
            // SAFETY: the descriptor was placed there, and nobody closes it before the program is executed.
            let tools = unsafe { BorrowedFd::borrow_raw(TOOLS_FD) };
            debug_mounts::show(tools, applets).map_err(step("show the debugging tools"))?;
        }
        let root = File::open("/").map_err(step("open the container's root"))?;
        let entry: Entry = launch::entry(self.plan, root.as_fd())?;
        drop(root);
        if !self.terminal {
            reopen_null().map_err(step("open the container's /dev/null"))?;
        }
        nix::unistd::setsid().map_err(|errno| step("make a session")(errno.into()))?;
        if self.terminal {
            // SAFETY: the descriptor was placed there, and no object owns it.
            let socket = unsafe { OwnedFd::from_raw_fd(TERMINAL_FD) };
            terminal::open_and_send(socket.as_fd(), entry.uid, self.terminal_size)
                .map_err(step("open a terminal in the container"))?;
        }
        entry.execute(report.as_fd()).map_err(failed)
    }
}

/// The host's /dev/null would let a container's root change its mode for everybody on the host.
fn reopen_null() -> io::Result<()> {
    const NULL: libc::dev_t = libc::makedev(1, 3);
    for stream in 0..3 {
        // SAFETY: a stat is plain numbers, for which zero is a value.
        let mut found: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: `found` outlives the call.
        let known = unsafe { libc::fstat(stream, &raw mut found) } == 0;
        if !known || found.st_mode & libc::S_IFMT != libc::S_IFCHR || found.st_rdev != NULL {
            continue;
        }
        let own =
            File::options().read(true).write(true).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK).open("/dev/null")?;
        let metadata = own.metadata()?;
        if !metadata.file_type().is_char_device() || metadata.rdev() != NULL {
            return Err(io::Error::other("it is something else"));
        }
        // SAFETY: numbers only.
        if unsafe { libc::dup2(own.as_raw_fd(), stream) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
