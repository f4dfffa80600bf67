//! The choice: which instances can take a task, and which of them does.

use ecs::ContainerInstanceId;

use crate::fleet::{Fleet, InstanceStatus, Member};
use crate::{Demand, Wanted};

/// Where a task goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    pub instance: ContainerInstanceId,
}

/// What one instance lacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    NotActive,
    AgentDisconnected,
    Cpu { needs: u32, free: u32 },
    Memory { needs_mib: u64, free_mib: u64 },
    Port { port: u16, protocol: &'static str, held_by: Option<ecs::TaskId> },
    Interfaces,
    Gpu { needs: u32, free: u32 },
    Attribute { name: String },
    Constraint { expression: String },
    Distinct { task: ecs::TaskId },
}

impl Lack {
    /// The reason of a failure in RunTask's answer
    /// (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/api_failures_messages.html>).
    pub fn reason(&self) -> &'static str {
        match self {
            Lack::NotActive => "INACTIVE",
            Lack::AgentDisconnected => "AGENT",
            Lack::Cpu { .. } => "RESOURCE:CPU",
            Lack::Memory { .. } => "RESOURCE:MEMORY",
            Lack::Port { .. } => "RESOURCE:PORTS",
            Lack::Interfaces => "RESOURCE:ENI",
            Lack::Gpu { .. } => "RESOURCE:GPU",
            Lack::Attribute { .. } => "ATTRIBUTE",
            Lack::Constraint { .. } | Lack::Distinct { .. } => "MemberOf placement constraint unsatisfied.",
        }
    }
}

/// No instance takes the task; for each, what was first found missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unplaceable {
    pub lacks: Vec<(ContainerInstanceId, Lack)>,
}

/// Chooses an instance. `dice` decides between equals.
///
/// # Errors
/// What every instance lacks.
pub fn place(fleet: &Fleet, wanted: &Wanted<'_>, dice: u64) -> Result<Placement, Unplaceable> {
    let mut fitting = Vec::new();
    let mut lacks = Vec::new();
    for member in fleet.members() {
        match lack(member, wanted.demand) {
            None => fitting.push(member),
            Some(lack) => lacks.push((member.instance.id.clone(), lack)),
        }
    }
    if fitting.is_empty() {
        return Err(Unplaceable { lacks });
    }
    let chosen = usize::try_from(dice % fitting.len() as u64).unwrap_or(0);
    Ok(Placement { instance: fitting[chosen].instance.id.clone() })
}

fn lack(member: &Member, demand: &Demand) -> Option<Lack> {
    let Member { instance, claims, used } = member;
    if instance.status != InstanceStatus::Active {
        return Some(Lack::NotActive);
    }
    if !instance.agent_connected {
        return Some(Lack::AgentDisconnected);
    }
    let free = instance.cpu.saturating_sub(used.cpu);
    if demand.cpu > free {
        return Some(Lack::Cpu { needs: demand.cpu, free });
    }
    let free_mib = instance.memory_mib.saturating_sub(used.memory_mib);
    if demand.memory_mib > free_mib {
        return Some(Lack::Memory { needs_mib: demand.memory_mib, free_mib });
    }
    for (protocol, wanted, reserved) in [
        ("tcp", &demand.tcp_ports, &instance.reserved_tcp_ports),
        ("udp", &demand.udp_ports, &instance.reserved_udp_ports),
    ] {
        for port in wanted {
            let holder = claims.values().find(|claim| {
                let ports = if protocol == "tcp" { &claim.demand.tcp_ports } else { &claim.demand.udp_ports };
                ports.contains(port)
            });
            if holder.is_some() || reserved.contains(port) {
                return Some(Lack::Port { port: *port, protocol, held_by: holder.map(|claim| claim.task.clone()) });
            }
        }
    }
    if demand.interfaces > instance.interfaces.saturating_sub(used.interfaces) {
        return Some(Lack::Interfaces);
    }
    let free = instance.gpus.saturating_sub(used.gpus);
    (demand.gpus > free).then_some(Lack::Gpu { needs: demand.gpus, free })
}
