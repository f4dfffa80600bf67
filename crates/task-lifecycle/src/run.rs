//! The machine itself: events in, actions out, and the progress that a status file shows.

use ecs::task::{ContainerLastStatus, DesiredStatus, HealthStatus, LastStatus, StopCode};
use ecs::task_definition::ContainerDependency;
use ecs::{ContainerName, Timestamp};

use crate::depends::{Dependency, Verdict, judge};
use crate::state::{ContainerState, ContainerStep, TaskState, TaskStep};

/// The agent's ECS_CONTAINER_STOP_TIMEOUT when neither it nor the container says otherwise.
pub const DEFAULT_STOP_TIMEOUT_S: u32 = 30;

/// Amazon cuts `reason` and `stoppedReason` at this many characters.
const MAX_REASON_CHARS: usize = 1024;

/// Amazon's own texts.
pub mod words {
    pub const ESSENTIAL_EXITED: &str = "Essential container in task exited";
    pub const FAILED_TO_START: &str = "Task failed to start";
    pub const STOPPED_BY_USER: &str = "Task stopped by user";
    pub const OUT_OF_MEMORY: &str = "OutOfMemoryError: Container killed due to memory usage";
}

/// What the task definition says about one container's order and end.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerRules {
    pub name: ContainerName,
    pub essential: bool,
    pub depends_on: Vec<ContainerDependency>,
    /// Seconds between the stop signal and SIGKILL.
    pub stop_timeout_s: u32,
    /// Seconds from this container's start within which the conditions on it must be met.
    pub start_timeout_s: Option<u32>,
    pub health_check: Option<HealthRules>,
    pub restart: Option<RestartRules>,
}

/// When a container's health is looked at, with Amazon's defaults filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthRules {
    pub interval_s: u32,
    pub timeout_s: u32,
    pub retries: u32,
    pub start_period_s: u32,
}

/// When a container that exits is started again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartRules {
    pub ignored_exit_codes: Vec<i32>,
    pub attempt_period_s: u32,
}

/// What happened. An event about a container that the task does not have, or that comes late or twice, changes
/// nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    ContainerStarted {
        container: ContainerName,
    },
    /// `exit_code`: 0 to 255, a death by signal as 128 + its number. `oom`: the kernel killed in it for memory.
    ContainerExited {
        container: ContainerName,
        exit_code: i32,
        oom: bool,
    },
    /// `reason`: `Name: text`, in Amazon's words.
    ContainerFailedToStart {
        container: ContainerName,
        reason: String,
    },
    /// `exit_code`: what the check's command ended with; none when it could not be run. One that
    /// `Action::AbandonHealthCheck` was given out for is not awaited any more.
    HealthCheckEnded {
        container: ContainerName,
        exit_code: Option<i32>,
    },
    /// An empty reason stands for Amazon's own.
    StopRequested {
        code: StopCode,
        reason: String,
    },
    /// SIGKILL for everything at once, whatever the order and the timeouts say.
    KillRequested,
    /// `Action::Finished` was carried out.
    CleanedUp,
    TimePassed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Start(ContainerName),
    Signal(ContainerName, Signal),
    /// Run its health check's command now, then say `Event::HealthCheckEnded`.
    CheckHealth(ContainerName),
    /// The check has taken longer than its timeout: SIGKILL it and forget it.
    AbandonHealthCheck(ContainerName),
    /// Every container has stopped: remove what they used, then say `Event::CleanedUp`.
    Finished,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// The image's STOPSIGNAL, else SIGTERM.
    Stop,
    /// SIGKILL.
    Kill,
}

/// How the task stands, for its status file.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    pub last_status: LastStatus,
    pub desired_status: DesiredStatus,
    pub started_at: Option<Timestamp>,
    pub stopping_at: Option<Timestamp>,
    /// The end of the first essential container.
    pub execution_stopped_at: Option<Timestamp>,
    pub stopped_at: Option<Timestamp>,
    pub stop_code: Option<StopCode>,
    pub stopped_reason: Option<String>,
    /// The essential container whose end ended the task.
    pub ended_by: Option<ContainerName>,
    /// In the order of the definition.
    pub containers: Vec<ContainerProgress>,
    pub health_status: HealthStatus,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerProgress {
    pub name: ContainerName,
    pub last_status: ContainerLastStatus,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// Absent when it never ran.
    pub exit_code: Option<i32>,
    pub reason: Option<String>,
    pub health_status: HealthStatus,
    pub restart_count: u32,
}

