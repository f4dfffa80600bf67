//! T1 to T11: the traps of libcontainer 0.7.0 used as a library, each closed and each shown closed.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::image::{self, Image};
use crate::support::{Host, Running, cgroups, definition, process, wait_for};

/// Every process in the cgroups of a task's containers, once.
pub(crate) fn container_processes(host: &Host, task: &str) -> Vec<i32> {
    processes_below(host, &format!("{task}/"))
}

/// Every process in the cgroups of a test's host whose paths begin like this, once.
pub(crate) fn processes_below(host: &Host, beginning: &str) -> Vec<i32> {
    let beginning = format!("{}/{beginning}", host.places.cgroup_parent);
    let mut found: Vec<i32> = cgroups::below(&host.places.cgroup_parent)
        .iter()
        .filter(|path| path.to_string_lossy().contains(&beginning))
        .flat_map(|path| cgroups::processes(path))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// The same once they are so many: what `run --detach` started may not be there yet, and who started it may still be on
/// its way out.
pub(crate) fn so_many_processes(host: &Host, task: &str, many: usize) -> Vec<i32> {
    wait_for(&format!("{many} processes in the containers"), || {
        Some(container_processes(host, task)).filter(|found| found.len() == many)
    })
}

/// The supervisor of a task: the one process in its own cgroup.
pub(crate) fn supervisor(host: &Host, task: &str) -> i32 {
    let leaf = format!("supervisor-{task}");
    let mut found: Vec<i32> = cgroups::below(&host.places.cgroup_parent)
        .iter()
        .filter(|path| path.ends_with(&leaf))
        .flat_map(|path| cgroups::processes(path))
        .collect();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), 1, "one supervisor of {task}: {found:?}");
    found[0]
}

fn sum(path: &std::path::Path) -> String {
    image::digest(&fs::read(path).expect("the program can be read"))
}

#[test]
fn t01_the_program_cannot_be_written_through_proc_self_exe() {
    let host = Host::with_own_program();
    let before = sum(host.program());
    host.import_probe();
    // The watcher is process 1 and sees every process that the runtime brings in; the second is the image's own trick.
    let task = host.detach(&definition::probe(&["watch-exe", "10000"]), &[]);
    wait_for("the watcher", || host.coracle(["logs", &task]).stdout.contains("watching").then_some(()));
    for command in
        [&["/proc/self/exe", "--version"][..], &["/bin/probe", "exit", "0"], &["/proc/self/exe", "hello", "--help"]]
    {
        for _ in 0..4 {
            host.coracle([&["exec", task.as_str(), "--"][..], command].concat());
        }
    }
    let logs = wait_for("the watcher's report", || {
        let logs = host.coracle(["logs", &task]).stdout;
        logs.contains("\"opened\"").then_some(logs)
    });
    let start = logs.find('{').expect("a report");
    let report: Value = serde_json::from_str(logs[start..].lines().next().expect("a line")).expect("a report");
    assert_eq!(report["opened"], 0, "the program could be opened for writing: {report}");
    assert!(!report["executables"].as_array().expect("a list").is_empty(), "nothing was seen to attack: {report}");
    assert_eq!(report["on_writable_mounts"], 0, "only ETXTBSY protects the program, while it runs: {report}");
    assert_eq!(sum(host.program()), before, "the program changed");
    host.coracle(["rm", "--force", &task]);
    host.finish();
}

#[test]
fn t01_an_image_whose_command_is_proc_self_exe_changes_nothing() {
    let host = Host::with_own_program();
    let before = sum(host.program());
    host.import_probe();
    for _ in 0..3 {
        let members = json!({ "entryPoint": ["/proc/self/exe"], "command": ["--version"] });
        host.run(&definition::probe_with(&[], &members), &[]);
    }
    assert_eq!(sum(host.program()), before, "the program changed");
    host.finish();
}

