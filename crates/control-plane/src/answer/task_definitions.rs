//! Task definitions: families of numbered revisions. What a definition may say is `ecs::register`'s to judge.

use std::sync::Arc;

use ecs::capability;
use ecs::input::Document;
use ecs::operations::registered::TaskDefinitionStatus;
use ecs::operations::shapes::{Attribute, Failure};
use ecs::operations::task_definitions::{
    DeleteTaskDefinitionsRequest, DeleteTaskDefinitionsResponse, DeregisterTaskDefinitionRequest,
    DeregisterTaskDefinitionResponse, DescribeTaskDefinitionRequest, DescribeTaskDefinitionResponse,
    ListTaskDefinitionFamiliesRequest, ListTaskDefinitionFamiliesResponse, ListTaskDefinitionsRequest,
    ListTaskDefinitionsResponse, RegisterTaskDefinitionRequest, RegisterTaskDefinitionResponse,
};
use ecs::operations::{ApiError, ErrorCode, RegisteredTaskDefinition};
use ecs::task_definition::{NetworkMode, Tag, TaskDefinition, TransportProtocol};
use ecs::{register, size};
use serde_json::{Map, Value, json};

use super::{Answer, Context, tags};
use crate::change::{Changes, Record};
use crate::names::{self, DefinitionName};
use crate::page::{self, Asked, Page};
use crate::records::{Family, TaskDefinitionRecord};
use crate::state::State;

/// "Revisions per task definition family - 1,000,000. Deregistering a task definition revision doesn't exclude it"
/// (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service-quotas.html>).
const MAX_REVISIONS: u32 = 1_000_000;
/// "You can specify up to 10 task definitions as a comma separated list."
const MAX_DELETED: usize = 10;
const STATUSES: [&str; 3] = ["ACTIVE", "INACTIVE", "DELETE_IN_PROGRESS"];
const FAMILY_STATUSES: [&str; 3] = ["ACTIVE", "INACTIVE", "ALL"];
const ORDERS: [&str; 2] = ["ASC", "DESC"];
/// What a definition may be compatible with here, in the order in which Amazon tells them.
const LAUNCH_TYPES: [&str; 3] = ["EXTERNAL", "EC2", "FARGATE"];

pub fn register(
    context: &mut Context,
    request: &RegisterTaskDefinitionRequest,
) -> Answer<RegisterTaskDefinitionResponse> {
    let Value::Object(members) = &request.0 else {
        return Err(ApiError::client("A task definition is a JSON object."));
    };
    let mut definition = validated(members)?;
    if !names::is_name(&definition.family) {
        // `validated` has looked at it as well; a family is a key here and must never be anything else.
        return Err(ApiError::client("Family contains invalid characters."));
    }
    let tags = tags::checked(&Some(std::mem::take(&mut definition.tags)))?;
    let family = definition.family.clone();
    let revision = context.state.families.get(&family).map_or(0, |family| family.newest) + 1;
    if revision > MAX_REVISIONS {
        let message = format!("The maximum number of revisions of the family {family} has been exceeded.");
        return Err(ApiError::new(ErrorCode::LimitExceeded, message));
    }
    normalise(&mut definition);
    definition.revision = Some(revision);
    let record = TaskDefinitionRecord {
        revision,
        status: TaskDefinitionStatus::Active,
        requires_attributes: capability::required(&definition),
        compatibilities: compatibilities(members, &definition),
        registered_at: context.now,
        deregistered_at: None,
        delete_requested_at: None,
        registered_by: context.caller.principal_arn.clone(),
        tags: tags.clone(),
        definition: Arc::new(definition),
    };
    let shown = shown(context, &record);
    let mut changes = Changes::default();
    changes.put(Record::Family(Family { name: family, newest: revision }));
    changes.put(Record::TaskDefinition(Box::new(record)));
    Ok((RegisterTaskDefinitionResponse { task_definition: Some(shown), tags }, changes))
}

