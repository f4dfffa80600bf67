//! Rules about what the kernel is asked for: sysctls, resource limits, devices, memory file systems, accelerators.

use std::collections::HashSet;

use super::Findings;
use super::place::Place;
use super::shape::quoted;

/// Sysctls of the IPC namespace; with `net.`, all that Docker allows a container
/// (<https://docs.docker.com/reference/cli/docker/container/run/#sysctl>).
const IPC_SYSCTLS: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

pub(super) fn check(root: &Place<'_>, findings: &mut Findings) {
    let host_network = root.text("networkMode") == Some("host");
    let host_ipc = root.text("ipcMode") == Some("host");
    for container in root.items("containerDefinitions") {
        system_controls(&container, host_network, host_ipc, findings);
        ulimits(&container, findings);
        if let Some(linux) = container.member("linuxParameters") {
            linux_parameters(&linux, findings);
        }
        resource_requirements(&container, findings);
    }
}

fn linux_parameters(linux: &Place<'_>, findings: &mut Findings) {
    // "If a maxSwap value isn't specified … this parameter is ignored", API_LinuxParameters.
    if linux.number("swappiness").is_some() && linux.number("maxSwap").is_none() {
        findings.note(linux.path_of("swappiness"), "without maxSwap nothing comes of it");
    }
    let devices = linux.items("devices");
    let tmpfs = linux.items("tmpfs");
    let absolute =
        devices.iter().map(|device| (device, "hostPath")).chain(devices.iter().map(|device| (device, "containerPath")));
    for (place, name) in absolute.chain(tmpfs.iter().map(|tmpfs| (tmpfs, "containerPath"))) {
        if place.text(name).is_some_and(|path| !path.starts_with('/')) {
            findings.error(place.path_of(name), "this path is absolute: it begins with '/'");
        }
    }
    let mut seen = HashSet::new();
    for mount in &tmpfs {
        tmpfs_mount(mount, findings);
        if let Some(path) = mount.text("containerPath")
            && !seen.insert(path)
        {
            findings.error(mount.path_of("containerPath"), format!("{path} has a tmpfs already; keep one of them"));
        }
    }
}

/// What Amazon's list allows and a new file system in memory still cannot be.
fn tmpfs_mount(mount: &Place<'_>, findings: &mut Findings) {
    let path = mount.text("containerPath").unwrap_or_default();
    let kernels = ["/proc", "/sys"].iter().any(|own| path == *own || path.starts_with(&format!("{own}/")));
    if kernels || matches!(path, "/" | "/dev") || path.split('/').any(|part| part == "..") {
        findings.refuse(mount.path_of("containerPath"), format!("there is no place for a tmpfs at {}", quoted(path)));
        findings.hint("name a directory of its own, not in /proc or /sys");
    }
    for option in mount.items("mountOptions") {
        match option.value.as_str() {
            Some(word @ ("bind" | "rbind" | "remount")) => {
                findings
                    .refuse(option.path.clone(), format!("{word} does not make a new file system, which a tmpfs is"));
            }
            Some(word @ ("mode" | "uid" | "gid" | "nr_inodes" | "nr_blocks" | "mpol")) => {
                findings.refuse(option.path.clone(), format!("{word} needs a value: {word}=…"));
            }
            Some(_) | None => {}
        }
    }
}

/// Of a container definition or of a container override.
pub(crate) fn resource_requirements(container: &Place<'_>, findings: &mut Findings) {
    for requirement in container.items("resourceRequirements") {
        resource_requirement(&requirement, findings);
    }
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ResourceRequirement.html>: a number of GPUs, or for
/// NeuronDevice `ALL`; "You must specify this parameter unless the type is GPU and you specify sharingStrategy."
fn resource_requirement(requirement: &Place<'_>, findings: &mut Findings) {
    let value = requirement.text("value").filter(|value| !value.is_empty());
    let shared = requirement.member("sharingStrategy").is_some();
    let path = requirement.path_of("value");
    match (requirement.text("type"), value) {
        (None, _) => {}
        (Some("GPU"), Some(_)) if shared => {
            findings.error(path, "value and sharingStrategy exclude each other; keep one of them");
        }
        (Some("GPU"), None) if shared => {}
        (Some(_), None) => findings.error(path, "missing; it says how many"),
        (Some("GPU"), Some(value)) if value != "ALL" && !value.parse::<u16>().is_ok_and(|count| count > 0) => {
            findings.error(path, format!("{} is no number of GPUs", quoted(value)));
            findings.hint("write \"1\", or \"ALL\"");
        }
        (Some("NeuronDevice"), Some(value)) if value != "ALL" => {
            findings.error(path, "of Neuron devices a container gets ALL");
        }
        (Some(kind @ ("NeuronDevice" | "InferenceAccelerator")), Some(_)) => {
            findings
                .refuse(requirement.path_of("type"), format!("{kind} is Amazon's own hardware: no host here has it"));
            findings.hint("remove it; GPU is what can be given to a container");
        }
        (Some(_), Some(_)) => {}
    }
    if shared && requirement.text("type").is_some_and(|kind| kind != "GPU") {
        findings.error(requirement.path_of("sharingStrategy"), "only GPUs are shared");
    }
}

/// "For tasks that use the host network mode, the network namespace systemControls aren't supported", "For tasks that use
/// the host IPC mode, IPC namespace systemControls aren't supported"
/// (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_SystemControl.html>).
fn system_controls(container: &Place<'_>, host_network: bool, host_ipc: bool, findings: &mut Findings) {
    let mut seen = HashSet::new();
    for control in container.items("systemControls") {
        let Some(namespace) = control.text("namespace") else { continue };
        let path = control.path_of("namespace");
        if !is_namespaced(namespace) {
            findings.error(path, format!("{} is not a sysctl that each container has for itself", quoted(namespace)));
            findings.hint(format!("allowed are net.*, fs.mqueue.* and {}", IPC_SYSCTLS.join(", ")));
        } else if namespace.starts_with("net.") && host_network {
            findings.error(path, format!("{namespace} would change the host: networkMode is host"));
            findings.hint("remove it, or use networkMode bridge");
        } else if !namespace.starts_with("net.") && host_ipc {
            findings.error(path, format!("{namespace} would change the host: ipcMode is host"));
            findings.hint("remove it, or leave ipcMode out");
        } else if !seen.insert(namespace) {
            findings.error(path, format!("{namespace} is given twice; keep one of them"));
        }
    }
}

/// The name becomes a path below /proc/sys, so its grammar is narrow.
fn is_namespaced(namespace: &str) -> bool {
    let part = |part: &str| {
        let grammar = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        !part.is_empty() && grammar
    };
    let prefixed = ["net.", "fs.mqueue."].iter().any(|prefix| namespace.starts_with(prefix));
    IPC_SYSCTLS.contains(&namespace) || (prefixed && namespace.split('.').all(part))
}

fn ulimits(container: &Place<'_>, findings: &mut Findings) {
    const UNLIMITED: i64 = -1;
    let mut seen = HashSet::new();
    for limit in container.items("ulimits") {
        let name = limit.text("name").unwrap_or_default();
        if !name.is_empty() && !seen.insert(name) {
            findings.error(limit.path_of("name"), format!("{name} is limited twice; keep one of them"));
        }
        if let (Some(soft), Some(hard)) = (limit.number("softLimit"), limit.number("hardLimit"))
            && hard != UNLIMITED
            && (soft == UNLIMITED || soft > hard)
        {
            findings.error(limit.path_of("softLimit"), format!("softLimit {soft} is above hardLimit {hard}"));
        }
    }
}
