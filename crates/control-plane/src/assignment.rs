//! What an instance is to run: its tasks that are not known to have stopped, whole.

use agent_protocol::session::{AssignedTask, Assignment, Desired};
use ecs::ContainerInstanceId;
use ecs::task::{DesiredStatus, StopCode};

use crate::records::{InstanceStatus, TaskRecord};
use crate::state::State;

impl State {
    /// Nothing for an instance that is not here, and for one that is deregistered: what runs there "remain\[s\] running
    /// until you terminate the instance or the tasks stop through some other means" (API_DeregisterContainerInstance).
    pub fn assignment(&self, instance: &ContainerInstanceId) -> Option<Assignment> {
        let known = self.instances.get(instance)?;
        let generation = match known.status {
            InstanceStatus::Active | InstanceStatus::Draining => known.assigned,
            InstanceStatus::Inactive => return None,
        };
        let tasks = self.living_tasks(instance).map(|task| assigned(task)).collect();
        Some(Assignment { generation, tasks })
    }
}

fn assigned(task: &TaskRecord) -> AssignedTask {
    let desired = match task.desired_status {
        DesiredStatus::Running => Desired::Running,
        DesiredStatus::Stopped => Desired::Stopped {
            code: task.stop_code.unwrap_or(StopCode::UserInitiated),
            reason: task.stopped_reason.clone().unwrap_or_default(),
        },
    };
    AssignedTask {
        id: task.id.clone(),
        cluster: task.cluster.clone(),
        region: task.region.clone(),
        account_id: task.account_id.clone(),
        definition: Box::new((*task.definition).clone()),
        launch_type: task.launch_type.clone(),
        group: task.group.clone(),
        service: task.group.strip_prefix("service:").map(str::to_owned),
        network: task.network.clone(),
        enable_execute_command: task.enable_execute_command,
        tags: task.tags.clone(),
        created_at: task.created_at,
        desired,
    }
}
