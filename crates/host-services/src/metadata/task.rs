//! A task as the metadata endpoints show it.

use std::collections::BTreeMap;

use agent::describe;
use agent_protocol::{TaskSpec, TaskStatus};
use ecs::LaunchType;
use ecs::task::{DesiredStatus, LastStatus};
use serde::Serialize;

use super::{Container, Version, container};

/// CPU units of one vCPU.
const UNITS_PER_VCPU: f64 = 1024.0;

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Task {
    pub cluster: String,
    #[serde(rename = "TaskARN")]
    pub task_arn: String,
    pub family: String,
    pub revision: String,
    pub desired_status: &'static str,
    pub known_status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_stopped_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_stopped_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub task_tags: BTreeMap<String, String>,
    pub containers: Vec<Container>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub version_4: Option<OfVersion4>,
}

/// `ServiceName` is not among them: no task here has a service.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct OfVersion4 {
    pub launch_type: String,
    #[serde(rename = "VPCID", skip_serializing_if = "Option::is_none")]
    pub vpc_id: Option<String>,
    pub group: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_drift: Option<ClockDrift>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral_storage_metrics: Option<EphemeralStorage>,
    /// Faults cannot be injected here.
    pub fault_injection_enabled: bool,
}

/// CPU in vCPUs, memory in MiB.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Limits {
    #[serde(rename = "CPU", skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f64>,
    #[serde(rename = "Memory", skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
}

/// On Fargate, as
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v4-fargate-response.html> has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ClockDrift {
    /// Milliseconds.
    pub clock_error_bound: f64,
    pub reference_timestamp: String,
    pub clock_synchronization_status: &'static str,
}

/// MiB.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct EphemeralStorage {
    pub utilized: u64,
    pub reserved: u64,
}

/// What neither the task's spec nor its status tells.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extra {
    pub vpc_id: Option<String>,
    pub clock_drift: Option<ClockDrift>,
    pub ephemeral_storage: Option<EphemeralStorage>,
    /// Whether `TaskTags` was asked for.
    pub with_tags: bool,
}

pub fn task(version: Version, spec: &TaskSpec, status: &TaskStatus, extra: Extra) -> Task {
    let limits = Limits { cpu: spec.cpu.map(|units| f64::from(units) / UNITS_PER_VCPU), memory: spec.memory_mib };
    let tags = spec.tags.iter().filter(|_| extra.with_tags);
    let time = |time: Option<ecs::Timestamp>| time.map(ecs::Timestamp::rfc3339);
    Task {
        cluster: cluster(spec),
        task_arn: describe::task_arn(spec),
        family: spec.family.clone(),
        revision: spec.revision.to_string(),
        desired_status: desired(status.desired_status),
        known_status: known(status.last_status),
        limits: (limits.cpu.is_some() || limits.memory.is_some()).then_some(limits),
        pull_started_at: time(status.pull_started_at),
        pull_stopped_at: time(status.pull_stopped_at),
        execution_stopped_at: time(status.execution_stopped_at),
        availability_zone: spec.network_interface.as_ref().map(|interface| interface.availability_zone.clone()),
        task_tags: tags.map(|tag| (tag.key.clone(), tag.value.clone())).collect(),
        containers: spec.containers.iter().map(|one| container(version, spec, status, one)).collect(),
        version_4: (version == Version::V4).then(|| OfVersion4 {
            launch_type: spec.launch_type.clone(),
            vpc_id: extra.vpc_id,
            group: spec.group.clone(),
            clock_drift: extra.clock_drift,
            ephemeral_storage_metrics: extra.ephemeral_storage,
            fault_injection_enabled: false,
        }),
    }
}

/// The ARN on Fargate, else the short name.
pub(super) fn cluster(spec: &TaskSpec) -> String {
    if spec.launch_type == LaunchType::Fargate.name() { describe::cluster_arn(spec) } else { spec.cluster.clone() }
}

pub(super) fn desired(status: DesiredStatus) -> &'static str {
    match status {
        DesiredStatus::Running => "RUNNING",
        DesiredStatus::Stopped => "STOPPED",
    }
}

/// In the words of Amazon's agent, which has fewer than DescribeTasks: a task is RUNNING until all of it has stopped.
fn known(status: LastStatus) -> &'static str {
    match status {
        LastStatus::Provisioning => "NONE",
        LastStatus::Pending | LastStatus::Activating => "CREATED",
        LastStatus::Running | LastStatus::Deactivating | LastStatus::Stopping => "RUNNING",
        LastStatus::Deprovisioning | LastStatus::Stopped => "STOPPED",
    }
}
