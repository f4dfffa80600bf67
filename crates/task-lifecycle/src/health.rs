//! One container's health: when its check runs, and what the results make of it.
//!
//! The rules are those of Docker, which runs the checks for the ECS agent: the first check comes one interval after
//! the start, the next one an interval after the previous one's end; at most one runs at a time.

use ecs::Timestamp;
use ecs::task::HealthStatus;

use crate::rules::HealthRules;

#[derive(Clone, Debug)]
pub(crate) struct Health {
    rules: HealthRules,
    status: HealthStatus,
    /// When a check made it so.
    status_since: Option<Timestamp>,
    failures_in_a_row: u32,
    started_at: Timestamp,
    check: Check,
    /// A check runs whose result nobody wants any more, and it is still to be said so.
    abandoned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    /// The container does not run.
    Off,
    Next {
        at: Timestamp,
    },
    Runs {
        since: Timestamp,
    },
}

impl Health {
    pub(crate) fn new(rules: HealthRules, now: Timestamp) -> Health {
        Health {
            rules,
            status: HealthStatus::Unknown,
            status_since: None,
            failures_in_a_row: 0,
            started_at: now,
            check: Check::Off,
            abandoned: false,
        }
    }

    pub(crate) fn status(&self) -> HealthStatus {
        self.status
    }

    /// Nothing before a check has said anything.
    pub(crate) fn status_since(&self) -> Option<Timestamp> {
        self.status_since
    }

    /// The container has started, for the first time or again: nothing that was known before counts.
    pub(crate) fn begin(&mut self, now: Timestamp) {
        self.unknown();
        self.failures_in_a_row = 0;
        self.started_at = now;
        self.check = self.next(now);
    }

    /// No check from now on. The status stays, as the last thing that was known.
    pub(crate) fn end(&mut self) {
        if matches!(self.check, Check::Runs { .. }) {
            self.abandoned = true;
        }
        self.check = Check::Off;
    }

    /// The container is to be started again: what was known of it is of the past.
    pub(crate) fn forget(&mut self) {
        self.end();
        self.unknown();
    }

    fn unknown(&mut self) {
        self.status = HealthStatus::Unknown;
        self.status_since = None;
    }

    /// The running check's command has ended, or could not be run. Changes nothing when no check is awaited.
    pub(crate) fn check_ended(&mut self, exit_code: Option<i32>, now: Timestamp) {
        if self.abandoned {
            // It was given up, but nobody was told so yet: nothing is left to abandon.
            self.abandoned = false;
        } else if let Check::Runs { since } = self.check {
            self.count(exit_code == Some(0), since, now);
            self.check = self.next(now);
        }
    }

    /// True once for each check that is to be abandoned. One that has taken too long fails here and not before: an end
    /// that is told at the last moment still counts.
    pub(crate) fn take_abandoned(&mut self, now: Timestamp) -> bool {
        if let Check::Runs { since } = self.check
            && now >= self.overdue_at(since)
        {
            self.count(false, since, now);
            self.check = self.next(now);
            return true;
        }
        std::mem::take(&mut self.abandoned)
    }

    /// True when a check is to run now; it runs then.
    pub(crate) fn take_due(&mut self, now: Timestamp) -> bool {
        let due = matches!(self.check, Check::Next { at } if now >= at);
        if due {
            self.check = Check::Runs { since: now };
        }
        due
    }

    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        match self.check {
            Check::Off => None,
            Check::Next { at } => Some(at),
            Check::Runs { since } => Some(self.overdue_at(since)),
        }
    }

    fn next(&self, now: Timestamp) -> Check {
        Check::Next { at: now.plus_ms(u64::from(self.rules.interval_s) * 1000) }
    }

    fn overdue_at(&self, since: Timestamp) -> Timestamp {
        since.plus_ms(u64::from(self.rules.timeout_s) * 1000)
    }

    fn count(&mut self, success: bool, since: Timestamp, now: Timestamp) {
        if success {
            self.failures_in_a_row = 0;
            self.becomes(HealthStatus::Healthy, now);
            return;
        }
        let start_period_ms = u64::from(self.rules.start_period_s) * 1000;
        if self.status == HealthStatus::Unknown && since.ms_since(self.started_at) < start_period_ms {
            return;
        }
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        if self.failures_in_a_row >= self.rules.retries {
            self.becomes(HealthStatus::Unhealthy, now);
        }
    }

    fn becomes(&mut self, status: HealthStatus, now: Timestamp) {
        if self.status != status {
            self.status = status;
            self.status_since = Some(now);
        }
    }
}
