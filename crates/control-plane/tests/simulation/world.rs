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

/// Actions without faults after which everything must have come about.
const SETTLING: usize = 30_000;
/// The whole state is made again from its records each so many commits.
const COMMITS_PER_REBUILD: usize = 32;

pub(crate) struct World {
    dice: Dice,
    now: Timestamp,
    control: Control,
    /// By agent: who it is, and what it was last sent.
    sessions: Vec<Option<(ContainerInstanceId, Generation)>>,
    agents: Vec<Agent>,
    /// Arrivals that are in the queue: before the last of them is durable, nothing is sent.
    arrivals: BTreeMap<ContainerInstanceId, usize>,
    clients: Clients,
    truth: Truth,
    audit: Audit,
    /// Reports that were delivered once.
    told: Vec<(ContainerInstanceId, TaskReport)>,
    /// Assignments that were sent once, and come again.
    old: Vec<(usize, Assignment)>,
    totals: Totals,
}

impl World {
    pub(crate) fn new(seed: u64) -> World {
        let mut dice = Dice::new(seed);
        let count = 1 + dice.below(4);
        World {
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
            totals: Totals::default(),
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
            ..self.totals.clone()
        }
    }

    pub(crate) fn step(&mut self) {
        self.now = self.now.plus_ms(self.dice.next() % 200);
        let agent = self.dice.below(self.agents.len());
        match self.dice.below(100) {
            0..=7 => {
                let instances: Vec<String> = self.control.state.instances.keys().map(ToString::to_string).collect();
                self.clients.wish(&mut self.dice, &instances);
            }
            8..=84 => self.healthy(agent),
            85..=86 => self.break_off(agent),
            87..=88 => self.crash_agent(agent),
            89..=90 if self.dice.percent(30) => {
                self.break_off(agent);
                self.agents[agent].reboot(&mut self.truth);
                self.totals.reboots += 1;
            }
            91 if self.dice.percent(20) => {
                self.break_off(agent);
                let keeps_identity = self.dice.percent(50) && self.is_known_of(agent);
                self.agents[agent].wipe(keeps_identity, &mut self.truth);
                self.totals.wipes += 1;
            }
            92..=93 => self.crash_control(),
            94..=95 => self.repeat_report(agent),
            96..=97 => self.replay(),
            98 => self.repeat_call(),
            // A long time in which nothing happens.
            99 if self.dice.percent(10) => self.now = self.now.plus_ms(70_000),
            _ => self.healthy(agent),
        }
    }

    /// What happens without faults.
    fn healthy(&mut self, agent: usize) {
        match self.dice.below(8) {
            0 | 1 => self.turn(),
            2 => self.send_calls(),
            3 | 4 => self.deliver_down(agent),
            5 => self.deliver_up(agent),
            6 => self.agents[agent].task_step(self.now, &mut self.truth, &mut self.dice),
            _ => self.connect(agent),
        }
    }

