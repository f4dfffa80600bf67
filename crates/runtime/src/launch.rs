//! Starts a container: a launcher, forked for this one purpose, prepares the root and calls libcontainer; the
//! container's first process outlives it and becomes the supervisor's child.
//!
//! The only file that names libcontainer. Everything it does to its caller (the out-of-memory score, dumpability,
//! the working directory, its heap) ends with the launcher. It never sees a cgroup: the launcher is in the container's
//! before libcontainer runs, and hides the hierarchies, so that it finds none to write to.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use agent_protocol::{ContainerSecrets, ContainerSpec, ProcessIdentity, TaskSpec};
use ecs::task_definition::Device;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use oci_spec::runtime::Spec;

use crate::cgroup::{self, Cgroups, DeviceRule};
use crate::cgroup_mounts;
use crate::devices::DeviceError;
use crate::enter::{self, Entry, EntryError};
use crate::fork::{self, Fork, Parent};
use crate::mounts::{self, Mounts};
use crate::namespaces::{Ipc, Pids, TaskNamespaces};
use crate::program::Program;
use crate::report::{self, Failure, Heard, Progress};
use crate::security::Label;
use crate::spec::{self, Joined, ProcessPlan, Surroundings};
use crate::volumes::{self, InsideMounts, VolumeError, Volumes};
use crate::{devices, process, process_identity, rootfs, sealed_exe, seccomp, task_dir, terminal, users};

/// How long a start may take before it is given up, milliseconds.
const START_TIMEOUT_MS: u64 = 60_000;
const LAUNCHER_ENDED: &str = "the launcher ended before the container's program was executed; was it killed?";
/// libcontainer's name for the container, in a directory of its own.
const NAME: &str = "c";
/// Where the launcher puts the descriptors that it keeps.
const REPORT_FD: i32 = 3;
const NETWORK_FD: i32 = 4;
const PIDS_FD: i32 = 5;
const IPC_FD: i32 = 6;

pub struct StartInput<'a> {
    pub task: &'a TaskSpec,
    pub container: &'a ContainerSpec,
    /// None is the host's network.
    pub network_namespace: Option<BorrowedFd<'a>>,
    /// What the task's containers share.
    pub namespaces: &'a TaskNamespaces,
    /// Standard input, output and error.
    pub stdio: [BorrowedFd<'a>; 3],
    pub cgroups: &'a Cgroups,
    pub secrets: Option<&'a ContainerSecrets>,
}

#[derive(Debug)]
pub struct Started {
    pub init: ProcessIdentity,
    pub pidfd: OwnedFd,
    /// Microseconds of each stage, in order.
    pub stages_us: Vec<(String, u64)>,
    /// The master side of its terminal, where the definition gives it one.
    pub terminal: Option<OwnedFd>,
}

/// Why a container did not start, as ECS shows it: `name: text`.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {text}")]
pub struct StartError {
    /// `CannotCreateContainerError` or `CannotStartContainerError`.
    pub name: &'static str,
    pub text: String,
    /// What Docker would report as the container's exit code.
    pub exit_code: Option<i32>,
}

impl StartError {
    fn create(text: impl Into<String>) -> Self {
        Self { name: "CannotCreateContainerError", text: text.into(), exit_code: None }
    }
}

impl From<Failure> for StartError {
    fn from(failure: Failure) -> Self {
        let name = if failure.created { "CannotStartContainerError" } else { "CannotCreateContainerError" };
        Self { name, text: failure.text, exit_code: failure.exit_code }
    }
}

/// The container's directory under the run directory: empty on the host, a scratch file system for the launcher.
pub fn bundle_of(task: &TaskSpec, container: &ContainerSpec) -> PathBuf {
    task.places.run.join("bundles").join(container.definition.name.as_str())
}

/// The container's directory under the state directory, with its writable layer.
pub fn state_of(task: &TaskSpec, container: &ContainerSpec) -> PathBuf {
    task.places.state.join("containers").join(container.definition.name.as_str())
}

