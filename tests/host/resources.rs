//! The arithmetic of a task's cgroups, as Amazon's agent does it, and swap: read back from the kernel's files.

use serde_json::{Value, json};

use crate::support::{Host, cgroups, definition};

const MIB: u64 = 1 << 20;

fn of_container(host: &Host, task: &str, name: &str) -> String {
    format!("{}/{task}/{name}", host.places.cgroup_parent)
}

fn waiting(name: &str, members: &Value) -> Value {
    definition::container(name, &["wait"], members)
}

fn end(host: &Host, task: &str) {
    host.coracle(["stop", task]).ok();
    host.coracle(["rm", task]).ok();
}

/// "Σ max(2, container.cpu)": a task without a size of its own weighs what its containers weigh.
#[test]
fn a_task_without_cpu_has_the_shares_of_its_containers() {
    let host = Host::new();
    host.import_probe();
    let containers = [("a", 0), ("b", 1), ("c", 300)].map(|(name, cpu)| waiting(name, &json!({ "cpu": cpu })));
    let task = host.detach(&definition::task(&containers), &[]);
    let path = format!("{}/{task}", host.places.cgroup_parent);
    let value = cgroups::value("cpu", &path, ["cpu.shares", "cpu.weight"]);
    // 304 shares are a weight of 1 + 302 × 9999 / 262142.
    assert_eq!(value, if cgroups::unified() { "12" } else { "304" });
    let quota = cgroups::value("cpu", &path, ["cpu.cfs_quota_us", "cpu.max"]);
    assert_eq!(quota.split(' ').next(), Some(if cgroups::unified() { "max" } else { "-1" }));
    end(&host, &task);
    host.finish();
}

/// With a size, the task has a quota of cpu/1024 cores, and its containers keep their shares.
#[test]
fn a_task_with_cpu_has_a_quota_and_its_containers_shares() {
    let host = Host::new();
    host.import_probe();
    let mut definition = definition::task(&[waiting("a", &json!({ "cpu": 1 }))]);
    definition["cpu"] = json!(".25 vcpu");
    definition["memory"] = json!("0.5GB");
    let task = host.detach(&definition, &[]);
    let path = format!("{}/{task}", host.places.cgroup_parent);
    let quota = cgroups::value("cpu", &path, ["cpu.cfs_quota_us", "cpu.max"]);
    assert_eq!(quota.split(' ').next(), Some("25000"));
    let memory = cgroups::value("memory", &path, ["memory.limit_in_bytes", "memory.max"]);
    assert_eq!(memory, (512 * MIB).to_string());
    let shares = cgroups::value("cpu", &of_container(&host, &task, "a"), ["cpu.shares", "cpu.weight"]);
    assert_eq!(shares, if cgroups::unified() { "1" } else { "2" });
    end(&host, &task);
    host.finish();
}

#[test]
fn a_reservation_alone_is_no_limit() {
    let host = Host::new();
    host.import_probe();
    let container = json!({ "name": "main", "image": "probe:latest", "command": ["wait"], "memoryReservation": 24 });
    let task = host.detach(&definition::task(&[container]), &[]);
    let path = of_container(&host, &task, "main");
    let soft = cgroups::value("memory", &path, ["memory.soft_limit_in_bytes", "memory.low"]);
    assert_eq!(soft, (24 * MIB).to_string());
    let hard = cgroups::value("memory", &path, ["memory.limit_in_bytes", "memory.max"]);
    let unlimited = hard == "max" || hard.parse::<u64>().is_ok_and(|bytes| bytes > 1 << 60);
    assert!(unlimited, "{hard}");
    end(&host, &task);
    host.finish();
}

/// Whether this kernel accounts swap; without, only a warning is to be seen.
fn accounts_swap(host: &Host, task: &str) -> bool {
    let path = of_container(host, task, "main");
    let file = if cgroups::unified() { "memory.swap.max" } else { "memory.memsw.limit_in_bytes" };
    cgroups::controller("memory").join(path).join(file).exists()
}

/// "the sum of the container memory plus the maxSwap value": API_LinuxParameters. Without it, as much as memory.
#[test]
fn max_swap_is_beside_memory() {
    let host = Host::new();
    host.import_probe();
    for (parameters, swap) in [(json!({}), 64), (json!({ "maxSwap": 0 }), 0), (json!({ "maxSwap": 100 }), 100)] {
        let started = host.run(
            &definition::task(&[waiting("main", &json!({ "memory": 64, "linuxParameters": parameters }))]),
            &["--detach"],
        );
        let started = started.ok();
        let task = started.line().lines().last().unwrap_or_default().to_owned();
        let path = of_container(&host, &task, "main");
        if accounts_swap(&host, &task) {
            let value = cgroups::value("memory", &path, ["memory.memsw.limit_in_bytes", "memory.swap.max"]);
            let wanted = if cgroups::unified() { swap * MIB } else { (64 + swap) * MIB };
            assert_eq!(value, wanted.to_string(), "{parameters}");
        } else if parameters != json!({}) {
            started.says(&["main", "maxSwap"]);
        }
        end(&host, &task);
    }
    host.finish();
}

#[test]
fn swappiness_is_for_version_one() {
    let host = Host::new();
    host.import_probe();
    let members = json!({ "linuxParameters": { "maxSwap": 16, "swappiness": 7 } });
    let started = host.run(&definition::task(&[waiting("main", &members)]), &["--detach"]).ok();
    let task = started.line().lines().last().unwrap_or_default().to_owned();
    if cgroups::unified() {
        started.says(&["main", "swappiness"]);
    } else {
        let file = cgroups::controller("memory").join(of_container(&host, &task, "main")).join("memory.swappiness");
        assert_eq!(std::fs::read_to_string(file).expect("version 1 has it").trim(), "7");
    }
    end(&host, &task);
    host.finish();
}
