//! A cluster's container instances, and what is free on each.

use std::sync::Arc;

use ecs::operations::shapes::Attribute;
use ecs::{ContainerInstanceId, TaskId, Timestamp};

use crate::Demand;
use crate::member::Member;
use crate::pool::{Number, Order, Pool};
use crate::tree::Tree;

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

    fn zone(&self) -> &str {
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
    /// None for a task that is to stop: it keeps what it has, and stands in nobody's way otherwise. Amazon looks at the desired
    /// status of tasks when it places others
    /// (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-placement-constraints.html>).
    pub group: Option<String>,
    pub demand: Demand,
}

/// The instances of one cluster with the claims on them. A copy shares everything with its original.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    members: Tree<Number, Arc<Member>>,
    pub(crate) all: Pool,
    /// By zone; instances without one are in the zone without a name.
    pub(crate) zones: Tree<Arc<str>, Pool>,
    /// By group and zone.
    groups: Groups,
}

type Groups = Tree<Arc<str>, Tree<Arc<str>, InZone>>;

/// What a group has in a zone.
#[derive(Clone, Debug, Default)]
pub(crate) struct InZone {
    pub(crate) tasks: u32,
    /// That take tasks, and have some of the group's.
    pub(crate) takers: usize,
    /// Instances that have tasks of the group, those with the fewest first.
    pub(crate) by_tasks: Order,
}

impl InZone {
    /// Instances with their tasks of the group, those with the fewest first, and of these first those from a place on that
    /// the dice choose. They come twice.
    pub(crate) fn fewest_from(&self, dice: u64) -> impl Iterator<Item = (u64, Number)> {
        let least = self.by_tasks.iter().next().map_or(0, |((tasks, _), ())| *tasks);
        let chosen = self.by_tasks.from(&(least, Number::at(dice))).take_while(move |((tasks, _), ())| *tasks == least);
        chosen.chain(self.by_tasks.iter()).map(|(at, ())| *at)
    }

    fn count(&mut self, member: &Member, before: u32, after: u32) {
        if before > 0 {
            self.by_tasks.remove(&(u64::from(before), member.number));
        }
        if after > 0 {
            self.by_tasks.insert((u64::from(after), member.number), ());
        }
        let taker = |tasks: u32| usize::from(tasks > 0 && member.instance.takes_tasks());
        self.tasks = self.tasks.saturating_sub(before) + after;
        self.takers = self.takers.saturating_sub(taker(before)) + taker(after);
    }
}

impl Fleet {
    /// A new instance, or what has changed of one; its claims stay.
    pub fn put_instance(&mut self, instance: Instance) {
        let number = Number::of_instance(&instance.id);
        let known = self.take_out(number);
        let zone = match self.zones.entry(instance.zone()) {
            Some((zone, _)) => Arc::clone(zone),
            None => Arc::from(instance.zone()),
        };
        let instance = Arc::new(instance);
        let member = match known {
            Some(member) => member.registered_again(instance, zone),
            None => Member::new(number, instance, zone),
        };
        self.put_back(member);
    }

    /// With its claims.
    pub fn remove_instance(&mut self, id: &ContainerInstanceId) {
        self.take_out(Number::of_instance(id));
    }

    /// A claim on an instance that is not here is none. One task has one claim on an instance: the newest.
    pub fn put_claim(&mut self, claim: Claim) {
        self.remove_claim(&claim.instance, &claim.task);
        let group = claim.group.as_deref().map(|group| match self.groups.entry(group) {
            Some((group, _)) => Arc::clone(group),
            None => Arc::from(group),
        });
        let instance = Number::of_instance(&claim.instance);
        self.change(instance, group.as_ref(), |member| member.take(&claim.task, group.clone(), &claim.demand));
    }