    fn turn(&mut self) {
        // A crash after the commit loses the answers alone.
        let lost = self.dice.percent(3);
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
            if !lost {
                self.clients.hear(call, &answer);
            }
        }
    }

    fn committed(&mut self, changes: &Changes) {
        self.totals.commits += 1;
        self.audit.check(&self.control.state, changes, &self.truth, self.now);
        if self.totals.commits.is_multiple_of(COMMITS_PER_REBUILD) {
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
            // One in three is lost on its way, one in three arrives twice.
            let times = self.dice.below(3);
            for _ in 0..times {
                self.control.queue.push_back((self.clients.send(call), Some(call)));
            }
        }
    }

    fn repeat_call(&mut self) {
        if !self.clients.calls.is_empty() {
            let call = self.dice.below(self.clients.calls.len());
            self.control.queue.push_back((self.clients.send(call), Some(call)));
        }
    }

    fn connect(&mut self, at: usize) {
        let agent = &mut self.agents[at];
        if !agent.runs {
            agent.start(&mut self.truth, &mut self.dice);
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
        let agent = &mut self.agents[at];
        if let Some(message) = agent.session.as_mut().and_then(|session| session.down.pop_front()) {
            agent.hear(message, &mut self.truth, &mut self.dice);
            if !agent.runs {
                self.break_off(at);
            }
        }
    }

    fn deliver_up(&mut self, at: usize) {
        let message = self.agents[at].session.as_mut().and_then(|session| session.up.pop_front());
        let (Some(FromInstance::Report { whole, tasks }), Some((id, _))) = (message, &self.sessions[at]) else {
            return;
        };
        self.told.extend(tasks.iter().map(|task| (id.clone(), task.clone())));
        self.control.queue.push_back((Input::Observed { instance: id.clone(), whole, tasks }, None));
    }

    /// An agent's identity is on the disk that has its assignment, so both are lost together. Where it is not, nothing can
    /// tell a lost assignment from one that was never written, unless its tasks have been reported.
    fn is_known_of(&self, at: usize) -> bool {
        let agent = &self.agents[at];
        let Some(id) = agent.instance() else { return false };
        let state = &self.control.state;
        let newest = state.instances.get(id).is_some_and(|instance| instance.assigned == agent.written());
        newest && state.living_tasks(id).all(|task| task.observed.is_some())
    }

    /// A report of single tasks comes again, however late.
    fn repeat_report(&mut self, at: usize) {
        let Some((id, _)) = &self.sessions[at] else { return };
        let of_it: Vec<&TaskReport> = self.told.iter().filter(|(told, _)| told == id).map(|(_, task)| task).collect();
        if !of_it.is_empty() {
            let tasks = vec![of_it[self.dice.below(of_it.len())].clone()];
            self.control.queue.push_back((Input::Observed { instance: id.clone(), whole: false, tasks }, None));
        }
    }

    /// An assignment of long ago, from whichever control plane.
    fn replay(&mut self) {
        if self.old.is_empty() {
            return;
        }
        let (at, assignment) = self.old[self.dice.below(self.old.len())].clone();
        // It is only ever sent to the instance that it was made for.
        let agent = &mut self.agents[at];
        let same = agent.written() >= assignment.generation;
        if agent.runs && same {
            let running = agent.running();
            agent.assigned(assignment, &mut self.truth, &mut self.dice);
            assert_eq!(agent.running(), running, "V14: it acted on an old assignment");
            self.totals.replays += 1;
        }
    }

    /// What was under way is lost, in both directions.
    fn break_off(&mut self, at: usize) {
        self.agents[at].session = None;
        if let Some((id, _)) = self.sessions[at].take() {
            self.control.queue.push_back((Input::Left { instance: id }, None));
        }
    }

    fn crash_agent(&mut self, at: usize) {
        self.agents[at].crash();
        self.break_off(at);
        self.totals.crashes += 1;
    }

    /// In the middle of a batch, or between two.
    fn crash_control(&mut self) {
        if self.dice.percent(50) {
            self.control.turn(self.now, &mut self.dice, true);
        }
        self.control.restart(&mut self.dice);
        self.arrivals.clear();
        for at in 0..self.agents.len() {
            self.agents[at].session = None;
            self.sessions[at] = None;
        }
        // Nobody is connected to a control plane that has just started.
        for id in self.control.state.instances.keys().cloned().collect::<Vec<_>>() {
            self.control.queue.push_back((Input::Left { instance: id }, None));
        }
        self.totals.crashes += 1;
    }

    /// Liveness: without faults everything comes about.
    pub(crate) fn settle(&mut self) {
        for done in 0.. {
            assert!(done < SETTLING, "it does not settle: {}", self.unsettled().unwrap_or_default());
            self.now = self.now.plus_ms(self.dice.next() % 50);
            let agent = self.dice.below(self.agents.len());
            self.healthy(agent);
            if done % 64 == 0 && self.unsettled().is_none() {
                break;
            }
        }
        self.exits_are_told();
        // V1, V12: everything that was acknowledged.
        for id in self.clients.acknowledged() {
            assert!(self.control.state.tasks.contains_key(id), "V12: task {id} was acknowledged and is not there");
        }
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