#[test]
fn t02_images_whose_folders_are_links_do_not_reach_the_host() {
    let host = Host::new();
    let guard = host.guard.directory.display().to_string();
    let upwards = format!("{}{guard}", "../".repeat(16));
    for (number, (folder, target)) in [
        ("dev", guard.as_str()),
        ("dev", &upwards),
        ("dev", "/proc"),
        ("dev", "/run"),
        ("proc", &guard),
        ("proc", "/x"),
        ("sys", &guard),
        ("sys", &upwards),
        ("etc", &guard),
        ("etc", &upwards),
        ("dev/pts", &guard),
        ("dev/shm", &guard),
        ("dev/mqueue", &guard),
        ("etc/hosts", &format!("{guard}/hosts")),
        ("etc/resolv.conf", &format!("{guard}/resolv.conf")),
        ("sys/fs", &guard),
        ("sys/fs/cgroup", &guard),
        ("proc/self", &guard),
    ]
    .iter()
    .enumerate()
    {
        // Once with the link's target existing inside the image too: then the link is not even dangling.
        for inside in [false, true] {
            let mut layer = image::base_layer();
            let mut made = PathBuf::new();
            for part in std::path::Path::new(folder).parent().into_iter().flat_map(|parent| parent.components()) {
                made.push(part);
                layer = layer.directory(&format!("{}/", made.display()));
            }
            if inside {
                layer = layer.directory(&format!("{}/", guard.trim_start_matches('/')));
            }
            let name = format!("linked-{number}-{inside}:latest");
            host.import(&Image::of(vec![layer.symlink(folder, target).finish()]), &name).ok();
            let definition = definition::probe_with(&["exit", "7"], &json!({ "image": name }));
            let ended = host.run(&definition, &[]);
            // Refused with a reason, or run inside its own root: both are safe.
            assert!(ended.code() == 7 || !ended.stderr.is_empty(), "{folder} -> {target}: {}", ended.whole());
            assert!(!ended.stderr.contains("panicked"), "{folder} -> {target}: {}", ended.whole());
            let changes = host.guard.changes();
            assert!(changes.is_empty(), "{folder} -> {target} changed the host: {changes:?}\n{}", ended.whole());
        }
    }
    host.finish();
}

/// What the device filter of a default container lets through.
fn opened_devices(host: &Host) -> BTreeMap<String, i64> {
    let report = host.probe(&["devices"]);
    let passed = report["passed"].as_object().expect("device to error number");
    passed.iter().map(|(device, error)| (device.clone(), error.as_i64().unwrap_or_default())).collect()
}

/// null, zero, full, random, urandom, tty; console and ptmx, and the terminals of /dev/pts (136 to 143). And 0:0, which
/// is no device but overlayfs's whiteout: the kernel asks no filter about it.
fn is_dockers(device: &str) -> bool {
    const NODES: [&str; 9] = ["c 0:0", "c 1:3", "c 1:5", "c 1:7", "c 1:8", "c 1:9", "c 5:0", "c 5:1", "c 5:2"];
    let terminal = (136..=143).any(|major| device.starts_with(&format!("c {major}:")));
    NODES.contains(&device) || terminal
}

#[test]
fn t03_the_device_filter_denies_what_is_not_listed() {
    let host = Host::new();
    let opened = opened_devices(&host);
    for wanted in ["c 1:3", "c 1:5", "c 1:7", "c 1:8", "c 1:9"] {
        assert_eq!(opened.get(wanted), Some(&0), "{wanted} opens: {opened:?}");
    }
    let foreign: Vec<&String> = opened.keys().filter(|device| !is_dockers(device)).collect();
    assert!(foreign.is_empty(), "devices of the host can be opened: {foreign:?}");
    host.finish();
}

