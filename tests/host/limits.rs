//! CPU, memory and process limits as Amazon documents them, read back from the cgroups; and the truth about an
//! out-of-memory kill.

use serde_json::json;

use crate::support::{Host, cgroups, definition, is_emulated, process};

const MIB: u64 = 1 << 20;
const OUT_OF_MEMORY: &str = "OutOfMemoryError: Container killed due to memory usage";

/// Path of a container's cgroup below each hierarchy.
fn of_container(host: &Host, task: &str, name: &str) -> String {
    format!("{}/{task}/{name}", host.places.cgroup_parent)
}

fn of_task(host: &Host, task: &str) -> String {
    format!("{}/{task}", host.places.cgroup_parent)
}

/// `cpu` is a relative weight; below 2 it is 2 (the ECS agent's minimum). On version 2 both conversions in use are
/// right: runc's linear one of before 1.3.2 and the one with which 1,024 shares become 100.
#[test]
fn cpu_is_a_share() {
    let host = Host::new();
    host.import_probe();
    for (units, shares, weights) in [(256, 256, [10, 35]), (0, 2, [1, 1]), (1024, 1024, [39, 100])] {
        let task = host.detach(&definition::probe_with(&["wait"], &json!({ "cpu": units })), &[]);
        let value: u64 = cgroups::value("cpu", &of_container(&host, &task, "main"), ["cpu.shares", "cpu.weight"])
            .parse()
            .expect("a number");
        if cgroups::unified() {
            assert!(weights.contains(&value), "cpu {units} has weight {value}");
        } else {
            assert_eq!(value, shares, "cpu {units}");
        }
        host.coracle(["stop", &task]).ok();
        host.coracle(["rm", &task]).ok();
    }
    host.finish();
}

#[test]
fn memory_is_a_limit_and_memory_reservation_a_soft_one() {
    let host = Host::new();
    host.import_probe();
    let members = json!({ "memory": 48, "memoryReservation": 24 });
    let task = host.detach(&definition::probe_with(&["wait"], &members), &[]);
    let cgroup = of_container(&host, &task, "main");
    let hard = cgroups::value("memory", &cgroup, ["memory.limit_in_bytes", "memory.max"]);
    assert_eq!(hard, (48 * MIB).to_string());
    let soft = cgroups::value("memory", &cgroup, ["memory.soft_limit_in_bytes", "memory.low"]);
    assert_eq!(soft, (24 * MIB).to_string());
    host.coracle(["stop", &task]).ok();
    host.coracle(["rm", &task]).ok();
    host.finish();
}

#[test]
fn an_out_of_memory_kill_is_137_and_says_so() {
    let host = Host::new();
    host.import_probe();
    let definition = definition::probe_with(&["memory", "400"], &json!({ "memory": 32 }));
    let ended = host.run(&definition, &["--output", "json"]).expect_code(137);
    let events = ended.json_lines();
    let last = events.last().expect("events");
    let task = last.get("task").unwrap_or(last);
    let container = definition::the_container(task, "main");
    assert_eq!(container["exitCode"], 137);
    assert_eq!(container["reason"], OUT_OF_MEMORY);
    assert_eq!(task["stoppedReason"], "Essential container in task exited");
    // The same for a person.
    host.run(&definition, &[]).expect_code(137).says(&["OutOfMemoryError"]);
    host.finish();
}

/// 137 by SIGKILL from elsewhere is not an out-of-memory kill.
#[test]
fn a_kill_that_is_not_for_memory_does_not_say_memory() {
    let host = Host::new();
    host.import_probe();
    let task = host.detach(&definition::probe(&["ignore-sigterm"]), &[]);
    crate::support::wait_for("the start", || (host.inspect(&task)["lastStatus"] == "RUNNING").then_some(()));
    process::kill(super::hardening::so_many_processes(&host, &task, 1)[0]);
    let stopped = crate::support::wait_for("the end", || {
        let task = host.inspect(&task);
        (task["lastStatus"] == "STOPPED").then_some(task)
    });
    let container = definition::the_container(&stopped, "main");
    assert_eq!(container["exitCode"], 137);
    assert!(!container.to_string().contains("OutOfMemory"), "{container}");
    host.coracle(["rm", &task]).ok();
    host.finish();
}

