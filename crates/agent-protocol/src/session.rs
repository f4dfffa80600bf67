//! What a container instance and its control plane tell each other: one JSON object a frame, in both directions.
//!
//! The instance dials. It says `Hello`, is answered `Welcome` or `Refused`, and from then on receives the whole set of its
//! tasks whenever that changes, and reports its tasks whenever they do. Nothing here depends on what was said before a
//! connection broke: an assignment is whole, a report says how a task stands and not what happened.
//!
//! Two numbers order assignments. `epoch` grows when another control plane takes over (or the same one starts again from a
//! restored store), `generation` with each assignment of an epoch. An instance acts only on one that is newer than the last
//! it has written down, so a late or repeated message, and an old leader, do nothing.

use ecs::operations::shapes::Attribute;
use ecs::tagged::Tagged;
use ecs::task::{StopCode, Task};
use ecs::task_definition::{Tag, TaskDefinition};
use ecs::{ContainerInstanceId, ContainerName, TaskId, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::logs;

/// Of these messages. Members are only ever added, each with a default.
pub const PROTOCOL: u32 = 1;
/// Of one frame: an assignment of some thousand tasks.
pub const MAX_FRAME_BYTES: usize = 64 << 20;

/// When an assignment was made. Newer is greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Generation {
    pub epoch: u64,
    pub generation: u64,
}

/// The large messages are read by their own types (`ecs::tagged`), the small ones as derived.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "camelCase", remote = "Self")]
pub enum FromInstance {
    #[serde(skip_deserializing)]
    Hello(Box<Hello>),
    /// How tasks stand. `whole`: these are all that the instance has, so what it was assigned and is not here is not there.
    #[serde(rename_all = "camelCase", skip_deserializing)]
    Report {
        whole: bool,
        tasks: Vec<TaskReport>,
    },
    /// This assignment, or one after it, is written down here.
    Written {
        generation: Generation,
    },
    /// To be answered by `StillHere`; whoever hears nothing for `HEARTBEAT_LIMIT_MS` takes the connection for dead.
    StillThere,
    StillHere,
    /// An answer to `OpenExec`: the command runs, or why it does not.
    #[serde(rename_all = "camelCase")]
    ExecOpened {
        session: String,
        refused: Option<String>,
    },
    /// What the command wrote. Empty: its end of file.
    #[serde(rename_all = "camelCase")]
    ExecOutput {
        session: String,
        bytes: Vec<u8>,
    },
    #[serde(rename_all = "camelCase")]
    ExecEnded {
        session: String,
        exit_code: i32,
    },
    /// What comes of `ReadLogs`.
    #[serde(skip_deserializing)]
    Logs {
        session: String,
        told: logs::Told,
    },
}

impl Serialize for FromInstance {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        FromInstance::serialize(self, to)
    }
}

impl<'de> Deserialize<'de> for FromInstance {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<FromInstance, D::Error> {
        #[derive(Deserialize)]
        struct Report {
            whole: bool,
            tasks: Vec<TaskReport>,
        }
        #[derive(Deserialize)]
        struct Logs {
            session: String,
            told: logs::Told,
        }
        let message = Tagged::read("say", from)?;
        match message.tag.as_str() {
            "hello" => message.members().map(FromInstance::Hello),
            "report" => message.members().map(|Report { whole, tasks }| FromInstance::Report { whole, tasks }),
            "logs" => message.members().map(|Logs { session, told }| FromInstance::Logs { session, told }),
            _ => message.read_with(|text| FromInstance::deserialize(text)),
        }
    }
}

/// As with `FromInstance`, the large message is read by its own type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "camelCase", remote = "Self")]
pub enum ToInstance {
    /// With the id that the instance keeps.
    #[serde(rename_all = "camelCase")]
    Welcome {
        instance: ContainerInstanceId,
        cluster: String,
    },
    /// Another try is of no use before something is changed by a person.
    Refused {
        reason: String,
    },
    #[serde(skip_deserializing)]
    Assignment(Assignment),
    StillThere,
    StillHere,
    OpenExec(OpenExec),
    #[serde(rename_all = "camelCase")]
    ExecInput {
        session: String,
        bytes: Vec<u8>,
    },
    #[serde(rename_all = "camelCase")]
    ExecResize {
        session: String,
        rows: u16,
        columns: u16,
    },
    #[serde(rename_all = "camelCase")]
    CloseExec {
        session: String,
    },
    /// Only to an instance whose Hello says that it reads logs: an older one would not know what this is.
    #[serde(skip_deserializing)]
    ReadLogs(logs::ReadLogs),
    /// One batch has been taken, and one more may be sent.
    #[serde(rename_all = "camelCase")]
    MoreLogs {
        session: String,
    },
    #[serde(rename_all = "camelCase")]
    CloseLogs {
        session: String,
    },
}

impl Serialize for ToInstance {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        ToInstance::serialize(self, to)
    }
}

