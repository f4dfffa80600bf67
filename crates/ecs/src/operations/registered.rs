//! A task definition as it is registered: RegisterTaskDefinition's request and what DescribeTaskDefinition shows.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::shapes::Attribute;
use crate::Timestamp;
use crate::task_definition::{Tag, TaskDefinition};

/// The request as it came: `register::validate` reads it, so that a definition of any version of the model is judged in one
/// place.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct RegisterTaskDefinitionRequest(pub Value);

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_TaskDefinition.html>. Its tags are beside it in every
/// answer, never in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegisteredTaskDefinition {
    pub task_definition_arn: String,
    #[serde(flatten)]
    pub definition: TaskDefinition,
    pub status: TaskDefinitionStatus,
    pub requires_attributes: Vec<Attribute>,
    pub compatibilities: Vec<String>,
    pub registered_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deregistered_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_requested_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered_by: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TaskDefinitionStatus {
    Active,
    Inactive,
    DeleteInProgress,
}

impl RegisteredTaskDefinition {
    /// What the definition itself must not hold when it is written: its tags are the answer's.
    pub fn without_tags(mut self) -> (Self, Vec<Tag>) {
        let tags = std::mem::take(&mut self.definition.tags);
        (self, tags)
    }
}
