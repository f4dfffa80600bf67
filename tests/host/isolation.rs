//! What a container definition asks of the kernel beside the defaults: an init, users, limits, devices, file systems in
//! memory, security options.

use std::io::Write;
use std::os::unix::process::CommandExt;

use serde_json::{Value, json};

use crate::support::{Host, Running, definition, wait_for};

const EPERM: i64 = 1;
const ENXIO: i64 = 6;
const EROFS: i64 = 30;
const ETXTBSY: i64 = 26;
const ENOSPC: i64 = 28;
const MIB: i64 = 1 << 20;

fn init() -> Value {
    json!({ "linuxParameters": { "initProcessEnabled": true } })
}

/// The mount at this point: file system and options, of the mount and of the file system.
fn mount(report: &Value, point: &str) -> Option<(String, Vec<String>)> {
    let lines = report["mounts"].as_array().expect("mountinfo").iter().filter_map(Value::as_str);
    let mut found = lines.filter_map(|line| {
        let (place, source) = line.split_once(" - ")?;
        let place: Vec<&str> = place.split(' ').collect();
        let source: Vec<&str> = source.split(' ').collect();
        let options = place[5].split(',').chain(source[2].split(',')).map(str::to_owned).collect();
        (place[4] == point).then(|| (source[0].to_owned(), options))
    });
    found.next_back()
}

#[test]
fn an_init_is_process_one_and_reaps() {
    let host = Host::new();
    let report = host.probe_with(&["report"], &init());
    assert_eq!(report["processes"]["1"], "coracle-init", "{}", report["processes"]);
    assert_ne!(report["pid"], 1);
    let orphans = host.probe_with(&["orphans", "20"], &init());
    assert_eq!(
        (&orphans["made"], &orphans["left"], &orphans["parent"]),
        (&json!(20), &json!(0), &json!(1)),
        "{orphans}"
    );
    host.finish();
}

/// tini's rule: every signal but those about children and the terminal goes to the program.
#[test]
fn an_init_forwards_every_signal() {
    let host = Host::new();
    host.import_probe();
    let task = host.detach(&definition::probe_with(&["say-signals", "7"], &init()), &[]);
    let logs = host.start(["logs", "-f", &task]);
    logs.wait_for_output("waiting");
    let shown = host.inspect(&task);
    let init = shown["coracle"]["containers"]["main"]["process"]["pid"].as_i64().expect("it runs");
    let init = i32::try_from(init).expect("a process id");
    let kept = [libc::SIGKILL, libc::SIGSTOP, libc::SIGCHLD, libc::SIGTTIN, libc::SIGTTOU, libc::SIGTERM];
    for signal in (1..=31).filter(|signal| !kept.contains(signal)) {
        // SAFETY: the process is the container's first one, which runs until SIGTERM.
        unsafe { libc::kill(init, signal) };
        logs.wait_for_output(&format!("signal {signal} ."));
    }
    host.coracle(["stop", &task]).ok();
    let stopped = host.inspect(&task);
    assert_eq!(definition::the_container(&stopped, "main")["exitCode"], 7);
    logs.wait();
    host.coracle(["rm", &task]).ok();
    host.finish();
}

#[test]
fn an_init_ends_as_its_program_ends() {
    let host = Host::new();
    host.import_probe();
    for (command, code) in [(["exit", "5"], 5), (["kill-self", "9"], 137), (["kill-self", "15"], 143)] {
        host.run(&definition::probe_with(&command, &init()), &[]).expect_code(code);
    }
    // Whoever is left behind ends with it.
    host.run(&definition::probe_with(&["leave-behind", "3"], &init()), &[]).expect_code(3);
    host.finish();
}

/// As without an init: the shell's exit codes, and the reason in the same words.
#[test]
fn an_init_tells_why_a_program_does_not_start() {
    let host = Host::new();
    host.import_probe();
    for (entry, code) in [("/bin/nothing", 127), ("nothing", 127), ("/etc/passwd", 126), ("/bin", 126)] {
        let said = |mut members: Value| {
            members["entryPoint"] = json!([entry]);
            members["command"] = json!([]);
            let ended = host.run(&definition::probe_with(&[], &members), &["--output", "json"]).expect_code(code);
            let events = ended.json_lines();
            let last = events.last().expect("events");
            let container = definition::the_container(last.get("task").unwrap_or(last), "main");
            container["reason"].as_str().expect("a reason").to_owned()
        };
        assert_eq!(said(init()), said(json!({})), "{entry}");
    }
    host.finish();
}

