//! `coracle exec --debug`: a shell and tools in containers that have none, which the container does not see.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use super::hardening::{container_processes, so_many_processes};
use super::terminal::Person;
use crate::support::tar::Tar;
use crate::support::{self, Finished, Host, Running, definition, image, wait_for};

/// The probe alone: no shell, no users, no /etc.
fn import_bare(host: &Host) {
    let program = fs::read(support::probe()).expect("the probe can be read");
    let layer = Tar::new().directory("bin/").file("bin/probe", 0o755, &program).directory("work/").finish();
    host.import(&image::Image::of(vec![layer]), image::PROBE).ok();
}

fn end(host: Host, task: &str) {
    host.coracle(["stop", task]).ok();
    host.coracle(["rm", task]).ok();
    host.finish();
}

/// `exec --debug TASK -- COMMAND`.
fn debug(host: &Host, task: &str, command: &[&str]) -> Finished {
    host.coracle([&["exec", "--debug", task, "--"], command].concat())
}

/// `run --detach` does not wait for the start, and a container that is being started has not all of its mounts.
fn only_process(host: &Host, task: &str) -> i32 {
    wait_for("the container", || (host.inspect(task)["lastStatus"] == "RUNNING").then_some(()));
    so_many_processes(host, task, 1)[0]
}

fn mounts(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("it runs")
}

/// What a container has in /dev, with kinds, modes and owners.
fn devices(pid: i32) -> Vec<String> {
    let directory = format!("/proc/{pid}/root/dev");
    let entries = fs::read_dir(&directory).expect("it runs").map(|entry| {
        let path = entry.expect("it can be listed").path();
        let found = fs::symlink_metadata(&path).expect("nobody removes it");
        let (name, mode) = (path.file_name().expect("a name").to_string_lossy().into_owned(), found.mode());
        format!("{name} {mode:o} {}:{} {}", found.uid(), found.gid(), found.rdev())
    });
    let mut entries: Vec<String> = entries.collect();
    entries.sort();
    entries
}

#[test]
fn tools_are_there_for_an_image_without_any() {
    let host = Host::new();
    import_bare(&host);
    let task = host.detach(&definition::probe_with(&["wait"], &json!({ "user": "1000:1000" })), &[]);
    host.coracle(["exec", &task, "--", "sh"]).expect_code(127);
    debug(&host, &task, &["ls", "/"]).ok().prints(&["work", "bin", "dev"]);
    debug(&host, &task, &["ps"]).ok().prints(&["/bin/probe wait"]);
    debug(&host, &task, &["sh", "-c", "id -u; echo $PATH; exit 3"])
        .expect_code(3)
        .prints(&["0\n/dev/coracle/bin:/bin\n"]);
    host.coracle(["exec", "--debug", "--user", "1234", &task, "--", "id", "-u"]).ok().prints(&["1234"]);
    // What is written is the container's, where it stands.
    debug(&host, &task, &["sh", "-c", "echo from outside > /work/file"]).ok();
    host.coracle(["exec", &task, "--", "/bin/probe", "read", "/work/file"]).ok().prints(&["from outside"]);
    // The image's own programs are there too, and a shell of the tools' reads a script without a terminal.
    debug(&host, &task, &["probe", "read", "/work/file"]).ok().prints(&["from outside"]);
    let mut shell = host.command(["exec", "--debug", &task]);
    let script = host.file("script", "cd /work\ncat file | tr a-z A-Z\n");
    shell.stdin(fs::File::open(script).expect("a file"));
    Running::start(&mut shell).wait().ok().prints(&["FROM OUTSIDE"]);
    host.coracle(["exec", "--debug", &task, "ls"])
        .refused(&["no container \"ls\"", "one of main; a COMMAND comes after `--`"]);
    debug(&host, &task, &["nonesuch"]).expect_code(127).says(&["nonesuch"]);
    end(host, &task);
}

/// As little as Amazon allows: no memory but the kernel's own is needed for the tools, no privilege is given.
#[test]
fn a_container_with_nothing_to_spare_has_room_for_it() {
    let host = Host::new();
    import_bare(&host);
    let members = json!({
        "memory": 6, "user": "1000",
        "linuxParameters": { "capabilities": { "drop": ["ALL"] } },
        "dockerSecurityOptions": ["no-new-privileges"],
    });
    let mut definition = definition::probe_with(&["wait"], &members);
    definition["ipcMode"] = json!("none");
    let task = host.detach(&definition, &[]);
    for _ in 0..3 {
        debug(&host, &task, &["sh", "-c", "ls /dev && cat /proc/self/status"])
            .ok()
            .prints(&["CapBnd:\t0000000000000000"]);
    }
    end(host, &task);
}