#[test]
fn t04_seccomp_is_on_for_every_container_and_every_exec() {
    let host = Host::new();
    host.import_probe();
    let containers = [
        definition::container("one", &["wait"], &json!({})),
        definition::container("two", &["wait"], &json!({ "user": "1000", "essential": false })),
        definition::container("three", &["wait"], &json!({ "dockerSecurityOptions": ["no-new-privileges"] })),
    ];
    let task = host.detach(&definition::task(&containers), &[]);
    let execs: Vec<Running> = ["one", "two", "three"]
        .map(|name| host.start(["exec", task.as_str(), name, "--", "/bin/probe", "wait"]))
        .into();
    for exec in &execs {
        exec.wait_for_output("waiting");
    }
    for pid in so_many_processes(&host, &task, 6) {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        assert!(status.contains("\nSeccomp:\t2\n"), "no seccomp filter on {pid}:\n{status}");
    }
    host.coracle(["stop", &task]).ok();
    for exec in execs {
        exec.wait();
    }
    host.coracle(["rm", &task]).ok();
    host.finish();
}

#[test]
fn t05_the_tunnel_device_is_not_among_the_defaults() {
    let host = Host::new();
    let opened = opened_devices(&host);
    assert!(!opened.contains_key("c 10:200"), "{opened:?}");
    host.finish();
}

/// Id of this process's session keyring, which `coracle` inherits; made first where there is none.
fn own_keyring() -> i64 {
    const KEYCTL_GET_KEYRING_ID: i64 = 0;
    const KEY_SPEC_SESSION_KEYRING: i64 = -3;
    // SAFETY: integer arguments only.
    unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 1) }
}

/// The default filter refuses keyctl, so privileged containers tell.
#[test]
fn t06_each_container_has_a_session_keyring_of_its_own() {
    const EPERM: i64 = 1;
    let host = Host::new();
    let ours = own_keyring();
    assert!(ours > 0, "this kernel has keyrings");
    assert_eq!(host.probe(&["keyring"])["errno"], EPERM);
    let mut ids = vec![ours];
    for _ in 0..2 {
        let told = host.probe_with(&["keyring"], &json!({ "privileged": true }));
        // ENOKEY would do too: no session keyring at all, thus not ours.
        if let Some(id) = told["id"].as_i64() {
            assert!(!ids.contains(&id), "keyring {id} is shared: {ids:?}");
            ids.push(id);
        }
    }
    let task = host.detach(&definition::probe_with(&["wait"], &json!({ "privileged": true })), &[]);
    let told = host.coracle(["exec", &task, "--", "/bin/probe", "keyring"]).ok().json();
    assert_ne!(told["id"], ours, "an exec shares the caller's keyring");
    host.coracle(["stop", &task]).ok();
    host.coracle(["rm", &task]).ok();
    host.finish();
}

