//! `pidMode` and `ipcMode`: what the containers of a task share with each other and with the host.

use serde_json::{Value, json};

use crate::support::{Host, definition, wait_for};

/// Two containers that wait, with members of the task laid over.
fn two(members: &Value) -> Value {
    let mut task = definition::task(&[
        definition::container("a", &["wait"], &Value::Null),
        definition::container("b", &["wait"], &Value::Null),
    ]);
    for (member, value) in members.as_object().into_iter().flatten() {
        task[member] = value.clone();
    }
    task
}

fn exec(host: &Host, task: &str, container: &str, command: &[&str]) -> crate::support::Finished {
    host.coracle([&["exec", task, container, "--", "/bin/probe"], command].concat()).ok()
}

fn report(host: &Host, task: &str, container: &str) -> Value {
    exec(host, task, container, &["report"]).json()
}

/// Of the first processes themselves, as the host sees them.
fn first_namespace(host: &Host, task: &str, container: &str, kind: &str) -> String {
    let shown = host.inspect(task);
    let pid = &shown["coracle"]["containers"][container]["process"]["pid"];
    let link = std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("it runs, and tests run as root");
    link.display().to_string()
}

fn of_host(kind: &str) -> String {
    std::fs::read_link(format!("/proc/self/ns/{kind}")).expect("a process has namespaces").display().to_string()
}

fn end(host: Host, task: &str) {
    host.coracle(["stop", task]).ok();
    host.coracle(["rm", task]).ok();
    host.finish();
}

#[test]
fn by_default_nothing_is_shared() {
    let host = Host::new();
    host.import_probe();
    let task = host.detach(&two(&json!({})), &[]);
    for kind in ["pid", "ipc"] {
        let (a, b) = (first_namespace(&host, &task, "a", kind), first_namespace(&host, &task, "b", kind));
        assert_ne!(a, b, "{kind}");
        assert_ne!(a, of_host(kind), "{kind}");
    }
    end(host, &task);
}

#[test]
fn pid_mode_task_is_one_namespace_with_an_init_of_its_own() {
    let host = Host::new();
    host.import_probe();
    let task = host.detach(&two(&json!({ "pidMode": "task" })), &[]);
    let (a, b) = (report(&host, &task, "a"), report(&host, &task, "b"));
    assert_eq!(a["namespaces"]["pid"], b["namespaces"]["pid"]);
    assert_eq!(first_namespace(&host, &task, "a", "pid"), a["namespaces"]["pid"]);
    assert_ne!(a["namespaces"]["pid"], of_host("pid"));
    assert_ne!(a["namespaces"]["ipc"], b["namespaces"]["ipc"]);
    for seen in [&a, &b] {
        let processes = seen["processes"].as_object().expect("a list");
        assert_eq!(processes["1"], "coracle-init", "{processes:?}");
        let probes = processes.values().filter(|name| **name == "probe").count();
        assert_eq!(probes, 3, "both containers' and the one that asks: {processes:?}");
        assert_eq!(processes.len(), 4, "{processes:?}");
    }
    end(host, &task);
}

/// Nothing of the host is to be had through the namespace's first process, which every container sees.
#[test]
fn the_first_process_of_a_shared_namespace_has_nothing() {
    let host = Host::new();
    host.import_probe();
    let mut definition = two(&json!({ "pidMode": "task" }));
    let capabilities = json!({ "capabilities": { "add": ["SYS_PTRACE"] } });
    definition["containerDefinitions"][0]["linuxParameters"] = capabilities;
    // The first process is nobody's as well.
    definition["containerDefinitions"][1]["user"] = json!("65534:65534");
    let task = host.detach(&definition, &[]);
    let looks = exec(&host, &task, "b", &["paths", "/proc/1/fd", "/proc/1/root"]).json();
    assert!(looks["/proc/1/fd"].is_null() || looks["/proc/1/fd"]["entries"] == json!([]), "{looks}");
    assert!(looks["/proc/1/root"].is_null(), "{looks}");
    let looks = exec(&host, &task, "a", &["paths", "/proc/1/root", "/proc/1/net/dev", "/proc/1/exe"]).json();
    let root = &looks["/proc/1/root"];
    assert!(root.is_null() || root["entries"] == json!([]), "{root}");
    let net = looks["/proc/1/net/dev"]["content"].as_str().unwrap_or_default();
    let links: Vec<&str> = net.lines().skip(2).filter_map(|line| line.split(':').next()).map(str::trim).collect();
    assert!(links.is_empty() || links == ["lo"], "{net}");
    assert!(looks["/proc/1/exe"].is_null() || looks["/proc/1/exe"]["write_errno"] != 0, "{}", looks["/proc/1/exe"]);
    let every = super::hardening::container_processes(&host, &task);
    let statuses: Vec<String> =
        every.iter().filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")).ok()).collect();
    let first = statuses.iter().find(|status| status.starts_with("Name:\tcoracle-init\n")).expect("it is there");
    for line in ["Uid:\t65534\t65534\t65534\t65534", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000"] {
        assert!(first.contains(line), "{line}: {first}");
    }
    for line in ["NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(first.contains(line), "{line}: {first}");
    }
    end(host, &task);
}

