//! A further process in a running container, for `coracle exec`: as confined as the container's own, by the same
//! last steps.
//!
//! libcontainer's way is not used: it joins no user namespace and applies no seccomp profile. A child joins the
//! container's cgroup first and all its namespaces at once through the pidfd of its first process, so that a recycled
//! number can never lead elsewhere; its child, which is in the pid namespace, is the process.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;

use agent_protocol::command::Exec;
use agent_protocol::{ContainerSecrets, ContainerSpec, TaskSpec};

use crate::cgroup::{self, Cgroups};
use crate::enter::{Entry, EntryError};
use crate::fork::{self, Fork, Parent};
use crate::launch::{self, Started, chain};
use crate::report::{self, Failure, Progress};
use crate::spec::{self, ProcessPlan};
use crate::{process, process_identity, sealed_exe, terminal};

/// How long it may take until the program is executed, milliseconds. A container can delay it (a file system that
/// does not answer), but not for longer.
const EXEC_TIMEOUT_MS: u64 = 20_000;

const REPORT_FD: i32 = 3;
const PIDFD_FD: i32 = 4;
const TERMINAL_FD: i32 = 5;

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

/// Starts a process in the container of `started`. `stdio` is its standard input, output and error; without it, it
/// gets a new terminal. The caller has one thread.
///
/// # Errors
/// The container or the program is not there, or a step failed; nothing runs then.
pub fn start(
    cgroups: &Cgroups,
    task: &TaskSpec,
    container: &ContainerSpec,
    secrets: Option<&ContainerSecrets>,
    started: &Started,
    wanted: &Exec,
    stdio: Option<[BorrowedFd<'_>; 3]>,
) -> Result<Executed, ExecError> {
    let name = container.definition.name.as_str();
    let refused = |reason: String| ExecError::Refused { container: name.to_owned(), reason };
    let io = |step| move |source| ExecError::Io { container: name.to_owned(), step, source };
    sealed_exe::verify().map_err(|error| refused(chain(&error)))?;
    let plan = plan(container, secrets, wanted, stdio.is_none()).map_err(refused)?;
    let path = cgroup::of_container(task, &container.definition.name);
    let birthplace = cgroups.birthplace(&path).map_err(|error| refused(chain(&error)))?;
    let null = File::options().read(true).write(true).open("/dev/null").map_err(io("open /dev/null"))?;
    let (receiver, sender) = report::channel().map_err(io("make a pipe"))?;
    let (ours, theirs) = UnixStream::pair().map_err(io("make a socket pair"))?;
    let joining = Joining {
        cgroups,
        path: &path,
        plan: &plan,
        namespaces: namespaces(started).map_err(io("look at its namespaces"))?,
        terminal: stdio.is_none(),
    };
    let stdio = stdio.unwrap_or([null.as_fd(), null.as_fd(), null.as_fd()]);
    let mut placed = [
        (stdio[0].as_raw_fd(), 0),
        (stdio[1].as_raw_fd(), 1),
        (stdio[2].as_raw_fd(), 2),
        (sender.as_fd().as_raw_fd(), REPORT_FD),
        (started.pidfd.as_raw_fd(), PIDFD_FD),
        (theirs.as_raw_fd(), TERMINAL_FD),
    ];
    let parent = std::process::id();
    let helper = match fork::fork_into(birthplace.as_ref().map(AsFd::as_fd), Parent::Caller).map_err(io("fork"))? {
        Fork::Child => fork::run_child(parent, || {
            fork::place_descriptors(&mut placed)?;
            joining.run();
            Ok(())
        }),
        Fork::Parent { pid } => pid,
    };
    drop((sender, theirs));
    let outcome = receive(receiver);
    fork::kill_child(helper);
    fork::reap_child(helper);
    let (pid, pidfd) = outcome.map_err(refused)?;
    let terminal = match joining.terminal {
        true => Some(terminal::receive(&ours).map_err(io("take over the terminal"))?),
        false => None,
    };
    Ok(Executed { pid, pidfd, terminal })
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
    if let Some(user) = wanted.user.as_deref().filter(|user| !user.is_empty()) {
        container.definition.user = Some(user.to_owned());
    }
    let mut plan = spec::process_plan(&container, secrets).map_err(|error| chain(&error))?;
    if terminal && process::get(&plan.environment, "TERM").is_none() {
        process::set(&mut plan.environment, "TERM=xterm".to_owned());
    }
    for variable in &wanted.environment {
        if !variable.contains('=') || variable.starts_with('=') {
            return Err(format!("an environment variable is NAME=VALUE, not {variable:?}"));
        }
        process::set(&mut plan.environment, variable.clone());
    }
    Ok(plan)
}

/// Which namespaces to join; the user namespace only where the container has one of its own, for nobody can enter
/// the one they are in.
fn namespaces(started: &Started) -> io::Result<i32> {
    let own = fs::metadata("/proc/self/ns/user")?;
    let theirs = fs::metadata(format!("/proc/{}/ns/user", started.init.pid))?;
    let same = std::os::unix::fs::MetadataExt::ino(&own) == std::os::unix::fs::MetadataExt::ino(&theirs);
    let user = if same { 0 } else { libc::CLONE_NEWUSER };
    Ok(user
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP)
}

/// Until the report closes, which it does when the program is executed.
fn receive(mut receiver: report::Receiver) -> Result<(i32, OwnedFd), String> {
    let mut created = None;
    let failed = loop {
        match receiver.next(None, EXEC_TIMEOUT_MS) {
            Ok(Some(Progress::Created { pid, .. })) => match process_identity::open_number(pid) {
                Ok(pidfd) => created = Some((pid, pidfd)),
                Err(error) => break format!("cannot hold process {pid}: {error}"),
            },
            Ok(Some(Progress::Released)) => {}
            Ok(Some(Progress::Failed(failure))) => break failure.text,
            Ok(None) => return created.ok_or_else(|| "no process was made; was it killed?".to_owned()),
            Err(error) => break error.to_string(),
        }
    };
    if let Some((pid, _)) = created {
        fork::kill_child(pid);
        fork::reap_child(pid);
    }
    Err(failed)
}

struct Joining<'a> {
    cgroups: &'a Cgroups,
    path: &'a std::path::Path,
    plan: &'a ProcessPlan,
    namespaces: i32,
    terminal: bool,
}

impl Joining<'_> {
    fn run(&self) {
        let report = report::Sender::at(REPORT_FD);
        match self.join() {
            // The container's, and ours to report.
            Ok(Fork::Parent { pid }) => report.send(&Progress::Created { pid, stages_us: Vec::new() }),
            Ok(Fork::Child) => {
                fork::die_with_parent();
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
            terminal::open_and_send(socket.as_fd(), entry.uid).map_err(step("open a terminal in the container"))?;
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
