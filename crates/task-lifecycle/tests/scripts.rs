//! Tasks as scripts: what the definition says, what happens when, and the whole of what the machine does and reports.

use std::fmt::Write;

use ecs::task::StopCode;
use ecs::task_definition::{ContainerCondition, ContainerDependency};
use ecs::{ContainerName, Timestamp};
use task_lifecycle::{Action, ContainerRules, Event, TaskRun};

fn name(name: &str) -> ContainerName {
    ContainerName::try_from(name.to_owned()).expect("the tests use good names")
}

/// `web! <db:HEALTHY <migrate:SUCCESS stop=5 start=10`: `!` is essential.
fn rules(line: &str) -> ContainerRules {
    let mut words = line.split_whitespace();
    let first = words.next().expect("a name");
    let mut rules = ContainerRules {
        name: name(first.trim_end_matches('!')),
        essential: first.ends_with('!'),
        depends_on: Vec::new(),
        stop_timeout_s: 30,
        start_timeout_s: None,
    };
    for word in words {
        if let Some((container, condition)) = word.strip_prefix('<').and_then(|word| word.split_once(':')) {
            let condition = match condition {
                "START" => ContainerCondition::Start,
                "COMPLETE" => ContainerCondition::Complete,
                "SUCCESS" => ContainerCondition::Success,
                "HEALTHY" => ContainerCondition::Healthy,
                other => panic!("no condition {other}"),
            };
            rules.depends_on.push(ContainerDependency { container_name: name(container), condition });
        } else if let Some(seconds) = word.strip_prefix("stop=") {
            rules.stop_timeout_s = seconds.parse().expect("seconds");
        } else if let Some(seconds) = word.strip_prefix("start=") {
            rules.start_timeout_s = Some(seconds.parse().expect("seconds"));
        }
    }
    rules
}

/// `exit web 3`, `oom web`, `up web`, `broken web REASON`, `healthy web`, `stop [REASON]`, `kill`, `clean`, `tick`.
fn event(line: &str) -> Event {
    let mut words = line.splitn(3, ' ');
    let verb = words.next().expect("a verb");
    let first = words.next().unwrap_or_default();
    let second = words.next().unwrap_or_default();
    match verb {
        "up" => Event::ContainerStarted { container: name(first) },
        "exit" => {
            let exit_code = second.parse().expect("a code");
            Event::ContainerExited { container: name(first), exit_code, oom: false }
        }
        "oom" => Event::ContainerExited { container: name(first), exit_code: 137, oom: true },
        "broken" => Event::ContainerFailedToStart { container: name(first), reason: second.to_owned() },
        "healthy" => Event::ContainerHealth { container: name(first), healthy: true },
        "stop" => Event::StopRequested { code: StopCode::UserInitiated, reason: first.to_owned() },
        "kill" => Event::KillRequested,
        "clean" => Event::CleanedUp,
        "tick" => Event::TimePassed,
        other => panic!("no event {other}"),
    }
}

fn drain(run: &mut TaskRun, out: &mut String) {
    while let Some(action) = run.poll() {
        let _ = match action {
            Action::Start(container) => writeln!(out, "    start {container}"),
            Action::Signal(container, signal) => writeln!(out, "    {signal:?} {container}"),
            Action::Finished => writeln!(out, "    finished"),
        };
    }
}