/// A start under way. Dropping it ends the launcher; what the launcher has made is in the container's cgroup.
#[derive(Debug)]
pub struct Launch {
    launcher: OwnedFd,
    receiver: report::Receiver,
    begun: Instant,
    cgroup_us: u64,
    created: Option<Created>,
    released: bool,
    terminal: Option<UnixStream>,
}

#[derive(Debug)]
struct Created {
    started: Started,
    after_us: u64,
}

/// Begins to create the container and to start its first process. The caller has one thread, and reaps what ends: the
/// launcher, and later the process, become its children.
///
/// # Errors
/// In ECS's words. Nothing of the container runs then; `remove` clears what it left.
pub fn begin(input: &StartInput<'_>) -> Result<Launch, StartError> {
    let begun = Instant::now();
    sealed_exe::verify().map_err(|error| StartError::create(chain(&error)))?;
    let mut plan =
        spec::process_plan(input.container, input.secrets).map_err(|error| StartError::create(error.to_string()))?;
    let (terminal, theirs) = terminal_of(input.container, &mut plan)?.unzip();
    let devices = devices(input.container).map_err(|error| StartError::create(chain(&error)))?;
    let rules: Vec<DeviceRule> = devices.iter().map(|device| device.rule).collect();
    input
        .cgroups
        .prepare_container(input.task, input.container, &rules)
        .map_err(|error| StartError::create(chain(&error)))?;
    make_directories(input.task, input.container)
        .map_err(|(path, error)| StartError::create(format!("cannot make {}: {error}", path.display())))?;
    let cgroup_us = elapsed_us(begun);
    let path = cgroup::of_container(input.task, &input.container.definition.name);
    let (receiver, launcher) = fork_launcher(input, &plan, &devices, &path, theirs.as_ref())?;
    // Its own child, not yet waited for: the number is still its own.
    let launcher = process_identity::open_number(launcher).map_err(|error| {
        fork::kill_child(launcher);
        StartError::create(format!("cannot hold the launcher: {error}"))
    })?;
    Ok(Launch { launcher, receiver, begun: Instant::now(), cgroup_us, created: None, released: false, terminal })
}

/// `begin`, and the wait until it is done, for a caller that has nothing else to do.
///
/// # Errors
/// As `begin`; what a start that failed left is in the container's cgroup.
pub fn create_and_start(input: &StartInput<'_>) -> Result<Started, StartError> {
    let mut launch = begin(input)?;
    loop {
        if let Some(outcome) = launch.advance() {
            launch.end();
            return outcome;
        }
        let left = PollTimeout::try_from(launch.left()).unwrap_or(PollTimeout::MAX);
        // SAFETY: the launch holds both descriptors open for as long as they are borrowed.
        let held = launch.interest().map(|fd| unsafe { BorrowedFd::borrow_raw(fd) });
        // Whatever happens, the next look tells.
        let _ = poll(&mut held.map(|fd| PollFd::new(fd, PollFlags::POLLIN)), left);
    }
}

impl Launch {
    /// For poll(2): when one of them is readable, `advance` may know more.
    pub fn interest(&self) -> [RawFd; 2] {
        [self.receiver.as_raw_fd(), self.launcher.as_raw_fd()]
    }

    /// Ends the launcher and waits for it: only then is the container's process the caller's own child.
    fn end(self) {
        let launcher = self.launcher.as_raw_fd() as libc::id_t;
        // It has ended already, or ends now.
        let _ = process_identity::signal(self.launcher.as_fd(), libc::SIGKILL);
        // SAFETY: a null siginfo is allowed; the child is ours and is being killed.
        unsafe { libc::waitid(libc::P_PIDFD, launcher, std::ptr::null_mut(), libc::WEXITED) };
    }

    /// How long `advance` may still answer nothing.
    pub fn left(&self) -> Duration {
        Duration::from_millis(START_TIMEOUT_MS).saturating_sub(self.begun.elapsed())
    }

