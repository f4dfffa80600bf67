//! Changes in the making. Each is seen by those after it, and instances whose assignment comes out different have the
//! generation that says so in the same changes.

use std::collections::BTreeMap;

use agent_protocol::session::Generation;
use ecs::{ContainerInstanceId, TaskId};

use crate::change::{Change, Changes, Key, Record};
use crate::records::{ContainerInstance, TaskRecord};
use crate::state::State;

pub(crate) struct Draft {
    /// As it is with the changes so far.
    state: State,
    changes: Changes,
    reassigned: BTreeMap<ContainerInstanceId, News>,
}

/// What a change of its assignment is to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum News {
    /// It has told so itself.
    Known,
    Pressing,
}

impl Draft {
    pub(crate) fn new(state: &State) -> Draft {
        Draft { state: state.clone(), changes: Changes::default(), reassigned: BTreeMap::new() }
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    pub(crate) fn put(&mut self, record: Record) {
        self.push(Change::Put(record));
    }

    pub(crate) fn remove(&mut self, key: Key) {
        self.push(Change::Remove(key));
    }

    /// A task, new or changed. Its `assigned_in` is made right here.
    pub(crate) fn put_task(&mut self, task: TaskRecord) {
        self.put_ordered(task, News::Pressing);
    }

    /// A task as its own instance tells of it: what comes out different in the assignment is what the instance has done.
    pub(crate) fn put_reported_task(&mut self, task: TaskRecord) {
        self.put_ordered(task, News::Known);
    }

    fn put_ordered(&mut self, mut task: TaskRecord, news: News) {
        let before = self.state.tasks.get(&task.id).cloned();
        let was = before.as_ref().and_then(|before| order(before));
        let instance = order(&task).map(|order| order.instance.clone());
        if was != order(&task) {
            let involved = was.map(|order| order.instance.clone()).into_iter().chain(instance.clone());
            involved.for_each(|instance| self.note(instance, news));
        }
        let moved = before.is_none_or(|before| before.instance != task.instance);
        if moved && let Some(instance) = instance.and_then(|instance| self.state.instances.get(&instance)) {
            task.assigned_in = next(&self.state, instance.assigned);
        }
        self.put(Record::Task(Box::new(task)));
    }

    /// An instance has a new assignment even if it has the same tasks.
    pub(crate) fn reassign(&mut self, instance: &ContainerInstanceId) {
        self.note(instance.clone(), News::Pressing);
    }

    fn note(&mut self, instance: ContainerInstanceId, news: News) {
        let noted = self.reassigned.entry(instance).or_insert(news);
        *noted = news.max(*noted);
    }

    pub(crate) fn finish(mut self) -> Changes {
        for (id, news) in std::mem::take(&mut self.reassigned) {
            let Some(instance) = self.state.instances.get(&id) else { continue };
            let mut instance: ContainerInstance = (**instance).clone();
            instance.assigned = next(&self.state, instance.assigned);
            match news {
                News::Pressing => instance.pressing = instance.assigned,
                News::Known => {}
            }
            // What is free on it has changed, or who it is: both make an event.
            instance.version += 1;
            self.put(Record::Instance(Box::new(instance)));
        }
        self.changes
    }

    fn push(&mut self, change: Change) {
        self.state.apply_one(&change);
        self.changes.0.push(change);
    }
}

/// What an assignment says of a task and may change.
#[derive(PartialEq)]
struct Order<'a> {
    instance: &'a ContainerInstanceId,
    task: &'a TaskId,
    desired: ecs::task::DesiredStatus,
}

fn order(task: &TaskRecord) -> Option<Order<'_>> {
    let instance = task.instance.as_ref().filter(|_| !task.is_stopped())?;
    Some(Order { instance, task: &task.id, desired: task.desired_status })
}

/// After every assignment that an instance has had, by whichever control plane.
pub(crate) fn next(state: &State, last: Generation) -> Generation {
    Generation { epoch: last.epoch.max(state.epoch), generation: last.generation.saturating_add(1) }
}