/// The kernel ends only whole pid namespaces; what a container leaves behind in a shared one is killed by its cgroup.
#[test]
fn a_container_ends_alone_and_wholly() {
    let host = Host::new();
    host.import_probe();
    for mode in ["task", "host"] {
        let mut definition = definition::task(&[
            definition::container("a", &["wait"], &Value::Null),
            definition::container("b", &["leave-behind", "4"], &json!({ "essential": false })),
        ]);
        definition["pidMode"] = json!(mode);
        let task = host.detach(&definition, &[]);
        let shown = wait_for("the end of b", || {
            let shown = host.inspect(&task);
            (definition::the_container(&shown, "b")["lastStatus"] == "STOPPED").then_some(shown)
        });
        assert_eq!(definition::the_container(&shown, "b")["exitCode"], 4);
        assert_eq!(definition::the_container(&shown, "a")["lastStatus"], "RUNNING");
        let of = |container: &str| super::hardening::processes_below(&host, &format!("{task}/{container}"));
        let left = of("b");
        assert!(left.is_empty(), "pidMode {mode}: {left:?}");
        assert!(!of("a").is_empty(), "pidMode {mode}: this is where a container's processes are");
        // Who started a may still be on its way out.
        super::hardening::so_many_processes(&host, &task, if mode == "task" { 2 } else { 1 });
        host.coracle(["stop", &task]).ok();
        host.coracle(["rm", &task]).ok();
    }
    host.finish();
}

#[test]
fn pid_mode_host_shows_the_hosts_processes_and_keeps_the_masks() {
    let host = Host::new();
    host.import_probe();
    let mut definition = definition::probe(&["report"]);
    definition["pidMode"] = json!("host");
    let report = host.run(&definition, &[]).ok().report("main");
    assert_eq!(report["namespaces"]["pid"], of_host("pid"));
    assert!(report["processes"].get(std::process::id().to_string()).is_some(), "{}", report["processes"]);
    let mut definition = definition::probe(&["paths", "/proc/kcore", "/proc/sys/kernel/core_pattern"]);
    definition["pidMode"] = json!("host");
    let looks = host.run(&definition, &[]).ok().report("main");
    assert!(looks["/proc/kcore"].is_null() || looks["/proc/kcore"]["content"] == "", "{looks}");
    assert_eq!(looks["/proc/sys/kernel/core_pattern"]["write_errno"], libc::EROFS);
    host.finish();
}

/// An init that is not process 1 reaps its container's orphans all the same.
#[test]
fn an_init_reaps_in_a_shared_namespace() {
    let host = Host::new();
    host.import_probe();
    let members = json!({ "linuxParameters": { "initProcessEnabled": true } });
    for mode in ["task", "host"] {
        let mut definition = definition::probe_with(&["orphans", "8"], &members);
        definition["pidMode"] = json!(mode);
        let orphans = host.run(&definition, &[]).ok().report("main");
        assert_eq!((&orphans["made"], &orphans["left"]), (&json!(8), &json!(0)), "{mode}: {orphans}");
        assert_ne!(orphans["parent"], 1, "{mode}: {orphans}");
    }
    host.finish();
}

