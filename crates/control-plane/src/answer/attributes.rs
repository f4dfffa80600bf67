//! Attributes of container instances: their agents' own, and custom ones by PutAttributes
//! (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Attribute.html>).

use std::collections::BTreeMap;

use ecs::ContainerInstanceId;
use ecs::operations::attributes::{
    DeleteAttributesRequest, DeleteAttributesResponse, ListAttributesRequest, ListAttributesResponse,
    PutAttributesRequest, PutAttributesResponse,
};
use ecs::operations::shapes::Attribute;
use ecs::operations::{ApiError, ErrorCode};

use super::{Answer, Context};
use crate::change::{Changes, Record};
use crate::names;
use crate::page::{self, Asked, Page};
use crate::records::{ContainerInstance, InstanceStatus};

const TARGET_TYPE: &str = "container-instance";
/// "You can specify up to 10 custom attributes for each resource. You can specify up to 10 attributes in a single call."
const MAX_CUSTOM: usize = 10;
const MAX_IN_A_CALL: usize = 10;
const MAX_CHARACTERS: usize = 128;
/// What an agent tells; nobody else may.
const RESERVED_PREFIXES: [&str; 2] = ["ecs.", "com.amazonaws."];

/// # Errors
/// InvalidParameterException for a name or a value that no attribute can have.
pub(super) fn check(attribute: &Attribute) -> Result<(), ApiError> {
    let name = attribute.name.as_deref().unwrap_or_default();
    let in_names = |character: char| character.is_ascii_alphanumeric() || "-_./\\".contains(character);
    if name.is_empty() || name.len() > MAX_CHARACTERS || !name.chars().all(in_names) {
        return Err(ApiError::invalid(format!(
            "The attribute name must have between 1 and {MAX_CHARACTERS} letters, digits, hyphens, underscores, slashes, \
             backslashes and periods, but was {name}"
        )));
    }
    let Some(value) = attribute.value.as_deref() else { return Ok(()) };
    let in_values = |character: char| in_names(character) || "@: ".contains(character);
    let bounds = value.is_empty() || value.len() > MAX_CHARACTERS;
    if bounds || !value.chars().all(in_values) || value.starts_with(' ') || value.ends_with(' ') {
        return Err(ApiError::invalid(format!(
            "The value of the attribute {name} must have between 1 and {MAX_CHARACTERS} letters, digits, hyphens, \
             underscores, periods, at signs, slashes, backslashes, colons and spaces, with no space at either end, but was \
             {value}"
        )));
    }
    Ok(())
}

pub fn put(context: &mut Context, request: &PutAttributesRequest) -> Answer<PutAttributesResponse> {
    let cluster = context.state.cluster(&request.cluster)?.name.clone();
    let given = listed(&request.attributes)?;
    let mut changed: BTreeMap<ContainerInstanceId, ContainerInstance> = BTreeMap::new();
    let mut answer = Vec::new();
    for attribute in given {
        check(attribute)?;
        refuse_reserved(attribute)?;
        let instance = target(context, &cluster, attribute, &mut changed)?;
        let kept = Attribute { target_id: None, target_type: None, ..attribute.clone() };
        match instance.custom_attributes.iter_mut().find(|known| known.name == kept.name) {
            Some(known) => *known = kept.clone(),
            None => instance.custom_attributes.push(kept.clone()),
        }
        if instance.custom_attributes.len() > MAX_CUSTOM {
            let message = format!("You can apply up to {MAX_CUSTOM} custom attributes for each resource.");
            return Err(ApiError::new(ErrorCode::AttributeLimitExceeded, message));
        }
        let arn = context.account().container_instance(&cluster, &instance.id);
        answer.push(Attribute { target_id: Some(arn), ..kept });
    }
    Ok((PutAttributesResponse { attributes: answer }, changes(context, changed)))
}

/// "Specify the attribute name and target ID, but don't specify the value." What is not there is not deleted.
pub fn delete(context: &mut Context, request: &DeleteAttributesRequest) -> Answer<DeleteAttributesResponse> {
    let cluster = context.state.cluster(&request.cluster)?.name.clone();
    let given = listed(&request.attributes)?;
    let mut changed: BTreeMap<ContainerInstanceId, ContainerInstance> = BTreeMap::new();
    let mut answer = Vec::new();
    for attribute in given {
        names::required(&attribute.name, "Attribute name")?;
        let instance = target(context, &cluster, attribute, &mut changed)?;
        let Some(place) = instance.custom_attributes.iter().position(|known| known.name == attribute.name) else {
            continue;
        };
        let gone = instance.custom_attributes.remove(place);
        let arn = context.account().container_instance(&cluster, &instance.id);
        answer.push(Attribute { target_id: Some(arn), ..gone });
    }
    Ok((DeleteAttributesResponse { attributes: answer }, changes(context, changed)))
}

