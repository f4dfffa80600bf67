//! A pretend host for one test: its own network namespace, data and run directory and cgroup parent, so that tests
//! run side by side; and at its end the audit.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::audit::{self, Guard};
use super::netns::{Namespace, Neighbour};
use super::process::{Finished, Running};
use super::{PATIENCE, cgroups, definition, image, unique, wait_for};

/// The bridge's documented default name: the network namespace is the test's own, so it needs no other.
pub(crate) const BRIDGE: &str = "coracle0";

/// It has the subnets' gateway addresses, and stays as the bridge does.
pub(crate) const GATEWAYS: &str = "coracle-eni";

/// After the last task's end, how long its supervisor may still be busy with going away.
const SETTLING: Duration = PATIENCE;

/// Where things are; what the audit needs to know.
pub(crate) struct Places {
    pub(crate) root: PathBuf,
    pub(crate) cgroup_parent: String,
}

impl Places {
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.root.join("data")
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.root.join("run")
    }
}

pub(crate) struct Host {
    pub(crate) places: Places,
    pub(crate) namespace: Namespace,
    pub(crate) guard: Guard,
    program: PathBuf,
    audited: bool,
}

impl Host {
    pub(crate) fn new() -> Self {
        let id = unique();
        let root = std::env::temp_dir().join(format!("coracle-test-{id}"));
        fs::create_dir_all(root.join("files")).expect("a temporary directory can be made");
        let guard = Guard::new(root.join("guard"));
        let places = Places { root, cgroup_parent: format!("coracle-test-{id}") };
        Self { places, namespace: Namespace::new(), guard, program: super::coracle(), audited: false }
    }

