//! The loop: what the lifecycle asks for is carried out, what happens is told to it, every change is written down.

mod finish;
mod requests;

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::process::ExitCode;

use agent_protocol::{Answer, ContainerSecrets, TaskSpec, TaskStatus};
use ecs::task::{DesiredStatus, StopCode};
use ecs::{ContainerName, TaskId, Timestamp};
use nix::sys::signal::Signal;
use task_lifecycle::{Action, ContainerRules, Event, TaskRun};

use super::clock::Clock;
use super::container::{Buffers, Container, Outcome, READS_PER_TURN, Surroundings};
use super::execution::{Around, Executions};
use super::health::{self, Checks};
use super::journal::{Journal, chain};
use super::report::{self, ContainerFacts, TaskFacts};
use super::router;
use super::services::Services;
use super::{Go, Process, TOLD_TO_STOP, poll, read_signals, readable, reap};
use crate::ctl::Ctl;
use crate::host_services;
use crate::memory;
use crate::namespaces::TaskNamespaces;
use crate::socket::send;
use crate::status_file::{self, Durability, Reserve};
use crate::task_dir::CTL_NAME;
use crate::volumes::TaskVolumes;

/// When a status that could not be written is tried again, milliseconds.
const STATUS_RETRY_MS: u64 = 1_000;

/// Why a container did not start whose task was stopped meanwhile.
const STOPPED_WHILE_STARTING: &str =
    "CannotStartContainerError: the task was stopped before the container's program was executed";

/// How long after the last start the supervisor gives back what starting needed, milliseconds: tasks that end at
/// once are not slowed down by it.
const SHED_AFTER_MS: u64 = 1_000;

/// How long after its begin a task gets room on the disk for its last status, milliseconds: later than most first
/// bytes of output. A container that writes much gets it before that is kept: no disk is full by then.
const RESERVE_AFTER_MS: u64 = 20;

/// Lost output shows in the status so much later, and so at most this often, milliseconds.
const LOST_OUTPUT_MS: u64 = 1_000;

pub(super) struct Life {
    spec: TaskSpec,
    facts: TaskFacts,
    process: Process,
    journal: Journal,
    clock: Clock,
    /// The driver's, until it has been answered.
    start_socket: Option<OwnedFd>,
    ctl: Option<Ctl>,
    run: TaskRun,
    containers: Vec<Container>,
    /// In memory only.
    secrets: Vec<ContainerSecrets>,
    volumes: TaskVolumes,
    /// To be started when the volumes are there.
    waiting_for_volumes: Vec<ContainerName>,
    executions: Executions,
    checks: Checks,
    /// The containers' network namespaces.
    networks: Vec<OwnedFd>,
    namespaces: TaskNamespaces,
    services: Services,
    /// Held, never used: as long as they are open, nobody else gets these ports.
    held_ports: Vec<OwnedFd>,
    buffers: Buffers,
    status: TaskStatus,
    /// The lifecycle or the facts may have changed since `status` was made.
    changed: bool,
    /// Why no container can start: the task's cgroup could not be made.
    unready: Option<String>,
    /// The newest status is not on disk; when to try again.
    unwritten: Option<Timestamp>,
    /// For the last status, if the disk is full then.
    reserve: Option<Reserve>,
    reserve_at: Option<Timestamp>,
    tell_lost_output_at: Option<Timestamp>,
    /// When to give memory back, once for each round of starts.
    shed_at: Option<Timestamp>,
    held_stop: Option<router::Held>,
}

