//! Plays a task as a script: what the definition says, what happens when, and the whole of what the machine does and
//! reports.

use std::fmt::Write;

use ecs::task::StopCode;
use ecs::task_definition::{ContainerCondition, ContainerDependency};
use ecs::{ContainerName, Timestamp};
use task_lifecycle::{Action, ContainerRules, Event, HealthRules, RestartRules, TaskRun};

fn name(name: &str) -> ContainerName {
    ContainerName::try_from(name.to_owned()).expect("the tests use good names")
}

/// `web! <db:HEALTHY <migrate:SUCCESS stop=5 start=10 health=30,5,3,0 restart=60,1,2`: `!` is essential; health is
/// interval, timeout, retries and start period; restart is the attempt period and the ignored exit codes.
pub(crate) fn rules(line: &str) -> ContainerRules {
    let mut words = line.split_whitespace();
    let first = words.next().expect("a name");
    let mut rules = ContainerRules {
        name: name(first.trim_end_matches('!')),
        essential: first.ends_with('!'),
        depends_on: Vec::new(),
        stop_timeout_s: 30,
        start_timeout_s: None,
        health_check: None,
        restart: None,
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
        } else if let Some(list) = word.strip_prefix("health=") {
            let numbers: Vec<u32> = list.split(',').map(|number| number.parse().expect("a number")).collect();
            let [interval_s, timeout_s, retries, start_period_s] = numbers[..] else { panic!("four of {list}") };
            rules.health_check = Some(HealthRules { interval_s, timeout_s, retries, start_period_s });
        } else if let Some(list) = word.strip_prefix("restart=") {
            let mut numbers = list.split(',').map(|number| number.parse::<i32>().expect("a number"));
            let attempt_period_s = numbers.next().expect("the attempt period").try_into().expect("seconds");
            rules.restart = Some(RestartRules { ignored_exit_codes: numbers.collect(), attempt_period_s });
        } else {
            panic!("no word {word}");
        }
    }
    rules
}

/// `exit web 3`, `oom web`, `up web`, `broken web REASON`, `checked web 0`, `unchecked web`, `stop [REASON]`, `kill`,
/// `clean`, `tick`.
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
        "checked" => {
            Event::HealthCheckEnded { container: name(first), exit_code: Some(second.parse().expect("a code")) }
        }
        "unchecked" => Event::HealthCheckEnded { container: name(first), exit_code: None },
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
            Action::CheckHealth(container) => writeln!(out, "    check {container}"),
            Action::AbandonHealthCheck(container) => writeln!(out, "    abandon check of {container}"),
            Action::Finished => writeln!(out, "    finished"),
        };
    }
}

/// Plays `SECONDS EVENT` lines; tells each event with what it led to and what the health became, then the end.
fn play(definition: &[&str], script: &[&str]) -> String {
    let rules: Vec<ContainerRules> = definition.iter().map(|line| rules(line)).collect();
    let mut run = TaskRun::new(&rules, Timestamp::from_epoch_ms(0));
    let mut out = String::new();
    drain(&mut run, &mut out);
    let mut known = health(&run);
    for line in script {
        let (seconds, what) = line.split_once(' ').expect("seconds and an event");
        let at = Timestamp::from_epoch_ms(seconds.parse::<u64>().expect("seconds") * 1000);
        let _ = writeln!(out, "{line}");
        run.on(event(what), at);
        drain(&mut run, &mut out);
        let health = health(&run);
        if health != known {
            let _ = writeln!(out, "    {health}");
            known = health;
        }
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
        let restarts = match container.restart_count {
            0 => String::new(),
            count => format!(" restarted {count}"),
        };
        let _ = writeln!(out, "{} {:?} {code}{restarts} {reason}", container.name, container.last_status);
    }
    out.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Of the task, then of each container.
fn health(run: &TaskRun) -> String {
    let progress = run.progress();
    let of_each =
        progress.containers.iter().map(|container| format!(" {} {:?}", container.name, container.health_status));
    format!("{:?}:{}", progress.health_status, of_each.collect::<String>())
}

pub(crate) fn check(definition: &[&str], script: &[&str], expected: &str) {
    let expected = expected.lines().map(|line| line.strip_prefix("        ").unwrap_or(line)).collect::<Vec<_>>();
    assert_eq!(play(definition, script), expected.join("\n").trim_matches('\n'));
}
