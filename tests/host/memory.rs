//! What a running task costs: the supervisor's memory, and that of the process behind 169.254.170.2. And the daemon's.

use serde_json::json;

use super::serve::Served;
use crate::support::{Host, definition, wait_for};

/// Never more than this for one supervisor, whatever the build; scripts/bench-memory measures the shipped one.
const MOST_KB: u64 = 1024;

/// And than this for the host's services, of which there is one.
const MOST_FOR_SERVICES_KB: u64 = 4096;

/// And than this for a daemon to which nothing happens.
const MOST_FOR_A_DAEMON_KB: u64 = 10_000;

/// Proportional set size of a process in kB: its own pages, and its part of those it shares.
fn pss_kb(pid: i32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("the supervisor runs");
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).expect("the kernel counts pages");
    line.trim().trim_end_matches("kB").trim().parse().expect("a number")
}

#[test]
fn a_supervisor_stays_under_one_megabyte() {
    let host = Host::new();
    host.import_probe();
    let definition = definition::task(&[
        definition::container("main", &["wait"], &json!({})),
        definition::container("side", &["flood", "20000"], &json!({ "essential": false })),
    ]);
    let tasks: Vec<String> = (0..3).map(|_| host.detach(&definition, &[])).collect();
    for task in &tasks {
        let supervisor = super::hardening::supervisor(&host, task);
        // It gives back what only starting needed when it has nothing else to do.
        wait_for("a supervisor under 1 MB", || (pss_kb(supervisor) < MOST_KB).then_some(()));
    }
    for task in tasks {
        host.coracle(["stop", &task]).ok();
        host.coracle(["rm", &task]).ok();
    }
    host.finish();
}

#[test]
fn the_hosts_services_stay_under_four_megabytes() {
    let host = Host::new();
    host.import_probe();
    let container = definition::container("main", &["wait"], &json!({ "portMappings": [{ "containerPort": 80 }] }));
    let tasks: Vec<String> =
        (0..3).map(|_| host.detach(&definition::bridge_task(std::slice::from_ref(&container)), &[])).collect();
    let process = super::services::services(&host);
    wait_for("services under 4 MB", || (pss_kb(process) < MOST_FOR_SERVICES_KB).then_some(()));
    for task in tasks {
        host.coracle(["rm", "--force", &task]).ok();
    }
    host.finish();
}

#[test]
fn a_daemon_that_waits_stays_under_ten_megabytes() {
    let host = Host::new();
    host.import_probe();
    let served = Served::start(&host);
    let low = || (pss_kb(served.daemon.pid()) < MOST_FOR_A_DAEMON_KB).then_some(());
    wait_for("a daemon under 10 MB after its start", low);
    let arn = served.run_task(&definition::probe(&["exit", "0"]));
    served.described(&arn, "STOPPED");
    wait_for("a daemon under 10 MB after a task", low);
    served.daemon.signal(libc::SIGTERM);
    served.daemon.wait().ok();
    host.finish();
}
