//! What must hold after every commit. The numbers are those of the invariants in the project's fault model.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use agent_protocol::session::{Assignment, Desired, Generation};
use control_plane::records::{InstanceStatus, TaskRecord};
use control_plane::{Changes, Key, State};
use ecs::task::DesiredStatus;
use ecs::{ContainerInstanceId, TaskId, Timestamp};

use crate::agent::{CPU, MEMORY_MIB, Truth};
use crate::control::{TASK_CPU, host_port, memory_mib};
use crate::faults::Fault;

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) started: usize,
    pub(crate) exits_told: usize,
    pub(crate) commits: usize,
    pub(crate) faults: BTreeMap<Fault, usize>,
}

impl Totals {
    pub(crate) fn add(&mut self, other: &Totals) {
        self.started += other.started;
        self.exits_told += other.exits_told;
        self.commits += other.commits;
        for (fault, times) in &other.faults {
            *self.faults.entry(*fault).or_default() += times;
        }
    }
}

type Orders = Vec<(TaskId, bool)>;

#[derive(Default)]
pub(crate) struct Audit {
    /// Every task as it was after the last commit.
    tasks: BTreeMap<TaskId, Arc<TaskRecord>>,
    /// What each generation of each instance was.
    assigned: BTreeMap<(ContainerInstanceId, Generation), Orders>,
    newest: BTreeMap<ContainerInstanceId, Generation>,
    /// Tasks that ended without their instance saying so: with an instance that was lost, or that had lost them.
    pub(crate) given_up: BTreeSet<TaskId>,
}

impl Audit {
    /// Only what a commit changed can have gone wrong with it.
    pub(crate) fn check(&mut self, state: &State, changes: &Changes, truth: &Truth, now: Timestamp) {
        let mut instances = BTreeSet::new();
        for change in &changes.0 {
            match change.key() {
                Key::Task(id) => {
                    let before = self.tasks.get(&id).cloned();
                    let Some(task) = state.tasks.get(&id) else {
                        panic!("V12: task {id} is gone before its time");
                    };
                    self.task(before.as_deref(), task, truth);
                    self.giving_up(state, before.as_deref(), task);
                    instances.extend(before.and_then(|before| before.instance.clone()));
                    instances.extend(task.instance.clone());
                    self.tasks.insert(id, task.clone());
                }
                Key::Instance(id) => drop(instances.insert(id)),
                _ => {}
            }
        }
        for id in instances.iter().filter(|id| state.instances.contains_key(id)) {
            self.assignment(state, id);
            resources(state, id);
        }
        if let Some(at) = state.deadline(now) {
            assert!(at > now, "a deadline that has passed would be asked for ever");
        }
    }

    fn task(&self, before: Option<&TaskRecord>, task: &TaskRecord, truth: &Truth) {
        let id = &task.id;
        if let Some(before) = before {
            assert!(task.version >= before.version, "task {id} went back in its version");
            assert!(task.last_status >= before.last_status, "task {id} went back in its life");
            assert!(!before.is_stopped() || before == task, "task {id} changed after it was STOPPED");
            let wanted_again =
                before.desired_status == DesiredStatus::Stopped && task.desired_status == DesiredStatus::Running;
            assert!(!wanted_again, "task {id} is wanted again");
            assert!(before.instance.is_none() || before.instance == task.instance, "task {id} moved");
        }
        let containers = task.observed.iter().flat_map(|observed| &observed.containers);
        for code in containers.filter_map(|container| container.exit_code) {
            assert_eq!(truth.exits.get(id), Some(&code), "V10: an invented exit code of task {id}");
        }
        if task.is_stopped() {
            assert!(task.stop_code.is_some() && task.stopped_at.is_some(), "task {id} stopped without saying why");
        }
    }

    /// Nobody gives up a task of an instance that is there and has it.
    fn giving_up(&mut self, state: &State, before: Option<&TaskRecord>, task: &TaskRecord) {
        let version = |task: &TaskRecord| task.observed.as_ref().map(|observed| observed.version);
        let Some(before) = before.filter(|before| !before.is_stopped()) else { return };
        if !task.is_stopped() || version(before) != version(task) {
            return;
        }
        self.given_up.insert(task.id.clone());
        let instance = task.instance.as_ref().and_then(|id| state.instances.get(id));
        let there = instance.is_some_and(|instance| instance.connected && instance.status == InstanceStatus::Active);
        let forgotten = task.stopped_reason.as_deref().is_some_and(|reason| reason.contains("no longer has this task"));
        let asked = before.desired_status == DesiredStatus::Stopped;
        assert!(!there || forgotten || asked, "task {} is given up although its instance is there", task.id);
    }

    /// V14: what an instance is assigned never changes without a newer generation.
    fn assignment(&mut self, state: &State, id: &ContainerInstanceId) {
        // A deregistered instance is told nothing any more.
        let Some(Assignment { generation, tasks }) = state.assignment(id) else { return };
        let newest = self.newest.entry(id.clone()).or_default();
        assert!(generation >= *newest, "V14: instance {id} went back from {newest:?} to {generation:?}");
        *newest = generation;
        let orders: Orders = tasks.into_iter().map(|task| (task.id, task.desired == Desired::Running)).collect();
        let known = self.assigned.entry((id.clone(), generation)).or_insert_with(|| orders.clone());
        assert_eq!(*known, orders, "V14: instance {id} has two assignments of {generation:?}");
    }
}

/// V8: no instance has more than it has, and no port twice. What a task needs is not asked of the control plane.
fn resources(state: &State, id: &ContainerInstanceId) {
    let (mut cpu, mut memory, mut ports) = (0, 0, BTreeSet::from([22]));
    for task in state.living_tasks(id) {
        cpu += TASK_CPU;
        memory += memory_mib(&task.family);
        if let Some(port) = host_port(&task.family) {
            assert!(ports.insert(port), "V8: port {port} is held twice on instance {id}");
        }
    }
    assert!(cpu <= CPU && memory <= MEMORY_MIB, "V8: instance {id} has {cpu} CPU units, {memory} MiB");
}
