//! Order and life of a task's containers, with real ones: when each starts, how it is looked after, how it ends.
//!
//! What is expected is Amazon's: API_ContainerDependency, API_HealthCheck, API_ContainerRestartPolicy,
//! API_ContainerDefinition (startTimeout, stopTimeout), and, where those are silent, what the engine tests of the ECS
//! agent show (`ordering_integ_test.go`, `engine_integ_test.go`).

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::hardening::{container_processes, supervisor, the_only_task};
use crate::support::silent::Silent;
use crate::support::{Host, cgroups, definition, trace, wait_for};

fn depends_on(name: &str, condition: &str) -> Value {
    json!({ "dependsOn": [{ "containerName": name, "condition": condition }] })
}

fn side(name: &str, command: &[&str], members: &Value) -> Value {
    let mut container = definition::container(name, command, members);
    container["essential"] = json!(false);
    container
}

/// A check that runs the probe with these words, every 5 s; one failure is enough.
fn check(command: &[&str]) -> Value {
    let command: Vec<&str> = ["CMD", "/bin/probe"].iter().chain(command).copied().collect();
    json!({ "healthCheck": { "command": command, "interval": 5, "timeout": 2, "retries": 1 } })
}

#[track_caller]
fn wait_until_stopped(host: &Host, task: &str) -> Value {
    wait_for("the task's end", || {
        let task = host.inspect(task);
        (task["lastStatus"] == "STOPPED").then_some(task)
    })
}

#[track_caller]
fn moment(task: &Value, container: &str, which: &str) -> f64 {
    let known = &task["coracle"]["containers"][container];
    known[which].as_f64().unwrap_or_else(|| panic!("{container} has no {which}: {task}"))
}

#[track_caller]
fn remove(host: &Host, task: &str) {
    host.coracle(["rm", task]).ok();
}

/// One dependent of each kind, which all must have been met before it starts.
#[test]
fn a_container_starts_when_every_condition_is_met() {
    let host = Host::new();
    host.import_probe();
    let mut main = definition::container("main", &["exit", "7"], &Value::Null);
    main["dependsOn"] = json!([
        { "containerName": "started", "condition": "START" },
        { "containerName": "completed", "condition": "COMPLETE" },
        { "containerName": "succeeded", "condition": "SUCCESS" },
        { "containerName": "healthy", "condition": "HEALTHY" },
    ]);
    let containers = [
        main,
        side("started", &["wait"], &Value::Null),
        side("completed", &["exit", "3"], &Value::Null),
        side("succeeded", &["exit", "0"], &Value::Null),
        side("healthy", &["wait"], &check(&["exit", "0"])),
    ];
    let task = host.detach(&definition::task(&containers), &[]);
    let stopped = wait_until_stopped(&host, &task);
    let started = moment(&stopped, "main", "startedAt");
    assert!(moment(&stopped, "started", "startedAt") <= started, "{stopped}");
    assert!(moment(&stopped, "completed", "finishedAt") <= started, "{stopped}");
    assert!(moment(&stopped, "succeeded", "finishedAt") <= started, "{stopped}");
    // The first check comes an interval after the start.
    assert!(moment(&stopped, "healthy", "startedAt") + 5.0 <= started, "{stopped}");
    assert_eq!(stopped["stopCode"], "EssentialContainerExited");
    assert_eq!(definition::the_container(&stopped, "main")["exitCode"], 7);
    remove(&host, &task);
    host.finish();
}