#[test]
fn an_init_is_as_confined_as_its_program_and_cannot_be_written() {
    let host = Host::with_own_program();
    host.import_probe();
    let before = std::fs::read(host.program()).expect("the program is there");
    let looks = host.probe_with(&["paths", "/proc/1/exe"], &init());
    let errno = looks["/proc/1/exe"]["write_errno"].as_i64();
    assert!([Some(EROFS), Some(ETXTBSY)].contains(&errno), "{}", looks["/proc/1/exe"]["write_errno"]);
    let mut members = init();
    members["user"] = json!("ana");
    let task = host.detach(&definition::probe_with(&["wait"], &members), &[]);
    let shown = host.inspect(&task);
    let pid = &shown["coracle"]["containers"]["main"]["process"]["pid"];
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    for line in
        ["Seccomp:\t2", "CapEff:\t0000000000000000", "CapBnd:\t00000000a80425fb", "Uid:\t1000\t1000\t1000\t1000"]
    {
        assert!(status.contains(line), "{line} is not in the init's status:\n{status}");
    }
    host.coracle(["stop", &task]).ok();
    host.coracle(["rm", &task]).ok();
    assert!(std::fs::read(host.program()).expect("it is still there") == before);
    host.finish();
}

/// The program behind an init is in the terminal's foreground: whoever is not cannot read from it.
#[test]
fn an_init_gives_the_terminal_to_its_program() {
    let host = Host::new();
    host.import_probe();
    let mut members = init();
    members["interactive"] = json!(true);
    members["pseudoTerminal"] = json!(true);
    let file = host.file("task.json", definition::probe_with(&["terminal"], &members).to_string());
    let mut run = host.command(["run"]);
    run.arg(file).stdin(std::process::Stdio::piped());
    let mut run = Running::start(&mut run);
    run.wait_for_output("reading");
    run.stdin().write_all(b"typed\n").expect("it reads");
    let ended = run.wait().ok();
    for member in [r#""controlling":true"#, r#""line":"typed""#] {
        assert!(ended.stdout.contains(member), "{member}: {}", ended.whole());
    }
    host.finish();
}

#[test]
fn exec_needs_no_second_init() {
    let host = Host::new();
    host.import_probe();
    let task = host.detach(&definition::probe_with(&["wait"], &init()), &[]);
    let report = host.coracle(["exec", &task, "--", "/bin/probe", "report"]).ok().json();
    let names: Vec<&str> =
        report["processes"].as_object().expect("a list").values().filter_map(Value::as_str).collect();
    assert_eq!(names.iter().filter(|name| **name == "coracle-init").count(), 1, "{names:?}");
    host.coracle(["stop", &task]).ok();
    host.coracle(["rm", &task]).ok();
    host.finish();
}

/// `user, user:group, uid, uid:gid, user:gid, uid:group`: API_ContainerDefinition.
#[test]
fn a_user_has_six_forms() {
    let host = Host::new();
    for (user, uid, gid) in [
        ("ana", "1000", "1000"),
        ("ana:boat", "1000", "2000"),
        ("1000", "1000", "1000"),
        ("4242:4343", "4242", "4343"),
        ("ana:4343", "1000", "4343"),
        ("4242:boat", "4242", "2000"),
    ] {
        let report = host.probe_with(&["report"], &json!({ "user": user }));
        assert_eq!(report["uid"], format!("{uid}\t{uid}\t{uid}\t{uid}"), "user {user}");
        assert_eq!(report["gid"], format!("{gid}\t{gid}\t{gid}\t{gid}"), "user {user}");
    }
    host.finish();
}

fn limit<'a>(report: &'a Value, name: &str) -> Vec<&'a str> {
    let mut lines = report["limits"].as_array().expect("lines").iter().filter_map(Value::as_str);
    let line = lines.find(|line| line.starts_with(name)).expect("a limit");
    line[name.len()..].split_whitespace().take(2).collect()
}

/// Whether tests may raise hard limits: CAP_SYS_RESOURCE is capability 24.
pub(crate) fn raises_limits() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs is mounted");
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).expect("a line for capabilities");
    u64::from_str_radix(effective, 16).expect("hexadecimal digits") & (1 << 24) != 0
}

