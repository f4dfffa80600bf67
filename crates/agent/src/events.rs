//! What happened between two statuses of a task, as events a person or a program can read. Pure.

use agent_protocol::{ContainerStatus, TaskStatus};
use ecs::task::{ContainerLastStatus, HealthStatus, LastStatus, StopCode};
use ecs::{ContainerName, Timestamp};
use serde::Serialize;

/// One change of state. `at` is when it happened by the supervisor's clock.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Event {
    Task {
        at: Timestamp,
        last_status: LastStatus,
        #[serde(skip_serializing_if = "Option::is_none")]
        stop_code: Option<StopCode>,
        #[serde(skip_serializing_if = "Option::is_none")]
        stopped_reason: Option<String>,
    },
    Container {
        at: Timestamp,
        container: ContainerName,
        last_status: ContainerLastStatus,
        #[serde(skip_serializing_if = "Option::is_none")]
        exit_code: Option<i32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    Health {
        at: Timestamp,
        container: ContainerName,
        health_status: HealthStatus,
    },
    /// By the container's restart policy.
    Restarted {
        at: Timestamp,
        container: ContainerName,
        restart_count: u32,
    },
    /// SIGKILL does not end it; or, without a reason, now it has.
    Stuck {
        at: Timestamp,
        container: ContainerName,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
}

impl Event {
    pub fn at(&self) -> Timestamp {
        match self {
            Event::Task { at, .. }
            | Event::Container { at, .. }
            | Event::Health { at, .. }
            | Event::Restarted { at, .. }
            | Event::Stuck { at, .. } => *at,
        }
    }
}

/// Everything between two statuses, in the order of time. A step that went by unseen between them (a container that
/// ran and ended at once) is still told, out of its timestamp; a status seen twice tells nothing.
///
/// `seen` stands in for a time that the status does not carry.
pub fn between(before: Option<&TaskStatus>, after: &TaskStatus, seen: Timestamp) -> Vec<Event> {
    let mut events = Vec::new();
    for container in &after.containers {
        let old = before.and_then(|before| before.containers.iter().find(|candidate| candidate.name == container.name));
        container_events(old, container, seen, &mut events);
        life_events(old, container, seen, &mut events);
    }
    task_events(before, after, seen, &mut events);
    events.sort_by_key(Event::at);
    events
}

fn container_events(
    before: Option<&ContainerStatus>,
    after: &ContainerStatus,
    seen: Timestamp,
    events: &mut Vec<Event>,
) {
    let old = before.map_or(ContainerLastStatus::Pending, |before| before.last_status);
    let ran = after.started_at.is_some() || after.last_status == ContainerLastStatus::Running;
    if old < ContainerLastStatus::Running && ran {
        events.push(Event::Container {
            at: after.started_at.unwrap_or(seen),
            container: after.name.clone(),
            last_status: ContainerLastStatus::Running,
            exit_code: None,
            reason: None,
        });
    }
    if old < ContainerLastStatus::Stopped && after.last_status == ContainerLastStatus::Stopped {
        events.push(Event::Container {
            at: after.finished_at.unwrap_or(seen),
            container: after.name.clone(),
            last_status: ContainerLastStatus::Stopped,
            exit_code: after.exit_code,
            reason: after.reason.clone(),
        });
    }
}

/// What happens between a container's start and its end.
fn life_events(before: Option<&ContainerStatus>, after: &ContainerStatus, seen: Timestamp, events: &mut Vec<Event>) {
    let container = || after.name.clone();
    if after.restart_count > before.map_or(0, |before| before.restart_count) {
        events.push(Event::Restarted { at: seen, container: container(), restart_count: after.restart_count });
    }
    let health_before = before.map_or(HealthStatus::Unknown, |before| before.health_status);
    if after.health_status != health_before {
        events.push(Event::Health { at: seen, container: container(), health_status: after.health_status });
    }
    let stuck_before = before.and_then(|before| before.stuck.as_ref());
    if after.stuck.is_some() != stuck_before.is_some() {
        events.push(Event::Stuck { at: seen, container: container(), reason: after.stuck.clone() });
    }
}

fn task_events(before: Option<&TaskStatus>, after: &TaskStatus, seen: Timestamp, events: &mut Vec<Event>) {
    let old = before.map(|before| before.last_status);
    let milestones = [
        (LastStatus::Pending, None),
        (LastStatus::Running, after.started_at),
        (LastStatus::Stopping, after.stopping_at),
        (LastStatus::Stopped, after.stopped_at),
    ];
    for (milestone, at) in milestones {
        let reached = milestone == after.last_status || (milestone < after.last_status && at.is_some());
        if !reached || old.is_some_and(|old| old >= milestone) {
            continue;
        }
        let ending = milestone >= LastStatus::Stopping;
        events.push(Event::Task {
            at: at.unwrap_or(seen),
            last_status: milestone,
            stop_code: after.stop_code.filter(|_| ending),
            stopped_reason: after.stopped_reason.clone().filter(|_| ending),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    const SEEN: Timestamp = Timestamp::from_epoch_ms(99_000);

    fn told(events: &[Event]) -> Vec<String> {
        events
            .iter()
            .map(|event| match event {
                Event::Task { at, last_status, .. } => format!("{} task {last_status:?}", at.epoch_ms),
                Event::Container { at, container, last_status, exit_code, .. } => {
                    format!("{} {container} {last_status:?} {exit_code:?}", at.epoch_ms)
                }
                Event::Health { at, container, health_status } => {
                    format!("{} {container} {health_status:?}", at.epoch_ms)
                }
                Event::Restarted { at, container, restart_count } => {
                    format!("{} {container} restart {restart_count}", at.epoch_ms)
                }
                Event::Stuck { at, container, reason } => format!("{} {container} stuck {reason:?}", at.epoch_ms),
            })
            .collect()
    }

    #[test]
    fn a_task_that_went_by_at_once_is_told_whole() {
        let mut after = example::status(&["web"]);
        after.last_status = LastStatus::Stopped;
        after.started_at = Some(Timestamp::from_epoch_ms(11));
        after.stopping_at = Some(Timestamp::from_epoch_ms(20));
        after.stopped_at = Some(Timestamp::from_epoch_ms(21));
        after.containers[0].last_status = ContainerLastStatus::Stopped;
        after.containers[0].started_at = Some(Timestamp::from_epoch_ms(10));
        after.containers[0].finished_at = Some(Timestamp::from_epoch_ms(19));
        after.containers[0].exit_code = Some(0);
        assert_eq!(
            told(&between(Some(&example::status(&["web"])), &after, SEEN)),
            ["10 web Running None", "11 task Running", "19 web Stopped Some(0)", "20 task Stopping", "21 task Stopped"]
        );
    }

    #[test]
    fn a_status_seen_twice_tells_nothing() {
        let mut status = example::status(&["web"]);
        status.last_status = LastStatus::Running;
        status.containers[0].last_status = ContainerLastStatus::Running;
        assert_eq!(between(Some(&status), &status, SEEN), []);
        assert_eq!(told(&between(None, &status, SEEN)), ["99000 web Running None", "99000 task Running"]);
    }

    #[test]
    fn what_happens_to_a_running_container_is_told_once() {
        let mut before = example::status(&["web"]);
        before.last_status = LastStatus::Running;
        before.containers[0].last_status = ContainerLastStatus::Running;
        let mut after = before.clone();
        after.containers[0].health_status = HealthStatus::Unhealthy;
        after.containers[0].restart_count = 2;
        after.containers[0].stuck = Some("process 9".to_owned());
        let events = told(&between(Some(&before), &after, SEEN));
        assert_eq!(events, ["99000 web restart 2", "99000 web Unhealthy", "99000 web stuck Some(\"process 9\")"]);
        assert_eq!(between(Some(&after), &after, SEEN), []);
        assert_eq!(told(&between(Some(&after), &before, SEEN)), ["99000 web Unknown", "99000 web stuck None"]);
    }

    #[test]
    fn a_container_that_never_ran_is_only_stopped() {
        let mut after = example::status(&["web"]);
        after.containers[0].last_status = ContainerLastStatus::Stopped;
        after.containers[0].reason = Some("CannotStartContainerError: no such file".to_owned());
        let events = between(Some(&example::status(&["web"])), &after, SEEN);
        assert_eq!(told(&events), ["99000 web Stopped None"]);
        let json = serde_json::to_value(&events[0]).expect("an event is plain data");
        assert_eq!(json["event"], "container");
        assert_eq!(json["lastStatus"], "STOPPED");
        assert_eq!(json["reason"], "CannotStartContainerError: no such file");
    }
}
