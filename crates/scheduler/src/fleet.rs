//! A cluster's container instances, and what is free on each.

use ecs::operations::shapes::Attribute;
use ecs::{ContainerInstanceId, TaskId, Timestamp};

use crate::{Demand, Map};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceStatus {
    Active,
    Draining,
}

/// One container instance as it registered. What its tasks take is the fleet's to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    pub id: ContainerInstanceId,
    pub status: InstanceStatus,
    pub agent_connected: bool,
    pub agent_version: String,
    /// Told as `ec2InstanceId`.
    pub host_name: String,
    pub registered_at: Timestamp,
    pub attributes: Vec<Attribute>,
    pub cpu: u32,
    pub memory_mib: u64,
    pub reserved_tcp_ports: Vec<u16>,
    pub reserved_udp_ports: Vec<u16>,
    pub gpus: u32,
    pub interfaces: u32,
}

/// What one task holds of one instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    pub task: TaskId,
    pub instance: ContainerInstanceId,
    pub group: String,
    pub family: String,
    pub demand: Demand,
}

/// The instances of one cluster with the claims on them. A copy shares everything with its original.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    instances: Map<ContainerInstanceId, Member>,
}

#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) instance: Instance,
    pub(crate) claims: Map<TaskId, Claim>,
    /// The sum of the claims'.
    pub(crate) used: Demand,
}

impl Fleet {
    /// A new instance, or what has changed of one; its claims stay.
    pub fn put_instance(&mut self, instance: Instance) {
        let id = instance.id.clone();
        let member = match self.instances.get(&id) {
            Some(member) => Member { instance, ..member.clone() },
            None => Member { instance, claims: Map::new_sync(), used: Demand::default() },
        };
        self.instances.insert_mut(id, member);
    }

    /// With its claims.
    pub fn remove_instance(&mut self, id: &ContainerInstanceId) {
        self.instances.remove_mut(id);
    }

    /// A claim on an instance that is not here is none.
    pub fn put_claim(&mut self, claim: Claim) {
        self.remove_claim(&claim.instance.clone(), &claim.task.clone());
        let Some(member) = self.instances.get(&claim.instance) else { return };
        let mut member = member.clone();
        let demand = &claim.demand;
        member.used.cpu = member.used.cpu.saturating_add(demand.cpu);
        member.used.memory_mib = member.used.memory_mib.saturating_add(demand.memory_mib);
        member.used.gpus = member.used.gpus.saturating_add(demand.gpus);
        member.used.interfaces = member.used.interfaces.saturating_add(demand.interfaces);
        member.used.tcp_ports.extend(&demand.tcp_ports);
        member.used.udp_ports.extend(&demand.udp_ports);
        member.claims.insert_mut(claim.task.clone(), claim.clone());
        self.instances.insert_mut(claim.instance, member);
    }

    pub fn remove_claim(&mut self, instance: &ContainerInstanceId, task: &TaskId) {
        let Some(member) = self.instances.get(instance) else { return };
        let Some(claim) = member.claims.get(task).cloned() else { return };
        let mut member = member.clone();
        member.used.cpu = member.used.cpu.saturating_sub(claim.demand.cpu);
        member.used.memory_mib = member.used.memory_mib.saturating_sub(claim.demand.memory_mib);
        member.used.gpus = member.used.gpus.saturating_sub(claim.demand.gpus);
        member.used.interfaces = member.used.interfaces.saturating_sub(claim.demand.interfaces);
        member.used.tcp_ports.retain(|port| !claim.demand.tcp_ports.contains(port));
        member.used.udp_ports.retain(|port| !claim.demand.udp_ports.contains(port));
        member.claims.remove_mut(task);
        self.instances.insert_mut(instance.clone(), member);
    }

    pub fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }

    pub fn instance(&self, id: &ContainerInstanceId) -> Option<&Instance> {
        self.instances.get(id).map(|member| &member.instance)
    }

    /// What is left of an instance's CPU units and MiB.
    pub fn remaining(&self, id: &ContainerInstanceId) -> Option<(u32, u64)> {
        let member = self.instances.get(id)?;
        let Member { instance, used, .. } = member;
        Some((instance.cpu.saturating_sub(used.cpu), instance.memory_mib.saturating_sub(used.memory_mib)))
    }

    /// What the tasks of an instance take together.
    pub fn used(&self, id: &ContainerInstanceId) -> Option<&Demand> {
        self.instances.get(id).map(|member| &member.used)
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.instances.values()
    }
}