/// "Container dependency condition can never be met": each ends the task at once, and names the container.
#[test]
fn a_condition_that_cannot_be_met_any_more_stops_the_task_and_says_which() {
    let mut sick = check(&["exit", "1"]);
    sick["startTimeout"] = json!(2);
    let cases = [
        (side("first", &["exit", "3"], &Value::Null), "SUCCESS"),
        (side("first", &["exit", "0"], &check(&["exit", "0"])), "HEALTHY"),
        (side("first", &["wait"], &json!({ "startTimeout": 1 })), "COMPLETE"),
        (side("first", &["wait"], &json!({ "startTimeout": 1 })), "SUCCESS"),
        (side("first", &["wait"], &sick), "HEALTHY"),
        (side("first", &["exit", "0"], &json!({ "entryPoint": ["/bin/nothing"] })), "COMPLETE"),
    ];
    let host = Host::new();
    host.import_probe();
    for (first, condition) in cases {
        let main = definition::container("main", &["say", "never"], &depends_on("first", condition));
        let begun = Instant::now();
        let task = host.run(&definition::task(&[first, main]), &["--rm=false", "--output", "json"]);
        assert!(begun.elapsed() < Duration::from_secs(60), "{condition} took {:?}", begun.elapsed());
        assert_ne!(task.code(), 0, "{}", task.whole());
        let events = task.json_lines();
        let stopped = events.last().expect("events")["task"].clone();
        assert_eq!(stopped["stopCode"], "TaskFailedToStart", "{condition}: {stopped}");
        let reason = stopped["stoppedReason"].as_str().expect("a reason").to_owned();
        assert!(reason.contains("first"), "{condition}: {reason}");
        assert_eq!(definition::the_container(&stopped, "main").get("exitCode"), None, "{condition}: {stopped}");
        let id = stopped["taskArn"].as_str().and_then(|arn| arn.rsplit('/').next()).expect("an ARN").to_owned();
        assert!(!host.coracle(["logs", &id]).ok().stdout.contains("never"));
        remove(&host, &id);
    }
    host.finish();
}

/// Each container has its own stopTimeout, and one is told only after those that stand on it have ended.
#[test]
fn a_chain_stops_from_its_top_with_each_ones_own_timeout() {
    let host = Host::new();
    host.import_probe();
    let on = |name: &str, timeout: u32| {
        let mut members = depends_on(name, "START");
        members["stopTimeout"] = json!(timeout);
        members
    };
    let containers = [
        definition::container("base", &["wait", "11"], &json!({ "stopTimeout": 30 })),
        definition::container("middle", &["ignore-sigterm"], &on("base", 1)),
        definition::container("top", &["ignore-sigterm"], &on("middle", 2)),
    ];
    let task = host.detach(&definition::task(&containers), &[]);
    wait_for("all to wait", || {
        (host.coracle(["logs", &task]).ok().stdout.matches("waiting").count() == 3).then_some(())
    });
    host.coracle(["stop", &task]).ok();
    let stopped = host.inspect(&task);
    let end = |name: &str| moment(&stopped, name, "finishedAt");
    let stopping = stopped["stoppingAt"].as_f64().expect("it was stopping");
    assert!(end("top") - stopping >= 2.0 && end("top") - stopping < 3.0, "{stopped}");
    assert!(end("middle") - end("top") >= 1.0 && end("middle") - end("top") < 2.0, "{stopped}");
    assert!(end("base") >= end("middle"), "{stopped}");
    assert_eq!(definition::the_container(&stopped, "base")["exitCode"], 11);
    remove(&host, &task);
    host.finish();
}

#[test]
fn health_is_what_the_check_says_and_is_shown() {
    let host = Host::new();
    host.import_probe();
    let task = host.detach(&definition::probe_with(&["wait"], &check(&["read", "/tmp/good"])), &[]);
    let shown = host.inspect(&task);
    assert_eq!(
        (&shown["healthStatus"], &definition::the_container(&shown, "main")["healthStatus"]),
        (&json!("UNKNOWN"), &json!("UNKNOWN"))
    );
    let wait_for_health = |status: &str| {
        wait_for(status, || {
            let shown = host.inspect(&task);
            (definition::the_container(&shown, "main")["healthStatus"] == status).then_some(shown)
        })
    };
    let sick = wait_for_health("UNHEALTHY");
    assert_eq!(sick["healthStatus"], "UNHEALTHY");
    // An unhealthy container stops no task that runs alone.
    assert_eq!(sick["lastStatus"], "RUNNING");
    let output = sick["coracle"]["containers"]["main"]["healthOutput"].as_str().expect("the check said something");
    assert!(output.contains("/tmp/good"), "{output}");
    host.coracle(["ps"]).ok().prints(&["unhealthy"]);
    host.coracle(["exec", &task, "--", "/bin/probe", "write", "/tmp/good", "yes"]).ok();
    let well = wait_for_health("HEALTHY");
    assert_eq!(
        (&well["healthStatus"], &well["coracle"]["containers"]["main"]["healthOutput"]),
        (&json!("HEALTHY"), &json!("yes"))
    );
    host.coracle(["ps"]).ok().prints(&["(healthy)"]);
    host.coracle(["stop", &task]).ok();
    remove(&host, &task);
    host.finish();
}

