//! The exit code of `coracle run`, out of a task's last status. Pure.

use agent_protocol::{ContainerStatus, TaskSpec, TaskStatus};
use ecs::task::StopCode;

/// Our own failure to start, and no container to ask.
pub const FAILED_TO_START: i32 = 125;
/// The command is there and cannot be executed.
pub const CANNOT_EXECUTE: i32 = 126;
/// The command is not there.
pub const NOT_FOUND: i32 = 127;

/// As `docker run` and the shell have it: the essential container that ended the task decides. Where nobody ended by
/// itself (a stop from outside), the first essential container in the definition's order that has an exit code does.
/// A command that could not start gives 126 or 127, everything else that went wrong 125.
pub fn exit_code(spec: &TaskSpec, status: &TaskStatus) -> i32 {
    if status.stop_code == Some(StopCode::TaskFailedToStart) {
        return status.containers.iter().find_map(failed_start).unwrap_or(FAILED_TO_START);
    }
    let named = status.ended_by.as_ref().and_then(|name| find(status, name));
    let essential = spec
        .containers
        .iter()
        .filter(|container| container.definition.essential)
        .filter_map(|container| find(status, &container.definition.name));
    named.into_iter().chain(essential).find_map(|container| container.exit_code).unwrap_or(FAILED_TO_START)
}

fn find<'a>(status: &'a TaskStatus, name: &ecs::ContainerName) -> Option<&'a ContainerStatus> {
    status.containers.iter().find(|container| container.name == *name)
}

/// What the shell would have said of a container whose first process could not be started.
fn failed_start(container: &ContainerStatus) -> Option<i32> {
    match container.start_exit_code {
        Some(code @ (NOT_FOUND | CANNOT_EXECUTE)) => Some(code),
        Some(_) => Some(FAILED_TO_START),
        None => None,
    }
}

/// The exit code for a process that could not be started, out of the reason that the supervisor gave.
pub fn code_of_refusal(reason: &str) -> i32 {
    let reason = reason.to_ascii_lowercase();
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| reason.contains(phrase));
    if says(&["executable file not found", "no such file"]) {
        NOT_FOUND
    } else if says(&["permission denied", "exec format", "is a directory"]) {
        CANNOT_EXECUTE
    } else {
        FAILED_TO_START
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;

    #[test]
    fn the_container_that_ended_the_task_decides() {
        let spec = example::spec(&["web", "worker"]);
        let mut status = example::status(&["web", "worker"]);
        status.stop_code = Some(StopCode::EssentialContainerExited);
        status.ended_by = Some(example::name("worker"));
        status.containers[0].exit_code = Some(143);
        status.containers[1].exit_code = Some(7);
        assert_eq!(exit_code(&spec, &status), 7);
    }

    #[test]
    fn a_stop_from_outside_takes_the_first_essential_container() {
        let mut spec = example::spec(&["log-router", "web"]);
        spec.containers[0].definition.essential = false;
        let mut status = example::status(&["log-router", "web"]);
        status.stop_code = Some(StopCode::UserInitiated);
        status.containers[0].exit_code = Some(0);
        status.containers[1].exit_code = Some(143);
        assert_eq!(exit_code(&spec, &status), 143);
    }

    #[test]
    fn a_start_that_failed_says_what_the_shell_would_say() {
        let spec = example::spec(&["side", "web"]);
        for (code, expected) in [(Some(127), 127), (Some(126), 126), (Some(128), 125), (None, 125)] {
            let mut status = example::status(&["side", "web"]);
            status.stop_code = Some(StopCode::TaskFailedToStart);
            // The text decides nothing.
            status.containers[0].reason = Some("CannotStartContainerError: no such file: \"x\"".to_owned());
            status.containers[1].start_exit_code = code;
            assert_eq!(exit_code(&spec, &status), expected, "{code:?}");
        }
    }

    #[test]
    fn a_refused_exec_is_told_by_its_words() {
        for (reason, expected) in [
            ("exec: \"nope\": executable file not found in $PATH", 127),
            ("exec: \"/bin/tool\": permission denied", 126),
            ("container web is not running", 125),
        ] {
            assert_eq!(code_of_refusal(reason), expected, "{reason}");
        }
    }

    #[test]
    fn nobody_saw_an_end() {
        let spec = example::spec(&["web"]);
        assert_eq!(exit_code(&spec, &example::status(&["web"])), 125);
    }
}
