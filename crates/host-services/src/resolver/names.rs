//! The tasks of a snapshot as the zone wants them.

use std::net::IpAddr;

use agent_protocol::task_spec::NetworkNamespace;
use agent_protocol::{ContainerSpec, TaskSpec, TaskStatus};
use dns::zone::{Container, NamedPort, Protocol, Task};
use ecs::task::{ContainerLastStatus, DesiredStatus, HealthStatus, LastStatus};
use ecs::task_definition::{NetworkMode, TransportProtocol};

use crate::world::Snapshot;

/// Whether any task has the host's addresses.
pub(super) fn on_host(snapshot: &Snapshot) -> bool {
    snapshot.tasks.iter().any(|task| task.spec.network_mode == NetworkMode::Host)
}

/// `host` is what a container in host mode is reached at.
pub(super) fn tasks(snapshot: &Snapshot, host: &[IpAddr]) -> Vec<Task> {
    snapshot.tasks.iter().map(|task| named(&task.spec, &task.status, host)).collect()
}

fn named(spec: &TaskSpec, status: &TaskStatus, host: &[IpAddr]) -> Task {
    let going = status.desired_status == DesiredStatus::Stopped || status.last_status > LastStatus::Running;
    let well = status.health_status != HealthStatus::Unhealthy;
    let container = |container: &ContainerSpec| {
        let stands = status.containers.iter().find(|stands| stands.name == container.definition.name);
        let runs = stands.is_some_and(|stands| {
            stands.last_status == ContainerLastStatus::Running && stands.health_status != HealthStatus::Unhealthy
        });
        Container {
            name: container.definition.name.to_string(),
            addresses: addresses(spec, container, host),
            found: runs && well && !going,
            has_ports: !container.definition.port_mappings.is_empty(),
            named_ports: named_ports(container),
        }
    };
    Task {
        id: spec.id.to_string(),
        family: spec.family.clone(),
        running: status.last_status == LastStatus::Running,
        host_name: spec.network_interface.as_ref().map(|interface| interface.private_dns_name.clone()),
        on_host: spec.network_mode == NetworkMode::Host,
        containers: spec.containers.iter().map(container).collect(),
    }
}

fn addresses(spec: &TaskSpec, container: &ContainerSpec, host: &[IpAddr]) -> Vec<IpAddr> {
    let network = &container.network;
    match (&spec.network_interface, network.namespace) {
        (_, NetworkNamespace::Host) => host.to_vec(),
        (Some(interface), NetworkNamespace::Received { .. }) => {
            let v6 = interface.ipv6_address.map(IpAddr::V6);
            [IpAddr::V4(interface.private_ipv4_address)].into_iter().chain(v6).collect()
        }
        (None, NetworkNamespace::Received { .. }) => {
            let (v4, v6) = (network.ipv4_address.map(IpAddr::V4), network.ipv6_address.map(IpAddr::V6));
            v4.into_iter().chain(v6).collect()
        }
    }
}

/// Where the container listens, which on this host is where it is reached in every mode.
fn named_ports(container: &ContainerSpec) -> Vec<NamedPort> {
    let mappings = container.definition.port_mappings.iter();
    let named = mappings.filter_map(|mapping| {
        let protocol = match mapping.protocol.unwrap_or_default() {
            TransportProtocol::Tcp => Protocol::Tcp,
            TransportProtocol::Udp => Protocol::Udp,
        };
        Some(NamedPort { name: mapping.name.clone()?, protocol, port: mapping.container_port? })
    });
    named.collect()
}
