//! A supervisor without processes: it carries out what the machine asks for, knows what will happen, and objects to
//! whatever a task must never see.

use std::collections::BTreeMap;

use ecs::task::{ContainerLastStatus, DesiredStatus, HealthStatus, LastStatus, StopCode};
use ecs::task_definition::ContainerCondition;
use ecs::{ContainerName, Timestamp};
use proptest::prelude::*;
use task_lifecycle::{Action, ContainerRules, Event, HealthRules, Signal, TaskRun};

pub(crate) const TICK_MS: u64 = 250;

/// A run that begins later lasts until it is told to stop.
const FAULTS_END_MS: u64 = 30_000;

/// After this much every fault has happened and every deadline has passed; what has not ended then, rests.
const REST_MS: u64 = 120_000;

/// What has to have ended so long after it was told to stop: five containers in a row, each with its start and its
/// stop timeout.
const STOP_PATIENCE_MS: u64 = 60_000;

pub(crate) fn name(place: usize) -> ContainerName {
    ContainerName::try_from(format!("c{place}")).expect("a good name")
}

/// How one simulated container behaves, in each of its runs.
#[derive(Clone, Debug)]
pub(crate) struct Behaviour {
    pub(crate) starts: bool,
    pub(crate) start_takes_ms: u64,
    /// How long each of its runs lasts, over and over. Until it is told to stop when absent; not at all: its end is
    /// reported before its start.
    pub(crate) lives_ms: Vec<Option<u64>>,
    pub(crate) exit_code: i32,
    /// Ignores the stop signal.
    pub(crate) stubborn: bool,
    /// Its start can be aborted; else it starts all the same.
    pub(crate) aborts: bool,
    /// Its checks, over and over.
    pub(crate) checks: Vec<Check>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Check {
    pub(crate) takes_ms: u64,
    pub(crate) exit_code: Option<i32>,
}

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) rules: Vec<ContainerRules>,
    pub(crate) behaviours: Vec<Behaviour>,
    pub(crate) stop_at: Option<u64>,
    pub(crate) kill_at: Option<u64>,
    /// Every event is told twice.
    pub(crate) repeat: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Time passes from one deadline or happening to the next.
    Deadlines,
    EveryTick,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Process {
    None,
    Launching,
    Up,
    Gone,
}

/// What will happen, unless its run or its check is over by then.
#[derive(Clone, Copy, Debug)]
enum Happening {
    StartEnds { place: usize, run: u32 },
    StartAborted { place: usize, run: u32 },
    Exit { place: usize, run: u32, exit_code: i32 },
    CheckEnds { place: usize, check: u32, exit_code: Option<i32> },
    Stop,
    Kill,
    CleanedUp,
}

struct Container {
    process: Process,
    run: u32,
    started_at: Option<u64>,
    run_started_at: u64,
    last_restart_at: Option<u64>,
    exit_code: Option<i32>,
    stop_sent_at: Option<u64>,
    killed: Vec<Process>,
    checks_begun: u32,
    check_since: Option<u64>,
    check_may_begin_at: u64,
    /// Since the last start: when each check that has ended began, and whether it succeeded.
    results: Vec<(u64, bool)>,
}

pub(crate) struct World<'a> {
    scenario: &'a Scenario,
    pace: Pace,
    pub(crate) run: TaskRun,
    now: u64,
    agenda: BTreeMap<(u64, u64), Happening>,
    serial: u64,
    containers: Vec<Container>,
    kill_requested: bool,
    finished: bool,
    /// Every action, with its moment.
    pub(crate) done: Vec<(u64, Action)>,
}

