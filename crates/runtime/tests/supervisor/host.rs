//! A pretend host for one test of supervisors: own directories, own cgroup, an image made of busybox, and a look
//! afterwards that nothing of the tasks is left.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use agent_protocol::task_spec::{ContainerNetwork, FORMAT, ImageConfig, NetworkNamespace, Places, ResolvedImage};
use agent_protocol::{ContainerSpec, ContainerStatus, TaskSpec, TaskStatus};
use ecs::task::LastStatus;
use ecs::task_definition::NetworkMode;
use ecs::{ContainerName, TaskId, Timestamp};
use runtime::cgroup::Cgroups;
use runtime::logs::{self, ReadOptions, Stream};
use runtime::task_dir::{self, Roots};
use runtime::{client, status_file};

const APPLETS: [&str; 14] =
    ["sh", "sleep", "cat", "echo", "true", "false", "kill", "dd", "yes", "head", "printf", "seq", "tty", "stty"];

static NUMBER: AtomicU32 = AtomicU32::new(0);

pub(crate) struct Host {
    pub(crate) roots: Roots,
    _directory: tempfile::TempDir,
    layer: PathBuf,
    number: u32,
}

impl Host {
    pub(crate) fn new() -> Host {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = tempfile::Builder::new().prefix("sv").tempdir().expect("a directory");
        let (data, run) = (directory.path().join("data"), directory.path().join("run"));
        let layer = directory.path().join("layer");
        make_layer(&layer);
        let cgroup_parent = PathBuf::from(format!("/coracle-test-{}-{number}", std::process::id()));
        Host { roots: Roots { data, run, cgroup_parent }, _directory: directory, layer, number }
    }

    pub(crate) fn id(&self, serial: u8) -> TaskId {
        let mut bytes = [serial; 16];
        bytes[..4].copy_from_slice(&self.number.to_be_bytes());
        bytes[4..8].copy_from_slice(&std::process::id().to_be_bytes());
        TaskId::from_bytes(bytes)
    }

    /// A task of containers given as members of a container definition; `name` and `image` may be left out of one.
    pub(crate) fn task(&self, serial: u8, containers: &[serde_json::Value]) -> TaskSpec {
        let id = self.id(serial);
        TaskSpec {
            format: FORMAT,
            places: self.roots.places(&id),
            id,
            name: None,
            family: "test".to_owned(),
            revision: 1,
            cluster: "default".to_owned(),
            account_id: "000000000000".to_owned(),
            region: "us-east-1".to_owned(),
            group: "family:test".to_owned(),
            launch_type: "EXTERNAL".to_owned(),
            created_at: Timestamp::from_epoch_ms(1_700_000_000_000),
            network_mode: NetworkMode::Host,
            cpu: None,
            memory_mib: None,
            pids_limit: 256,
            pid_mode: None,
            ipc_mode: None,
            volumes: Vec::new(),
            ephemeral_storage_gib: None,
            containers: containers.iter().map(|members| self.container(members)).collect(),
            network_interface: None,
            service_sockets: Vec::new(),
            task_role_arn: None,
            credentials_id: None,
            tags: Vec::new(),
        }
    }

    /// One essential container `app` that runs a shell script.
    pub(crate) fn script(&self, serial: u8, script: &str) -> TaskSpec {
        self.task(serial, &[serde_json::json!({"name": "app", "command": ["sh", "-c", script]})])
    }

    fn container(&self, members: &serde_json::Value) -> ContainerSpec {
        let mut definition = serde_json::json!({"name": "app", "image": "busybox"});
        let members = members.as_object().expect("a definition is an object");
        definition.as_object_mut().expect("an object").extend(members.clone());
        ContainerSpec {
            definition: serde_json::from_value(definition).expect("a definition"),
            image: ResolvedImage {
                digest: format!("sha256:{}", "0".repeat(64)),
                layers: vec![self.layer.clone()],
                config: ImageConfig::default(),
            },
            network: ContainerNetwork {
                namespace: NetworkNamespace::Host,
                hostname: "test".to_owned(),
                hosts: "127.0.0.1 localhost\n".to_owned(),
                resolv_conf: String::new(),
                bindings: Vec::new(),
                ipv4_address: None,
                ipv6_address: None,
                dns_servers: Vec::new(),
            },
            runtime_id: "0".repeat(64),
            environment_from_files: Vec::new(),
            injected_environment: Vec::new(),
            binds: Vec::new(),
            metadata_file: None,
            link_environment: Vec::new(),
            devices: Vec::new(),
            gpu_ids: Vec::new(),
            default_ulimits: Vec::new(),
            endpoint_id: String::new(),
        }
    }

