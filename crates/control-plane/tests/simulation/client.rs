//! Callers who repeat what was not answered, with the same clientToken, and remember what they were told.

use std::collections::BTreeMap;

use control_plane::{Caller, Input, State};
use ecs::TaskId;
use ecs::operations::container_instances::DeregisterContainerInstanceRequest;
use ecs::operations::tasks::{RunTaskRequest, StopTaskRequest};
use ecs::operations::{ApiError, Operation, Reply};

use crate::control::FAMILIES;
use crate::dice::Dice;

/// One wish; it is asked for until it is answered.
pub(crate) struct Call {
    operation: Operation,
    token: Option<String>,
    pub(crate) answered: bool,
}

#[derive(Default)]
pub(crate) struct Clients {
    pub(crate) calls: Vec<Call>,
    /// By token: what the first answer said was made.
    made: BTreeMap<String, Vec<TaskId>>,
}

impl Clients {
    pub(crate) fn wish(&mut self, dice: &mut Dice, instances: &[String]) {
        let tasks: Vec<&TaskId> = self.made.values().flatten().collect();
        let operation = match dice.below(20) {
            0..=11 => return self.wish_to_run(dice),
            12..=18 if !tasks.is_empty() => Operation::StopTask(StopTaskRequest {
                task: Some(tasks[dice.below(tasks.len())].to_string()),
                ..StopTaskRequest::default()
            }),
            19 if instances.len() > 2 && dice.percent(10) => {
                Operation::DeregisterContainerInstance(DeregisterContainerInstanceRequest {
                    container_instance: Some(instances[dice.below(instances.len())].clone()),
                    force: Some(true),
                    ..DeregisterContainerInstanceRequest::default()
                })
            }
            _ => return,
        };
        self.calls.push(Call { operation, token: None, answered: false });
    }

    fn wish_to_run(&mut self, dice: &mut Dice) {
        let token = format!("token-{}", self.calls.len());
        let request = RunTaskRequest {
            task_definition: Some(FAMILIES[dice.below(FAMILIES.len())].to_owned()),
            count: Some(1 + dice.below(3) as i64),
            client_token: Some(token.clone()),
            launch_type: dice.percent(50).then(|| "EC2".to_owned()),
            ..RunTaskRequest::default()
        };
        self.calls.push(Call { operation: Operation::RunTask(request), token: Some(token), answered: false });
    }

    /// A call goes out, for the first time or again, also after it was answered.
    pub(crate) fn send(&self, at: usize) -> Input {
        Input::Operation { caller: caller(), operation: Box::new(self.calls[at].operation.clone()) }
    }

    pub(crate) fn unanswered(&self) -> Vec<usize> {
        (0..self.calls.len()).filter(|at| !self.calls[*at].answered).collect()
    }

    /// V13: the same clientToken, the same tasks.
    pub(crate) fn hear(&mut self, at: usize, answer: &Result<Reply, ApiError>) {
        self.calls[at].answered = true;
        let (Ok(Reply::RunTask(response)), Some(token)) = (answer, &self.calls[at].token) else { return };
        let ids: Vec<TaskId> = response
            .tasks
            .iter()
            .map(|task| ecs::arn::task_id(&task.task_arn).expect("a task's ARN ends with its id"))
            .collect();
        if ids.is_empty() {
            return;
        }
        match self.made.get(token) {
            None => drop(self.made.insert(token.clone(), ids)),
            Some(first) => assert_eq!(*first, ids, "V13: {token} made other tasks the second time"),
        }
    }

    /// V1, V12: everything that was acknowledged, for nothing is old enough to be forgotten.
    pub(crate) fn acknowledged_are_in(&self, state: &State) {
        for id in self.made.values().flatten() {
            assert!(state.tasks.contains_key(id), "V12: task {id} was acknowledged and is not there");
        }
    }
}

pub(crate) fn caller() -> Caller {
    Caller {
        region: "eu-central-1".to_owned(),
        account_id: "123456789012".to_owned(),
        principal_arn: "arn:aws:iam::123456789012:root".to_owned(),
        endpoint: "http://127.0.0.1:4870".to_owned(),
    }
}
