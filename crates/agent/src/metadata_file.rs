//! ECS's container metadata file: what one container is told about itself. Pure.
//!
//! Format: <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/container-metadata.html>. The file is composed
//! when everything in it is known, so its status is READY from the start. The members that name a container instance are
//! left out, since a task of `coracle run` has none; the availability zone is that of an awsvpc task's subnet.

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
    let interface = task.network_interface.as_ref();
    let ipv4 = container.network.ipv4_address.or(interface.map(|interface| interface.private_ipv4_address));
    let ipv6 = container.network.ipv6_address.or(interface.and_then(|interface| interface.ipv6_address));
    let mut network = json!({
        "NetworkMode": mode(task.network_mode),
        "IPv4Addresses": ipv4.iter().map(ToString::to_string).collect::<Vec<String>>(),
    });
    if let Some(address) = ipv6 {
        network["IPv6Addresses"] = json!([address.to_string()]);
    }
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
    without_nulls(json!({
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
        "Networks": [network],
        "MetadataFileStatus": "READY",
        "AvailabilityZone": interface.map(|interface| interface.availability_zone.clone()),
    }))
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
    fn an_interfaces_addresses_are_the_containers() {
        let mut task = example::spec(&["web"]);
        task.network_mode = NetworkMode::Awsvpc;
        task.network_interface = Some(example::interface());
        task.containers[0].network.ipv4_address = None;
        let file = content(&task, &task.containers[0]);
        assert_eq!(
            file["Networks"],
            json!([{"NetworkMode": "awsvpc", "IPv4Addresses": ["10.0.1.5"], "IPv6Addresses": ["fd00:1::a00:105"]}])
        );
        assert_eq!(file["AvailabilityZone"], "us-east-1a");
        assert!(content(&example::spec(&["web"]), &task.containers[0]).get("AvailabilityZone").is_none());
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