    /// Takes what the launcher has reported. Nothing while it is still at work; else the start is over. The report
    /// closes when the container's program is executed.
    ///
    /// To be called before any ended child is waited for: the number that a report names is then still its process's.
    pub fn advance(&mut self) -> Option<Result<Started, StartError>> {
        // Looked at first: what a launcher says last is in the pipe before it ends.
        let ended = process_identity::has_ended(self.launcher.as_fd());
        loop {
            match self.receiver.take() {
                Ok(Heard::Report(Progress::Created { pid, stages_us })) => match self.hold(pid, stages_us) {
                    Ok(created) => self.created = Some(created),
                    Err(error) => return Some(Err(error)),
                },
                Ok(Heard::Report(Progress::Released)) => self.released = true,
                Ok(Heard::Report(Progress::Failed(failure))) => return Some(Err(failure.into())),
                Ok(Heard::Closed) => return Some(self.executed()),
                // libcontainer's half-made process keeps the report open, and waits for its launcher for ever.
                Ok(Heard::Nothing) if ended => return Some(Err(StartError::create(LAUNCHER_ENDED))),
                Ok(Heard::Nothing) if self.left().is_zero() => {
                    return Some(Err(StartError::create(format!("no answer in {START_TIMEOUT_MS} ms"))));
                }
                Ok(Heard::Nothing) => return None,
                Err(error) => return Some(Err(StartError::create(error.to_string()))),
            }
        }
    }

    /// Whether the container's program is there, though its launcher has not got round to closing the report: then the
    /// start is as good as done. With an init of ours that is not seen.
    pub fn has_executed(&self) -> bool {
        let program = |process: &str| fs::metadata(format!("/proc/{process}/exe")).map(|file| (file.dev(), file.ino()));
        let Some(created) = &self.created else { return false };
        match (program(&created.started.init.pid.to_string()), program("self")) {
            (Ok(theirs), Ok(ours)) => theirs != ours,
            (Ok(_) | Err(_), _) => false,
        }
    }

    fn hold(&self, pid: i32, stages_us: Vec<(String, u64)>) -> Result<Created, StartError> {
        // A child of the launcher or, after it, of ours: nobody else reaps it, so its number is its own.
        let pidfd = process_identity::open_number(pid)
            .map_err(|error| StartError::create(format!("cannot hold process {pid}: {error}")))?;
        let init = process_identity::of(pid)
            .map_err(|error| StartError::create(format!("cannot identify process {pid}: {error}")))?;
        Ok(Created { started: Started { init, pidfd, stages_us, terminal: None }, after_us: elapsed_us(self.begun) })
    }

    fn executed(&mut self) -> Result<Started, StartError> {
        match self.created.take() {
            Some(Created { mut started, after_us }) if self.released => {
                if let Some(socket) = &self.terminal {
                    let terminal = terminal::receive(socket);
                    started.terminal = Some(terminal.map_err(|error| {
                        StartError::create(format!("cannot take over the container's terminal: {error}"))
                    })?);
                }
                started.stages_us.insert(0, ("cgroup".to_owned(), self.cgroup_us));
                started.stages_us.push(("exec".to_owned(), elapsed_us(self.begun).saturating_sub(after_us)));
                Ok(started)
            }
            Some(_) | None => Err(StartError::create("the launcher ended without a report; was it killed?")),
        }
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        // It has nothing more to do, or has ended already.
        let _ = process_identity::signal(self.launcher.as_fd(), libc::SIGKILL);
    }
}

/// A socket pair over which the container's first process sends the master side of the terminal that it opens.
fn terminal_of(
    container: &ContainerSpec,
    plan: &mut ProcessPlan,
) -> Result<Option<(UnixStream, UnixStream)>, StartError> {
    if container.definition.pseudo_terminal != Some(true) {
        return Ok(None);
    }
    if process::get(&plan.environment, "TERM").is_none() {
        process::set(&mut plan.environment, terminal::TERM.to_owned());
    }
    let pair = UnixStream::pair();
    pair.map(Some).map_err(|error| StartError::create(format!("cannot make a socket pair: {error}")))
}

/// Only root looks into a container's directories; what is in `upper` has the container's own modes.
fn make_directories(task: &TaskSpec, container: &ContainerSpec) -> Result<(), (PathBuf, io::Error)> {
    let state = state_of(task, container);
    for (path, mode) in [
        (state.clone(), 0o700),
        (state.join("upper"), 0o755),
        (state.join("work"), 0o755),
        (bundle_of(task, container), 0o700),
    ] {
        fs::DirBuilder::new().recursive(true).mode(mode).create(&path).map_err(|error| (path, error))?;
    }
    Ok(())
}

