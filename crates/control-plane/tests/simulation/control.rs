//! The control plane's shell without its threads: inputs are taken in batches, a batch is one commit, and nothing is
//! answered or sent before it. A crash loses what is not committed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use control_plane::records::{CapacityProvider, Cluster, TaskDefinitionRecord};
use control_plane::{Change, Changes, Input, Key, Record, Settings, State, reconcile, step};
use ecs::operations::registered::TaskDefinitionStatus;
use ecs::operations::shapes::CapacityProviderStrategyItem;
use ecs::operations::{ApiError, Reply};
use ecs::{ContainerInstanceId, Timestamp};

use crate::dice::Dice;

/// `reconcile` comes to its end far sooner.
const ROUNDS: usize = 10_000;

pub(crate) struct Control {
    pub(crate) state: State,
    /// What the disk has.
    store: BTreeMap<Key, Record>,
    /// With the number of the call that waits for it.
    pub(crate) queue: VecDeque<(Input, Option<usize>)>,
    epoch: u64,
}

/// What a turn came to, durable by now.
#[derive(Default)]
pub(crate) struct Turn {
    pub(crate) answers: Vec<(usize, Result<Reply, ApiError>)>,
    pub(crate) changes: Changes,
    pub(crate) arrived: Vec<ContainerInstanceId>,
}

/// Definitions that the clients run: of one container, small or with a host port, of a size that fills an instance soon.
pub(crate) const FAMILIES: [&str; 3] = ["small", "port", "large"];
pub(crate) const TASK_CPU: u32 = 100;
pub(crate) const HOST_PORT: u16 = 8080;

pub(crate) fn memory_mib(family: &str) -> u64 {
    if family == "large" { 1_500 } else { 200 }
}

pub(crate) fn host_port(family: &str) -> Option<u16> {
    (family == "port").then_some(HOST_PORT)
}

impl Control {
    pub(crate) fn new() -> Control {
        let mut control =
            Control { state: State::new(1, settings()), store: BTreeMap::new(), queue: VecDeque::new(), epoch: 1 };
        let mut changes = Changes::default();
        changes.put(Record::CapacityProvider(provider()));
        changes.put(Record::Cluster(cluster()));
        for family in FAMILIES {
            changes.put(Record::TaskDefinition(Box::new(definition(family))));
        }
        control.commit(&changes);
        control
    }

    /// A batch up to its commit. `crashes`: instead of the commit.
    pub(crate) fn turn(&mut self, now: Timestamp, dice: &mut Dice, crashes: bool) -> Turn {
        let count = 1 + dice.below(4);
        let mut working = self.state.clone();
        let mut all = Changes::default();
        let (mut answers, mut arrived) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let Some((input, call)) = self.queue.pop_front() else { break };
            let outcome = step(&working, &input, now, &mut || dice.bytes());
            working.apply(&outcome.changes);
            all.0.extend(outcome.changes.0);
            answers.extend(call.zip(outcome.answer));
            if let Input::Arrived { instance, .. } = input {
                arrived.push(instance);
            }
        }
        for round in 0.. {
            assert!(round < ROUNDS, "reconcile comes to no end");
            let changes = reconcile(&working, now, &mut || dice.bytes());
            if changes.is_empty() {
                break;
            }
            working.apply(&changes);
            all.0.extend(changes.0);
        }
        if crashes {
            return Turn::default();
        }
        self.commit(&all);
        Turn { answers, changes: all, arrived }
    }

    fn commit(&mut self, changes: &Changes) {
        self.state.apply(changes);
        for change in &changes.0 {
            match change {
                Change::Put(record) => drop(self.store.insert(record.key(), record.clone())),
                Change::Remove(key) => drop(self.store.remove(key)),
            }
        }
    }

    /// Starts again from the disk, whatever the order in which its records come. `restored`: on another host, from a backup
    /// of this moment.
    pub(crate) fn restart(&mut self, restored: bool, dice: &mut Dice) {
        self.queue.clear();
        self.epoch += u64::from(restored);
        self.state = self.rebuilt(dice);
    }

    pub(crate) fn rebuilt(&self, dice: &mut Dice) -> State {
        let mut records: Vec<&Record> = self.store.values().collect();
        for at in (1..records.len()).rev() {
            records.swap(at, dice.below(at + 1));
        }
        let mut state = State::new(self.epoch, settings());
        for record in records {
            // As the store reads them.
            let text = serde_json::to_string(record).expect("a record is plain data");
            let record = serde_json::from_str(&text).expect("a record reads as it was written");
            state.apply_one(&Change::Put(record));
        }
        state
    }
}

fn settings() -> Settings {
    Settings {
        stopped_task_ms: 10_000_000,
        stopped_tasks: 1_000,
        lost_instance_ms: Some(60_000),
        provisioning_ms: 20_000,
        ..Settings::default()
    }
}

/// Tasks without a launch type are its, and wait for one of its instances.
pub(crate) const PROVIDER: &str = "metal";

fn provider() -> CapacityProvider {
    CapacityProvider {
        name: PROVIDER.to_owned(),
        active: true,
        auto_scaling_group: None,
        updated: false,
        tags: Vec::new(),
        changed_at: Timestamp::from_epoch_ms(0),
    }
}

fn cluster() -> Cluster {
    let item =
        CapacityProviderStrategyItem { capacity_provider: Some(PROVIDER.to_owned()), weight: Some(1), base: None };
    Cluster {
        name: "default".to_owned(),
        active: true,
        settings: Vec::new(),
        configuration: None,
        service_connect_namespace: None,
        capacity_providers: vec![PROVIDER.to_owned()],
        default_strategy: vec![item],
        tags: Vec::new(),
        changed_at: Timestamp::from_epoch_ms(0),
    }
}

fn definition(family: &str) -> TaskDefinitionRecord {
    let port = host_port(family).map(|port| format!(r#"{{"containerPort": 80, "hostPort": {port}}}"#));
    let (ports, memory) = (port.unwrap_or_default(), memory_mib(family));
    let text = format!(
        r#"{{"family": "{family}", "containerDefinitions": [
            {{"name": "c", "image": "x", "memory": {memory}, "cpu": {TASK_CPU}, "portMappings": [{ports}]}}]}}"#
    );
    TaskDefinitionRecord {
        revision: 1,
        definition: Arc::new(serde_json::from_str(&text).expect("a task definition")),
        status: TaskDefinitionStatus::Active,
        requires_attributes: Vec::new(),
        compatibilities: vec!["EC2".to_owned(), "EXTERNAL".to_owned()],
        registered_at: Timestamp::from_epoch_ms(0),
        deregistered_at: None,
        delete_requested_at: None,
        registered_by: "arn:aws:iam::123456789012:root".to_owned(),
        tags: Vec::new(),
    }
}
