//! The machine itself: events in, actions out, and the progress that a status file shows.

use ecs::task::{DesiredStatus, StopCode};
use ecs::{ContainerName, Timestamp};

use crate::container::{ContainerRun, cut};
use crate::depends::{Verdict, in_a_circle, judge};
use crate::health::Health;
use crate::progress::{Progress, task_health};
use crate::rules::ContainerRules;
use crate::state::{ContainerState, ContainerStep, TaskState, TaskStep};

/// Errors of one container that Amazon tells of the whole task: its `stoppedReason` is theirs.
const ERRORS_OF_THE_TASK: [&str; 5] = [
    "CannotPullContainerError",
    "CannotPullImageManifestError",
    "CannotPullECRContainerError",
    "CannotPullContainerAuthError",
    "ResourceInitializationError",
];

/// Amazon's own texts.
pub mod words {
    pub const ESSENTIAL_EXITED: &str = "Essential container in task exited";
    pub const FAILED_TO_START: &str = "Task failed to start";
    pub const STOPPED_BY_USER: &str = "Task stopped by user";
    pub const OUT_OF_MEMORY: &str = "OutOfMemoryError: Container killed due to memory usage";
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
    /// `reason`: `Name: text`, in Amazon's words. Also the answer to a SIGKILL that has aborted the start.
    ContainerFailedToStart {
        container: ContainerName,
        reason: String,
    },
    /// `exit_code`: what the check's command ended with; none when it could not be run. Of a check that
    /// `Action::AbandonHealthCheck` was given out for, nothing is said any more.
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

/// Each is given out once, and answered by an event where it says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Then say `ContainerStarted` or `ContainerFailedToStart`, whenever that is known. Given out again for a
    /// container that has exited and whose restart policy starts it again: with the same root file system.
    Start(ContainerName),
    /// A stop signal is for a container whose start was reported. SIGKILL may also come before that: then it aborts
    /// the start, which is answered by `ContainerFailedToStart`, or by `ContainerExited` when it did run. If
    /// `ContainerStarted` is said after all, SIGKILL comes once more.
    Signal(ContainerName, Signal),
    /// Run its health check's command now, then say `Event::HealthCheckEnded`. At most one at a time for a container.
    CheckHealth(ContainerName),
    /// SIGKILL its running check and forget it: it took longer than its timeout, its container has exited, or the
    /// task stops. Each check ends with this or with `Event::HealthCheckEnded`, also after its container's end.
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

impl TaskRun {
    /// The graph is expected to be checked already; with an unknown dependency or a circle the task stops at once.
    pub fn new(rules: &[ContainerRules], now: Timestamp) -> TaskRun {
        let place = |name: &ContainerName| rules.iter().position(|rules| rules.name == *name);
        let containers: Vec<ContainerRun> = rules
            .iter()
            .map(|rules| {
                let depends_on = rules.depends_on.iter().map(|dependency| place(&dependency.container_name));
                ContainerRun::new(rules, depends_on.collect(), now)
            })
            .collect();
        let graph: Vec<Vec<usize>> =
            containers.iter().map(|container| container.depends_on.iter().copied().flatten().collect()).collect();
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
        let circle = in_a_circle(&graph);
        if !circle.is_empty() {
            let names: Vec<&str> = circle.iter().map(|place| run.containers[*place].rules.name.as_str()).collect();
            let names = names.join(", ");
            let reason = format!("TaskDependencyError: Task dependencies cannot be resolved, containers: {names}");
            run.begin_stop(StopCode::TaskFailedToStart, reason);
        }
        run.settle();
        run
    }

