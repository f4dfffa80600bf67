//! Container instances: as their agents register them, and what is made of that.

use ecs::operations::container_instances::{
    DeregisterContainerInstanceRequest, DeregisterContainerInstanceResponse, DescribeContainerInstancesRequest,
    DescribeContainerInstancesResponse, ListContainerInstancesRequest, ListContainerInstancesResponse,
    RegisterContainerInstanceRequest, RegisterContainerInstanceResponse, UpdateContainerAgentRequest,
    UpdateContainerAgentResponse, UpdateContainerInstancesStateRequest, UpdateContainerInstancesStateResponse,
};
use ecs::operations::shapes::{self, Attribute, Failure};
use ecs::operations::{ApiError, ErrorCode};
use ecs::{ContainerInstanceId, Timestamp};
use scheduler::Query;
use scheduler::query::Facts;

use super::{Answer, Context, attributes, instance_resources, tags};
use crate::change::{Changes, Record};
use crate::counts::{Phase, phase};
use crate::draft::Draft;
use crate::names;
use crate::page::{self, Asked, Page};
use crate::records::{ContainerInstance, InstanceStatus, TaskRecord};
use crate::state::State;
use crate::stopping;

/// "A list of up to 100 container instance IDs".
const MAX_DESCRIBED: usize = 100;
/// "A list of up to 10 container instance IDs".
const MAX_UPDATED: usize = 10;
const FIELDS: [&str; 2] = ["TAGS", "CONTAINER_INSTANCE_HEALTH"];
const STATUSES: [&str; 5] = ["ACTIVE", "DRAINING", "REGISTERING", "DEREGISTERING", "REGISTRATION_FAILED"];

/// What Amazon's agent calls. The instance is there at once, and its agent is disconnected until it says otherwise by a
/// session of its own; the identity document is not asked for.
pub fn register(
    context: &mut Context,
    request: &RegisterContainerInstanceRequest,
) -> Answer<RegisterContainerInstanceResponse> {
    let cluster = context.state.cluster(&request.cluster)?.name.clone();
    let known = match request.container_instance_arn.as_deref().filter(|arn| !arn.is_empty()) {
        None => None,
        Some(given) => Some(registered_before(context, &cluster, given)?),
    };
    let resources = instance_resources::read(request)?;
    let attributes = request.attributes.clone().unwrap_or_default();
    attributes.iter().try_for_each(attributes::check)?;
    let tags = tags::checked(&request.tags)?;
    let id = match &known {
        Some(known) => known.id.clone(),
        None => ContainerInstanceId::from_bytes(context.ids.random()),
    };
    let record = ContainerInstance {
        id: id.clone(),
        cluster,
        status: known.as_ref().map_or(InstanceStatus::Active, |known| known.status),
        status_reason: known.as_ref().and_then(|known| known.status_reason.clone()),
        connected: known.as_ref().is_some_and(|known| known.connected),
        connection_changed_at: known.as_ref().map_or(context.now, |known| known.connection_changed_at),
        registered_at: known.as_ref().map_or(context.now, |known| known.registered_at),
        host_name: instance_resources::host_name(request).unwrap_or_else(|| id.to_string()),
        boot_id: known.as_ref().map(|known| known.boot_id.clone()).unwrap_or_default(),
        cpu: resources.cpu,
        memory_mib: resources.memory_mib,
        reserved_ports: resources.tcp_ports,
        reserved_ports_udp: resources.udp_ports,
        gpu_ids: resources.gpu_ids,
        interfaces: known.as_ref().map_or(0, |known| known.interfaces),
        attributes,
        custom_attributes: known.as_ref().map(|known| known.custom_attributes.clone()).unwrap_or_default(),
        version_info: request.version_info.clone(),
        capacity_provider: known.as_ref().and_then(|known| known.capacity_provider.clone()),
        tags: known.as_ref().map_or(tags, |known| known.tags.clone()),
        version: known.as_ref().map_or(0, |known| known.version + 1),
        assigned: known.as_ref().map(|known| known.assigned).unwrap_or_default(),
        pressing: known.as_ref().map(|known| known.pressing).unwrap_or_default(),
        written: known.as_ref().map(|known| known.written).unwrap_or_default(),
        inactive_since: None,
    };
    let shown = shown(context, &record, Details { tags: true, health: false });
    let mut changes = Changes::default();
    changes.put(Record::Instance(Box::new(record)));
    Ok((RegisterContainerInstanceResponse { container_instance: Some(shown) }, changes))
}