fn listed(given: &Option<Vec<Attribute>>) -> Result<&[Attribute], ApiError> {
    let given = given.as_deref().unwrap_or_default();
    if given.is_empty() {
        return Err(ApiError::invalid("attributes can not be empty"));
    }
    if given.len() > MAX_IN_A_CALL {
        return Err(ApiError::invalid(format!("attributes can have at most {MAX_IN_A_CALL} items.")));
    }
    Ok(given)
}

fn refuse_reserved(attribute: &Attribute) -> Result<(), ApiError> {
    let name = attribute.name.as_deref().unwrap_or_default();
    match RESERVED_PREFIXES.iter().find(|prefix| name.starts_with(**prefix)) {
        None => Ok(()),
        Some(prefix) => Err(ApiError::invalid(format!("Attribute names can't start with '{prefix}', but was {name}"))),
    }
}

/// The instance that an attribute is for, as it is after the attributes before it.
fn target<'a>(
    context: &Context,
    cluster: &str,
    attribute: &Attribute,
    changed: &'a mut BTreeMap<ContainerInstanceId, ContainerInstance>,
) -> Result<&'a mut ContainerInstance, ApiError> {
    let given = names::required(&attribute.target_id, "targetId")?;
    // "This parameter is required if you use the short form ID for a resource instead of the full ARN."
    let short = !given.starts_with("arn:");
    if attribute.target_type.as_deref().map_or(short, |kind| kind != TARGET_TYPE) {
        return Err(ApiError::invalid(format!("targetType must be {TARGET_TYPE}")));
    }
    let missing = || ApiError::new(ErrorCode::TargetNotFound, format!("Could not find {given}"));
    let id = names::instance(given, cluster)?.ok_or_else(missing)?;
    let known = context.state.instance_of(cluster, &id).filter(|known| known.status != InstanceStatus::Inactive);
    let known = known.ok_or_else(missing)?;
    Ok(changed.entry(id).or_insert_with(|| (**known).clone()))
}

/// Instances that come out as they were are no changes.
fn changes(context: &Context, changed: BTreeMap<ContainerInstanceId, ContainerInstance>) -> Changes {
    let mut changes = Changes::default();
    for (id, instance) in changed {
        if context.state.instances.get(&id).is_none_or(|known| **known != instance) {
            changes.put(Record::Instance(Box::new(instance)));
        }
    }
    changes
}

pub fn list(context: &mut Context, request: &ListAttributesRequest) -> Answer<ListAttributesResponse> {
    let cluster = context.state.cluster(&request.cluster)?.name.clone();
    if request.target_type.as_deref() != Some(TARGET_TYPE) {
        return Err(ApiError::invalid(format!("targetType must be {TARGET_TYPE}")));
    }
    let (name, value) = (request.attribute_name.as_deref(), request.attribute_value.as_deref());
    if value.is_some() && name.is_none() {
        return Err(ApiError::invalid("You must also specify an attribute name to filter by value."));
    }
    let page = Page::read(Asked {
        operation: "ListAttributes",
        filters: &[Some(&cluster), name, value],
        max_results: request.max_results,
        next_token: request.next_token.as_deref(),
        limits: page::LONG,
    })?;
    let wanted = |attribute: &Attribute| {
        name.is_none_or(|name| attribute.name.as_deref() == Some(name))
            && value.is_none_or(|value| attribute.value.as_deref() == Some(value))
    };
    let (first, after) =
        match page.after().map(|key| key.split_once(' ').ok_or_else(page::invalid_token)).transpose()? {
            None => (std::ops::Bound::Unbounded, None),
            Some((id, name)) => {
                let id = ContainerInstanceId::try_from(id.to_owned()).map_err(|_| page::invalid_token())?;
                (std::ops::Bound::Included(id.clone()), Some((id, name)))
            }
        };
    let instances = context.state.instances.range((first, std::ops::Bound::Unbounded));
    let instances =
        instances.filter(|(_, instance)| instance.cluster == cluster && instance.status != InstanceStatus::Inactive);
    let attributes = instances.flat_map(|(id, instance)| sorted(instance).into_iter().map(move |found| (id, found)));
    let listed = attributes
        .filter(|(id, (name, _))| {
            after.as_ref().is_none_or(|(last, after)| *id > last || (*id == last && name.as_str() > *after))
        })
        .filter(|(_, (_, attribute))| wanted(attribute));
    let account = context.account();
    let (attributes, next_token) = page.cut(listed.map(|(id, (name, attribute))| {
        let arn = account.container_instance(&cluster, id);
        (format!("{id} {name}"), Attribute { target_id: Some(arn), target_type: None, ..attribute })
    }));
    Ok((ListAttributesResponse { attributes, next_token }, Changes::default()))
}

/// An instance's attributes by name; a custom one stands before an agent's of the same name.
fn sorted(instance: &ContainerInstance) -> BTreeMap<String, Attribute> {
    let all = instance.attributes.iter().chain(&instance.custom_attributes);
    all.filter_map(|attribute| Some((attribute.name.clone()?, attribute.clone()))).collect()
}
