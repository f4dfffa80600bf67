//! Where tasks may go: a launch type, or capacity providers.

use ecs::LaunchType;
use ecs::operations::shapes::CapacityProviderStrategyItem;
use ecs::operations::{ApiError, ErrorCode};
use ecs::task_definition::TaskDefinition;

use super::strategy;
use crate::answer::capacity_providers::BUILT_IN;
use crate::records::{Cluster, TaskDefinitionRecord};
use crate::shown::FARGATE_PLATFORM;

/// What a request for tasks says about it.
pub(super) struct Asked<'a> {
    pub(super) launch_type: Option<&'a str>,
    pub(super) strategy: &'a [CapacityProviderStrategyItem],
    pub(super) platform_version: Option<&'a str>,
}

/// Where one task goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Launch {
    pub(super) launch_type: LaunchType,
    pub(super) provider: Option<String>,
    /// On Fargate.
    pub(super) platform_version: Option<String>,
}

/// Of Fargate's Linux platform; those before have ended
/// (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/platform-fargate.html>).
const PLATFORM_VERSIONS: [&str; 3] = ["LATEST", "1.3.0", FARGATE_PLATFORM];

/// For each of `count` tasks where it goes, in the order in which they are made.
///
/// # Errors
/// InvalidParameterException, PlatformUnknownException.
pub(super) fn of_each(cluster: &Cluster, asked: &Asked<'_>, count: usize) -> Result<Vec<Launch>, ApiError> {
    let strategy = match (asked.launch_type, asked.strategy) {
        (Some(_), []) => &[],
        (Some(_), _) => {
            let words = "Specify either Launch Type or Capacity Provider Strategy, but not both.";
            return Err(ApiError::invalid(words));
        }
        (None, []) => cluster.default_strategy.as_slice(),
        (None, strategy) => strategy,
    };
    if strategy.is_empty() {
        let launch_type = match asked.launch_type {
            None => LaunchType::Ec2,
            Some(given) => LaunchType::read(given)
                .map_err(|_| ApiError::invalid("launchType should be one of [EC2,FARGATE,EXTERNAL]"))?,
        };
        let platform_version = platform(launch_type, asked.platform_version)?;
        return Ok(vec![Launch { launch_type, provider: None, platform_version }; count]);
    }
    let shares = strategy::shares(&strategy::read(cluster, strategy)?, count);
    let launch = |provider: String| {
        let fargate = BUILT_IN.contains(&provider.as_str());
        let launch_type = if fargate { LaunchType::Fargate } else { LaunchType::Ec2 };
        let platform_version = platform(launch_type, asked.platform_version)?;
        Ok(Launch { launch_type, provider: Some(provider), platform_version })
    };
    shares.into_iter().map(launch).collect()
}

fn platform(launch_type: LaunchType, given: Option<&str>) -> Result<Option<String>, ApiError> {
    match (launch_type, given.filter(|given| !given.is_empty())) {
        (LaunchType::Fargate, None | Some("LATEST")) => Ok(Some(FARGATE_PLATFORM.to_owned())),
        (LaunchType::Fargate, Some(version)) if PLATFORM_VERSIONS.contains(&version) => Ok(Some(version.to_owned())),
        (LaunchType::Fargate, Some(_)) => {
            Err(ApiError::new(ErrorCode::PlatformUnknown, "The specified platform version does not exist."))
        }
        (LaunchType::Ec2 | LaunchType::External, None) => Ok(None),
        (LaunchType::Ec2 | LaunchType::External, Some(_)) => {
            let words =
                format!("The platform version must be null when specifying an {} launch type.", launch_type.name());
            Err(ApiError::invalid(words))
        }
    }
}

/// Whether a definition, with its overrides, may go there.
///
/// # Errors
/// InvalidParameterException, and a ClientException for what Fargate does not have.
pub(super) fn check(
    record: &TaskDefinitionRecord,
    definition: &TaskDefinition,
    launch_type: LaunchType,
) -> Result<(), ApiError> {
    if !record.compatibilities.iter().any(|name| name == launch_type.name()) {
        let words = format!("Task definition does not support launch_type {}.", launch_type.name());
        return Err(ApiError::invalid(words));
    }
    if launch_type != LaunchType::Fargate || *definition == *record.definition {
        return Ok(());
    }
    // Overrides must leave it what Fargate has: its sizes above all.
    let fargate = TaskDefinition { requires_compatibilities: vec!["FARGATE".to_owned()], ..definition.clone() };
    let document = match ecs::json::value_of(&fargate) {
        Ok(serde_json::Value::Object(value)) => ecs::input::Document::registration(value),
        Ok(_) | Err(_) => return Err(ApiError::invalid("Overrides are not valid.")),
    };
    ecs::register::validate(&document).map(drop).map_err(|error| ApiError::invalid(error.message))
}