fn validated(members: &Map<String, Value>) -> Result<TaskDefinition, ApiError> {
    register::validate(&Document::registration(members.clone())).map_err(|refused| ApiError::client(refused.message))
}

/// As Amazon registers it: sizes as numbers ("it's converted to an integer … when the task definition is registered",
/// API_RegisterTaskDefinition), and port mappings with the host port and the protocol that they stand for.
fn normalise(definition: &mut TaskDefinition) {
    if let Some(units) = definition.cpu.as_deref().and_then(|cpu| size::cpu_units(cpu).ok()) {
        definition.cpu = Some(units.to_string());
    }
    if let Some(mib) = definition.memory.as_deref().and_then(|memory| size::memory_mib(memory).ok()) {
        definition.memory = Some(mib.to_string());
    }
    let mode = definition.effective_network_mode();
    let mappings = definition.container_definitions.iter_mut().flat_map(|container| &mut container.port_mappings);
    for mapping in mappings {
        mapping.protocol = mapping.protocol.or(Some(TransportProtocol::Tcp));
        if let (None, Some(port)) = (mapping.host_port, mapping.container_port) {
            mapping.host_port = match mode {
                NetworkMode::Awsvpc | NetworkMode::Host => Some(port),
                NetworkMode::Bridge => Some(0),
                NetworkMode::None => None,
            };
        }
    }
}

/// "Amazon ECS validates the task definition parameters with those supported by the launch type": those for which the same
/// definition would be registered if it required them. EXTERNAL has no awsvpc at Amazon's.
fn compatibilities(members: &Map<String, Value>, definition: &TaskDefinition) -> Vec<String> {
    let awsvpc = definition.effective_network_mode() == NetworkMode::Awsvpc;
    let fits = |launch_type: &&&str| match **launch_type {
        "EXTERNAL" => !awsvpc,
        "FARGATE" if !awsvpc => false,
        launch_type => {
            let mut members = members.clone();
            members.insert("requiresCompatibilities".to_owned(), json!([launch_type]));
            validated(&members).is_ok()
        }
    };
    LAUNCH_TYPES.iter().filter(fits).map(|launch_type| (*launch_type).to_owned()).collect()
}

/// Without tags, which stand beside it.
fn shown(context: &Context, record: &TaskDefinitionRecord) -> RegisteredTaskDefinition {
    let attribute = |name: &String| Attribute { name: Some(name.clone()), ..Attribute::default() };
    RegisteredTaskDefinition {
        task_definition_arn: context.account().task_definition(&record.definition.family, record.revision),
        definition: (*record.definition).clone(),
        status: record.status,
        requires_attributes: record.requires_attributes.iter().map(attribute).collect(),
        compatibilities: record.compatibilities.clone(),
        registered_at: record.registered_at,
        deregistered_at: record.deregistered_at,
        delete_requested_at: record.delete_requested_at,
        registered_by: Some(record.registered_by.clone()),
    }
}

pub fn describe(
    context: &mut Context,
    request: &DescribeTaskDefinitionRequest,
) -> Answer<DescribeTaskDefinitionResponse> {
    names::included(&request.include, &["TAGS"])?;
    let given = names::required(&request.task_definition, "TaskDefinition")?;
    let record = context.state.definition(&DefinitionName::read(given)?).ok_or_else(not_described)?;
    let tags: Vec<Tag> = if names::includes(&request.include, "TAGS") { record.tags.clone() } else { Vec::new() };
    let task_definition = Some(shown(context, record));
    Ok((DescribeTaskDefinitionResponse { task_definition, tags }, Changes::default()))
}

fn not_described() -> ApiError {
    ApiError::client("Unable to describe task definition.")
}

