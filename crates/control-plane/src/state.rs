//! Everything the control plane knows, as persistent maps: a copy is a snapshot and costs a few pointers.
//!
//! The records are what the store has. All else is derived from them as they come: whoever applies the same records, in
//! any order and by whatever steps, has the same state.

use std::ops::Bound;
use std::sync::Arc;

use ecs::task::DesiredStatus;
use ecs::task_definition::TaskDefinition;
use ecs::{ContainerInstanceId, TaskId, Timestamp};
use scheduler::{Claim, Fleet, Instance, Map};

use crate::change::{Change, Changes, Key, Record};
use crate::counts::{Count, Counts};
use crate::records::{
    AccountSetting, CapacityProvider, Cluster, ContainerInstance, Family, InstanceStatus, ReservedToken,
    TaskDefinitionRecord, TaskRecord,
};
use crate::settings::Settings;
use crate::timers::{self, Timer};

/// What the group of a service's tasks begins with.
const SERVICE_GROUP: &str = "service:";

/// The records, and what is derived from them. Only `apply` changes it.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Grows each time that a control plane takes a state over; who runs one says so before the first `step`.
    pub epoch: u64,
    /// As they were when the records were applied.
    pub settings: Settings,
    pub clusters: Map<String, Arc<Cluster>>,
    pub capacity_providers: Map<String, Arc<CapacityProvider>>,
    pub families: Map<String, Arc<Family>>,
    pub task_definitions: Map<(String, u32), Arc<TaskDefinitionRecord>>,
    pub instances: Map<ContainerInstanceId, Arc<ContainerInstance>>,
    pub tasks: Map<TaskId, Arc<TaskRecord>>,
    pub account_settings: Map<(String, String), Arc<AccountSetting>>,
    pub tokens: Map<(String, String), Arc<ReservedToken>>,
    /// Derived: the tasks of each instance that are not STOPPED.
    pub tasks_of_instance: Map<ContainerInstanceId, Map<TaskId, Arc<TaskRecord>>>,
    /// Derived: the tasks of each cluster whose desired status is RUNNING.
    pub wanted_of_cluster: Map<String, Map<TaskId, Arc<TaskRecord>>>,
    /// Derived: those whose desired status is STOPPED.
    pub unwanted_of_cluster: Map<String, Map<TaskId, Arc<TaskRecord>>>,
    /// Derived: the tasks of each cluster by what ListTasks asks for.
    tasks_by: Map<(String, DesiredStatus, By), Map<TaskId, Arc<TaskRecord>>>,
    /// Derived: how many of what each cluster has.
    counts: Map<String, Counts>,
    /// Derived: how many tasks of a definition are not STOPPED.
    pub users_of_definition: Map<(String, u32), u32>,
    /// Derived: the definitions of tasks without overrides, so that all tasks of one share it, also when they come from a
    /// store.
    definitions: Map<(String, u32), Arc<TaskDefinition>>,
    /// Derived: tasks that wait for an instance, in the order of their creation.
    pub waiting: Map<(Timestamp, TaskId), Arc<TaskRecord>>,
    /// Derived: STOPPED tasks, in the order in which they were found to be.
    pub stopped: Map<(Timestamp, TaskId), ()>,
    /// Derived: the instances of each cluster with what is free on them.
    pub fleets: Map<String, Arc<Fleet>>,
    /// Derived: what is to be looked at again, and when.
    pub(crate) timers: Map<Timestamp, Map<Timer, ()>>,
}

/// What a task may be looked for by, besides its cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    Family(String),
    StartedBy(String),
    /// Of those that are a service's: other groups have as many tasks as their family.
    Service(String),
    /// Of those that are not to run any more: `tasks_of_instance` has the others.
    Instance(ContainerInstanceId),
}

impl State {
    pub fn new(epoch: u64, settings: Settings) -> State {
        State { epoch, settings, ..State::default() }
    }

    pub fn apply(&mut self, changes: &Changes) {
        for change in &changes.0 {
            self.apply_one(change);
        }
    }

    pub fn apply_one(&mut self, change: &Change) {
        match change {
            Change::Put(record) => self.put(record),
            Change::Remove(key) => self.remove(key),
        }
    }

