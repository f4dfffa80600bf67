//! The operations of Amazon ECS as types: what may be asked, what is answered, and how it is refused.
//!
//! Members are Amazon's (botocore's model of 2026-11-17). Requests keep absent and empty apart, so every member of a
//! request is optional here; which of them must be there is the operation's to say. Enumerations come as text: an unknown
//! value is the operation's error, not the reader's.

pub mod account_settings;
pub mod agent;
pub mod attributes;
pub mod capacity_providers;
pub mod clusters;
pub mod container_instances;
pub mod error;
pub mod registered;
pub mod shapes;
pub mod tags;
pub mod task_definitions;
pub mod tasks;

pub use error::{ApiError, ErrorCode};
pub use registered::RegisteredTaskDefinition;

use serde::{Deserialize, Deserializer};

/// One line an operation: its name on the wire, its request and its response.
macro_rules! operations {
    ($($name:ident($request:ty) -> $response:ty;)*) => {
        #[derive(Clone, Debug, PartialEq)]
        pub enum Operation {
            $($name($request),)*
        }

        #[derive(Clone, Debug, PartialEq)]
        pub enum Reply {
            $($name($response),)*
        }

        impl Operation {
            /// The operations that are here, by their names on the wire.
            pub const NAMES: &[&str] = &[$(stringify!($name),)*];

            pub fn name(&self) -> &'static str {
                match self {
                    $(Operation::$name(_) => stringify!($name),)*
                }
            }

            /// Nothing when there is no such operation here. The body's errors are its reader's.
            pub fn read<'de, D: Deserializer<'de>>(name: &str, body: D) -> Option<Result<Operation, D::Error>> {
                match name {
                    $(stringify!($name) => Some(<$request>::deserialize(body).map(Operation::$name)),)*
                    _ => None,
                }
            }
        }

        impl Reply {
            /// The body of the answer.
            pub fn body(&self) -> Result<Vec<u8>, serde_json::Error> {
                match self {
                    $(Reply::$name(response) => serde_json::to_vec(response),)*
                }
            }
        }

        $(impl From<$response> for Reply {
            fn from(response: $response) -> Reply {
                Reply::$name(response)
            }
        })*
    };
}