/// ACTIVE to INACTIVE. One that is INACTIVE already is answered as it is.
pub fn deregister(
    context: &mut Context,
    request: &DeregisterTaskDefinitionRequest,
) -> Answer<DeregisterTaskDefinitionResponse> {
    let given = names::required(&request.task_definition, "TaskDefinition")?;
    let (family, revision) = DefinitionName::read_whole(given)?;
    let record = context.state.task_definitions.get(&(family.to_owned(), revision)).ok_or_else(not_described)?;
    let mut changes = Changes::default();
    let mut record = (**record).clone();
    match record.status {
        TaskDefinitionStatus::Active => {
            record.status = TaskDefinitionStatus::Inactive;
            record.deregistered_at = Some(context.now);
            changes.put(Record::TaskDefinition(Box::new(record.clone())));
        }
        TaskDefinitionStatus::Inactive => {}
        TaskDefinitionStatus::DeleteInProgress => {
            return Err(ApiError::client(
                "The specified task definition is in the process of being deleted. Specify another task definition and try \
                 again.",
            ));
        }
    }
    Ok((DeregisterTaskDefinitionResponse { task_definition: Some(shown(context, &record)) }, changes))
}

/// INACTIVE to DELETE_IN_PROGRESS. "A task definition revision will stay in DELETE_IN_PROGRESS status until all the
/// associated tasks and services have been terminated": `reconcile` takes it away then.
pub fn delete(context: &mut Context, request: &DeleteTaskDefinitionsRequest) -> Answer<DeleteTaskDefinitionsResponse> {
    let given = request.task_definitions.as_deref().unwrap_or_default();
    if given.is_empty() {
        return Err(ApiError::invalid("size of TaskDefinition references list must be greater than 0"));
    }
    if given.len() > MAX_DELETED {
        return Err(ApiError::invalid(format!("Size of TaskDefinition references list cannot exceed {MAX_DELETED}")));
    }
    let mut response = DeleteTaskDefinitionsResponse::default();
    let mut changes = Changes::default();
    let mut done = Vec::new();
    for given in given {
        match deleted(context, given)? {
            Ok(record) => {
                let key = (record.definition.family.clone(), record.revision);
                if done.contains(&key) {
                    continue;
                }
                done.push(key);
                response.task_definitions.push(shown(context, &record));
                changes.put(Record::TaskDefinition(Box::new(record)));
            }
            Err(failure) => response.failures.push(failure),
        }
    }
    Ok((response, changes))
}

/// One of the list: its new record, or what stands in its way alone.
fn deleted(context: &Context, given: &str) -> Result<Result<TaskDefinitionRecord, Failure>, ApiError> {
    let (family, revision) = DefinitionName::read_whole(given)?;
    let failure = |reason: &str, detail: &str| Failure {
        arn: Some(context.account().task_definition(family, revision)),
        reason: Some(reason.to_owned()),
        detail: Some(detail.to_owned()),
    };
    let Some(record) = context.state.task_definitions.get(&(family.to_owned(), revision)) else {
        return Ok(Err(failure("MISSING", "The specified task definition was not found.")));
    };
    let mut record = (**record).clone();
    match record.status {
        TaskDefinitionStatus::Active => {
            let detail =
                "The specified task definition is still in ACTIVE status. Please deregister the target and try again.";
            return Ok(Err(failure("TASK_DEFINITION_ACTIVE", detail)));
        }
        TaskDefinitionStatus::Inactive => {
            record.status = TaskDefinitionStatus::DeleteInProgress;
            record.delete_requested_at = Some(context.now);
        }
        TaskDefinitionStatus::DeleteInProgress => {}
    }
    Ok(Ok(record))
}