/// One run of one task, from its first container's start to its last one's end.
#[derive(Clone, Debug)]
pub struct TaskRun {
    /// The latest instant heard of; a clock that goes back is not followed.
    now: Timestamp,
    state: TaskState,
    containers: Vec<ContainerRun>,
    started_at: Option<Timestamp>,
    stopping_at: Option<Timestamp>,
    execution_stopped_at: Option<Timestamp>,
    stopped_at: Option<Timestamp>,
    stop: Option<Stop>,
    ended_by: Option<ContainerName>,
    /// SIGKILL for all was asked for.
    kill: bool,
    /// `Action::Finished` was given out.
    told_finished: bool,
}

#[derive(Clone, Debug)]
struct Stop {
    code: StopCode,
    reason: String,
}

#[derive(Clone, Debug)]
struct ContainerRun {
    rules: ContainerRules,
    /// Places of the containers it depends on, in the order of `rules.depends_on`; none for a name that is not here.
    depends_on: Vec<Option<usize>>,
    state: ContainerState,
    healthy: bool,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    kill_at: Option<Timestamp>,
    exit_code: Option<i32>,
    reason: Option<String>,
}

impl TaskRun {
    /// The graph is expected to be checked already: an unknown dependency or a cycle leaves containers that never
    /// start, and a task that must be stopped from outside.
    pub fn new(rules: &[ContainerRules], now: Timestamp) -> TaskRun {
        let place = |name: &ContainerName| rules.iter().position(|rules| rules.name == *name);
        let containers = rules
            .iter()
            .map(|rules| ContainerRun {
                depends_on: rules.depends_on.iter().map(|dependency| place(&dependency.container_name)).collect(),
                rules: rules.clone(),
                state: ContainerState::Waiting,
                healthy: false,
                started_at: None,
                finished_at: None,
                kill_at: None,
                exit_code: None,
                reason: None,
            })
            .collect();
        let mut run = TaskRun {
            now,
            state: TaskState::Pending,
            containers,
            started_at: None,
            stopping_at: None,
            execution_stopped_at: None,
            stopped_at: None,
            stop: None,
            ended_by: None,
            kill: false,
            told_finished: false,
        };
        run.settle();
        run
    }

    pub fn on(&mut self, event: Event, now: Timestamp) {
        self.now = self.now.max(now);
        match event {
            Event::ContainerStarted { container } => self.started(&container),
            Event::ContainerExited { container, exit_code, oom } => {
                let reason = oom.then(|| words::OUT_OF_MEMORY.to_owned());
                self.ended(&container, ContainerStep::Exited, Some(exit_code), reason);
            }
            Event::ContainerFailedToStart { container, reason } => {
                self.ended(&container, ContainerStep::FailedToStart, None, Some(reason));
            }
            Event::HealthCheckEnded { container, exit_code } => {
                if let Some(place) = self.place(&container) {
                    self.containers[place].healthy = exit_code == Some(0);
                }
            }
            Event::StopRequested { code, reason } => self.begin_stop(code, reason),
            Event::KillRequested => {
                self.kill = true;
                self.begin_stop(StopCode::UserInitiated, String::new());
            }
            Event::CleanedUp => {
                if self.step(TaskStep::CleanedUp) {
                    self.stopped_at = Some(self.now);
                }
            }
            Event::TimePassed => {}
        }
        self.settle();
    }

    /// The next thing to do, if any. Each is given out once; ask until there is none.
    pub fn poll(&mut self) -> Option<Action> {
        match self.state {
            TaskState::Pending | TaskState::Running => self.next_start(),
            TaskState::Stopping => self.next_signal(),
            TaskState::CleaningUp if !self.told_finished => {
                self.told_finished = true;
                Some(Action::Finished)
            }
            TaskState::CleaningUp | TaskState::Stopped => None,
        }
    }

