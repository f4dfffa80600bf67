//! What is kept. Members are only ever added, each with a default: the states of older versions open.

use std::sync::Arc;

use agent_protocol::session::Generation;
use ecs::network_configuration::AwsVpcConfiguration;
use ecs::operations::registered::TaskDefinitionStatus;
use ecs::operations::shapes::{
    Attribute, AutoScalingGroupProvider, CapacityProviderStrategyItem, ClusterConfiguration, ClusterSetting,
    PlacementStrategy, VersionInfo,
};
use ecs::task::{Attachment, Container, DesiredStatus, HealthStatus, LastStatus, StopCode};
use ecs::task_definition::{PlacementConstraint, Tag, TaskDefinition};
use ecs::{ContainerInstanceId, TaskId, Timestamp};
use scheduler::Demand;
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    pub name: String,
    /// An INACTIVE one is described for a time and never listed.
    pub active: bool,
    #[serde(default)]
    pub settings: Vec<ClusterSetting>,
    #[serde(default)]
    pub configuration: Option<ClusterConfiguration>,
    #[serde(default)]
    pub service_connect_namespace: Option<String>,
    #[serde(default)]
    pub capacity_providers: Vec<String>,
    #[serde(default)]
    pub default_strategy: Vec<CapacityProviderStrategyItem>,
    #[serde(default)]
    pub tags: Vec<Tag>,
    pub changed_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CapacityProvider {
    pub name: String,
    pub active: bool,
    #[serde(default)]
    pub auto_scaling_group: Option<AutoScalingGroupProvider>,
    /// Since it was made: descriptions tell how the last update went.
    #[serde(default)]
    pub updated: bool,
    #[serde(default)]
    pub tags: Vec<Tag>,
    pub changed_at: Timestamp,
}

