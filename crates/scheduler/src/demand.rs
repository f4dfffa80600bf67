//! What a task needs of a container instance
//! (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-placement.html>).

use ecs::LaunchType;
use ecs::operations::shapes::PlacementStrategy;
use ecs::task_definition::PlacementConstraint;
use serde::{Deserialize, Serialize};

/// What a task takes of an instance's resources for as long as it lives there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// CPU units: the task's own, or the sum of its containers'.
    pub cpu: u32,
    /// MiB: the task's own, or the sum of its containers' reservations (of `memory` where a container reserves nothing).
    pub memory_mib: u64,
    /// Fixed host ports; dynamic ones never stand in the way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tcp_ports: Vec<u16>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub udp_ports: Vec<u16>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gpus: u32,
    /// 1 in awsvpc mode.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interfaces: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// One task to be placed.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    pub demand: &'a Demand,
    pub launch_type: LaunchType,
    /// `family:web`, `service:web`, or what RunTask named: `task:group` in expressions, and what `distinctInstance` is about.
    pub group: &'a str,
    pub family: &'a str,
    /// The definition's and the request's together.
    pub constraints: &'a [PlacementConstraint],
    /// In order; without any, random.
    pub strategies: &'a [PlacementStrategy],
    /// Attributes that an instance must have: the definition's `requiresAttributes`.
    pub attributes: &'a [String],
}