    /// When to say `Event::TimePassed` if nothing else happens before.
    pub fn deadline(&self) -> Option<Timestamp> {
        match self.state {
            TaskState::Pending | TaskState::Running => self
                .open_conditions()
                .filter_map(|(_, verdict)| match verdict {
                    Verdict::Open(gives_up_at) => gives_up_at,
                    Verdict::Met | Verdict::Hopeless(_) => None,
                })
                .min(),
            TaskState::Stopping => self
                .containers
                .iter()
                .filter(|container| container.state == ContainerState::Stopping)
                .filter_map(|container| container.kill_at)
                .min(),
            TaskState::CleaningUp | TaskState::Stopped => None,
        }
    }

    pub fn progress(&self) -> Progress {
        Progress {
            last_status: self.state.last_status(),
            desired_status: if self.stop.is_some() { DesiredStatus::Stopped } else { DesiredStatus::Running },
            started_at: self.started_at,
            stopping_at: self.stopping_at,
            execution_stopped_at: self.execution_stopped_at,
            stopped_at: self.stopped_at,
            stop_code: self.stop.as_ref().map(|stop| stop.code),
            stopped_reason: self.stop.as_ref().map(|stop| stop.reason.clone()),
            ended_by: self.ended_by.clone(),
            containers: self
                .containers
                .iter()
                .map(|container| ContainerProgress {
                    name: container.rules.name.clone(),
                    last_status: container.state.last_status(),
                    started_at: container.started_at,
                    finished_at: container.finished_at,
                    exit_code: container.exit_code,
                    reason: container.reason.clone(),
                    health_status: HealthStatus::Unknown,
                    restart_count: 0,
                })
                .collect(),
            health_status: HealthStatus::Unknown,
        }
    }

    fn started(&mut self, name: &ContainerName) {
        let Some(place) = self.place(name) else { return };
        let now = self.now;
        let container = &mut self.containers[place];
        if container.step(ContainerStep::Started) {
            container.started_at = Some(now);
        }
    }

    fn ended(&mut self, name: &ContainerName, how: ContainerStep, exit_code: Option<i32>, reason: Option<String>) {
        let Some(place) = self.place(name) else { return };
        let now = self.now;
        let container = &mut self.containers[place];
        if !container.step(how) {
            return;
        }
        container.finished_at = Some(now);
        container.exit_code = exit_code;
        container.reason = reason.map(cut);
        if exit_code.is_some() && container.started_at.is_none() {
            // It ended before its start was reported: it did run.
            container.started_at = Some(now);
        }
        if !container.rules.essential {
            return;
        }
        self.execution_stopped_at.get_or_insert(now);
        if self.stop.is_none() {
            self.ended_by = Some(name.clone());
            // A task whose one essential container ends at once was RUNNING, however short.
            self.settle_up();
            let (code, reason) = match how == ContainerStep::FailedToStart {
                true => (StopCode::TaskFailedToStart, words::FAILED_TO_START),
                false => (StopCode::EssentialContainerExited, words::ESSENTIAL_EXITED),
            };
            self.begin_stop(code, reason.to_owned());
        }
    }

    /// Sets the desired status to STOPPED, once; the first reason stays.
    fn begin_stop(&mut self, code: StopCode, reason: String) {
        if self.stop.is_some() || !self.step(TaskStep::Stop) {
            return;
        }
        let reason = if reason.is_empty() { words::STOPPED_BY_USER.to_owned() } else { cut(reason) };
        self.stop = Some(Stop { code, reason });
        self.stopping_at = Some(self.now);
    }

    /// Everything that follows from the state by itself.
    fn settle(&mut self) {
        let hopeless = self.open_conditions().find_map(|(_, verdict)| match verdict {
            Verdict::Hopeless(why) => Some(why),
            Verdict::Met | Verdict::Open(_) => None,
        });
        if let Some(why) = hopeless {
            self.begin_stop(StopCode::TaskFailedToStart, why);
        }
        self.settle_up();
        if self.all_in(&[ContainerState::Stopped]) {
            // Only a task without an essential container gets here undecided, and Amazon refuses to register one.
            self.begin_stop(StopCode::EssentialContainerExited, words::ESSENTIAL_EXITED.to_owned());
        }
        if self.state == TaskState::Stopping {
            for container in &mut self.containers {
                container.step(ContainerStep::Abandon);
            }
            if self.all_in(&[ContainerState::Stopped]) {
                self.step(TaskStep::AllStopped);
            }
        }
    }

