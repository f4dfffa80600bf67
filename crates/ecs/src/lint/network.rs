//! Rules about what only some network modes have: links, names, name servers, hosts.

use super::Findings;
use super::place::Place;
use super::shape::known;
use crate::link::Link;

pub(super) fn check(root: &Place<'_>, findings: &mut Findings) {
    let mode = root.text("networkMode").unwrap_or("bridge");
    let containers = root.items("containerDefinitions");
    let names: Vec<&str> = containers.iter().filter_map(|container| container.text("name")).collect();
    for container in &containers {
        if mode == "bridge" {
            links(container, &names, findings);
        } else if !container.items("links").is_empty() {
            // Amazon's words are known for awsvpc.
            let words = format!("Links are not supported when networkMode={mode}.");
            findings.client_exception(container.path_of("links"), words);
            findings.hint("links are for networkMode bridge");
        }
        if mode == "awsvpc" {
            not_in_awsvpc(container, findings);
        }
        if container.flag("disableNetworking") == Some(true) && !container.items("links").is_empty() {
            findings.error(container.path_of("links"), "disableNetworking leaves nothing to link");
            findings.hint("remove one of the two");
        }
    }
}

/// "the hostname parameter is not supported if you're using the awsvpc network mode", and the same of `extraHosts`, in
/// API_ContainerDefinition. Name servers are the network interface's there. Amazon's words are known for `hostname`.
fn not_in_awsvpc(container: &Place<'_>, findings: &mut Findings) {
    for name in ["hostname", "dnsServers", "dnsSearchDomains", "extraHosts"] {
        if container.member(name).is_some() {
            let words = format!("{name} is not supported on container when networkMode=awsvpc.");
            findings.client_exception(container.path_of(name), words);
        }
    }
}

fn links(container: &Place<'_>, names: &[&str], findings: &mut Findings) {
    for place in container.items("links") {
        let Some(text) = place.value.as_str() else { continue };
        match Link::parse(text) {
            Err(error) => findings.error(&place.path, error.to_string()),
            Ok(link) if !names.contains(&link.container) => {
                findings.error(&place.path, format!("no container is named {:?}", link.container));
                findings.hint(known("containers", names));
            }
            Ok(_) => {}
        }
    }
}
