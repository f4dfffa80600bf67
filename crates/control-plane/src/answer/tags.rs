//! Tags of every kind of resource, and what a tag may be.
//!
//! "Maximum number of tags per resource - 50 … Maximum key length - 128 … Maximum value length - 256 … Do not use aws:, AWS:,
//! or any upper or lowercase combination of such as a prefix for either keys or values"
//! (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Tag.html>).

use std::collections::BTreeSet;

use ecs::arn::Arn;
use ecs::operations::tags::{
    ListTagsForResourceRequest, ListTagsForResourceResponse, TagResourceRequest, TagResourceResponse,
    UntagResourceRequest, UntagResourceResponse,
};
use ecs::operations::{ApiError, ErrorCode};
use ecs::task_definition::Tag;

use super::{Answer, Context, capacity_providers};
use crate::change::{Changes, Record};
use crate::names;
use crate::records::InstanceStatus;

pub const MAX_TAGS: usize = 50;
const MAX_KEY_CHARACTERS: usize = 128;
const MAX_VALUE_CHARACTERS: usize = 256;
const RESERVED_PREFIX: &str = "aws:";

/// The tags with which something is made, or that are put on it.
///
/// # Errors
/// InvalidParameterException for what no tag may be.
pub fn checked(given: &Option<Vec<Tag>>) -> Result<Vec<Tag>, ApiError> {
    let tags = given.as_deref().unwrap_or_default();
    if tags.len() > MAX_TAGS {
        return Err(ApiError::invalid(format!("tags can have at most {MAX_TAGS} items.")));
    }
    let mut keys = BTreeSet::new();
    for tag in tags {
        check(tag)?;
        if !keys.insert(&tag.key) {
            return Err(ApiError::invalid(format!("Duplicate tag key: {}. Each tag key must be unique.", tag.key)));
        }
    }
    Ok(tags.to_vec())
}

fn check(tag: &Tag) -> Result<(), ApiError> {
    let length = tag.key.chars().count();
    if length == 0 || length > MAX_KEY_CHARACTERS {
        return Err(ApiError::invalid(format!(
            "Tag keys must have between 1 and {MAX_KEY_CHARACTERS} characters, but was {length}: {}",
            tag.key
        )));
    }
    let length = tag.value.chars().count();
    if length > MAX_VALUE_CHARACTERS {
        return Err(ApiError::invalid(format!(
            "Tag values can have at most {MAX_VALUE_CHARACTERS} characters, but was {length}: {}",
            tag.key
        )));
    }
    for (what, text) in [("keys", &tag.key), ("values", &tag.value)] {
        if is_reserved(text) {
            return Err(ApiError::invalid(format!("Tag {what} can't start with '{RESERVED_PREFIX}', but was {text}")));
        }
        if !text.chars().all(may_stand_in_a_tag) {
            return Err(ApiError::invalid(format!(
                "Tag {what} must match ^([\\p{{L}}\\p{{Z}}\\p{{N}}_.:/=+\\-@]*)$, but was {text}"
            )));
        }
    }
    Ok(())
}

fn is_reserved(text: &str) -> bool {
    text.get(..RESERVED_PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(RESERVED_PREFIX))
}

fn may_stand_in_a_tag(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, ' ' | '\u{a0}' | '\u{3000}') || "_.:/=+-@".contains(character)
}

pub fn tag(context: &mut Context, request: &TagResourceRequest) -> Answer<TagResourceResponse> {
    let resource = find(context, &request.resource_arn)?;
    let given = match &request.tags {
        Some(tags) if !tags.is_empty() => checked(&request.tags)?,
        _ => return Err(ApiError::invalid("Tags can not be empty.")),
    };
    let mut tags = tags_of(&resource).to_vec();
    // "If existing tags on a resource aren't specified in the request parameters, they aren't changed."
    for tag in given {
        match tags.iter_mut().find(|known| known.key == tag.key) {
            Some(known) => known.value = tag.value,
            None => tags.push(tag),
        }
    }
    // "Tags with this prefix do not count against your tags per resource limit."
    if tags.iter().filter(|tag| !is_reserved(&tag.key)).count() > MAX_TAGS {
        let message = format!("The maximum number of tags per resource has been exceeded. The limit is {MAX_TAGS}.");
        return Err(ApiError::new(ErrorCode::LimitExceeded, message));
    }
    Ok((TagResourceResponse {}, with_tags(resource, tags)))
}

pub fn untag(context: &mut Context, request: &UntagResourceRequest) -> Answer<UntagResourceResponse> {
    let resource = find(context, &request.resource_arn)?;
    let keys = names::required_list(&request.tag_keys, "Tag keys", MAX_TAGS)?;
    // "You cannot edit or delete tag keys or values with this prefix."
    if let Some(reserved) = keys.iter().find(|key| is_reserved(key)) {
        let message = format!("Tag keys can't start with '{RESERVED_PREFIX}', but was {reserved}");
        return Err(ApiError::invalid(message));
    }
    let mut tags = tags_of(&resource).to_vec();
    tags.retain(|tag| !keys.contains(&tag.key));
    if tags == tags_of(&resource) {
        return Ok((UntagResourceResponse {}, Changes::default()));
    }
    Ok((UntagResourceResponse {}, with_tags(resource, tags)))
}

