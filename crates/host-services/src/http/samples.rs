//! What containers used when somebody last looked, so that the next look has something to be compared with. Nobody
//! looks where nobody asks.

use std::collections::HashMap;
use std::time::Duration;

use ecs::Timestamp;

use crate::metadata::stats::Sample;

/// Between two looks that are compared, at least: Docker looks once a second.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);
/// A look is as good as a second old a little before.
const LEAST_MS: u64 = 900;
/// Docker's numbers are of the last seconds, not of the last hour.
const MOST_MS: u64 = 60_000;

#[derive(Debug)]
struct Kept {
    older: Option<Sample>,
    newer: Sample,
}

/// By Docker id.
#[derive(Debug, Default)]
pub(super) struct Samples {
    kept: HashMap<String, Kept>,
}

impl Samples {
    /// Keeps a look, and gives the one to compare it with; nothing where there has been none for a while.
    pub(super) fn record(&mut self, docker_id: &str, new: &Sample) -> Option<Sample> {
        self.kept.retain(|_, kept| is_recent(kept.newer.at, new.at));
        let Some(kept) = self.kept.get_mut(docker_id) else {
            self.kept.insert(docker_id.to_owned(), Kept { older: None, newer: new.clone() });
            return None;
        };
        if new.at.ms_since(kept.newer.at) >= LEAST_MS {
            kept.older = Some(std::mem::replace(&mut kept.newer, new.clone()));
        }
        kept.older.clone()
    }
}

/// A clock that went back makes everything old.
fn is_recent(then: Timestamp, now: Timestamp) -> bool {
    then <= now && now.ms_since(then) <= MOST_MS
}

#[cfg(test)]
mod tests {
    use runtime::stats::detail::Detail;

    use super::*;

    #[test]
    fn looks_are_compared_with_one_that_is_a_second_older() {
        let mut samples = Samples::default();
        let mut look = |at: u64| {
            let sample = Sample { at: Timestamp::from_epoch_ms(at), detail: Detail::default() };
            samples.record("a", &sample).map(|before| before.at.epoch_ms)
        };
        assert_eq!(look(100_000), None);
        assert_eq!(look(100_500), None, "too early");
        assert_eq!(look(101_000), Some(100_000));
        assert_eq!(look(101_500), Some(100_000));
        assert_eq!(look(131_000), Some(101_000));
        assert_eq!(look(200_000), None, "too late");
        assert_eq!(look(150_000), None, "the clock went back");
        assert_eq!(look(151_000), Some(150_000));
    }
}
