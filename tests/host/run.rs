//! `coracle run` and what works on its tasks: output, exit codes, overrides, signals, and life without the driver.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, FromRawFd};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::hardening::{supervisor, the_only_task};
use crate::support::{Host, definition, wait_for};

#[test]
fn the_exit_code_is_the_essential_containers() {
    let host = Host::new();
    host.import_probe();
    for (command, code) in
        [(&["exit", "0"][..], 0), (&["exit", "7"], 7), (&["exit", "255"], 255), (&["signal", "11"], 139)]
    {
        host.run(&definition::probe(command), &[]).expect_code(code);
    }
    let containers = [
        definition::container("side", &["exit", "9"], &json!({ "essential": false })),
        definition::container(
            "main",
            &["exit", "4"],
            &json!({
                "dependsOn": [{ "containerName": "side", "condition": "COMPLETE" }],
            }),
        ),
    ];
    host.run(&definition::task(&containers), &[]).expect_code(4);
    host.finish();
}

#[test]
fn output_has_the_containers_name_before_each_line_and_no_colours() {
    let host = Host::new();
    host.import_probe();
    let containers = [
        definition::container("web", &["say", "ahoy"], &json!({ "essential": false })),
        definition::container(
            "main",
            &["say", "two words"],
            &json!({
                "dependsOn": [{ "containerName": "web", "condition": "COMPLETE" }],
            }),
        ),
    ];
    let ended = host.run(&definition::task(&containers), &[]).ok();
    assert!(!ended.stdout.contains('\u{1b}'), "{}", ended.whole());
    let line_of = |name: &str, text: &str| {
        ended.stdout.lines().any(|line| line.starts_with(name) && line.ends_with(text) && line.contains('|'))
    };
    assert!(line_of("web", "ahoy") && line_of("main", "two words"), "{}", ended.whole());
    host.finish();
}

#[test]
fn entry_point_and_command_follow_dockers_rules() {
    let host = Host::new();
    let base = crate::support::image::probe_image().with_config(&json!({
        "Cmd": ["arguments", "of", "the", "image"], "Env": ["PATH=/bin", "FROM_IMAGE=1", "BOTH=image"], "WorkingDir": "/work",
    }));
    host.import(&base, "words:latest").ok();
    let arguments = |members: Value| {
        let mut container = json!({ "name": "main", "image": "words:latest", "memory": 64 });
        for (member, value) in members.as_object().into_iter().flatten() {
            container[member] = value.clone();
        }
        host.run(&definition::task(&[container]), &[]).ok().report("main")
    };
    assert_eq!(arguments(json!({})), json!(["of", "the", "image"]));
    assert_eq!(arguments(json!({ "command": ["arguments", "given"] })), json!(["given"]));
    // An entry point of the definition's own forgets the image's command.
    assert_eq!(arguments(json!({ "entryPoint": ["/bin/probe", "arguments"] })), json!([]));
    assert_eq!(arguments(json!({ "entryPoint": ["probe"], "command": ["arguments", "x y"] })), json!(["x y"]));
    let report = arguments(json!({
        "command": ["report"], "environment": [{ "name": "BOTH", "value": "definition" }, { "name": "EMPTY", "value": "" }],
    }));
    let environment = &report["environment"];
    assert_eq!(environment["FROM_IMAGE"], "1");
    assert_eq!(environment["BOTH"], "definition");
    assert_eq!(environment["EMPTY"], "");
    assert_eq!(environment["PATH"], "/bin");
    assert_eq!(environment["HOME"], "/root");
    assert_eq!(report["cwd"], "/work");
    assert_eq!(arguments(json!({ "command": ["report"], "workingDirectory": "/made/for/it" }))["cwd"], "/made/for/it");
    host.finish();
}

#[test]
fn overrides_and_environment_from_the_command_line() {
    let host = Host::new();
    host.import_probe();
    let base =
        definition::probe_with(&["report"], &json!({ "environment": [{ "name": "WHO", "value": "definition" }] }));
    let overrides = json!({ "containerOverrides": [{
        "name": "main", "environment": [{ "name": "WHO", "value": "override" }, { "name": "NEW", "value": "1" }],
    }] });
    let report = host.run(&base, &["--override", &overrides.to_string()]).ok().report("main");
    assert_eq!(report["environment"]["WHO"], "override");
    assert_eq!(report["environment"]["NEW"], "1");
    let file = host.file(
        "overrides.json",
        json!({ "containerOverrides": [{ "name": "main", "command": ["exit", "6"] }] }).to_string(),
    );
    host.run(&base, &["--override", &file.display().to_string()]).expect_code(6);
    let report =
        host.run(&base, &["--env", "WHO=line", "--env", "main:ONLY=here", "--env", "EQ=a=b"]).ok().report("main");
    assert_eq!(report["environment"]["WHO"], "line");
    assert_eq!(report["environment"]["ONLY"], "here");
    assert_eq!(report["environment"]["EQ"], "a=b");
    host.run(&base, &["--env", "nobody:A=1"]).refused(&["nobody"]);
    let unknown = json!({ "containerOverrides": [{ "name": "nobody", "command": ["exit"] }] });
    host.run(&base, &["--override", &unknown.to_string()]).refused(&["nobody"]);
    host.finish();
}

