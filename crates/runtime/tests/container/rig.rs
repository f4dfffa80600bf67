//! One container of a test: an image made of busybox, a task around it, and the helper program that runs it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

const BUSYBOX: &str = "/bin/busybox";
const APPLETS: [&str; 16] = [
    "sh", "cat", "ls", "id", "sleep", "env", "true", "mknod", "grep", "head", "dd", "chmod", "mkdir", "ln", "wc",
    "tail",
];

/// A task with one container, which the test may still change.
pub(crate) struct Rig {
    directory: tempfile::TempDir,
    pub(crate) task: Value,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Rig {
    /// A container `app` of busybox that runs `script`.
    pub(crate) fn shell(script: &str) -> Self {
        assert!(Path::new(BUSYBOX).exists(), "these tests need busybox: apt-get install busybox-static");
        assert!(nix::unistd::geteuid().is_root(), "these tests make containers: run them as root");
        let directory = tempfile::tempdir().unwrap();
        let mut rig = Self { task: Value::Null, directory };
        let bin = rig.layer().join("bin");
        fs::create_dir_all(&bin).unwrap();
        fs::copy(BUSYBOX, bin.join("busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", bin.join(applet)).unwrap();
        }
        fs::create_dir_all(rig.path("state")).unwrap();
        fs::create_dir_all(rig.path("run")).unwrap();
        let cgroup = format!("/coracle-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        rig.task = json!({
            "format": 1, "id": "0123456789abcdef0123456789abcdef", "family": "test", "revision": 1, "cluster": "default",
            "account_id": "0", "region": "local", "group": "family:test", "launch_type": "EC2", "created_at": 1,
            "network_mode": "host", "pids_limit": 64,
            "containers": [{
                "definition": {"name": "app", "image": "busybox", "command": ["sh", "-c", script]},
                "image": {"digest": "sha256:0", "layers": [rig.layer()], "config": {}},
                "network": {"namespace": "host", "hostname": "host-of-test", "hosts": "127.0.0.1 localhost\n",
                            "resolv_conf": "nameserver 192.0.2.53\n"},
                "runtime_id": "0"
            }],
            "places": {"state": rig.path("state"), "run": rig.path("run"),
                       "cgroup": format!("{cgroup}/task"), "supervisor_cgroup": format!("{cgroup}/supervisor")}
        });
        rig
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The image's only layer.
    pub(crate) fn layer(&self) -> PathBuf {
        self.path("layer")
    }

    /// The container executes the helper itself, as an attacker would.
    pub(crate) fn own_executable(word: &str) -> Self {
        let mut rig = Self::shell("");
        rig.definition()["command"] = json!(["/proc/self/exe", word]);
        rig
    }

    /// The cgroup of the container, below each hierarchy's root.
    pub(crate) fn cgroup(&self) -> PathBuf {
        Path::new(self.task["places"]["cgroup"].as_str().unwrap()).join("app")
    }

    pub(crate) fn definition(&mut self) -> &mut Value {
        &mut self.task["containers"][0]["definition"]
    }

    pub(crate) fn start(&self) -> Running<'_> {
        self.start_with(|_| {})
    }

    /// `change` may set up the helper before it is executed.
    pub(crate) fn start_with(&self, change: impl FnOnce(&mut Command)) -> Running<'_> {
        let task = self.path("task.json");
        fs::write(&task, self.task.to_string()).unwrap();
        let tests = std::env::current_exe().unwrap();
        let helper = tests.ancestors().nth(2).unwrap().join("examples/one_container");
        let mut command = Command::new(helper);
        command.arg(&task).arg(self.path("output")).stdin(Stdio::piped()).stdout(Stdio::piped());
        change(&mut command);
        let mut helper = command.spawn().expect("cargo builds the helper with the tests");
        let input = helper.stdin.take().unwrap();
        let answers = BufReader::new(helper.stdout.take().unwrap());
        let mut running = Running { rig: self, helper, input, answers, first: Value::Null };
        running.first = running.answer();
        running
    }

    /// What the container has written.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(self.path("output")).unwrap_or_default()
    }

    /// Runs to the end: the exit code and the output.
    pub(crate) fn run(&self) -> (i64, String) {
        let end = self.start().finish();
        (end["exited"].as_i64().unwrap_or_else(|| panic!("{end}")), self.output())
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let parent = self.task["places"]["cgroup"].as_str().map(|path| Path::new(path).parent().unwrap().to_owned());
        let Some(parent) = parent else { return };
        for mount in
            fs::read_to_string("/proc/self/mountinfo").unwrap().lines().filter(|line| line.contains(" - cgroup"))
        {
            let mount = mount.split(' ').nth(4).unwrap();
            let directory = Path::new(mount).join(parent.strip_prefix("/").unwrap());
            for leaf in ["supervisor", "task", ""] {
                let _ = fs::remove_dir(directory.join(leaf));
            }
        }
    }
}

pub(crate) struct Running<'a> {
    rig: &'a Rig,
    helper: Child,
    input: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// `started` or `failed`.
    pub(crate) first: Value,
}

impl Running<'_> {
    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("the helper ended; output: {}", self.rig.output()))
    }

    pub(crate) fn ask(&mut self, request: &str) -> Value {
        writeln!(self.input, "{request}").unwrap();
        self.answer()
    }

    pub(crate) fn pid(&self) -> i32 {
        self.first["started"]["pid"].as_i64().unwrap_or_else(|| panic!("{}", self.first)) as i32
    }

    pub(crate) fn helper_pid(&self) -> u32 {
        self.helper.id()
    }

    /// Lines of /proc/PID/status.
    pub(crate) fn status(&self) -> String {
        fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap()
    }

    pub(crate) fn exec(&mut self, command: &[&str]) -> Value {
        self.ask(&json!({"container": "app", "command": command}).to_string())
    }

    pub(crate) fn kill(mut self) -> Value {
        self.ask("kill");
        self.finish()
    }

    /// Waits for the container's end, and asserts that nothing was left of it.
    pub(crate) fn finish(mut self) -> Value {
        let end = if self.first.get("failed").is_some() { self.first.clone() } else { self.ask("wait") };
        let removed = self.answer();
        assert_eq!(removed, json!({"removed": []}));
        assert!(self.helper.wait().unwrap().success());
        end
    }
}