impl World<'_> {
    pub(crate) fn new(scenario: &Scenario, pace: Pace) -> World<'_> {
        let unstarted = || Container {
            process: Process::None,
            run: 0,
            started_at: None,
            run_started_at: 0,
            last_restart_at: None,
            exit_code: None,
            stop_sent_at: None,
            killed: Vec::new(),
            checks_begun: 0,
            check_since: None,
            check_may_begin_at: 0,
            results: Vec::new(),
        };
        let mut world = World {
            scenario,
            pace,
            run: TaskRun::new(&scenario.rules, Timestamp::from_epoch_ms(0)),
            now: 0,
            agenda: BTreeMap::new(),
            serial: 0,
            containers: scenario.rules.iter().map(|_| unstarted()).collect(),
            kill_requested: false,
            finished: false,
            done: Vec::new(),
        };
        if let Some(at) = scenario.stop_at {
            world.plan(at, Happening::Stop);
        }
        if let Some(at) = scenario.kill_at {
            world.plan(at, Happening::Kill);
        }
        world
    }

    /// Until the task has ended, or until nothing new can happen in it: it runs, or waits for something that runs.
    pub(crate) fn play_to_rest(&mut self) -> Result<(), TestCaseError> {
        self.play(REST_MS)?;
        let progress = self.run.progress();
        match progress.last_status {
            LastStatus::Stopped => {}
            LastStatus::Running => {
                let settled = |container: &Container| matches!(container.process, Process::Up | Process::Gone);
                let failed = |place: usize| progress.containers[place].last_status == ContainerLastStatus::Stopped;
                let all = (0..self.containers.len()).all(|place| settled(&self.containers[place]) || failed(place));
                prop_assert!(all, "RUNNING, but not all of it: {:?}", progress);
            }
            LastStatus::Pending => {
                let waits = (0..self.containers.len()).any(|place| self.waits_for_one_that_runs(place));
                prop_assert!(waits, "hangs: {:?}", progress);
            }
            _ => return Err(TestCaseError::fail(format!("does not end: {progress:?}"))),
        }
        Ok(())
    }

    pub(crate) fn play_to_the_end(&mut self) -> Result<(), TestCaseError> {
        self.tell(Event::StopRequested { code: StopCode::UserInitiated, reason: String::new() })?;
        self.play(self.now + STOP_PATIENCE_MS)?;
        let progress = self.run.progress();
        prop_assert_eq!(progress.last_status, LastStatus::Stopped, "was told to stop: {:?}", progress);
        Ok(())
    }

    fn play(&mut self, until: u64) -> Result<(), TestCaseError> {
        loop {
            self.act()?;
            if self.run.progress().last_status == LastStatus::Stopped {
                return Ok(());
            }
            let deadline = self.run.deadline().map(|at| at.epoch_ms);
            prop_assert!(deadline.is_none_or(|at| at > self.now), "spins at {}", self.now);
            let happening = self.agenda.keys().next().map(|(at, _)| *at);
            let next = match self.pace {
                Pace::Deadlines => deadline.into_iter().chain(happening).min(),
                Pace::EveryTick => Some(self.now + TICK_MS),
            };
            match next {
                Some(at) if at <= until => self.now = at,
                Some(_) | None => {
                    self.now = until;
                    return Ok(());
                }
            }
            while let Some(entry) = self.agenda.first_entry() {
                if entry.key().0 > self.now {
                    break;
                }
                let happening = entry.remove();
                self.happen(happening)?;
            }
            self.tell(Event::TimePassed)?;
        }
    }

    fn plan(&mut self, at: u64, happening: Happening) {
        self.serial += 1;
        self.agenda.insert((at, self.serial), happening);
    }

    fn happen(&mut self, happening: Happening) -> Result<(), TestCaseError> {
        match happening {
            Happening::StartEnds { place, run } if self.is_in(place, run, Process::Launching) => self.start_ends(place),
            Happening::StartAborted { place, run } if self.is_in(place, run, Process::Launching) => {
                self.containers[place].process = Process::Gone;
                let reason = "CannotStartContainerError: aborted".to_owned();
                self.tell(Event::ContainerFailedToStart { container: name(place), reason })
            }
            Happening::Exit { place, run, exit_code } if self.is_in(place, run, Process::Up) => {
                self.exit(place, exit_code)
            }
            Happening::CheckEnds { place, check, exit_code } => {
                let container = &mut self.containers[place];
                match container.check_since {
                    Some(since) if container.checks_begun == check && container.process == Process::Up => {
                        container.check_since = None;
                        container.check_may_begin_at = self.now;
                        container.results.push((since, exit_code == Some(0)));
                        self.tell(Event::HealthCheckEnded { container: name(place), exit_code })
                    }
                    Some(_) | None => Ok(()),
                }
            }
            Happening::StartEnds { .. } | Happening::StartAborted { .. } | Happening::Exit { .. } => Ok(()),
            Happening::Stop => self.tell(Event::StopRequested { code: StopCode::UserInitiated, reason: String::new() }),
            Happening::Kill => {
                self.kill_requested = true;
                self.tell(Event::KillRequested)
            }
            Happening::CleanedUp => self.tell(Event::CleanedUp),
        }
    }

    fn is_in(&self, place: usize, run: u32, process: Process) -> bool {
        self.containers[place].run == run && self.containers[place].process == process
    }

    fn start_ends(&mut self, place: usize) -> Result<(), TestCaseError> {
        let behaviour = &self.scenario.behaviours[place];
        let now = self.now;
        let container = &mut self.containers[place];
        if !behaviour.starts {
            container.process = Process::Gone;
            let reason = "CannotStartContainerError: no".to_owned();
            return self.tell(Event::ContainerFailedToStart { container: name(place), reason });
        }
        container.process = Process::Up;
        container.started_at.get_or_insert(now);
        container.run_started_at = now;
        container.check_may_begin_at = now;
        container.results.clear();
        let run = container.run;
        let lives_ms = behaviour.lives_ms[container.run as usize % behaviour.lives_ms.len()];
        let lives_ms = lives_ms.filter(|_| now < FAULTS_END_MS);
        if lives_ms == Some(0) {
            self.exit(place, behaviour.exit_code)?;
            return self.tell(Event::ContainerStarted { container: name(place) });
        }
        if let Some(lives_ms) = lives_ms {
            self.plan(now + lives_ms, Happening::Exit { place, run, exit_code: behaviour.exit_code });
        }
        self.tell(Event::ContainerStarted { container: name(place) })
    }

    /// The rule of restarts, from its own words: enabled, meant to run, not ignored, and long enough since.
    fn exit(&mut self, place: usize, exit_code: i32) -> Result<(), TestCaseError> {
        let before = self.run.progress();
        let now = self.now;
        let container = &mut self.containers[place];
        container.process = Process::Gone;
        container.exit_code = Some(exit_code);
        let since = container.last_restart_at.or(container.started_at).unwrap_or(now);
        let restarts = before.desired_status == DesiredStatus::Running
            && self.scenario.rules[place].restart.as_ref().is_some_and(|rules| {
                !rules.ignored_exit_codes.contains(&exit_code)
                    && now - since >= u64::from(rules.attempt_period_s) * 1000
            });
        if restarts {
            container.last_restart_at = Some(now);
            container.results.clear();
        }
        self.tell(Event::ContainerExited { container: name(place), exit_code, oom: false })?;
        let count = self.run.progress().containers[place].restart_count;
        prop_assert_eq!(count, before.containers[place].restart_count + u32::from(restarts));
        Ok(())
    }

    fn act(&mut self) -> Result<(), TestCaseError> {
        while let Some(action) = self.run.poll() {
            self.done.push((self.now, action.clone()));
            prop_assert!(!self.finished, "{action:?} after the end");
            match action {
                Action::Start(container) => self.start(self.place(&container))?,
                Action::Signal(container, signal) => self.signal(self.place(&container), signal)?,
                Action::CheckHealth(container) => self.check(self.place(&container))?,
                Action::AbandonHealthCheck(container) => self.abandon(self.place(&container))?,
                Action::Finished => {
                    self.finished = true;
                    for container in &self.containers {
                        prop_assert!(matches!(container.process, Process::None | Process::Gone));
                        prop_assert!(container.check_since.is_none(), "a check was left behind");
                    }
                    self.plan(self.now + TICK_MS, Happening::CleanedUp);
                }
            }
        }
        self.compare()
    }

    /// What the machine says of a task that is meant to run against what has really happened.
    fn compare(&self) -> Result<(), TestCaseError> {
        let progress = self.run.progress();
        if progress.desired_status == DesiredStatus::Stopped {
            return Ok(());
        }
        for (place, container) in self.containers.iter().enumerate() {
            let said = &progress.containers[place];
            if said.last_status != ContainerLastStatus::Stopped {
                prop_assert_eq!(said.health_status, self.health(place), "the health of {}", said.name);
                prop_assert_ne!(container.process, Process::Gone, "{} is not started again", said.name);
            }
        }
        Ok(())
    }

    fn start(&mut self, place: usize) -> Result<(), TestCaseError> {
        let progress = self.run.progress();
        prop_assert_eq!(progress.desired_status, DesiredStatus::Running);
        let container = &self.containers[place];
        match container.process {
            Process::None => {
                for dependency in &self.scenario.rules[place].depends_on {
                    let on = self.place(&dependency.container_name);
                    let stopped = progress.containers[on].last_status == ContainerLastStatus::Stopped;
                    let (other, code) = (&self.containers[on], self.containers[on].exit_code);
                    let met = match dependency.condition {
                        ContainerCondition::Start => other.started_at.is_some() || stopped,
                        ContainerCondition::Complete => stopped && other.process == Process::Gone && code.is_some(),
                        ContainerCondition::Success => stopped && other.process == Process::Gone && code == Some(0),
                        ContainerCondition::Healthy => self.health(on) == HealthStatus::Healthy && !stopped,
                    };
                    prop_assert!(met, "{} started before {:?}", name(place), dependency);
                }
            }
            Process::Gone => prop_assert_eq!(container.last_restart_at, Some(self.now), "nobody restarted it"),
            Process::Launching | Process::Up => prop_assert!(false, "{} was started twice", name(place)),
        }
        let container = &mut self.containers[place];
        container.process = Process::Launching;
        container.run += 1;
        container.killed.clear();
        let run = container.run;
        self.plan(self.now + self.scenario.behaviours[place].start_takes_ms, Happening::StartEnds { place, run });
        Ok(())
    }

    fn signal(&mut self, place: usize, signal: Signal) -> Result<(), TestCaseError> {
        let rules = &self.scenario.rules[place];
        let (now, kill_requested) = (self.now, self.kill_requested);
        let dependents = self
            .scenario
            .rules
            .iter()
            .enumerate()
            .filter(|(_, other)| other.depends_on.iter().any(|dependency| dependency.container_name == rules.name));
        let alive = |process| matches!(process, Process::Launching | Process::Up);
        let depended_on = dependents.clone().any(|(other, _)| alive(self.containers[other].process));
        let behaviour = &self.scenario.behaviours[place];
        let container = &mut self.containers[place];
        let run = container.run;
        match signal {
            Signal::Stop => {
                prop_assert_eq!(container.process, Process::Up);
                prop_assert!(!depended_on, "{} was stopped before those that depend on it", rules.name);
                prop_assert_eq!(container.stop_sent_at.replace(now), None, "was told to stop twice");
                if !behaviour.stubborn {
                    self.plan(now + TICK_MS, Happening::Exit { place, run, exit_code: 143 });
                }
            }
            Signal::Kill => {
                let overdue =
                    container.stop_sent_at.is_some_and(|at| now >= at + u64::from(rules.stop_timeout_s) * 1000);
                prop_assert!(kill_requested || overdue, "{} was killed without need", rules.name);
                prop_assert!(alive(container.process), "{} was killed after its end", rules.name);
                prop_assert!(!container.killed.contains(&container.process), "{} was killed twice", rules.name);
                container.killed.push(container.process);
                if container.process == Process::Up {
                    self.plan(now + TICK_MS, Happening::Exit { place, run, exit_code: 137 });
                } else if behaviour.aborts {
                    self.plan(now + TICK_MS, Happening::StartAborted { place, run });
                }
            }
        }
        Ok(())
    }

    fn check(&mut self, place: usize) -> Result<(), TestCaseError> {
        prop_assert_eq!(self.run.progress().desired_status, DesiredStatus::Running);
        let rules = self.health_rules(place)?;
        let now = self.now;
        let container = &mut self.containers[place];
        prop_assert_eq!(container.process, Process::Up, "the check of one that does not run");
        prop_assert!(container.check_since.is_none(), "two checks at once");
        prop_assert_eq!(now, container.check_may_begin_at + u64::from(rules.interval_s) * 1000);
        container.check_since = Some(now);
        container.checks_begun += 1;
        let number = container.checks_begun;
        let checks = &self.scenario.behaviours[place].checks;
        let Check { takes_ms, exit_code } = checks[number as usize % checks.len()];
        self.plan(now + takes_ms, Happening::CheckEnds { place, check: number, exit_code });
        Ok(())
    }

    fn abandon(&mut self, place: usize) -> Result<(), TestCaseError> {
        let rules = self.health_rules(place)?;
        let stopping = self.run.progress().desired_status == DesiredStatus::Stopped;
        let now = self.now;
        let container = &mut self.containers[place];
        let since = container.check_since.take();
        prop_assert!(since.is_some(), "no check to abandon");
        let since = since.unwrap_or_default();
        if container.process == Process::Up && !stopping {
            prop_assert_eq!(now, since + u64::from(rules.timeout_s) * 1000);
            container.results.push((since, false));
            container.check_may_begin_at = now;
        }
        Ok(())
    }

    fn health_rules(&self, place: usize) -> Result<HealthRules, TestCaseError> {
        self.scenario.rules[place].health_check.ok_or_else(|| TestCaseError::fail("a check that nobody asked for"))
    }

    /// Out of all results since the last start: so many failures after the last success are UNHEALTHY, and before any
    /// success those that began in the start period do not count.
    fn health(&self, place: usize) -> HealthStatus {
        let container = &self.containers[place];
        let Some(rules) = self.scenario.rules[place].health_check else { return HealthStatus::Unknown };
        let last_success = container.results.iter().rposition(|(_, success)| *success);
        let failures = match last_success {
            Some(success) => container.results.len() - success - 1,
            None => {
                let counts_from = container.run_started_at + u64::from(rules.start_period_s) * 1000;
                container.results.iter().filter(|(since, _)| *since >= counts_from).count()
            }
        };
        match last_success {
            _ if failures >= rules.retries as usize => HealthStatus::Unhealthy,
            Some(_) => HealthStatus::Healthy,
            None => HealthStatus::Unknown,
        }
    }

    fn waits_for_one_that_runs(&self, place: usize) -> bool {
        self.containers[place].process == Process::None
            && self.scenario.rules[place].depends_on.iter().any(|dependency| {
                let on = self.place(&dependency.container_name);
                let rules = &self.scenario.rules[on];
                let gives_up_at = self.containers[on]
                    .started_at
                    .zip(rules.start_timeout_s)
                    .map(|(started, seconds)| started + u64::from(seconds) * 1000);
                self.containers[on].process == Process::Up
                    && dependency.condition != ContainerCondition::Start
                    && gives_up_at.is_none_or(|at| at > self.now)
            })
    }

    fn place(&self, container: &ContainerName) -> usize {
        self.scenario.rules.iter().position(|rules| rules.name == *container).expect("of this task")
    }

    fn tell(&mut self, event: Event) -> Result<(), TestCaseError> {
        let now = Timestamp::from_epoch_ms(self.now);
        self.run.on(event.clone(), now);
        let progress = self.run.progress();
        if self.scenario.repeat {
            self.run.on(event.clone(), now);
            prop_assert_eq!(&self.run.progress(), &progress, "a repeated {:?} changed something", event);
        }
        Ok(())
    }
}