impl Life {
    pub(super) fn begin(
        spec: TaskSpec,
        facts: TaskFacts,
        go: Go,
        process: Process,
        journal: Journal,
        clock: Clock,
        start_socket: OwnedFd,
    ) -> Life {
        let now = clock.now();
        let definitions: Vec<_> = spec.containers.iter().map(|container| &container.definition).collect();
        let run = TaskRun::new(&ContainerRules::of_task(&definitions), now);
        let containers: Vec<Container> =
            spec.containers.iter().map(|container| Container::new(&spec, container)).collect();
        let unstarted = vec![ContainerFacts::default(); containers.len()];
        let status = report::status(&facts, &unstarted, run.progress(), 1);
        let services = Services::new(&spec, go.service_sockets, now);
        Life {
            spec,
            facts,
            process,
            journal,
            clock,
            start_socket: Some(start_socket),
            ctl: None,
            run,
            containers,
            secrets: go.secrets,
            volumes: TaskVolumes::default(),
            waiting_for_volumes: Vec::new(),
            executions: Executions::default(),
            checks: Checks::default(),
            networks: go.network_namespaces,
            namespaces: TaskNamespaces::private(),
            services,
            held_ports: go.held_ports,
            buffers: Buffers::default(),
            status,
            changed: false,
            unready: None,
            unwritten: None,
            reserve: None,
            reserve_at: None,
            tell_lost_output_at: None,
            shed_at: None,
            held_stop: None,
        }
    }

    pub(super) fn run(mut self, teardown: impl FnOnce(&TaskId, Option<&TaskSpec>) -> Vec<String>) -> ExitCode {
        match Ctl::listen(&self.spec.places.run.join(CTL_NAME)) {
            Ok(ctl) => self.ctl = Some(ctl),
            // A task that cannot be asked can still be stopped by a signal to its supervisor.
            Err(cause) => self.journal.complain(self.clock.now(), "no ctl socket", &cause),
        }
        self.write_status(Durability::Kernel);
        if !self.answer_driver() {
            // It has told its user that the task could not be started, or was killed before it could tell anything.
            let reason = "The driver did not wait for its task to be taken over".to_owned();
            self.run.on(Event::StopRequested { code: StopCode::TaskFailedToStart, reason }, self.clock.now());
        }
        self.reserve_at = Some(self.clock.now().plus_ms(RESERVE_AFTER_MS));
        if let Err(error) = self.process.cgroups.prepare_task(&self.spec) {
            self.unready = Some(format!("CannotCreateContainerError: {}", chain(&error)));
        }
        match TaskNamespaces::make(&self.spec, &self.process.cgroups) {
            Ok(namespaces) => self.namespaces = namespaces,
            Err(error) => {
                self.unready.get_or_insert_with(|| format!("CannotCreateContainerError: {}", chain(&error)));
            }
        }
        // After the namespaces, of which the mounts are one: what is mounted is mounted in the last one.
        if let Err(reason) = self.volumes.begin(&self.spec) {
            self.unready.get_or_insert(reason);
        }
        loop {
            if self.carry_out() {
                break;
            }
            self.publish();
            self.wait_and_serve();
        }
        self.finish(teardown)
    }

    /// The task is ours and its first status is written: whoever started us may go. False when it has gone before.
    fn answer_driver(&mut self) -> bool {
        let Some(socket) = self.start_socket.take() else { return false };
        let mut line = serde_json::to_vec(&Answer::Taken).expect("an answer is plain data with string keys");
        line.push(b'\n');
        send(socket.as_fd(), &line, &[]).is_ok()
    }

    /// Does what the lifecycle asks for. True when the task has ended and is to be cleaned up.
    fn carry_out(&mut self) -> bool {
        loop {
            while let Some(action) = self.run.poll() {
                match action {
                    Action::Start(name) => self.start(&name),
                    Action::Signal(name, signal) => self.signal(&name, signal),
                    Action::CheckHealth(name) => self.check_health(&name),
                    Action::AbandonHealthCheck(name) => self.checks.abandon(&name, &self.spec, &self.process.cgroups),
                    Action::Finished => return true,
                }
            }
            // What was reported meanwhile counts: a program that runs is stopped, and its start not aborted. What failed
            // at once, or was aborted, may have ended already, and then there is more to do.
            let told = self.advance();
            self.abort_starts();
            if !told && !self.advance() {
                return false;
            }
        }
    }

    fn start(&mut self, name: &ContainerName) {
        let Some(place) = self.containers.iter().position(|container| container.name == *name) else { return };
        if let Some(reason) = self.unready.clone() {
            return self.tell_failed_start(name.clone(), reason);
        }
        if self.volumes.are_under_way() {
            return self.waiting_for_volumes.push(name.clone());
        }
        let secrets = self.secrets.iter().find(|secrets| secrets.container == *name);
        let around = Surroundings {
            secrets,
            cgroups: &self.process.cgroups,
            networks: &self.networks,
            namespaces: &self.namespaces,
        };
        self.containers[place].begin(&self.spec, &self.spec.containers[place], &around, self.clock.now());
        self.changed = true;
        self.give_back_memory_soon();
    }

