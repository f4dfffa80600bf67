//! Rows of HARDENING's escape checklist that tests of `hardening` and `confinement` do not show already.

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::hardening::the_only_task;
use crate::support::image::{Image, base_layer, probe_image, probe_layer};
use crate::support::{Host, definition, wait_for};

#[test]
fn e02_processes_that_enter_a_container_cannot_be_used_to_leave_it() {
    let host = Host::new();
    host.import_probe();
    let marker = host.guard.marker().display().to_string();
    // With the capability that makes ptrace of anybody possible.
    let members = json!({ "linuxParameters": { "capabilities": { "add": ["SYS_PTRACE"] } } });
    let task = host.detach(&definition::probe_with(&["watch-processes", "5000", &marker], &members), &[]);
    wait_for("the watcher", || host.coracle(["logs", &task]).stdout.contains("watching").then_some(()));
    for _ in 0..12 {
        host.coracle(["exec", &task, "--", "/bin/probe", "exit", "0"]);
    }
    let logs = wait_for("the watcher's report", || {
        let logs = host.coracle(["logs", &task]).stdout;
        logs.contains("\"reached\"").then_some(logs)
    });
    let start = logs.find('{').expect("a report");
    let report: Value = serde_json::from_str(logs[start..].lines().next().expect("a line")).expect("a report");
    assert_eq!(report["reached"], json!([]), "the host was reached: {report}");
    let root = host.places.root.display().to_string();
    assert!(!report["descriptors"].to_string().contains(&root), "a path of the host was open: {report}");
    assert!(report["processes"].as_u64().is_some_and(|count| count > 0), "nobody came: {report}");
    host.coracle(["rm", "--force", &task]);
    host.finish();
}

#[test]
fn e03_working_directories_that_are_descriptors() {
    let host = Host::new();
    host.import_probe();
    let marker = format!("{}{}", "../".repeat(16), host.guard.marker().display());
    let check = |ended: crate::support::Finished, what: &str| {
        assert!(!ended.stdout.contains("guarded"), "{what} leads to the host: {}", ended.whole());
        assert_ne!(ended.code(), 0, "{what}: {}", ended.whole());
    };
    for number in 3..=24 {
        let directory = format!("/proc/self/fd/{number}");
        let members = json!({ "workingDirectory": directory });
        check(host.run(&definition::probe_with(&["read", &marker], &members), &[]), &directory);
    }
    for target in ["/proc/self/fd/7", "/proc/1/root", "/proc/self/task/1/fd/8", "../../../../proc/self/fd/9"] {
        let layer = probe_layer().symlink("way", target).finish();
        host.import(&Image::of(vec![layer]).with_config(&json!({ "WorkingDir": "/way" })), "way:latest").ok();
        let members = json!({ "image": "way:latest" });
        check(host.run(&definition::probe_with(&["read", &marker], &members), &[]), target);
    }
    let task = host.detach(&definition::probe(&["wait"]), &[]);
    for number in 3..=24 {
        let directory = format!("/proc/self/fd/{number}");
        check(host.coracle(["exec", "--workdir", &directory, &task, "--", "/bin/probe", "read", &marker]), &directory);
    }
    host.coracle(["stop", &task]).ok();
    host.coracle(["rm", &task]).ok();
    host.finish();
}

/// CVE-2025-31133, CVE-2025-52565 and relatives as far as an image alone can prepare them: fakes below /dev and /proc.
#[test]
fn e05_e06_fakes_in_the_image_mask_nothing_and_write_nothing() {
    let host = Host::new();
    let layer = probe_layer()
        .directory("dev/")
        .symlink("dev/null", "/proc/sys/kernel/core_pattern")
        .symlink("dev/console", "/proc/sysrq-trigger")
        .symlink("dev/ptmx", "/etc/passwd")
        .directory("dev/pts/")
        .symlink("dev/pts/0", "/proc/sysrq-trigger")
        .directory("proc/")
        .file("proc/keys", 0o644, b"fake")
        .finish();
    host.import(&Image::of(vec![layer]), "fake:latest").ok();
    let members = json!({ "image": "fake:latest" });
    let report =
        host.run(&definition::probe_with(&["paths", "/dev/null", "/proc/keys"], &members), &[]).ok().report("main");
    assert_eq!(report["/dev/null"]["device"], "1:3");
    assert_eq!(report["/proc/keys"]["content"], "");
    host.finish();
}

