//! Requests and responses of Amazon ECS: capacity providers.

use serde::{Deserialize, Serialize};

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_CreateCapacityProvider.html>.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateCapacityProviderRequest {
    pub name: Option<String>,
    pub cluster: Option<String>,
    pub auto_scaling_group_provider: Option<super::shapes::AutoScalingGroupProvider>,
    pub managed_instances_provider: Option<serde_json::Value>,
    pub tags: Option<Vec<crate::task_definition::Tag>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateCapacityProviderResponse {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity_provider: Option<super::shapes::CapacityProvider>,
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UpdateCapacityProvider.html>.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateCapacityProviderRequest {
    pub name: Option<String>,
    pub cluster: Option<String>,
    pub auto_scaling_group_provider: Option<super::shapes::AutoScalingGroupProviderUpdate>,
    pub managed_instances_provider: Option<serde_json::Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateCapacityProviderResponse {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity_provider: Option<super::shapes::CapacityProvider>,
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DeleteCapacityProvider.html>.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteCapacityProviderRequest {
    pub capacity_provider: Option<String>,
    pub cluster: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteCapacityProviderResponse {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity_provider: Option<super::shapes::CapacityProvider>,
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeCapacityProviders.html>.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeCapacityProvidersRequest {
    pub capacity_providers: Option<Vec<String>>,
    pub cluster: Option<String>,
    pub include: Option<Vec<String>>,
    pub max_results: Option<i64>,
    pub next_token: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeCapacityProvidersResponse {
    pub capacity_providers: Vec<super::shapes::CapacityProvider>,
    pub failures: Vec<super::shapes::Failure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}