#[test]
fn a_definition_as_describe_task_definition_prints_it_and_with_comments() {
    let host = Host::new();
    host.import_probe();
    let described = json!({ "taskDefinition": {
        "taskDefinitionArn": "arn:aws:ecs:us-east-1:123456789012:task-definition/test:3",
        "containerDefinitions": [definition::container("main", &["exit", "5"], &json!({
            "cpu": 0, "portMappings": [], "mountPoints": [], "volumesFrom": [], "systemControls": [], "essential": true,
        }))],
        "family": "test", "networkMode": "none", "revision": 3, "volumes": [], "status": "ACTIVE",
        "requiresAttributes": [{ "name": "com.amazonaws.ecs.capability.docker-remote-api.1.17" }],
        "placementConstraints": [], "compatibilities": ["EXTERNAL", "EC2"],
        "registeredAt": "2026-01-01T00:00:00.000000+00:00", "registeredBy": "arn:aws:iam::123456789012:user/ana",
    }, "tags": [] });
    host.run(&described, &[]).expect_code(5);
    let commented = format!(
        "// a comment\n{}",
        definition::probe(&["exit", "8"]).to_string().replace("{\"family\"", "{ // here too\n\"family\"")
    );
    let file = host.file("task.json", commented);
    host.coracle(["run".as_ref(), file.as_os_str()]).expect_code(8);
    host.finish();
}

#[test]
fn a_detached_task_is_listed_shown_entered_stopped_and_removed() {
    let host = Host::new();
    host.import_probe();
    let task = host.detach(&definition::probe(&["wait", "12"]), &[]);
    let listed = host.coracle(["ps"]).ok().prints(&["RUNNING", "test"]);
    assert!(listed.stdout.contains(&task[..8]), "{}", listed.whole());
    let shown = host.inspect(&task);
    assert_eq!(shown["lastStatus"], "RUNNING");
    assert_eq!(shown["desiredStatus"], "RUNNING");
    assert_eq!(shown["group"], "family:test");
    assert!(shown["taskArn"].as_str().is_some_and(|arn| arn.ends_with(&task)), "{shown}");
    assert!(shown["startedAt"].as_f64() >= shown["createdAt"].as_f64(), "{shown}");
    // By prefix and by family as well.
    host.coracle(["inspect", &task[..6]]).ok();
    host.coracle(["inspect", "test"]).ok();
    host.coracle(["exec", &task, "--", "/bin/probe", "exit", "33"]).expect_code(33);
    let inside = host.coracle(["exec", &task, "--", "/bin/probe", "report"]).ok().json();
    assert_ne!(inside["pid"], 1);
    assert_eq!(inside["capabilities"]["inheritable"], "0000000000000000");
    host.coracle(["rm", &task]).refused(&["coracle stop"]);
    host.coracle(["stop", &task]).ok();
    let stopped = host.inspect(&task);
    assert_eq!(stopped["lastStatus"], "STOPPED");
    assert_eq!(stopped["stopCode"], "UserInitiated");
    assert_eq!(stopped["stoppedReason"], "Task stopped by user");
    assert_eq!(definition::the_container(&stopped, "main")["exitCode"], 12);
    host.coracle(["logs", &task]).ok().prints(&["waiting", "signal 15"]);
    host.audit();
    host.coracle(["rm", &task]).ok();
    host.coracle(["inspect", &task]).refused(&[&task[..6]]);
    assert_eq!(fs::read_dir(host.places.data_dir().join("tasks")).map_or(0, Iterator::count), 0);
    host.finish();
}

#[test]
fn logs_follow_a_task_to_its_end() {
    let host = Host::new();
    host.import_probe();
    let task = host.detach(&definition::probe(&["wait"]), &[]);
    let follow = host.start(["logs", "--follow", &task]);
    follow.wait_for_output("waiting");
    host.coracle(["stop", &task]).ok();
    follow.wait().ok().prints(&["signal 15"]);
    host.coracle(["rm", &task]).ok();
    host.finish();
}