/// The definition's own, and those that the agent has assigned.
fn devices(container: &ContainerSpec) -> Result<Vec<devices::Node>, DeviceError> {
    let asked = container.definition.linux_parameters.iter().flat_map(|parameters| &parameters.devices);
    let all: Vec<Device> = asked.chain(&container.devices).cloned().collect();
    devices::gather(&all)
}

fn fork_launcher(
    input: &StartInput<'_>,
    plan: &ProcessPlan,
    devices: &[devices::Node],
    cgroup: &Path,
    terminal: Option<&UnixStream>,
) -> Result<(report::Receiver, i32), StartError> {
    let (receiver, sender) =
        report::channel().map_err(|error| StartError::create(format!("cannot make a pipe: {error}")))?;
    let birthplace = input.cgroups.birthplace(cgroup).map_err(|error| StartError::create(chain(&error)))?;
    let parent = std::process::id();
    let child = fork::fork_into(birthplace.as_ref().map(AsFd::as_fd), Parent::Caller)
        .map_err(|error| StartError::create(format!("cannot fork a launcher: {error}")))?;
    match child {
        Fork::Child => {
            drop(receiver);
            fork::run_child(parent, || {
                let (sender, terminal) = arrange_descriptors(input, &sender, terminal)?;
                let done = Launcher { input, plan, devices, cgroup, terminal, report: Rc::new(sender) }.run();
                done.map_err(|failure| io::Error::other(failure.text))
            })
        }
        Fork::Parent { pid } => Ok((receiver, pid)),
    }
}

/// Standard streams, the report and the namespaces to be joined at fixed numbers, then the socket for the
/// terminal, whose number comes back, and nothing else open.
fn arrange_descriptors(
    input: &StartInput<'_>,
    sender: &report::Sender,
    terminal: Option<&UnixStream>,
) -> io::Result<(report::Sender, Option<RawFd>)> {
    let mut wanted = vec![
        (input.stdio[0].as_raw_fd(), 0),
        (input.stdio[1].as_raw_fd(), 1),
        (input.stdio[2].as_raw_fd(), 2),
        (sender.as_fd().as_raw_fd(), REPORT_FD),
    ];
    let namespaces = [
        (input.network_namespace, NETWORK_FD),
        (input.namespaces.pid_namespace(), PIDS_FD),
        (input.namespaces.ipc_namespace(), IPC_FD),
    ];
    wanted.extend(namespaces.iter().filter_map(|(namespace, place)| Some((namespace.as_ref()?.as_raw_fd(), *place))));
    let number = terminal.map(|socket| {
        let next = wanted.iter().map(|(_, to)| to + 1).max().unwrap_or_default();
        wanted.push((socket.as_raw_fd(), next));
        next
    });
    fork::place_descriptors(&mut wanted)?;
    Ok((report::Sender::at(REPORT_FD), number))
}

struct Launcher<'a> {
    input: &'a StartInput<'a>,
    plan: &'a ProcessPlan,
    devices: &'a [devices::Node],
    cgroup: &'a Path,
    /// The number of the socket that wants the master side of its terminal.
    terminal: Option<RawFd>,
    report: Rc<report::Sender>,
}