/// Plays `SECONDS EVENT` lines; tells each event with what it led to, then the end.
fn play(definition: &[&str], script: &[&str]) -> String {
    let rules: Vec<ContainerRules> = definition.iter().map(|line| rules(line)).collect();
    let mut run = TaskRun::new(&rules, Timestamp::from_epoch_ms(0));
    let mut out = String::new();
    drain(&mut run, &mut out);
    for line in script {
        let (seconds, what) = line.split_once(' ').expect("seconds and an event");
        let at = Timestamp::from_epoch_ms(seconds.parse::<u64>().expect("seconds") * 1000);
        let _ = writeln!(out, "{line}");
        run.on(event(what), at);
        drain(&mut run, &mut out);
        if let Some(deadline) = run.deadline() {
            let _ = writeln!(out, "    until {}", deadline.epoch_ms / 1000);
        }
    }
    let end = run.progress();
    let seconds = |at: Option<Timestamp>| at.map_or("-".to_owned(), |at| (at.epoch_ms / 1000).to_string());
    let _ = writeln!(
        out,
        "{:?}/{:?} started {} stopping {} executionStopped {} stopped {}",
        end.last_status,
        end.desired_status,
        seconds(end.started_at),
        seconds(end.stopping_at),
        seconds(end.execution_stopped_at),
        seconds(end.stopped_at)
    );
    if let (Some(code), Some(reason)) = (end.stop_code, end.stopped_reason) {
        let by = end.ended_by.map_or(String::new(), |by| format!(" by {by}"));
        let _ = writeln!(out, "{code:?}{by}: {reason}");
    }
    for container in end.containers {
        let code = container.exit_code.map_or("-".to_owned(), |code| code.to_string());
        let reason = container.reason.unwrap_or_default();
        let _ = writeln!(out, "{} {:?} {code} {reason}", container.name, container.last_status);
    }
    out.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

fn check(definition: &[&str], script: &[&str], expected: &str) {
    let expected = expected.lines().map(|line| line.strip_prefix("        ").unwrap_or(line)).collect::<Vec<_>>();
    assert_eq!(play(definition, script), expected.join("\n").trim_matches('\n'));
}

#[test]
fn the_one_container_ends() {
    check(
        &["app!"],
        &["1 up app", "2 exit app 3", "2 clean"],
        "
            start app
        1 up app
        2 exit app 3
            finished
        2 clean
        Stopped/Stopped started 1 stopping 2 executionStopped 2 stopped 2
        EssentialContainerExited by app: Essential container in task exited
        app Stopped 3
        ",
    );
}

#[test]
fn an_end_that_overtakes_its_start_was_running() {
    check(
        &["app!"],
        &["1 exit app 0", "1 up app", "2 clean"],
        "
            start app
        1 exit app 0
            finished
        1 up app
        2 clean
        Stopped/Stopped started 1 stopping 1 executionStopped 1 stopped 2
        EssentialContainerExited by app: Essential container in task exited
        app Stopped 0
        ",
    );
}

#[test]
fn out_of_memory_is_said() {
    check(
        &["app!"],
        &["1 up app", "2 oom app", "3 clean"],
        "
            start app
        1 up app
        2 oom app
            finished
        3 clean
        Stopped/Stopped started 1 stopping 2 executionStopped 2 stopped 3
        EssentialContainerExited by app: Essential container in task exited
        app Stopped 137 OutOfMemoryError: Container killed due to memory usage
        ",
    );
}

#[test]
fn a_stop_is_signal_timeout_kill() {
    check(
        &["app! stop=5"],
        &["1 up app", "2 stop", "6 tick", "7 tick", "7 tick", "8 exit app 137", "8 clean"],
        "
            start app
        1 up app
        2 stop
            Stop app
            until 7
        6 tick
            until 7
        7 tick
            Kill app
        7 tick
        8 exit app 137
            finished
        8 clean
        Stopped/Stopped started 1 stopping 2 executionStopped 8 stopped 8
        UserInitiated: Task stopped by user
        app Stopped 137
        ",
    );
}

#[test]
fn the_first_reason_stays_and_a_kill_spares_nobody() {
    check(
        &["db!", "web! <db:START"],
        &[
            "1 up db",
            "1 up web",
            "2 stop deploy",
            "3 stop again",
            "4 kill",
            "5 exit web 143",
            "5 exit db 137",
            "6 clean",
        ],
        "
            start db
        1 up db
            start web
        1 up web
        2 stop deploy
            Stop web
            until 32
        3 stop again
            until 32
        4 kill
            Kill db
            Kill web
        5 exit web 143
        5 exit db 137
            finished
        6 clean
        Stopped/Stopped started 1 stopping 2 executionStopped 5 stopped 6
        UserInitiated: deploy
        db Stopped 137
        web Stopped 143
        ",
    );
}

#[test]
fn an_essential_end_stops_the_others_in_reverse_order() {
    check(
        &["db", "cache <db:START stop=2", "web! <cache:START", "side"],
        &[
            "1 up db",
            "1 up side",
            "1 up cache",
            "2 up web",
            "9 exit web 1",
            "10 exit side 143",
            "11 tick",
            "12 exit cache 137",
            "13 exit db 0",
            "14 clean",
        ],
        "
            start db
            start side
        1 up db
            start cache
        1 up side
        1 up cache
            start web
        2 up web
        9 exit web 1
            Stop cache
            Stop side
            until 11
        10 exit side 143
            until 11
        11 tick
            Kill cache
        12 exit cache 137
            Stop db
            until 42
        13 exit db 0
            finished
        14 clean
        Stopped/Stopped started 2 stopping 9 executionStopped 9 stopped 14
        EssentialContainerExited by web: Essential container in task exited
        db Stopped 0
        cache Stopped 137
        web Stopped 1
        side Stopped 143
        ",
    );
}

#[test]
fn success_and_complete_are_waited_for() {
    check(
        &["init", "warm", "app! <init:SUCCESS <warm:COMPLETE"],
        &["1 up init", "1 up warm", "2 exit warm 9", "3 exit init 0", "4 up app"],
        "
            start init
            start warm
        1 up init
        1 up warm
        2 exit warm 9
        3 exit init 0
            start app
        4 up app
        Running/Running started 4 stopping - executionStopped - stopped -
        init Stopped 0
        warm Stopped 9
        app Running -
        ",
    );
}

#[test]
fn success_that_failed_stops_the_task_and_names_the_container() {
    check(
        &["init", "app! <init:SUCCESS"],
        &["1 up init", "2 exit init 4", "2 clean"],
        "
            start init
        1 up init
        2 exit init 4
            finished
        2 clean
        Stopped/Stopped started - stopping 2 executionStopped - stopped 2
        TaskFailedToStart: TaskDependencyError: failed to resolve container ordering dependency [init] for target [app] as dependency did not exit successfully (exit code 4)
        init Stopped 4
        app Stopped -
        ",
    );
}

#[test]
fn complete_of_a_container_that_never_ran_is_hopeless_but_start_is_not() {
    check(
        &["init", "side <init:START", "app! <init:COMPLETE"],
        &["1 broken init CannotStartContainerError: no such file", "2 clean"],
        "
            start init
        1 broken init CannotStartContainerError: no such file
            finished
        2 clean
        Stopped/Stopped started - stopping 1 executionStopped - stopped 2
        TaskFailedToStart: TaskDependencyError: failed to resolve container ordering dependency [init] for target [app] because dependency will never start
        init Stopped - CannotStartContainerError: no such file
        side Stopped -
        app Stopped -
        ",
    );
}

#[test]
fn the_start_timeout_counts_from_the_dependencys_start() {
    check(
        &["init start=10", "app! <init:COMPLETE"],
        &["3 up init", "12 tick", "13 tick", "14 exit init 143", "14 clean"],
        "
            start init
        3 up init
            until 13
        12 tick
            until 13
        13 tick
            Stop init
            until 43
        14 exit init 143
            finished
        14 clean
        Stopped/Stopped started - stopping 13 executionStopped - stopped 14
        TaskFailedToStart: TaskDependencyError: failed to resolve container ordering dependency [init] for target [app] has timed out
        init Stopped 143
        app Stopped -
        ",
    );
}

#[test]
fn a_healthy_dependency_is_waited_for() {
    check(
        &["db!", "app! <db:HEALTHY"],
        &["1 up db", "2 tick", "3 healthy db", "4 up app"],
        "
            start db
        1 up db
        2 tick
        3 healthy db
            start app
        4 up app
        Running/Running started 4 stopping - executionStopped - stopped -
        db Running -
        app Running -
        ",
    );
}

#[test]
fn an_essential_container_that_cannot_start_fails_the_task() {
    check(
        &["side", "app!"],
        &["1 up side", "1 broken app CannotStartContainerError: nope", "2 exit side 143", "2 clean"],
        "
            start side
            start app
        1 up side
        1 broken app CannotStartContainerError: nope
            Stop side
            until 31
        2 exit side 143
            finished
        2 clean
        Stopped/Stopped started - stopping 1 executionStopped 1 stopped 2
        TaskFailedToStart by app: Task failed to start
        side Stopped 143
        app Stopped - CannotStartContainerError: nope
        ",
    );
}

#[test]
fn a_container_that_starts_during_the_stop_is_stopped_when_it_is_up() {
    check(
        &["app!"],
        &["1 stop", "2 up app", "3 exit app 143", "3 clean"],
        "
            start app
        1 stop
        2 up app
            Stop app
            until 32
        3 exit app 143
            finished
        3 clean
        Stopped/Stopped started - stopping 1 executionStopped 3 stopped 3
        UserInitiated: Task stopped by user
        app Stopped 143
        ",
    );
}

#[test]
fn an_unknown_dependency_is_hopeless_at_once() {
    check(
        &["app! <ghost:START"],
        &["1 clean"],
        "
            finished
        1 clean
        Stopped/Stopped started - stopping 0 executionStopped - stopped 1
        TaskFailedToStart: TaskDependencyError: container [app] depends on [ghost], which the task does not have
        app Stopped -
        ",
    );
}

#[test]
fn a_reason_is_cut_at_amazons_length() {
    let rules = [rules("app!")];
    let mut run = TaskRun::new(&rules, Timestamp::from_epoch_ms(0));
    let reason = "é".repeat(2000);
    run.on(Event::StopRequested { code: StopCode::UserInitiated, reason }, Timestamp::from_epoch_ms(1));
    assert_eq!(run.progress().stopped_reason, Some("é".repeat(1024)));
}
