//! What people have in files, as one shape: RegisterTaskDefinition's input, or the answer of DescribeTaskDefinition.
//!
//! Whether the content makes sense is for `lint`.

use serde_json::{Map, Value};

use crate::fields::{self, Here};
use crate::json::{self, JsonError, Position, Positions};
use crate::overrides::MAX_OVERRIDES_CHARACTERS;
use crate::path::parent;

/// The largest file that is read: Amazon's limit with room for white space and comments.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;
/// "Task definition size: 64 KB" (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-quotas.html>),
/// measured without white space, comments and the members that only answers have.
pub const MAX_TASK_DEFINITION_BYTES: usize = 64 * 1024;

/// A file that is one JSON object, without the wrapper that `aws ecs describe-task-definition` puts around it.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// As written, in the written order: members that coracle does not know and read-only ones included.
    pub value: Map<String, Value>,
    pub origin: Origin,
    positions: Positions,
}

impl Document {
    /// What RegisterTaskDefinition received. It comes from no file, so nothing in it has a line.
    pub fn registration(value: Map<String, Value>) -> Self {
        Self { value, origin: Origin::Input, positions: Positions::default() }
    }

    /// Where the value at `path` stands in the file, or where the one does that it would stand in.
    pub fn position(&self, path: &str) -> Option<Position> {
        let mut ways = std::iter::successors(Some(path), |path| parent(path));
        ways.find_map(|path| self.positions.get(path).copied())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An input of RegisterTaskDefinition.
    Input,
    /// What Amazon answered: a registered task definition.
    Answer,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("the file is larger than {limit} bytes; no more are read")]
    FileTooLarge { limit: usize },
    #[error("the file is empty; a task definition is a JSON object: {{\"family\": …, \"containerDefinitions\": […]}}")]
    Empty,
    #[error("this is {what}, not {wanted} as JSON; {instead}")]
    Foreign { what: &'static str, wanted: &'static str, instead: &'static str },
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error("{wanted} is a JSON object in braces; this is {found}")]
    NotAnObject { wanted: &'static str, found: &'static str },
    #[error("the task definition is {bytes} bytes of JSON; Amazon ECS allows {MAX_TASK_DEFINITION_BYTES}")]
    DefinitionTooLarge { bytes: usize },
    /// Amazon's answer: `InvalidParameterException: Container Overrides length must be at most 8192`.
    #[error("the overrides are {characters} characters of JSON; Amazon ECS allows {MAX_OVERRIDES_CHARACTERS}")]
    OverridesTooLarge { characters: usize },
}

/// Reads a task definition's file.
///
/// # Errors
/// Says what the file is instead, or the line and column that cannot be read.
pub fn read(text: &[u8]) -> Result<Document, ReadError> {
    let wanted = "a task definition";
    let document = read_object(text, wanted, MAX_FILE_BYTES)?;
    if let Some((what, instead)) = foreign_object(&document.value) {
        return Err(ReadError::Foreign { what, wanted, instead });
    }
    let document = unwrapped(document);
    let bytes = registered_size(&document.value);
    if bytes > MAX_TASK_DEFINITION_BYTES {
        return Err(ReadError::DefinitionTooLarge { bytes });
    }
    Ok(document)
}

/// Reads one JSON object; `wanted` names it in errors.
pub(crate) fn read_object(text: &[u8], wanted: &'static str, limit: usize) -> Result<Document, ReadError> {
    if text.len() > limit {
        return Err(ReadError::FileTooLarge { limit });
    }
    if text.trim_ascii().is_empty() {
        return Err(ReadError::Empty);
    }
    let (value, positions) = json::parse(text).map_err(|error| match foreign_text(text) {
        Some((what, instead)) => ReadError::Foreign { what, wanted, instead },
        None => ReadError::Json(error),
    })?;
    match value {
        Value::Object(value) => Ok(Document { value, origin: Origin::Input, positions }),
        Value::Array(items) if items.iter().any(|item| item.get("image").is_some()) => Err(ReadError::Foreign {
            what: "a list of container definitions",
            wanted,
            instead: "wrap it: {\"family\": \"NAME\", \"containerDefinitions\": […]}",
        }),
        other => Err(ReadError::NotAnObject { wanted, found: json::kind_of(&other) }),
    }
}

