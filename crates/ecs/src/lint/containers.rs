//! Rules about the containers: names, essential, memory, environment, privileges.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use super::place::Place;
use super::{Findings, HostFacts};
use crate::size;

pub(super) fn check(root: &Place<'_>, findings: &mut Findings) {
    let containers = root.items("containerDefinitions");
    unique_names(&containers, findings);
    if !containers.is_empty() && containers.iter().all(|container| container.flag("essential") == Some(false)) {
        findings.error("containerDefinitions", "no container is essential");
        findings.hint("leave `essential` out of the one whose end is the task's end");
    }
    let task_memory = root.text("memory").and_then(|memory| size::memory_mib(memory).ok());
    let task_has_memory = task_memory.is_some() || findings.is_about("memory");
    for container in &containers {
        memory(container, task_has_memory, task_memory, findings);
        environment(container, findings);
        credential_specs(container, findings);
    }
    sums(root, &containers, task_memory, findings);
}

pub(super) fn check_host(root: &Place<'_>, host: &HostFacts, findings: &mut Findings) {
    for container in root.items("containerDefinitions") {
        privileged(&container, host, findings);
        for option in container.items("dockerSecurityOptions") {
            if option.value.as_str().is_some_and(|text| text.starts_with("credentialspec")) {
                findings.refuse(&option.path, "Active Directory credentials are not fetched");
                findings.hint("remove this option");
            }
        }
    }
}

/// "The maximum number of ARNs is 1", API_ContainerDefinition.
fn credential_specs(container: &Place<'_>, findings: &mut Findings) {
    let count = container.items("credentialSpecs").len();
    if count > 1 {
        findings.error(container.path_of("credentialSpecs"), format!("{count} credential specs; a container has one"));
    }
}

fn unique_names(containers: &[Place<'_>], findings: &mut Findings) {
    let mut first: HashMap<&str, &Place<'_>> = HashMap::new();
    for container in containers {
        let Some(name) = container.text("name") else { continue };
        match first.get(name) {
            Some(earlier) => {
                findings.error(container.path_of("name"), format!("{name:?} is the name of {} as well", earlier.path));
                findings.hint("names of containers are unique in a task");
            }
            None => drop(first.insert(name, container)),
        }
    }
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html>, `memory`: "you must specify
/// either a task-level memory value or a container-level memory value. If you specify both a container-level memory and
/// memoryReservation value, memory must be greater than memoryReservation."
fn memory(container: &Place<'_>, task_has_memory: bool, task: Option<u64>, findings: &mut Findings) {
    let size = |name| container.number(name).and_then(|mib| u64::try_from(mib).ok());
    let (hard, soft) = (size("memory"), size("memoryReservation"));
    let name = container.text("name").unwrap_or_default();
    let malformed =
        findings.is_about(&container.path_of("memory")) || findings.is_about(&container.path_of("memoryReservation"));
    if hard.is_none() && soft.is_none() && !task_has_memory && !malformed {
        let message = format!(
            "Invalid setting for container '{name}'. At least one of 'memory' or 'memoryReservation' must be specified."
        );
        findings.client_exception(&container.path, message);
        findings.hint("give it \"memory\" in MiB, or give the whole task \"memory\"");
    }
    if let (Some(hard), Some(soft)) = (hard, soft) {
        let path = container.path_of("memoryReservation");
        match soft.cmp(&hard) {
            Ordering::Less => {}
            // Against its own documentation, Amazon registers these, and many people have them.
            Ordering::Equal => findings.note(path, "not below memory, so it is a soft limit that nothing ever reaches"),
            Ordering::Greater => {
                findings.error(path, format!("{soft} MiB; memory ({hard} MiB) must be greater than memoryReservation"));
            }
        }
    }
    for (member, mib) in [("memory", hard), ("memoryReservation", soft)] {
        // The text of Amazon's agent, in agent/api/task/task_linux.go: registration lets it pass.
        if let (Some(mib), Some(task)) = (mib, task)
            && mib > task
        {
            let message = format!(
                "task memory spec builder: container memory limit({mib}) greater than task memory limit({task})"
            );
            findings.refuse(container.path_of(member), message);
        }
    }
}

fn environment(container: &Place<'_>, findings: &mut Findings) {
    let mut seen = HashSet::new();
    for variable in container.items("environment") {
        if let Some(name) = variable.text("name")
            && !seen.insert(name)
        {
            findings.note(variable.path_of("name"), format!("{name} is set more than once; the last one counts"));
        }
    }
}

fn privileged(container: &Place<'_>, host: &HostFacts, findings: &mut Findings) {
    if container.flag("privileged") != Some(true) {
        return;
    }
    let path = container.path_of("privileged");
    if host.privileged_disabled {
        findings.refuse(path, "privileged containers are disabled on this host");
        findings.hint("remove it, and add the capabilities that are needed to linuxParameters.capabilities.add");
    } else {
        findings.note(path, "the container has all capabilities and devices of the host, as root of the host has");
    }
}

/// What the containers are promised together, beside what the task has.
fn sums(root: &Place<'_>, containers: &[Place<'_>], task_memory: Option<u64>, findings: &mut Findings) {
    let number =
        |container: &Place<'_>, name: &str| container.number(name).and_then(|number| u64::try_from(number).ok());
    let reserved =
        |container: &Place<'_>| number(container, "memoryReservation").or_else(|| number(container, "memory"));
    let memory: u64 = containers.iter().filter_map(reserved).sum();
    if let Some(task) = task_memory
        && memory > task
    {
        findings
            .note("memory", format!("the containers reserve {memory} MiB together, and the task ends at {task} MiB"));
    }
    let cpu: u64 = containers.iter().filter_map(|container| number(container, "cpu")).sum();
    if let Some(task) = root.text("cpu").and_then(|cpu| size::cpu_units(cpu).ok())
        && cpu > u64::from(task)
    {
        let message =
            format!("the containers ask for {cpu} CPU units together, and the task never gets more than {task}");
        findings.note("cpu", message);
    }
}