operations! {
    CreateCluster(clusters::CreateClusterRequest) -> clusters::CreateClusterResponse;
    DeleteCluster(clusters::DeleteClusterRequest) -> clusters::DeleteClusterResponse;
    DescribeClusters(clusters::DescribeClustersRequest) -> clusters::DescribeClustersResponse;
    ListClusters(clusters::ListClustersRequest) -> clusters::ListClustersResponse;
    UpdateCluster(clusters::UpdateClusterRequest) -> clusters::UpdateClusterResponse;
    UpdateClusterSettings(clusters::UpdateClusterSettingsRequest) -> clusters::UpdateClusterSettingsResponse;
    PutClusterCapacityProviders(clusters::PutClusterCapacityProvidersRequest) -> clusters::PutClusterCapacityProvidersResponse;
    CreateCapacityProvider(capacity_providers::CreateCapacityProviderRequest) -> capacity_providers::CreateCapacityProviderResponse;
    UpdateCapacityProvider(capacity_providers::UpdateCapacityProviderRequest) -> capacity_providers::UpdateCapacityProviderResponse;
    DeleteCapacityProvider(capacity_providers::DeleteCapacityProviderRequest) -> capacity_providers::DeleteCapacityProviderResponse;
    DescribeCapacityProviders(capacity_providers::DescribeCapacityProvidersRequest) -> capacity_providers::DescribeCapacityProvidersResponse;
    RegisterTaskDefinition(task_definitions::RegisterTaskDefinitionRequest) -> task_definitions::RegisterTaskDefinitionResponse;
    DeregisterTaskDefinition(task_definitions::DeregisterTaskDefinitionRequest) -> task_definitions::DeregisterTaskDefinitionResponse;
    DeleteTaskDefinitions(task_definitions::DeleteTaskDefinitionsRequest) -> task_definitions::DeleteTaskDefinitionsResponse;
    DescribeTaskDefinition(task_definitions::DescribeTaskDefinitionRequest) -> task_definitions::DescribeTaskDefinitionResponse;
    ListTaskDefinitions(task_definitions::ListTaskDefinitionsRequest) -> task_definitions::ListTaskDefinitionsResponse;
    ListTaskDefinitionFamilies(task_definitions::ListTaskDefinitionFamiliesRequest) -> task_definitions::ListTaskDefinitionFamiliesResponse;
    RunTask(tasks::RunTaskRequest) -> tasks::RunTaskResponse;
    StartTask(tasks::StartTaskRequest) -> tasks::StartTaskResponse;
    StopTask(tasks::StopTaskRequest) -> tasks::StopTaskResponse;
    DescribeTasks(tasks::DescribeTasksRequest) -> tasks::DescribeTasksResponse;
    ListTasks(tasks::ListTasksRequest) -> tasks::ListTasksResponse;
    ExecuteCommand(tasks::ExecuteCommandRequest) -> tasks::ExecuteCommandResponse;
    GetTaskProtection(tasks::GetTaskProtectionRequest) -> tasks::GetTaskProtectionResponse;
    UpdateTaskProtection(tasks::UpdateTaskProtectionRequest) -> tasks::UpdateTaskProtectionResponse;
    RegisterContainerInstance(container_instances::RegisterContainerInstanceRequest) -> container_instances::RegisterContainerInstanceResponse;
    DeregisterContainerInstance(container_instances::DeregisterContainerInstanceRequest) -> container_instances::DeregisterContainerInstanceResponse;
    DescribeContainerInstances(container_instances::DescribeContainerInstancesRequest) -> container_instances::DescribeContainerInstancesResponse;
    ListContainerInstances(container_instances::ListContainerInstancesRequest) -> container_instances::ListContainerInstancesResponse;
    UpdateContainerInstancesState(container_instances::UpdateContainerInstancesStateRequest) -> container_instances::UpdateContainerInstancesStateResponse;
    UpdateContainerAgent(container_instances::UpdateContainerAgentRequest) -> container_instances::UpdateContainerAgentResponse;
    PutAttributes(attributes::PutAttributesRequest) -> attributes::PutAttributesResponse;
    DeleteAttributes(attributes::DeleteAttributesRequest) -> attributes::DeleteAttributesResponse;
    ListAttributes(attributes::ListAttributesRequest) -> attributes::ListAttributesResponse;
    DiscoverPollEndpoint(agent::DiscoverPollEndpointRequest) -> agent::DiscoverPollEndpointResponse;
    SubmitTaskStateChange(agent::SubmitTaskStateChangeRequest) -> agent::SubmitTaskStateChangeResponse;
    SubmitContainerStateChange(agent::SubmitContainerStateChangeRequest) -> agent::SubmitContainerStateChangeResponse;
    SubmitAttachmentStateChanges(agent::SubmitAttachmentStateChangesRequest) -> agent::SubmitAttachmentStateChangesResponse;
    PutAccountSetting(account_settings::PutAccountSettingRequest) -> account_settings::PutAccountSettingResponse;
    PutAccountSettingDefault(account_settings::PutAccountSettingDefaultRequest) -> account_settings::PutAccountSettingDefaultResponse;
    DeleteAccountSetting(account_settings::DeleteAccountSettingRequest) -> account_settings::DeleteAccountSettingResponse;
    ListAccountSettings(account_settings::ListAccountSettingsRequest) -> account_settings::ListAccountSettingsResponse;
    TagResource(tags::TagResourceRequest) -> tags::TagResourceResponse;
    UntagResource(tags::UntagResourceRequest) -> tags::UntagResourceResponse;
    ListTagsForResource(tags::ListTagsForResourceRequest) -> tags::ListTagsForResourceResponse;
}

/// Operations of Amazon's model that are not here, each answered with an UnsupportedFeatureException that says so. They
/// are listed in the README.
pub const NOT_HERE: [&str; 43] = [
    "AssociateGatewayWithCluster",
    "ContinueServiceDeployment",
    "CreateDaemon",
    "CreateExpressGatewayService",
    "CreateGateway",
    "CreateService",
    "CreateTaskSet",
    "DeleteDaemon",
    "DeleteDaemonTaskDefinition",
    "DeleteExpressGatewayService",
    "DeleteGateway",
    "DeleteService",
    "DeleteTaskSet",
    "DescribeDaemon",
    "DescribeDaemonDeployments",
    "DescribeDaemonRevisions",
    "DescribeDaemonTaskDefinition",
    "DescribeExpressGatewayService",
    "DescribeGateway",
    "DescribeGatewayResources",
    "DescribeGatewayRoute",
    "DescribeServiceDeployments",
    "DescribeServiceRevisions",
    "DescribeServices",
    "DescribeTaskSets",
    "DisassociateGatewayFromCluster",
    "ListDaemonDeployments",
    "ListDaemonTaskDefinitions",
    "ListDaemons",
    "ListGatewayClusterAssociations",
    "ListGatewayRoutes",
    "ListGateways",
    "ListServiceDeployments",
    "ListServices",
    "ListServicesByNamespace",
    "RegisterDaemonTaskDefinition",
    "StopServiceDeployment",
    "UpdateDaemon",
    "UpdateExpressGatewayService",
    "UpdateGateway",
    "UpdateService",
    "UpdateServicePrimaryTaskSet",
    "UpdateTaskSet",
];

/// A list in which null is the empty one: Amazon's JSON protocol takes a null member as absent
/// (<https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html>).
fn list<'de, D, T>(from: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}
