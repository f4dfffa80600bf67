//! What Amazon registers for FARGATE only as Fargate has it: sizes, network mode, and much that it does not have.
//!
//! A definition that requires FARGATE runs here as any other does, but it is one that Amazon would register. Sources:
//! <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html> and the notes about Fargate
//! in API_RegisterTaskDefinition, API_ContainerDefinition and API_LinuxParameters. Where Amazon's words are known for one
//! member of a kind ("… do not support sourcePath"), the others have the same.

use super::Findings;
use super::place::Place;
use crate::size;

const GB: u64 = size::MIB_PER_GB as u64;
/// Task size: CPU units, and memory in MiB from, to, in steps of.
const SIZES: [(u32, u64, u64, u64); 7] = [
    (256, GB / 2, 2 * GB, GB / 2),
    (512, GB, 4 * GB, GB),
    (1024, 2 * GB, 8 * GB, GB),
    (2048, 4 * GB, 16 * GB, GB),
    (4096, 8 * GB, 30 * GB, GB),
    (8192, 16 * GB, 60 * GB, 4 * GB),
    (16_384, 32 * GB, 120 * GB, 8 * GB),
];
/// "The valid values for Fargate are 2-120 seconds", `startTimeout` and `stopTimeout` of API_ContainerDefinition.
const TIMEOUTS_S: (i64, i64) = (2, 120);
/// "For tasks on AWS Fargate, the supported log drivers are awslogs, splunk, and awsfirelens", API_LogConfiguration.
const LOG_DRIVERS: [&str; 3] = ["awslogs", "splunk", "awsfirelens"];
const CONTAINER_LACKS: [&str; 4] = ["privileged", "links", "dockerSecurityOptions", "credentialSpecs"];
const LINUX_LACKS: [&str; 4] = ["devices", "sharedMemorySize", "maxSwap", "swappiness"];

pub(super) fn check(root: &Place<'_>, findings: &mut Findings) {
    if !root.items("requiresCompatibilities").iter().any(|name| name.value.as_str() == Some("FARGATE")) {
        return;
    }
    if root.text("networkMode") != Some("awsvpc") && !findings.is_about("networkMode") {
        findings.client_exception("networkMode", "Fargate only supports network mode ‘awsvpc’.");
    }
    task_size(root, findings);
    namespaces(root, findings);
    if !root.items("placementConstraints").is_empty() {
        lacks("placementConstraints".to_owned(), "placementConstraints", findings);
    }
    for volume in root.items("volumes") {
        if let Some(host) = volume.member("host").filter(|host| host.text("sourcePath").is_some()) {
            lacks(host.path_of("sourcePath"), "sourcePath", findings);
        }
        if volume.member("dockerVolumeConfiguration").is_some() {
            lacks(volume.path_of("dockerVolumeConfiguration"), "dockerVolumeConfiguration", findings);
        }
    }
    let containers = root.items("containerDefinitions");
    for container in &containers {
        of_container(container, findings);
        timeouts(container, findings);
        logs(root, container, findings);
    }
}

fn lacks(path: String, name: &str, findings: &mut Findings) {
    findings.client_exception(path, format!("Fargate compatible task definitions do not support {name}"));
}

fn task_size(root: &Place<'_>, findings: &mut Findings) {
    for name in ["cpu", "memory"] {
        if root.text(name).is_none() && !findings.is_about(name) {
            let words = format!("Fargate requires that '{name}' be defined at the task level.");
            findings.client_exception(name, words);
        }
    }
    let cpu = root.text("cpu").and_then(|cpu| size::cpu_units(cpu).ok());
    let memory = root.text("memory").and_then(|memory| size::memory_mib(memory).ok());
    let (Some(cpu), Some(memory)) = (cpu, memory) else { return };
    let fits = |(units, least, most, step): &(u32, u64, u64, u64)| {
        *units == cpu && (*least..=*most).contains(&memory) && (memory - least).is_multiple_of(*step)
    };
    if !SIZES.iter().any(fits) {
        let words = format!(
            "No Fargate configuration exists for given values: {cpu} CPU, {memory} memory. See the Amazon ECS \
             documentation for the valid values."
        );
        findings.client_exception("memory", words);
        findings.hint(match SIZES.iter().find(|(units, ..)| *units == cpu) {
            Some((_, least, most, step)) => format!("{cpu} CPU units go with {least} to {most} MiB in steps of {step}"),
            None => "cpu is one of 256, 512, 1024, 2048, 4096, 8192 and 16384".to_owned(),
        });
    }
    let containers = root.items("containerDefinitions");
    let sum: i64 = containers.iter().filter_map(|container| container.number("cpu")).sum();
    if sum > i64::from(cpu) {
        let words = "The sum of all container 'cpu' values cannot be greater than the value of the task 'cpu'.";
        findings.client_exception("cpu", words);
    }
}

