//! What happens to the control plane, and what comes of it.

use agent_protocol::session::{Hello, TaskReport};
use ecs::operations::{ApiError, Operation, Reply};
use ecs::{ContainerInstanceId, Timestamp};

use crate::change::Changes;
use crate::state::State;
use crate::{answer, observe};

/// Who asks, as the signature of the request says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Of the request's credential scope. It goes into every ARN of the answer: names are the same in all regions.
    pub region: String,
    /// Twelve digits.
    pub account_id: String,
    /// `arn:aws:iam::123456789012:root`.
    pub principal_arn: String,
    /// The URL under which the caller has reached this API: what DiscoverPollEndpoint answers.
    pub endpoint: String,
}

/// Random numbers from outside, so that a run can be repeated.
pub trait Ids {
    fn random(&mut self) -> [u8; 16];
}

impl<F: FnMut() -> [u8; 16]> Ids for F {
    fn random(&mut self) -> [u8; 16] {
        self()
    }
}

#[derive(Clone, Debug)]
pub enum Input {
    Operation {
        caller: Caller,
        operation: Box<Operation>,
    },
    /// A container instance has come; its connection is known to be `instance` where it was here before.
    Arrived {
        instance: ContainerInstanceId,
        hello: Box<Hello>,
    },
    /// It tells how tasks stand. `whole`: of all that it has.
    Observed {
        instance: ContainerInstanceId,
        whole: bool,
        tasks: Vec<TaskReport>,
    },
    /// Its connection has gone.
    Left {
        instance: ContainerInstanceId,
    },
}

/// What is answered once the changes are durable. Only operations are answered.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub changes: Changes,
    pub answer: Option<Result<Reply, ApiError>>,
}

/// One input's consequences. An operation that is refused changes nothing; one that only reads has no changes, so it may as
/// well be asked of an older snapshot.
pub fn step(state: &State, input: &Input, now: Timestamp, ids: &mut dyn Ids) -> Outcome {
    match input {
        Input::Operation { caller, operation } => match answer::answer(state, caller, operation, now, ids) {
            Ok((reply, changes)) => Outcome { changes, answer: Some(Ok(reply)) },
            Err(error) => Outcome { changes: Changes::default(), answer: Some(Err(error)) },
        },
        Input::Arrived { instance, hello } => {
            Outcome { changes: observe::arrived(state, instance, hello, now), answer: None }
        }
        Input::Observed { instance, whole, tasks } => {
            Outcome { changes: observe::observed(state, instance, *whole, tasks, now), answer: None }
        }
        Input::Left { instance } => Outcome { changes: observe::left(state, instance, now), answer: None },
    }
}