    /// What is to run on an instance and is not known to have stopped.
    pub fn living_tasks<'a>(
        &'a self,
        instance: &ContainerInstanceId,
    ) -> impl Iterator<Item = &'a Arc<TaskRecord>> + use<'a> {
        self.tasks_of_instance.get(instance).into_iter().flat_map(|tasks| tasks.values())
    }

    /// Every task of a cluster, STOPPED ones included: first those that are to run, then the others.
    pub fn cluster_tasks<'a>(&'a self, cluster: &str) -> impl Iterator<Item = &'a Arc<TaskRecord>> + use<'a> {
        let halves = [self.wanted_of_cluster.get(cluster), self.unwanted_of_cluster.get(cluster)];
        halves.into_iter().flatten().flat_map(|tasks| tasks.values())
    }

    /// The tasks of a cluster whose desired status is this, by id: all of them, or those of one kind.
    pub fn tasks_with(
        &self,
        cluster: &str,
        desired: DesiredStatus,
        by: Option<By>,
    ) -> Option<&Map<TaskId, Arc<TaskRecord>>> {
        match (by, desired) {
            (Some(By::Instance(id)), DesiredStatus::Running) => self.tasks_of_instance.get(&id),
            (Some(by), _) => self.tasks_by.get(&(cluster.to_owned(), desired, by)),
            (None, DesiredStatus::Running) => self.wanted_of_cluster.get(cluster),
            (None, DesiredStatus::Stopped) => self.unwanted_of_cluster.get(cluster),
        }
    }

    pub fn counts(&self, cluster: &str) -> Counts {
        self.counts.get(cluster).cloned().unwrap_or_default()
    }

    /// When `reconcile` has to be asked again if nothing happens before. Nothing: not before something happens.
    pub fn deadline(&self, now: Timestamp) -> Option<Timestamp> {
        let timer = self.timers.range((Bound::Excluded(&now), Bound::Unbounded)).next().map(|(at, _)| *at);
        let oldest = self.stopped.first().map(|((since, _), ())| since.plus_ms(self.settings.stopped_task_ms));
        [timer, oldest.filter(|at| *at > now)].into_iter().flatten().min()
    }

    fn put(&mut self, record: &Record) {
        self.wind(&record.key(), Winding::Off);
        match record {
            Record::Cluster(cluster) => self.clusters.insert_mut(cluster.name.clone(), Arc::new(cluster.clone())),
            Record::CapacityProvider(provider) => {
                self.capacity_providers.insert_mut(provider.name.clone(), Arc::new(provider.clone()));
            }
            Record::Family(family) => self.families.insert_mut(family.name.clone(), Arc::new(family.clone())),
            Record::TaskDefinition(definition) => {
                let key = (definition.definition.family.clone(), definition.revision);
                self.task_definitions.insert_mut(key, Arc::new((**definition).clone()));
            }
            Record::Instance(instance) => self.put_instance(instance),
            Record::Task(task) => self.put_task(task),
            Record::AccountSetting(setting) => {
                let key = (setting.principal.clone(), setting.name.clone());
                self.account_settings.insert_mut(key, Arc::new(setting.clone()));
            }
            Record::Token(token) => {
                self.tokens.insert_mut((token.cluster.clone(), token.token.clone()), Arc::new(token.clone()));
            }
        }
        self.wind(&record.key(), Winding::On);
    }

    fn remove(&mut self, key: &Key) {
        self.wind(key, Winding::Off);
        match key {
            Key::Cluster(name) => drop(self.clusters.remove_mut(name)),
            Key::CapacityProvider(name) => drop(self.capacity_providers.remove_mut(name)),
            Key::Family(name) => drop(self.families.remove_mut(name)),
            Key::TaskDefinition(family, revision) => {
                self.task_definitions.remove_mut(&(family.clone(), *revision));
                self.definitions.remove_mut(&(family.clone(), *revision));
            }
            Key::Instance(id) => {
                if let Some(instance) = self.instances.get(id).cloned() {
                    self.change_fleet(&instance.cluster, |fleet| fleet.remove_instance(id));
                    self.count(&instance.cluster, |counts| counts.instance(&instance, Count::Out));
                }
                self.instances.remove_mut(id);
            }
            Key::Task(id) => {
                if let Some(task) = self.tasks.get(id).cloned() {
                    self.unlink(&task);
                }
                self.tasks.remove_mut(id);
            }
            Key::AccountSetting(principal, name) => {
                self.account_settings.remove_mut(&(principal.clone(), name.clone()));
            }
            Key::Token(cluster, token) => drop(self.tokens.remove_mut(&(cluster.clone(), token.clone()))),
        }
    }

    /// Takes away, or puts in, the timer that a record has as it stands now.
    fn wind(&mut self, key: &Key, winding: Winding) {
        let Some((at, timer)) = timers::of(self, key) else { return };
        match winding {
            Winding::On => insert(&mut self.timers, &at, timer, ()),
            Winding::Off => remove(&mut self.timers, &at, &timer),
        }
    }

    fn put_instance(&mut self, record: &ContainerInstance) {
        let before = self.instances.get(&record.id).cloned();
        self.instances.insert_mut(record.id.clone(), Arc::new(record.clone()));
        if let Some(before) = &before {
            self.count(&before.cluster, |counts| counts.instance(before, Count::Out));
        }
        self.count(&record.cluster, |counts| counts.instance(record, Count::In));
        if let Some(before) = before.as_ref().filter(|before| before.cluster != record.cluster) {
            self.change_fleet(&before.cluster, |fleet| fleet.remove_instance(&record.id));
        }
        let Some(instance) = fleet_instance(record) else {
            return self.change_fleet(&record.cluster, |fleet| fleet.remove_instance(&record.id));
        };
        let known = self.fleets.get(&record.cluster).and_then(|fleet| fleet.instance(&record.id));
        if known == Some(&instance) {
            return;
        }
        // Claims of tasks that were applied before their instance count from now on.
        let claims: Vec<Claim> = match known {
            Some(_) => Vec::new(),
            None => self.living_tasks(&record.id).filter_map(|task| claim(task)).collect(),
        };
        self.change_fleet(&record.cluster, |fleet| {
            fleet.put_instance(instance);
            claims.into_iter().for_each(|claim| fleet.put_claim(claim));
        });
    }

    fn put_task(&mut self, record: &TaskRecord) {
        if let Some(before) = self.tasks.get(&record.id).cloned() {
            self.unlink(&before);
        }
        let task = Arc::new(TaskRecord { definition: self.shared(record), ..record.clone() });
        self.tasks.insert_mut(record.id.clone(), task.clone());
        insert(self.half(&task), &record.cluster, record.id.clone(), task.clone());
        for by in sought_by(record) {
            let key = (record.cluster.clone(), record.desired_status, by);
            insert(&mut self.tasks_by, &key, record.id.clone(), task.clone());
        }
        self.count(&record.cluster, |counts| counts.task(record, Count::In));
        if record.is_stopped() {
            self.stopped.insert_mut(stopped_key(record), ());
            return;
        }
        let users = self.users(record).saturating_add(1);
        self.users_of_definition.insert_mut((record.family.clone(), record.revision), users);
        if record.waits() {
            self.waiting.insert_mut((record.created_at, record.id.clone()), task.clone());
        }
        if let Some(instance) = &record.instance {
            insert(&mut self.tasks_of_instance, instance, record.id.clone(), task);
        }
        if let Some(claim) = claim(record) {
            self.change_fleet(&record.cluster, |fleet| fleet.put_claim(claim));
        }
    }

    fn shared(&mut self, task: &TaskRecord) -> Arc<TaskDefinition> {
        if task.overrides.is_some() {
            return task.definition.clone();
        }
        let key = (task.family.clone(), task.revision);
        match self.definitions.get(&key) {
            Some(known) if Arc::ptr_eq(known, &task.definition) || *known == task.definition => known.clone(),
            Some(_) | None => {
                self.definitions.insert_mut(key, task.definition.clone());
                task.definition.clone()
            }
        }
    }

    /// Takes a task out of all that is derived from it.
    fn unlink(&mut self, task: &TaskRecord) {
        remove(self.half(task), &task.cluster, &task.id);
        for by in sought_by(task) {
            remove(&mut self.tasks_by, &(task.cluster.clone(), task.desired_status, by), &task.id);
        }
        self.count(&task.cluster, |counts| counts.task(task, Count::Out));
        if task.is_stopped() {
            self.stopped.remove_mut(&stopped_key(task));
            return;
        }
        let key = (task.family.clone(), task.revision);
        match self.users(task).saturating_sub(1) {
            0 => drop(self.users_of_definition.remove_mut(&key)),
            users => self.users_of_definition.insert_mut(key, users),
        }
        if task.waits() {
            self.waiting.remove_mut(&(task.created_at, task.id.clone()));
        }
        if let Some(instance) = &task.instance {
            remove(&mut self.tasks_of_instance, instance, &task.id);
            self.change_fleet(&task.cluster, |fleet| fleet.remove_claim(instance, &task.id));
        }
    }

    fn half(&mut self, task: &TaskRecord) -> &mut Map<String, Map<TaskId, Arc<TaskRecord>>> {
        match task.desired_status {
            DesiredStatus::Running => &mut self.wanted_of_cluster,
            DesiredStatus::Stopped => &mut self.unwanted_of_cluster,
        }
    }

    fn users(&self, task: &TaskRecord) -> u32 {
        self.users_of_definition.get(&(task.family.clone(), task.revision)).copied().unwrap_or(0)
    }

    /// A cluster that has nothing has no counts.
    fn count(&mut self, cluster: &str, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts(cluster);
        change(&mut counts);
        if counts.is_nothing() {
            self.counts.remove_mut(cluster);
        } else {
            self.counts.insert_mut(cluster.to_owned(), counts);
        }
    }

    /// A fleet without instances is none.
    fn change_fleet(&mut self, cluster: &str, change: impl FnOnce(&mut Fleet)) {
        match self.fleets.get_mut(cluster) {
            Some(fleet) => {
                let fleet = Arc::make_mut(fleet);
                change(fleet);
                if fleet.is_empty() {
                    self.fleets.remove_mut(cluster);
                }
            }
            None => {
                let mut fleet = Fleet::default();
                change(&mut fleet);
                if !fleet.is_empty() {
                    self.fleets.insert_mut(cluster.to_owned(), Arc::new(fleet));
                }
            }
        }
    }
}

