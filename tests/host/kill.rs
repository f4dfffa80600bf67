//! SIGKILL at any moment of a start leaves nothing that the next `coracle ps` does not clean away. The long loop is
//! `scripts/kill-loop`; this is its sample of every day.

use std::time::Duration;

use serde_json::json;

use crate::support::{Host, cgroups, definition, process, unique};

const ROUNDS: u32 = 25;
/// A whole warm start takes about this long in a debug build on a busy machine.
const LONGEST: Duration = Duration::from_millis(150);

/// A moment between nothing and `LONGEST`, another one each time.
fn a_moment() -> Duration {
    let dice = u32::from_str_radix(&unique(), 16).expect("hexadecimal digits");
    LONGEST.mul_f64(f64::from(dice) / f64::from(u32::MAX))
}

fn supervisors(host: &Host) -> Vec<i32> {
    let mut found: Vec<i32> = cgroups::below(&host.places.cgroup_parent)
        .iter()
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("supervisor-")))
        .flat_map(|path| cgroups::processes(path))
        .collect();
    found.dedup();
    found
}

/// Ends and removes every task that is still known.
fn end_all(host: &Host) {
    let tasks = std::fs::read_dir(host.places.data_dir().join("tasks")).into_iter().flatten().flatten();
    for task in tasks.map(|entry| entry.file_name().to_string_lossy().into_owned()) {
        host.coracle(["stop", &task]);
        host.coracle(["rm", "--force", &task]);
    }
}

fn killed_rounds(who: fn(&Host, i32) -> Vec<i32>) {
    let host = Host::new();
    host.import_probe();
    let members = json!({ "portMappings": [{ "containerPort": 80, "hostPort": 8080 }], "stopTimeout": 2 });
    let definition = definition::bridge_task(&[
        definition::container("main", &["wait"], &members),
        definition::container("side", &["forever"], &json!({ "essential": false, "stopTimeout": 2 })),
    ]);
    for round in 0..ROUNDS {
        let moment = a_moment();
        let run = host.start_run(&definition, &[]);
        run.ends_within(moment);
        for pid in who(&host, run.pid()) {
            process::kill(pid);
        }
        run.signal(libc::SIGKILL);
        drop(run);
        host.coracle(["ps"]).ok();
        end_all(&host);
        let found = host.leftovers();
        if !found.is_empty() {
            let again = host.coracle(["ps"]).whole();
            let still = host.leftovers().join("\n  ");
            let found = found.join("\n  ");
            panic!(
                "round {round}, killed after {moment:?}, left:\n  {found}\nand after another ps:\n  {still}\n{again}"
            );
        }
    }
    // The host still works, and the port is free.
    let task = host.detach(&definition, &[]);
    host.coracle(["stop", &task]).ok();
    host.coracle(["rm", &task]).ok();
    host.finish();
}

#[test]
fn the_driver_is_killed_at_random_moments() {
    killed_rounds(|_, run| vec![run]);
}

#[test]
fn the_supervisor_is_killed_at_random_moments() {
    killed_rounds(|host, _| supervisors(host));
}

#[test]
fn everything_is_killed_at_once_at_random_moments() {
    killed_rounds(|host, run| {
        let mut all = supervisors(host);
        all.push(run);
        all
    });
}
