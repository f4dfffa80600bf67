//! Which records are to be looked at again by themselves, and when. STOPPED tasks have an order of their own,
//! `State::stopped`.

use ecs::operations::registered::TaskDefinitionStatus;
use ecs::{ContainerInstanceId, TaskId, Timestamp};

use crate::change::Key;
use crate::records::InstanceStatus;
use crate::state::State;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// An INACTIVE cluster has been described for long enough.
    Cluster(String),
    /// As has an INACTIVE capacity provider.
    CapacityProvider(String),
    /// As has a definition that is to be deleted.
    TaskDefinition(String, u32),
    /// An instance has been out of touch for too long, or, INACTIVE, described for long enough.
    Instance(ContainerInstanceId),
    /// A task has waited for an instance for too long.
    Waiting(TaskId),
    /// A clientToken is no longer remembered.
    Token(String, String),
}

/// The timer of the record under a key, as that record stands in the state.
pub(crate) fn of(state: &State, key: &Key) -> Option<(Timestamp, Timer)> {
    let settings = &state.settings;
    match key {
        Key::Cluster(name) => {
            let cluster = state.clusters.get(name).filter(|cluster| !cluster.active)?;
            Some((cluster.changed_at.plus_ms(settings.inactive_ms), Timer::Cluster(name.clone())))
        }
        Key::CapacityProvider(name) => {
            let provider = state.capacity_providers.get(name).filter(|provider| !provider.active)?;
            Some((provider.changed_at.plus_ms(settings.inactive_ms), Timer::CapacityProvider(name.clone())))
        }
        Key::TaskDefinition(family, revision) => {
            let definition = state.task_definitions.get(&(family.clone(), *revision))?;
            let since = match definition.status {
                TaskDefinitionStatus::DeleteInProgress => definition.delete_requested_at?,
                TaskDefinitionStatus::Active | TaskDefinitionStatus::Inactive => return None,
            };
            Some((since.plus_ms(settings.inactive_ms), Timer::TaskDefinition(family.clone(), *revision)))
        }
        Key::Instance(id) => {
            let instance = state.instances.get(id)?;
            let at = match instance.status {
                InstanceStatus::Inactive => instance.inactive_since?.plus_ms(settings.inactive_ms),
                InstanceStatus::Active | InstanceStatus::Draining if !instance.connected => {
                    instance.connection_changed_at.plus_ms(settings.lost_instance_ms?)
                }
                InstanceStatus::Active | InstanceStatus::Draining => return None,
            };
            Some((at, Timer::Instance(id.clone())))
        }
        Key::Task(id) => {
            let task = state.tasks.get(id).filter(|task| task.waits())?;
            Some((task.created_at.plus_ms(settings.provisioning_ms), Timer::Waiting(id.clone())))
        }
        Key::Token(cluster, token) => {
            let reserved = state.tokens.get(&(cluster.clone(), token.clone()))?;
            let at = reserved.used_at.plus_ms(settings.client_token_ms);
            Some((at, Timer::Token(cluster.clone(), token.clone())))
        }
        Key::Family(_) | Key::AccountSetting(..) => None,
    }
}