    pub fn on(&mut self, event: Event, now: Timestamp) {
        self.now = self.now.max(now);
        let now = self.now;
        match event {
            Event::ContainerStarted { container } => {
                if let Some(container) = self.find(&container) {
                    container.started(now);
                }
            }
            Event::ContainerExited { container, exit_code, oom } => {
                let reason = oom.then(|| words::OUT_OF_MEMORY.to_owned());
                let restartable = self.stop.is_none();
                if let Some(run) = self.find(&container)
                    && run.exited(exit_code, reason, now, restartable)
                {
                    self.ended(&container, StopCode::EssentialContainerExited, words::ESSENTIAL_EXITED.to_owned());
                }
            }
            Event::ContainerFailedToStart { container, reason } => self.failed_to_start(&container, reason),
            Event::HealthCheckEnded { container, exit_code } => {
                if let Some(health) = self.find(&container).and_then(|container| container.health.as_mut()) {
                    health.check_ended(exit_code, now);
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
        if let Some(abandon) = self.next_abandon() {
            return Some(abandon);
        }
        match self.state {
            TaskState::Pending | TaskState::Running => self.next_start().or_else(|| self.next_check()),
            TaskState::Stopping => self.next_signal(),
            TaskState::CleaningUp if !self.told_finished => {
                self.told_finished = true;
                Some(Action::Finished)
            }
            TaskState::CleaningUp | TaskState::Stopped => None,
        }
    }

    /// When to say `Event::TimePassed` if nothing else happens before. Of what has been polled for already.
    pub fn deadline(&self) -> Option<Timestamp> {
        match self.state {
            TaskState::Pending | TaskState::Running => {
                let give_up = self.open_conditions().filter_map(|(_, verdict)| match verdict {
                    Verdict::Open(gives_up_at) => gives_up_at,
                    Verdict::Met | Verdict::Hopeless(_) => None,
                });
                let checks = self.containers.iter().filter_map(|container| container.health.as_ref()?.deadline());
                give_up.chain(checks).min()
            }
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
            containers: self.containers.iter().map(ContainerRun::progress).collect(),
            health_status: task_health(
                self.containers
                    .iter()
                    .filter(|container| container.rules.essential)
                    .filter_map(|container| container.health.as_ref().map(Health::status)),
            ),
        }
    }

    fn failed_to_start(&mut self, name: &ContainerName, reason: String) {
        let now = self.now;
        let Some(container) = self.find(name) else { return };
        if !container.failed_to_start(reason.clone(), now) {
            return;
        }
        if container.started_at.is_some() {
            // It could not be started again: the agent sees a container that has exited.
            self.ended(name, StopCode::EssentialContainerExited, words::ESSENTIAL_EXITED.to_owned());
            return;
        }
        let error = reason.split(':').next().unwrap_or_default();
        let of_the_task = ERRORS_OF_THE_TASK.contains(&error);
        let told = if of_the_task { reason } else { words::FAILED_TO_START.to_owned() };
        self.ended(name, StopCode::TaskFailedToStart, told);
    }

    /// A container has stopped for good; with an essential one the task stops.
    fn ended(&mut self, name: &ContainerName, code: StopCode, reason: String) {
        let now = self.now;
        if self.find(name).is_none_or(|container| !container.rules.essential) {
            return;
        }
        self.execution_stopped_at.get_or_insert(now);
        if self.stop.is_none() {
            self.ended_by = Some(name.clone());
            // A task whose one essential container ends at once was RUNNING, however short.
            self.settle_up();
            self.begin_stop(code, reason);
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
            self.settle_down();
        }
    }

    /// RUNNING is reached when every container runs or has stopped without ending the task.
    fn settle_up(&mut self) {
        let ran = |container: &ContainerRun| match container.state {
            ContainerState::Stopped => !container.rules.essential || container.started_at.is_some(),
            ContainerState::Waiting
            | ContainerState::Starting
            | ContainerState::Aborting
            | ContainerState::Running
            | ContainerState::Stopping
            | ContainerState::Killing
            | ContainerState::Restarting => container.started_at.is_some(),
        };
        if self.stop.is_none() && self.containers.iter().all(ran) && self.step(TaskStep::AllUp) {
            self.started_at = Some(self.now);
        }
    }

    /// What is not to start any more has stopped, and nobody's health is looked at any more.
    fn settle_down(&mut self) {
        for container in &mut self.containers {
            container.end_health();
            if container.abandon() && container.rules.essential {
                self.execution_stopped_at.get_or_insert(self.now);
            }
        }
        if self.all_in(&[ContainerState::Stopped]) {
            self.step(TaskStep::AllStopped);
        }
    }

    fn next_abandon(&mut self) -> Option<Action> {
        let now = self.now;
        let action = self.containers.iter_mut().find_map(|container| {
            let abandoned = container.health.as_mut()?.take_abandoned(now);
            abandoned.then(|| Action::AbandonHealthCheck(container.rules.name.clone()))
        });
        if action.is_some() {
            // It may have failed with that, and somebody may wait for it to be healthy.
            self.settle();
        }
        action
    }

    fn next_check(&mut self) -> Option<Action> {
        let now = self.now;
        self.containers.iter_mut().find_map(|container| {
            let due = container.health.as_mut()?.take_due(now);
            due.then(|| Action::CheckHealth(container.rules.name.clone()))
        })
    }

    fn next_start(&mut self) -> Option<Action> {
        let ready = (0..self.containers.len()).find(|&place| match self.containers[place].state {
            ContainerState::Waiting => self.verdicts(place).all(|verdict| verdict == Verdict::Met),
            // Its conditions were met once, and that is all they ask.
            ContainerState::Restarting => true,
            ContainerState::Starting
            | ContainerState::Aborting
            | ContainerState::Running
            | ContainerState::Stopping
            | ContainerState::Killing
            | ContainerState::Stopped => false,
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

    fn find(&mut self, name: &ContainerName) -> Option<&mut ContainerRun> {
        self.containers.iter_mut().find(|container| container.rules.name == *name)
    }

    fn step(&mut self, step: TaskStep) -> bool {
        let next = self.state.next(step);
        self.state = next.unwrap_or(self.state);
        next.is_some()
    }
}