pub fn list(context: &mut Context, request: &ListTagsForResourceRequest) -> Answer<ListTagsForResourceResponse> {
    // Of the three operations, this one has no ResourceNotFoundException
    // (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ListTagsForResource.html#API_ListTagsForResource_Errors>).
    let declared = |error: ApiError| {
        if error.code == ErrorCode::ResourceNotFound { ApiError::invalid(error.message) } else { error }
    };
    let resource = find(context, &request.resource_arn).map_err(declared)?;
    Ok((ListTagsForResourceResponse { tags: tags_of(&resource).to_vec() }, Changes::default()))
}

/// The record that an ARN names.
fn find(context: &Context, given: &Option<String>) -> Result<Record, ApiError> {
    let given = names::required(given, "Resource ARN")?;
    let arn = Arn::read(given).ok_or_else(|| ApiError::invalid("The ARN provided is invalid."))?;
    match (arn.kind, arn.path.as_slice()) {
        ("cluster", [_]) => cluster(context, given),
        ("capacity-provider", [name]) => capacity_provider(context, name),
        ("task-definition", [_]) => task_definition(context, given),
        ("task", [cluster, _]) => task(context, cluster, given),
        ("container-instance", [cluster, _]) => container_instance(context, cluster, given),
        ("service", [_, _]) => Err(not_found("service")),
        ("task" | "container-instance" | "service", [_]) => {
            Err(ApiError::invalid("Long arn format must be used for tagging operations"))
        }
        _ => Err(ApiError::invalid("The ARN provided is invalid.")),
    }
}

fn not_found(kind: &str) -> ApiError {
    ApiError::new(ErrorCode::ResourceNotFound, format!("The specified {kind} was not found."))
}

fn cluster(context: &Context, given: &str) -> Result<Record, ApiError> {
    let name = names::cluster_name(Some(given))?;
    match context.state.clusters.get(name) {
        Some(cluster) if cluster.active => Ok(Record::Cluster((**cluster).clone())),
        Some(_) => {
            Err(ApiError::invalid("The specified cluster is inactive. Specify an active cluster and try again."))
        }
        None => Err(names::cluster_not_found()),
    }
}

fn capacity_provider(context: &Context, name: &str) -> Result<Record, ApiError> {
    let found = capacity_providers::find(context.state, name).filter(|provider| provider.active);
    found.map(Record::CapacityProvider).ok_or_else(|| not_found("capacity provider"))
}

fn task_definition(context: &Context, given: &str) -> Result<Record, ApiError> {
    let (family, revision) = names::DefinitionName::read_whole(given)?;
    let found = context.state.task_definitions.get(&(family.to_owned(), revision));
    let found = found.ok_or_else(|| not_found("task definition"))?;
    Ok(Record::TaskDefinition(Box::new((**found).clone())))
}

fn task(context: &Context, cluster: &str, given: &str) -> Result<Record, ApiError> {
    let id = names::task(given, cluster)?;
    let found = id.and_then(|id| context.state.tasks.get(&id)).filter(|task| task.cluster == cluster);
    found.map(|task| Record::Task(Box::new((**task).clone()))).ok_or_else(|| not_found("task"))
}

fn container_instance(context: &Context, cluster: &str, given: &str) -> Result<Record, ApiError> {
    let id = names::instance(given, cluster)?;
    let found = id.and_then(|id| context.state.instance_of(cluster, &id).cloned());
    let found = found.filter(|instance| instance.status != InstanceStatus::Inactive);
    let found = found.ok_or_else(|| not_found("container instance"))?;
    Ok(Record::Instance(Box::new((*found).clone())))
}

fn tags_of(record: &Record) -> &[Tag] {
    match record {
        Record::Cluster(cluster) => &cluster.tags,
        Record::CapacityProvider(provider) => &provider.tags,
        Record::TaskDefinition(definition) => &definition.tags,
        Record::Instance(instance) => &instance.tags,
        Record::Task(task) => &task.tags,
        Record::Family(_) | Record::AccountSetting(_) | Record::Token(_) => &[],
    }
}

fn with_tags(mut record: Record, tags: Vec<Tag>) -> Changes {
    match &mut record {
        Record::Cluster(cluster) => cluster.tags = tags,
        Record::CapacityProvider(provider) => provider.tags = tags,
        Record::TaskDefinition(definition) => definition.tags = tags,
        Record::Instance(instance) => instance.tags = tags,
        Record::Task(task) => task.tags = tags,
        // No ARN names these.
        Record::Family(_) | Record::AccountSetting(_) | Record::Token(_) => {}
    }
    let mut changes = Changes::default();
    changes.put(record);
    changes
}