fn registered_before(context: &Context, cluster: &str, given: &str) -> Result<ContainerInstance, ApiError> {
    let known = find(context, cluster, given)?;
    if known.status == InstanceStatus::Inactive {
        return Err(ApiError::client(format!("Container instance {} is inactive.", known.id)));
    }
    Ok(known)
}

/// An instance that is there, INACTIVE ones included.
fn find(context: &Context, cluster: &str, given: &str) -> Result<ContainerInstance, ApiError> {
    let id = names::instance(given, cluster)?;
    let known = id.and_then(|id| context.state.instance_of(cluster, &id).cloned());
    let known = known.ok_or_else(|| ApiError::invalid(format!("Referenced container instance {given} not found.")))?;
    Ok((*known).clone())
}

/// "If you have tasks running on the container instance when you deregister it with the force option, these tasks remain
/// running … but they're orphaned (no longer monitored or accounted for by Amazon ECS)": STOPPED, as far as this knows.
pub fn deregister(
    context: &mut Context,
    request: &DeregisterContainerInstanceRequest,
) -> Answer<DeregisterContainerInstanceResponse> {
    let given = names::required(&request.container_instance, "Container instance")?;
    let cluster = context.state.cluster(&request.cluster)?.name.clone();
    let mut record = find(context, &cluster, given)?;
    if record.status == InstanceStatus::Inactive {
        let container_instance = Some(shown(context, &record, Details::default()));
        return Ok((DeregisterContainerInstanceResponse { container_instance }, Changes::default()));
    }
    let tasks: Vec<TaskRecord> = context.state.living_tasks(&record.id).map(|task| (**task).clone()).collect();
    if !tasks.is_empty() && request.force != Some(true) {
        return Err(ApiError::invalid("Found running tasks on the instance."));
    }
    record.status = InstanceStatus::Inactive;
    record.inactive_since = Some(context.now);
    record.tags = Vec::new();
    record.version += 1;
    let mut draft = Draft::new(context.state);
    draft.put(Record::Instance(Box::new(record.clone())));
    for task in tasks {
        draft.put_task(stopping::ended(task, stopping::deregistered(), context.now));
    }
    let container_instance = Some(shown(context, &record, Details::default()));
    Ok((DeregisterContainerInstanceResponse { container_instance }, draft.finish()))
}

pub fn describe(
    context: &mut Context,
    request: &DescribeContainerInstancesRequest,
) -> Answer<DescribeContainerInstancesResponse> {
    names::included(&request.include, &FIELDS)?;
    let cluster = context.state.cluster(&request.cluster)?.name.clone();
    let given = names::required_list(&request.container_instances, "Container instances", MAX_DESCRIBED)?;
    let details = Details {
        tags: names::includes(&request.include, "TAGS"),
        health: names::includes(&request.include, "CONTAINER_INSTANCE_HEALTH"),
    };
    let mut response = DescribeContainerInstancesResponse::default();
    for given in given {
        let id = names::instance(given, &cluster)?;
        match id.and_then(|id| context.state.instance_of(&cluster, &id)) {
            Some(record) => response.container_instances.push(shown(context, record, details)),
            None => response.failures.push(failure(context, &cluster, given, "MISSING")),
        }
    }
    Ok((response, Changes::default()))
}

