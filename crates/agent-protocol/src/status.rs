//! `status.json`: how a task stands. One writer, its supervisor, which replaces the file whole.

use ecs::task::{ContainerLastStatus, DesiredStatus, HealthStatus, LastStatus, StopCode};
use ecs::{ContainerName, TaskId, Timestamp};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskStatus {
    pub format: u32,
    pub id: TaskId,
    /// Grows with every change.
    pub version: u64,
    /// Who writes this file. A status whose writer is gone and whose task is not STOPPED was cut short.
    pub supervisor: ProcessIdentity,
    pub last_status: LastStatus,
    pub desired_status: DesiredStatus,
    #[serde(default)]
    pub pull_started_at: Option<Timestamp>,
    #[serde(default)]
    pub pull_stopped_at: Option<Timestamp>,
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    #[serde(default)]
    pub stopping_at: Option<Timestamp>,
    #[serde(default)]
    pub execution_stopped_at: Option<Timestamp>,
    #[serde(default)]
    pub stopped_at: Option<Timestamp>,
    #[serde(default)]
    pub stop_code: Option<StopCode>,
    #[serde(default)]
    pub stopped_reason: Option<String>,
    /// The essential container whose end ended the task; its exit code is `coracle run`'s.
    #[serde(default)]
    pub ended_by: Option<ContainerName>,
    pub containers: Vec<ContainerStatus>,
    #[serde(default)]
    pub health_status: HealthStatus,
    /// What teardown could not undo, each with its cause; empty is the rule.
    #[serde(default)]
    pub teardown_errors: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerStatus {
    pub name: ContainerName,
    pub last_status: ContainerLastStatus,
    /// The first process while the container runs.
    #[serde(default)]
    pub process: Option<ProcessIdentity>,
    #[serde(default)]
    pub created_at: Option<Timestamp>,
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    #[serde(default)]
    pub finished_at: Option<Timestamp>,
    /// 0 to 255, a death by signal as 128 + its number. Absent: it never ran, or nobody saw it end.
    #[serde(default)]
    pub exit_code: Option<i32>,
    /// `Name: text` in Amazon's words, at most 1,024 characters.
    #[serde(default)]
    pub reason: Option<String>,
    /// What Docker would report as the exit code of a container that could not be started: 127 without a program,
    /// 126 with one that cannot be executed.
    #[serde(default)]
    pub start_exit_code: Option<i32>,
    #[serde(default)]
    pub health_status: HealthStatus,
    /// Nothing before a check has made it so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_status_since: Option<Timestamp>,
    /// What its last health check wrote, the first 4,096 bytes, or why it could not be run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_output: Option<String>,
    /// What of it outlives SIGKILL, while it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stuck: Option<String>,
    /// How often its restart policy has started it again.
    #[serde(default)]
    pub restart_count: u32,
    /// Microseconds spent in each stage of the start, in order: `rootfs`, `cgroup`, `libcontainer`, `exec`.
    #[serde(default)]
    pub start_stages_us: Vec<(String, u64)>,
    /// Output that could not be kept.
    #[serde(default)]
    pub log_lost_bytes: u64,
    /// Why the latest of it could not be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_error: Option<String>,
}

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    pub pid: i32,
    /// Field 22 of /proc/PID/stat: clock ticks since boot (proc_pid_stat(5)).
    pub start_time: u64,
    /// /proc/sys/kernel/random/boot_id.
    pub boot_id: String,
}
