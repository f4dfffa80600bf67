//! What is counted, and how Prometheus reads it
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use control_plane::State;
use control_plane::counts::ALL_STATUSES;

/// Upper bounds in microseconds.
const BOUNDS_US: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 500_000, 2_000_000, 10_000_000];

#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS_US.len()],
    count: AtomicU64,
    sum_us: AtomicU64,
}

impl Histogram {
    pub fn record(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = BOUNDS_US.iter().position(|bound| us <= *bound) {
            self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    fn write(&self, out: &mut String, name: &str) {
        let _ = writeln!(out, "# TYPE {name} histogram");
        let mut below = 0;
        for (bound, bucket) in BOUNDS_US.iter().zip(&self.buckets) {
            below += bucket.load(Ordering::Relaxed);
            let _ = writeln!(out, "{name}_bucket{{le=\"{}\"}} {below}", *bound as f64 / 1e6);
        }
        let count = self.count.load(Ordering::Relaxed);
        let sum = self.sum_us.load(Ordering::Relaxed) as f64 / 1e6;
        let _ = write!(out, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}\n");
    }
}

#[derive(Debug, Default)]
pub struct Metrics {
    /// By operation and the error's name (empty: none). The names are ours, so there are few.
    requests: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
    request_seconds: Histogram,
    commit_seconds: Histogram,
    inputs: AtomicU64,
    pub connections: AtomicI64,
    pub connections_refused: AtomicU64,
    pub agents: AtomicI64,
    pub exec_sessions: AtomicI64,
    pub events: AtomicU64,
    pub events_dropped: AtomicU64,
}

impl Metrics {
    pub fn answered(&self, operation: &'static str, error: &'static str, took: Duration) {
        let mut requests = self.requests.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *requests.entry((operation, error)).or_default() += 1;
        drop(requests);
        self.request_seconds.record(took);
    }

    pub fn committed(&self, inputs: usize, took: Duration) {
        self.inputs.fetch_add(inputs as u64, Ordering::Relaxed);
        self.commit_seconds.record(took);
    }

    pub fn text(&self, state: &State) -> String {
        let mut out = String::new();
        let _ = write!(
            out,
            "# TYPE coracle_build_info gauge\ncoracle_build_info{{version=\"{}\"}} 1\n# TYPE coracle_requests_total counter\n",
            env!("CARGO_PKG_VERSION")
        );
        let requests = self.requests.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        for ((operation, error), count) in requests {
            let _ = writeln!(out, "coracle_requests_total{{operation=\"{operation}\",error=\"{error}\"}} {count}");
        }
        self.request_seconds.write(&mut out, "coracle_request_seconds");
        self.commit_seconds.write(&mut out, "coracle_commit_seconds");
        let counters = [
            ("coracle_committed_inputs_total", &self.inputs),
            ("coracle_connections_refused_total", &self.connections_refused),
            ("coracle_events_total", &self.events),
            ("coracle_events_dropped_total", &self.events_dropped),
        ];
        for (name, value) in counters {
            let _ = writeln!(out, "# TYPE {name} counter\n{name} {}", value.load(Ordering::Relaxed));
        }
        let gauges = [
            ("coracle_connections", &self.connections),
            ("coracle_agents_connected", &self.agents),
            ("coracle_exec_sessions", &self.exec_sessions),
        ];
        for (name, value) in gauges {
            let _ = writeln!(out, "# TYPE {name} gauge\n{name} {}", value.load(Ordering::Relaxed));
        }
        of_state(&mut out, state);
        out
    }
}

fn of_state(out: &mut String, state: &State) {
    out.push_str("# TYPE coracle_tasks gauge\n");
    for status in ALL_STATUSES {
        let count: usize = state.clusters.keys().map(|cluster| state.counts(cluster).with_status(status)).sum();
        if count > 0 {
            let name = serde_json::to_value(status).ok();
            let name = name.as_ref().and_then(|name| name.as_str()).unwrap_or("UNKNOWN");
            let _ = writeln!(out, "coracle_tasks{{last_status=\"{name}\"}} {count}");
        }
    }
    let sizes = [
        ("coracle_clusters", state.clusters.size()),
        ("coracle_container_instances", state.instances.size()),
        ("coracle_task_definitions", state.task_definitions.size()),
    ];
    for (name, size) in sizes {
        let _ = writeln!(out, "# TYPE {name} gauge\n{name} {size}");
    }
}

/// Counts for as long as it lives.
pub struct Gauge<'a>(&'a AtomicI64);

impl<'a> Gauge<'a> {
    pub fn count(gauge: &'a AtomicI64) -> Self {
        gauge.fetch_add(1, Ordering::Relaxed);
        Self(gauge)
    }
}

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