/// A check is a process of the container: its user, its environment, its limits; one that takes too long is killed
/// with what it has started.
#[test]
fn a_check_runs_as_the_container_and_is_killed_when_it_takes_too_long() {
    let host = Host::new();
    host.import_probe();
    let shell = json!({
        "healthCheck": { "command": ["CMD-SHELL", "environment"], "interval": 5, "timeout": 2, "retries": 1 },
        "user": "ana", "environment": [{ "name": "OF", "value": "the container" }],
    });
    let containers = [
        definition::container("main", &["wait"], &shell),
        definition::container("slow", &["wait"], &check(&["stubborn", "3"])),
        definition::container("none", &["wait"], &json!({ "healthCheck": { "command": ["NONE"] } })),
    ];
    let task = host.detach(&definition::task(&containers), &[]);
    let shown = wait_for("the checks", || {
        let shown = host.inspect(&task);
        let health = |name: &str| definition::the_container(&shown, name)["healthStatus"].clone();
        (health("main") == "HEALTHY" && health("slow") == "UNHEALTHY").then_some(shown)
    });
    let output = &shown["coracle"]["containers"]["main"]["healthOutput"];
    let output = output.as_str().expect("a report");
    assert!(output.contains("the container") && output.contains("/home/ana"), "{output}");
    assert_eq!(definition::the_container(&shown, "none")["healthStatus"], "UNKNOWN");
    // One process each, but for a check that has begun since.
    wait_for("the check's processes to be gone", || (container_processes(&host, &task).len() == 3).then_some(()));
    host.coracle(["stop", &task]).ok();
    remove(&host, &task);
    host.finish();
}

/// "The number of exit codes that Amazon ECS will ignore and not attempt a restart on"; and "a container can be
/// restarted only if it has been running for at least restartAttemptPeriod".
#[test]
fn an_ignored_exit_code_and_an_end_that_comes_too_soon_are_ends() {
    let host = Host::new();
    host.import_probe();
    let policy = |ignored: &[i32]| json!({ "restartPolicy": { "enabled": true, "ignoredExitCodes": ignored, "restartAttemptPeriod": 60 } });
    host.run(&definition::probe_with(&["exit", "7"], &policy(&[7])), &[]).expect_code(7);
    host.run(&definition::probe_with(&["exit", "8"], &policy(&[7])), &[]).expect_code(8);
    host.finish();
}

