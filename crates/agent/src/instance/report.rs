//! Tasks as the control plane is told of them. Pure.

use agent_protocol::session::{AssignedTask, TaskReport};
use agent_protocol::{TaskSpec, TaskStatus};
use ecs::task::{Container, ContainerLastStatus, DesiredStatus, HealthStatus, LastStatus, Task};
use ecs::task_definition::ContainerDefinition;
use runtime::recover::CUT_SHORT;

use super::disk::Ended;
use super::verdict;

/// What a report needs besides the task itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around<'a> {
    /// Of the task's status before a reboot after which it was started again.
    pub versions_before: u64,
    pub boot_id: &'a str,
    pub host_name: &'a str,
}

/// Of a task that has its directory.
pub(crate) fn of_task(spec: &TaskSpec, status: Option<&TaskStatus>, around: Around<'_>) -> TaskReport {
    let mut task = crate::describe::task(spec, status);
    task.version += around.versions_before;
    if let Some(status) = status.filter(|status| was_cut_short_by_a_reboot(status, around.boot_id)) {
        let why = verdict::rebooted(around.host_name);
        if status.stopped_reason.as_deref() == Some(CUT_SHORT) {
            (task.stop_code, task.stopped_reason) = (Some(why.code), Some(why.reason));
        }
    }
    TaskReport { id: spec.id.clone(), task: Box::new(task) }
}

fn was_cut_short_by_a_reboot(status: &TaskStatus, boot_id: &str) -> bool {
    status.last_status == LastStatus::Stopped && status.supervisor.boot_id != boot_id
}

/// Of a task without one: its start is under way, or it has `ended` before it had any.
pub(crate) fn of_assigned(assigned: &AssignedTask, ended: Option<&Ended>, around: Around<'_>) -> TaskReport {
    let prefix = format!("arn:aws:ecs:{}:{}", assigned.region, assigned.account_id);
    let definition = &assigned.definition;
    let task_arn = format!("{prefix}:task/{}/{}", assigned.cluster, assigned.id);
    let task = Task {
        task_definition_arn: format!(
            "{prefix}:task-definition/{}:{}",
            definition.family,
            definition.revision.unwrap_or_default()
        ),
        cluster_arn: format!("{prefix}:cluster/{}", assigned.cluster),
        group: assigned.group.clone(),
        launch_type: assigned.launch_type.clone(),
        last_status: if ended.is_some() { LastStatus::Stopped } else { LastStatus::Pending },
        desired_status: if ended.is_some() { DesiredStatus::Stopped } else { DesiredStatus::Running },
        health_status: HealthStatus::Unknown,
        // Before the supervisor's first status, whose version is 1.
        version: around.versions_before + u64::from(ended.is_some()),
        created_at: assigned.created_at,
        pull_started_at: None,
        pull_stopped_at: None,
        started_at: None,
        stopping_at: ended.map(|ended| ended.at),
        execution_stopped_at: None,
        stopped_at: ended.map(|ended| ended.at),
        stop_code: ended.map(|ended| ended.code),
        stopped_reason: ended.map(|ended| ended.reason.clone()),
        cpu: definition.cpu.clone(),
        memory: definition.memory.clone(),
        containers: definition
            .container_definitions
            .iter()
            .map(|container| container_of(container, &task_arn, ended.is_some()))
            .collect(),
        task_arn,
        availability_zone: None,
        attachments: Vec::new(),
        tags: assigned.tags.clone(),
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
    };
    TaskReport { id: assigned.id.clone(), task: Box::new(task) }
}

fn container_of(definition: &ContainerDefinition, task_arn: &str, has_ended: bool) -> Container {
    Container {
        // The control plane gives containers their ARNs.
        container_arn: String::new(),
        task_arn: task_arn.to_owned(),
        name: definition.name.clone(),
        image: definition.image.clone(),
        image_digest: None,
        runtime_id: None,
        last_status: if has_ended { ContainerLastStatus::Stopped } else { ContainerLastStatus::Pending },
        health_status: HealthStatus::Unknown,
        exit_code: None,
        reason: None,
        network_bindings: Vec::new(),
        network_interfaces: Vec::new(),
        cpu: definition.cpu.to_string(),
        memory: definition.memory.map(|mib| mib.to_string()),
        memory_reservation: definition.memory_reservation.map(|mib| mib.to_string()),
        gpu_ids: Vec::new(),
        managed_agents: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;
    use crate::instance::samples::assigned;
    use agent_protocol::session::Desired;
    use ecs::Timestamp;
    use ecs::task::StopCode;

    const AROUND: Around<'_> = Around { versions_before: 10, boot_id: "now", host_name: "h1" };

    #[test]
    fn what_has_not_begun_is_pending_and_what_never_began_has_its_reason() {
        let task = assigned(1, Desired::Running);
        let shown = of_assigned(&task, None, AROUND).task;
        assert_eq!(shown.task_arn, format!("arn:aws:ecs:eu-west-1:123456789012:task/harbour/{}", task.id));
        assert_eq!((shown.last_status, shown.version, shown.containers.len()), (LastStatus::Pending, 10, 2));
        let ended =
            Ended { code: StopCode::TaskFailedToStart, reason: "x".to_owned(), at: Timestamp::from_epoch_ms(2_000) };
        let shown = of_assigned(&task, Some(&ended), AROUND).task;
        assert_eq!((shown.last_status, shown.desired_status), (LastStatus::Stopped, DesiredStatus::Stopped));
        assert_eq!((shown.stop_code, shown.version), (Some(StopCode::TaskFailedToStart), 11));
        assert!(shown.containers.iter().all(|container| container.last_status == ContainerLastStatus::Stopped));
    }

    #[test]
    fn a_reboot_is_told_as_such() {
        let spec = example::spec(&["web"]);
        let mut status = example::status(&["web"]);
        status.last_status = LastStatus::Stopped;
        status.stopped_reason = Some(CUT_SHORT.to_owned());
        status.supervisor.boot_id = "before".to_owned();
        let shown = of_task(&spec, Some(&status), AROUND).task;
        assert_eq!(shown.stopped_reason.as_deref(), Some("Host EC2 (instance h1) stopped/terminated."));
        assert_eq!(shown.version, status.version + 10);
        status.supervisor.boot_id = "now".to_owned();
        assert_eq!(of_task(&spec, Some(&status), AROUND).task.stopped_reason.as_deref(), Some(CUT_SHORT));
    }
}
