//! `dependsOn`: whether a condition is met, is still open, or can no longer be met.

use ecs::task::HealthStatus;
use ecs::task_definition::ContainerCondition;
use ecs::{ContainerName, Timestamp};

use crate::state::ContainerState;

/// What a condition looks at: the container that is depended on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dependency<'a> {
    pub(crate) name: &'a ContainerName,
    pub(crate) state: ContainerState,
    pub(crate) exit_code: Option<i32>,
    /// Nothing where there is no health check.
    pub(crate) health: Option<HealthStatus>,
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
/// dependency's first start. A dependency that is being started again has not stopped. An UNHEALTHY one may recover.
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
        // One that is started again has been up before.
        ContainerCondition::Start if stopped || dependency.started_at.is_some() => return Verdict::Met,
        ContainerCondition::Start => return Verdict::Open(None),
        ContainerCondition::Complete if stopped => match dependency.exit_code {
            Some(_) => return Verdict::Met,
            None => return hopeless("because dependency will never start"),
        },
        ContainerCondition::Success if stopped => match dependency.exit_code {
            Some(0) => return Verdict::Met,
            Some(code) => return hopeless(&format!("as dependency did not exit successfully (exit code {code})")),
            None => return hopeless("because dependency will never start"),
        },
        ContainerCondition::Healthy => match dependency.health {
            None => return hopeless("as dependency has no health check"),
            Some(_) if stopped => return hopeless("as dependency stopped before it was healthy"),
            Some(HealthStatus::Healthy) => return Verdict::Met,
            Some(HealthStatus::Unhealthy | HealthStatus::Unknown) => {}
        },
        ContainerCondition::Complete | ContainerCondition::Success => {}
    }
    let gives_up_at = match (dependency.started_at, dependency.start_timeout_s) {
        (Some(started), Some(seconds)) => Some(started.plus_ms(u64::from(seconds) * 1000)),
        (Some(_) | None, _) => None,
    };
    if gives_up_at.is_some_and(|at| now >= at) { hopeless("has timed out") } else { Verdict::Open(gives_up_at) }
}

/// The places that can never have their turn because they wait, at last, for themselves. `depends_on` holds for each
/// place those that it waits for.
pub(crate) fn in_a_circle(depends_on: &[Vec<usize>]) -> Vec<usize> {
    let mut left: Vec<usize> = (0..depends_on.len()).collect();
    loop {
        let before = left.len();
        let awaited = left.clone();
        left.retain(|place| depends_on[*place].iter().any(|dependency| awaited.contains(dependency)));
        if left.len() == before {
            return left;
        }
    }
}
