//! Everything together: one action of chance after the other, and at the end a time without faults.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use agent_protocol::session::{Assignment, FromInstance, Generation, TaskReport, ToInstance};
use control_plane::records::{ContainerInstance, InstanceStatus, TaskRecord};
use control_plane::{Changes, Input, observe};
use ecs::task::{DesiredStatus, LastStatus};
use ecs::{ContainerInstanceId, Timestamp};

use crate::agent::{Agent, Session, Truth};
use crate::audit::{Audit, Totals};
use crate::client::Clients;
use crate::control::Control;
use crate::derived::derived;
use crate::dice::Dice;
use crate::faults::{Fault, Faults};

/// Actions without faults after which everything must have come about.
const SETTLING: usize = 30_000;
/// The whole state is made again from its records each so many commits.
const COMMITS_PER_REBUILD: usize = 32;

/// Of a run's chance that is no event's: how many instances there are, and all that happens while it settles.
const BEFORE: u64 = u64::MAX;
const SETTLES: u64 = u64::MAX - 1;

pub(crate) struct World {
    seed: u64,
    pub(crate) dice: Dice,
    pub(crate) now: Timestamp,
    pub(crate) control: Control,
    /// By agent: who it is, and what it was last sent.
    pub(crate) sessions: Vec<Option<(ContainerInstanceId, Generation)>>,
    pub(crate) agents: Vec<Agent>,
    /// Arrivals that are in the queue: before the last of them is durable, nothing is sent.
    pub(crate) arrivals: BTreeMap<ContainerInstanceId, usize>,
    pub(crate) clients: Clients,
    pub(crate) truth: Truth,
    pub(crate) faults: Faults,
    audit: Audit,
    /// Reports that were delivered once.
    pub(crate) told: Vec<(ContainerInstanceId, TaskReport)>,
    /// Assignments that were sent once, and come again.
    pub(crate) old: Vec<(usize, Assignment)>,
    commits: usize,
}

