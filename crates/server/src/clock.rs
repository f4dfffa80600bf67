//! The one place of this crate that reads the clock.

use std::time::{SystemTime, UNIX_EPOCH};

use ecs::Timestamp;

/// A clock before 1970 reads as 1970.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_epoch_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
