//! How often one task may ask. Pure.

use std::collections::HashMap;
use std::hash::Hash;

use ecs::Timestamp;

/// `ECS_TASK_METADATA_RPS_LIMIT` of Amazon's agent is `40,60` where nobody sets it
/// (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-agent-config.html>).
pub const REQUESTS_PER_SECOND: u64 = 40;
pub const BURST: u64 = 60;

const MILLI: u64 = 1000;

/// Thousandths of requests that may still be made.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: u64,
    filled_at: Timestamp,
}

/// A bucket for each caller. One that is full again says nothing and is let go.
#[derive(Debug)]
pub(super) struct Rates<K> {
    buckets: HashMap<K, Bucket>,
}

impl<K: Hash + Eq> Rates<K> {
    pub(super) fn new() -> Self {
        Self { buckets: HashMap::new() }
    }

    /// Takes one request out of the caller's bucket, where there is one.
    pub(super) fn take(&mut self, caller: K, now: Timestamp) -> bool {
        self.buckets.retain(|_, bucket| refilled(*bucket, now).left < BURST * MILLI);
        let bucket = self.buckets.entry(caller).or_insert(Bucket { left: BURST * MILLI, filled_at: now });
        *bucket = refilled(*bucket, now);
        let may = bucket.left >= MILLI;
        if may {
            bucket.left -= MILLI;
        }
        may
    }
}

/// A clock that went back adds nothing.
fn refilled(bucket: Bucket, now: Timestamp) -> Bucket {
    let added = now.ms_since(bucket.filled_at).saturating_mul(REQUESTS_PER_SECOND);
    Bucket { left: bucket.left.saturating_add(added).min(BURST * MILLI), filled_at: now }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_a_steady_rate_for_each() {
        let mut rates = Rates::new();
        let at = Timestamp::from_epoch_ms;
        let burst = (0..100).filter(|_| rates.take("a", at(1_000))).count();
        assert_eq!(burst, 60);
        assert!(rates.take("b", at(1_000)), "another's is its own");
        assert_eq!((0..100).filter(|_| rates.take("a", at(1_500))).count(), 20);
        assert!(!rates.take("a", at(1_524)));
        assert!(rates.take("a", at(1_525)));
        assert!(!rates.take("a", at(0)), "the clock went back");
        assert_eq!((0..100).filter(|_| rates.take("a", at(100_000))).count(), 60);
        assert_eq!(rates.buckets.len(), 1, "a full bucket is let go");
    }
}
