//! What container instances say, as changes of records.

use agent_protocol::session::{Hello, TaskReport};
use ecs::{ContainerInstanceId, Timestamp};

use crate::change::Changes;
use crate::state::State;

pub fn arrived(_state: &State, _instance: &ContainerInstanceId, _hello: &Hello, _now: Timestamp) -> Changes {
    Changes::default()
}

pub fn observed(
    _state: &State,
    _instance: &ContainerInstanceId,
    _whole: bool,
    _tasks: &[TaskReport],
    _now: Timestamp,
) -> Changes {
    Changes::default()
}

pub fn left(_state: &State, _instance: &ContainerInstanceId, _now: Timestamp) -> Changes {
    Changes::default()
}