#[test]
fn a_read_only_root_stays_read_only_and_has_tools() {
    let host = Host::new();
    import_bare(&host);
    let members = json!({ "readonlyRootFilesystem": true });
    let task = host.detach(&definition::probe_with(&["wait"], &members), &[]);
    debug(&host, &task, &["ls", "/work/.."]).ok().prints(&["work"]);
    debug(&host, &task, &["touch", "/work/file"]).expect_code(1).says(&["Read-only"]);
    end(host, &task);
}

#[test]
fn it_sees_the_processes_of_a_task_that_shares_them() {
    let host = Host::new();
    import_bare(&host);
    let containers = [
        definition::container("main", &["wait"], &Value::Null),
        definition::container("side", &["wait", "0", "beside"], &json!({ "readonlyRootFilesystem": true })),
    ];
    let mut definition = definition::task(&containers);
    definition["pidMode"] = json!("task");
    let task = host.detach(&definition, &[]);
    let command = ["exec", "--debug", &task, "side", "--", "ps"];
    host.coracle(command).ok().prints(&["/bin/probe wait 0 beside", "coracle-init"]);
    host.coracle(["exec", "--debug", &task, "--", "ps"]).refused(&["several containers", "main, side"]);
    end(host, &task);
}

#[test]
fn the_container_sees_nothing_of_it() {
    let host = Host::new();
    import_bare(&host);
    let members = json!({ "pseudoTerminal": true, "linuxParameters": {
        "devices": [{ "hostPath": "/dev/zero", "containerPath": "/dev/second-zero" }],
        "tmpfs": [{ "containerPath": "/dev/scratch", "size": 1 }],
    } });
    let task = host.detach(&definition::probe_with(&["wait"], &members), &[]);
    let pid = only_process(&host, &task);
    let before = (mounts(pid), devices(pid));
    let mut shell = host.command(["exec", "--debug", &task]);
    shell.stdin(Stdio::piped());
    let mut shell = Running::start(&mut shell);
    let script = "ls -l /dev; echo x > /dev/null; head -c 5 /dev/second-zero | od -An -tx1; echo shared > /dev/shm/file; cat /proc/self/mountinfo; echo ready\n";
    let mut input = shell.stdin();
    input.write_all(script.as_bytes()).expect("it reads");
    shell.wait_for_output("ready");
    let seen = shell.stdout();
    // Everything of the container's /dev is in the debugger's, with its mode; and the tools.
    for name in before.1.iter().filter_map(|entry| entry.split(' ').next()) {
        assert!(seen.contains(&format!(" {name}")), "no {name}: {seen}");
    }
    for path in [" /dev/pts ", " /dev/shm ", " /dev/mqueue ", " /dev/scratch ", " /dev/coracle/bin/busybox ro,"] {
        assert!(seen.contains(path), "no {path}: {seen}");
    }
    assert!(!seen.contains("/dev/coracle/old"), "{seen}");
    assert!(seen.contains("crw-rw-rw-") && seen.contains(" 00 00 00 00 00\n"), "{seen}");
    // The container, meanwhile.
    assert_eq!((mounts(pid), devices(pid)), before);
    assert!(!Path::new(&format!("/proc/{pid}/root/dev/coracle")).exists());
    host.coracle(["exec", &task, "--", "/bin/probe", "read", "/dev/shm/file"]).ok().prints(&["shared"]);
    let inside = container_processes(&host, &task);
    assert!(inside.len() > 1 && inside.contains(&pid), "the debugger is in the container's cgroup: {inside:?}");
    // It is as confined as the container.
    let own = inside.into_iter().find(|other| *other != pid).expect("seen above");
    let state = |pid: i32, member: &str| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        status.lines().find(|line| line.starts_with(member)).map(str::to_owned)
    };
    for member in ["CapBnd", "CapEff", "Seccomp:", "NoNewPrivs"] {
        assert_eq!(state(own, member), state(pid, member));
    }
    input.write_all(b"exit 4\n").expect("it reads");
    shell.wait().expect_code(4);
    assert_eq!((mounts(pid), devices(pid)), before);
    assert_eq!(only_process(&host, &task), pid);
    end(host, &task);
}