/// "Task definitions are listed lexicographically by family name and in ascending numerical order by revision."
pub fn list(context: &mut Context, request: &ListTaskDefinitionsRequest) -> Answer<ListTaskDefinitionsResponse> {
    let status = names::one_of(request.status.as_deref().unwrap_or("ACTIVE"), &STATUSES, "status")?;
    let order = names::one_of(request.sort.as_deref().unwrap_or("ASC"), &ORDERS, "sort")?;
    let family = request.family_prefix.as_deref();
    let page = Page::read(Asked {
        operation: "ListTaskDefinitions",
        filters: &[family, Some(status), Some(order)],
        max_results: request.max_results,
        next_token: request.next_token.as_deref(),
        limits: page::LONG,
    })?;
    let after = page.after().map(|key| read_key(key).ok_or_else(page::invalid_token)).transpose()?;
    let wanted = |record: &&Arc<TaskDefinitionRecord>| {
        family.is_none_or(|family| record.definition.family == family) && status_name(record.status) == status
    };
    let item = |record: &Arc<TaskDefinitionRecord>| {
        let (family, revision) = (&record.definition.family, record.revision);
        (format!("{family}:{revision}"), context.account().task_definition(family, revision))
    };
    let (task_definition_arns, next_token) = if order == "DESC" {
        page.cut(definitions(context.state, family, after, Order::Falling).filter(wanted).map(item))
    } else {
        page.cut(definitions(context.state, family, after, Order::Rising).filter(wanted).map(item))
    };
    Ok((ListTaskDefinitionsResponse { task_definition_arns, next_token }, Changes::default()))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Rising,
    Falling,
}

/// Revisions of a family, or of all, that come behind `after` in the order asked for.
fn definitions<'a>(
    state: &'a State,
    family: Option<&str>,
    after: Option<(String, u32)>,
    order: Order,
) -> Box<dyn Iterator<Item = &'a Arc<TaskDefinitionRecord>> + 'a> {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let (mut from, mut to) = match family {
        None => (Unbounded, Unbounded),
        Some(family) => (Included((family.to_owned(), 0)), Included((family.to_owned(), u32::MAX))),
    };
    if let Some(after) = after {
        match order {
            Order::Rising => from = Excluded(after),
            Order::Falling => to = Excluded(after),
        }
    }
    let range = state.task_definitions.range((from, to)).map(|(_, record)| record);
    match order {
        Order::Rising => Box::new(range),
        Order::Falling => Box::new(range.rev()),
    }
}

fn read_key(key: &str) -> Option<(String, u32)> {
    let (family, revision) = key.rsplit_once(':')?;
    Some((family.to_owned(), revision.parse().ok()?))
}

fn status_name(status: TaskDefinitionStatus) -> &'static str {
    match status {
        TaskDefinitionStatus::Active => "ACTIVE",
        TaskDefinitionStatus::Inactive => "INACTIVE",
        TaskDefinitionStatus::DeleteInProgress => "DELETE_IN_PROGRESS",
    }
}

/// "By default, both ACTIVE and INACTIVE task definition families are listed." A family of which no revision is left is
/// neither.
pub fn list_families(
    context: &mut Context,
    request: &ListTaskDefinitionFamiliesRequest,
) -> Answer<ListTaskDefinitionFamiliesResponse> {
    let status = names::one_of(request.status.as_deref().unwrap_or("ALL"), &FAMILY_STATUSES, "status")?;
    let prefix = request.family_prefix.as_deref().unwrap_or_default();
    let page = Page::read(Asked {
        operation: "ListTaskDefinitionFamilies",
        filters: &[Some(prefix), Some(status)],
        max_results: request.max_results,
        next_token: request.next_token.as_deref(),
        limits: page::LONG,
    })?;
    let families = context.state.families.range::<String, _>(page.bounds()).map(|(name, _)| name);
    let wanted = |name: &&String| name.starts_with(prefix) && is_family(context.state, name, status);
    let (families, next_token) = page.cut(families.filter(wanted).map(|name| (name.clone(), name.clone())));
    Ok((ListTaskDefinitionFamiliesResponse { families, next_token }, Changes::default()))
}

fn is_family(state: &State, name: &str, status: &str) -> bool {
    let mut revisions = definitions(state, Some(name), None, Order::Falling).peekable();
    if revisions.peek().is_none() {
        return false;
    }
    let mut active = || revisions.any(|record| record.status == TaskDefinitionStatus::Active);
    match status {
        "ACTIVE" => active(),
        "INACTIVE" => !active(),
        _ => true,
    }
}