/// A minute long: the shortest restartAttemptPeriod there is.
#[test]
fn a_container_is_restarted_with_its_files_its_address_and_its_log() {
    const PERIOD: Duration = Duration::from_secs(60);
    let host = Host::new();
    host.import_probe();
    let members = json!({
        "restartPolicy": { "enabled": true, "ignoredExitCodes": [9], "restartAttemptPeriod": 60 },
        "portMappings": [{ "containerPort": 80 }],
    });
    let main = definition::container("main", &["wait"], &members);
    let task = host.detach(&definition::bridge_task(&[main]), &[]);
    let begun = Instant::now();
    host.coracle(["exec", &task, "--", "/bin/probe", "write", "/kept", "from before"]).ok();
    let before = host.inspect(&task);
    let process = |shown: &Value| shown["coracle"]["containers"]["main"]["process"]["pid"].as_i64();
    let pid = process(&before).expect("it runs");
    while begun.elapsed() <= PERIOD + Duration::from_millis(500) {
        std::thread::park_timeout(Duration::from_millis(100));
    }
    // SAFETY: the container's first process, which only ends by this signal.
    assert_eq!(unsafe { libc::kill(pid as i32, libc::SIGTERM) }, 0);
    let after = wait_for("the restart", || {
        let shown = host.inspect(&task);
        process(&shown).is_some_and(|now| now != pid).then_some(shown)
    });
    assert_eq!(after["lastStatus"], "RUNNING");
    assert_eq!(after["coracle"]["containers"]["main"]["restartCount"], 1);
    let address = |shown: &Value| shown["coracle"]["containers"]["main"]["ipv4Address"].clone();
    assert_eq!(address(&after), address(&before));
    let bindings = |shown: &Value| definition::the_container(shown, "main")["networkBindings"].clone();
    assert_eq!(bindings(&after), bindings(&before));
    host.coracle(["exec", &task, "--", "/bin/probe", "read", "/kept"]).ok().prints(&["from before"]);
    host.coracle(["exec", &task, "--", "/bin/probe", "interfaces"]).ok().prints(&["eth0"]);
    host.coracle(["ps"]).ok().prints(&["restarted 1×"]);
    let logs = wait_for("the second run's output", || {
        let logs = host.coracle(["logs", &task]).ok().stdout;
        (logs.matches("waiting").count() == 2).then_some(logs)
    });
    assert!(logs.contains("signal 15"), "{logs}");
    // So soon after the restart, its end is the task's.
    let pid = process(&host.inspect(&task)).expect("it runs");
    // SAFETY: as above.
    assert_eq!(unsafe { libc::kill(pid as i32, libc::SIGTERM) }, 0);
    let stopped = wait_until_stopped(&host, &task);
    assert_eq!(stopped["stopCode"], "EssentialContainerExited");
    assert_eq!(stopped["coracle"]["containers"]["main"]["restartCount"], 1);
    remove(&host, &task);
    host.finish();
}

/// Freezes a container's cgroup, which is made for it if it is not there yet.
fn freeze(host: &Host, task: &str, container: &str) {
    let path = format!("{}/{task}/{container}", host.places.cgroup_parent);
    let (controller, file, value) =
        if cgroups::unified() { ("", "cgroup.freeze", "1") } else { ("freezer", "freezer.state", "FROZEN") };
    let directory = cgroups::controller(controller).join(path);
    fs::create_dir_all(&directory).expect("tests run as root");
    fs::write(directory.join(file), value).expect("the freezer works");
}

/// A start that hangs, as one does whose file system does not answer, is nobody else's matter, and ends with a stop.
#[test]
fn a_start_that_hangs_delays_nobody_and_is_stopped() {
    let host = Host::new();
    host.import_probe();
    let containers = [
        side("first", &["wait", "0"], &Value::Null),
        definition::container("other", &["wait", "0"], &Value::Null),
        definition::container("late", &["say", "late"], &depends_on("first", "COMPLETE")),
    ];
    let run = host.start_run(&definition::task(&containers), &["--rm=false"]);
    run.wait_for_output("waiting");
    let task = the_only_task(&host);
    freeze(&host, &task, "late");
    let first = wait_for("the two to wait", || {
        let waiting = run.stdout().matches("waiting").count() == 2;
        let shown = host.inspect(&task);
        shown["coracle"]["containers"]["first"]["process"]["pid"].as_i64().filter(|_| waiting)
    });
    // SAFETY: the container's first process, which only ends by this signal.
    assert_eq!(unsafe { libc::kill(first as i32, libc::SIGTERM) }, 0);
    wait_for("the start to have begun", || {
        host.inspect(&task)["coracle"]["containers"]["late"]["createdAt"].is_number().then_some(())
    });
    let begun = Instant::now();
    host.coracle(["exec", &task, "other", "--", "/bin/probe", "exit", "0"]).ok();
    host.coracle(["stop", &task]).ok();
    assert!(begun.elapsed() < Duration::from_secs(60), "it took {:?}", begun.elapsed());
    let stopped = host.inspect(&task);
    let late = definition::the_container(&stopped, "late");
    assert_eq!((&stopped["stopCode"], late.get("exitCode")), (&json!("UserInitiated"), None), "{stopped}");
    assert!(late["reason"].as_str().is_some_and(|reason| reason.starts_with("CannotStartContainerError")), "{late}");
    run.wait();
    remove(&host, &task);
    host.finish();
}

