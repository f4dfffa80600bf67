//! One message of a container, and what is known of where it comes from. Pure.

use std::collections::BTreeMap;

use agent_protocol::{ContainerSpec, TaskSpec};
use ecs::{ContainerName, Timestamp};
use runtime::logs::Stream;

/// A line without its end, or a part of a long one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub stream: Stream,
    pub time: Timestamp,
    pub bytes: Vec<u8>,
    pub part: Option<Part>,
}

/// Which part of a line that is longer than 16 KiB; Docker's drivers tell the same of theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The same for all parts of a line.
    pub id: String,
    /// From 1.
    pub ordinal: u32,
    pub last: bool,
}

pub(crate) fn stream_name(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}

/// What Docker's log drivers know of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub container: ContainerName,
    /// 64 hexadecimal digits.
    pub id: String,
    /// As Amazon's agent names containers, and as the container metadata file has it, without the slash.
    pub name: String,
    pub image_name: String,
    pub image_id: String,
    pub command: String,
    pub created: Timestamp,
    pub hostname: String,
    pub labels: BTreeMap<String, String>,
    /// Without the values of secrets, which never leave memory.
    pub environment: BTreeMap<String, String>,
}

impl Origin {
    /// `hostname` is the host's own, as Docker's drivers send it.
    pub fn of(task: &TaskSpec, container: &ContainerSpec, hostname: &str) -> Origin {
        let definition = &container.definition;
        let config = &container.image.config;
        let command = match (&definition.entry_point, &definition.command) {
            (Some(entry_point), command) => [entry_point.clone(), command.clone().unwrap_or_default()],
            (None, Some(command)) => [config.entrypoint.clone(), command.clone()],
            (None, None) => [config.entrypoint.clone(), config.cmd.clone()],
        };
        Origin {
            container: definition.name.clone(),
            id: container.runtime_id.clone(),
            name: format!("ecs-{}-{}-{}", task.family, task.revision, definition.name),
            image_name: definition.image.clone(),
            image_id: container.image.digest.clone(),
            command: command.concat().join(" "),
            created: task.created_at,
            hostname: hostname.to_owned(),
            labels: labels(task, container),
            environment: environment(container),
        }
    }

    /// Docker's short id.
    pub(crate) fn short_id(&self) -> &str {
        short(&self.id)
    }

    pub(crate) fn short_image_id(&self) -> &str {
        short(self.image_id.strip_prefix("sha256:").unwrap_or(&self.image_id))
    }
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// The image's, over them the definition's, over them those that Amazon's agent sets on every container.
fn labels(task: &TaskSpec, container: &ContainerSpec) -> BTreeMap<String, String> {
    let mut labels = container.image.config.labels.clone();
    labels.extend(container.definition.docker_labels.clone());
    let arn = format!("arn:aws:ecs:{}:{}:task/{}/{}", task.region, task.account_id, task.cluster, task.id.as_str());
    let ours = [
        ("cluster", task.cluster.clone()),
        ("container-name", container.definition.name.to_string()),
        ("task-arn", arn),
        ("task-definition-family", task.family.clone()),
        ("task-definition-version", task.revision.to_string()),
    ];
    labels.extend(ours.map(|(name, value)| (format!("com.amazonaws.ecs.{name}"), value)));
    labels
}

fn environment(container: &ContainerSpec) -> BTreeMap<String, String> {
    let of_image = container.image.config.env.iter().filter_map(|variable| variable.split_once('='));
    let mut environment: BTreeMap<String, String> =
        of_image.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let definition = &container.definition;
    let ours =
        container.environment_from_files.iter().chain(&definition.environment).chain(&container.injected_environment);
    environment.extend(ours.map(|variable| (variable.name.clone(), variable.value.clone())));
    for secret in &definition.secrets {
        environment.remove(&secret.name);
    }
    environment
}

#[cfg(test)]
pub(crate) mod example {
    use super::*;

    pub(crate) fn origin() -> Origin {
        let text = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        Origin {
            container: ContainerName::try_from("foobar".to_owned()).expect("a name"),
            id: "5790672ab6a09f40a5dbd8a4ea5cd6cbc4a6a9b5b7b2c0a6c8f6a0c4a9b3d2e1".to_owned(),
            name: "foobar".to_owned(),
            image_name: "hello-world".to_owned(),
            image_id: "sha256:fce289e99eb9bca977dae136fbe2a82b6b7d4c372474c9235adc1741675f587e".to_owned(),
            command: "/hello".to_owned(),
            created: Timestamp::from_epoch_ms(1_000),
            hostname: "HOSTNAME".to_owned(),
            labels: text(&[("com.example.tier", "front"), ("location", "west")]),
            environment: text(&[("TEST", "false"), ("FOO", "bar")]),
        }
    }

    pub(crate) fn message(text: &str) -> Message {
        let time = Timestamp::from_epoch_ms(1_438_972_399_250);
        Message { stream: Stream::Stdout, time, bytes: text.as_bytes().to_vec(), part: None }
    }
}