/// Lets `command` inherit descriptors 3 to 12 without close-on-exec, all of them the host's root directory, and the
/// environment that made libcontainer hand them on.
fn with_inherited_descriptors(command: &mut std::process::Command) {
    let root = fs::File::open("/").expect("there is a root directory");
    let inherit = move || {
        for number in 3..=12 {
            // SAFETY: dup2 with integers; a descriptor that dup2 made has no close-on-exec.
            if unsafe { libc::dup2(root.as_raw_fd(), number) } < 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    command.env("LISTEN_FDS", "20").env("LISTEN_FDNAMES", "a:b").env("NOTIFY_SOCKET", "/run/systemd/notify");
    // SAFETY: only dup2 is called between fork and exec.
    unsafe { command.pre_exec(inherit) };
}

#[test]
fn t07_no_descriptor_and_no_listen_variable_is_inherited() {
    let host = Host::new();
    host.import_probe();
    let check = |report: &Value| {
        let open: Vec<&String> = report["descriptors"].as_object().expect("descriptors").keys().collect();
        assert_eq!(open, ["0", "1", "2"], "{}", report["descriptors"]);
        let environment = report["environment"].as_object().expect("variables");
        for name in environment.keys() {
            assert!(!name.starts_with("LISTEN_") && name != "NOTIFY_SOCKET", "{name} is inherited");
            assert!(!name.starts_with("CORACLE_"), "{name} is inherited");
        }
    };
    let file = host.file("task.json", definition::probe(&["report"]).to_string());
    let mut run = host.command(["run"]);
    run.arg(file);
    with_inherited_descriptors(&mut run);
    check(&Running::start(&mut run).wait().ok().report("main"));
    let task = host.detach(&definition::probe(&["wait"]), &[]);
    let mut exec = host.command(["exec", &task, "--", "/bin/probe", "report"]);
    with_inherited_descriptors(&mut exec);
    check(&Running::start(&mut exec).wait().ok().json());
    host.coracle(["stop", &task]).ok();
    host.coracle(["rm", &task]).ok();
    host.finish();
}

/// The container's root is the host's: what it could open again through /proc/self/fd it could also change.
#[test]
fn what_exec_itself_has_open_stays_outside() {
    let host = Host::new();
    host.import_probe();
    let task = host.detach(&definition::probe(&["wait"]), &[]);
    let secret = host.file("secret", "of the host");
    let mut exec = host.command(["exec", "-i", &task, "--", "/bin/probe", "report"]);
    exec.stdin(fs::File::open(secret).expect("just written"));
    let report = Running::start(&mut exec).wait().ok().json();
    for number in ["0", "1", "2"] {
        let target = report["descriptors"][number].to_string();
        assert!(target.contains("pipe:["), "descriptor {number} is {target}");
    }
    host.coracle(["rm", "--force", &task]).ok();
    host.finish();
}

/// What `run` and its supervisor are, apart from what they mean to be.
fn nature(pid: i32) -> BTreeMap<&'static str, String> {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default().trim().to_owned();
    let status = read("status");
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    let namespace = |name: &str| {
        fs::read_link(format!("/proc/{pid}/ns/{name}")).map(|link| link.display().to_string()).unwrap_or_default()
    };
    BTreeMap::from([
        ("oom_score_adj", read("oom_score_adj")),
        ("umask", field("Umask:")),
        ("effective capabilities", field("CapEff:")),
        ("ambient capabilities", field("CapAmb:")),
        ("no new privileges", field("NoNewPrivs:")),
        ("seccomp", field("Seccomp:")),
        ("user", field("Uid:")),
        ("groups", field("Groups:")),
        ("pid namespace", namespace("pid")),
        ("pid namespace of children", namespace("pid_for_children")),
        ("network namespace", namespace("net")),
        ("ipc namespace", namespace("ipc")),
        ("uts namespace", namespace("uts")),
        ("user namespace", namespace("user")),
        ("core file limit", read("limits").lines().filter(|line| line.contains("core")).collect()),
    ])
}

#[test]
fn t08_nothing_of_the_caller_is_changed() {
    let host = Host::new();
    host.import_probe();
    // What any process started in the same way is like.
    let mut like = std::process::Command::new(crate::support::probe());
    like.arg("forever");
    host.place(&mut like);
    let like = Running::start(&mut like);
    like.wait_for_output("waiting");
    let expected = nature(like.pid());
    let run = host.start_run(&definition::probe(&["wait"]), &["--name", "calm"]);
    run.wait_for_output("waiting");
    assert_eq!(nature(run.pid()), expected, "the driver");
    let task = the_only_task(&host);
    let mut supervisor = nature(supervisor(&host, &task));
    // The supervisor may protect itself from the out-of-memory killer; never the other way round.
    let score: i32 = supervisor["oom_score_adj"].parse().expect("a number");
    assert!(
        score <= expected["oom_score_adj"].parse().expect("a number"),
        "the supervisor is an easier victim: {score}"
    );
    supervisor.insert("oom_score_adj", expected["oom_score_adj"].clone());
    supervisor.insert("umask", expected["umask"].clone());
    assert_eq!(supervisor, expected, "the supervisor");
    let inside = container_processes(&host, &task);
    let score = fs::read_to_string(format!("/proc/{}/oom_score_adj", inside[0])).expect("it runs");
    assert_eq!(score.trim(), expected["oom_score_adj"], "a container's own score");
    host.coracle(["stop", &task]).ok();
    run.wait();
    drop(like);
    host.finish();
}

/// The id of the one task that `ps` shows.
pub(crate) fn the_only_task(host: &Host) -> String {
    let tasks = fs::read_dir(host.places.data_dir().join("tasks")).expect("tasks have directories");
    let names: Vec<String> = tasks
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| definition::is_task_id(name))
        .collect();
    assert_eq!(names.len(), 1, "{names:?}");
    names[0].clone()
}