fn failure(context: &Context, cluster: &str, given: &str, reason: &str) -> Failure {
    let whole = |id: &str| context.account().arn(&format!("container-instance/{cluster}/{id}"));
    Failure { arn: Some(names::missing_arn(given, whole)), reason: Some(reason.to_owned()), detail: None }
}

/// "The default is to include container instances set to all states other than INACTIVE."
pub fn list(context: &mut Context, request: &ListContainerInstancesRequest) -> Answer<ListContainerInstancesResponse> {
    let cluster = context.state.cluster(&request.cluster)?.name.clone();
    let status = request.status.as_deref();
    let status = status.map(|status| names::one_of(status, &STATUSES, "Container instance status")).transpose()?;
    let filter = request.filter.as_deref().filter(|filter| !filter.trim().is_empty());
    let page = Page::read(Asked {
        operation: "ListContainerInstances",
        filters: &[Some(&cluster), filter, status],
        max_results: request.max_results,
        next_token: request.next_token.as_deref(),
        limits: page::LONG,
    })?;
    let from = match page.after() {
        None => std::ops::Bound::Unbounded,
        Some(key) => {
            let id = ContainerInstanceId::try_from(key.to_owned()).map_err(|_| page::invalid_token())?;
            std::ops::Bound::Excluded(id)
        }
    };
    let query = filter.map(Query::parse).transpose();
    let query = query.map_err(|error| ApiError::invalid(format!("Invalid filter: {error}")))?;
    let listed = context.state.instances.range((from, std::ops::Bound::Unbounded)).filter(|(id, instance)| {
        instance.cluster == cluster
            && instance.status != InstanceStatus::Inactive
            && status.is_none_or(|status| status_name(instance.status) == status)
            && query.as_ref().is_none_or(|query| is_true_of(context.state, query, id))
    });
    let listed = listed.map(|(id, _)| (id.to_string(), context.account().container_instance(&cluster, id)));
    let (container_instance_arns, next_token) = page.cut(listed);
    Ok((ListContainerInstancesResponse { container_instance_arns, next_token }, Changes::default()))
}

/// A statement of the cluster query language about an instance as it is now.
fn is_true_of(state: &State, query: &Query, id: &ContainerInstanceId) -> bool {
    let fleet = state.instances.get(id).and_then(|record| state.fleets.get(&record.cluster));
    let Some(instance) = fleet.and_then(|fleet| fleet.instance(id)) else { return false };
    let groups: Vec<&str> = state.living_tasks(id).map(|task| task.group.as_str()).collect();
    let running = state.living_tasks(id).filter(|task| phase(task.last_status) == Some(Phase::Running)).count();
    query.matches(&Facts::new(instance, running, &groups))
}

pub fn update_state(
    context: &mut Context,
    request: &UpdateContainerInstancesStateRequest,
) -> Answer<UpdateContainerInstancesStateResponse> {
    let cluster = context.state.cluster(&request.cluster)?.name.clone();
    let status = match request.status.as_deref() {
        Some("ACTIVE") => InstanceStatus::Active,
        Some("DRAINING") => InstanceStatus::Draining,
        _ => return Err(ApiError::invalid("Container instance status should be one of [ACTIVE, DRAINING]")),
    };
    let given = names::required_list(&request.container_instances, "instanceIds", MAX_UPDATED)?;
    let mut response = UpdateContainerInstancesStateResponse::default();
    let mut changes = Changes::default();
    for given in given {
        let id = names::instance(given, &cluster)?;
        let Some(record) = id.and_then(|id| context.state.instance_of(&cluster, &id)) else {
            response.failures.push(failure(context, &cluster, given, "MISSING"));
            continue;
        };
        if record.status == InstanceStatus::Inactive {
            response.failures.push(failure(context, &cluster, given, "INACTIVE"));
            continue;
        }
        let mut record = (**record).clone();
        if record.status != status {
            record.status = status;
            record.version += 1;
            changes.put(Record::Instance(Box::new(record.clone())));
        }
        response.container_instances.push(shown(context, &record, Details::default()));
    }
    Ok((response, changes))
}