#[test]
fn a_flood_of_output_arrives_whole_and_in_order() {
    const LINES: usize = 200_000;
    let host = Host::new();
    host.import_probe();
    let ended = host.run(&definition::probe(&["flood", &LINES.to_string()]), &[]).ok();
    let mut next = 0;
    for line in ended.stdout.lines().filter(|line| line.contains("....")) {
        let number = line.split('|').nth(1).unwrap_or_default().trim_start();
        assert!(number.starts_with(&format!("{next:09} ")), "line {next} is {line:?}");
        next += 1;
    }
    assert_eq!(next, LINES);
    host.finish();
}

#[test]
fn json_events_end_with_the_task_as_describe_tasks_shows_it() {
    let host = Host::new();
    host.import_probe();
    let ended = host.run(&definition::probe(&["exit", "3"]), &["--output", "json"]).expect_code(3);
    let events = ended.json_lines();
    assert!(events.len() >= 3, "{}", ended.whole());
    let text = ended.stdout.clone();
    assert!(text.contains("RUNNING") && text.contains("STOPPED"), "{text}");
    let last = events.last().expect("events");
    let task = last.get("task").unwrap_or(last);
    assert_eq!(task["lastStatus"], "STOPPED", "{last}");
    assert_eq!(task["stopCode"], "EssentialContainerExited");
    assert_eq!(task["stoppedReason"], "Essential container in task exited");
    let container = definition::the_container(task, "main");
    assert_eq!(container["exitCode"], 3);
    assert_eq!(container["lastStatus"], "STOPPED");
    assert!(container["imageDigest"].as_str().is_some_and(|digest| digest.starts_with("sha256:")), "{container}");
    for moment in ["createdAt", "startedAt", "executionStoppedAt", "stoppingAt", "stoppedAt"] {
        assert!(task[moment].is_number(), "{moment} is missing: {task}");
    }
    host.finish();
}

#[test]
fn ctrl_c_stops_as_stop_task_does() {
    let host = Host::new();
    host.import_probe();
    let run = host.start_run(&definition::probe(&["wait", "21"]), &[]);
    run.wait_for_output("waiting");
    run.signal(libc::SIGINT);
    run.wait().expect_code(21).prints(&["signal 15"]);
    // The image's STOPSIGNAL instead of SIGTERM.
    let image = crate::support::image::probe_image().with_config(&json!({ "StopSignal": "SIGUSR1" }));
    host.import(&image, "usr1:latest").ok();
    let run = host.start_run(&definition::probe_with(&["wait", "21"], &json!({ "image": "usr1:latest" })), &[]);
    run.wait_for_output("waiting");
    run.signal(libc::SIGINT);
    run.wait().expect_code(libc::SIGUSR1).prints(&["signal 10"]);
    host.finish();
}

#[test]
fn a_second_ctrl_c_kills_at_once() {
    let host = Host::new();
    host.import_probe();
    let definition = definition::probe_with(&["ignore-sigterm"], &json!({ "stopTimeout": 100 }));
    let run = host.start_run(&definition, &[]);
    run.wait_for_output("waiting");
    let begun = Instant::now();
    run.signal(libc::SIGINT);
    // A repeat within 200 ms would be the same Ctrl-C.
    wait_for("the task to be stopping", || {
        let stopping = host.inspect(&the_only_task(&host))["desiredStatus"] == "STOPPED";
        (stopping && begun.elapsed() > Duration::from_millis(500)).then_some(())
    });
    run.signal(libc::SIGINT);
    run.wait().expect_code(137);
    assert!(begun.elapsed() < Duration::from_secs(80), "it took {:?}", begun.elapsed());
    host.finish();
}

#[test]
fn stop_timeout_ends_in_sigkill() {
    let host = Host::new();
    host.import_probe();
    let task = host.detach(&definition::probe_with(&["ignore-sigterm"], &json!({ "stopTimeout": 2 })), &[]);
    let begun = Instant::now();
    host.coracle(["stop", &task]).ok();
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(28), "{took:?} for a stopTimeout of 2 s");
    assert_eq!(definition::the_container(&host.inspect(&task), "main")["exitCode"], 137);
    host.coracle(["rm", &task]).ok();
    host.finish();
}

