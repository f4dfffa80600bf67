//! Requests and responses of Amazon ECS: tags.

use serde::{Deserialize, Serialize};

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_TagResource.html>.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TagResourceRequest {
    pub resource_arn: Option<String>,
    pub tags: Option<Vec<crate::task_definition::Tag>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TagResourceResponse {}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_UntagResource.html>.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UntagResourceRequest {
    pub resource_arn: Option<String>,
    pub tag_keys: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct UntagResourceResponse {}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ListTagsForResource.html>.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListTagsForResourceRequest {
    pub resource_arn: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListTagsForResourceResponse {
    pub tags: Vec<crate::task_definition::Tag>,
}
