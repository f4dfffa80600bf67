//! A task as DescribeTasks shows it, out of what its supervisor was given and what it reports. Pure.

use agent_protocol::{ContainerSpec, ContainerStatus, TaskSpec, TaskStatus};
use ecs::task::{Container, ContainerLastStatus, DesiredStatus, HealthStatus, LastStatus, Task};

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
        attachments: Vec::new(),
        containers: spec
            .containers
            .iter()
            .map(|container| {
                let status = status.and_then(|status| container_status(status, container));
                describe_container(spec, container, status)
            })
            .collect(),
        tags: spec.tags.clone(),
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
        network_interfaces: Vec::new(),
        cpu: definition.cpu.to_string(),
        memory: definition.memory.map(|mib| mib.to_string()),
        memory_reservation: definition.memory_reservation.map(|mib| mib.to_string()),
        gpu_ids: spec.gpu_ids.clone(),
    }
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

/// `container/CLUSTER/TASK/<uuid>`; the uuid is the first half of the runtime id, so that it stays the same.
pub fn container_arn(task: &TaskSpec, container: &ContainerSpec) -> String {
    let digits = |from: usize, to: usize| container.runtime_id.get(from..to).unwrap_or_default();
    let uuid = [digits(0, 8), digits(8, 12), digits(12, 16), digits(16, 20), digits(20, 32)].join("-");
    format!("{}:container/{}/{}/{uuid}", arn_prefix(task), task.cluster, task.id)
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
                "arn:aws:ecs:us-east-1:000000000000:container/default/{}/00112233-4455-6677-8899-aabbccddeeff",
                spec.id
            )
        );
        assert_eq!(shown.containers[0].last_status, ContainerLastStatus::Pending);
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
