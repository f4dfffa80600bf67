//! `none`: loopback and nothing else.

use super::{NetworkPlan, Place, Refusal, Request, container, links, own_hostname, refuse};

pub(super) fn plan(request: &Request) -> Result<NetworkPlan, Refusal> {
    let containers = request.containers.iter().map(|asked| {
        if !asked.port_mappings.is_empty() {
            return Err(refuse(
                asked,
                "portMappings",
                "with networkMode none there is nothing to map: leave them out".into(),
            ));
        }
        links::none(asked)?;
        container(asked, Place::Loopback, Some(own_hostname(asked)))
    });
    Ok(NetworkPlan { containers: containers.collect::<Result<_, _>>()?, interface: None })
}
