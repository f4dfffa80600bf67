//! Time for one task: timestamps that people read, and deadlines that do not move when the wall clock is set.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ecs::Timestamp;

/// Goes on by the monotonic clock from the wall clock's time. It is set right again only while nothing is timed, so
/// a stop timeout is its own length even on a host that learns the date after its start.
#[derive(Debug)]
pub(crate) struct Clock {
    wall: Timestamp,
    since: std::time::Instant,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock { wall: wall_time(), since: std::time::Instant::now() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.wall.plus_ms(u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// The wall clock's own time, for what a person will read, however often somebody sets it: where there is always a
    /// deadline, as with a health check, `now` is never set right.
    pub(crate) fn wall() -> Timestamp {
        wall_time()
    }

    /// Only while no deadline is pending.
    pub(crate) fn set_right(&mut self) {
        *self = Clock::new();
    }

    /// Milliseconds to wait as poll(2) takes them, rounded up; for ever without a deadline.
    pub(crate) fn poll_timeout(&self, deadline: Option<Timestamp>) -> i32 {
        match deadline {
            Some(deadline) => i32::try_from(deadline.ms_since(self.now())).unwrap_or(i32::MAX),
            None => -1,
        }
    }
}

/// Before 1970 is 1970: such a clock has no battery, and only differences matter.
fn wall_time() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Timestamp::from_epoch_ms(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}