/// R12: whatever resists a stop is dead a second after its stopTimeout.
#[test]
fn r12_nothing_outlives_its_stop_timeout_by_more_than_a_second() {
    const STOP_TIMEOUT_S: u32 = 2;
    let host = Host::new();
    host.import_probe();
    for (command, frozen) in [(&["ignore-sigterm"][..], false), (&["stubborn", "3000"], false), (&["wait"], true)] {
        let task = host.detach(&definition::probe_with(command, &json!({ "stopTimeout": STOP_TIMEOUT_S })), &[]);
        wait_for("it to resist", || {
            let shown = host.inspect(&task);
            assert_ne!(shown["lastStatus"], "STOPPED", "{shown}");
            host.coracle(["logs", &task]).ok().stdout.contains("waiting").then_some(())
        });
        if frozen {
            freeze(&host, &task, "main");
        }
        host.coracle(["stop", &task]).ok();
        let stopped = host.inspect(&task);
        let took = moment(&stopped, "main", "finishedAt") - stopped["stoppingAt"].as_f64().expect("it was stopping");
        assert!(
            (f64::from(STOP_TIMEOUT_S)..=f64::from(STOP_TIMEOUT_S) + 1.0).contains(&took),
            "{command:?} took {took} s: {stopped}"
        );
        assert_eq!(definition::the_container(&stopped, "main")["exitCode"], 137);
        remove(&host, &task);
    }
    host.finish();
}

/// R12: a process that sleeps in the kernel cannot be killed. It is told of, nobody else waits for it, and when it
/// ends at last so does its task.
#[test]
fn r12_a_process_on_a_disk_that_does_not_answer_is_told_of_and_never_forgotten() {
    let host = Host::new();
    host.import_probe();
    let directory = host.places.root.join("silent");
    // On a kernel without FUSE there is no such disk to be had.
    let Some(silent) = Silent::mount(&directory) else { return host.finish() };
    let mounted = json!({ "mountPoints": [{ "sourceVolume": "disk", "containerPath": "/silent" }], "stopTimeout": 2 });
    let mut task = definition::task(&[
        definition::container("main", &["wait"], &mounted),
        definition::container("other", &["wait"], &Value::Null),
    ]);
    task["volumes"] = json!([{ "name": "disk", "host": { "sourcePath": directory } }]);
    let task = host.detach(&task, &[]);
    let reading = host.start(["exec", &task, "main", "--", "/bin/probe", "read", "/silent/file"]);
    silent.wait_for_questions(1);
    let starting = host.start(["exec", &task, "main", "--", "/silent/program"]);
    silent.wait_for_questions(2);
    let begun = Instant::now();
    for container in ["main", "other"] {
        host.coracle(["exec", &task, container, "--", "/bin/probe", "exit", "0"]).ok();
    }
    assert!(begun.elapsed() < Duration::from_secs(60), "others waited {:?}", begun.elapsed());
    let stop = host.start(["stop", &task]);
    stop.wait_for_errors("outlives SIGKILL");
    let shown = host.inspect(&task);
    assert_eq!(shown["lastStatus"], "STOPPING", "{shown}");
    let stuck = shown["coracle"]["containers"]["main"]["stuck"].as_str().expect("it is told of");
    assert!(stuck.starts_with("CannotStopContainerError"), "{stuck}");
    assert_eq!(definition::the_container(&shown, "other")["lastStatus"], "STOPPED", "{shown}");
    drop(silent);
    stop.wait().ok();
    assert_ne!(reading.wait().code(), 0);
    assert_ne!(starting.wait().code(), 0);
    let stopped = host.inspect(&task);
    assert_eq!(stopped["coracle"]["containers"]["main"]["stuck"], Value::Null, "{stopped}");
    assert_eq!(stopped["coracle"]["teardownErrors"], json!([]), "{stopped}");
    remove(&host, &task);
    host.finish();
}

