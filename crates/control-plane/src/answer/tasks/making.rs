//! What RunTask and StartTask have in common: from a request to the tasks that it asks for, not yet placed.

use std::sync::Arc;

use ecs::TaskId;
use ecs::operations::registered::TaskDefinitionStatus;
use ecs::operations::shapes::NetworkConfiguration;
use ecs::operations::{ApiError, ErrorCode};
use ecs::overrides::{self, MAX_OVERRIDES_CHARACTERS};
use ecs::task::{DesiredStatus, LastStatus};
use ecs::task_definition::{PlacementConstraint, Tag, TaskDefinition};
use serde_json::Value;

use super::launch::{self, Launch};
use super::network;
use crate::answer::{Context, tags};
use crate::demand;
use crate::names::{self, DefinitionName};
use crate::records::{Cluster, TaskDefinitionRecord, TaskRecord};
use crate::state::State;

/// Of one call.
pub(super) const MAX_TASKS: usize = 10;
/// "You can specify up to 10 constraints for each task (including constraints in the task definition and those specified
/// at runtime)."
const MAX_CONSTRAINTS: usize = 10;
const MAX_GROUP_LENGTH: usize = 255;
/// The group of a service's tasks: nobody else's.
const SERVICE_GROUP: &str = "service:";
const CLUSTER_TAG: &str = "aws:ecs:clusterName";

/// The members that both requests have.
pub(super) struct Wish<'a> {
    pub(super) task_definition: &'a Option<String>,
    pub(super) overrides: &'a Option<Value>,
    pub(super) network_configuration: &'a Option<NetworkConfiguration>,
    pub(super) group: &'a Option<String>,
    pub(super) started_by: &'a Option<String>,
    pub(super) most_started_by: usize,
    pub(super) tags: &'a Option<Vec<Tag>>,
    pub(super) propagate_tags: &'a Option<String>,
    pub(super) managed_tags: bool,
    pub(super) enable_execute_command: bool,
    pub(super) volume_configurations: &'a Option<Vec<Value>>,
    pub(super) constraints: &'a [PlacementConstraint],
}

/// A wish that can be granted, as far as the request goes.
pub(super) struct Order<'a> {
    cluster: &'a str,
    record: &'a TaskDefinitionRecord,
    definition: Arc<TaskDefinition>,
    overrides: Option<Value>,
    group: String,
    started_by: Option<String>,
    tags: Vec<Tag>,
    constraints: Vec<PlacementConstraint>,
    network_configuration: &'a Option<NetworkConfiguration>,
    enable_execute_command: bool,
}

pub(super) fn order<'a>(state: &'a State, cluster: &'a Cluster, wish: &Wish<'a>) -> Result<Order<'a>, ApiError> {
    let record = definition(state, wish.task_definition)?;
    if wish.volume_configurations.as_ref().is_some_and(|volumes| !volumes.is_empty()) {
        let words = "volumeConfigurations asks for Amazon EBS volumes, which are not here.";
        return Err(ApiError::new(ErrorCode::UnsupportedFeature, words));
    }
    let (definition, overrides) = overridden(record, wish.overrides)?;
    let count = wish.constraints.len() + definition.placement_constraints.len();
    if count > MAX_CONSTRAINTS {
        return Err(ApiError::invalid(format!("placementConstraints can have at most {MAX_CONSTRAINTS} items.")));
    }
    Ok(Order {
        cluster: &cluster.name,
        record,
        definition,
        overrides,
        group: group(wish.group, &record.definition.family)?,
        started_by: short(wish.started_by, wish.most_started_by, "startedBy")?,
        tags: task_tags(cluster, record, wish)?,
        constraints: wish.constraints.to_vec(),
        network_configuration: wish.network_configuration,
        enable_execute_command: wish.enable_execute_command,
    })
}

impl Order<'_> {
    /// A task of its own, PROVISIONING, without an instance.
    pub(super) fn task(&self, launch: &Launch, context: &mut Context<'_>) -> Result<TaskRecord, ApiError> {
        launch::check(self.record, &self.definition, launch.launch_type)?;
        let network = network::read(self.network_configuration, &self.definition, launch.launch_type)?;
        Ok(TaskRecord {
            id: TaskId::from_bytes(context.ids.random()),
            cluster: self.cluster.to_owned(),
            region: context.caller.region.clone(),
            account_id: context.caller.account_id.clone(),
            instance: None,
            family: self.record.definition.family.clone(),
            revision: self.record.revision,
            definition: self.definition.clone(),
            overrides: self.overrides.clone(),
            demand: demand::of(&self.definition),
            launch_type: launch.launch_type.name().to_owned(),
            capacity_provider: launch.provider.clone(),
            platform_version: launch.platform_version.clone(),
            group: self.group.clone(),
            started_by: self.started_by.clone(),
            network,
            enable_execute_command: self.enable_execute_command,
            constraints: self.constraints.clone(),
            strategies: Vec::new(),
            tags: self.tags.clone(),
            created_at: context.now,
            last_status: LastStatus::Provisioning,
            desired_status: DesiredStatus::Running,
            version: 0,
            stop_code: None,
            stopped_reason: None,
            stopping_at: None,
            stopped_at: None,
            observed: None,
            protected_until: None,
            client_token: None,
            assigned_in: Default::default(),
            connected_at: None,
            stopped_seen_at: None,
        })
    }
}