type Foreign = (&'static str, &'static str);

const CONVERT_YAML: &str = "convert it, for example with `yq -o=json FILE`";
const COMPOSE: Foreign = ("a Compose file", "write its services as containerDefinitions of an ECS task definition");
const KUBERNETES: Foreign = ("a Kubernetes manifest", "coracle runs ECS task definitions only");
const CLOUDFORMATION: Foreign = (
    "a CloudFormation template",
    "take the registered one: `aws ecs describe-task-definition --task-definition FAMILY`",
);
const TERRAFORM: Foreign =
    ("Terraform's language", "take the registered one: `aws ecs describe-task-definition --task-definition FAMILY`");

/// Files of other tools, by the lines that only they have. Asked only of what is no JSON.
fn foreign_text(text: &[u8]) -> Option<Foreign> {
    let text = std::str::from_utf8(text).ok()?;
    if text.trim_start().starts_with(['{', '[']) {
        return None;
    }
    let has = |start: &str| text.lines().any(|line| line.starts_with(start));
    if has("services:") {
        Some(COMPOSE)
    } else if has("apiVersion:") {
        Some(KUBERNETES)
    } else if has("AWSTemplateFormatVersion:") || has("Resources:") {
        Some(CLOUDFORMATION)
    } else if has("resource \"") {
        Some(TERRAFORM)
    } else if has("family:") || has("containerDefinitions:") || has("taskDefinition:") || has("---") {
        Some(("YAML", CONVERT_YAML))
    } else {
        None
    }
}

/// JSON of other tools, by members that no task definition has.
fn foreign_object(object: &Map<String, Value>) -> Option<Foreign> {
    let has = |name: &str| object.contains_key(name);
    if has("containerDefinitions") || has("taskDefinition") {
        None
    } else if object.get("services").is_some_and(Value::is_object) && !has("family") {
        Some(COMPOSE)
    } else if has("apiVersion") && has("kind") {
        Some(KUBERNETES)
    } else if has("AWSTemplateFormatVersion") || has("Resources") || has("ContainerDefinitions") {
        Some(CLOUDFORMATION)
    } else if has("containerOverrides") {
        Some(("RunTask's overrides", "give it to --override"))
    } else {
        None
    }
}

/// Takes the wrapper off. Tags stand beside the definition there, and inside it in the input.
fn unwrapped(mut document: Document) -> Document {
    let Some(Value::Object(inner)) = document.value.get_mut("taskDefinition") else {
        let registered = document.value.contains_key("taskDefinitionArn");
        return Document { origin: if registered { Origin::Answer } else { Origin::Input }, ..document };
    };
    let mut value = std::mem::take(inner);
    let tags = document.value.shift_remove("tags").filter(|_| !value.contains_key("tags"));
    // The paths of what was wrapped, without the wrapper; those of the tags beside it are right as they are.
    let positions =
        document.positions.into_iter().filter_map(|(path, position)| match path.strip_prefix("taskDefinition") {
            Some("") => Some((String::new(), position)),
            Some(rest) if rest.starts_with('.') => Some((rest[1..].to_owned(), position)),
            Some(rest) if rest.starts_with('[') => Some((rest.to_owned(), position)),
            _ => (tags.is_some() && path.starts_with("tags")).then_some((path, position)),
        });
    let positions = positions.collect();
    value.extend(tags.map(|tags| ("tags".to_owned(), tags)));
    Document { value, origin: Origin::Answer, positions }
}

/// Bytes of the definition as RegisterTaskDefinition would receive it.
pub(crate) fn registered_size(value: &Map<String, Value>) -> usize {
    let sent =
        |name: &str| !matches!(fields::TASK_DEFINITION.member(name).map(|member| member.here), Some(Here::ReadOnly));
    let members = value.iter().filter(|(name, _)| sent(name));
    let sizes =
        members.map(|(name, member)| json::compact_size(&Value::String(name.clone())) + json::compact_size(member));
    // A colon and a comma or brace for each member, and the opening brace.
    sizes.map(|size| size + 2).sum::<usize>() + 1
}
