//! Requests and responses of Amazon ECS: attributes.

use serde::{Deserialize, Serialize};

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_PutAttributes.html>.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PutAttributesRequest {
    pub cluster: Option<String>,
    pub attributes: Option<Vec<super::shapes::Attribute>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PutAttributesResponse {
    pub attributes: Vec<super::shapes::Attribute>,
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_DeleteAttributes.html>.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteAttributesRequest {
    pub cluster: Option<String>,
    pub attributes: Option<Vec<super::shapes::Attribute>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteAttributesResponse {
    pub attributes: Vec<super::shapes::Attribute>,
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ListAttributes.html>.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListAttributesRequest {
    pub cluster: Option<String>,
    pub target_type: Option<String>,
    pub attribute_name: Option<String>,
    pub attribute_value: Option<String>,
    pub next_token: Option<String>,
    pub max_results: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListAttributesResponse {
    pub attributes: Vec<super::shapes::Attribute>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}
