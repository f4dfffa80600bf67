//! A cluster's container instances, and what is free on each.

use std::sync::Arc;

use ecs::operations::shapes::Attribute;
use ecs::{ContainerInstanceId, TaskId, Timestamp};

use crate::pool::{Free, Pool};
use crate::{Demand, Map};

/// Where strategies look for the zone (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-placement-constraints.html#attributes>).
pub const ZONE_ATTRIBUTE: &str = "ecs.availability-zone";

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

impl Instance {
    /// The value of an attribute; an instance without it, or with it but without a value, has none.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|attribute| attribute.name.as_deref() == Some(name))?;
        found.value.as_deref()
    }

    pub(crate) fn has_attribute(&self, name: &str) -> bool {
        self.attributes.iter().any(|attribute| attribute.name.as_deref() == Some(name))
    }

    pub(crate) fn zone(&self) -> &str {
        self.attribute(ZONE_ATTRIBUTE).unwrap_or_default()
    }

    fn takes_tasks(&self) -> bool {
        self.status == InstanceStatus::Active && self.agent_connected
    }
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
    members: Map<ContainerInstanceId, Member>,
    pub(crate) all: Pool,
    /// By zone; instances without one are in the zone without a name.
    pub(crate) zones: Map<String, Pool>,
    /// By group and zone.
    groups: Map<String, Map<String, InZone>>,
}

/// What a group has in a zone.
#[derive(Clone, Debug, Default)]
pub(crate) struct InZone {
    pub(crate) tasks: u32,
    /// That take tasks, and have some of the group's.
    pub(crate) takers: usize,
    /// Instances that have tasks of the group, those with the fewest first.
    pub(crate) by_tasks: Map<(u32, ContainerInstanceId), ()>,
}

impl InZone {
    fn count(&mut self, instance: &Instance, before: u32, after: u32) {
        if before > 0 {
            self.by_tasks.remove_mut(&(before, instance.id.clone()));
        }
        if after > 0 {
            self.by_tasks.insert_mut((after, instance.id.clone()), ());
        }
        let taker = |tasks: u32| usize::from(tasks > 0 && instance.takes_tasks());
        self.tasks = self.tasks.saturating_sub(before) + after;
        self.takers = self.takers.saturating_sub(taker(before)) + taker(after);
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) instance: Arc<Instance>,
    pub(crate) claims: Map<TaskId, Claim>,
    /// Tasks of each group.
    pub(crate) groups: Map<String, u32>,
    /// The sum of the claims'.
    pub(crate) used: Demand,
    tcp_ports: Map<u16, TaskId>,
    udp_ports: Map<u16, TaskId>,
}

impl Member {
    pub(crate) fn free_cpu(&self) -> u32 {
        self.instance.cpu.saturating_sub(self.used.cpu)
    }

    pub(crate) fn free_memory_mib(&self) -> u64 {
        self.instance.memory_mib.saturating_sub(self.used.memory_mib)
    }

    pub(crate) fn free(&self) -> Free {
        Free { cpu: u64::from(self.free_cpu()), memory_mib: self.free_memory_mib() }
    }

    fn tasks_of(&self, group: &str) -> u32 {
        self.groups.get(group).copied().unwrap_or(0)
    }

    pub(crate) fn tcp_holder(&self, port: u16) -> Option<&TaskId> {
        self.tcp_ports.get(&port)
    }

    pub(crate) fn udp_holder(&self, port: u16) -> Option<&TaskId> {
        self.udp_ports.get(&port)
    }

    fn take(&mut self, claim: Claim) {
        let demand = &claim.demand;
        let used = &mut self.used;
        used.cpu = used.cpu.saturating_add(demand.cpu);
        used.memory_mib = used.memory_mib.saturating_add(demand.memory_mib);
        used.gpus = used.gpus.saturating_add(demand.gpus);
        used.interfaces = used.interfaces.saturating_add(demand.interfaces);
        demand.tcp_ports.iter().for_each(|port| self.tcp_ports.insert_mut(*port, claim.task.clone()));
        demand.udp_ports.iter().for_each(|port| self.udp_ports.insert_mut(*port, claim.task.clone()));
        let of_group = self.groups.get(&claim.group).copied().unwrap_or(0) + 1;
        self.groups.insert_mut(claim.group.clone(), of_group);
        self.claims.insert_mut(claim.task.clone(), claim);
    }

    fn give_back(&mut self, claim: &Claim) {
        let demand = &claim.demand;
        let used = &mut self.used;
        used.cpu = used.cpu.saturating_sub(demand.cpu);
        used.memory_mib = used.memory_mib.saturating_sub(demand.memory_mib);
        used.gpus = used.gpus.saturating_sub(demand.gpus);
        used.interfaces = used.interfaces.saturating_sub(demand.interfaces);
        for port in &demand.tcp_ports {
            if self.tcp_ports.get(port) == Some(&claim.task) {
                self.tcp_ports.remove_mut(port);
            }
        }
        for port in &demand.udp_ports {
            if self.udp_ports.get(port) == Some(&claim.task) {
                self.udp_ports.remove_mut(port);
            }
        }
        match self.groups.get(&claim.group).copied() {
            Some(tasks) if tasks > 1 => self.groups.insert_mut(claim.group.clone(), tasks - 1),
            Some(_) | None => {
                self.groups.remove_mut(&claim.group);
            }
        }
        self.claims.remove_mut(&claim.task);
    }
}

