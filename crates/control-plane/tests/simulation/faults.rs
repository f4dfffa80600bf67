//! What goes wrong, each thing counted: a simulation in which nothing happens proves nothing.

use std::collections::BTreeMap;

use agent_protocol::session::{Assignment, Desired, FromInstance, Generation, TaskReport, ToInstance};
use control_plane::Input;
use ecs::task::StopCode;

use crate::dice::Dice;
use crate::world::World;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    CallLost,
    CallRepeated,
    AnswerLost,
    /// With its connection, in either direction.
    MessageLost,
    MessageRepeated,
    MessageReordered,
    /// A report of long ago, of whatever version.
    ReportLate,
    AssignmentLate,
    /// A control plane that was replaced goes on to assign.
    OldLeader,
    AgentCrash,
    /// After it has written an assignment down, before it acts on it.
    AgentCrashBeforeActing,
    /// The batch is lost.
    ControlCrashInBatch,
    ControlCrash,
    /// The next one is a restored one, of a greater epoch.
    ControlRestored,
    Reboot,
    /// The host's disk is lost, and all that runs there.
    Wipe,
    /// A long time in which nothing happens: lost instances count as lost.
    Silence,
}

impl Fault {
    pub(crate) const ALL: [Fault; 17] = [
        Fault::CallLost,
        Fault::CallRepeated,
        Fault::AnswerLost,
        Fault::MessageLost,
        Fault::MessageRepeated,
        Fault::MessageReordered,
        Fault::ReportLate,
        Fault::AssignmentLate,
        Fault::OldLeader,
        Fault::AgentCrash,
        Fault::AgentCrashBeforeActing,
        Fault::ControlCrashInBatch,
        Fault::ControlCrash,
        Fault::ControlRestored,
        Fault::Reboot,
        Fault::Wipe,
        Fault::Silence,
    ];
}

/// Which faults a run has at all: what is rare among all of them is frequent among some
/// (Groce et al., "Swarm Testing", ISSTA 2012).
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    on: u64,
    counts: BTreeMap<Fault, usize>,
}

impl Faults {
    /// Three of four.
    pub(crate) fn of(dice: &mut Dice) -> Faults {
        Faults { on: dice.next() | dice.next(), counts: BTreeMap::new() }
    }

    pub(crate) fn end(&mut self) {
        self.on = 0;
    }

    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.on >> (fault as u32) & 1 == 1
    }

    /// Whether it happens now. Chance is asked for in either case.
    pub(crate) fn strikes(&mut self, fault: Fault, dice: &mut Dice, percent: usize) -> bool {
        let strikes = dice.percent(percent) && self.has(fault);
        self.count(fault, usize::from(strikes));
        strikes
    }

    pub(crate) fn count(&mut self, fault: Fault, times: usize) {
        if times > 0 {
            *self.counts.entry(fault).or_default() += times;
        }
    }

    pub(crate) fn counts(&self) -> &BTreeMap<Fault, usize> {
        &self.counts
    }
}

impl World {
    pub(crate) fn strike(&mut self, fault: Fault, at: usize) {
        match fault {
            Fault::MessageLost => self.break_off(at),
            Fault::AgentCrash => {
                self.break_off(at);
                self.agents[at].crash();
                self.faults.count(fault, 1);
            }
            Fault::Reboot => {
                self.break_off(at);
                self.agents[at].reboot(&mut self.truth);
                self.faults.count(fault, 1);
            }
            Fault::Wipe => {
                self.break_off(at);
                let keeps_identity = self.dice.percent(50) && self.is_known_of(at);
                self.agents[at].wipe(keeps_identity, &mut self.truth);
                self.faults.count(fault, 1);
            }
            Fault::ControlCrash | Fault::ControlCrashInBatch => self.crash_control(fault),
            Fault::ReportLate => self.repeat_report(at),
            Fault::AssignmentLate | Fault::OldLeader => self.assign_what_is_old(fault),
            Fault::CallRepeated => self.repeat_call(),
            Fault::Silence => {
                self.now = self.now.plus_ms(70_000);
                self.faults.count(fault, 1);
            }
            // These strike in the midst of something else.
            Fault::CallLost
            | Fault::AnswerLost
            | Fault::MessageRepeated
            | Fault::MessageReordered
            | Fault::AgentCrashBeforeActing
            | Fault::ControlRestored => {}
        }
    }

