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

/// "a maximum of 10 constraints for each task (this limit includes constraints in the task definition and those
/// specified at runtime)", API_RegisterTaskDefinition.
const MAX_PLACEMENT_CONSTRAINTS: usize = 10;

pub(super) fn check(root: &Place<'_>, origin: Origin, findings: &mut Findings) {
    number_of_containers(root, findings);
    placement(root, findings);
    proxy(root, findings);
    accelerators(root, findings);
    tags(root, origin, findings);
}

/// What Amazon registers and this host does not run, or runs as something else.
pub(super) fn check_host(root: &Place<'_>, host: &HostFacts, findings: &mut Findings) {
    external(root, findings);
    platform(root, host, findings);
    compatibilities(root, findings);
    if let Some(trusted) = root.member("trustedExecutionConfiguration")
        && let Some(mode @ ("ISOLATED_SANDBOX" | "CONFIDENTIAL_SANDBOX")) = trusted.text("isolationMode")
    {
        findings.refuse(trusted.path_of("isolationMode"), format!("{mode} needs Amazon's Managed Instances"));
        findings.hint("use SHARED here");
    }
}

fn number_of_containers(root: &Place<'_>, findings: &mut Findings) {
    match root.member("containerDefinitions").and_then(|list| list.value.as_array()).map(Vec::len) {
        Some(0) => {
            findings.client_exception("containerDefinitions", "Container list cannot be empty.");
            findings.hint("a task has at least one container");
        }
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
        findings.refuse(platform.path_of("cpuArchitecture"), message);
        findings.hint(format!("use an image for {} and say so here", host.cpu_architecture.as_str()));
    }
    if let Some(system) = platform.text("operatingSystemFamily")
        && system != "LINUX"
    {
        findings.refuse(platform.path_of("operatingSystemFamily"), "Windows containers do not run on Linux");
        findings.hint("use an image for LINUX and say so here");
    }
}

fn compatibilities(root: &Place<'_>, findings: &mut Findings) {
    let given: Vec<&str> =
        root.items("requiresCompatibilities").iter().filter_map(|item| item.value.as_str()).collect();
    if !given.is_empty() && !given.iter().any(|name| matches!(*name, "EC2" | "FARGATE" | "EXTERNAL")) {
        let message = format!("{}: runs here as EXTERNAL, on this host", given.join(", "));
        findings.add(Severity::Mapped, "requiresCompatibilities", message);
    }
}

/// "The awsvpc network mode isn't supported" for EXTERNAL
/// (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-anywhere.html>), of which a host of ours is one.
fn external(root: &Place<'_>, findings: &mut Findings) {
    let names = root.items("requiresCompatibilities");
    if names.iter().any(|name| name.value.as_str() == Some("EXTERNAL")) && root.text("networkMode") == Some("awsvpc") {
        let message = "Amazon's EXTERNAL instances have no network mode awsvpc; this host has";
        findings.note("networkMode", message);
    }
}

fn placement(root: &Place<'_>, findings: &mut Findings) {
    let constraints = root.items("placementConstraints");
    if constraints.len() > MAX_PLACEMENT_CONSTRAINTS {
        let message = format!("{} constraints; a task has at most {MAX_PLACEMENT_CONSTRAINTS}", constraints.len());
        findings.error("placementConstraints", message);
    }
    for constraint in constraints {
        let described = constraint.text("expression").is_some_and(|text| !text.is_empty());
        if constraint.text("type") == Some("memberOf") && !described {
            findings.error(constraint.path_of("expression"), "missing; memberOf says which instances by an expression");
        }
    }
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ProxyConfiguration.html>
fn proxy(root: &Place<'_>, findings: &mut Findings) {
    let Some(proxy) = root.member("proxyConfiguration") else { return };
    if root.text("networkMode") != Some("awsvpc") {
        findings.error("proxyConfiguration", "a proxy works in networkMode awsvpc only");
    }
    if let Some(name) = proxy.text("containerName")
        && !root.items("containerDefinitions").iter().any(|container| container.text("name") == Some(name))
    {
        findings.error(proxy.path_of("containerName"), format!("no container is named {name:?}"));
    }
}

/// A requirement of the type InferenceAccelerator names one of the task's accelerators: API_ResourceRequirement.
fn accelerators(root: &Place<'_>, findings: &mut Findings) {
    let accelerators = root.items("inferenceAccelerators");
    let mut names = HashSet::new();
    for accelerator in &accelerators {
        if let Some(name) = accelerator.text("deviceName")
            && !names.insert(name)
        {
            findings.error(accelerator.path_of("deviceName"), format!("another accelerator is named {name:?} as well"));
        }
    }
    for container in root.items("containerDefinitions") {
        for requirement in container.items("resourceRequirements") {
            if requirement.text("type") == Some("InferenceAccelerator")
                && let Some(name) = requirement.text("value")
                && !names.contains(name)
            {
                let message = format!("no member of inferenceAccelerators has the deviceName {name:?}");
                findings.error(requirement.path_of("value"), message);
            }
        }
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
