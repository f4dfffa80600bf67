//! The namespaces that a task's containers share, or do not (`pidMode`, `ipcMode`): made once for each task by its
//! supervisor, before the first container, and joined by every container's first process. Whatever comes later to a
//! container joins through that process.
//!
//! A pid namespace needs a first process: our own init, without a program, which only reaps. It is confined more than
//! any container: an empty root, no network, nobody's user, no capability. An IPC namespace is held by its descriptor,
//! and the file system of its /dev/shm by a mount in the supervisor's own mount namespace. A private namespace for each
//! container, the default, costs nothing here.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use agent_protocol::TaskSpec;
use ecs::task_definition::{IpcMode, PidMode, SystemControl};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::pivot_root;

use crate::capabilities::Capabilities;
use crate::cgroup::{self, Cgroups};
use crate::enter::Entry;
use crate::fork::{self, Fork};
use crate::launch::chain;
use crate::program::Program;
use crate::report::{Failure, Progress};
use crate::{init, mounts, process_identity, report, sealed_exe, seccomp};

/// How long the first process of a shared pid namespace may take to become our init, milliseconds.
const START_TIMEOUT_MS: u64 = 10_000;
/// The longest failure that it may tell, bytes.
const MAX_FAILURE: u64 = 64 << 10;
/// In the task's run directory, in the supervisor's mount namespace only.
const SHM_NAME: &str = "shm";
/// Where the first process puts the descriptors that it keeps.
const EXECUTABLE_FD: i32 = 4;
/// Linux's user of nobody.
const NOBODY: u32 = 65_534;

/// Which namespaces the containers of one task have.
#[derive(Debug)]
pub struct TaskNamespaces {
    pub(crate) pids: Pids,
    pub(crate) ipc: Ipc,
}

#[derive(Debug)]
pub(crate) enum Pids {
    /// One for each container: the kernel kills all of it with its first process.
    Own,
    Host,
    Task(FirstProcess),
}

#[derive(Debug)]
pub(crate) enum Ipc {
    /// One for each container.
    Own,
    /// The same, and no /dev/shm.
    OwnWithoutShm,
    Host,
    Task {
        namespace: OwnedFd,
        /// A file system that is mounted for the supervisor and what it forks.
        shm: PathBuf,
    },
}

/// It ends with this, or with its supervisor, and everything in its namespace with it.
#[derive(Debug)]
pub(crate) struct FirstProcess {
    namespace: OwnedFd,
    pidfd: OwnedFd,
}

#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    #[error("the task's shared {which} namespace: cannot {step}")]
    Io {
        which: &'static str,
        step: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the first process of the task's shared pid namespace did not start: {0}")]
    FirstProcess(String),
    #[error("systemControls: cannot set {name} to {value:?} in the task's shared IPC namespace")]
    Sysctl {
        name: String,
        value: String,
        #[source]
        source: io::Error,
    },
}

fn io(which: &'static str, step: &'static str) -> impl FnOnce(io::Error) -> NamespaceError {
    move |source| NamespaceError::Io { which, step, source }
}

/// Sysctls of the IPC namespace (ipc_namespaces(7)); all others of a container are its network namespace's.
pub(crate) fn is_of_ipc(control: &SystemControl) -> bool {
    !control.namespace.starts_with("net.")
}

impl TaskNamespaces {
    /// Private ones for each container.
    pub fn private() -> Self {
        Self { pids: Pids::Own, ipc: Ipc::Own }
    }

    /// Makes what the containers of `task` share. The task's cgroup is there. The caller has one thread.
    ///
    /// # Errors
    /// The host refuses; nothing stays then but what goes with the task's cgroup.
    pub fn make(task: &TaskSpec, cgroups: &Cgroups) -> Result<Self, NamespaceError> {
        let ipc = match task.ipc_mode {
            None => Ipc::Own,
            Some(IpcMode::None) => Ipc::OwnWithoutShm,
            Some(IpcMode::Host) => Ipc::Host,
            Some(IpcMode::Task) => shared_ipc(task)?,
        };
        let mut made = Self { pids: Pids::Own, ipc };
        match task.pid_mode {
            None => {}
            Some(PidMode::Host) => made.pids = Pids::Host,
            Some(PidMode::Task) => match start_first_process(task, cgroups) {
                Ok(first) => made.pids = Pids::Task(first),
                Err(error) => {
                    // The first error is the one to tell.
                    made.end();
                    return Err(error);
                }
            },
        }
        Ok(made)
    }

    /// Whether processes of a container may outlive its first one: the kernel ends only whole pid namespaces.
    pub fn containers_share_pids(&self) -> bool {
        match self.pids {
            Pids::Own => false,
            Pids::Host | Pids::Task(_) => true,
        }
    }

