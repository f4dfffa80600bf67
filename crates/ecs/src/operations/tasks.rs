//! Requests and responses of Amazon ECS: tasks.

use serde::{Deserialize, Serialize};

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html>.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunTaskRequest {
    pub capacity_provider_strategy: Option<Vec<super::shapes::CapacityProviderStrategyItem>>,
    pub cluster: Option<String>,
    pub count: Option<i64>,
    #[serde(rename = "enableECSManagedTags")]
    pub enable_ecs_managed_tags: Option<bool>,
    pub enable_execute_command: Option<bool>,
    pub group: Option<String>,
    pub launch_type: Option<String>,
    pub network_configuration: Option<super::shapes::NetworkConfiguration>,
    pub overrides: Option<serde_json::Value>,
    pub placement_constraints: Option<Vec<crate::task_definition::PlacementConstraint>>,
    pub placement_strategy: Option<Vec<super::shapes::PlacementStrategy>>,
    pub platform_version: Option<String>,
    pub propagate_tags: Option<String>,
    pub reference_id: Option<String>,
    pub started_by: Option<String>,
    pub tags: Option<Vec<crate::task_definition::Tag>>,
    pub task_definition: Option<String>,
    pub client_token: Option<String>,
    pub volume_configurations: Option<Vec<serde_json::Value>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RunTaskResponse {
    pub tasks: Vec<crate::task::Task>,
    pub failures: Vec<super::shapes::Failure>,
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_StartTask.html>.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartTaskRequest {
    pub cluster: Option<String>,
    pub container_instances: Option<Vec<String>>,
    #[serde(rename = "enableECSManagedTags")]
    pub enable_ecs_managed_tags: Option<bool>,
    pub enable_execute_command: Option<bool>,
    pub group: Option<String>,
    pub network_configuration: Option<super::shapes::NetworkConfiguration>,
    pub overrides: Option<serde_json::Value>,
    pub propagate_tags: Option<String>,
    pub reference_id: Option<String>,
    pub started_by: Option<String>,
    pub tags: Option<Vec<crate::task_definition::Tag>>,
    pub task_definition: Option<String>,
    pub volume_configurations: Option<Vec<serde_json::Value>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StartTaskResponse {
    pub tasks: Vec<crate::task::Task>,
    pub failures: Vec<super::shapes::Failure>,
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_StopTask.html>.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StopTaskRequest {
    pub cluster: Option<String>,
    pub task: Option<String>,
    pub reason: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StopTaskResponse {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<crate::task::Task>,
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeTasks.html>.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeTasksRequest {
    pub cluster: Option<String>,
    pub tasks: Option<Vec<String>>,
    pub include: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeTasksResponse {
    pub tasks: Vec<crate::task::Task>,
    pub failures: Vec<super::shapes::Failure>,
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ListTasks.html>.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListTasksRequest {
    pub cluster: Option<String>,
    pub container_instance: Option<String>,
    pub family: Option<String>,
    pub next_token: Option<String>,
    pub max_results: Option<i64>,
    pub started_by: Option<String>,
    pub service_name: Option<String>,
    pub desired_status: Option<String>,
    pub launch_type: Option<String>,
    pub daemon_name: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListTasksResponse {
    pub task_arns: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ExecuteCommand.html>.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecuteCommandRequest {
    pub cluster: Option<String>,
    pub container: Option<String>,
    pub command: Option<String>,
    pub interactive: Option<bool>,
    pub task: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecuteCommandResponse {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interactive: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<super::shapes::Session>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_arn: Option<String>,
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_GetTaskProtection.html>.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetTaskProtectionRequest {
    pub cluster: Option<String>,
    pub tasks: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GetTaskProtectionResponse {
    pub protected_tasks: Vec<super::shapes::ProtectedTask>,
    pub failures: Vec<super::shapes::Failure>,
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UpdateTaskProtection.html>.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateTaskProtectionRequest {
    pub cluster: Option<String>,
    pub tasks: Option<Vec<String>>,
    pub protection_enabled: Option<bool>,
    pub expires_in_minutes: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateTaskProtectionResponse {
    pub protected_tasks: Vec<super::shapes::ProtectedTask>,
    pub failures: Vec<super::shapes::Failure>,
}
