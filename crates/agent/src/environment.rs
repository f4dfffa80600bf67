//! What is fetched before a task's first container starts: environment files, secrets, a registry's login; and the
//! variables that Amazon's agent adds by itself.
//!
//! Nothing of a task exists yet when this fails. A secret's value is in `ContainerSecrets` and nowhere else: no error
//! here has one, and `task.json` never does.

mod files;
mod inject;
mod router;
mod s3;
mod secret;
pub mod sigv4;

use agent_protocol::{ContainerSecrets, TaskSpec};
use ecs::Timestamp;
use ecs::task_definition::{ContainerDefinition, KeyValuePair};

use crate::compose::Plan;
use crate::host::Host;

pub(crate) use inject::injected;
pub use s3::Settings;
pub use secret::{RegistryLogin, registry_login};

/// Amazon's name of everything that goes wrong here, and its words for the stage
/// (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/resource-initialization-error.html>).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ResourceInitializationError: {stage}: {}", problems.join("; "))]
pub struct ResourceInitializationError {
    pub stage: Stage,
    /// Each names its container and what it wanted.
    pub problems: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Secrets,
    EnvironmentFiles,
    LogRouter,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Stage::Secrets => "unable to pull secrets or registry auth: execution resource retrieval failed",
            Stage::EnvironmentFiles => "failed to download env files",
            Stage::LogRouter => "unable to download the log router's configuration",
        })
    }
}

/// What was fetched, for each container in the definition's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Variables of environment files, without those that `environment` has.
    pub from_files: Vec<Vec<KeyValuePair>>,
    /// Of the containers that have any.
    pub secrets: Vec<ContainerSecrets>,
}

/// Values of `secretOptions` for a shipper that goes on where another has ended. What cannot be had is missing from the
/// driver's options then, which the shipper tells.
pub(crate) fn log_secrets(host: &Host, spec: &TaskSpec) -> Vec<ContainerSecrets> {
    let own = spec
        .containers
        .iter()
        .map(|container| ContainerDefinition { secrets: Vec::new(), ..container.definition.clone() });
    own.filter_map(|definition| secret::of_containers(&host.secrets(), &[definition]).ok()).flatten().collect()
}

/// The external configuration of a task's log router, where it lies in S3.
pub(crate) fn router_configuration(
    host: &Host,
    plan: &Plan,
    now: Timestamp,
) -> Result<Option<String>, ResourceInitializationError> {
    router::configuration(&host.s3, &plan.region, &plan.definition.container_definitions, now)
}

/// Secrets first: they are on this host, and a name that is wrong should not wait for a download.
pub(crate) fn fetch(host: &Host, plan: &Plan, now: Timestamp) -> Result<Fetched, ResourceInitializationError> {
    let containers = &plan.definition.container_definitions;
    let secrets = secret::of_containers(&host.secrets(), containers)?;
    let from_files = files::of_containers(&host.s3, &plan.region, containers, now)?;
    Ok(Fetched { from_files, secrets })
}