impl Fleet {
    /// A new instance, or what has changed of one; its claims stay.
    pub fn put_instance(&mut self, instance: Instance) {
        let instance = Arc::new(instance);
        let member = match self.take_out(&instance.id) {
            Some(member) => Member { instance, ..member },
            None => Member {
                instance,
                claims: Map::new_sync(),
                groups: Map::new_sync(),
                used: Demand::default(),
                tcp_ports: Map::new_sync(),
                udp_ports: Map::new_sync(),
            },
        };
        self.put_back(member);
    }

    /// With its claims.
    pub fn remove_instance(&mut self, id: &ContainerInstanceId) {
        self.take_out(id);
    }

    /// A claim on an instance that is not here is none. One task has one claim on an instance: the newest.
    pub fn put_claim(&mut self, claim: Claim) {
        self.remove_claim(&claim.instance, &claim.task);
        let (id, group) = (claim.instance.clone(), claim.group.clone());
        self.change(&id, &group, |member| member.take(claim));
    }

    pub fn remove_claim(&mut self, instance: &ContainerInstanceId, task: &TaskId) {
        let claim = self.members.get(instance).and_then(|member| member.claims.get(task)).cloned();
        if let Some(claim) = claim {
            self.change(instance, &claim.group, |member| member.give_back(&claim));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub fn instance(&self, id: &ContainerInstanceId) -> Option<&Instance> {
        self.members.get(id).map(|member| &*member.instance)
    }

    /// What is left of an instance's CPU units and MiB.
    pub fn remaining(&self, id: &ContainerInstanceId) -> Option<(u32, u64)> {
        let member = self.members.get(id)?;
        Some((member.free_cpu(), member.free_memory_mib()))
    }

    /// What the tasks of an instance take together; ports in their order.
    pub fn used(&self, id: &ContainerInstanceId) -> Option<Demand> {
        let member = self.members.get(id)?;
        Some(Demand {
            tcp_ports: member.tcp_ports.keys().copied().collect(),
            udp_ports: member.udp_ports.keys().copied().collect(),
            ..member.used.clone()
        })
    }

    pub(crate) fn member(&self, id: &ContainerInstanceId) -> Option<&Member> {
        self.members.get(id)
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Changes what tasks of one group take of a member, and the orders with it.
    fn change(&mut self, id: &ContainerInstanceId, group: &str, change: impl FnOnce(&mut Member)) {
        let Some(member) = self.members.get_mut(id) else { return };
        let (free, tasks) = (member.free(), member.tasks_of(group));
        change(member);
        let (free_now, tasks_now) = (member.free(), member.tasks_of(group));
        let instance = Arc::clone(&member.instance);
        if instance.takes_tasks() {
            self.all.change(id, free, free_now);
            if let Some(pool) = self.zones.get_mut(instance.zone()) {
                pool.change(id, free, free_now);
            }
        }
        self.count(group, &instance, tasks, tasks_now);
    }

    /// Nothing where the group has no tasks.
    pub(crate) fn in_zone(&self, group: &str, zone: &str) -> Option<&InZone> {
        self.groups.get(group)?.get(zone)
    }

    /// A group's tasks on an instance were `before` and are `after`.
    fn count(&mut self, group: &str, instance: &Instance, before: u32, after: u32) {
        let zone = instance.zone();
        if self.in_zone(group, zone).is_none() {
            let zones = self.groups.get(group).cloned().unwrap_or_default();
            self.groups.insert_mut(group.to_owned(), zones.insert(zone.to_owned(), InZone::default()));
        }
        let Some(zones) = self.groups.get_mut(group) else { return };
        let Some(of_zone) = zones.get_mut(zone) else { return };
        of_zone.count(instance, before, after);
        if of_zone.tasks == 0 {
            zones.remove_mut(zone);
            if zones.is_empty() {
                self.groups.remove_mut(group);
            }
        }
    }

    /// A member, out of every order; the caller puts it back or drops it.
    fn take_out(&mut self, id: &ContainerInstanceId) -> Option<Member> {
        let member = self.members.get(id)?.clone();
        self.members.remove_mut(id);
        let zone = member.instance.zone();
        if member.instance.takes_tasks() {
            self.all.remove(id, member.free());
            if let Some(pool) = self.zones.get_mut(zone) {
                pool.remove(id, member.free());
                if pool.by_id.is_empty() {
                    self.zones.remove_mut(zone);
                }
            }
        }
        for (group, tasks) in member.groups.iter() {
            self.count(group, &member.instance, *tasks, 0);
        }
        Some(member)
    }

    fn put_back(&mut self, member: Member) {
        let (id, zone) = (&member.instance.id, member.instance.zone());
        if member.instance.takes_tasks() {
            self.all.insert(id, member.free());
            match self.zones.get_mut(zone) {
                Some(pool) => pool.insert(id, member.free()),
                None => {
                    let mut pool = Pool::default();
                    pool.insert(id, member.free());
                    self.zones.insert_mut(zone.to_owned(), pool);
                }
            }
        }
        for (group, tasks) in member.groups.iter() {
            self.count(group, &member.instance, 0, *tasks);
        }
        self.members.insert_mut(id.clone(), member.clone());
    }
}
