//! What changes by itself: tasks that wait for an instance are placed, those of lost instances end, what was kept long enough
//! goes.

use ecs::Timestamp;

use crate::change::Changes;
use crate::input::Ids;
use crate::state::State;

/// One round. The caller applies the changes and asks again until there are none.
pub fn reconcile(_state: &State, _now: Timestamp, _ids: &mut dyn Ids) -> Changes {
    Changes::default()
}
