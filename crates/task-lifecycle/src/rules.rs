//! What a task definition says about order, life and end, with Amazon's defaults filled in.

use ecs::task_definition::{
    ContainerCondition, ContainerDefinition, ContainerDependency, HealthCheck, LogConfiguration, RestartPolicy,
};
use ecs::{ContainerName, Timestamp};

/// The agent's ECS_CONTAINER_STOP_TIMEOUT when neither it nor the container says otherwise.
pub const DEFAULT_STOP_TIMEOUT_S: u32 = 30;

/// The name of the log driver whose users start after the task's log router.
const FIRELENS_DRIVER: &str = "awsfirelens";

/// What the task definition says about one container's order and end.
#[derive(Clone, Debug, PartialEq)]
pub struct ContainerRules {
    pub name: ContainerName,
    pub essential: bool,
    pub depends_on: Vec<ContainerDependency>,
    /// Seconds between the stop signal and SIGKILL.
    pub stop_timeout_s: u32,
    /// Seconds from this container's start within which the conditions on it must be met.
    pub start_timeout_s: Option<u32>,
    pub health_check: Option<HealthRules>,
    pub restart: Option<RestartRules>,
}

impl ContainerRules {
    /// The rules of a whole task, in the order of its definition.
    ///
    /// As in the ECS agent, a container also waits for the containers that it has links to and that it takes volumes
    /// from, and a user of awsfirelens for the log router, each as with the condition START.
    pub fn of_task(definitions: &[&ContainerDefinition]) -> Vec<ContainerRules> {
        let router = definitions.iter().find(|definition| definition.firelens_configuration.is_some());
        definitions
            .iter()
            .map(|definition| ContainerRules {
                name: definition.name.clone(),
                essential: definition.essential,
                depends_on: depends_on(definition, router.map(|router| &router.name)),
                stop_timeout_s: definition.stop_timeout.unwrap_or(DEFAULT_STOP_TIMEOUT_S),
                start_timeout_s: definition.start_timeout.filter(|seconds| *seconds > 0),
                health_check: definition.health_check.as_ref().and_then(HealthRules::of),
                restart: definition.restart_policy.as_ref().and_then(RestartRules::of),
            })
            .collect()
    }
}

fn depends_on(definition: &ContainerDefinition, router: Option<&ContainerName>) -> Vec<ContainerDependency> {
    let mut depends_on = definition.depends_on.clone();
    let linked = definition.links.iter().filter_map(|link| link.split(':').next());
    let linked = linked.filter_map(|name| ContainerName::try_from(name.to_owned()).ok());
    let sources = definition.volumes_from.iter().map(|volumes| volumes.source_container.clone());
    let uses_router = |log: &LogConfiguration| log.log_driver == FIRELENS_DRIVER;
    let router = router.filter(|_| definition.log_configuration.as_ref().is_some_and(uses_router)).cloned();
    for container_name in linked.chain(sources).chain(router) {
        if !depends_on.iter().any(|dependency| dependency.container_name == container_name) {
            depends_on.push(ContainerDependency { container_name, condition: ContainerCondition::Start });
        }
    }
    depends_on
}

/// When a container's health is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthRules {
    /// From the start, and from each check's end, to the next check.
    pub interval_s: u32,
    /// A check that takes longer has failed.
    pub timeout_s: u32,
    /// Failures in a row that make a container UNHEALTHY.
    pub retries: u32,
    /// From the start. Failures of checks that begin in it do not count until a first check has succeeded.
    pub start_period_s: u32,
}

impl HealthRules {
    /// Nothing where the command says that there is no check, `["NONE"]`. Defaults:
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_HealthCheck.html>
    pub fn of(check: &HealthCheck) -> Option<HealthRules> {
        match check.command.first().map(String::as_str) {
            None | Some("NONE") => None,
            Some(_) => Some(HealthRules {
                interval_s: check.interval.unwrap_or(30),
                timeout_s: check.timeout.unwrap_or(5),
                retries: check.retries.unwrap_or(3),
                start_period_s: check.start_period.unwrap_or(0),
            }),
        }
    }
}

/// When a container that exits is started again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartRules {
    pub ignored_exit_codes: Vec<i32>,
    /// How long a container must have run since its last (re)start.
    pub attempt_period_s: u32,
}

impl RestartRules {
    /// Nothing where the policy is not enabled. Default:
    /// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerRestartPolicy.html>
    pub fn of(policy: &RestartPolicy) -> Option<RestartRules> {
        policy.enabled.then(|| RestartRules {
            ignored_exit_codes: policy.ignored_exit_codes.clone(),
            attempt_period_s: policy.restart_attempt_period.unwrap_or(300),
        })
    }

    /// Whether a container that was last (re)started at `since` is started again. That the task is meant to run is
    /// the caller's to know.
    pub(crate) fn allow(&self, exit_code: i32, since: Timestamp, now: Timestamp) -> bool {
        !self.ignored_exit_codes.contains(&exit_code) && now.ms_since(since) >= u64::from(self.attempt_period_s) * 1000
    }
}
