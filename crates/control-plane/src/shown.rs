//! A task as DescribeTasks and events show it. ARNs have the region of whoever asks: a name means the same in all of them.

use ecs::arn::{self, Account};
use ecs::operations::shapes::Attribute;
use ecs::task::{
    Attachment, AttachmentStatus, Connectivity, Container, ContainerLastStatus, HealthStatus, LastStatus, ManagedAgent,
    Task,
};
use ecs::task_definition::{ContainerDefinition, EphemeralStorage, KeyValuePair};
use serde_json::{Value, json};

use crate::records::TaskRecord;
use crate::state::State;

/// What LATEST is on Fargate for Linux
/// (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/platform-linux-fargate.html>).
pub const FARGATE_PLATFORM: &str = "1.4.0";
/// "By default, tasks hosted on Fargate … receive a minimum of 20 GiB of ephemeral storage."
const FARGATE_STORAGE_GIB: u64 = 20;
const EXEC_AGENT: &str = "ExecuteCommandAgent";

/// Without tags: `include` asks for them.
pub fn task(state: &State, task: &TaskRecord, account: Account<'_>) -> Task {
    let observed = task.observed.as_ref();
    let instance = task.instance.as_ref().filter(|_| !task.is_fargate());
    let fargate = |value: &str| task.is_fargate().then(|| value.to_owned());
    Task {
        task_arn: account.task(&task.cluster, &task.id),
        task_definition_arn: account.task_definition(&task.family, task.revision),
        cluster_arn: account.cluster(&task.cluster),
        group: task.group.clone(),
        launch_type: task.launch_type.clone(),
        last_status: task.last_status,
        desired_status: task.desired_status,
        health_status: observed.map_or(HealthStatus::Unknown, |observed| observed.health_status),
        version: task.version,
        created_at: task.created_at,
        pull_started_at: observed.and_then(|observed| observed.pull_started_at),
        pull_stopped_at: observed.and_then(|observed| observed.pull_stopped_at),
        started_at: observed.and_then(|observed| observed.started_at),
        stopping_at: task.stopping_at,
        execution_stopped_at: observed.and_then(|observed| observed.execution_stopped_at),
        stopped_at: task.stopped_at,
        stop_code: task.stop_code,
        stopped_reason: task.stopped_reason.clone(),
        cpu: Some(task.demand.cpu.to_string()),
        memory: Some(task.demand.memory_mib.to_string()),
        containers: containers(task, account),
        availability_zone: observed.and_then(|observed| observed.availability_zone.clone()),
        attachments: attachments(task),
        tags: Vec::new(),
        attributes: attributes(state, task),
        capacity_provider_name: task.capacity_provider.clone(),
        connectivity: task.connected_at.map(|_| connectivity(state, task)),
        connectivity_at: task.connected_at,
        container_instance_arn: instance.map(|instance| account.container_instance(&task.cluster, instance)),
        enable_execute_command: Some(task.enable_execute_command),
        ephemeral_storage: task
            .definition
            .ephemeral_storage
            .or_else(|| task.is_fargate().then_some(EphemeralStorage { size_in_gib: FARGATE_STORAGE_GIB })),
        overrides: Some(overrides(task)),
        platform_version: fargate(task.platform_version.as_deref().unwrap_or(FARGATE_PLATFORM)),
        platform_family: fargate("Linux"),
        started_by: task.started_by.clone(),
    }
}

fn connectivity(state: &State, task: &TaskRecord) -> Connectivity {
    let instance = task.instance.as_ref().and_then(|id| state.instances.get(id));
    if task.is_stopped() || instance.is_some_and(|instance| instance.connected) {
        Connectivity::Connected
    } else {
        Connectivity::Disconnected
    }
}