/// What happens next, to the agent of that number where it is one's.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Wish,
    Calls,
    Turn,
    Down(usize),
    Up(usize),
    Task(usize),
    Connect(usize),
    Strike(Fault, usize),
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let mut dice = Dice::of(seed, BEFORE);
        let count = 1 + dice.below(4);
        World {
            seed,
            faults: Faults::of(&mut dice),
            dice,
            now: Timestamp::from_epoch_ms(1_000_000),
            control: Control::new(),
            sessions: vec![None; count],
            agents: (0..count).map(Agent::new).collect(),
            arrivals: BTreeMap::new(),
            clients: Clients::default(),
            truth: Truth::default(),
            audit: Audit::default(),
            told: Vec::new(),
            old: Vec::new(),
            commits: 0,
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        let told = |task: &&Arc<TaskRecord>| {
            task.observed
                .iter()
                .flat_map(|observed| &observed.containers)
                .any(|container| container.exit_code.is_some())
        };
        Totals {
            started: self.truth.starts.len(),
            exits_told: self.control.state.tasks.values().filter(told).count(),
            commits: self.commits,
            faults: self.faults.counts().clone(),
        }
    }

    /// The event of this number, for the world as it stands by now.
    pub(crate) fn choose(&mut self, number: u64) -> Event {
        self.dice = Dice::of(self.seed, number);
        self.now = self.now.plus_ms(self.dice.next() % 200);
        let agent = self.dice.below(self.agents.len());
        let fault = match self.dice.below(1_000) {
            0..=79 => return Event::Wish,
            850..=869 => Fault::MessageLost,
            870..=889 => Fault::AgentCrash,
            890..=895 => Fault::Reboot,
            896..=897 => Fault::Wipe,
            898..=907 => Fault::ControlCrash,
            908..=917 => Fault::ControlCrashInBatch,
            918..=937 => Fault::ReportLate,
            938..=957 => Fault::AssignmentLate,
            958..=977 => Fault::OldLeader,
            978..=987 => Fault::CallRepeated,
            988 => Fault::Silence,
            _ => return self.choose_good(agent),
        };
        if self.faults.has(fault) { Event::Strike(fault, agent) } else { self.choose_good(agent) }
    }

    fn choose_good(&mut self, agent: usize) -> Event {
        match self.dice.below(8) {
            0 | 1 => Event::Turn,
            2 => Event::Calls,
            3 | 4 => Event::Down(agent),
            5 => Event::Up(agent),
            6 => Event::Task(agent),
            _ => Event::Connect(agent),
        }
    }

    pub(crate) fn happen(&mut self, event: Event) {
        match event {
            Event::Wish => {
                let instances: Vec<String> = self.control.state.instances.keys().map(ToString::to_string).collect();
                self.clients.wish(&mut self.dice, &instances);
            }
            Event::Calls => self.send_calls(),
            Event::Turn => self.turn(),
            Event::Down(agent) => self.deliver_down(agent),
            Event::Up(agent) => self.deliver_up(agent),
            Event::Task(agent) => self.agents[agent].task_step(self.now, &mut self.truth, &mut self.dice),
            Event::Connect(agent) => self.connect(agent),
            Event::Strike(fault, agent) => self.strike(fault, agent),
        }
    }

    fn turn(&mut self) {
        // A crash after the commit loses the answers alone.
        let lost = self.faults.has(Fault::AnswerLost) && self.dice.percent(3);
        let turn = self.control.turn(self.now, &mut self.dice, false);
        if !turn.changes.is_empty() {
            self.committed(&turn.changes);
        }
        for id in &turn.arrived {
            if let Some(waiting) = self.arrivals.get_mut(id) {
                *waiting = waiting.saturating_sub(1);
            }
        }
        for at in 0..self.agents.len() {
            self.send_assignment(at);
        }
        for (call, answer) in turn.answers {
            if lost {
                self.faults.count(Fault::AnswerLost, 1);
            } else {
                self.clients.hear(call, &answer);
            }
        }
    }

    fn committed(&mut self, changes: &Changes) {
        self.commits += 1;
        self.audit.check(&self.control.state, changes, &self.truth, self.now);
        if self.commits.is_multiple_of(COMMITS_PER_REBUILD) {
            let rebuilt = self.control.rebuilt(&mut self.dice);
            assert_eq!(derived(&rebuilt), derived(&self.control.state), "the state is more than its records");
        }
    }

    fn send_assignment(&mut self, at: usize) {
        let Some((id, sent)) = &mut self.sessions[at] else { return };
        if self.arrivals.get(id).is_some_and(|waiting| *waiting > 0) {
            return;
        }
        let newer = |instance: &&Arc<ContainerInstance>| instance.connected && instance.assigned > *sent;
        if self.control.state.instances.get(id).filter(newer).is_none() {
            return;
        }
        let Some(assignment) = self.control.state.assignment(id) else { return };
        let Some(session) = self.agents[at].session.as_mut() else { return };
        if *sent == Generation::default() {
            session.down.push_back(ToInstance::Welcome { instance: id.clone(), cluster: "default".to_owned() });
        }
        *sent = assignment.generation;
        self.old.push((at, assignment.clone()));
        session.down.push_back(ToInstance::Assignment(assignment));
    }

    fn send_calls(&mut self) {
        for call in self.clients.unanswered() {
            // It is sent again for as long as nobody answers.
            if self.faults.strikes(Fault::CallLost, &mut self.dice, 30) {
                continue;
            }
            let times = if self.faults.strikes(Fault::CallRepeated, &mut self.dice, 30) { 2 } else { 1 };
            for _ in 0..times {
                self.control.queue.push_back((self.clients.send(call), Some(call)));
            }
        }
    }

    fn connect(&mut self, at: usize) {
        let agent = &mut self.agents[at];
        if !agent.runs {
            agent.start(&mut self.truth);
            return;
        }
        // Nobody keeps a connection with an instance that is deregistered.
        let gone = self.sessions[at].as_ref().and_then(|(id, _)| self.control.state.instances.get(id));
        if gone.is_some_and(|instance| instance.status == InstanceStatus::Inactive) {
            return self.break_off(at);
        }
        // One at a time: the last connection's end is known before the next begins.
        if agent.session.is_some() || self.sessions[at].is_some() {
            return;
        }
        let hello = agent.hello();
        let id = hello.instance.clone().unwrap_or_else(|| ContainerInstanceId::from_bytes(self.dice.bytes()));
        if observe::admit(&self.control.state, &id, &hello).is_err() {
            // A person sees to it: the host joins as a new one.
            agent.wipe(false, &mut self.truth);
            return;
        }
        agent.session = Some(Session::default());
        self.sessions[at] = Some((id.clone(), Generation::default()));
        *self.arrivals.entry(id.clone()).or_default() += 1;
        self.control.queue.push_back((Input::Arrived { instance: id, hello: Box::new(hello) }, None));
    }

    fn deliver_down(&mut self, at: usize) {
        let Some(message) = self.next_down(at) else { return };
        let agent = &mut self.agents[at];
        let before = agent.written();
        let dies = self.faults.has(Fault::AgentCrashBeforeActing) && self.dice.percent(5);
        match message {
            // It may die between writing and doing.
            ToInstance::Assignment(assignment) if dies => agent.write_down(assignment),
            message => agent.hear(message, &mut self.truth),
        }
        if dies && self.agents[at].written() > before {
            self.faults.count(Fault::AgentCrashBeforeActing, 1);
            self.break_off(at);
            self.agents[at].crash();
        }
    }

    fn deliver_up(&mut self, at: usize) {
        let message = self.next_up(at);
        let (Some(FromInstance::Report { whole, tasks }), Some((id, _))) = (message, &self.sessions[at]) else {
            return;
        };
        self.told.extend(tasks.iter().map(|task| (id.clone(), task.clone())));
        self.control.queue.push_back((Input::Observed { instance: id.clone(), whole, tasks }, None));
    }

    /// Liveness: without faults everything comes about.
    pub(crate) fn settle(&mut self) {
        self.faults.end();
        self.dice = Dice::of(self.seed, SETTLES);
        for done in 0.. {
            assert!(done < SETTLING, "it does not settle: {}", self.unsettled().unwrap_or_default());
            self.now = self.now.plus_ms(self.dice.next() % 50);
            let agent = self.dice.below(self.agents.len());
            let event = self.choose_good(agent);
            self.happen(event);
            if done % 64 == 0 && self.unsettled().is_none() {
                break;
            }
        }
        self.exits_are_told();
        self.clients.acknowledged_are_in(&self.control.state);
    }

    fn unsettled(&self) -> Option<String> {
        let state = &self.control.state;
        if !self.control.queue.is_empty() || !self.clients.unanswered().is_empty() {
            return Some("inputs or calls wait".to_owned());
        }
        if !state.waiting.is_empty() {
            return Some("tasks wait for an instance".to_owned());
        }
        let mut here = BTreeSet::new();
        for agent in &self.agents {
            let settled = agent.runs
                && agent.session.as_ref().is_some_and(|session| session.up.is_empty() && session.down.is_empty())
                && !agent.has_work();
            let Some(instance) = agent.instance().filter(|_| settled) else {
                return Some("an instance is not connected, or has work".to_owned());
            };
            let record = state.instances.get(instance)?;
            if record.assigned != agent.written() {
                return Some(format!("instance {instance} does not have its newest assignment"));
            }
            let wanted: BTreeSet<_> = state.living_tasks(instance).map(|task| task.id.clone()).collect();
            if agent.running() != wanted {
                return Some(format!("instance {instance} runs {:?} and should {wanted:?}", agent.running()));
            }
            here.insert(instance.clone());
        }
        let mut living = state.tasks.values().filter(|task| !task.is_stopped());
        let odd = living.find(|task| {
            let runs = task.last_status == LastStatus::Running && task.desired_status == DesiredStatus::Running;
            // Those of instances that went for good wait for the limit.
            task.instance.as_ref().is_some_and(|instance| here.contains(instance)) && !runs
        });
        odd.map(|task| format!("task {} is {:?}, wanted {:?}", task.id, task.last_status, task.desired_status))
    }

    /// V10: every end that somebody could see is told with its code.
    fn exits_are_told(&self) {
        for (id, code) in &self.truth.exits {
            let Some(task) = self.control.state.tasks.get(id).filter(|_| !self.truth.unseen.contains(id)) else {
                continue;
            };
            let told = task.observed.iter().flat_map(|observed| &observed.containers).find_map(|one| one.exit_code);
            let given_up = self.audit.given_up.contains(id);
            assert!(given_up || told == Some(*code), "V10: task {id} ended with {code}, and {told:?} is told");
        }
    }
}
