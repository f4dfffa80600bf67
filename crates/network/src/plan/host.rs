//! `host`: the host's own stack, its hostname and its files. Ports are opened by the containers themselves.

use super::{
    ContainerRequest, NetworkPlan, Place, Ports, Refusal, Request, container, container_ports, links, own_hostname,
    refuse,
};

pub(super) fn plan(request: &Request) -> Result<NetworkPlan, Refusal> {
    let containers = request.containers.iter().map(|asked| {
        links::none(asked)?;
        if asked.disable_networking {
            container(asked, Place::Loopback, Some(own_hostname(asked)))
        } else {
            container(asked, Place::Host { ports: ports(asked)? }, asked.hostname.clone())
        }
    });
    Ok(NetworkPlan { containers: containers.collect::<Result<_, _>>()?, interface: None })
}

fn ports(asked: &ContainerRequest) -> Result<Vec<Ports>, Refusal> {
    let each = asked.port_mappings.iter().enumerate().map(|(at, mapping)| {
        let ports = container_ports(asked, at, mapping)?;
        match mapping.host_port {
            None | Some(0) => Ok(ports),
            Some(port) if port == ports.first => Ok(ports),
            Some(port) => {
                let wanted = format!(
                    "in host mode it is the containerPort, {}, or left out; {port} is another port",
                    ports.first
                );
                Err(refuse(asked, &format!("portMappings[{at}].hostPort"), wanted))
            }
        }
    });
    each.collect()
}
