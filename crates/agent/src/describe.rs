//! A task as DescribeTasks shows it, out of what its supervisor was given and what it reports. Pure.

use agent_protocol::task_spec::{ElasticNetworkInterface, NetworkNamespace};
use agent_protocol::{ContainerSpec, ContainerStatus, TaskSpec, TaskStatus};
use ecs::arn::Account;
use ecs::task::{
    Attachment, AttachmentStatus, Container, ContainerLastStatus, DesiredStatus, HealthStatus, LastStatus,
    NetworkInterface, Task,
};
use ecs::task_definition::KeyValuePair;

/// Before the first `status.json` a task is PENDING and so are its containers.
pub fn task(spec: &TaskSpec, status: Option<&TaskStatus>) -> Task {
    Task {
        task_arn: task_arn(spec),
        task_definition_arn: task_definition_arn(spec),
        cluster_arn: cluster_arn(spec),
        group: spec.group.clone(),
        launch_type: spec.launch_type.clone(),
        last_status: status.map_or(LastStatus::Pending, |status| status.last_status),
        desired_status: status.map_or(DesiredStatus::Running, |status| status.desired_status),
        health_status: status.map_or(HealthStatus::Unknown, |status| status.health_status),
        version: status.map_or(1, |status| status.version),
        created_at: spec.created_at,
        pull_started_at: status.and_then(|status| status.pull_started_at),
        pull_stopped_at: status.and_then(|status| status.pull_stopped_at),
        started_at: status.and_then(|status| status.started_at),
        stopping_at: status.and_then(|status| status.stopping_at),
        execution_stopped_at: status.and_then(|status| status.execution_stopped_at),
        stopped_at: status.and_then(|status| status.stopped_at),
        stop_code: status.and_then(|status| status.stop_code),
        stopped_reason: status.and_then(|status| status.stopped_reason.clone()),
        cpu: spec.cpu.map(|units| units.to_string()),
        memory: spec.memory_mib.map(|mib| mib.to_string()),
        availability_zone: spec.network_interface.as_ref().map(|interface| interface.availability_zone.clone()),
        attachments: spec.network_interface.iter().map(|interface| attachment(interface, status)).collect(),
        containers: spec
            .containers
            .iter()
            .map(|container| {
                let status = status.and_then(|status| container_status(status, container));
                describe_container(spec, container, status)
            })
            .collect(),
        tags: spec.tags.clone(),
        attributes: Vec::new(),
        capacity_provider_name: None,
        connectivity: None,
        connectivity_at: None,
        container_instance_arn: None,
        enable_execute_command: None,
        ephemeral_storage: None,
        overrides: None,
        platform_version: None,
        platform_family: None,
        started_by: None,
    }
}

fn container_status<'a>(status: &'a TaskStatus, spec: &ContainerSpec) -> Option<&'a ContainerStatus> {
    status.containers.iter().find(|container| container.name == spec.definition.name)
}

fn describe_container(task: &TaskSpec, spec: &ContainerSpec, status: Option<&ContainerStatus>) -> Container {
    let definition = &spec.definition;
    Container {
        container_arn: container_arn(task, spec),
        task_arn: task_arn(task),
        name: definition.name.clone(),
        image: definition.image.clone(),
        image_digest: Some(spec.image.digest.clone()),
        runtime_id: Some(spec.runtime_id.clone()),
        last_status: status.map_or(ContainerLastStatus::Pending, |status| status.last_status),
        health_status: status.map_or(HealthStatus::Unknown, |status| status.health_status),
        exit_code: status.and_then(|status| status.exit_code),
        reason: status.and_then(|status| status.reason.clone()),
        network_bindings: spec.network.bindings.clone(),
        network_interfaces: network_interfaces(task, spec),
        cpu: definition.cpu.to_string(),
        memory: definition.memory.map(|mib| mib.to_string()),
        memory_reservation: definition.memory_reservation.map(|mib| mib.to_string()),
        gpu_ids: spec.gpu_ids.clone(),
        managed_agents: Vec::new(),
    }
}

/// Members in the order of Amazon's examples
/// (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-networking-awsvpc.html>).
fn attachment(interface: &ElasticNetworkInterface, status: Option<&TaskStatus>) -> Attachment {
    let gone = status.is_some_and(|status| status.last_status == LastStatus::Stopped);
    let ipv6 = interface.ipv6_address.map(|address| ("ipv6Address", address.to_string()));
    let details = [
        ("subnetId", interface.subnet_id.to_string()),
        ("networkInterfaceId", interface.network_interface_id.to_string()),
        ("macAddress", interface.mac_address.clone()),
        ("privateDnsName", interface.private_dns_name.clone()),
        ("privateIPv4Address", interface.private_ipv4_address.to_string()),
    ];
    let details = details.into_iter().chain(ipv6).map(|(name, value)| KeyValuePair { name: name.to_owned(), value });
    Attachment {
        id: interface.attachment_id.clone(),
        kind: "ElasticNetworkInterface".to_owned(),
        status: if gone { AttachmentStatus::Deleted } else { AttachmentStatus::Attached },
        details: details.collect(),
    }
}

