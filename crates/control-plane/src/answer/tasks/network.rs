//! RunTask's networkConfiguration against the definition's network mode.

use ecs::LaunchType;
use ecs::network_configuration::{self, AwsVpcConfiguration};
use ecs::operations::ApiError;
use ecs::operations::shapes::NetworkConfiguration;
use ecs::task_definition::{NetworkMode, TaskDefinition};

/// "This parameter is required for task definitions that use the awsvpc network mode … and it isn't supported for other
/// network modes" (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html>).
pub(super) fn read(
    given: &Option<NetworkConfiguration>,
    definition: &TaskDefinition,
    launch_type: LaunchType,
) -> Result<Option<AwsVpcConfiguration>, ApiError> {
    let given = given.as_ref().and_then(|given| given.awsvpc_configuration.as_ref());
    let given = match (definition.effective_network_mode(), given) {
        (NetworkMode::Awsvpc, Some(given)) => given,
        (NetworkMode::Awsvpc, None) => {
            let words = "Network Configuration must be provided when networkMode 'awsvpc' is specified.";
            return Err(ApiError::invalid(words));
        }
        (NetworkMode::Bridge | NetworkMode::Host | NetworkMode::None, None) => return Ok(None),
        (NetworkMode::Bridge | NetworkMode::Host | NetworkMode::None, Some(_)) => {
            let words = "Network Configuration is not valid for the given networkMode of this task definition.";
            return Err(ApiError::invalid(words));
        }
    };
    if given.subnets.is_empty() {
        return Err(ApiError::invalid("subnets can not be empty."));
    }
    let assign_public_ip = match given.assign_public_ip.as_deref() {
        None => None,
        Some("ENABLED") => Some(true),
        Some("DISABLED") => Some(false),
        Some(_) => return Err(ApiError::invalid("assignPublicIp should be one of [ENABLED,DISABLED]")),
    };
    if assign_public_ip == Some(true) && launch_type != LaunchType::Fargate {
        return Err(ApiError::invalid("Assign public IP is not supported for this launch type."));
    }
    let configuration = AwsVpcConfiguration {
        subnets: given.subnets.clone(),
        security_groups: given.security_groups.clone(),
        assign_public_ip,
    };
    network_configuration::check(&configuration).map_err(|error| ApiError::invalid(error.to_string()))?;
    Ok(Some(configuration))
}