fn hard_limit_of_open_files() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: fills a local struct.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit.rlim_max
}

#[test]
fn limits_are_not_the_callers() {
    let host = Host::new();
    host.import_probe();
    let members = json!({ "ulimits": [{ "name": "stack", "softLimit": 1_048_576, "hardLimit": 2_097_152 }] });
    let file = host.file("task.json", definition::probe_with(&["report"], &members).to_string());
    let mut run = host.command(["run"]);
    run.arg(file);
    let tighten = || {
        for resource in [libc::RLIMIT_NOFILE, libc::RLIMIT_CORE, libc::RLIMIT_LOCKS] {
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: two system calls with a local struct, in the child between fork and exec.
            let answer = unsafe {
                libc::getrlimit(resource, &raw mut limit);
                limit.rlim_cur = 200;
                libc::setrlimit(resource, &raw const limit)
            };
            if answer != 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: it makes system calls only.
    unsafe { run.pre_exec(tighten) };
    let report = Running::start(&mut run).wait().ok().report("main");
    // Where hard limits cannot be raised, ours is what can be granted.
    let granted = if raises_limits() { 524_288 } else { hard_limit_of_open_files().min(524_288) };
    assert_eq!(limit(&report, "Max open files"), ["1024", &granted.to_string()]);
    assert_eq!(limit(&report, "Max core file size"), ["unlimited", "unlimited"]);
    assert_eq!(limit(&report, "Max file locks"), ["unlimited", "unlimited"]);
    assert_eq!(limit(&report, "Max nice priority"), ["0", "0"]);
    assert_eq!(limit(&report, "Max stack size"), ["1048576", "2097152"]);
    host.finish();
}

/// A node of no driver: opening it is ENXIO where the device filter lets it pass, and EPERM where it does not.
fn node(path: &std::path::Path, kind: libc::mode_t, minor: u32) {
    let name = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).expect("no NUL");
    // SAFETY: a C string and numbers.
    let made = unsafe { libc::mknod(name.as_ptr(), kind | 0o640, libc::makedev(250, minor)) };
    assert_eq!(made, 0, "tests run as root, where nodes can be made");
    std::os::unix::fs::chown(path, Some(1000), Some(2000)).expect("tests run as root");
}

#[test]
fn devices_have_the_hosts_owner_and_only_the_permissions_asked_for() {
    let host = Host::new();
    let folder = host.file("x", "").parent().expect("a folder").to_owned();
    let device = folder.join("thing");
    node(&device, libc::S_IFCHR, 77);
    let members = |permissions: Value| {
        let device = json!({ "hostPath": device, "containerPath": "/opt/dev/thing", "permissions": permissions });
        json!({ "linuxParameters": { "devices": [device] } })
    };
    let look = |permissions: Value| {
        host.probe_with(&["paths", "/opt/dev/thing"], &members(permissions))["/opt/dev/thing"].clone()
    };
    let all = look(json!([]));
    assert_eq!(
        (&all["kind"], &all["device"], &all["mode"]),
        (&json!("char"), &json!("250:77"), &json!(0o640)),
        "{all}"
    );
    assert_eq!((&all["uid"], &all["gid"]), (&json!(1000), &json!(2000)));
    assert_eq!((&all["content"]["errno"], &all["write_errno"]), (&json!(ENXIO), &json!(ENXIO)));
    let read = look(json!(["read"]));
    assert_eq!((&read["content"]["errno"], &read["write_errno"]), (&json!(ENXIO), &json!(EPERM)));
    let write = look(json!(["write", "mknod"]));
    assert_eq!((&write["content"]["errno"], &write["write_errno"]), (&json!(EPERM), &json!(ENXIO)));
    // Its neighbours stay closed.
    let passed = host.probe_with(&["devices"], &members(json!([])));
    let passed: Vec<&String> = passed["passed"].as_object().expect("a list").keys().collect();
    assert!(!passed.iter().any(|number| number.starts_with("c 250:") || number.starts_with("b ")), "{passed:?}");
    host.finish();
}

#[test]
fn a_directory_is_every_device_below_it() {
    let host = Host::new();
    let folder = host.file("not-a-device", "").parent().expect("a folder").to_owned();
    std::fs::create_dir(folder.join("below")).expect("a folder can be made");
    node(&folder.join("one"), libc::S_IFCHR, 1);
    node(&folder.join("below/two"), libc::S_IFBLK, 2);
    let members = json!({ "linuxParameters": { "devices": [{ "hostPath": folder, "containerPath": "/dev/mine" }] } });
    let asked = ["/dev/mine/one", "/dev/mine/below/two", "/dev/mine/not-a-device"];
    let looks = host.probe_with(&[&["paths"], &asked[..]].concat(), &members);
    assert_eq!(looks[asked[0]]["content"]["errno"], ENXIO, "{looks}");
    assert_eq!((&looks[asked[1]]["kind"], &looks[asked[1]]["device"]), (&json!("block"), &json!("250:2")));
    assert!(looks[asked[2]].is_null());
    host.finish();
}

#[test]
fn a_device_that_is_not_there_is_named() {
    let host = Host::new();
    host.import_probe();
    let plain = host.file("plain", "");
    let plain = plain.to_str().expect("text");
    for (path, why) in [("/dev/there-is-none", "No such file"), (plain, "not a device node")] {
        let members = json!({ "linuxParameters": { "devices": [{ "hostPath": path }] } });
        let ended = host.run(&definition::probe_with(&["report"], &members), &[]);
        assert_ne!(ended.code(), 0);
        ended.says(&["CannotCreateContainerError", "error gathering device information", path, why]);
    }
    host.finish();
}

#[test]
fn tmpfs_has_its_size_and_its_options() {
    let host = Host::new();
    let tmpfs = json!([
        { "containerPath": "/made/for/it", "size": 16 },
        { "containerPath": "/tmp", "size": 8, "mountOptions": ["exec", "mode=0750", "uid=1000", "gid=2000", "noatime"] },
        { "containerPath": "/work", "size": 1, "mountOptions": ["rw", "ro"] },
    ]);
    let members = json!({ "memory": 128, "readonlyRootFilesystem": true, "linuxParameters": { "tmpfs": tmpfs } });
    let report = host.probe_with(&["report"], &members);
    for (point, there, absent) in [
        ("/made/for/it", &["rw", "nosuid", "nodev", "noexec", "size=16384k"][..], &["ro"][..]),
        ("/tmp", &["nosuid", "nodev", "noatime", "size=8192k", "mode=750", "uid=1000", "gid=2000"], &["noexec"]),
        ("/work", &["ro", "nosuid", "nodev", "noexec", "size=1024k"], &[]),
    ] {
        let (kind, options) = mount(&report, point).unwrap_or_else(|| panic!("nothing is mounted at {point}"));
        assert_eq!(kind, "tmpfs");
        for option in there {
            assert!(options.iter().any(|given| given == option), "{point} lacks {option}: {options:?}");
        }
        for option in absent {
            assert!(!options.iter().any(|given| given == option), "{point} has {option}: {options:?}");
        }
    }
    let filled = host.probe_with(&["fill", "/made/for/it/x"], &members);
    assert_eq!(filled, json!({ "bytes": 16 * MIB, "errno": ENOSPC }));
    let filled = host.probe_with(&["fill", "/work/x"], &members);
    assert_eq!(filled, json!({ "bytes": 0, "errno": EROFS }));
    host.finish();
}

/// An image's link must not lead a mount out of the root.
#[test]
fn a_tmpfs_follows_links_inside_the_root_only() {
    use crate::support::image::{Image, base_layer};
    let host = Host::new();
    let layer = base_layer().symlink("out", "../../../../../work").finish();
    host.import(&Image::of(vec![layer]), "linked:latest").ok();
    let tmpfs = json!([{ "containerPath": "/out", "size": 1 }]);
    let container = json!({
        "name": "main", "image": "linked:latest", "memory": 64, "command": ["report"],
        "linuxParameters": { "tmpfs": tmpfs },
    });
    let report = host.run(&definition::task(&[container]), &[]).ok().report("main");
    assert!(mount(&report, "/work").is_some(), "{}", report["mounts"]);
    host.finish();
}

#[test]
fn seccomp_can_be_switched_off_and_unknown_options_are_refused() {
    let host = Host::new();
    for option in ["seccomp:unconfined", "seccomp=unconfined"] {
        let report = host.probe_with(&["report"], &json!({ "dockerSecurityOptions": [option] }));
        assert_eq!(report["seccomp"], "0", "{option}");
        assert_eq!(report["capabilities"]["effective"], "00000000a80425fb");
    }
    for option in ["seccomp:profile.json", "credentialspec:file://x", "colour:red"] {
        host.run(&definition::probe_with(&["report"], &json!({ "dockerSecurityOptions": [option] })), &[]).refused(&[]);
    }
    host.finish();
}

/// Confinement that a host cannot give is not left out in silence.
#[test]
fn labels_need_the_hosts_module() {
    let host = Host::new();
    host.import_probe();
    let apparmor = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    let apparmor = apparmor.is_ok_and(|enabled| enabled.starts_with('Y'));
    let selinux = std::path::Path::new("/sys/fs/selinux/enforce").exists();
    for (option, module, there) in
        [("apparmor:some-profile", "AppArmor", apparmor), ("label:type:some_t", "SELinux", selinux)]
    {
        let definition = definition::probe_with(&["report"], &json!({ "dockerSecurityOptions": [option] }));
        let ended = host.run(&definition, &[]);
        // Where the module is there it does not know the label.
        assert_ne!(ended.code(), 0, "{option}");
        if !there {
            ended.says(&["CannotCreateContainerError", module]);
        }
    }
    let off = json!({ "dockerSecurityOptions": ["apparmor:unconfined", "label:disable"] });
    assert_eq!(host.probe_with(&["report"], &off)["seccomp"], "2");
    host.finish();
}

#[test]
fn what_is_added_wins_over_what_is_dropped() {
    let host = Host::new();
    // CHOWN is bit 0, KILL bit 5, NET_ADMIN bit 12 (linux/capability.h).
    for (add, drop, effective) in [
        (json!(["CHOWN", "NET_ADMIN"]), json!(["CHOWN", "KILL"]), "00000000a80435db"),
        (json!(["NET_ADMIN"]), json!(["ALL"]), "0000000000001000"),
    ] {
        let members = json!({ "linuxParameters": { "capabilities": { "add": add, "drop": drop } } });
        let sets = &host.probe_with(&["report"], &members)["capabilities"];
        assert_eq!((&sets["effective"], &sets["bounding"]), (&json!(effective), &json!(effective)), "{members}");
    }
    host.finish();
}

/// Where there is a GPU, nobody has a thousand.
#[test]
fn gpus_that_are_not_there_are_refused_before_anything_starts() {
    let host = Host::new();
    host.import_probe();
    let members = json!({ "resourceRequirements": [{ "type": "GPU", "value": "1000" }] });
    let definition = definition::probe_with(&["report"], &members);
    let refused = host.run(&definition, &["--detach"]);
    assert_ne!(refused.code(), 0);
    refused.says(&["RESOURCE:GPU", "main", "1000"]);
    assert!(!host.coracle(["ps", "--all"]).ok().stdout.contains("main"), "no task was made");
    host.finish();
}

#[test]
fn labels_are_shown_by_inspect() {
    let host = Host::new();
    host.import_probe();
    let members = json!({ "dockerLabels": { "com.example.team": "boats" } });
    let task = host.detach(&definition::probe_with(&["wait"], &members), &[]);
    let shown = host.inspect(&task);
    let labels = &shown["coracle"]["containers"]["main"]["definition"]["dockerLabels"];
    assert_eq!(labels["com.example.team"], "boats", "{shown}");
    host.coracle(["stop", &task]).ok();
    host.coracle(["rm", &task]).ok();
    host.finish();
}

#[test]
fn a_supervisor_that_is_killed_takes_a_shared_pid_namespace_with_it() {
    let host = Host::new();
    host.import_probe();
    let mut definition = definition::probe_with(&["ignore-sigterm"], &init());
    definition["pidMode"] = json!("task");
    let task = host.detach(&definition, &[]);
    super::hardening::so_many_processes(&host, &task, 3);
    crate::support::process::kill(super::hardening::supervisor(&host, &task));
    wait_for("the end of everything in the namespace", || {
        super::hardening::container_processes(&host, &task).is_empty().then_some(())
    });
    host.coracle(["rm", "--force", &task]).ok();
    host.finish();
}