/// An agent here is as new as the binary that it is of: there is never an update that could be asked for.
pub fn update_agent(
    context: &mut Context,
    request: &UpdateContainerAgentRequest,
) -> Answer<UpdateContainerAgentResponse> {
    let given = names::required(&request.container_instance, "Container instance")?;
    let cluster = context.state.cluster(&request.cluster)?.name.clone();
    let record = find(context, &cluster, given)?;
    let version = record.version_info.as_ref().and_then(|info| info.agent_version.as_deref());
    if version.is_none_or(str::is_empty) {
        let message =
            "Amazon ECS can't determine the current version of the container agent on the container instance.";
        return Err(ApiError::new(ErrorCode::MissingVersion, message));
    }
    let message = "There is no update available for your container agent.";
    Err(ApiError::new(ErrorCode::NoUpdateAvailable, message))
}

/// What `include` asks for.
#[derive(Clone, Copy, Default)]
struct Details {
    tags: bool,
    health: bool,
}

fn status_name(status: InstanceStatus) -> &'static str {
    match status {
        InstanceStatus::Active => "ACTIVE",
        InstanceStatus::Draining => "DRAINING",
        InstanceStatus::Inactive => "INACTIVE",
    }
}

fn shown(context: &Context, record: &ContainerInstance, details: Details) -> shapes::ContainerInstance {
    let state = context.state;
    let (mut running, mut pending) = (0, 0);
    for task in state.living_tasks(&record.id) {
        match phase(task.last_status) {
            Some(Phase::Running) => running += 1,
            Some(Phase::Pending) => pending += 1,
            None => {}
        }
    }
    let used = state.fleets.get(&record.cluster).and_then(|fleet| fleet.used(&record.id)).unwrap_or_default();
    let attribute = |attribute: &Attribute| Attribute { target_id: None, target_type: None, ..attribute.clone() };
    shapes::ContainerInstance {
        container_instance_arn: Some(context.account().container_instance(&record.cluster, &record.id)),
        ec2_instance_id: Some(record.host_name.clone()),
        capacity_provider_name: record.capacity_provider.clone(),
        version: i64::try_from(record.version).ok(),
        version_info: Some(record.version_info.clone().unwrap_or_default()),
        remaining_resources: instance_resources::remaining(record, &used),
        registered_resources: instance_resources::registered(record),
        status: Some(status_name(record.status).to_owned()),
        status_reason: record.status_reason.clone(),
        agent_connected: Some(record.connected && record.status != InstanceStatus::Inactive),
        running_tasks_count: Some(running),
        pending_tasks_count: Some(pending),
        agent_update_status: None,
        attributes: record.attributes.iter().chain(&record.custom_attributes).map(attribute).collect(),
        registered_at: Some(record.registered_at),
        attachments: Vec::new(),
        tags: if details.tags { record.tags.clone() } else { Vec::new() },
        health_status: details.health.then(|| health(record, context.now)),
        gpu_devices: Vec::new(),
    }
}

/// The one check that there is here: whether the agent is in touch. Its type is Amazon's of 2026-08, AGENT_CONNECTIVITY.
fn health(record: &ContainerInstance, now: Timestamp) -> shapes::ContainerInstanceHealthStatus {
    let status = if record.connected { "OK" } else { "IMPAIRED" };
    shapes::ContainerInstanceHealthStatus {
        overall_status: Some(status.to_owned()),
        details: vec![shapes::InstanceHealthCheckResult {
            kind: Some("AGENT_CONNECTIVITY".to_owned()),
            status: Some(status.to_owned()),
            status_reason: (!record.connected).then(|| "The agent is not connected.".to_owned()),
            last_updated: Some(now),
            last_status_change: Some(record.connection_changed_at),
        }],
    }
}