#[test]
fn the_hosts_busybox_cannot_be_written() {
    let host = Host::new();
    import_bare(&host);
    // A copy, so that a mistake costs nothing.
    let copy = host.places.root.join("busybox");
    fs::copy(busybox(), &copy).expect("it can be copied");
    let before = fs::read(&copy).expect("a file");
    let file = copy.display().to_string();
    for members in [Value::Null, json!({ "privileged": true })] {
        let task = host.detach(&definition::probe_with(&["wait"], &members), &[]);
        let attempts = "cd /dev/coracle/bin; echo x >> busybox; chmod 777 busybox; rm -f busybox; \
                        cat /proc/self/exe > /dev/null && echo x >> /proc/self/exe; touch -c busybox; echo tried";
        let tried = host.coracle(["exec", "--debug", "--busybox", &file, &task, "--", "sh", "-c", attempts]).ok();
        tried.prints(&["tried"]).says(&["Read-only file system"]);
        assert!(fs::read(&copy).expect("a file") == before, "the file has changed");
        assert_eq!(fs::metadata(&copy).expect("a file").permissions().mode() & 0o777, 0o755);
        host.coracle(["stop", &task]).ok();
        host.coracle(["rm", &task]).ok();
    }
    host.finish();
}

#[test]
fn it_says_where_tools_may_come_from() {
    let host = Host::new();
    import_bare(&host);
    let task = host.detach(&definition::probe(&["wait"]), &[]);
    let with = |options: &[&str]| host.coracle([&["exec", "--debug"], options, &[&task, "--", "ls", "/"]].concat());
    let remedies = ["busybox-static", "--busybox", "--debug-image"];
    with(&["--busybox", "/nowhere/busybox"]).refused(&["/nowhere/busybox is not there"]).says(&remedies);
    with(&["--busybox", "/etc/passwd"]).refused(&["/etc/passwd", "no program"]).says(&remedies);
    let probe = support::probe().display().to_string();
    with(&["--busybox", &probe]).refused(&["probe"]).says(&remedies);
    with(&["--debug-image", "tools"]).refused(&["tools", "not here", "image pull"]);
    with(&["--debug-image", image::PROBE]).refused(&["has no busybox"]).says(&remedies);
    with(&["--debug-image", "Not/An:Image:Name"]).expect_code(2);
    host.coracle(["exec", "--busybox", "/bin/busybox", &task, "--", "ls"]).expect_code(2).says(&["--debug"]);
    // Out of an image: its newest layer decides, and a link of it never leads to a file of this host.
    let layer = |tar: Tar| tar.finish();
    let program = fs::read(busybox()).expect("it can be read");
    let tools = vec![
        layer(Tar::new().directory("usr/").directory("usr/bin/").file("usr/bin/busybox", 0o755, &program)),
        layer(Tar::new().symlink("bin", "usr/bin")),
    ];
    host.import(&image::Image::of(tools), "tools:latest").ok();
    with(&["--debug-image", "tools"]).ok().prints(&["work"]);
    let trap = vec![layer(Tar::new().directory("bin/").symlink("bin/busybox", busybox()))];
    host.import(&image::Image::of(trap), "trap:latest").ok();
    if busybox().starts_with("/bin") {
        with(&["--debug-image", "trap"]).refused(&["has no busybox"]);
    }
    end(host, &task);
}

#[test]
fn on_a_terminal_it_is_an_interactive_shell() {
    let host = Host::new();
    import_bare(&host);
    let task = host.detach(&definition::probe(&["wait"]), &[]);
    let pid = only_process(&host, &task);
    let before = mounts(pid);
    let mut person = Person::new(30, 100);
    let mut child = person.start(host.command(["exec", "--debug", &task]));
    // Typed in two pieces, so that what is waited for is not what the terminal echoes.
    person.types(b"tty; stty size; echo rea''dy\n");
    person.waits_to_see("ready");
    let seen = person.seen();
    assert!(seen.contains("/dev/pts/") && seen.contains("30 100"), "{seen}");
    person.types(b"exit 5\n");
    assert_eq!(wait_for("the shell's end", || child.try_wait().expect("our child")).code(), Some(5));
    assert_eq!(mounts(pid), before);
    end(host, &task);
}

#[test]
fn it_ends_with_the_container_and_leaves_nothing() {
    let host = Host::new();
    import_bare(&host);
    let task = host.detach(&definition::probe(&["wait"]), &[]);
    let mut shell = host.command(["exec", "--debug", &task]);
    shell.stdin(Stdio::piped());
    let mut shell = Running::start(&mut shell);
    let mut input = shell.stdin();
    input.write_all(b"echo ready\n").expect("it reads");
    shell.wait_for_output("ready");
    host.coracle(["stop", &task]).ok();
    shell.wait().expect_code(137);
    drop(input);
    host.coracle(["rm", &task]).ok();
    host.finish();
}

pub(super) fn busybox() -> &'static str {
    let places = ["/bin/busybox", "/usr/bin/busybox"];
    places.into_iter().find(|place| Path::new(place).is_file()).expect("these tests need busybox-static")
}