enum Winding {
    On,
    Off,
}

fn stopped_key(task: &TaskRecord) -> (Timestamp, TaskId) {
    (task.stopped_seen_at.unwrap_or(task.created_at), task.id.clone())
}

/// The service whose task it is.
pub(crate) fn service_of(task: &TaskRecord) -> Option<&str> {
    task.group.strip_prefix(SERVICE_GROUP)
}

fn sought_by(task: &TaskRecord) -> impl Iterator<Item = By> {
    let service = service_of(task);
    let instance = task.instance.clone().filter(|_| task.desired_status == DesiredStatus::Stopped);
    let all = [
        Some(By::Family(task.family.clone())),
        task.started_by.clone().map(By::StartedBy),
        service.map(|name| By::Service(name.to_owned())),
        instance.map(By::Instance),
    ];
    all.into_iter().flatten()
}

/// An instance that takes no tasks any more is in no fleet.
fn fleet_instance(record: &ContainerInstance) -> Option<Instance> {
    let status = match record.status {
        InstanceStatus::Active => scheduler::InstanceStatus::Active,
        InstanceStatus::Draining => scheduler::InstanceStatus::Draining,
        InstanceStatus::Inactive => return None,
    };
    Some(Instance {
        id: record.id.clone(),
        status,
        agent_connected: record.connected,
        agent_version: record.version_info.as_ref().and_then(|info| info.agent_version.clone()).unwrap_or_default(),
        host_name: record.host_name.clone(),
        registered_at: record.registered_at,
        attributes: record.attributes.iter().chain(&record.custom_attributes).cloned().collect(),
        cpu: record.cpu,
        memory_mib: record.memory_mib,
        reserved_tcp_ports: record.reserved_ports.clone(),
        reserved_udp_ports: record.reserved_ports_udp.clone(),
        gpus: u32::try_from(record.gpu_ids.len()).unwrap_or(u32::MAX),
        interfaces: record.interfaces,
    })
}

/// What a living task that has an instance takes there.
pub(crate) fn claim(task: &TaskRecord) -> Option<Claim> {
    let instance = task.instance.clone().filter(|_| !task.is_stopped())?;
    Some(Claim {
        task: task.id.clone(),
        instance,
        group: (task.desired_status == DesiredStatus::Running).then(|| task.group.clone()),
        demand: task.demand.clone(),
    })
}

fn insert<Owner, Item, Value>(map: &mut Map<Owner, Map<Item, Value>>, owner: &Owner, item: Item, value: Value)
where
    Owner: Clone + Ord,
    Item: Clone + Ord,
    Value: Clone,
{
    match map.get_mut(owner) {
        Some(items) => items.insert_mut(item, value),
        None => map.insert_mut(owner.clone(), Map::new_sync().insert(item, value)),
    }
}

/// An owner without items is not there either.
fn remove<Owner, Item, Value>(map: &mut Map<Owner, Map<Item, Value>>, owner: &Owner, item: &Item)
where
    Owner: Clone + Ord,
    Item: Clone + Ord,
    Value: Clone,
{
    let Some(items) = map.get_mut(owner) else { return };
    items.remove_mut(item);
    if items.is_empty() {
        map.remove_mut(owner);
    }
}
