//! What changes by itself: tasks that wait for an instance are placed, those of lost instances end, what was kept long enough
//! goes.

use std::collections::BTreeSet;
use std::ops::Bound;

use ecs::operations::registered::TaskDefinitionStatus;
use ecs::{ContainerInstanceId, TaskId, Timestamp};

use crate::change::{Changes, Key};
use crate::draft::Draft;
use crate::input::Ids;
use crate::placing;
use crate::records::{InstanceStatus, TaskRecord};
use crate::state::State;
use crate::stopping::{self, Cause};
use crate::timers::Timer;

/// Of one round, so that no round takes long; there are as many rounds as it takes.
const MAX_ENDED: usize = 1_000;

/// One round. The caller applies the changes and asks again until there are none, and, if nothing happens before, at
/// `State::deadline`.
pub fn reconcile(state: &State, now: Timestamp, ids: &mut dyn Ids) -> Changes {
    let due: Vec<Timer> = state
        .timers
        .range((Bound::Unbounded, Bound::Included(&now)))
        .flat_map(|(_, timers)| timers.keys().cloned())
        .collect();
    if due.is_empty() && state.waiting.is_empty() && !has_old_tasks(state, now) {
        return Changes::default();
    }
    let mut draft = Draft::new(state);
    for timer in &due {
        ring(&mut draft, timer, now);
    }
    place_waiting(&mut draft, ids);
    forget_old_tasks(&mut draft, now);
    draft.finish()
}

fn end_all(draft: &mut Draft, instance: &ContainerInstanceId, cause: &Cause, now: Timestamp) {
    let living: Vec<TaskRecord> =
        draft.state().living_tasks(instance).take(MAX_ENDED).map(|task| (**task).clone()).collect();
    for task in living {
        draft.put_task(stopping::ended(task, cause.clone(), now));
    }
}

fn ring(draft: &mut Draft, timer: &Timer, now: Timestamp) {
    match timer {
        Timer::Cluster(name) => {
            let used = draft.state().cluster_tasks(name).next().is_some()
                || draft.state().instances.values().any(|instance| instance.cluster == *name);
            if !used {
                draft.remove(Key::Cluster(name.clone()));
            }
        }
        Timer::CapacityProvider(name) => draft.remove(Key::CapacityProvider(name.clone())),
        Timer::TaskDefinition(family, revision) => {
            let key = (family.clone(), *revision);
            let deleting = draft
                .state()
                .task_definitions
                .get(&key)
                .is_some_and(|definition| definition.status == TaskDefinitionStatus::DeleteInProgress);
            if deleting && !draft.state().users_of_definition.contains_key(&key) {
                draft.remove(Key::TaskDefinition(family.clone(), *revision));
            }
        }
        Timer::Instance(id) => {
            let Some(instance) = draft.state().instances.get(id).cloned() else { return };
            match instance.status {
                InstanceStatus::Inactive => draft.remove(Key::Instance(id.clone())),
                InstanceStatus::Active | InstanceStatus::Draining => {
                    end_all(draft, id, &stopping::lost_with_instance(&instance), now);
                }
            }
        }
        Timer::Waiting(id) => {
            let Some(task) = draft.state().tasks.get(id).map(|task| (**task).clone()) else { return };
            let reason = placing::why_waiting(draft.state(), &task);
            draft.put_task(stopping::ended(task, stopping::failed_to_start(reason), now));
        }
        Timer::Token(cluster, token) => draft.remove(Key::Token(cluster.clone(), token.clone())),
    }
}

/// In the order in which they were made. What does not fit keeps back only tasks just like it.
fn place_waiting(draft: &mut Draft, ids: &mut dyn Ids) {
    let waiting: Vec<TaskRecord> = draft.state().waiting.values().map(|task| (**task).clone()).collect();
    let mut hopeless = BTreeSet::new();
    for task in waiting {
        let alike = (
            task.cluster.clone(),
            task.family.clone(),
            task.revision,
            task.group.clone(),
            task.capacity_provider.clone(),
            task.overrides.is_some(),
        );
        if hopeless.contains(&alike) {
            continue;
        }
        match placing::choose(draft.state(), &task, ids) {
            Ok(instance) => draft.put_task(placing::placed(task, instance)),
            Err(_) => {
                hopeless.insert(alike);
            }
        }
    }
}

fn has_old_tasks(state: &State, now: Timestamp) -> bool {
    let too_many = state.stopped.size() > state.settings.stopped_tasks;
    let too_old = state.stopped.first().is_some_and(|((since, _), ())| is_old(state, *since, now));
    too_many || too_old
}

fn is_old(state: &State, since: Timestamp, now: Timestamp) -> bool {
    since.plus_ms(state.settings.stopped_task_ms) <= now
}

fn forget_old_tasks(draft: &mut Draft, now: Timestamp) {
    let state = draft.state();
    let surplus = state.stopped.size().saturating_sub(state.settings.stopped_tasks);
    let old: Vec<TaskId> = state
        .stopped
        .keys()
        .enumerate()
        .take_while(|(at, (since, _))| *at < surplus || is_old(state, *since, now))
        .take(MAX_ENDED)
        .map(|(_, (_, id))| id.clone())
        .collect();
    for id in old {
        forget(draft, &id);
    }
}

/// A clientToken goes with the last of its tasks: "the lesser of 24 hours, or the lifetime of the resource plus one hour"
/// (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/ECS_Idempotency.html>).
fn forget(draft: &mut Draft, id: &TaskId) {
    let Some(task) = draft.state().tasks.get(id).cloned() else { return };
    draft.remove(Key::Task(id.clone()));
    let Some(token) = task.client_token.clone() else { return };
    let key = (task.cluster.clone(), token);
    let of_none = draft
        .state()
        .tokens
        .get(&key)
        .is_some_and(|token| token.tasks.iter().all(|task| !draft.state().tasks.contains_key(task)));
    if of_none {
        draft.remove(Key::Token(key.0, key.1));
    }
}
