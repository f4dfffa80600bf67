//! A supervisor from its start to its end: exit codes, stops, order, and what a status says meanwhile.

use std::time::{Duration, Instant};

use crate::host::{Host, container};
use ecs::task::{ContainerLastStatus, DesiredStatus, LastStatus, StopCode};
use runtime::client::{self, ClientError};
use runtime::task_dir;
use serde_json::json;

/// A script that is deaf to SIGTERM until it has been told to be ready.
const DEAF: &str = "trap '' TERM; echo ready; sleep 600 & wait; sleep 600";
/// One that ends as asked.
const POLITE: &str = "trap 'echo stopping; exit 143' TERM; echo ready; sleep 600 & wait";

#[test]
fn exit_codes_are_the_containers() {
    let host = Host::new();
    for (serial, script, expected) in [(1, "exit 0", 0), (2, "exit 3", 3), (3, "exec /bin/false", 1)] {
        let task = host.script(serial, script);
        let status = host.run(&task);
        let app = container(&status, "app");
        assert_eq!(status.stop_code, Some(StopCode::EssentialContainerExited), "{status:?}");
        assert_eq!(status.stopped_reason.as_deref(), Some("Essential container in task exited"));
        assert_eq!(status.ended_by.as_ref().map(|name| name.as_str()), Some("app"));
        assert_eq!(app.last_status, ContainerLastStatus::Stopped);
        assert_eq!(app.exit_code, Some(expected), "{script}{}", host.journal(&task));
        assert_eq!(status.teardown_errors, Vec::<String>::new());
        assert!(status.started_at.is_some() && status.started_at <= status.stopped_at);
        host.assert_gone(&task.places);
    }
}

#[test]
fn a_stop_gives_time_and_then_kills() {
    let host = Host::new();
    let deaf = json!({"name": "deaf", "command": ["sh", "-c", DEAF], "stopTimeout": 1});
    let polite = json!({"name": "polite", "command": ["sh", "-c", POLITE], "stopTimeout": 60});
    let task = host.task(1, &[deaf, polite]);
    host.start(&task);
    host.says(&task, "deaf", "ready");
    host.says(&task, "polite", "ready");
    let asked = Instant::now();
    client::connect(&task.places).expect("runs").stop(StopCode::UserInitiated, "enough").expect("taken");
    let status = host.stopped(&task);
    assert!(asked.elapsed() >= Duration::from_secs(1) && asked.elapsed() < Duration::from_secs(50));
    assert_eq!(container(&status, "deaf").exit_code, Some(137));
    assert_eq!(container(&status, "polite").exit_code, Some(143));
    assert_eq!((status.stop_code, status.stopped_reason.as_deref()), (Some(StopCode::UserInitiated), Some("enough")));
    assert_eq!(host.text(&task, "polite"), "ready\nstopping\n");
    host.assert_gone(&task.places);
}

#[test]
fn a_kill_spares_nobody() {
    let host = Host::new();
    let task = host.task(1, &[json!({"command": ["sh", "-c", DEAF], "stopTimeout": 100})]);
    host.start(&task);
    host.says(&task, "app", "ready");
    client::connect(&task.places).expect("runs").kill("at once").expect("taken");
    let status = host.stopped(&task);
    assert_eq!(container(&status, "app").exit_code, Some(137));
    assert_eq!(container(&status, "app").reason, None);
    assert_eq!(status.stopped_reason.as_deref(), Some("at once"));
    host.assert_gone(&task.places);
}

#[test]
fn sigterm_to_the_supervisor_stops_its_task() {
    let host = Host::new();
    let task = host.script(1, POLITE);
    host.start(&task);
    host.says(&task, "app", "ready");
    let supervisor = host.status(&task).supervisor;
    for signal in [libc::SIGHUP, libc::SIGTERM] {
        let pidfd = runtime::process_identity::open(&supervisor).expect("asked").expect("lives");
        runtime::process_identity::signal(std::os::fd::AsFd::as_fd(&pidfd), signal).expect("sent");
    }
    let status = host.stopped(&task);
    assert_eq!(status.stopped_reason.as_deref(), Some("Task stopped by user"));
    assert_eq!(container(&status, "app").exit_code, Some(143));
}

#[test]
fn watching_shows_every_station_and_ends() {
    let host = Host::new();
    let task = host.task(1, &[json!({"command": ["sh", "-c", POLITE]})]);
    host.start(&task);
    let running = host.until(&task, |status| status.last_status == LastStatus::Running);
    let app = container(&running, "app");
    assert!(app.process.is_some() && app.started_at.is_some() && !app.start_stages_us.is_empty(), "{app:?}");
    assert_eq!(running.desired_status, DesiredStatus::Running);
    host.says(&task, "app", "ready");
    let watch = client::connect(&task.places).expect("runs").watch().expect("never refused");
    client::connect(&task.places).expect("runs").stop(StopCode::UserInitiated, "").expect("taken");
    let seen: Vec<_> = watch.map(|status| status.expect("statuses only")).collect();
    assert!(seen.windows(2).all(|pair| pair[0].version < pair[1].version), "{seen:?}");
    assert!(seen.iter().any(|status| status.last_status == LastStatus::Stopping));
    let last = seen.last().expect("at least one");
    assert_eq!((last.last_status, last), (LastStatus::Stopped, &host.status(&task)));
    assert!(matches!(client::connect(&task.places), Err(ClientError::Gone { .. })));
}

