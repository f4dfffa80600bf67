//! Operations: one function each, in a file by what it is about. A read has no changes.

use ecs::Timestamp;
use ecs::operations::{ApiError, ErrorCode, Operation, Reply};

use crate::change::Changes;
use crate::input::{Caller, Ids};
use crate::state::State;

/// What an operation of every kind comes to.
pub type Answer<Response> = Result<(Response, Changes), ApiError>;

/// What an operation may look at besides the state.
pub struct Context<'a> {
    pub state: &'a State,
    pub caller: &'a Caller,
    pub now: Timestamp,
    pub ids: &'a mut dyn Ids,
}

pub fn answer(
    state: &State,
    caller: &Caller,
    operation: &Operation,
    now: Timestamp,
    ids: &mut dyn Ids,
) -> Answer<Reply> {
    let context = &mut Context { state, caller, now, ids };
    let _ = context;
    match operation {
        other => Err(ApiError::new(ErrorCode::UnsupportedFeature, format!("{} is not here yet.", other.name()))),
    }
}