    pub fn remove_claim(&mut self, instance: &ContainerInstanceId, task: &TaskId) {
        let (instance, task) = (Number::of_instance(instance), Number::of_task(task));
        let group = self.members.get(&instance).and_then(|member| member.group_of(task)).cloned();
        if let Some(group) = group {
            self.change(instance, group.as_ref(), |member| member.give_back(task));
        }
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub fn instance(&self, id: &ContainerInstanceId) -> Option<&Instance> {
        self.member(Number::of_instance(id)).map(|member| &*member.instance)
    }

    /// What is left of an instance's CPU units and MiB.
    pub fn remaining(&self, id: &ContainerInstanceId) -> Option<(u32, u64)> {
        let member = self.member(Number::of_instance(id))?;
        Some((member.free_cpu(), member.free_memory_mib()))
    }

    /// What the tasks of an instance take together; ports in their order.
    pub fn used(&self, id: &ContainerInstanceId) -> Option<Demand> {
        self.member(Number::of_instance(id)).map(Member::used)
    }

    pub(crate) fn member(&self, id: Number) -> Option<&Member> {
        self.members.get(&id).map(|member| &**member)
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values().map(|member| &**member)
    }

    /// Changes what a task, of one group or none, takes of a member, and the orders with it.
    fn change(&mut self, id: Number, group: Option<&Arc<str>>, change: impl FnOnce(&mut Member)) {
        let Some(kept) = self.members.get_mut(&id) else { return };
        let member = Arc::make_mut(kept);
        let tasks_of_group = |member: &Member| group.map_or(0, |group| member.tasks_of(group));
        let (free, tasks) = (member.free(), tasks_of_group(member));
        change(member);
        let (free_now, tasks_now) = (member.free(), tasks_of_group(member));
        if member.instance.takes_tasks() {
            self.all.change(id, free, free_now);
            if let Some(pool) = self.zones.get_mut(&member.zone) {
                pool.change(id, free, free_now);
            }
        }
        if let Some(group) = group {
            count(&mut self.groups, group, member, (tasks, tasks_now));
        }
    }

    /// By zone; nothing where the group has no tasks.
    pub(crate) fn group(&self, group: &str) -> Option<&Tree<Arc<str>, InZone>> {
        self.groups.get(group)
    }

    /// A member, out of every order; the caller puts it back or drops it.
    fn take_out(&mut self, id: Number) -> Option<Arc<Member>> {
        let member = Arc::clone(self.members.get(&id)?);
        self.members.remove(&id);
        if member.instance.takes_tasks() {
            self.all.remove(id, member.free());
            if let Some(pool) = self.zones.get_mut(&member.zone) {
                pool.remove(id, member.free());
                if pool.by_id.is_empty() {
                    self.zones.remove(&member.zone);
                }
            }
        }
        for (group, tasks) in member.groups.iter() {
            count(&mut self.groups, group, &member, (*tasks, 0));
        }
        Some(member)
    }

    fn put_back(&mut self, member: Member) {
        let id = member.number;
        if member.instance.takes_tasks() {
            self.all.insert(id, member.free());
            match self.zones.get_mut(&member.zone) {
                Some(pool) => pool.insert(id, member.free()),
                None => {
                    let mut pool = Pool::default();
                    pool.insert(id, member.free());
                    self.zones.insert(Arc::clone(&member.zone), pool);
                }
            }
        }
        for (group, tasks) in member.groups.iter() {
            count(&mut self.groups, group, &member, (0, *tasks));
        }
        self.members.insert(id, Arc::new(member));
    }
}

/// A group's tasks on a member were as many, and are as many now.
fn count(groups: &mut Groups, group: &Arc<str>, member: &Member, (before, now): (u32, u32)) {
    if !groups.contains_key(group) {
        groups.insert(Arc::clone(group), Tree::default());
    }
    let Some(zones) = groups.get_mut(group) else { return };
    if !zones.contains_key(&member.zone) {
        zones.insert(Arc::clone(&member.zone), InZone::default());
    }
    let Some(of_zone) = zones.get_mut(&member.zone) else { return };
    of_zone.count(member, before, now);
    if of_zone.tasks == 0 {
        zones.remove(&member.zone);
        if zones.is_empty() {
            groups.remove(group);
        }
    }
}