/// Revisions are never used again, whatever becomes of their definitions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Family {
    pub name: String,
    pub newest: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskDefinitionRecord {
    pub revision: u32,
    /// Without tags.
    pub definition: Arc<TaskDefinition>,
    pub status: TaskDefinitionStatus,
    pub requires_attributes: Vec<String>,
    pub compatibilities: Vec<String>,
    pub registered_at: Timestamp,
    #[serde(default)]
    pub deregistered_at: Option<Timestamp>,
    #[serde(default)]
    pub delete_requested_at: Option<Timestamp>,
    pub registered_by: String,
    #[serde(default)]
    pub tags: Vec<Tag>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum InstanceStatus {
    Active,
    Draining,
    /// Deregistered: described for a time, with `listContainerInstances` silent.
    Inactive,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerInstance {
    pub id: ContainerInstanceId,
    pub cluster: String,
    pub status: InstanceStatus,
    #[serde(default)]
    pub status_reason: Option<String>,
    pub connected: bool,
    /// Since when it is connected, or is not.
    pub connection_changed_at: Timestamp,
    pub registered_at: Timestamp,
    pub host_name: String,
    /// A change of it means that all its tasks have ended or are being started again by the instance itself.
    pub boot_id: String,
    pub cpu: u32,
    pub memory_mib: u64,
    #[serde(default)]
    pub reserved_ports: Vec<u16>,
    #[serde(default)]
    pub reserved_ports_udp: Vec<u16>,
    #[serde(default)]
    pub gpu_ids: Vec<String>,
    pub interfaces: u32,
    /// As the instance registered them.
    #[serde(default)]
    pub attributes: Vec<Attribute>,
    /// By PutAttributes.
    #[serde(default)]
    pub custom_attributes: Vec<Attribute>,
    #[serde(default)]
    pub version_info: Option<VersionInfo>,
    #[serde(default)]
    pub capacity_provider: Option<String>,
    #[serde(default)]
    pub tags: Vec<Tag>,
    pub version: u64,
    /// Grows with each change of what it is assigned.
    pub assigned: Generation,
    /// The newest of those changes that the instance has not told of itself: up to here it has to hear at once.
    #[serde(default)]
    pub pressing: Generation,
    /// The last assignment that it had written down when it came.
    #[serde(default)]
    pub written: Generation,
    /// When it was found to be INACTIVE.
    #[serde(default)]
    pub inactive_since: Option<Timestamp>,
}

/// A task, from RunTask to the end of its retention.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskRecord {
    pub id: TaskId,
    pub cluster: String,
    /// Of the request that made it; its containers, events and metadata have it.
    pub region: String,
    pub account_id: String,
    /// None as long as it waits for an instance, and for tasks of instances that have gone.
    #[serde(default)]
    pub instance: Option<ContainerInstanceId>,
    pub family: String,
    pub revision: u32,
    /// With the overrides applied.
    pub definition: Arc<TaskDefinition>,
    /// As they were given.
    #[serde(default)]
    pub overrides: Option<Value>,
    pub demand: Demand,
    pub launch_type: String,
    #[serde(default)]
    pub capacity_provider: Option<String>,
    #[serde(default)]
    pub platform_version: Option<String>,
    pub group: String,
    #[serde(default)]
    pub started_by: Option<String>,
    #[serde(default)]
    pub network: Option<AwsVpcConfiguration>,
    #[serde(default)]
    pub enable_execute_command: bool,
    /// The request's; the definition's own are asked as well.
    #[serde(default)]
    pub constraints: Vec<PlacementConstraint>,
    /// The request's, for as long as the task waits for an instance.
    #[serde(default)]
    pub strategies: Vec<PlacementStrategy>,
    #[serde(default)]
    pub tags: Vec<Tag>,
    pub created_at: Timestamp,
    pub last_status: LastStatus,
    pub desired_status: DesiredStatus,
    /// Grows with every change that makes an event.
    pub version: u64,
    #[serde(default)]
    pub stop_code: Option<StopCode>,
    #[serde(default)]
    pub stopped_reason: Option<String>,
    #[serde(default)]
    pub stopping_at: Option<Timestamp>,
    #[serde(default)]
    pub stopped_at: Option<Timestamp>,
    /// What the instance alone knows; nothing before its first report.
    #[serde(default)]
    pub observed: Option<Observed>,
    /// Until when scale-in spares it.
    #[serde(default)]
    pub protected_until: Option<Timestamp>,
    /// Of the RunTask that made it.
    #[serde(default)]
    pub client_token: Option<String>,
    /// The instance's first assignment with this task.
    #[serde(default)]
    pub assigned_in: Generation,
    /// When its instance first reported it.
    #[serde(default)]
    pub connected_at: Option<Timestamp>,
    /// When it was found to be STOPPED, by this clock and not the instance's: how long it is kept counts from here.
    #[serde(default)]
    pub stopped_seen_at: Option<Timestamp>,
}

impl TaskRecord {
    pub fn is_stopped(&self) -> bool {
        match self.last_status {
            LastStatus::Stopped => true,
            LastStatus::Provisioning
            | LastStatus::Pending
            | LastStatus::Activating
            | LastStatus::Running
            | LastStatus::Deactivating
            | LastStatus::Stopping
            | LastStatus::Deprovisioning => false,
        }
    }

    /// Whether it is to be placed as soon as there is room.
    pub fn waits(&self) -> bool {
        self.instance.is_none() && !self.is_stopped() && self.desired_status == DesiredStatus::Running
    }

    /// On Fargate there is no instance to be seen.
    pub fn is_fargate(&self) -> bool {
        self.launch_type == ecs::LaunchType::Fargate.name()
    }
}

/// Of a task, as its instance reports it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// Counts the supervisor's changes: an older one is never taken for a newer.
    pub version: u64,
    pub containers: Vec<Container>,
    pub attachments: Vec<Attachment>,
    pub health_status: HealthStatus,
    #[serde(default)]
    pub availability_zone: Option<String>,
    #[serde(default)]
    pub pull_started_at: Option<Timestamp>,
    #[serde(default)]
    pub pull_stopped_at: Option<Timestamp>,
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    #[serde(default)]
    pub execution_stopped_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccountSetting {
    /// Empty: the default of the account.
    pub principal: String,
    pub name: String,
    pub value: String,
}

/// What came of a RunTask with a clientToken, for as long as Amazon remembers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReservedToken {
    pub cluster: String,
    pub token: String,
    /// The request without its token, so that another one under the same token is told from a repetition.
    pub request: String,
    pub tasks: Vec<TaskId>,
    pub used_at: Timestamp,
}
