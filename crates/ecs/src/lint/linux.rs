//! Rules about what the kernel is asked for: sysctls and resource limits.

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
    let mode = root.text("networkMode").unwrap_or("bridge");
    for container in root.items("containerDefinitions") {
        system_controls(&container, mode, findings);
        ulimits(&container, findings);
    }
}

/// "For tasks that use the host network mode, the network namespace systemControls aren't supported."
/// (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_SystemControl.html>)
fn system_controls(container: &Place<'_>, mode: &str, findings: &mut Findings) {
    let mut seen = HashSet::new();
    for control in container.items("systemControls") {
        let Some(namespace) = control.text("namespace") else { continue };
        let path = control.path_of("namespace");
        if !is_namespaced(namespace) {
            findings.error(path, format!("{} is not a sysctl that each container has for itself", quoted(namespace)));
            findings.hint(format!("allowed are net.*, fs.mqueue.* and {}", IPC_SYSCTLS.join(", ")));
        } else if namespace.starts_with("net.") && mode == "host" {
            findings.error(path, format!("{namespace} would change the host: networkMode is host"));
            findings.hint("remove it, or use networkMode bridge");
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