    /// The same host with a copy of the program: for attacks on the program itself.
    pub(crate) fn with_own_program() -> Self {
        let mut host = Self::new();
        let copy = host.places.root.join("coracle");
        fs::copy(&host.program, &copy).expect("the program can be copied");
        host.program = copy;
        host
    }

    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// `coracle ARGUMENTS` on this host, not yet started.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments);
        self.place(&mut command);
        command
    }

    /// Makes any command one of this host's.
    pub(crate) fn place(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", &self.places.root)
            .env("CORACLE_DATA_DIR", self.places.data_dir())
            .env("CORACLE_RUN_DIR", self.places.run_dir())
            .env("CORACLE_CGROUP_PARENT", &self.places.cgroup_parent)
            .current_dir(&self.places.root)
            .stdin(Stdio::null());
        let namespace = self.namespace.descriptor();
        let enter = move || {
            // SAFETY: one system call with integers, in the child between fork and exec.
            if unsafe { libc::setns(namespace, libc::CLONE_NEWNET) } == 0 {
                Ok(())
            } else {
                Err(std::io::Error::last_os_error())
            }
        };
        // SAFETY: `enter` makes one system call and allocates nothing.
        unsafe { command.pre_exec(enter) };
    }

    pub(crate) fn start<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Running {
        Running::start(&mut self.command(arguments))
    }

    /// Runs `coracle ARGUMENTS` to its end.
    pub(crate) fn coracle<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Finished {
        self.start(arguments).wait()
    }

    /// `coracle run` of a task definition, to its end, with further arguments.
    pub(crate) fn run(&self, definition: &Value, arguments: &[&str]) -> Finished {
        self.start_run(definition, arguments).wait()
    }

    pub(crate) fn start_run(&self, definition: &Value, arguments: &[&str]) -> Running {
        let file = self.file("task.json", definition.to_string());
        self.start(["run"].iter().map(OsStr::new).chain(arguments.iter().map(OsStr::new)).chain([file.as_os_str()]))
    }

    /// `coracle run --detach`: the new task's id.
    #[track_caller]
    pub(crate) fn detach(&self, definition: &Value, arguments: &[&str]) -> String {
        let started = self.run(definition, &[&["--detach"], arguments].concat()).ok();
        let id = started.line().lines().last().unwrap_or_default().to_owned();
        assert!(definition::is_task_id(&id), "--detach prints the task's id: {}", started.whole());
        id
    }

    /// One run of the probe in network mode none: what it printed as JSON.
    #[track_caller]
    pub(crate) fn probe(&self, command: &[&str]) -> Value {
        self.probe_with(command, &Value::Null)
    }

    /// The same, with members of the container definition added.
    #[track_caller]
    pub(crate) fn probe_with(&self, command: &[&str], members: &Value) -> Value {
        self.import_probe();
        let definition = definition::task(&[definition::container("main", command, members)]);
        self.run(&definition, &[]).ok().report("main")
    }

    /// A new file on this host, with a name of its own each time.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let folder = self.places.root.join("files").join(unique());
        fs::create_dir(&folder).expect("a test may write to its own directory");
        let path = folder.join(name);
        fs::write(&path, content).expect("a test may write to its own directory");
        path
    }

    /// Puts the probe's image, `probe:latest`, into this host's store.
    pub(crate) fn import_probe(&self) {
        self.import(&image::probe_image(), image::PROBE).ok();
    }

    pub(crate) fn import(&self, image: &image::Image, name: &str) -> Finished {
        let archive = self.file("image.tar", image.oci_archive(name));
        self.coracle([OsStr::new("image"), OsStr::new("import"), archive.as_os_str()])
    }

    /// `coracle inspect`: the task in DescribeTasks' shape.
    #[track_caller]
    pub(crate) fn inspect(&self, task: &str) -> Value {
        let shown = self.coracle(["inspect", task]).ok().json();
        definition::the_task(&shown)
    }

    /// Whether the probe of a task of this host's, by its id or its ARN, has said that it waits.
    pub(crate) fn waits(&self, task: &str) -> bool {
        const WAITING: &[u8] = b"waiting";
        let id = task.rsplit('/').next().expect("an ARN has parts");
        let logs = fs::read_dir(self.places.data_dir().join("tasks").join(id).join("logs"));
        let mut segments = logs.into_iter().flatten().flatten().filter_map(|entry| fs::read(entry.path()).ok());
        segments.any(|segment| segment.windows(WAITING.len()).any(|bytes| bytes == WAITING))
    }

    /// RUNNING comes before the container's first word, and a first process that has not said what it does about SIGTERM
    /// does not get it.
    #[track_caller]
    pub(crate) fn wait_until_it_waits(&self, task: &str) {
        wait_for("the container to wait", || self.waits(task).then_some(()));
    }

    pub(crate) fn neighbour(&self) -> Neighbour {
        Neighbour::of(&self.namespace)
    }

    /// Waits until everything is gone, and fails the test for what is not.
    #[track_caller]
    pub(crate) fn finish(mut self) {
        self.audited = true;
        self.audit();
    }

    /// What is left of ended tasks when supervisors had their time to go.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let end = Instant::now() + SETTLING;
        loop {
            let left = audit::leftovers(&self.places, &self.namespace);
            if left.is_empty() || Instant::now() > end {
                return left;
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    #[track_caller]
    pub(crate) fn audit(&self) {
        let left = self.leftovers();
        assert!(left.is_empty(), "left behind:\n  {}", left.join("\n  "));
        let changes = self.guard.changes();
        assert!(changes.is_empty(), "outside the containers changed:\n  {}", changes.join("\n  "));
    }

    /// Takes away whatever a failed test left, so that it disturbs no other.
    fn clean(&self) {
        for pid in audit::processes(&self.places, &self.namespace) {
            // SAFETY: the process was found in this test's own cgroups or namespace a moment ago.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        let end = Instant::now() + SETTLING;
        while !audit::processes(&self.places, &self.namespace).is_empty() && Instant::now() < end {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        for cgroup in cgroups::below(&self.places.cgroup_parent) {
            let _ = fs::remove_dir(cgroup);
        }
        let _ = fs::remove_dir_all(&self.places.root);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let unaudited = !self.audited && !std::thread::panicking();
        let leftovers = if unaudited { audit::leftovers(&self.places, &self.namespace) } else { Vec::new() };
        self.clean();
        assert!(!unaudited, "the test must end with Host::finish; left behind: {leftovers:?}");
    }
}