    fn tell_failed_start(&mut self, container: ContainerName, reason: String) {
        self.journal.say(self.clock.now(), &format!("{container}: {reason}"));
        self.tell(Event::ContainerFailedToStart { container, reason });
    }

    fn signal(&mut self, name: &ContainerName, signal: task_lifecycle::Signal) {
        let now = self.clock.now();
        if signal == task_lifecycle::Signal::Stop
            && let Some(held) = router::Held::of(&self.spec, name, &mut self.containers, now)
        {
            self.held_stop = Some(held);
            return;
        }
        self.signal_now(name, signal);
    }

    /// Stops the router whose stop was held back, when it is time.
    fn release_router(&mut self) {
        let now = self.clock.now();
        let over = |held: &mut router::Held| held.is_over(&self.spec, &mut self.containers, now);
        if let Some(held) = self.held_stop.take_if(over) {
            self.signal_now(&held.router, task_lifecycle::Signal::Stop);
        }
    }

    fn signal_now(&mut self, name: &ContainerName, signal: task_lifecycle::Signal) {
        let now = self.clock.now();
        let Some(container) = self.containers.iter_mut().find(|container| container.name == *name) else { return };
        if let Err(cause) = container.signal(signal, &self.spec, &self.process.cgroups, now) {
            self.journal.say(now, &format!("cannot signal {name}: {cause}"));
        }
    }

    /// A task that is to stop waits for no start: nobody knows how long a file system keeps one waiting.
    fn abort_starts(&mut self) {
        let starting = self.containers.iter().any(Container::is_starting) || self.volumes.are_under_way();
        if !starting || self.run.progress().desired_status == DesiredStatus::Running {
            return;
        }
        let now = self.clock.now();
        for container in &mut self.containers {
            container.abort_start(STOPPED_WHILE_STARTING, now);
        }
        if self.volumes.are_under_way() {
            self.volumes.abandon(STOPPED_WHILE_STARTING);
        }
    }

    fn volumes_ended(&mut self, outcome: Result<(), String>) {
        if let Err(reason) = outcome {
            self.unready.get_or_insert(reason);
        }
        for name in std::mem::take(&mut self.waiting_for_volumes) {
            self.start(&name);
        }
    }

    fn check_health(&mut self, name: &ContainerName) {
        let container = self.containers.iter().find(|container| container.name == *name);
        let around = Around {
            task: &self.spec,
            container,
            secrets: self.secrets.iter().find(|secrets| secrets.container == *name),
            cgroups: &self.process.cgroups,
        };
        let definition = self.spec.containers.iter().map(|spec| &spec.definition).find(|one| one.name == *name);
        let Some(check) = definition.and_then(|definition| definition.health_check.as_ref()) else { return };
        if let Err(reason) = self.checks.begin(name, check, &around) {
            self.tell_health(health::Ended { container: name.clone(), exit_code: None, output: reason });
        }
        self.give_back_memory_soon();
    }

    fn tell_health(&mut self, ended: health::Ended) {
        let health::Ended { container, exit_code, output } = ended;
        if let Some(found) = self.containers.iter_mut().find(|found| found.name == container) {
            found.set_health_output(output);
        }
        self.tell(Event::HealthCheckEnded { container, exit_code });
    }

    /// What has become of everything that is under way. To be called before an ended child is waited for. True when
    /// the lifecycle was told something.
    fn advance(&mut self) -> bool {
        let now = self.clock.now();
        let mut outcomes = Vec::new();
        for container in &mut self.containers {
            let outcome = container.advance(&self.spec, &self.process.cgroups, now, &mut self.buffers);
            outcomes.extend(outcome.map(|outcome| (container.name.clone(), outcome)));
            self.changed |= container.look_for_stuck(&self.spec, &self.process.cgroups, now);
        }
        let news = self.executions.advance();
        self.tell_clients(news);
        let checks = self.checks.advance();
        let volumes = self.volumes.advance();
        let told = !outcomes.is_empty() || !checks.is_empty() || volumes.is_some();
        volumes.into_iter().for_each(|outcome| self.volumes_ended(outcome));
        checks.into_iter().for_each(|ended| self.tell_health(ended));
        for (container, outcome) in outcomes {
            match outcome {
                Outcome::Started => {
                    self.give_back_memory_soon();
                    self.tell(Event::ContainerStarted { container });
                }
                Outcome::FailedToStart { reason } => self.tell_failed_start(container, reason),
                Outcome::Exited { exit_code, oom } => self.tell(Event::ContainerExited { container, exit_code, oom }),
            }
        }
        told
    }