    /// Starts a task by a driver that ends at once.
    pub(crate) fn start(&self, task: &TaskSpec) {
        let output = self.drive("start", task);
        assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stderr), self.journal(task));
    }

    pub(crate) fn drive(&self, verb: &str, task: &TaskSpec) -> Output {
        self.begin(verb, task).wait_with_output().expect("the driver ends")
    }

    pub(crate) fn begin(&self, verb: &str, task: &TaskSpec) -> Child {
        self.begin_with(&mut Command::new(example()), verb, task)
    }

    /// Starts a task on a data directory with room for so little, in a mount namespace where only it sees that.
    pub(crate) fn start_on_small_disk(&self, size: &str, task: &TaskSpec) {
        let script = format!("mount -t tmpfs -o size={size} tmpfs $0 && exec \"$@\"");
        std::fs::create_dir_all(&self.roots.data).expect("a directory");
        let mut shell = Command::new("unshare");
        shell.args(["-m", "sh", "-c", &script]).arg(&self.roots.data).arg(example());
        let output = self.begin_with(&mut shell, "start", task).wait_with_output().expect("the driver ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn begin_with(&self, command: &mut Command, verb: &str, task: &TaskSpec) -> Child {
        let roots = [&self.roots.data, &self.roots.run, &self.roots.cgroup_parent];
        let mut driver = command
            .arg(verb)
            .args(roots)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the example is built with the tests");
        let json = serde_json::to_vec(task).expect("plain data");
        driver.stdin.take().expect("piped").write_all(&json).expect("the driver reads");
        driver
    }

    /// Waits until the task has stopped.
    pub(crate) fn stopped(&self, task: &TaskSpec) -> TaskStatus {
        if let Ok(client) = client::connect(&task.places) {
            let watch = client.watch().expect("watching is never refused");
            watch.for_each(|status| drop(status.expect("statuses only")));
        }
        // Its very last step, leaving its own cgroup, comes after the last status.
        wait_until("the supervisor ends", || !task_dir::supervised(&task.places.state).expect("readable"));
        let status = self.status(task);
        assert_eq!(status.last_status, LastStatus::Stopped, "{status:?}{}", self.journal(task));
        status
    }

    /// Waits until `wanted` holds of the task.
    pub(crate) fn until(&self, task: &TaskSpec, wanted: impl Fn(&TaskStatus) -> bool) -> TaskStatus {
        let watch = client::connect(&task.places).and_then(client::Client::watch).expect("a running task");
        let mut statuses = watch.map(|status| status.expect("statuses only"));
        statuses.find(|status| wanted(status)).unwrap_or_else(|| panic!("ended before{}", self.journal(task)))
    }

    pub(crate) fn run(&self, task: &TaskSpec) -> TaskStatus {
        self.start(task);
        self.stopped(task)
    }

    pub(crate) fn status(&self, task: &TaskSpec) -> TaskStatus {
        status_file::read(&task.places.state).expect("readable").expect("written")
    }

    /// What one stream of a container was, byte for byte.
    pub(crate) fn output(&self, task: &TaskSpec, container: &str, stream: Stream) -> Vec<u8> {
        let options = ReadOptions { containers: vec![name(container)], follow: true, ..ReadOptions::default() };
        let mut reader = logs::read(task, &options).expect("readable");
        let mut out = Vec::new();
        while let Some(record) = reader.next_record().expect("readable") {
            if record.stream == stream {
                out.extend_from_slice(record.bytes);
                out.extend(if record.partial { &b""[..] } else { b"\n" });
            }
        }
        out
    }

    pub(crate) fn text(&self, task: &TaskSpec, container: &str) -> String {
        String::from_utf8(self.output(task, container, Stream::Stdout)).expect("text")
    }

    /// Waits until a container has said this on its standard output.
    pub(crate) fn says(&self, task: &TaskSpec, container: &str, wanted: &str) {
        let options = ReadOptions { containers: vec![name(container)], follow: true, ..ReadOptions::default() };
        let mut reader = logs::read(task, &options).expect("readable");
        while let Some(record) = reader.next_record().expect("readable") {
            if record.bytes == wanted.as_bytes() {
                return;
            }
        }
        panic!("{container} never said {wanted:?}{}", self.journal(task));
    }

    /// What the supervisor noted, for the message of a test that fails.
    pub(crate) fn journal(&self, task: &TaskSpec) -> String {
        let journal = std::fs::read_to_string(task.places.state.join("supervisor.log")).unwrap_or_default();
        format!("\nsupervisor.log:\n{journal}")
    }

    /// Nothing of the task is left on the host but its state and logs.
    pub(crate) fn assert_gone(&self, places: &Places) {
        let cgroups = Cgroups::detect().expect("cgroups");
        assert!(!cgroups.exists(&places.cgroup), "{} is left", places.cgroup.display());
        // A process cannot remove the cgroup that it is in: its leaf goes a moment after the supervisor.
        wait_until("the supervisor's leaf is gone", || !cgroups.exists(&places.supervisor_cgroup));
        assert!(!places.run.exists(), "{} is left", places.run.display());
        assert!(!places.state.join("containers").exists(), "the containers' files are left");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("readable");
        let directory = places.state.to_str().expect("text");
        assert!(!mounts.contains(directory), "a mount is left below {directory}");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Ok(cgroups) = Cgroups::detect() {
            let errors = cgroups.remove(&self.roots.cgroup_parent);
            assert!(errors.is_empty() || std::thread::panicking(), "{errors:?}");
        }
    }
}

/// For what nobody tells of: looks until it is so, for as long as a slow machine may take.
pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let patience = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < patience, "waited in vain until {what}");
        std::thread::yield_now();
    }
}

pub(crate) fn name(name: &str) -> ContainerName {
    ContainerName::try_from(name.to_owned()).expect("a good name")
}

pub(crate) fn container<'a>(status: &'a TaskStatus, name: &str) -> &'a ContainerStatus {
    status.containers.iter().find(|container| container.name.as_str() == name).expect("of this task")
}

fn make_layer(layer: &Path) {
    for directory in ["bin", "etc", "dev", "proc", "sys", "tmp"] {
        std::fs::create_dir_all(layer.join(directory)).expect("a directory");
    }
    std::fs::copy("/bin/busybox", layer.join("bin/busybox")).expect("busybox-static is installed");
    for applet in APPLETS {
        symlink("busybox", layer.join("bin").join(applet)).expect("a link");
    }
    std::fs::write(layer.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("a file");
    std::fs::write(layer.join("etc/group"), "root:x:0:\n").expect("a file");
}

fn example() -> PathBuf {
    let tests = std::env::current_exe().expect("a path");
    let target = tests.parent().and_then(Path::parent).expect("target/<triple>/<profile>/deps");
    target.join("examples/supervisor")
}