impl Launcher<'_> {
    fn run(&self) -> Result<(), Failure> {
        let outcome = self.create_and_release();
        if let Err(failure) = &outcome {
            self.report.send(&Progress::Failed(failure.clone()));
        }
        outcome
    }

    fn create_and_release(&self) -> Result<(), Failure> {
        let mut stages = Stages { clock: Instant::now(), stages_us: Vec::new() };
        self.hide_from_neighbours()?;
        self.input.cgroups.enter_v1(self.cgroup).map_err(|error| Failure::create(chain(&error)))?;
        stages.mark("enter");
        let bundle = bundle_of(self.input.task, self.input.container);
        own_mounts()?;
        rootfs::prepare_bundle(&bundle, self.input.container).map_err(|error| Failure::create(chain(&error)))?;
        let state = state_of(self.input.task, self.input.container);
        let root = rootfs::mount_overlay(&bundle, &state, &self.input.container.image.layers)
            .map_err(|error| Failure::create(chain(&error)))?;
        rootfs::preflight(root.as_fd(), &self.plan.working_directory)
            .map_err(|error| Failure::create(chain(&error)))?;
        let entry = entry(self.plan, root.as_fd())?;
        let path = bundle.join("rootfs");
        let mounts = mounts::plan(self.input.container, self.input.cgroups, &self.input.namespaces.ipc)
            .map_err(|error| Failure::create(chain(&error)))?;
        let volumes = self.fill_volumes(root.as_fd())?;
        mounts.mount_outside(&path).map_err(|error| Failure::create(chain(&error)))?;
        if volumes.covers_etc() {
            let etc = volumes.mount_etc(root.as_fd(), &bundle, mounts.read_only);
            etc.map_err(|error| Failure::create(chain(&error)))?;
        } else {
            mounts.mount_etc(&path, &bundle).map_err(|error| Failure::create(chain(&error)))?;
        }
        self.devices
            .iter()
            .try_for_each(|device| device.make(root.as_fd()))
            .map_err(|error| Failure::create(chain(&error)))?;
        let inside = self.mount_volumes(&volumes, root.as_fd(), &bundle, &entry)?;
        drop(root);
        let root = path;
        self.write_spec(&bundle, root)?;
        let cgroup_tree = cgroup_mounts::tree(self.input.cgroups, self.cgroup)
            .map_err(|error| Failure::create(format!("cannot take a mount of the container's cgroup: {error}")))?;
        hide_cgroups(self.input.cgroups, self.cgroup)?;
        stages.mark("rootfs");
        let executor = LastSteps {
            entry: Rc::new(entry),
            report: Rc::clone(&self.report),
            mounts: Rc::new(mounts),
            cgroup_tree: cgroup_tree.map(Rc::new),
            volumes: Rc::new(inside),
            terminal: self.terminal,
        };
        let mut container = ContainerBuilder::new(NAME.to_owned(), SyscallType::default())
            .with_root_path(bundle.join("state"))
            .map_err(|error| Failure::create(chain(&error)))?
            .with_executor(executor)
            .as_init(&bundle)
            .with_systemd(false)
            .with_detach(true)
            .build()
            .map_err(|error| Failure::create(chain(&error)))?;
        stages.mark("libcontainer");
        let pid = container.pid().ok_or_else(|| Failure::create("libcontainer made no process"))?.as_raw();
        self.report.send(&Progress::Created { pid, stages_us: stages.stages_us });
        container.start().map_err(|error| Failure::start(chain(&error)))?;
        self.report.send(&Progress::Released);
        // The first process dies with this one until it has become its program. Closing the report leaves that one's
        // copy the last, so that the supervisor sees it close, and then ends this launcher.
        report::close(REPORT_FD);
        fork::wait_to_be_killed()
    }

    /// On the root as the image has it; what goes below our own mounts is mounted already.
    fn fill_volumes(&self, root: BorrowedFd<'_>) -> Result<Volumes, Failure> {
        let failed = |error: VolumeError| Failure::create(chain(&error));
        let volumes = Volumes::of(self.input.task, self.input.container).map_err(failed)?;
        volumes.fill(root).map_err(failed)?;
        volumes.mount_first(root).map_err(failed)?;
        if volumes.covers_etc() {
            let made = rootfs::make_working_directory(root, &self.plan.working_directory);
            made.map_err(|error| Failure::create(chain(&error)))?;
        }
        Ok(volumes)
    }

    fn mount_volumes(
        &self,
        volumes: &Volumes,
        root: BorrowedFd<'_>,
        bundle: &Path,
        entry: &Entry,
    ) -> Result<InsideMounts, Failure> {
        let failed = |error: VolumeError| Failure::create(chain(&error));
        volumes.mount_usual(root).map_err(failed)?;
        let owner = volumes::Owner { uid: entry.uid, gid: entry.gid };
        volumes::mount_secrets(root, bundle, self.input.secrets, owner).map_err(failed)?;
        volumes.take_inside().map_err(failed)
    }

    /// Containers with the same pid namespace see this one's first process while it still holds what is the host's
    /// (CVE-2016-9962); whoever is not dumpable cannot be looked into. Becoming the program ends that.
    fn hide_from_neighbours(&self) -> Result<(), Failure> {
        if !self.input.namespaces.containers_share_pids() {
            return Ok(());
        }
        nix::sys::prctl::set_dumpable(false)
            .map_err(|errno| Failure::create(format!("cannot hide the container's first process: {errno}")))
    }

    fn write_spec(&self, bundle: &Path, root: PathBuf) -> Result<(), Failure> {
        let at = |place: i32| Joined::Of(PathBuf::from(format!("/proc/self/fd/{place}")));
        let around = Surroundings {
            root,
            cgroup: self.cgroup.to_owned(),
            network: if self.input.network_namespace.is_some() { at(NETWORK_FD) } else { Joined::Hosts },
            pids: match &self.input.namespaces.pids {
                Pids::Own => Joined::New,
                Pids::Host => Joined::Hosts,
                Pids::Task(_) => at(PIDS_FD),
            },
            ipc: match &self.input.namespaces.ipc {
                Ipc::Own | Ipc::OwnWithoutShm => Joined::New,
                Ipc::Host => Joined::Hosts,
                Ipc::Task { .. } => at(IPC_FD),
            },
        };
        let spec = spec::runtime_spec(self.input.container, &around).map_err(|error| Failure::create(chain(&error)))?;
        let path = bundle.join("config.json");
        spec.save(&path).map_err(|error| Failure::create(format!("cannot write {}: {error}", path.display())))
    }
}

