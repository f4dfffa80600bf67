//! ECS's container metadata file: what one container is told about itself. Pure.
//!
//! Format: <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/container-metadata.html>. The file is composed
//! when everything in it is known, so its status is READY from the start. Members that name a container instance or
//! an availability zone are left out: a task of `coracle run` has neither.

use std::path::Path;

use agent_protocol::{ContainerSpec, MetadataFile, TaskSpec};
use ecs::task_definition::NetworkMode;
use serde_json::{Value, json};

use crate::describe;

/// Amazon's name of the file.
pub const FILE_NAME: &str = "ecs-container-metadata.json";

/// The folder inside is named by the second half of the runtime id, which is as random as Amazon's.
pub fn of(task: &TaskSpec, container: &ContainerSpec) -> MetadataFile {
    let folder = container.runtime_id.get(32..).unwrap_or(&container.runtime_id);
    MetadataFile {
        place: Path::new("/opt/ecs/metadata").join(folder).join(FILE_NAME),
        content: format!("{:#}\n", content(task, container)),
    }
}

/// What Docker would call the container, after Amazon's agent, which adds random digits.
pub fn docker_name(task: &TaskSpec, container: &ContainerSpec) -> String {
    format!("/ecs-{}-{}-{}", task.family, task.revision, container.definition.name)
}

fn content(task: &TaskSpec, container: &ContainerSpec) -> Value {
    let addresses: Vec<String> = container.network.ipv4_address.iter().map(ToString::to_string).collect();
    let ports: Vec<Value> = container
        .network
        .bindings
        .iter()
        .map(|binding| {
            json!({
                "ContainerPort": binding.container_port,
                "HostPort": binding.host_port,
                "ContainerPortRange": binding.container_port_range,
                "HostPortRange": binding.host_port_range,
                "BindIp": binding.bind_ip,
                "Protocol": binding.protocol,
            })
        })
        .map(without_nulls)
        .collect();
    json!({
        "Cluster": task.cluster,
        "TaskARN": describe::task_arn(task),
        "TaskDefinitionFamily": task.family,
        "TaskDefinitionRevision": task.revision.to_string(),
        "ContainerID": container.runtime_id,
        "ContainerName": container.definition.name,
        "DockerContainerName": docker_name(task, container),
        "ImageID": container.image.digest,
        "ImageName": container.definition.image,
        "PortMappings": ports,
        "Networks": [{"NetworkMode": mode(task.network_mode), "IPv4Addresses": addresses}],
        "MetadataFileStatus": "READY",
    })
}

fn mode(mode: NetworkMode) -> &'static str {
    match mode {
        NetworkMode::Bridge => "bridge",
        NetworkMode::Host => "host",
        NetworkMode::Awsvpc => "awsvpc",
        NetworkMode::None => "none",
    }
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(members) => members.into_iter().filter(|(_, member)| !member.is_null()).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;
    use ecs::task::NetworkBinding;
    use ecs::task_definition::TransportProtocol;

    #[test]
    fn the_file_has_amazons_keys() {
        let mut task = example::spec(&["web"]);
        task.containers[0].network.bindings.push(NetworkBinding {
            bind_ip: "0.0.0.0".to_owned(),
            container_port: Some(80),
            host_port: Some(8080),
            container_port_range: None,
            host_port_range: None,
            protocol: TransportProtocol::Tcp,
        });
        let file = content(&task, &task.containers[0]);
        assert_eq!(file["TaskDefinitionRevision"], "3");
        assert_eq!(file["MetadataFileStatus"], "READY");
        assert_eq!(file["Networks"], json!([{"NetworkMode": "bridge", "IPv4Addresses": ["172.29.0.2"]}]));
        assert_eq!(
            file["PortMappings"],
            json!([{"ContainerPort": 80, "HostPort": 8080, "BindIp": "0.0.0.0", "Protocol": "tcp"}])
        );
    }

    #[test]
    fn the_folder_inside_does_not_tell_the_runtime_id() {
        let mut task = example::spec(&["web"]);
        task.containers[0].runtime_id = format!("{}{}", "a".repeat(32), "b".repeat(32));
        let file = of(&task, &task.containers[0]);
        assert_eq!(file.place, Path::new(&format!("/opt/ecs/metadata/{}/{FILE_NAME}", "b".repeat(32))));
        assert!(file.content.ends_with("}\n"));
    }
}
