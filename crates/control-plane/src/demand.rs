//! What a task takes of an instance, out of its definition with the overrides applied.
//!
//! "Placement CPU" is the task's own size, or the sum of its containers'; memory likewise, where a container counts with
//! its reservation before its limit
//! (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/memory-management.html>).

use ecs::port::{HostPort, exposures};
use ecs::size;
use ecs::task_definition::{ContainerDefinition, NetworkMode, ResourceType, TaskDefinition, TransportProtocol};
use scheduler::Demand;

/// A registered definition has sizes and ports that can be read; what cannot is counted as nothing.
pub fn of(definition: &TaskDefinition) -> Demand {
    let containers = &definition.container_definitions;
    let cpu = definition.cpu.as_deref().and_then(|text| size::cpu_units(text).ok());
    let memory_mib = definition.memory.as_deref().and_then(|text| size::memory_mib(text).ok());
    let mode = definition.effective_network_mode();
    let mut demand = Demand {
        cpu: cpu.unwrap_or_else(|| containers.iter().fold(0, |sum, each| sum.saturating_add(each.cpu))),
        memory_mib: memory_mib.unwrap_or_else(|| containers.iter().map(memory).fold(0, u64::saturating_add)),
        gpus: containers.iter().map(gpus).fold(0, u32::saturating_add),
        interfaces: u32::from(mode == NetworkMode::Awsvpc),
        ..Demand::default()
    };
    if mode != NetworkMode::Awsvpc {
        containers.iter().for_each(|container| ports(container, mode, &mut demand));
    }
    demand
}

fn memory(container: &ContainerDefinition) -> u64 {
    container.memory_reservation.or(container.memory).unwrap_or(0)
}

fn gpus(container: &ContainerDefinition) -> u32 {
    let gpus = container.resource_requirements.iter().filter(|requirement| requirement.kind == ResourceType::Gpu);
    gpus.filter_map(|requirement| requirement.value.as_deref()?.parse::<u32>().ok()).fold(0, u32::saturating_add)
}

fn ports(container: &ContainerDefinition, mode: NetworkMode, demand: &mut Demand) {
    let Ok(exposures) = exposures(&container.port_mappings, mode) else { return };
    for exposure in exposures {
        let list = match exposure.protocol {
            TransportProtocol::Tcp => &mut demand.tcp_ports,
            TransportProtocol::Udp => &mut demand.udp_ports,
        };
        match exposure.host {
            HostPort::Static(port) => list.push(port),
            HostPort::Dynamic => {}
        }
    }
}