#[test]
fn containers_start_and_stop_in_their_order() {
    let host = Host::new();
    let init = json!({"name": "init", "essential": false, "command": ["sh", "-c", "echo one"]});
    let db = json!({"name": "db", "command": ["sh", "-c", POLITE],
                    "dependsOn": [{"containerName": "init", "condition": "SUCCESS"}]});
    let web = json!({"name": "web", "command": ["sh", "-c", POLITE],
                     "dependsOn": [{"containerName": "db", "condition": "START"}]});
    let task = host.task(1, &[web, db, init]);
    host.start(&task);
    host.says(&task, "web", "ready");
    host.says(&task, "db", "ready");
    client::connect(&task.places).expect("runs").stop(StopCode::UserInitiated, "").expect("taken");
    let status = host.stopped(&task);
    let [web, db, init] = ["web", "db", "init"].map(|name| container(&status, name));
    assert_eq!(init.exit_code, Some(0));
    assert!(init.finished_at <= db.started_at && db.started_at <= web.started_at);
    assert!(web.finished_at <= db.finished_at);
    assert_eq!((web.exit_code, db.exit_code), (Some(143), Some(143)));
    host.assert_gone(&task.places);
}

#[test]
fn a_program_that_is_not_there_is_said() {
    let host = Host::new();
    let task = host.task(1, &[json!({"command": ["/bin/nope"]})]);
    let status = host.run(&task);
    assert_eq!(status.stop_code, Some(StopCode::TaskFailedToStart));
    assert_eq!(status.stopped_reason.as_deref(), Some("Task failed to start"));
    let app = container(&status, "app");
    assert_eq!(app.exit_code, None);
    let reason = app.reason.as_deref().expect("a reason");
    assert!(reason.starts_with("CannotStartContainerError: ") && reason.contains("/bin/nope"), "{reason}");
    host.assert_gone(&task.places);
}

#[test]
fn out_of_memory_is_seen_and_said() {
    let host = Host::new();
    let hog = "exec dd if=/dev/zero of=/dev/null bs=400M count=1";
    let task = host.task(1, &[json!({"command": ["sh", "-c", hog], "memory": 16})]);
    let status = host.run(&task);
    let app = container(&status, "app");
    assert_eq!(app.exit_code, Some(137), "{app:?}{}", host.journal(&task));
    assert_eq!(app.reason.as_deref(), Some("OutOfMemoryError: Container killed due to memory usage"));
    host.assert_gone(&task.places);
}

#[test]
fn a_task_is_found_by_id_prefix_and_family_and_removed_when_it_has_stopped() {
    let host = Host::new();
    let task = host.script(1, POLITE);
    host.start(&task);
    host.says(&task, "app", "ready");
    let found = task_dir::find(&host.roots, &task.id.as_str()[..20]).expect("one");
    assert_eq!(found.spec, task);
    assert_eq!(task_dir::find(&host.roots, "test").expect("one").spec.id, task.id);
    let refused = task_dir::remove(&host.roots, &task.id).expect_err("it runs");
    assert_eq!(refused.to_string(), format!("task {} is still running; stop it first", task.id));
    client::connect(&task.places).expect("runs").kill("").expect("taken");
    host.stopped(&task);
    let again = host.script(2, "true");
    host.run(&again);
    let several = task_dir::find(&host.roots, "test").expect_err("two have stopped").to_string();
    assert!(several.contains(task.id.as_str()) && several.contains(again.id.as_str()), "{several}");
    task_dir::remove(&host.roots, &task.id).expect("removed");
    assert_eq!(task_dir::find(&host.roots, "test:1").expect("one is left").spec.id, again.id);
    assert!(!task.places.state.exists());
}

#[test]
fn a_full_disk_ends_no_task_and_loses_no_ending() {
    fills_its_disk("yes filled | head -c 3000000");
}

/// What follows a little output is read a moment later, from a pipe that is not polled meanwhile.
#[test]
fn nor_does_a_disk_that_is_filled_after_a_few_lines() {
    fills_its_disk("for line in 1 2 3 4 5 6 7 8; do echo $line; done; yes filled | head -c 3000000");
}

fn fills_its_disk(write: &str) {
    let host = Host::new();
    let script = format!("trap 'exit 5' TERM; {write}; sleep 600 & wait");
    let task = host.script(1, &script);
    host.start_on_small_disk("400k", &task);
    // A container may write before its supervisor has heard that it runs.
    let full = host.until(&task, |status| {
        container(status, "app").log_lost_bytes > 0 && status.last_status == LastStatus::Running
    });
    let app = container(&full, "app");
    assert!(app.log_error.as_deref().is_some_and(|error| error.contains("No space left")), "{app:?}");
    let watch = client::connect(&task.places).expect("runs").watch().expect("never refused");
    // What it has written is only seen from its own mount namespace.
    let supervisor = full.supervisor.pid;
    let state = task.places.state.strip_prefix("/").expect("absolute");
    let state = std::fs::File::open(format!("/proc/{supervisor}/root/{}", state.display())).expect("lives");
    client::connect(&task.places).expect("runs").stop(StopCode::UserInitiated, "full").expect("taken");
    let seen: Vec<_> = watch.map(|status| status.expect("statuses only")).collect();
    let last = seen.last().expect("at least one");
    assert_eq!((last.last_status, container(last, "app").exit_code), (LastStatus::Stopped, Some(5)));
    let there = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&state));
    let written = runtime::status_file::read(std::path::Path::new(&there)).expect("readable").expect("written");
    assert_eq!(&written, last);
    host.assert_gone(&task.places);
}