#[test]
fn e11_exec_as_another_user_inherits_no_capability() {
    let host = Host::new();
    host.import_probe();
    let members = json!({ "linuxParameters": { "capabilities": { "add": ["ALL"] } } });
    let task = host.detach(&definition::probe_with(&["wait"], &members), &[]);
    let report = host.coracle(["exec", "--user", "1000", &task, "--", "/bin/probe", "report"]).ok().json();
    for set in ["inheritable", "ambient", "effective", "permitted"] {
        assert_eq!(report["capabilities"][set], "0000000000000000", "{set}");
    }
    assert_eq!(report["uid"], "1000\t1000\t1000\t1000");
    assert_eq!(report["seccomp"], "2");
    host.coracle(["stop", &task]).ok();
    host.coracle(["rm", &task]).ok();
    host.finish();
}

#[test]
fn e19_no_abstract_socket_listens_on_the_host() {
    let host = Host::new();
    host.import_probe();
    let mut definition = definition::probe(&["report"]);
    definition["networkMode"] = json!("host");
    let report = host.run(&definition, &[]).ok().report("main");
    for line in report["unix_sockets"].as_array().expect("lines") {
        let path = line.as_str().and_then(|line| line.split_whitespace().nth(7)).unwrap_or_default();
        assert!(!path.starts_with('@'), "an abstract socket: {line}");
    }
    host.finish();
}

/// CVE-2020-8558: with a port published on loopback, the LAN must not reach what listens on 127.0.0.1 alone.
#[test]
fn e20_the_lan_does_not_reach_the_hosts_loopback() {
    let host = Host::new();
    host.import_probe();
    let neighbour = host.neighbour();
    let private = host.namespace.enter(|| TcpListener::bind("127.0.0.1:9999")).expect("the port is free");
    let members = json!({ "portMappings": [{ "containerPort": 80, "hostPort": 8080 }], "stopTimeout": 2 });
    let task =
        host.detach(&definition::bridge_task(&[definition::container("main", &["tcp-echo", "80"], &members)]), &[]);
    wait_for("the server", || host.coracle(["logs", &task]).stdout.contains("listening").then_some(()));
    neighbour.route_through_host(Ipv4Addr::new(127, 0, 0, 0), Ipv4Addr::new(255, 0, 0, 0));
    neighbour.route_through_host(Ipv4Addr::new(169, 254, 170, 0), Ipv4Addr::new(255, 255, 255, 0));
    // A container's own address is no way around the published ports either.
    let hosts = host.coracle(["exec", &task, "--", "/bin/probe", "read", "/etc/hosts"]).ok().stdout;
    let mut addresses = hosts.lines().filter_map(|line| line.split_whitespace().next()?.parse::<Ipv4Addr>().ok());
    let container = addresses.rfind(|address| !address.is_loopback()).expect("a container knows its address");
    neighbour.route_through_host(container, Ipv4Addr::BROADCAST);
    let loopback = Ipv4Addr::LOCALHOST;
    for (address, port) in
        [(loopback, 9999), (loopback, 8080), (Ipv4Addr::new(169, 254, 170, 2), 80), (container, 80), (container, 8080)]
    {
        let reached = neighbour.namespace.enter(|| {
            TcpStream::connect_timeout(&SocketAddr::from((address, port)), Duration::from_millis(700))
                .map(|mut stream| stream.read(&mut [0u8; 1]))
        });
        assert!(reached.is_err(), "{address}:{port} is reached from the LAN");
    }
    // The container is inside, too: the host's loopback is not its.
    host.coracle(["exec", &task, "--", "/bin/probe", "tcp-say", "127.0.0.1:9999", "x"]).expect_code(1);
    host.coracle(["stop", &task]).ok();
    host.coracle(["rm", &task]).ok();
    drop(private);
    drop(neighbour);
    host.finish();
}