/// As reported, or before that as defined.
fn containers(task: &TaskRecord, account: Account<'_>) -> Vec<Container> {
    let defined = task.definition.container_definitions.iter();
    let each = defined.map(|defined| {
        let observed = task
            .observed
            .as_ref()
            .and_then(|observed| observed.containers.iter().find(|container| container.name == defined.name).cloned());
        let mut container = observed.unwrap_or_else(|| unobserved(task, defined));
        container.container_arn = account.container(&task.cluster, &task.id, &defined.name);
        container.task_arn = account.task(&task.cluster, &task.id);
        if task.enable_execute_command {
            container.managed_agents = vec![exec_agent(task, &container)];
        }
        container
    });
    each.collect()
}

fn unobserved(task: &TaskRecord, defined: &ContainerDefinition) -> Container {
    let stopped = task.is_stopped();
    Container {
        container_arn: String::new(),
        task_arn: String::new(),
        name: defined.name.clone(),
        image: defined.image.clone(),
        image_digest: None,
        runtime_id: None,
        last_status: if stopped { ContainerLastStatus::Stopped } else { ContainerLastStatus::Pending },
        health_status: HealthStatus::Unknown,
        exit_code: None,
        reason: None,
        network_bindings: Vec::new(),
        network_interfaces: Vec::new(),
        cpu: defined.cpu.to_string(),
        memory: defined.memory.map(|mib| mib.to_string()),
        memory_reservation: defined.memory_reservation.map(|mib| mib.to_string()),
        gpu_ids: Vec::new(),
        managed_agents: Vec::new(),
    }
}

/// Amazon's agent runs one in each container; here the supervisor does its work, for as long as the container runs.
fn exec_agent(task: &TaskRecord, container: &Container) -> ManagedAgent {
    let started = task.observed.as_ref().and_then(|observed| observed.started_at);
    ManagedAgent {
        name: EXEC_AGENT.to_owned(),
        last_status: container.last_status,
        reason: None,
        last_started_at: started.filter(|_| container.last_status != ContainerLastStatus::Pending),
    }
}

/// In awsvpc mode there is one from the beginning.
fn attachments(task: &TaskRecord) -> Vec<Attachment> {
    // An instance reports a task before the task has its interface.
    if let Some(observed) = task.observed.as_ref().filter(|observed| !observed.attachments.is_empty()) {
        return observed.attachments.clone();
    }
    let Some(network) = &task.network else { return Vec::new() };
    let subnet = network.subnets.first().map(|id| KeyValuePair { name: "subnetId".to_owned(), value: id.clone() });
    let status = match task.last_status {
        LastStatus::Stopped => AttachmentStatus::Deleted,
        LastStatus::Provisioning
        | LastStatus::Pending
        | LastStatus::Activating
        | LastStatus::Running
        | LastStatus::Deactivating
        | LastStatus::Stopping
        | LastStatus::Deprovisioning => AttachmentStatus::Precreated,
    };
    vec![Attachment {
        id: arn::attachment_id(&task.id),
        kind: "ElasticNetworkInterface".to_owned(),
        status,
        details: subnet.into_iter().collect(),
    }]
}

fn attributes(state: &State, task: &TaskRecord) -> Vec<Attribute> {
    let instance = task.instance.as_ref().and_then(|id| state.instances.get(id));
    let architecture = instance.and_then(|instance| {
        instance.attributes.iter().find(|attribute| attribute.name.as_deref() == Some("ecs.cpu-architecture"))
    });
    architecture.cloned().into_iter().collect()
}

/// "containerOverrides" names every container, as Amazon's answers do.
fn overrides(task: &TaskRecord) -> Value {
    let mut shown = match &task.overrides {
        Some(Value::Object(given)) => given.clone(),
        Some(_) | None => serde_json::Map::new(),
    };
    let mut containers = match shown.remove("containerOverrides") {
        Some(Value::Array(given)) => given,
        Some(_) | None => Vec::new(),
    };
    for defined in &task.definition.container_definitions {
        let name = defined.name.as_str();
        if !containers.iter().any(|given| given.get("name").and_then(Value::as_str) == Some(name)) {
            containers.push(json!({ "name": name }));
        }
    }
    shown.insert("containerOverrides".to_owned(), Value::Array(containers));
    shown.entry("inferenceAcceleratorOverrides").or_insert_with(|| json!([]));
    Value::Object(shown)
}