#[test]
fn a_process_that_came_later_is_killed_alone_and_the_container_lives() {
    let host = Host::new();
    host.import_probe();
    let task = host.detach(&definition::probe_with(&["wait", "5"], &json!({ "memory": 32 })), &[]);
    host.coracle(["exec", &task, "--", "/bin/probe", "memory", "400"]).expect_code(137);
    assert_eq!(definition::the_container(&host.inspect(&task), "main")["lastStatus"], "RUNNING");
    host.coracle(["stop", &task]).ok();
    assert_eq!(definition::the_container(&host.inspect(&task), "main")["exitCode"], 5);
    host.coracle(["rm", &task]).ok();
    host.finish();
}

/// Task-level `cpu` is a hard limit of cpu/1024 cores, `memory` one in MiB, both over all containers together.
#[test]
fn task_size_is_a_hard_limit_on_the_parent() {
    let host = Host::new();
    host.import_probe();
    let container = json!({ "name": "main", "image": "probe:latest", "command": ["wait"], "memoryReservation": 16 });
    let mut definition = definition::task(&[container]);
    definition["cpu"] = json!("512");
    definition["memory"] = json!("128");
    let task = host.detach(&definition, &[]);
    let cgroup = of_task(&host, &task);
    assert_eq!(cgroups::value("memory", &cgroup, ["memory.limit_in_bytes", "memory.max"]), (128 * MIB).to_string());
    let quota = cgroups::value("cpu", &cgroup, ["cpu.cfs_quota_us", "cpu.max"]);
    assert_eq!(quota.split(' ').next(), Some("50000"));
    assert_eq!(cgroups::value("pids", &cgroup, ["pids.max", "pids.max"]), "4096");
    host.coracle(["stop", &task]).ok();
    host.coracle(["rm", &task]).ok();
    host.finish();
}

#[test]
fn the_task_limit_kills_inside_the_task() {
    let host = Host::new();
    host.import_probe();
    let greedy = json!({
        "name": "greedy", "image": "probe:latest", "command": ["memory", "400"], "memoryReservation": 16, "essential": false,
    });
    let calm = json!({ "name": "calm", "image": "probe:latest", "command": ["wait", "3"], "memoryReservation": 16 });
    let mut definition = definition::task(&[greedy, calm]);
    definition["memory"] = json!("64");
    let task = host.detach(&definition, &[]);
    let after = crate::support::wait_for("the greedy container's end", || {
        let task = host.inspect(&task);
        (definition::the_container(&task, "greedy")["lastStatus"] == "STOPPED").then_some(task)
    });
    assert_eq!(definition::the_container(&after, "greedy")["exitCode"], 137);
    assert_eq!(definition::the_container(&after, "greedy")["reason"], OUT_OF_MEMORY);
    assert_eq!(definition::the_container(&after, "calm")["lastStatus"], "RUNNING");
    host.coracle(["stop", &task]).ok();
    host.coracle(["rm", &task]).ok();
    host.finish();
}

#[test]
fn a_fork_bomb_ends_at_the_tasks_limit() {
    const EAGAIN: i64 = 11;
    let host = Host::new();
    let forks = host.probe_with(&["forks", "6000"], &json!({ "memory": 4096 }));
    assert_eq!(forks["errno"], EAGAIN);
    assert!(forks["made"].as_u64().is_some_and(|made| made < 4096), "{forks}");
    host.finish();
}

#[test]
fn task_cpu_throttles() {
    let host = Host::new();
    host.import_probe();
    let mut definition = definition::probe(&["spin", "2000"]);
    definition["cpu"] = json!("256");
    definition["memory"] = json!("64");
    let share = || {
        let spun = host.run(&definition, &[]).ok().report("main");
        spun["cpu_ms"].as_f64().expect("a number") / spun["wall_ms"].as_f64().expect("a number")
    };
    // A quarter of one core for two seconds, give or take a period or two of 100 ms. An emulated processor that waits for its
    // turn counts time in which nothing ran: there the least of three counts.
    let tries = if is_emulated() { 3 } else { 1 };
    let shares: Vec<f64> = (0..tries).map(|_| share()).collect();
    assert!(shares.iter().any(|share| *share < 0.35), "{shares:?} of a core");
    host.finish();
}
