//! `bridge`, the default on EC2: a namespace for each container with a link to the bridge, ports published by
//! number or dynamically.

use ecs::ContainerName;
use ecs::task_definition::TransportProtocol;

use super::{
    ContainerRequest, HostPort, MAX_PUBLISHED_PORTS, NetworkPlan, Place, Publish, Refusal, Request, container,
    container_ports, links, own_hostname,
};

pub(super) fn plan(request: &Request) -> Result<NetworkPlan, Refusal> {
    let containers: Vec<_> = request
        .containers
        .iter()
        .map(|asked| {
            // With networking disabled there is no way in, so its mappings are without effect, as in Docker.
            let place =
                if asked.disable_networking { Place::Loopback } else { Place::Bridge { publish: publish(asked)? } };
            container(asked, place, Some(own_hostname(asked)))
        })
        .collect::<Result<_, _>>()?;
    let mut plan = NetworkPlan { containers, interface: None };
    check_ports(&plan)?;
    links::add(request, &mut plan)?;
    Ok(plan)
}

fn publish(asked: &ContainerRequest) -> Result<Vec<Publish>, Refusal> {
    let each = asked.port_mappings.iter().enumerate().map(|(at, mapping)| {
        let host = match mapping.host_port {
            None | Some(0) => HostPort::Dynamic,
            Some(port) => HostPort::Static(port),
        };
        Ok(Publish { container: container_ports(asked, at, mapping)?, host })
    });
    each.collect()
}

fn check_ports(plan: &NetworkPlan) -> Result<(), Refusal> {
    let mut asked = 0;
    let mut taken: Vec<(TransportProtocol, u16, &ContainerName)> = Vec::new();
    for container in &plan.containers {
        let Place::Bridge { publish } = &container.place else { continue };
        for one in publish {
            asked += usize::from(one.container.count());
            let HostPort::Static(port) = one.host else { continue };
            let protocol = one.container.protocol;
            if let Some((.., first)) = taken.iter().find(|(p, number, _)| (*p, *number) == (protocol, port)) {
                let (first, second) = ((*first).clone(), container.name.clone());
                return Err(Refusal::PublishedTwice { protocol: protocol_name(protocol), port, first, second });
            }
            taken.push((protocol, port, &container.name));
        }
    }
    if asked > MAX_PUBLISHED_PORTS { Err(Refusal::TooManyPorts { asked }) } else { Ok(()) }
}

pub(crate) fn protocol_name(protocol: TransportProtocol) -> &'static str {
    match protocol {
        TransportProtocol::Tcp => "tcp",
        TransportProtocol::Udp => "udp",
    }
}