/// "On Fargate for Linux containers, the only valid value is task" of `pidMode`; `ipcMode` is "not supported for …
/// tasks run on Fargate" (API_RegisterTaskDefinition).
fn namespaces(root: &Place<'_>, findings: &mut Findings) {
    if root.text("pidMode") == Some("host") {
        findings.error("pidMode", "task is the only process namespace mode of Fargate");
    }
    if root.text("ipcMode").is_some() {
        findings.client_exception("ipcMode", "Tasks using the Fargate launch type do not support ipcMode.");
    }
}

fn of_container(container: &Place<'_>, findings: &mut Findings) {
    for name in CONTAINER_LACKS {
        let asked = match container.member(name).map(|member| member.value) {
            Some(serde_json::Value::Bool(flag)) => *flag,
            given => given.is_some(),
        };
        if asked {
            lacks(container.path_of(name), name, findings);
        }
    }
    for requirement in container.items("resourceRequirements") {
        if let Some(kind) = requirement.text("type") {
            lacks(requirement.path_of("type"), kind, findings);
        }
    }
    let Some(linux) = container.member("linuxParameters") else { return };
    for name in LINUX_LACKS {
        if linux.member(name).is_some_and(|member| member.value.as_array().is_none_or(|items| !items.is_empty())) {
            lacks(linux.path_of(name), name, findings);
        }
    }
    // "Tasks launched on Fargate only support adding the SYS_PTRACE kernel capability", API_KernelCapabilities.
    let added = linux.member("capabilities").map(|capabilities| capabilities.items("add")).unwrap_or_default();
    for capability in added {
        if capability.value.as_str().is_some_and(|name| name != "SYS_PTRACE") {
            findings.error(&capability.path, "SYS_PTRACE is the only capability that Fargate adds");
        }
    }
}

fn timeouts(container: &Place<'_>, findings: &mut Findings) {
    let (least, most) = TIMEOUTS_S;
    for name in ["startTimeout", "stopTimeout"] {
        if let Some(seconds) = container.number(name)
            && seconds != 0
            && !(least..=most).contains(&seconds)
        {
            let message = format!("{seconds} s; Fargate has {least} to {most} s");
            findings.error(container.path_of(name), message);
        }
    }
}

fn logs(root: &Place<'_>, container: &Place<'_>, findings: &mut Findings) {
    let Some(log) = container.member("logConfiguration") else { return };
    let driver = log.text("logDriver").unwrap_or_default();
    if !driver.is_empty() && !LOG_DRIVERS.contains(&driver) {
        let message = format!("Fargate has the log drivers {}, and not {driver}", LOG_DRIVERS.join(", "));
        findings.error(log.path_of("logDriver"), message);
    }
    if driver != "awslogs" {
        return;
    }
    if root.text("executionRoleArn").is_none() {
        let words = "Fargate requires task definition to have execution role ARN to support log driver awslogs.";
        findings.client_exception(log.path_of("logDriver"), words);
        findings.hint("give the task an executionRoleArn");
    }
    // "If you use the Fargate launch type, you must use the awslogs-stream-prefix option", API_LogConfiguration.
    let prefix = log.member("options").and_then(|options| options.text("awslogs-stream-prefix"));
    if prefix.is_none_or(str::is_empty) {
        findings.error(log.path_of("options"), "Fargate wants the option awslogs-stream-prefix");
    }
}
