//! SIGKILL and silence at bad moments: what is left is found, and nothing else is touched.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::host::{Host, container, wait_until};
use ecs::Timestamp;
use ecs::task::{LastStatus, StopCode};
use runtime::recover::{CUT_SHORT, RecoveryReport, recover};
use runtime::{process_identity, task_dir};

const NOW: Timestamp = Timestamp::from_epoch_ms(1_800_000_000_000);
const FOREVER: &str = "echo ready; sleep 600 & sleep 600";

/// Ends a process and waits until it is no more.
fn kill(identity: &agent_protocol::ProcessIdentity) {
    let pidfd = process_identity::open(identity).expect("asked").expect("lives");
    process_identity::signal(pidfd.as_fd(), libc::SIGKILL).expect("sent");
    wait_for_end(&pidfd);
}

fn wait_for_end(pidfd: &std::os::fd::OwnedFd) {
    let mut interest = [nix::poll::PollFd::new(pidfd.as_fd(), nix::poll::PollFlags::POLLIN)];
    nix::poll::poll(&mut interest, nix::poll::PollTimeout::from(20_000_u16)).expect("poll");
}

#[test]
fn a_killed_supervisor_leaves_only_what_recover_finds() {
    let host = Host::new();
    let (task, other) = (host.script(1, FOREVER), host.script(2, FOREVER));
    host.start(&task);
    host.start(&other);
    host.says(&task, "app", "ready");
    let running = |status: &agent_protocol::TaskStatus| status.last_status == LastStatus::Running;
    host.until(&other, running);
    let before = host.until(&task, running);
    let first_process = container(&before, "app").process.clone().expect("runs");
    let first_process = process_identity::open(&first_process).expect("asked").expect("lives");
    kill(&before.supervisor);

    let report = recover(&host.roots, NOW);
    let expected = RecoveryReport { ended: vec![task.id.clone()], ..RecoveryReport::default() };
    assert_eq!(report, expected);
    wait_for_end(&first_process);
    let after = host.status(&task);
    assert_eq!((after.last_status, after.stop_code), (LastStatus::Stopped, Some(StopCode::EssentialContainerExited)));
    assert_eq!(after.stopped_reason.as_deref(), Some(CUT_SHORT));
    assert_eq!((after.stopped_at, after.version), (Some(NOW), before.version + 1));
    assert_eq!(container(&after, "app").exit_code, None);
    assert!(container(&after, "app").reason.as_deref().is_some_and(|reason| reason.contains("not seen")));
    host.assert_gone(&task.places);
    assert_eq!(host.text(&task, "app"), "ready\n");

    assert_eq!(recover(&host.roots, NOW), RecoveryReport::default());
    assert_eq!(host.status(&other).last_status, LastStatus::Running);
    runtime::client::connect(&other.places).expect("untouched").kill("").expect("taken");
    host.stopped(&other);
}

#[test]
fn a_driver_that_ends_before_go_leaves_nothing() {
    let host = Host::new();
    let task = host.script(1, FOREVER);
    let output = host.drive("waver", &task);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The supervisor is not ours to wait for; what it holds until its end is its lock, inside of what it removes.
    wait_until("the task's directory is gone", || !task.places.state.exists());
    host.assert_gone(&task.places);
    assert_eq!(recover(&host.roots, NOW), RecoveryReport::default());
}

#[test]
fn a_task_that_is_being_made_is_not_touched_and_a_half_made_one_is() {
    let host = Host::new();
    let making = task_dir::create(&host.roots, &host.id(1)).expect("made");
    assert_eq!(recover(&host.roots, NOW), RecoveryReport::default());
    assert!(making.places.state.exists() && making.places.run.exists());
    let (id, places) = (making.id.clone(), making.places.clone());
    drop(making);
    assert_eq!(recover(&host.roots, NOW), RecoveryReport { removed: vec![id], ..RecoveryReport::default() });
    assert!(!places.state.exists() && !places.run.exists());
}

#[test]
fn a_task_that_was_written_down_and_never_ran_says_so() {
    let host = Host::new();
    let task = host.script(1, FOREVER);
    drop(task_dir::create(&host.roots, &task.id).expect("made"));
    task_dir::write_spec(&task).expect("written");
    assert_eq!(recover(&host.roots, NOW).ended, std::slice::from_ref(&task.id));
    let status = host.status(&task);
    assert_eq!((status.last_status, status.stop_code), (LastStatus::Stopped, Some(StopCode::TaskFailedToStart)));
    assert_eq!(container(&status, "app").reason, None);
}

/// Where in a task's life it is killed, microseconds after the driver began: from before there is a supervisor until
/// after the container has ended.
const MOMENTS_US: std::ops::Range<u64> = 0..40_000;
const KILLS: u64 = 60;

#[test]
fn sigkill_at_any_moment_leaves_nothing_that_recover_does_not_find() {
    let host = Host::new();
    let cgroups = runtime::cgroup::Cgroups::detect().expect("cgroups");
    for kill in 0..KILLS {
        let task = host.script(kill as u8, "echo up; sleep 0.01");
        let places = &task.places;
        let began = Instant::now();
        let mut driver = host.begin("start", &task);
        // A low-discrepancy sequence: all parts of the range, in no order.
        let moment = MOMENTS_US.start + kill * 16_381 % (MOMENTS_US.end - MOMENTS_US.start);
        while began.elapsed() < Duration::from_micros(moment) {
            std::thread::yield_now();
        }
        let supervisor_first = kill % 2 == 0;
        if supervisor_first {
            kill_all(&cgroups, &places.supervisor_cgroup);
        }
        driver.kill().expect("ours");
        driver.wait().expect("ended");
        kill_all(&cgroups, &places.supervisor_cgroup);
        // A driver that was killed in the middle of forking may have a supervisor that is not in its cgroup yet: that
        // one still holds the claim, takes its lock, finds nobody, and cleans up by itself.
        let patience = Instant::now() + Duration::from_secs(60);
        loop {
            let report = recover(&host.roots, NOW);
            assert_eq!(report.errors, Vec::<String>::new(), "killed after {moment} us");
            if !places.state.exists() || is_stopped(places) {
                break;
            }
            assert!(Instant::now() < patience, "killed after {moment} us: still there{}", host.journal(&task));
        }
        assert_eq!(recover(&host.roots, NOW), RecoveryReport::default());
        host.assert_gone(places);
    }
}

fn is_stopped(places: &agent_protocol::task_spec::Places) -> bool {
    let status = runtime::status_file::read(&places.state).expect("readable");
    status.is_some_and(|status| status.last_status == LastStatus::Stopped)
        && !task_dir::supervised(&places.state).expect("readable")
}

/// SIGKILL to what is in a cgroup at this moment, one by one, as an operator would.
fn kill_all(cgroups: &runtime::cgroup::Cgroups, cgroup: &std::path::Path) {
    for pid in cgroups.processes(cgroup).expect("readable") {
        let Ok(identity) = process_identity::of(pid) else { continue };
        let Some(pidfd) = process_identity::open(&identity).expect("asked") else { continue };
        process_identity::signal(pidfd.as_fd(), libc::SIGKILL).expect("sent");
        wait_for_end(&pidfd);
    }
}