#[test]
fn e21_an_images_configuration_decides_nothing_about_the_host() {
    let host = Host::new();
    let guard = host.guard.directory.display().to_string();
    let long = "x".repeat(1 << 20);
    let cases = [
        json!({ "Labels": { "binary://../../x": "$(touch /x)", "": "", "com.coracle.rootfs": guard } }),
        json!({ "Labels": { "long": long } }),
        json!({ "Env": ["A=$(id)", "=x", "NOEQUALS", "B=a\nb", "LD_PRELOAD=/x.so", "CORACLE_DATA_DIR=/x"] }),
        json!({ "Env": ["NUL=a\u{0}b"] }),
        json!({ "Env": vec!["N=1"; 10_000] }),
        json!({ "User": "../../etc" }),
        json!({ "User": "root\nana" }),
        json!({ "User": format!("{guard}:x") }),
        json!({ "WorkingDir": format!("{}{guard}", "../".repeat(12)) }),
        json!({ "WorkingDir": "\u{0}" }),
        json!({ "WorkingDir": long }),
        json!({ "Volumes": { "/../../etc": {}, "/proc": {}, "": {} } }),
        json!({ "Entrypoint": [format!("{}{guard}/marker", "../".repeat(12))] }),
        json!({ "Entrypoint": [""] }),
        json!({ "Entrypoint": ["/bin/probe\u{0}x"] }),
        json!({ "StopSignal": "SIGNOTHING" }),
        json!({ "StopSignal": "999" }),
        json!({ "Healthcheck": { "Test": ["CMD-SHELL", "touch /x"] }, "OnBuild": ["RUN x"], "Shell": ["/x"] }),
        json!({ "Entrypoint": "not a list" }),
        json!({ "Env": { "not": "a list" } }),
    ];
    for case in cases {
        let what = case.to_string().chars().take(100).collect::<String>();
        let imported = host.import(&probe_image().with_config(&case), "odd:latest");
        assert!(!imported.stderr.contains("panicked"), "{what}: {}", imported.stderr);
        if imported.code() != 0 {
            continue;
        }
        let ended = host.run(&definition::probe_with(&["exit", "0"], &json!({ "image": "odd:latest" })), &[]);
        assert!(!ended.stderr.contains("panicked"), "{what}: {}", ended.stderr);
        assert!(ended.code() == 0 || !ended.stderr.trim().is_empty(), "{what} fails without a word: {}", ended.whole());
        let changes = host.guard.changes();
        assert!(changes.is_empty(), "{what} changed the host: {changes:?}");
    }
    host.finish();
}

#[test]
fn e22_users_that_are_none_and_passwd_files_that_are_traps() {
    const QUICK: Duration = Duration::from_secs(60);
    let host = Host::new();
    host.import_probe();
    for user in [
        "0:4294967296",
        "-1",
        "2147483648000",
        "nobody-here",
        "ana:nobody-here",
        "4294967295",
        ":",
        "a:b:c",
        "root\u{0}x",
    ] {
        host.run(&definition::probe_with(&["exit", "0"], &json!({ "user": user })), &[]).refused(&[]);
    }
    let guard = host.guard.directory.display().to_string();
    let traps = [
        ("a pipe", base_layer().directory("etc/").fifo("etc/passwd").fifo("etc/group")),
        ("zeroes", base_layer().directory("etc/").symlink("etc/passwd", "/dev/zero").symlink("etc/group", "/dev/zero")),
        ("the environment", base_layer().directory("etc/").symlink("etc/passwd", "/proc/1/environ")),
        (
            "the host's file",
            base_layer().directory("etc/").symlink("etc/passwd", &format!("{}{guard}/passwd", "../".repeat(12))),
        ),
        ("a device", base_layer().directory("etc/").char_device("etc/passwd", 1, 5)),
        ("a folder", base_layer().directory("etc/").directory("etc/passwd/")),
        ("16 MiB without a line end", base_layer().directory("etc/").file("etc/passwd", 0o644, &vec![b'x'; 16 << 20])),
    ];
    for (what, layer) in traps {
        let name = "trap:latest";
        host.import(&Image::of(vec![layer.finish()]), name).ok();
        for user in ["root", "ana", "0"] {
            let ended = host.run(&definition::probe_with(&["exit", "0"], &json!({ "image": name, "user": user })), &[]);
            assert!(ended.elapsed < QUICK, "{what} took {:?}", ended.elapsed);
            assert!(!ended.stderr.contains("panicked"), "{what}: {}", ended.whole());
            assert!(user != "ana" || ended.code() != 0, "{what} knows ana: {}", ended.whole());
        }
    }
    host.finish();
}