#[test]
fn a_task_outlives_a_killed_run_with_its_logs_and_exit_code() {
    let host = Host::new();
    host.import_probe();
    let run = host.start_run(&definition::probe(&["wait", "44"]), &[]);
    run.wait_for_output("waiting");
    let task = the_only_task(&host);
    let supervisor = supervisor(&host, &task);
    run.signal(libc::SIGKILL);
    assert_eq!(run.wait().code(), 137);
    host.coracle(["ps"]).ok().prints(&["RUNNING"]);
    assert_eq!(self::supervisor(&host, &task), supervisor);
    host.coracle(["logs", &task]).ok().prints(&["waiting"]);
    host.coracle(["stop", &task]).ok();
    host.coracle(["logs", &task]).ok().prints(&["waiting", "signal 15"]);
    assert_eq!(definition::the_container(&host.inspect(&task), "main")["exitCode"], 44);
    host.coracle(["rm", &task]).ok();
    host.finish();
}

#[test]
fn an_exit_while_nobody_looks_is_there_later() {
    let host = Host::new();
    host.import_probe();
    let task = host.detach(&definition::probe(&["exit", "17"]), &[]);
    let stopped = wait_for("the task's end", || {
        let task = host.inspect(&task);
        (task["lastStatus"] == "STOPPED").then_some(task)
    });
    assert_eq!(definition::the_container(&stopped, "main")["exitCode"], 17);
    host.coracle(["rm", &task]).ok();
    host.finish();
}

#[test]
fn rm_false_keeps_a_task_that_was_watched_and_the_default_does_not() {
    let host = Host::new();
    host.import_probe();
    host.run(&definition::probe(&["say", "kept"]), &["--rm=false"]).ok();
    let task = the_only_task(&host);
    host.coracle(["logs", &task]).ok().prints(&["kept"]);
    host.coracle(["rm", &task]).ok();
    host.run(&definition::probe(&["say", "gone"]), &[]).ok();
    assert_eq!(fs::read_dir(host.places.data_dir().join("tasks")).map_or(0, Iterator::count), 0);
    host.finish();
}

#[test]
fn exec_has_its_own_input_and_a_terminal_on_request() {
    let host = Host::new();
    host.import_probe();
    let task = host.detach(&definition::probe(&["wait"]), &[]);
    let mut exec = host.command(["exec", "-i", &task, "--", "/bin/probe", "read", "/dev/stdin"]);
    exec.stdin(std::process::Stdio::piped());
    let mut exec = crate::support::Running::start(&mut exec);
    std::io::Write::write_all(&mut exec.stdin(), b"from outside\n").expect("it reads");
    exec.wait().ok().prints(&["from outside"]);
    host.coracle(["exec", "--user", "ana", &task, "--", "/bin/probe", "report"]).ok().prints(&["1000"]);
    host.coracle(["exec", &task, "--", "/bin/nothing"]).refused(&["/bin/nothing"]);
    host.coracle(["exec", &task, "nobody", "--", "/bin/probe"]).refused(&["nobody"]);
    host.coracle(["stop", &task]).ok();
    host.coracle(["exec", &task, "--", "/bin/probe", "exit", "0"]).refused(&[]);
    host.coracle(["rm", &task]).ok();
    host.finish();
}

/// A new terminal of this size: its two sides.
fn terminal(rows: u16, columns: u16) -> (File, File) {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let (mut ours, mut theirs) = (0, 0);
    // SAFETY: two integers to fill, and a winsize to read; no name and no modes.
    let made = unsafe {
        libc::openpty(
            &raw mut ours,
            &raw mut theirs,
            std::ptr::null_mut(),
            std::ptr::null(),
            (&raw const size).cast_mut(),
        )
    };
    assert_eq!(made, 0, "a terminal: {}", std::io::Error::last_os_error());
    // SAFETY: openpty has just made both, and nobody else owns them.
    unsafe { (File::from_raw_fd(ours), File::from_raw_fd(theirs)) }
}

fn modes(terminal: &File) -> (u32, u32, u32) {
    // SAFETY: fills a termios on the stack.
    unsafe {
        let mut modes: libc::termios = std::mem::zeroed();
        assert_eq!(libc::tcgetattr(terminal.as_raw_fd(), &raw mut modes), 0);
        (modes.c_iflag, modes.c_oflag, modes.c_lflag)
    }
}