/// With the host's pid namespace the kernel kills nothing with the first process: the supervisor does.
#[test]
fn nothing_of_a_container_outlives_its_first_process_in_a_shared_pid_namespace() {
    let host = Host::new();
    host.import_probe();
    for mode in ["host", "task"] {
        let mut task = definition::task(&[
            side("brief", &["leave-open", "4"], &Value::Null),
            definition::container("main", &["wait"], &Value::Null),
        ]);
        task["pidMode"] = json!(mode);
        let task = host.detach(&task, &[]);
        wait_for("the brief one's end", || {
            let brief = definition::the_container(&host.inspect(&task), "brief");
            (brief["lastStatus"] == "STOPPED").then(|| assert_eq!(brief["exitCode"], 4))
        });
        let path = format!("{}/{task}/brief", host.places.cgroup_parent);
        assert_eq!(cgroups::processes(&cgroups::controller("pids").join(path)), Vec::<i32>::new());
        host.coracle(["stop", &task]).ok();
        remove(&host, &task);
        let mut task = definition::task(&[definition::container("main", &["wait", "5"], &Value::Null)]);
        task["pidMode"] = json!(mode);
        let task = host.detach(&task, &[]);
        let exec = host.start(["exec", &task, "--", "/bin/probe", "ignore-sigterm"]);
        exec.wait_for_output("waiting");
        host.coracle(["stop", &task]).ok();
        exec.wait().expect_code(137);
        assert_eq!(definition::the_container(&host.inspect(&task), "main")["exitCode"], 5);
        host.audit();
        remove(&host, &task);
    }
    host.finish();
}

/// Two processes are made for an exec: one joins the container, the other becomes the program. Whichever ends first.
#[test]
fn an_exec_ends_with_its_program_though_its_helper_is_slow() {
    let host = Host::new();
    host.import_probe();
    let task = host.detach(&definition::probe(&["wait"]), &[]);
    let start = || host.start(["exec", &task, "--", "/bin/probe", "exit", "7"]);
    let (exec, held) = trace::hold_a_forking_child(supervisor(&host, &task), start);
    exec.wait().expect_code(7);
    assert!(held, "no helper was seen");
    host.coracle(["stop", &task]).ok();
    remove(&host, &task);
    host.finish();
}

/// An exec whose program leaves something behind that has its streams is over when the program is.
#[test]
fn an_exec_ends_with_its_program() {
    let host = Host::new();
    host.import_probe();
    let task = host.detach(&definition::probe(&["wait"]), &[]);
    let exec = host.start(["exec", &task, "--", "/bin/probe", "leave-open", "6"]);
    exec.wait_at_most(Duration::from_secs(60)).expect_code(6).prints(&["left"]);
    host.coracle(["stop", &task]).ok();
    remove(&host, &task);
    host.finish();
}

/// As `TestDependencyComplete` and its neighbours in the agent: with several dependents nobody starts too early, and
/// a container that ends well does not end the task unless it is essential.
#[test]
fn a_diamond_of_dependencies_starts_in_order() {
    let host = Host::new();
    host.import_probe();
    let mut bottom = definition::container("bottom", &["exit", "0"], &Value::Null);
    bottom["dependsOn"] = json!([
        { "containerName": "left", "condition": "COMPLETE" }, { "containerName": "right", "condition": "SUCCESS" },
    ]);
    let containers = [
        bottom,
        side("left", &["exit", "9"], &depends_on("top", "SUCCESS")),
        side("right", &["exit", "0"], &depends_on("top", "COMPLETE")),
        side("top", &["spin", "200"], &Value::Null),
    ];
    let task = host.detach(&definition::task(&containers), &[]);
    let stopped = wait_until_stopped(&host, &task);
    for (earlier, later) in [("top", "left"), ("top", "right"), ("left", "bottom"), ("right", "bottom")] {
        let (ended, started) = (moment(&stopped, earlier, "finishedAt"), moment(&stopped, later, "startedAt"));
        assert!(ended <= started, "{later} before {earlier}: {stopped}");
    }
    for (name, code) in [("top", 0), ("left", 9), ("right", 0), ("bottom", 0)] {
        assert_eq!(definition::the_container(&stopped, name)["exitCode"], code, "{name}");
    }
    remove(&host, &task);
    host.finish();
}
