//! What there is to do, out of what a host has and what it is assigned. Pure, and safe to ask again at any time: what is
//! under way already is not asked for twice.

use std::collections::{BTreeMap, BTreeSet};

use agent_protocol::session::{AssignedTask, Desired};
use ecs::TaskId;
use ecs::task::StopCode;

/// How a task of an assignment stands here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its start is under way, or its supervisor lives.
    Present(Stopping),
    Stopped,
}

/// Whether a task has been asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopping {
    NotAsked,
    Asked,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Of a task that this host has never had.
    Start(Box<AssignedTask>),
    /// Of a task that this host has never had either: it stops without having been started.
    NeverStart {
        id: TaskId,
        why: Why,
    },
    Stop {
        id: TaskId,
        why: Why,
    },
    /// Nobody wants to hear of it any more.
    Release(TaskId),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Why {
    pub code: StopCode,
    pub reason: String,
}

/// Of a task that runs here and is in no assignment: its control plane has given it up.
pub const UNASSIGNED: &str = "The control plane has ended this task without its container instance";

/// Starts come in the assignment's order, after all stops, which make room for them.
pub fn steps(here: &BTreeMap<TaskId, Standing>, assigned: &[AssignedTask]) -> Vec<Step> {
    let mut starts = Vec::new();
    let mut steps = Vec::new();
    let mut named = BTreeSet::new();
    for task in assigned {
        // An id that is there twice means its first task.
        if !named.insert(&task.id) {
            continue;
        }
        let id = task.id.clone();
        match (here.get(&id), &task.desired) {
            (None, Desired::Running) => starts.push(Step::Start(Box::new(task.clone()))),
            (None, Desired::Stopped { code, reason }) => {
                steps.push(Step::NeverStart { id, why: Why { code: *code, reason: reason.clone() } });
            }
            (Some(Standing::Present(Stopping::NotAsked)), Desired::Stopped { code, reason }) => {
                steps.push(Step::Stop { id, why: Why { code: *code, reason: reason.clone() } });
            }
            (Some(Standing::Present(Stopping::Asked)), Desired::Stopped { .. })
            | (Some(Standing::Present(_)), Desired::Running)
            | (Some(Standing::Stopped), Desired::Running | Desired::Stopped { .. }) => {}
        }
    }
    for (id, standing) in here.iter().filter(|(id, _)| !named.contains(id)) {
        match standing {
            Standing::Present(Stopping::NotAsked) => {
                let why = Why { code: StopCode::TerminationNotice, reason: UNASSIGNED.to_owned() };
                steps.push(Step::Stop { id: id.clone(), why });
            }
            Standing::Present(Stopping::Asked) => {}
            Standing::Stopped => steps.push(Step::Release(id.clone())),
        }
    }
    steps.extend(starts);
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::samples::{assigned, id};

    fn stop() -> Desired {
        Desired::Stopped { code: StopCode::UserInitiated, reason: "enough".to_owned() }
    }

    fn why() -> Why {
        Why { code: StopCode::UserInitiated, reason: "enough".to_owned() }
    }

    #[test]
    fn every_standing_under_every_wish() {
        use Standing::{Present, Stopped};
        let table = [
            (None, Some(Desired::Running), Some(Step::Start(Box::new(assigned(1, Desired::Running))))),
            (None, Some(stop()), Some(Step::NeverStart { id: id(1), why: why() })),
            (None, None, None),
            (Some(Present(Stopping::NotAsked)), Some(Desired::Running), None),
            (Some(Present(Stopping::NotAsked)), Some(stop()), Some(Step::Stop { id: id(1), why: why() })),
            (
                Some(Present(Stopping::NotAsked)),
                None,
                Some(Step::Stop {
                    id: id(1),
                    why: Why { code: StopCode::TerminationNotice, reason: UNASSIGNED.to_owned() },
                }),
            ),
            (Some(Present(Stopping::Asked)), Some(Desired::Running), None),
            (Some(Present(Stopping::Asked)), Some(stop()), None),
            (Some(Present(Stopping::Asked)), None, None),
            // At most one start of an id: what has stopped is never started again.
            (Some(Stopped), Some(Desired::Running), None),
            (Some(Stopped), Some(stop()), None),
            (Some(Stopped), None, Some(Step::Release(id(1)))),
        ];
        for (standing, desired, expected) in table {
            let here = standing.map(|standing| (id(1), standing)).into_iter().collect();
            let assignment: Vec<AssignedTask> =
                desired.clone().map(|desired| assigned(1, desired)).into_iter().collect();
            let expected: Vec<Step> = expected.into_iter().collect();
            assert_eq!(steps(&here, &assignment), expected, "{standing:?} under {desired:?}");
        }
    }

    #[test]
    fn stops_come_before_starts_and_an_id_counts_once() {
        let here = [(id(9), Standing::Present(Stopping::NotAsked))].into();
        let tasks =
            [assigned(3, Desired::Running), assigned(2, Desired::Running), assigned(3, stop()), assigned(9, stop())];
        let found: Vec<String> = steps(&here, &tasks)
            .into_iter()
            .map(|step| match step {
                Step::Start(task) => format!("start {}", task.id),
                Step::NeverStart { id, .. } => format!("never {id}"),
                Step::Stop { id, .. } => format!("stop {id}"),
                Step::Release(id) => format!("release {id}"),
            })
            .collect();
        assert_eq!(found, [format!("stop {}", id(9)), format!("start {}", id(3)), format!("start {}", id(2))]);
    }
}