#[test]
fn exec_it_is_a_terminal_of_the_same_size_and_puts_ours_back() {
    let host = Host::new();
    host.import_probe();
    let task = host.detach(&definition::probe(&["wait"]), &[]);
    let (mut keyboard, screen) = terminal(33, 111);
    let before = modes(&screen);
    let mut exec = host.command(["exec", "-it", &task, "--", "/bin/probe", "terminal"]);
    exec.stdin(screen.try_clone().expect("a descriptor can be copied"));
    let exec = crate::support::Running::start(&mut exec);
    exec.wait_for_output("reading");
    assert_ne!(modes(&screen), before, "our terminal is raw meanwhile");
    std::io::Write::write_all(&mut keyboard, b"typed\r").expect("it reads");
    let ended = exec.wait().ok();
    let start = ended.stdout.find('{').expect("a report");
    let report: Value = serde_json::from_str(ended.stdout[start..].trim_end()).expect("a report");
    assert_eq!((&report["rows"], &report["columns"]), (&json!(33), &json!(111)));
    assert_eq!(report["controlling"], true);
    assert_eq!(report["line"], "typed");
    assert!(report["name"].as_str().is_some_and(|name| name.starts_with("/dev/pts/")), "{report}");
    assert_eq!(modes(&screen), before, "our terminal is put back");
    host.coracle(["stop", &task]).ok();
    host.coracle(["rm", &task]).ok();
    host.finish();
}

#[test]
fn a_name_is_one_running_tasks_at_a_time() {
    let host = Host::new();
    host.import_probe();
    let definition = definition::probe(&["wait"]);
    host.detach(&definition, &["--name", "front"]);
    host.run(&definition, &["--detach", "--name", "front"]).refused(&["front"]);
    host.coracle(["ps"]).ok().prints(&["front"]);
    host.coracle(["stop", "front"]).ok();
    host.coracle(["rm", "front"]).ok();
    let again = host.detach(&definition, &["--name", "front"]);
    host.coracle(["stop", &again]).ok();
    host.coracle(["rm", &again]).ok();
    host.run(&definition, &["--name", "../front"]).refused(&["--name"]);
    host.finish();
}

/// SUCCESS: "validates the same condition as START, but requires the container exits with a zero status"
/// (API_ContainerDependency).
#[test]
fn a_failed_dependency_keeps_the_dependent_from_starting() {
    let host = Host::new();
    host.import_probe();
    let containers = [
        definition::container("first", &["exit", "3"], &json!({ "essential": false })),
        definition::container(
            "main",
            &["say", "never"],
            &json!({
                "dependsOn": [{ "containerName": "first", "condition": "SUCCESS" }],
            }),
        ),
    ];
    let ended = host.run(&definition::task(&containers), &["--output", "json"]);
    assert_ne!(ended.code(), 0, "{}", ended.whole());
    assert!(!ended.stdout.contains("never"), "{}", ended.whole());
    let events = ended.json_lines();
    let task = &events.last().expect("events")["task"];
    assert_eq!(definition::the_container(task, "first")["exitCode"], 3);
    assert_eq!(definition::the_container(task, "main").get("exitCode"), None);
    host.finish();
}

/// "When stopping, the reverse of dependsOn": a container is stopped after those that depend on it.
#[test]
fn stopping_goes_in_the_reverse_order() {
    let host = Host::new();
    host.import_probe();
    let containers = [
        definition::container("base", &["wait"], &json!({})),
        definition::container(
            "top",
            &["ignore-sigterm"],
            &json!({
                "dependsOn": [{ "containerName": "base", "condition": "START" }],
                "stopTimeout": 1,
            }),
        ),
    ];
    let task = host.detach(&definition::task(&containers), &[]);
    host.coracle(["stop", &task]).ok();
    // What stands on top does not hear its signal; who waits for it ends a second later for that.
    let stopped = host.inspect(&task);
    let end = |name: &str| stopped["coracle"]["containers"][name]["finishedAt"].as_f64().expect("it has ended");
    assert!(end("top") <= end("base"), "{stopped}");
    assert_eq!(definition::the_container(&stopped, "top")["exitCode"], 137);
    host.coracle(["rm", &task]).ok();
    host.finish();
}

#[test]
fn what_cannot_be_started_has_the_shells_exit_code_and_a_reason() {
    let host = Host::new();
    host.import_probe();
    for (entry, code) in [("/bin/nothing", 127), ("nothing", 127), ("/etc/passwd", 126), ("/bin", 126)] {
        let members = json!({ "entryPoint": [entry], "command": [] });
        host.run(&definition::probe_with(&[], &members), &[]).expect_code(code).says(&[entry]);
        host.run(&definition::probe_with(&[], &members), &["--detach"]).expect_code(code).says(&[entry]);
        let task = the_only_task(&host);
        host.coracle(["rm", &task]).ok();
    }
    host.finish();
}
