//! Everything the control plane knows, as persistent maps: a copy is a snapshot and costs a few pointers.

use std::sync::Arc;

use ecs::{ContainerInstanceId, TaskId};
use scheduler::{Claim, Fleet, Instance, Map};

use crate::change::{Change, Changes, Key, Record};
use crate::records::{
    AccountSetting, CapacityProvider, Cluster, ContainerInstance, Family, InstanceStatus, ReservedToken,
    TaskDefinitionRecord, TaskRecord,
};

/// The records, and what is derived from them. Only `apply` changes it.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub clusters: Map<String, Arc<Cluster>>,
    pub capacity_providers: Map<String, Arc<CapacityProvider>>,
    pub families: Map<String, Arc<Family>>,
    pub task_definitions: Map<(String, u32), Arc<TaskDefinitionRecord>>,
    pub instances: Map<ContainerInstanceId, Arc<ContainerInstance>>,
    pub tasks: Map<TaskId, Arc<TaskRecord>>,
    pub account_settings: Map<(String, String), Arc<AccountSetting>>,
    pub tokens: Map<(String, String), Arc<ReservedToken>>,
    /// Derived: the tasks of each instance that are not STOPPED.
    pub tasks_of_instance: Map<ContainerInstanceId, Map<TaskId, ()>>,
    /// Derived: every task of each cluster, STOPPED ones included.
    pub tasks_of_cluster: Map<String, Map<TaskId, ()>>,
    /// Derived: the instances of each cluster with what is free on them.
    pub fleets: Map<String, Arc<Fleet>>,
}

impl State {
    pub fn apply(&mut self, changes: &Changes) {
        for change in &changes.0 {
            match change {
                Change::Put(record) => self.put(record),
                Change::Remove(key) => self.remove(key),
            }
        }
    }

    /// What is to run on an instance and is not known to have stopped.
    pub fn living_tasks(&self, instance: &ContainerInstanceId) -> impl Iterator<Item = &Arc<TaskRecord>> {
        let ids = self.tasks_of_instance.get(instance).into_iter().flat_map(|tasks| tasks.keys());
        ids.filter_map(|id| self.tasks.get(id))
    }

    pub fn cluster_tasks(&self, cluster: &str) -> impl Iterator<Item = &Arc<TaskRecord>> {
        let ids = self.tasks_of_cluster.get(cluster).into_iter().flat_map(|tasks| tasks.keys());
        ids.filter_map(|id| self.tasks.get(id))
    }

    fn put(&mut self, record: &Record) {
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
    }

    fn remove(&mut self, key: &Key) {
        match key {
            Key::Cluster(name) => drop(self.clusters.remove_mut(name)),
            Key::CapacityProvider(name) => drop(self.capacity_providers.remove_mut(name)),
            Key::Family(name) => drop(self.families.remove_mut(name)),
            Key::TaskDefinition(family, revision) => {
                self.task_definitions.remove_mut(&(family.clone(), *revision));
            }
            Key::Instance(id) => {
                if let Some(instance) = self.instances.get(id).cloned() {
                    self.change_fleet(&instance.cluster, |fleet| fleet.remove_instance(id));
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

    fn put_instance(&mut self, record: &ContainerInstance) {
        self.instances.insert_mut(record.id.clone(), Arc::new(record.clone()));
        match fleet_instance(record) {
            Some(instance) => {
                // Claims of tasks that were applied before their instance count from now on.
                let claims: Vec<Claim> =
                    self.living_tasks(&record.id).filter_map(|task| claim(task, &record.id)).collect();
                self.change_fleet(&record.cluster, |fleet| {
                    let known = fleet.instance(&record.id).is_some();
                    fleet.put_instance(instance);
                    if !known {
                        claims.into_iter().for_each(|claim| fleet.put_claim(claim));
                    }
                });
            }
            None => self.change_fleet(&record.cluster, |fleet| fleet.remove_instance(&record.id)),
        }
    }

    fn put_task(&mut self, record: &TaskRecord) {
        if let Some(before) = self.tasks.get(&record.id).cloned() {
            self.unlink(&before);
        }
        self.tasks.insert_mut(record.id.clone(), Arc::new(record.clone()));
        insert(&mut self.tasks_of_cluster, &record.cluster, record.id.clone());
        let Some(instance) = &record.instance else { return };
        if record.is_stopped() {
            return;
        }
        insert(&mut self.tasks_of_instance, instance, record.id.clone());
        if let Some(claim) = claim(record, instance) {
            self.change_fleet(&record.cluster, |fleet| fleet.put_claim(claim));
        }
    }

    fn unlink(&mut self, task: &TaskRecord) {
        remove(&mut self.tasks_of_cluster, &task.cluster, &task.id);
        if let Some(instance) = &task.instance {
            remove(&mut self.tasks_of_instance, instance, &task.id);
            self.change_fleet(&task.cluster, |fleet| fleet.remove_claim(instance, &task.id));
        }
    }

    fn change_fleet(&mut self, cluster: &str, change: impl FnOnce(&mut Fleet)) {
        let mut fleet = self.fleets.get(cluster).map(|fleet| (**fleet).clone()).unwrap_or_default();
        change(&mut fleet);
        self.fleets.insert_mut(cluster.to_owned(), Arc::new(fleet));
    }
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

fn claim(task: &TaskRecord, instance: &ContainerInstanceId) -> Option<Claim> {
    (!task.is_stopped()).then(|| Claim {
        task: task.id.clone(),
        instance: instance.clone(),
        group: task.group.clone(),
        family: task.family.clone(),
        demand: task.demand.clone(),
    })
}

fn insert<Owner: Clone + Ord>(map: &mut Map<Owner, Map<TaskId, ()>>, owner: &Owner, task: TaskId) {
    let mut tasks = map.get(owner).cloned().unwrap_or_default();
    tasks.insert_mut(task, ());
    map.insert_mut(owner.clone(), tasks);
}

fn remove<Owner: Clone + Ord>(map: &mut Map<Owner, Map<TaskId, ()>>, owner: &Owner, task: &TaskId) {
    let Some(mut tasks) = map.get(owner).cloned() else { return };
    tasks.remove_mut(task);
    if tasks.is_empty() {
        map.remove_mut(owner);
    } else {
        map.insert_mut(owner.clone(), tasks);
    }
}

impl TaskRecord {
    pub fn is_stopped(&self) -> bool {
        self.last_status == ecs::task::LastStatus::Stopped
    }
}
