//! One container of a task, from its turn to its end.

use ecs::Timestamp;
use ecs::task::{ContainerLastStatus, HealthStatus};

use crate::depends::Dependency;
use crate::health::Health;
use crate::progress::ContainerProgress;
use crate::rules::ContainerRules;
use crate::state::{ContainerState, ContainerStep};

/// Amazon cuts `reason` and `stoppedReason` at this many characters.
const MAX_REASON_CHARS: usize = 1024;

#[derive(Clone, Debug)]
pub(crate) struct ContainerRun {
    pub(crate) rules: ContainerRules,
    /// Places of the containers it depends on, in the order of `rules.depends_on`; none for a name that is not here.
    pub(crate) depends_on: Vec<Option<usize>>,
    pub(crate) state: ContainerState,
    pub(crate) health: Option<Health>,
    /// The first start.
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) kill_at: Option<Timestamp>,
    /// Of the last exit, also while the container is started again.
    finished_at: Option<Timestamp>,
    exit_code: Option<i32>,
    reason: Option<String>,
    restart_count: u32,
    last_restart_at: Option<Timestamp>,
}

impl ContainerRun {
    pub(crate) fn new(rules: &ContainerRules, depends_on: Vec<Option<usize>>, now: Timestamp) -> ContainerRun {
        ContainerRun {
            rules: rules.clone(),
            depends_on,
            state: ContainerState::Waiting,
            health: rules.health_check.map(|rules| Health::new(rules, now)),
            started_at: None,
            kill_at: None,
            finished_at: None,
            exit_code: None,
            reason: None,
            restart_count: 0,
            last_restart_at: None,
        }
    }

    pub(crate) fn step(&mut self, step: ContainerStep) -> bool {
        let next = self.state.next(step);
        self.state = next.unwrap_or(self.state);
        next.is_some()
    }

    pub(crate) fn started(&mut self, now: Timestamp) {
        if !self.step(ContainerStep::Started) {
            return;
        }
        self.started_at.get_or_insert(now);
        if let Some(health) = &mut self.health {
            health.begin(now);
        }
    }

    /// True when it has stopped for good. `restartable`: the task is meant to run.
    pub(crate) fn exited(&mut self, exit_code: i32, reason: Option<String>, now: Timestamp, restartable: bool) -> bool {
        if self.state.next(ContainerStep::Exited).is_none() {
            return false;
        }
        // It may have ended before its start was reported: it did run.
        let started_at = *self.started_at.get_or_insert(now);
        self.finished_at = Some(now);
        self.exit_code = Some(exit_code);
        self.reason = reason.map(cut);
        let since = self.last_restart_at.unwrap_or(started_at);
        let again = self.rules.restart.as_ref().is_some_and(|rules| rules.allow(exit_code, since, now));
        if restartable && again && self.step(ContainerStep::Restart) {
            self.restart_count = self.restart_count.saturating_add(1);
            self.last_restart_at = Some(now);
            if let Some(health) = &mut self.health {
                health.forget();
            }
            return false;
        }
        self.step(ContainerStep::Exited);
        self.end_health();
        true
    }

    /// True when it has stopped for good. What is known of an earlier run stays.
    pub(crate) fn failed_to_start(&mut self, reason: String, now: Timestamp) -> bool {
        if !self.step(ContainerStep::FailedToStart) {
            return false;
        }
        self.finished_at = Some(now);
        self.reason = Some(cut(reason));
        self.end_health();
        true
    }

    /// Its turn, the first or the next one, does not come any more. True when it has run.
    pub(crate) fn abandon(&mut self) -> bool {
        self.step(ContainerStep::Abandon) && self.started_at.is_some()
    }

    pub(crate) fn end_health(&mut self) {
        if let Some(health) = &mut self.health {
            health.end();
        }
    }

    pub(crate) fn as_dependency(&self) -> Dependency<'_> {
        Dependency {
            name: &self.rules.name,
            state: self.state,
            exit_code: self.exit_code,
            health: self.health.as_ref().map(Health::status),
            started_at: self.started_at,
            start_timeout_s: self.rules.start_timeout_s,
        }
    }

    pub(crate) fn progress(&self) -> ContainerProgress {
        let last_status = match self.state.last_status() {
            ContainerLastStatus::Pending if self.started_at.is_some() => ContainerLastStatus::Running,
            last_status => last_status,
        };
        let stopped = self.state == ContainerState::Stopped;
        ContainerProgress {
            name: self.rules.name.clone(),
            last_status,
            started_at: self.started_at,
            finished_at: self.finished_at.filter(|_| stopped),
            exit_code: self.exit_code.filter(|_| stopped),
            reason: self.reason.clone().filter(|_| stopped),
            health_status: self.health.as_ref().map_or(HealthStatus::Unknown, Health::status),
            health_status_since: self.health.as_ref().and_then(Health::status_since),
            restart_count: self.restart_count,
        }
    }
}

pub(crate) fn cut(reason: String) -> String {
    match reason.char_indices().nth(MAX_REASON_CHARS) {
        Some((end, _)) => reason[..end].to_owned(),
        None => reason,
    }
}