    fn give_back_memory_soon(&mut self) {
        self.shed_at = Some(self.clock.now().plus_ms(SHED_AFTER_MS));
    }

    fn tell(&mut self, event: Event) {
        self.run.on(event, self.clock.now());
        self.changed = true;
    }

    fn publish(&mut self) {
        let now = self.clock.now();
        if std::mem::take(&mut self.changed) {
            let status = self.new_status();
            if status != (TaskStatus { version: status.version, ..self.status.clone() }) {
                self.status = status;
                self.write_status(Durability::Kernel);
                self.tell_watchers();
            }
        } else if self.unwritten.is_some_and(|retry| now >= retry) {
            self.write_status(Durability::Kernel);
        }
        if let Some(ctl) = &mut self.ctl
            && ctl.wants_status()
        {
            ctl.send_wanted_status(&Answer::Status { status: Box::new(self.status.clone()) });
        }
    }

    fn new_status(&self) -> TaskStatus {
        let facts: Vec<ContainerFacts> = self.containers.iter().map(Container::facts).collect();
        report::status(&self.facts, &facts, self.run.progress(), self.status.version + 1)
    }

    fn write_status(&mut self, durability: Durability) {
        let now = self.clock.now();
        match status_file::write(&self.spec.places.state, &self.status, durability) {
            Ok(()) => self.unwritten = None,
            Err(error) => {
                if self.unwritten.is_none() {
                    self.journal.complain(now, "status not written, trying again", &error);
                }
                self.unwritten = Some(now.plus_ms(STATUS_RETRY_MS));
            }
        }
    }

    fn tell_watchers(&mut self) {
        if let Some(ctl) = &mut self.ctl
            && ctl.is_watched()
        {
            ctl.tell_status(&Answer::Status { status: Box::new(self.status.clone()) });
        }
    }

    fn wait_and_serve(&mut self) {
        let deadline = self.run.deadline();
        let now = self.clock.now();
        let shed = self.shed_at.take_if(|at| now >= *at);
        let timers = [deadline, self.unwritten, self.reserve_at, self.shed_at, self.tell_lost_output_at];
        let under_way = self.containers.iter().filter_map(|container| container.look_again_at(now));
        let under_way = under_way.chain(self.executions.look_again_at(now)).chain(self.checks.look_again_at(now));
        let under_way = under_way.chain(self.held_stop.as_ref().map(|held| held.look_at(now)));
        let under_way = under_way.chain(self.volumes.left_ms().map(|left| now.plus_ms(left)));
        let under_way = under_way.chain(self.services.look_again_at(now));
        let next = timers.into_iter().flatten().chain(under_way).min();
        if next.is_none() {
            self.clock.set_right();
        }
        let ready = self.wait(next, shed);
        if ready.contains(&self.process.signals.as_raw_fd()) {
            self.serve_signals();
        }
        if self.reserve_at.is_some() && self.containers.iter().any(|container| container.has_much_output()) {
            self.take_reserve();
        }
        self.serve_output(&ready);
        self.checks.serve_output(&ready);
        self.advance();
        self.release_router();
        self.serve_ctl(&ready);
        self.call_services(&ready);
        if deadline.is_some_and(|deadline| self.clock.now() >= deadline) {
            self.tell(Event::TimePassed);
        }
        self.prepare_to_wait();
    }

    /// What a task that lasts gets, and one that ends at once does without.
    fn prepare_to_wait(&mut self) {
        if self.reserve_at.is_some_and(|at| self.clock.now() >= at) {
            self.take_reserve();
        }
    }