#[test]
fn ipc_mode_task_shares_memory_queues_and_sysctls() {
    let host = Host::new();
    host.import_probe();
    let mut definition = two(&json!({ "ipcMode": "task" }));
    definition["containerDefinitions"][0]["systemControls"] =
        json!([{ "namespace": "kernel.msgmax", "value": "4321" }]);
    definition["containerDefinitions"][1]["systemControls"] =
        json!([{ "namespace": "fs.mqueue.msg_max", "value": "77" }]);
    definition["containerDefinitions"][1]["linuxParameters"] = json!({ "sharedMemorySize": 96 });
    let task = host.detach(&definition, &[]);
    let (a, b) = (report(&host, &task, "a"), report(&host, &task, "b"));
    assert_eq!(a["namespaces"]["ipc"], b["namespaces"]["ipc"]);
    assert_ne!(a["namespaces"]["ipc"], of_host("ipc"));
    assert_ne!(a["namespaces"]["pid"], b["namespaces"]["pid"]);
    exec(&host, &task, "a", &["write", "/dev/shm/x", "from-a"]);
    assert_eq!(exec(&host, &task, "b", &["read", "/dev/shm/x"]).stdout, "from-a");
    let queue = |container| exec(&host, &task, container, &["message-queue", "4711"]).json();
    assert_eq!(queue("a"), queue("b"));
    for container in ["a", "b"] {
        assert_eq!(exec(&host, &task, container, &["sysctl", "kernel.msgmax"]).stdout.trim(), "4321");
        assert_eq!(exec(&host, &task, container, &["sysctl", "fs.mqueue.msg_max"]).stdout.trim(), "77");
    }
    for seen in [&a, &b] {
        let mounts = seen["mounts"].as_array().expect("mountinfo");
        let shm =
            mounts.iter().filter_map(Value::as_str).find(|line| line.contains(" /dev/shm ")).expect("it is there");
        for option in ["size=98304k", "nosuid", "nodev", "noexec"] {
            assert!(shm.contains(option), "{option}: {shm}");
        }
    }
    // The host sees neither the file system nor the sysctls.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    assert!(!mounts.contains(&task), "{mounts}");
    assert_ne!(std::fs::read_to_string("/proc/sys/kernel/msgmax").expect("a sysctl").trim(), "4321");
    end(host, &task);
}

#[test]
fn ipc_mode_none_has_no_shared_memory() {
    let host = Host::new();
    host.import_probe();
    let mut definition = definition::probe(&["report"]);
    definition["ipcMode"] = json!("none");
    let report = host.run(&definition, &[]).ok().report("main");
    assert_ne!(report["namespaces"]["ipc"], of_host("ipc"));
    assert!(report["dev"].get("/dev/shm").is_none(), "{}", report["dev"]);
    host.finish();
}

#[test]
fn ipc_mode_host_is_the_hosts() {
    let host = Host::new();
    host.import_probe();
    let name = format!("/dev/shm/coracle-test-{}", crate::support::unique());
    std::fs::write(&name, "from the host").expect("tests run as root");
    let mut definition = definition::probe(&["read", &name]);
    definition["ipcMode"] = json!("host");
    let read = host.run(&definition, &[]);
    std::fs::remove_file(&name).expect("it is still there");
    assert!(read.ok().stdout.contains("from the host"));
    let mut definition = definition::probe(&["report"]);
    definition["ipcMode"] = json!("host");
    let report = host.run(&definition, &[]).ok().report("main");
    assert_eq!(report["namespaces"]["ipc"], of_host("ipc"));
    host.finish();
}

/// "IPC namespace systemControls aren't supported" with the host's: API_SystemControl.
#[test]
fn the_hosts_sysctls_are_not_a_tasks_to_set() {
    let host = Host::new();
    host.import_probe();
    let members = json!({ "systemControls": [{ "namespace": "kernel.msgmax", "value": "4321" }] });
    let mut definition = definition::probe_with(&["report"], &members);
    definition["ipcMode"] = json!("host");
    host.run(&definition, &[]).refused(&["kernel.msgmax", "ipcMode"]);
    host.finish();
}

#[test]
fn both_modes_together_and_everything_goes() {
    let host = Host::new();
    host.import_probe();
    for round in 0..3 {
        let task = host.detach(&two(&json!({ "pidMode": "task", "ipcMode": "task" })), &[]);
        let (a, b) = (report(&host, &task, "a"), report(&host, &task, "b"));
        for kind in ["pid", "ipc"] {
            assert_eq!(a["namespaces"][kind], b["namespaces"][kind], "{kind} in round {round}");
        }
        host.coracle(["stop", &task]).ok();
        host.coracle(["rm", &task]).ok();
    }
    host.finish();
}
