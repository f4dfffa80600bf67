//! State changes as EventBridge's events, to everybody who follows them: a line of JSON each.
//!
//! Delivery is at most once for a follower that reads too slowly: it misses events, is told how many, and goes on with the
//! newest. Whoever needs all of them compares `detail.version`, as with Amazon's.

pub mod sink;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use control_plane::events::{Batch, events};
use tokio::sync::broadcast;

use crate::dice;
use crate::metrics::Metrics;

/// Events that a follower may be behind.
const BEHIND: usize = 4_096;

#[derive(Clone)]
pub struct Events {
    sender: broadcast::Sender<Arc<str>>,
    metrics: Arc<Metrics>,
}

impl Events {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { sender: broadcast::Sender::new(BEHIND), metrics }
    }

    /// Making events is spared where nobody wants them.
    pub fn is_followed(&self) -> bool {
        self.sender.receiver_count() > 0
    }

    pub fn tell_of(&self, batch: &Batch<'_>) {
        for event in events(batch, &mut dice::bytes::<16>) {
            self.metrics.events.fetch_add(1, Ordering::Relaxed);
            // Nobody follows: nobody misses it.
            let _ = self.sender.send(Arc::from(format!("{event}\n")));
        }
    }

    pub fn follow(&self) -> Follower {
        Follower { receiver: self.sender.subscribe(), metrics: Arc::clone(&self.metrics) }
    }
}

pub struct Follower {
    receiver: broadcast::Receiver<Arc<str>>,
    metrics: Arc<Metrics>,
}

impl Follower {
    /// The next line; nothing when there will be none any more.
    pub async fn next(&mut self) -> Option<Arc<str>> {
        loop {
            match self.receiver.recv().await {
                Ok(line) => return Some(line),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    self.metrics.events_dropped.fetch_add(missed, Ordering::Relaxed);
                    tracing::warn!(missed, "a follower of events reads too slowly");
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}
