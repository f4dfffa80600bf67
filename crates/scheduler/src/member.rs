//! One instance of a fleet with the claims on it.

use std::sync::Arc;

use ecs::TaskId;

use crate::fleet::Instance;
use crate::pool::{Free, Number};
use crate::tree::Tree;
use crate::{Demand, Map};

#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) number: Number,
    pub(crate) instance: Arc<Instance>,
    /// The instance's, as the fleet has it.
    pub(crate) zone: Arc<str>,
    claims: Tree<Number, Held>,
    /// Tasks of each group, without those that are to stop.
    pub(crate) groups: Tree<Arc<str>, u32>,
    /// The sum of the claims'.
    used: Sum,
    tcp_ports: Map<u16, TaskId>,
    udp_ports: Map<u16, TaskId>,
}

/// What one task holds. There may be a million of these: names are shared, and few have ports.
#[derive(Clone, Debug)]
struct Held {
    group: Option<Arc<str>>,
    sum: Sum,
    ports: Option<Arc<Ports>>,
}

/// What is counted of a demand.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    memory_mib: u64,
    cpu: u32,
    gpus: u32,
    interfaces: u32,
}

#[derive(Debug)]
struct Ports {
    tcp: Vec<u16>,
    udp: Vec<u16>,
}

impl Sum {
    fn of(demand: &Demand) -> Sum {
        let Demand { cpu, memory_mib, tcp_ports: _, udp_ports: _, gpus, interfaces } = *demand;
        Sum { memory_mib, cpu, gpus, interfaces }
    }

    fn with(self, other: Sum) -> Sum {
        Sum {
            memory_mib: self.memory_mib.saturating_add(other.memory_mib),
            cpu: self.cpu.saturating_add(other.cpu),
            gpus: self.gpus.saturating_add(other.gpus),
            interfaces: self.interfaces.saturating_add(other.interfaces),
        }
    }

    fn without(self, other: Sum) -> Sum {
        Sum {
            memory_mib: self.memory_mib.saturating_sub(other.memory_mib),
            cpu: self.cpu.saturating_sub(other.cpu),
            gpus: self.gpus.saturating_sub(other.gpus),
            interfaces: self.interfaces.saturating_sub(other.interfaces),
        }
    }
}

impl Member {
    pub(crate) fn new(number: Number, instance: Arc<Instance>, zone: Arc<str>) -> Member {
        Member {
            number,
            instance,
            zone,
            claims: Tree::default(),
            groups: Tree::default(),
            used: Sum::default(),
            tcp_ports: Map::new_sync(),
            udp_ports: Map::new_sync(),
        }
    }

    pub(crate) fn registered_again(&self, instance: Arc<Instance>, zone: Arc<str>) -> Member {
        Member { instance, zone, ..self.clone() }
    }

    pub(crate) fn free_cpu(&self) -> u32 {
        self.instance.cpu.saturating_sub(self.used.cpu)
    }

    pub(crate) fn free_memory_mib(&self) -> u64 {
        self.instance.memory_mib.saturating_sub(self.used.memory_mib)
    }

    pub(crate) fn free(&self) -> Free {
        Free { cpu: u64::from(self.free_cpu()), memory_mib: self.free_memory_mib() }
    }

    pub(crate) fn free_gpus(&self) -> u32 {
        self.instance.gpus.saturating_sub(self.used.gpus)
    }

    pub(crate) fn free_interfaces(&self) -> u32 {
        self.instance.interfaces.saturating_sub(self.used.interfaces)
    }

    /// What all tasks take together; ports in their order.
    pub(crate) fn used(&self) -> Demand {
        let Sum { memory_mib, cpu, gpus, interfaces } = self.used;
        let tcp_ports = self.tcp_ports.keys().copied().collect();
        let udp_ports = self.udp_ports.keys().copied().collect();
        Demand { cpu, memory_mib, tcp_ports, udp_ports, gpus, interfaces }
    }

    pub(crate) fn tasks(&self) -> usize {
        self.claims.size()
    }

    pub(crate) fn tasks_of(&self, group: &str) -> u32 {
        self.groups.get(group).copied().unwrap_or(0)
    }

    /// The first by its id.
    pub(crate) fn task_of(&self, group: &str) -> Option<TaskId> {
        let found = self.claims.iter().find(|(_, held)| held.group.as_deref() == Some(group));
        found.map(|(task, _)| task.task())
    }

    /// Nothing where it has no claim.
    pub(crate) fn group_of(&self, task: Number) -> Option<&Option<Arc<str>>> {
        self.claims.get(&task).map(|held| &held.group)
    }

    pub(crate) fn tcp_holder(&self, port: u16) -> Option<&TaskId> {
        self.tcp_ports.get(&port)
    }

    pub(crate) fn udp_holder(&self, port: u16) -> Option<&TaskId> {
        self.udp_ports.get(&port)
    }

    pub(crate) fn take(&mut self, task: &TaskId, group: Option<Arc<str>>, demand: &Demand) {
        let sum = Sum::of(demand);
        self.used = self.used.with(sum);
        demand.tcp_ports.iter().for_each(|port| self.tcp_ports.insert_mut(*port, task.clone()));
        demand.udp_ports.iter().for_each(|port| self.udp_ports.insert_mut(*port, task.clone()));
        let has_ports = !(demand.tcp_ports.is_empty() && demand.udp_ports.is_empty());
        let ports = has_ports.then(|| Arc::new(Ports { tcp: demand.tcp_ports.clone(), udp: demand.udp_ports.clone() }));
        if let Some(group) = &group {
            self.groups.insert(Arc::clone(group), self.tasks_of(group) + 1);
        }
        self.claims.insert(Number::of_task(task), Held { group, sum, ports });
    }

    pub(crate) fn give_back(&mut self, task: Number) {
        let Some(held) = self.claims.get(&task).cloned() else { return };
        self.claims.remove(&task);
        self.used = self.used.without(held.sum);
        if let Some(ports) = &held.ports {
            let task = task.task();
            give_back_ports(&mut self.tcp_ports, &ports.tcp, &task);
            give_back_ports(&mut self.udp_ports, &ports.udp, &task);
        }
        let Some(group) = held.group else { return };
        match self.tasks_of(&group) {
            0 | 1 => self.groups.remove(&group),
            tasks => self.groups.insert(group, tasks - 1),
        }
    }
}

fn give_back_ports(held: &mut Map<u16, TaskId>, ports: &[u16], task: &TaskId) {
    for port in ports {
        if held.get(port) == Some(task) {
            held.remove_mut(port);
        }
    }
}
