//! A task definition as it is registered: RegisterTaskDefinition's request and what DescribeTaskDefinition shows.

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

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
    #[serde(flatten, serialize_with = "with_empty_lists")]
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

/// Lists that every answer of Amazon's has, empty ones as well; tools go through them without asking.
const LISTS: [&str; 2] = ["volumes", "placementConstraints"];
const CONTAINER_LISTS: [&str; 5] = ["environment", "mountPoints", "portMappings", "systemControls", "volumesFrom"];

fn with_empty_lists<S: Serializer>(definition: &TaskDefinition, to: S) -> Result<S::Ok, S::Error> {
    let mut value = crate::json::value_of(definition).map_err(serde::ser::Error::custom)?;
    if let Some(containers) = value.get_mut("containerDefinitions").and_then(Value::as_array_mut) {
        containers.iter_mut().for_each(|container| fill(container, &CONTAINER_LISTS));
    }
    fill(&mut value, &LISTS);
    value.serialize(to)
}

fn fill(value: &mut Value, lists: &[&str]) {
    let Some(members) = value.as_object_mut() else { return };
    for list in lists {
        members.entry(*list).or_insert_with(|| json!([]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_the_lists_that_tools_go_through() {
        let definition = json!({"family": "web", "containerDefinitions": [{"name": "web", "image": "nginx"}]});
        let registered = RegisteredTaskDefinition {
            task_definition_arn: "arn".to_owned(),
            definition: serde_json::from_value(definition).expect("a definition"),
            status: TaskDefinitionStatus::DeleteInProgress,
            requires_attributes: Vec::new(),
            compatibilities: Vec::new(),
            registered_at: Timestamp::from_epoch_ms(1500),
            deregistered_at: None,
            delete_requested_at: None,
            registered_by: None,
        };
        let written = serde_json::to_value(&registered).expect("plain data");
        let container = json!({
            "name": "web", "image": "nginx", "cpu": 0, "essential": true, "portMappings": [], "environment": [],
            "mountPoints": [], "volumesFrom": [], "systemControls": [],
        });
        let expected = json!({
            "taskDefinitionArn": "arn", "family": "web", "containerDefinitions": [container], "volumes": [],
            "placementConstraints": [], "status": "DELETE_IN_PROGRESS", "requiresAttributes": [],
            "compatibilities": [], "registeredAt": 1.5,
        });
        assert_eq!(written, expected);
    }
}