    fn take_reserve(&mut self) {
        self.reserve_at = None;
        match Reserve::take(&self.spec.places.state) {
            Ok(reserve) => self.reserve = Some(reserve),
            Err(error) => self.journal.complain(self.clock.now(), "no room for the last status", &error),
        }
    }

    /// The descriptors on which something happened before `deadline`.
    fn wait(&mut self, deadline: Option<Timestamp>, shed: Option<Timestamp>) -> Vec<RawFd> {
        let mut interest = vec![readable(self.process.signals.as_raw_fd())];
        let of_containers = self.containers.iter().flat_map(Container::interest);
        interest.extend(of_containers.map(|(fd, events)| libc::pollfd { fd, events, revents: 0 }));
        interest.extend(self.volumes.interest().map(readable));
        interest.extend(self.executions.interest().chain(self.checks.interest()).map(readable));
        interest.extend(self.services.interest(self.clock.now()).map(readable));
        if let Some(ctl) = &self.ctl {
            interest.extend(ctl.interest().map(|(fd, events)| libc::pollfd { fd, events, revents: 0 }));
        }
        let timeout = self.clock.poll_timeout(deadline);
        // The very last thing before the wait: each function that runs after it brings sixteen pages back.
        if shed.is_some()
            && let Err(cause) = memory::shed()
        {
            self.journal.complain(self.clock.now(), "no memory given back", &cause);
        }
        if let Err(cause) = poll(&mut interest, timeout) {
            // Out of kernel memory: the next turn tries again.
            self.journal.complain(self.clock.now(), "poll", &cause);
        }
        interest.iter().filter(|one| one.revents != 0).map(|one| one.fd).collect()
    }

    fn call_services(&mut self, ready: &[RawFd]) {
        let now = self.clock.now();
        if !self.services.is_wanted(ready, now) {
            return;
        }
        self.services.pause(now);
        if let Err(error) = host_services::start(&self.spec.places) {
            self.journal.complain(now, "nobody answers the task's calls", &error);
        }
        self.give_back_memory_soon();
    }

    fn serve_signals(&mut self) {
        for signal in read_signals(&self.process.signals) {
            match signal {
                Signal::SIGCHLD => self.reap(),
                _ => {
                    let reason = TOLD_TO_STOP.to_owned();
                    self.tell(Event::StopRequested { code: StopCode::UserInitiated, reason });
                }
            }
        }
    }

    /// Every process that has ended: containers, execs, health checks, helpers, and orphans that became ours.
    fn reap(&mut self) {
        while let Some((pid, exit_code)) = reap::next_ended() {
            // A report may name this number.
            self.advance();
            self.ended(pid, exit_code);
            reap::wait_for(pid);
            let now = self.clock.now();
            self.containers.iter_mut().for_each(|container| container.hurry(now));
        }
    }

    fn ended(&mut self, pid: i32, exit_code: i32) {
        let now = self.clock.now();
        if let Some(container) = self.containers.iter_mut().find(|container| container.is_process(pid)) {
            container.ended(exit_code, &self.spec, &self.process.cgroups, now);
            let name = container.name.clone();
            let news = self.executions.container_ended(&name);
            self.tell_clients(news);
            self.checks.container_ended(&name);
            self.changed = true;
        } else if let Some(ended) = self.checks.ended(pid, exit_code) {
            self.tell_health(ended);
        } else if let Some(client) = self.executions.ended(pid)
            && let Some(ctl) = &mut self.ctl
        {
            ctl.last_answer(client, &Answer::Exited { exit_code });
        }
    }

    fn serve_output(&mut self, ready: &[RawFd]) {
        let now = self.clock.now();
        // Without room for the last status no turn may fill the disk.
        let reads = if self.reserve_at.is_some() { 1 } else { READS_PER_TURN };
        let mut lost = false;
        for container in &mut self.containers {
            lost |= container.serve_output(ready, reads, now, &mut self.buffers);
        }
        if lost && self.tell_lost_output_at.is_none() {
            self.tell_lost_output_at = Some(now.plus_ms(LOST_OUTPUT_MS));
        }
        if self.tell_lost_output_at.is_some_and(|at| now >= at) {
            self.tell_lost_output_at = None;
            self.changed = true;
        }
    }
}