impl<'de> Deserialize<'de> for ToInstance {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<ToInstance, D::Error> {
        let message = Tagged::read("say", from)?;
        match message.tag.as_str() {
            "assignment" => message.members().map(ToInstance::Assignment),
            "readLogs" => message.members().map(ToInstance::ReadLogs),
            _ => message.read_with(|text| ToInstance::deserialize(text)),
        }
    }
}

/// Each side asks when it has heard nothing for this long.
pub const HEARTBEAT_EVERY_MS: u64 = 10_000;
/// And gives the connection up when it has heard nothing for this long.
pub const HEARTBEAT_LIMIT_MS: u64 = 30_000;

/// Who comes, and what it has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    pub protocol: u32,
    /// The id that it was given before; nothing the first time.
    pub instance: Option<ContainerInstanceId>,
    /// The cluster's name, made if there is none of that name (`default` alone) as Amazon's agent has it.
    pub cluster: String,
    /// A single-use token where the connection itself does not say who this is.
    #[serde(default)]
    pub token: Option<String>,
    /// Of the host's boot (/proc/sys/kernel/random/boot_id).
    pub boot_id: String,
    pub agent_version: String,
    /// CPU units and MiB, less what is kept for the host.
    pub cpu: u32,
    pub memory_mib: u64,
    /// Ports that no task may have, for TCP and for UDP.
    pub reserved_ports: Vec<u16>,
    pub reserved_ports_udp: Vec<u16>,
    pub gpu_ids: Vec<String>,
    /// How many tasks may have interfaces of their own.
    pub interfaces: u32,
    /// Capabilities (without a value), built-in ones such as `ecs.os-type`, and the operator's own.
    pub attributes: Vec<Attribute>,
    pub tags: Vec<Tag>,
    /// The host's name, told as `ec2InstanceId` is at Amazon's.
    pub host_name: String,
    /// The last assignment that is written down there.
    pub written: Generation,
    /// Whether it takes `ReadLogs`.
    #[serde(default)]
    pub reads_logs: bool,
}

/// Everything that is to run on one container instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    pub generation: Generation,
    pub tasks: Vec<AssignedTask>,
}

/// One task of an assignment. All but `desired` stays as it was when the task was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AssignedTask {
    pub id: TaskId,
    pub cluster: String,
    pub region: String,
    pub account_id: String,
    /// With the overrides applied.
    pub definition: Box<TaskDefinition>,
    /// `EC2`, `FARGATE` or `EXTERNAL`.
    pub launch_type: String,
    pub group: String,
    #[serde(default)]
    pub service: Option<String>,
    /// As RunTask had it, in awsvpc mode.
    #[serde(default)]
    pub network: Option<ecs::network_configuration::AwsVpcConfiguration>,
    #[serde(default)]
    pub enable_execute_command: bool,
    pub tags: Vec<Tag>,
    pub created_at: Timestamp,
    pub desired: Desired,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "UPPERCASE")]
pub enum Desired {
    Running,
    #[serde(rename_all = "camelCase")]
    Stopped {
        code: StopCode,
        reason: String,
    },
}

/// How a task stands. The control plane takes from it what only the instance knows and never the rest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskReport {
    pub id: TaskId,
    /// In DescribeTasks' shape. With `lastStatus` STOPPED it is repeated until the task is in no assignment any more.
    pub task: Box<Task>,
}

/// ECS Exec: a command in a running container (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ExecuteCommand.html>).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OpenExec {
    pub session: String,
    pub task: TaskId,
    pub container: ContainerName,
    /// Split into arguments by the control plane, as a shell splits words.
    pub command: Vec<String>,
    pub rows: u16,
    pub columns: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_epochs_are_newer_whatever_the_generation() {
        let at = |epoch, generation| Generation { epoch, generation };
        assert!(at(2, 1) > at(1, 9) && at(1, 2) > at(1, 1));
    }

    #[test]
    fn messages_are_read_as_they_were_written() {
        let id = ContainerInstanceId::from_bytes([1; 16]);
        let said = [
            ToInstance::Welcome { instance: id, cluster: "default".to_owned() },
            ToInstance::Refused { reason: "no".to_owned() },
            ToInstance::Assignment(Assignment { generation: Generation::default(), tasks: Vec::new() }),
            ToInstance::StillThere,
            ToInstance::ExecInput { session: "s".to_owned(), bytes: vec![0, 255] },
        ];
        for message in said {
            let text = serde_json::to_string(&message).expect("plain data");
            assert_eq!(serde_json::from_str::<ToInstance>(&text).expect(&text), message);
        }
        let stopped = Desired::Stopped { code: StopCode::UserInitiated, reason: "r".to_owned() };
        let text = serde_json::to_string(&stopped).expect("plain data");
        assert_eq!(text, r#"{"status":"STOPPED","code":"UserInitiated","reason":"r"}"#);
    }
}
