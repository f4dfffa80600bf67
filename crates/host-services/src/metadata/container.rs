//! A container as the metadata endpoints show it.

use std::collections::BTreeMap;

use agent::{describe, metadata_file};
use agent_protocol::task_spec::VolumeSource;
use agent_protocol::{ContainerSpec, ContainerStatus, TaskSpec, TaskStatus};
use ecs::LaunchType;
use ecs::task::{ContainerLastStatus, DesiredStatus, HealthStatus, NetworkBinding};
use ecs::task_definition::{NetworkMode, TransportProtocol};
use serde::Serialize;

use super::Version;
use super::network::{self, Network};
use super::task::{cluster, desired};

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Container {
    pub docker_id: String,
    pub name: String,
    pub docker_name: String,
    pub image: String,
    #[serde(rename = "ImageID")]
    pub image_id: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    pub labels: BTreeMap<String, String>,
    pub desired_status: &'static str,
    pub known_status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    pub limits: Limits,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<String>,
    #[serde(rename = "Type")]
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<Network>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub version_4: Option<OfVersion4>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct OfVersion4 {
    pub log_driver: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub log_options: BTreeMap<String, String>,
    #[serde(rename = "ContainerARN")]
    pub container_arn: String,
    /// What put the image's layers together; on Fargate alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshotter: Option<&'static str>,
    /// Of a container with a restart policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_count: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Port {
    pub container_port: u16,
    pub protocol: TransportProtocol,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<String>,
}

/// CPU units, and MiB.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Limits {
    #[serde(rename = "CPU")]
    pub cpu: u64,
    #[serde(rename = "Memory")]
    pub memory: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Health {
    pub status: HealthStatus,
    #[serde(rename = "statusSince", skip_serializing_if = "Option::is_none")]
    pub status_since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Volume {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub docker_name: Option<String>,
    /// What the definition itself names; where else a volume lies is the host's matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    pub destination: String,
}

pub fn container(version: Version, task: &TaskSpec, status: &TaskStatus, spec: &ContainerSpec) -> Container {
    let definition = &spec.definition;
    let own = status.containers.iter().find(|container| container.name == definition.name);
    let time = |pick: fn(&ContainerStatus) -> Option<ecs::Timestamp>| own.and_then(pick).map(ecs::Timestamp::rfc3339);
    Container {
        docker_id: spec.runtime_id.clone(),
        name: definition.name.to_string(),
        docker_name: docker_name(task, spec),
        image: definition.image.clone(),
        image_id: spec.image.digest.clone(),
        ports: ports(task.network_mode, spec),
        labels: labels(task, spec),
        desired_status: desired(desired_status(status, own)),
        known_status: known(own),
        exit_code: own.and_then(|own| own.exit_code),
        limits: Limits {
            cpu: u64::from(definition.cpu),
            memory: definition.memory.or(definition.memory_reservation).unwrap_or(0),
        },
        created_at: time(|own| own.created_at),
        started_at: time(|own| own.started_at),
        finished_at: time(|own| own.finished_at),
        kind: "NORMAL",
        health: definition.health_check.as_ref().zip(own).map(|(_, own)| Health {
            status: own.health_status,
            status_since: own.health_status_since.map(ecs::Timestamp::rfc3339),
            output: own.health_output.clone(),
        }),
        volumes: volumes(task, spec),
        networks: network::of(version, task, spec).into_iter().collect(),
        version_4: (version == Version::V4).then(|| version_4(task, spec, own)),
    }
}

/// On Fargate the container's own name, else what Docker would call it.
fn docker_name(task: &TaskSpec, spec: &ContainerSpec) -> String {
    if task.launch_type == LaunchType::Fargate.name() {
        return spec.definition.name.to_string();
    }
    metadata_file::docker_name(task, spec).trim_start_matches('/').to_owned()
}

fn labels(task: &TaskSpec, spec: &ContainerSpec) -> BTreeMap<String, String> {
    let mut labels = spec.definition.docker_labels.clone();
    let amazons = [
        ("cluster", cluster(task)),
        ("container-name", spec.definition.name.to_string()),
        ("task-arn", describe::task_arn(task)),
        ("task-definition-family", task.family.clone()),
        ("task-definition-version", task.revision.to_string()),
    ];
    labels.extend(amazons.map(|(name, value)| (format!("com.amazonaws.ecs.{name}"), value)));
    labels
}

fn desired_status(task: &TaskStatus, own: Option<&ContainerStatus>) -> DesiredStatus {
    match own.map(|own| own.last_status) {
        Some(ContainerLastStatus::Stopped) => DesiredStatus::Stopped,
        Some(ContainerLastStatus::Pending | ContainerLastStatus::Running) | None => task.desired_status,
    }
}

/// In the words of Amazon's agent. Every image is here before a task has a status.
fn known(own: Option<&ContainerStatus>) -> &'static str {
    let Some(own) = own else { return "PULLED" };
    match own.last_status {
        ContainerLastStatus::Pending if own.created_at.is_some() => "CREATED",
        ContainerLastStatus::Pending => "PULLED",
        ContainerLastStatus::Running => "RUNNING",
        ContainerLastStatus::Stopped => "STOPPED",
    }
}

/// In awsvpc mode the host's port is the container's own; else what was bound, each port of a range by itself.
fn ports(mode: NetworkMode, spec: &ContainerSpec) -> Vec<Port> {
    match mode {
        NetworkMode::Awsvpc => {
            let mappings = spec.definition.port_mappings.iter();
            let each = mappings.flat_map(|mapping| {
                let protocol = mapping.protocol.unwrap_or_default();
                let ports = numbers(mapping.container_port, mapping.container_port_range.as_deref());
                ports.into_iter().map(move |port| (port, protocol))
            });
            each.map(|(port, protocol)| Port { container_port: port, protocol, host_port: Some(port), host_ip: None })
                .collect()
        }
        NetworkMode::Bridge | NetworkMode::Host | NetworkMode::None => {
            spec.network.bindings.iter().flat_map(bound).collect()
        }
    }
}

fn bound(binding: &NetworkBinding) -> Vec<Port> {
    let inside = numbers(binding.container_port, binding.container_port_range.as_deref());
    let outside = numbers(binding.host_port, binding.host_port_range.as_deref());
    let pairs = inside.into_iter().enumerate();
    pairs
        .map(|(place, container_port)| Port {
            container_port,
            protocol: binding.protocol,
            host_port: outside.get(place).copied(),
            host_ip: Some(binding.bind_ip.clone()),
        })
        .collect()
}

/// `8000-8010`, both ends in it.
fn numbers(port: Option<u16>, range: Option<&str>) -> Vec<u16> {
    let ends = range.and_then(|range| {
        let (first, last) = range.split_once('-')?;
        Some((first.trim().parse::<u16>().ok()?, last.trim().parse::<u16>().ok()?))
    });
    match (port, ends) {
        (Some(port), _) => vec![port],
        (None, Some((first, last))) => (first..=last).collect(),
        (None, None) => Vec::new(),
    }
}

fn volumes(task: &TaskSpec, spec: &ContainerSpec) -> Vec<Volume> {
    let mounts = spec.definition.mount_points.iter();
    mounts
        .map(|mount| {
            let volume = task.volumes.iter().find(|volume| volume.name == mount.source_volume);
            let source = volume.and_then(|volume| match &volume.source {
                VolumeSource::Host { path } => Some(path.display().to_string()),
                VolumeSource::Scratch | VolumeSource::Shared { .. } | VolumeSource::Mount { .. } => None,
            });
            let docker_name = source.is_none().then(|| mount.source_volume.clone());
            Volume { docker_name, source, destination: mount.container_path.clone() }
        })
        .collect()
}

/// Options whose values are secrets are not among the options.
fn version_4(task: &TaskSpec, spec: &ContainerSpec, own: Option<&ContainerStatus>) -> OfVersion4 {
    let log = spec.definition.log_configuration.as_ref();
    let restarts = spec.definition.restart_policy.as_ref().filter(|policy| policy.enabled);
    OfVersion4 {
        // Docker's driver where a definition has none.
        log_driver: log.map_or_else(|| "json-file".to_owned(), |log| log.log_driver.clone()),
        log_options: log.map(|log| log.options.clone()).unwrap_or_default(),
        container_arn: describe::container_arn(task, spec),
        snapshotter: (task.launch_type == LaunchType::Fargate.name()).then_some("overlayfs"),
        restart_count: restarts.and(own).map(|own| own.restart_count),
    }
}
