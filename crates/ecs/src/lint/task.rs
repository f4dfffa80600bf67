//! Rules about the task as a whole: network mode, platform, compatibilities, tags, number of containers.

use std::collections::HashSet;

use super::place::Place;
use super::{Findings, HostFacts, Severity};
use crate::grammar;
use crate::input::Origin;

/// "Maximum number of containers in a task definition: 10", Amazon ECS service quotas.
const MAX_CONTAINERS: usize = 10;
/// "Maximum number of tags per resource - 50", API_RegisterTaskDefinition.
const MAX_TAGS: usize = 50;

pub(super) fn check(root: &Place<'_>, host: &HostFacts, origin: Origin, findings: &mut Findings) {
    number_of_containers(root, findings);
    if root.text("networkMode") == Some("awsvpc") {
        findings.error("networkMode", "awsvpc comes with a later version of coracle");
        findings.hint("use bridge or host here");
    }
    platform(root, host, findings);
    compatibilities(root, findings);
    tags(root, origin, findings);
    if let Some(trusted) = root.member("trustedExecutionConfiguration")
        && let Some(mode @ ("ISOLATED_SANDBOX" | "CONFIDENTIAL_SANDBOX")) = trusted.text("isolationMode")
    {
        findings.error(trusted.path_of("isolationMode"), format!("{mode} needs Amazon's Managed Instances"));
        findings.hint("use SHARED here");
    }
}

fn number_of_containers(root: &Place<'_>, findings: &mut Findings) {
    match root.member("containerDefinitions").and_then(|list| list.value.as_array()).map(Vec::len) {
        Some(0) => findings.error("containerDefinitions", "empty; a task has at least one container"),
        Some(count) if count > MAX_CONTAINERS => {
            findings.error("containerDefinitions", format!("{count} containers; a task has at most {MAX_CONTAINERS}"));
        }
        Some(_) | None => {}
    }
}

fn platform(root: &Place<'_>, host: &HostFacts, findings: &mut Findings) {
    let Some(platform) = root.member("runtimePlatform") else { return };
    if let Some(architecture) = platform.text("cpuArchitecture")
        && architecture != host.cpu_architecture.as_str()
    {
        let message = format!("the task is for {architecture}, this host is {}", host.cpu_architecture.as_str());
        findings.error(platform.path_of("cpuArchitecture"), message);
        findings.hint(format!("use an image for {} and say so here", host.cpu_architecture.as_str()));
    }
    if let Some(system) = platform.text("operatingSystemFamily")
        && system != "LINUX"
    {
        findings.error(platform.path_of("operatingSystemFamily"), "Windows containers do not run on Linux");
        findings.hint("use an image for LINUX and say so here");
    }
}

fn compatibilities(root: &Place<'_>, findings: &mut Findings) {
    let given: Vec<&str> =
        root.items("requiresCompatibilities").iter().filter_map(|item| item.value.as_str()).collect();
    if !given.is_empty() && !given.iter().any(|name| matches!(*name, "EC2" | "EXTERNAL")) {
        let message = format!("{}: runs here as EXTERNAL, on this host", given.join(", "));
        findings.add(Severity::Mapped, "requiresCompatibilities", message);
    }
}

fn tags(root: &Place<'_>, origin: Origin, findings: &mut Findings) {
    let tags = root.items("tags");
    let mut seen = HashSet::new();
    let mut own = 0;
    for tag in &tags {
        let Some(key) = tag.text("key") else { continue };
        let amazons = grammar::is_amazons_tag(key);
        own += usize::from(!amazons);
        if amazons && origin == Origin::Input {
            findings.error(tag.path_of("key"), "\"aws:\" is a prefix that only Amazon's own tags have");
        }
        if !seen.insert(key) {
            findings.error(tag.path_of("key"), format!("the tag {key:?} is given twice; keep one of them"));
        }
    }
    if own > MAX_TAGS {
        findings.error("tags", format!("{own} tags; a task definition has at most {MAX_TAGS}"));
    }
}