    /// What was under way is lost, in both directions.
    pub(crate) fn break_off(&mut self, at: usize) {
        if let Some(session) = self.agents[at].session.take() {
            self.faults.count(Fault::MessageLost, session.up.len() + session.down.len());
        }
        if let Some((id, _)) = self.sessions[at].take() {
            self.control.queue.push_back((Input::Left { instance: id }, None));
        }
    }

    fn crash_control(&mut self, fault: Fault) {
        if fault == Fault::ControlCrashInBatch {
            self.control.turn(self.now, &mut self.dice, true);
        }
        let restored = self.faults.strikes(Fault::ControlRestored, &mut self.dice, 30);
        self.control.restart(restored, &mut self.dice);
        self.clients.acknowledged_are_in(&self.control.state);
        self.arrivals.clear();
        for at in 0..self.agents.len() {
            if let Some(session) = self.agents[at].session.take() {
                self.faults.count(Fault::MessageLost, session.up.len() + session.down.len());
            }
            self.sessions[at] = None;
        }
        // Nobody is connected to a control plane that has just started.
        for id in self.control.state.instances.keys().cloned().collect::<Vec<_>>() {
            self.control.queue.push_back((Input::Left { instance: id }, None));
        }
        self.faults.count(fault, 1);
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
            self.faults.count(Fault::ReportLate, 1);
        }
    }

    /// V14: an assignment of long ago, or a new one of a control plane that has been replaced and does not know it. It is only
    /// ever sent to the instance that it was made for.
    fn assign_what_is_old(&mut self, fault: Fault) {
        if self.old.is_empty() {
            return;
        }
        let (at, mut assignment) = self.old[self.dice.below(self.old.len())].clone();
        if fault == Fault::OldLeader {
            if assignment.generation.epoch >= self.agents[at].written().epoch {
                return;
            }
            self.go_on_with(&mut assignment);
        }
        let agent = &mut self.agents[at];
        // Of an agent that has lost its disk, it is not known what it had.
        if agent.runs && agent.written() >= assignment.generation {
            let before = agent.orders();
            agent.assigned(assignment, &mut self.truth);
            assert_eq!(agent.orders(), before, "V14: it acted on an old assignment");
            self.faults.count(fault, 1);
        }
    }

    fn go_on_with(&mut self, assignment: &mut Assignment) {
        let Generation { epoch, generation } = assignment.generation;
        assignment.generation = Generation { epoch, generation: generation + 1 + self.dice.next() % 1_000 };
        if self.dice.percent(50) {
            assignment.tasks.clear();
        }
        for task in &mut assignment.tasks {
            task.desired = Desired::Stopped { code: StopCode::UserInitiated, reason: "the old leader's".to_owned() };
        }
    }

    fn repeat_call(&mut self) {
        if !self.clients.calls.is_empty() {
            let call = self.dice.below(self.clients.calls.len());
            self.control.queue.push_back((self.clients.send(call), Some(call)));
            self.faults.count(Fault::CallRepeated, 1);
        }
    }

    /// The next message to an instance, if not another one of those under way; and maybe it comes again.
    pub(crate) fn next_down(&mut self, at: usize) -> Option<ToInstance> {
        let session = self.agents[at].session.as_mut()?;
        let mut next = 0;
        if session.down.len() > 1 && self.faults.strikes(Fault::MessageReordered, &mut self.dice, 20) {
            next = 1 + self.dice.below(session.down.len() - 1);
        }
        let message = session.down.remove(next)?;
        if self.faults.strikes(Fault::MessageRepeated, &mut self.dice, 10) {
            session.down.push_back(message.clone());
        }
        Some(message)
    }

    /// The next message of an instance. Reports of single tasks may come in another order, and twice.
    pub(crate) fn next_up(&mut self, at: usize) -> Option<FromInstance> {
        let session = self.agents[at].session.as_mut()?;
        let single = |message: &&FromInstance| matches!(message, FromInstance::Report { whole: false, .. });
        let alike = session.up.iter().take_while(single).count();
        let mut next = 0;
        if alike > 1 && self.faults.strikes(Fault::MessageReordered, &mut self.dice, 20) {
            next = 1 + self.dice.below(alike - 1);
        }
        let message = session.up.remove(next)?;
        if alike > 0 && self.faults.strikes(Fault::MessageRepeated, &mut self.dice, 10) {
            session.up.push_front(message.clone());
        }
        Some(message)
    }
}