/// Every file of that name below a directory.
fn find(folder: &std::path::Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(_) if entry.file_name() == name => found.push(entry.path()),
                Ok(_) | Err(_) => {}
            }
        }
    }
    found
}

#[test]
fn t09_a_damaged_state_file_harms_nobody() {
    let host = Host::new();
    host.import_probe();
    for damage in ["", "{", r#"{"pid":1}"#] {
        let task = host.detach(&definition::probe(&["wait", "3"]), &[]);
        // Only then does it answer the stop signal.
        wait_for("the probe", || host.coracle(["logs", &task]).stdout.contains("waiting").then_some(()));
        for file in find(&host.places.run_dir(), "state.json") {
            fs::write(file, damage).expect("tests run as root");
        }
        assert_eq!(definition::the_container(&host.inspect(&task), "main")["lastStatus"], "RUNNING");
        host.coracle(["stop", &task]).ok();
        let stopped = host.inspect(&task);
        assert_eq!(definition::the_container(&stopped, "main")["exitCode"], 3);
        host.coracle(["rm", &task]).ok();
    }
    host.finish();
}

/// A status that names a process which is somebody else's by now: the number is right, the start time is not.
#[test]
fn t09_a_recycled_process_number_is_not_killed() {
    let host = Host::new();
    host.import_probe();
    let task = host.detach(&definition::probe(&["wait"]), &[]);
    let bystander = Running::start(std::process::Command::new(crate::support::probe()).arg("wait"));
    bystander.wait_for_output("waiting");
    process::kill(supervisor(&host, &task));
    let status_file = host.places.data_dir().join("tasks").join(&task).join("status.json");
    let mut status: Value = serde_json::from_slice(&fs::read(&status_file).expect("a status")).expect("JSON");
    let pid = json!(bystander.pid());
    status["supervisor"]["pid"] = pid.clone();
    for container in status["containers"].as_array_mut().expect("containers") {
        if container["process"].is_object() {
            container["process"]["pid"] = pid.clone();
        }
    }
    fs::write(&status_file, status.to_string()).expect("tests run as root");
    let listed = host.coracle(["ps", "--all"]).ok();
    assert!(!listed.stdout.contains("RUNNING"), "a task without its supervisor runs: {}", listed.whole());
    host.coracle(["stop", &task]);
    host.coracle(["rm", "--force", &task]);
    // It ends by the signal that is meant for it, and said nothing of another one.
    bystander.signal(libc::SIGINT);
    bystander.wait().expect_code(libc::SIGINT);
    host.finish();
}

#[test]
fn t10_a_killed_supervisor_leaves_nothing_that_ps_does_not_clean() {
    let host = Host::new();
    host.import_probe();
    let task = host.detach(&definition::probe(&["ignore-sigterm"]), &[]);
    process::kill(supervisor(&host, &task));
    host.coracle(["ps"]).ok();
    host.audit();
    let stopped = host.inspect(&task);
    assert_eq!(stopped["lastStatus"], "STOPPED");
    // Nobody saw the container end: its exit code is unknown, never 0.
    assert_eq!(definition::the_container(&stopped, "main").get("exitCode"), None);
    host.coracle(["rm", &task]).ok();
    host.finish();
}

#[test]
fn t11_no_new_privileges_false_starts_with_seccomp() {
    let host = Host::new();
    host.import_probe();
    for options in [json!([]), json!(["no-new-privileges:false"]), json!(["no-new-privileges"])] {
        let definition = definition::probe_with(&["report"], &json!({ "dockerSecurityOptions": options }));
        let ended = host.run(&definition, &[]);
        // The second form may be refused by name; what starts has its filter.
        if ended.code() == 0 {
            assert_eq!(ended.report("main")["seccomp"], "2", "{options}");
        } else {
            assert_eq!(options, json!(["no-new-privileges:false"]), "{}", ended.whole());
        }
    }
    host.finish();
}