    /// Ends what is shared, after the last container. The first process goes with the task's cgroup.
    ///
    /// # Errors
    /// What could not be taken away.
    pub fn end(self) -> Vec<String> {
        let mut errors = Vec::new();
        if let Pids::Task(first) = &self.pids {
            // It may have been killed with the cgroup already.
            let _ = process_identity::signal(first.pidfd.as_fd(), libc::SIGKILL);
        }
        if let Ipc::Task { shm, .. } = &self.ipc
            && let Err(errno) = umount2(shm, MntFlags::MNT_DETACH)
        {
            errors.push(format!("cannot unmount {}: {errno}", shm.display()));
        }
        errors
    }

    /// To be joined by a container's first process; none where it has a new one, or the host's.
    pub(crate) fn pid_namespace(&self) -> Option<BorrowedFd<'_>> {
        match &self.pids {
            Pids::Own | Pids::Host => None,
            Pids::Task(first) => Some(first.namespace.as_fd()),
        }
    }

    pub(crate) fn ipc_namespace(&self) -> Option<BorrowedFd<'_>> {
        match &self.ipc {
            Ipc::Own | Ipc::OwnWithoutShm | Ipc::Host => None,
            Ipc::Task { namespace, .. } => Some(namespace.as_fd()),
        }
    }
}

/// Into a new namespace and back: it lives as long as its descriptor.
fn shared_ipc(task: &TaskSpec) -> Result<Ipc, NamespaceError> {
    const WHICH: &str = "IPC";
    const OWN: &str = "/proc/self/ns/ipc";
    let before = File::open(OWN).map_err(io(WHICH, "open the supervisor's own"))?;
    unshare(CloneFlags::CLONE_NEWIPC).map_err(|errno| io(WHICH, "make it")(errno.into()))?;
    let made = File::open(OWN).map_err(io(WHICH, "open it"));
    let controls = set_controls(task);
    setns(&before, CloneFlags::CLONE_NEWIPC).map_err(|errno| io(WHICH, "leave it")(errno.into()))?;
    let namespace = made?.into();
    controls?;
    let shm = task.places.run.join(SHM_NAME);
    mount_shm(task, &shm).map_err(io(WHICH, "mount its /dev/shm"))?;
    Ok(Ipc::Task { namespace, shm })
}

/// Once for the task, those of all containers in their order; for a name that several give, the last one's value.
fn set_controls(task: &TaskSpec) -> Result<(), NamespaceError> {
    let controls = task.containers.iter().flat_map(|container| &container.definition.system_controls);
    for SystemControl { namespace, value } in controls.filter(|control| is_of_ipc(control)) {
        let path = Path::new("/proc/sys").join(namespace.replace('.', "/"));
        let written = fs::OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()));
        written.map_err(|source| NamespaceError::Sysctl { name: namespace.clone(), value: value.clone(), source })?;
    }
    Ok(())
}

/// As large as the largest that a container asks for. Seen by this process and what it forks, not by the host.
fn mount_shm(task: &TaskSpec, place: &Path) -> io::Result<()> {
    let sizes = task.containers.iter().map(mounts::shm_mib);
    let size = sizes.max().unwrap_or(mounts::DEFAULT_SHM_MIB);
    fs::create_dir_all(place)?;
    leave_mounts_of_host()?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    Ok(mount(Some("shm"), place, Some("tmpfs"), flags, Some(mounts::shm_options(size).as_str()))?)
}

/// The mount namespace that this process began in, once it has left it.
static MOUNTS_OF_HOST: OnceLock<OwnedFd> = OnceLock::new();

/// For processes that are none of the task's; nothing where the calling process is still in it.
pub(crate) fn mounts_of_host() -> Option<BorrowedFd<'static>> {
    MOUNTS_OF_HOST.get().map(AsFd::as_fd)
}

/// A mount namespace of one's own that still sees what the host mounts later.
pub(crate) fn leave_mounts_of_host() -> io::Result<()> {
    if MOUNTS_OF_HOST.get().is_none() {
        // Nobody else sets it: a supervisor has one thread.
        let _ = MOUNTS_OF_HOST.set(File::open("/proc/self/ns/mnt")?.into());
    }
    unshare(CloneFlags::CLONE_NEWNS)?;
    Ok(mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)?)
}