fn modes(folder: &Path, found: &mut Vec<(String, u32, bool)>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(metadata) = fs::symlink_metadata(entry.path()) else { continue };
        if metadata.is_symlink() {
            continue;
        }
        let path = entry.path();
        // These have the modes of the image and the container; the folder that they are in is looked at.
        if ["upper", "work", "rootfs", "skeleton", "state"].iter().any(|name| path.ends_with(name)) {
            continue;
        }
        found.push((path.display().to_string(), metadata.permissions().mode() & 0o777, metadata.is_dir()));
        if metadata.is_dir() {
            modes(&path, found);
        }
    }
}

#[test]
fn e23_state_belongs_to_root_alone() {
    let host = Host::new();
    host.import_probe();
    let task = host.detach(&definition::probe(&["wait"]), &[]);
    assert_eq!(the_only_task(&host), task);
    for directory in [host.places.data_dir(), host.places.run_dir()] {
        let tasks = directory.join("tasks");
        let top = fs::metadata(&tasks).expect("tasks have a directory").permissions().mode() & 0o077;
        let above = fs::metadata(&directory).expect("it was made").permissions().mode() & 0o077;
        assert!(top == 0 || above == 0, "others may enter {}", tasks.display());
        let mut found = Vec::new();
        modes(&tasks, &mut found);
        assert!(!found.is_empty());
        for (path, mode, is_directory) in found {
            let private = if is_directory { 0o700 } else { mode & 0o700 };
            // Files that are bound into the container are read by its users.
            let shared = ["hosts", "resolv.conf", "hostname", "ecs-container-metadata.json"]
                .iter()
                .any(|name| path.ends_with(name));
            assert!(shared || mode == private, "{path} has mode {mode:o}");
        }
    }
    let socket = host.places.run_dir().join("tasks").join(&task).join("ctl");
    assert_eq!(fs::metadata(&socket).expect("a running task has a socket").permissions().mode() & 0o777, 0o600);
    host.coracle(["stop", &task]).ok();
    host.coracle(["rm", &task]).ok();
    host.finish();
}

/// Output that nobody reads costs bounded memory.
#[test]
fn e23_an_exec_nobody_reads_costs_no_memory() {
    let host = Host::new();
    host.import_probe();
    let task = host.detach(&definition::probe_with(&["wait"], &json!({ "memory": 64 })), &[]);
    let exec = host.start(["exec", &task, "--", "/bin/probe", "flood", "300000"]);
    exec.wait_for_output("000050000 ");
    let supervisor = super::hardening::supervisor(&host, &task);
    let status = fs::read_to_string(format!("/proc/{supervisor}/status")).expect("it runs");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let kilobytes: u64 = resident.trim().trim_end_matches("kB").trim().parse().expect("a number");
    assert!(kilobytes < 32 * 1024, "the supervisor had {kilobytes} kB");
    exec.wait().ok();
    host.coracle(["stop", &task]).ok();
    host.coracle(["rm", &task]).ok();
    host.finish();
}