    /// RUNNING is reached when every container runs or has stopped without ending the task.
    fn settle_up(&mut self) {
        let ran = |container: &ContainerRun| match container.state {
            ContainerState::Waiting | ContainerState::Starting => false,
            ContainerState::Running | ContainerState::Stopping | ContainerState::Killing => true,
            ContainerState::Stopped => !container.rules.essential || container.exit_code.is_some(),
        };
        if self.stop.is_none() && self.containers.iter().all(ran) && self.step(TaskStep::AllUp) {
            self.started_at = Some(self.now);
        }
    }

    fn next_start(&mut self) -> Option<Action> {
        let ready = (0..self.containers.len()).find(|&place| {
            self.containers[place].state == ContainerState::Waiting
                && self.verdicts(place).all(|verdict| verdict == Verdict::Met)
        })?;
        let container = &mut self.containers[ready];
        container.step(ContainerStep::Start);
        Some(Action::Start(container.rules.name.clone()))
    }

    /// A container is stopped only after every container that depends on it has stopped.
    fn next_signal(&mut self) -> Option<Action> {
        for place in 0..self.containers.len() {
            let awaited = self.depended_on(place);
            let (now, kill) = (self.now, self.kill);
            let container = &mut self.containers[place];
            let overdue = container.kill_at.is_some_and(|at| now >= at);
            if (kill || overdue) && container.step(ContainerStep::Kill) {
                return Some(Action::Signal(container.rules.name.clone(), Signal::Kill));
            }
            if !awaited && container.step(ContainerStep::Stop) {
                container.kill_at = Some(now.plus_ms(u64::from(container.rules.stop_timeout_s) * 1000));
                return Some(Action::Signal(container.rules.name.clone(), Signal::Stop));
            }
        }
        None
    }

    /// Whether a container that depends on this one has not stopped yet.
    fn depended_on(&self, place: usize) -> bool {
        self.containers
            .iter()
            .any(|container| container.state != ContainerState::Stopped && container.depends_on.contains(&Some(place)))
    }

    /// The conditions of containers that wait, while the task is meant to run.
    fn open_conditions(&self) -> impl Iterator<Item = (usize, Verdict)> + '_ {
        let undecided = self.stop.is_none();
        (0..self.containers.len())
            .filter(move |&place| undecided && self.containers[place].state == ContainerState::Waiting)
            .flat_map(|place| self.verdicts(place).map(move |verdict| (place, verdict)))
    }

    fn verdicts(&self, place: usize) -> impl Iterator<Item = Verdict> + '_ {
        let target = &self.containers[place];
        target.rules.depends_on.iter().zip(&target.depends_on).map(|(wanted, dependency)| match dependency {
            Some(dependency) => {
                let dependency = self.containers[*dependency].as_dependency();
                judge(&target.rules.name, wanted.condition, dependency, self.now)
            }
            None => Verdict::Hopeless(format!(
                "TaskDependencyError: container [{}] depends on [{}], which the task does not have",
                target.rules.name, wanted.container_name
            )),
        })
    }

    fn all_in(&self, states: &[ContainerState]) -> bool {
        self.containers.iter().all(|container| states.contains(&container.state))
    }

    fn place(&self, name: &ContainerName) -> Option<usize> {
        self.containers.iter().position(|container| container.rules.name == *name)
    }

    fn step(&mut self, step: TaskStep) -> bool {
        let next = self.state.next(step);
        self.state = next.unwrap_or(self.state);
        next.is_some()
    }
}

impl ContainerRun {
    fn step(&mut self, step: ContainerStep) -> bool {
        let next = self.state.next(step);
        self.state = next.unwrap_or(self.state);
        next.is_some()
    }

    fn as_dependency(&self) -> Dependency<'_> {
        Dependency {
            name: &self.rules.name,
            state: self.state,
            exit_code: self.exit_code,
            healthy: self.healthy,
            started_at: self.started_at,
            start_timeout_s: self.rules.start_timeout_s,
        }
    }
}

fn cut(reason: String) -> String {
    match reason.char_indices().nth(MAX_REASON_CHARS) {
        Some((end, _)) => reason[..end].to_owned(),
        None => reason,
    }
}