/// What the process is, once the image's users are known.
pub(crate) fn entry(plan: &ProcessPlan, root: BorrowedFd<'_>) -> Result<Entry, Failure> {
    let user = users::look_up(root, &plan.user).map_err(|error| Failure::start(chain(&error)))?;
    let mut environment = plan.environment.clone();
    enter::add_home(&mut environment, &user.home);
    let words = |words: &[String]| Entry::words(words).map_err(|error| Failure::create(error.to_string()));
    let filter = match (plan.filtered, seccomp::Architecture::native()) {
        (false, _) => None,
        (true, Some(architecture)) => Some(seccomp::default_filter(&plan.capabilities.names(), architecture)),
        (true, None) => return Err(Failure::create("there is no seccomp profile for this host's architecture")),
    };
    let init = plan.init.then(sealed_exe::own_executable).transpose();
    let init = init.map_err(|error| Failure::create(format!("cannot open our own binary for the init: {error}")))?;
    let label = plan.label.as_ref().map(Label::at_exec).transpose();
    Ok(Entry {
        program: Program {
            arguments: words(&plan.arguments)?,
            path: process::get(&environment, "PATH").unwrap_or(process::DEFAULT_PATH).to_owned(),
            environment: words(&environment)?,
        },
        init: init.map(Rc::new),
        label: label.map_err(|error| Failure::create(chain(&error)))?,
        working_directory: CString::new(plan.working_directory.as_str())
            .map_err(|error| Failure::create(error.to_string()))?,
        uid: user.uid,
        gid: user.gid,
        supplementary: user.supplementary,
        capabilities: plan.capabilities,
        filter,
        no_new_privileges: plan.no_new_privileges,
        limits: plan.limits.clone(),
    })
}

/// A mount namespace of the launcher's own, in which nothing comes from or goes to the host's any more.
fn own_mounts() -> Result<(), Failure> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| Failure::create(format!("cannot unshare the mounts: {errno}")))?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .map_err(|errno| Failure::create(format!("cannot make the mounts private: {errno}")))
}

