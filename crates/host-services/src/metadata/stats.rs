//! Docker's `stats` of a container, out of two looks at it, with the rates that Amazon's agent adds. Pure.
//!
//! Shape: <https://docs.docker.com/reference/api/engine/version/v1.43/#tag/Container/operation/ContainerStats>, and the
//! examples in <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v4-examples.html>.

use ecs::Timestamp;
use runtime::stats::detail::{BlockCount, Cpu, Detail, Link, Memory};
use serde_json::{Map, Value, json};

/// What Docker calls the time of a look that was never taken.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// One look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    pub at: Timestamp,
    pub detail: Detail,
}

/// Whose numbers they are.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub docker_id: &'a str,
    /// With a slash in front, as Docker has it.
    pub docker_name: &'a str,
}

/// `before` is the look before `now`; without one nothing is known of the time in between.
pub fn of(subject: Subject<'_>, now: &Sample, before: Option<&Sample>) -> Value {
    let detail = &now.detail;
    let nothing = Cpu::default();
    let mut stats = json!({
        "read": now.at.rfc3339(),
        "preread": before.map_or_else(|| NEVER.to_owned(), |before| before.at.rfc3339()),
        "pids_stats": pids(detail),
        "blkio_stats": {
            "io_service_bytes_recursive": block(&detail.block_bytes),
            "io_serviced_recursive": block(&detail.block_operations),
            "io_queue_recursive": [],
            "io_service_time_recursive": [],
            "io_wait_time_recursive": [],
            "io_merged_recursive": [],
            "io_time_recursive": [],
            "sectors_recursive": [],
        },
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": cpu(&detail.cpu),
        "precpu_stats": cpu(before.map_or(&nothing, |before| &before.detail.cpu)),
        "memory_stats": memory(&detail.memory),
        "name": subject.docker_name,
        "id": subject.docker_id,
    });
    if let Some(links) = &detail.links
        && let Some(members) = stats.as_object_mut()
        && !links.is_empty()
    {
        let networks = links.iter().map(|(name, counters)| (name.clone(), link(counters)));
        members.insert("networks".to_owned(), Value::Object(networks.collect()));
        if let Some(rates) = before.and_then(|before| rates(before, now)) {
            members.insert("network_rate_stats".to_owned(), rates);
        }
    }
    stats
}

fn pids(detail: &Detail) -> Value {
    let members = [("current", detail.pids), ("limit", detail.pids_limit)];
    members
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?))))
        .collect::<Map<_, _>>()
        .into()
}

fn block(counts: &[BlockCount]) -> Value {
    let entry = |count: &BlockCount| json!({"major": count.major, "minor": count.minor, "op": count.operation, "value": count.value});
    counts.iter().map(entry).collect()
}

fn cpu(cpu: &Cpu) -> Value {
    let mut usage = json!({
        "total_usage": cpu.total_ns,
        "usage_in_kernelmode": cpu.kernel_ns,
        "usage_in_usermode": cpu.user_ns,
    });
    // cgroup v2 does not tell processors apart, and Docker leaves the member out there.
    if !cpu.each_ns.is_empty() {
        usage["percpu_usage"] = json!(cpu.each_ns);
    }
    json!({
        "cpu_usage": usage,
        "system_cpu_usage": cpu.host_ns,
        "online_cpus": cpu.processors,
        "throttling_data": {
            "periods": cpu.periods,
            "throttled_periods": cpu.throttled_periods,
            "throttled_time": cpu.throttled_ns,
        },
    })
}

fn memory(memory: &Memory) -> Value {
    let mut members = Map::new();
    let numbers = [("usage", memory.usage_bytes), ("max_usage", memory.max_usage_bytes), ("failcnt", memory.failures)];
    members.extend(numbers.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?)))));
    members.insert("stats".to_owned(), json!(memory.stat));
    members.insert("limit".to_owned(), Value::from(memory.limit_bytes));
    members.into()
}

fn link(link: &Link) -> Value {
    json!({
        "rx_bytes": link.received_bytes,
        "rx_packets": link.received_packets,
        "rx_errors": link.received_errors,
        "rx_dropped": link.received_dropped,
        "tx_bytes": link.sent_bytes,
        "tx_packets": link.sent_packets,
        "tx_errors": link.sent_errors,
        "tx_dropped": link.sent_dropped,
    })
}

/// Bytes a second over all links; nothing where no time has passed, or the container was started again in between.
fn rates(before: &Sample, now: &Sample) -> Option<Value> {
    let elapsed_ms = now.at.ms_since(before.at);
    let sum = |sample: &Sample, pick: fn(&Link) -> u64| -> Option<u64> {
        Some(sample.detail.links.as_ref()?.values().map(pick).fold(0, u64::saturating_add))
    };
    let rate = |pick: fn(&Link) -> u64| -> Option<f64> {
        let bytes = sum(now, pick)?.checked_sub(sum(before, pick)?)?;
        (elapsed_ms > 0).then(|| bytes as f64 * 1000.0 / elapsed_ms as f64)
    };
    Some(json!({
        "rx_bytes_per_sec": rate(|link| link.received_bytes)?,
        "tx_bytes_per_sec": rate(|link| link.sent_bytes)?,
    }))
}
