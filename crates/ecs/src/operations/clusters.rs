//! Requests and responses of Amazon ECS: clusters.

use serde::{Deserialize, Serialize};

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_CreateCluster.html>.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateClusterRequest {
    pub cluster_name: Option<String>,
    pub tags: Option<Vec<crate::task_definition::Tag>>,
    pub settings: Option<Vec<super::shapes::ClusterSetting>>,
    pub configuration: Option<super::shapes::ClusterConfiguration>,
    pub capacity_providers: Option<Vec<String>>,
    pub default_capacity_provider_strategy: Option<Vec<super::shapes::CapacityProviderStrategyItem>>,
    pub service_connect_defaults: Option<super::shapes::ClusterServiceConnectDefaultsRequest>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateClusterResponse {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<super::shapes::Cluster>,
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DeleteCluster.html>.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteClusterRequest {
    pub cluster: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteClusterResponse {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<super::shapes::Cluster>,
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DescribeClusters.html>.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeClustersRequest {
    pub clusters: Option<Vec<String>>,
    pub include: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeClustersResponse {
    pub clusters: Vec<super::shapes::Cluster>,
    pub failures: Vec<super::shapes::Failure>,
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ListClusters.html>.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListClustersRequest {
    pub next_token: Option<String>,
    pub max_results: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListClustersResponse {
    pub cluster_arns: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UpdateCluster.html>.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateClusterRequest {
    pub cluster: Option<String>,
    pub settings: Option<Vec<super::shapes::ClusterSetting>>,
    pub configuration: Option<super::shapes::ClusterConfiguration>,
    pub service_connect_defaults: Option<super::shapes::ClusterServiceConnectDefaultsRequest>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateClusterResponse {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<super::shapes::Cluster>,
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UpdateClusterSettings.html>.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateClusterSettingsRequest {
    pub cluster: Option<String>,
    pub settings: Option<Vec<super::shapes::ClusterSetting>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateClusterSettingsResponse {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<super::shapes::Cluster>,
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_PutClusterCapacityProviders.html>.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PutClusterCapacityProvidersRequest {
    pub cluster: Option<String>,
    pub capacity_providers: Option<Vec<String>>,
    pub default_capacity_provider_strategy: Option<Vec<super::shapes::CapacityProviderStrategyItem>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PutClusterCapacityProvidersResponse {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<super::shapes::Cluster>,
}
