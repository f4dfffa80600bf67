//! `dependsOn`: whether a condition is met, is still open, or can no longer be met.

use ecs::task_definition::ContainerCondition;
use ecs::{ContainerName, Timestamp};

use crate::state::ContainerState;

/// What a condition looks at: the container that is depended on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dependency<'a> {
    pub(crate) name: &'a ContainerName,
    pub(crate) state: ContainerState,
    pub(crate) exit_code: Option<i32>,
    pub(crate) healthy: bool,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) start_timeout_s: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    /// Still possible; gives up at the instant, if any.
    Open(Option<Timestamp>),
    /// Why it will never be met, in the words of Amazon's agent.
    Hopeless(String),
}

/// Amazon's table: START is met by a dependency that runs or has stopped; COMPLETE by one that stopped with an exit
/// code; SUCCESS by exit code 0; HEALTHY by a healthy one. `startTimeout` counts for all but START, from the
/// dependency's start.
pub(crate) fn judge(
    target: &ContainerName,
    condition: ContainerCondition,
    dependency: Dependency<'_>,
    now: Timestamp,
) -> Verdict {
    let stopped = dependency.state == ContainerState::Stopped;
    let hopeless = |why: &str| {
        Verdict::Hopeless(format!(
            "TaskDependencyError: failed to resolve container ordering dependency [{}] for target [{target}] {why}",
            dependency.name
        ))
    };
    match condition {
        ContainerCondition::Start => match dependency.state {
            ContainerState::Waiting | ContainerState::Starting => return Verdict::Open(None),
            ContainerState::Running | ContainerState::Stopping | ContainerState::Killing | ContainerState::Stopped => {
                return Verdict::Met;
            }
        },
        ContainerCondition::Complete if stopped => match dependency.exit_code {
            Some(_) => return Verdict::Met,
            None => return hopeless("because dependency will never start"),
        },
        ContainerCondition::Success if stopped => match dependency.exit_code {
            Some(0) => return Verdict::Met,
            Some(code) => return hopeless(&format!("as dependency did not exit successfully (exit code {code})")),
            None => return hopeless("because dependency will never start"),
        },
        ContainerCondition::Healthy if stopped => return hopeless("as dependency stopped before it was healthy"),
        ContainerCondition::Healthy if dependency.healthy => return Verdict::Met,
        ContainerCondition::Complete | ContainerCondition::Success | ContainerCondition::Healthy => {}
    }
    let gives_up_at = match (dependency.started_at, dependency.start_timeout_s) {
        (Some(started), Some(seconds)) => Some(started.plus_ms(u64::from(seconds) * 1000)),
        (Some(_) | None, _) => None,
    };
    if gives_up_at.is_some_and(|at| now >= at) { hopeless("has timed out") } else { Verdict::Open(gives_up_at) }
}