/// Gives libcontainer a cgroup to write its process's number to that is none. Where there is a v2 tree, the file that
/// it would write is covered by one of ours: that costs it two system calls. Where there is none, it finds a v1 host
/// without controllers, after looking for each of them.
fn hide_cgroups(cgroups: &Cgroups, path: &Path) -> Result<(), Failure> {
    const CGROUPS: &str = "/sys/fs/cgroup";
    let failed = |errno| Failure::create(format!("cannot hide {CGROUPS} from libcontainer: {errno}"));
    let cover = |target: &Path| mount(Some("none"), target, Some("tmpfs"), MsFlags::empty(), Some("mode=755,size=64k"));
    let Some(v2) = &cgroups.v2 else {
        return umount2(CGROUPS, MntFlags::MNT_DETACH).and_then(|()| cover(Path::new(CGROUPS))).map_err(failed);
    };
    if !cgroups.v1.is_empty() {
        // A bind: a new mount of the cgroup2 type waits for a grace period.
        mount(Some(&v2.mount), CGROUPS, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(failed)?;
    }
    let own = Path::new(CGROUPS).join(path.strip_prefix("/").unwrap_or(path));
    cover(&own).map_err(failed)?;
    let procs = own.join("cgroup.procs");
    fs::write(&procs, "").map_err(|error| Failure::create(format!("cannot make {}: {error}", procs.display())))
}

/// Runs in the container's first process, on its root, with all privileges still there.
#[derive(Clone)]
struct LastSteps {
    entry: Rc<Entry>,
    report: Rc<report::Sender>,
    mounts: Rc<Mounts>,
    cgroup_tree: Option<Rc<OwnedFd>>,
    volumes: Rc<InsideMounts>,
    /// As the launcher's.
    terminal: Option<RawFd>,
}

impl Executor for LastSteps {
    /// Called before the launcher is told that the container is created: from here on a process that waits for its
    /// release ends with the launcher.
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        fork::die_with_parent();
        Ok(())
    }

    /// libcontainer would put them into a map and lose their order.
    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }

    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let mounted = self.mounts.mount_inside(self.cgroup_tree.as_ref().map(|tree| tree.as_fd()));
        let mounted = mounted.map_err(EntryError::Mount);
        let error = match mounted.and_then(|()| self.volumes.mount_all().map_err(EntryError::Volume)) {
            Err(error) => error,
            Ok(()) => match self.take_terminal().and_then(|()| self.entry.execute(self.report.as_fd())) {
                Ok(never) => match never {},
                Err(error) => error,
            },
        };
        let failure = Failure { created: true, exit_code: Some(error.exit_code()), text: chain(&error) };
        self.report.send(&Progress::Failed(failure));
        Err(ExecutorError::Other(error.to_string()))
    }
}

impl LastSteps {
    /// A terminal of the container's own devpts, as its controlling terminal, standard streams and console.
    fn take_terminal(&self) -> Result<(), EntryError> {
        let Some(number) = self.terminal else { return Ok(()) };
        // It leads a session already where libcontainer has made one for it.
        let _ = nix::unistd::setsid();
        // SAFETY: the descriptor was placed there by the launcher, and no object owns it.
        let socket = unsafe { BorrowedFd::borrow_raw(number) };
        terminal::open_and_send(socket, self.entry.uid, None)
            .and_then(|()| terminal::make_console())
            .map_err(|source| EntryError::Step { step: "open a terminal in the container", source })
    }
}

struct Stages {
    clock: Instant,
    stages_us: Vec<(String, u64)>,
}

impl Stages {
    fn mark(&mut self, stage: &str) {
        self.stages_us.push((stage.to_owned(), elapsed_us(self.clock)));
        self.clock = Instant::now();
    }
}

fn elapsed_us(clock: Instant) -> u64 {
    u64::try_from(clock.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// An error with its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

/// Removes what a container left: processes, cgroup, scratch directory, writable layer. Carries on after an error.
///
/// # Errors
/// Every step that failed.
pub fn remove(task: &TaskSpec, container: &ContainerSpec, cgroups: &Cgroups) -> Vec<String> {
    let mut errors: Vec<String> =
        cgroups.remove_container(task, &container.definition.name).iter().map(|error| chain(error)).collect();
    for directory in [bundle_of(task, container), state_of(task, container)] {
        if let Err(error) = task_dir::remove_tree(&directory) {
            errors.push(format!("cannot remove {}: {error}", directory.display()));
        }
    }
    errors
}