/// "The family and revision … or full ARN of the task definition to run. If a revision isn't specified, the latest ACTIVE
/// revision is used."
fn definition<'a>(state: &'a State, given: &Option<String>) -> Result<&'a TaskDefinitionRecord, ApiError> {
    let name = DefinitionName::read(names::required(given, "TaskDefinition")?)?;
    let record = state.definition(&name).ok_or_else(|| ApiError::client("TaskDefinition not found."))?;
    match record.status {
        TaskDefinitionStatus::Active => Ok(record),
        TaskDefinitionStatus::Inactive | TaskDefinitionStatus::DeleteInProgress => {
            Err(ApiError::client("TaskDefinition is inactive"))
        }
    }
}

fn overridden(
    record: &TaskDefinitionRecord,
    given: &Option<Value>,
) -> Result<(Arc<TaskDefinition>, Option<Value>), ApiError> {
    let unchanged = || record.definition.clone();
    let given = match given {
        None | Some(Value::Null) => return Ok((unchanged(), None)),
        Some(Value::Object(given)) if given.is_empty() => return Ok((unchanged(), None)),
        Some(Value::Object(given)) => given,
        Some(_) => return Err(ApiError::invalid("overrides should be a structure.")),
    };
    let characters = serde_json::to_string(given).map(|text| text.chars().count()).unwrap_or(usize::MAX);
    if characters > MAX_OVERRIDES_CHARACTERS {
        let words = format!("Container Overrides length must be at most {MAX_OVERRIDES_CHARACTERS}");
        return Err(ApiError::invalid(words));
    }
    let containers = given.get("containerOverrides").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for name in containers.iter().filter_map(|container| container.get("name")?.as_str()) {
        if !record.definition.container_definitions.iter().any(|container| container.name.as_str() == name) {
            let words = format!("Override for container named {name} is not a container in the TaskDefinition.");
            return Err(ApiError::invalid(words));
        }
    }
    let report = overrides::check(&ecs::input::Document::registration(given.clone()), &record.definition);
    let Some(read) = report.overrides else {
        let error = report.findings.into_iter().find(|finding| finding.severity == ecs::lint::Severity::Error);
        let words = error.map_or_else(|| "they are not valid".to_owned(), |error| error.to_string());
        return Err(ApiError::invalid(format!("overrides: {}", words.trim_start_matches("error: "))));
    };
    let mut definition = (*record.definition).clone();
    overrides::apply(&mut definition, &read).map_err(|error| ApiError::invalid(format!("overrides: {error}")))?;
    Ok((Arc::new(definition), Some(Value::Object(given.clone()))))
}

fn group(given: &Option<String>, family: &str) -> Result<String, ApiError> {
    let given = short(given, MAX_GROUP_LENGTH, "group")?;
    match given {
        Some(group) if group.starts_with(SERVICE_GROUP) => Err(ApiError::invalid("Invalid namespace for group.")),
        Some(group) if !group.is_empty() => Ok(group),
        Some(_) | None => Ok(format!("family:{family}")),
    }
}

fn short(given: &Option<String>, most: usize, member: &str) -> Result<Option<String>, ApiError> {
    match given {
        Some(text) if text.chars().count() > most => {
            Err(ApiError::invalid(format!("{member} can have at most {most} characters.")))
        }
        Some(text) => Ok(Some(text.clone())),
        None => Ok(None),
    }
}

/// The request's tags over the definition's, where those are asked for, and Amazon's own.
fn task_tags(cluster: &Cluster, record: &TaskDefinitionRecord, wish: &Wish<'_>) -> Result<Vec<Tag>, ApiError> {
    let mut all = tags::checked(wish.tags)?;
    let inherited = match wish.propagate_tags.as_deref() {
        None | Some("NONE") => &[],
        Some("TASK_DEFINITION") => record.tags.as_slice(),
        // "An error will be received if you specify the SERVICE option when running a task."
        Some("SERVICE") => {
            let words = "The SERVICE value for propagateTags is not supported when running a task.";
            return Err(ApiError::invalid(words));
        }
        Some(_) => return Err(ApiError::invalid("propagateTags should be one of [TASK_DEFINITION,SERVICE,NONE]")),
    };
    for tag in inherited {
        if !all.iter().any(|own| own.key == tag.key) {
            all.push(tag.clone());
        }
    }
    if all.len() > tags::MAX_TAGS {
        return Err(ApiError::invalid(format!("tags can have at most {} items.", tags::MAX_TAGS)));
    }
    if wish.managed_tags {
        all.push(Tag { key: CLUSTER_TAG.to_owned(), value: cluster.name.clone() });
    }
    Ok(all)
}
