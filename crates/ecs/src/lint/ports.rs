//! Rules about port mappings: each by itself in the task's network mode, then against each other.

use super::Findings;
use super::place::Place;
use crate::json;
use crate::port::{self, Exposure, HostPort, MAX_RANGES_PER_CONTAINER, PortError};
use crate::task_definition::{NetworkMode, PortMapping};

/// Ports that a container instance of Amazon's keeps: ssh, Docker, the agent. API_PortMapping, `hostPort`.
const RESERVED_BY_AMAZON: [u16; 6] = [22, 2375, 2376, 51678, 51679, 51680];

/// One mapping that can be carried out, and where it stands.
struct Mapped<'a> {
    container: usize,
    place: Place<'a>,
    exposure: Exposure,
}

pub(super) fn check(root: &Place<'_>, findings: &mut Findings) {
    let mode = match root.text("networkMode") {
        None | Some("bridge") => NetworkMode::Bridge,
        Some("host") => NetworkMode::Host,
        Some("none") => NetworkMode::None,
        // What is no mode has a finding of its own.
        Some(_) => NetworkMode::Awsvpc,
    };
    let mut mapped = Vec::new();
    for (index, container) in root.items("containerDefinitions").iter().enumerate() {
        let mappings = container.items("portMappings");
        if !mappings.is_empty() && mode != NetworkMode::None && container.flag("disableNetworking") == Some(true) {
            findings.error(container.path_of("portMappings"), "disableNetworking leaves nothing to publish");
            findings.hint("remove one of the two");
        }
        let ranges = mappings.iter().filter(|mapping| mapping.text("containerPortRange").is_some()).count();
        if ranges > MAX_RANGES_PER_CONTAINER {
            let message = format!("{ranges} port ranges; a container has at most {MAX_RANGES_PER_CONTAINER}");
            findings.error(container.path_of("portMappings"), message);
        }
        for place in mappings {
            if let Some(exposure) = exposure(container, &place, mode, findings) {
                mapped.push(Mapped { container: index, place, exposure });
            }
        }
    }
    names(&mapped, findings);
    overlaps(&mapped, findings);
}

fn exposure(container: &Place<'_>, place: &Place<'_>, mode: NetworkMode, findings: &mut Findings) -> Option<Exposure> {
    let malformed = ["containerPort", "hostPort", "containerPortRange", "protocol"];
    if malformed.iter().any(|name| findings.is_about(&place.path_of(name))) {
        return None;
    }
    let mapping: PortMapping = json::typed(place.value).ok()?;
    match port::exposure(&mapping, mode) {
        Ok(exposure) => {
            if let HostPort::Static(host_port) = exposure.host
                && RESERVED_BY_AMAZON.contains(&host_port)
            {
                let message = format!("container instances of Amazon ECS keep port {host_port} for themselves");
                findings.note(place.path_of("hostPort"), message);
            }
            Some(exposure)
        }
        Err(error) => {
            let member = match error {
                PortError::NotARange { .. } | PortError::RangeInMode { .. } => place.path_of("containerPortRange"),
                PortError::ZeroPort => place.path_of("containerPort"),
                PortError::HostPortOfRange | PortError::DifferentPort { .. } => place.path_of("hostPort"),
                PortError::NotOnePort | PortError::NoNetwork => place.path.clone(),
            };
            findings.error(member, error.to_string());
            match error {
                PortError::DifferentPort { .. } => findings.amazon_says(format!(
                    "When networkMode={mode}, the host ports and container ports in port mappings must match."
                )),
                PortError::NotOnePort | PortError::ZeroPort => {
                    let name = container.text("name").unwrap_or_default();
                    findings.amazon_says(format!("Invalid 'containerPort' setting for container '{name}'."));
                }
                PortError::NotARange { .. }
                | PortError::HostPortOfRange
                | PortError::RangeInMode { .. }
                | PortError::NoNetwork => {}
            }
            None
        }
    }
}

/// A port mapping's name means one mapping of the task to whoever refers to it.
fn names(mapped: &[Mapped<'_>], findings: &mut Findings) {
    let mut seen = std::collections::HashSet::new();
    for Mapped { place, .. } in mapped {
        if let Some(name) = place.text("name")
            && !seen.insert(name)
        {
            findings
                .error(place.path_of("name"), format!("another port mapping of the task is named {name:?} as well"));
        }
    }
}

/// "A port can only be included in one port mapping per container. You cannot specify overlapping port ranges."
/// (API_PortMapping, `containerPortRange`); and one host port takes one mapping of the whole task.
fn overlaps(mapped: &[Mapped<'_>], findings: &mut Findings) {
    for (index, later) in mapped.iter().enumerate() {
        let same_protocol = |earlier: &&Mapped<'_>| earlier.exposure.protocol == later.exposure.protocol;
        for earlier in mapped[..index].iter().filter(same_protocol) {
            let protocol = later.exposure.protocol;
            if let (HostPort::Static(ours), HostPort::Static(theirs)) = (later.exposure.host, earlier.exposure.host)
                && ours == theirs
            {
                let member = if later.place.number("hostPort").is_some() { "hostPort" } else { "containerPort" };
                let message = format!("host port {ours}/{protocol} is taken by {}", earlier.place.path);
                findings.error(later.place.path_of(member), message);
                break;
            }
            let range = later.exposure.container.count() > 1 || earlier.exposure.container.count() > 1;
            let same_container = later.container == earlier.container;
            if range && same_container && later.exposure.container.overlaps(earlier.exposure.container) {
                let (ours, theirs) = (later.exposure.container, earlier.exposure.container);
                let message = format!("{ours}/{protocol} overlaps {theirs}/{protocol} of {}", earlier.place.path);
                findings.error(&later.place.path, message);
                break;
            }
        }
    }
}