fn start_first_process(task: &TaskSpec, cgroups: &Cgroups) -> Result<FirstProcess, NamespaceError> {
    const WHICH: &str = "pid";
    let failed = |error: &dyn std::error::Error| NamespaceError::FirstProcess(chain(error));
    sealed_exe::verify().map_err(|error| failed(&error))?;
    let path = cgroup::of_first_process(task);
    cgroups.make(&path).map_err(|error| failed(&error))?;
    let birthplace = cgroups.birthplace(&path).map_err(|error| failed(&error))?;
    let executable = sealed_exe::own_executable().map_err(io(WHICH, "open our own binary"))?;
    let null = File::options().read(true).write(true).open("/dev/null").map_err(io(WHICH, "open /dev/null"))?;
    let (reader, writer) = io::pipe().map_err(io(WHICH, "make a pipe"))?;
    let mut placed = [
        (null.as_raw_fd(), 0),
        (null.as_raw_fd(), 1),
        (null.as_raw_fd(), 2),
        (writer.as_raw_fd(), init::REPORT_FD),
        (executable.as_raw_fd(), EXECUTABLE_FD),
    ];
    let pid = match fork::fork_as_first(birthplace.as_ref().map(AsFd::as_fd)).map_err(io(WHICH, "fork"))? {
        Fork::Child => {
            fork::end_at_panic();
            fork::die_with_parent();
            let joined = cgroups.enter_v1(&path).map_err(io::Error::other);
            let placed = joined.and_then(|()| fork::place_descriptors(&mut placed));
            let report = report::Sender::at(init::REPORT_FD);
            let Err(text) =
                placed.map_err(|error| error.to_string()).and_then(|()| become_init(&task.places.run, &report));
            report.send(&Progress::Failed(Failure::create(text)));
            fork::exit_now(1)
        }
        Fork::Parent { pid } => pid,
    };
    drop(writer);
    let held = started(pid, reader);
    if held.is_err() {
        fork::kill_child(pid);
        fork::reap_child(pid);
    }
    held
}

/// Until the report closes: then it is our init.
fn started(pid: i32, report: io::PipeReader) -> Result<FirstProcess, NamespaceError> {
    const WHICH: &str = "pid";
    let pidfd = process_identity::open_number(pid).map_err(io(WHICH, "hold its first process"))?;
    let namespace = File::open(format!("/proc/{pid}/ns/pid")).map_err(io(WHICH, "open it"))?.into();
    let deadline = Instant::now() + Duration::from_millis(START_TIMEOUT_MS);
    let mut waiting = [PollFd::new(report.as_fd(), PollFlags::POLLIN)];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match poll(&mut waiting, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(0) => return Err(NamespaceError::FirstProcess(format!("no answer in {START_TIMEOUT_MS} ms"))),
            Ok(_) => break,
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(io(WHICH, "wait for its first process")(errno.into())),
        }
    }
    let mut line = String::new();
    report.take(MAX_FAILURE).read_to_string(&mut line).map_err(io(WHICH, "hear of its first process"))?;
    if line.is_empty() {
        return Ok(FirstProcess { namespace, pidfd });
    }
    let text = match serde_json::from_str(&line) {
        Ok(Progress::Failed(failure)) => failure.text,
        Ok(Progress::Created { .. } | Progress::Released) | Err(_) => line,
    };
    Err(NamespaceError::FirstProcess(text))
}

/// In the new namespace. `somewhere` is any directory.
fn become_init(somewhere: &Path, report: &report::Sender) -> Result<std::convert::Infallible, String> {
    let failed = |step: &'static str| move |error: nix::errno::Errno| format!("cannot {step}: {error}");
    let rest = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    unshare(rest).map_err(failed("leave the host's namespaces"))?;
    empty_root(somewhere).map_err(|error| format!("cannot leave the host's root: {error}"))?;
    nix::unistd::setsid().map_err(failed("make a session"))?;
    let architecture = seccomp::Architecture::native().ok_or("there is no seccomp profile for this architecture")?;
    // SAFETY: placed there a moment ago, and no object owns it.
    let executable = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(EXECUTABLE_FD) };
    let entry = Entry {
        program: Program { arguments: Vec::new(), environment: Vec::new(), path: String::new() },
        init: Some(Rc::new(executable)),
        working_directory: CString::from(c"/"),
        uid: NOBODY,
        gid: NOBODY,
        supplementary: Vec::new(),
        capabilities: Capabilities::NONE,
        filter: Some(seccomp::default_filter(&Capabilities::NONE.names(), architecture)),
        no_new_privileges: true,
        limits: Vec::new(),
        label: None,
    };
    entry.execute(report.as_fd()).map_err(|error| chain(&error))
}

/// A container that may trace could look through /proc/1/root.
fn empty_root(somewhere: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    mount(Some("none"), somewhere, Some("tmpfs"), flags, Some("size=4k,nr_inodes=1"))?;
    std::env::set_current_dir(somewhere)?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    std::env::set_current_dir("/")
}