/// All containers that are in the interface's namespace have it.
fn network_interfaces(task: &TaskSpec, container: &ContainerSpec) -> Vec<NetworkInterface> {
    let interface = task.network_interface.iter();
    let interface = interface.filter(|_| container.network.namespace != NetworkNamespace::Host);
    let each = interface.map(|interface| NetworkInterface {
        attachment_id: interface.attachment_id.clone(),
        private_ipv4_address: interface.private_ipv4_address.to_string(),
        ipv6_address: interface.ipv6_address.map(|address| address.to_string()),
    });
    each.collect()
}

fn arn_prefix(spec: &TaskSpec) -> String {
    format!("arn:aws:ecs:{}:{}", spec.region, spec.account_id)
}

pub fn cluster_arn(spec: &TaskSpec) -> String {
    format!("{}:cluster/{}", arn_prefix(spec), spec.cluster)
}

pub fn task_arn(spec: &TaskSpec) -> String {
    format!("{}:task/{}/{}", arn_prefix(spec), spec.cluster, spec.id)
}

pub fn task_definition_arn(spec: &TaskSpec) -> String {
    format!("{}:task-definition/{}:{}", arn_prefix(spec), spec.family, spec.revision)
}

/// As the control plane tells it.
pub fn container_arn(task: &TaskSpec, container: &ContainerSpec) -> String {
    let account = Account { region: &task.region, account_id: &task.account_id };
    account.container(&task.cluster, &task.id, &container.definition.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;
    use ecs::Timestamp;

    #[test]
    fn a_task_without_a_status_is_pending_and_has_amazons_arns() {
        let spec = example::spec(&["web"]);
        let shown = task(&spec, None);
        assert_eq!(shown.last_status, LastStatus::Pending);
        assert_eq!(shown.task_arn, format!("arn:aws:ecs:us-east-1:000000000000:task/default/{}", spec.id));
        assert_eq!(shown.task_definition_arn, "arn:aws:ecs:us-east-1:000000000000:task-definition/shop:3");
        assert_eq!(
            shown.containers[0].container_arn,
            format!(
                "arn:aws:ecs:us-east-1:000000000000:container/default/{}/29d5c3e3-e07e-4944-b4da-92c13e500edf",
                spec.id
            )
        );
        assert_eq!(shown.containers[0].last_status, ContainerLastStatus::Pending);
    }

    /// The shape of an `attachments` member in Amazon's examples of DescribeTasks.
    #[test]
    fn an_interface_is_an_attachment_and_each_containers() {
        let mut spec = example::spec(&["web", "sidecar"]);
        assert_eq!(task(&spec, None).attachments, []);
        spec.network_interface = Some(example::interface());
        let shown = serde_json::to_value(task(&spec, None)).expect("a task is plain data");
        assert_eq!(
            shown["attachments"],
            serde_json::json!([{
                "id": "5941250f-0762-463e-8cbc-4c7a4c2a0a6c", "type": "ElasticNetworkInterface", "status": "ATTACHED",
                "details": [
                    {"name": "subnetId", "value": "subnet-0d0eab1bb30300000"},
                    {"name": "networkInterfaceId", "value": "eni-0d542ffb4a12aa6d9"},
                    {"name": "macAddress", "value": "02:42:0a:00:01:05"},
                    {"name": "privateDnsName", "value": "ip-10-0-1-5.ec2.internal"},
                    {"name": "privateIPv4Address", "value": "10.0.1.5"},
                    {"name": "ipv6Address", "value": "fd00:1::a00:105"},
                ],
            }])
        );
        for container in 0..2 {
            assert_eq!(
                shown["containers"][container]["networkInterfaces"],
                serde_json::json!([{
                    "attachmentId": "5941250f-0762-463e-8cbc-4c7a4c2a0a6c", "privateIpv4Address": "10.0.1.5",
                    "ipv6Address": "fd00:1::a00:105",
                }])
            );
        }
        assert_eq!(shown["availabilityZone"], "us-east-1a");
        let mut status = example::status(&["web", "sidecar"]);
        status.last_status = LastStatus::Stopped;
        assert_eq!(task(&spec, Some(&status)).attachments[0].status, AttachmentStatus::Deleted);
    }

    #[test]
    fn a_stopped_container_shows_its_exit_code_under_its_own_name() {
        let spec = example::spec(&["web", "sidecar"]);
        let mut status = example::status(&["sidecar", "web"]);
        status.stopped_at = Some(Timestamp::from_epoch_ms(5_000));
        status.containers[0].exit_code = Some(3);
        let shown = task(&spec, Some(&status));
        assert_eq!(shown.containers[0].exit_code, None);
        assert_eq!(shown.containers[1].exit_code, Some(3));
        let json = serde_json::to_value(&shown).expect("a task is plain data");
        assert_eq!(json["stoppedAt"], 5.0);
        assert_eq!(json["containers"][1]["exitCode"], 3);
    }
}
