//! Which limit is written to which file. The table is pure; `write` alone touches the tree.
//!
//! ECS: "cpu … Linux containers share unallocated CPU units"; zero and one become two shares, as the container agent
//! does (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html>). Docker gives a
//! container as much swap as memory unless told otherwise.

use std::io;
use std::path::Path;

use agent_protocol::{ContainerSpec, TaskSpec};

use super::hierarchy::write;
use super::{CgroupError, Cgroups, below};

/// The length of a period in which a hard CPU limit is counted, microseconds: the kernel's and Docker's default.
const PERIOD_US: u64 = 100_000;
/// The kernel takes no quota below this, microseconds.
const MIN_QUOTA_US: u64 = 1_000;
/// CPU units of one core.
const UNITS: u64 = 1_024;
/// What the kernel allows for cpu.shares.
const MIN_SHARES: u64 = 2;
const MAX_SHARES: u64 = 262_144;

/// One limit, as both versions spell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    what: &'static str,
    controller: &'static str,
    v1: Vec<(&'static str, String)>,
    v2: Vec<(&'static str, String)>,
    missing: Missing,
}

/// What it means when the host has no such file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    /// The task definition asked for a limit that would not be kept.
    Refuse,
    /// Swap accounting is a boot option, and shares matter only between neighbours.
    GoOn,
}

pub(super) fn of_task(task: &TaskSpec) -> Vec<Limit> {
    let mut limits = vec![Limit {
        what: "the task's limit of processes",
        controller: "pids",
        v1: vec![("pids.max", task.pids_limit.to_string())],
        v2: vec![("pids.max", task.pids_limit.to_string())],
        missing: Missing::Refuse,
    }];
    match task.cpu {
        Some(units) => {
            let quota = (u64::from(units) * PERIOD_US / UNITS).max(MIN_QUOTA_US);
            limits.push(Limit {
                what: "the task's cpu",
                controller: "cpu",
                v1: vec![("cpu.cfs_period_us", PERIOD_US.to_string()), ("cpu.cfs_quota_us", quota.to_string())],
                v2: vec![("cpu.max", format!("{quota} {PERIOD_US}"))],
                missing: Missing::Refuse,
            });
        }
        // "aggregate container CPU shares when present": the agent's buildImplicitLinuxCPUSpec. Otherwise a container's
        // units would count among those of its own task only.
        None => {
            let units = task.containers.iter().map(|container| u64::from(container.definition.cpu)).sum();
            limits.push(shares("the task's share of cpu", units));
        }
    }
    limits.extend(task.memory_mib.into_iter().flat_map(|mib| memory("the task's memory", mib)));
    limits
}

pub(super) fn of_container(container: &ContainerSpec) -> Vec<Limit> {
    let definition = &container.definition;
    let mut limits = vec![shares("the container's cpu", u64::from(definition.cpu))];
    limits.extend(definition.memory.into_iter().flat_map(|mib| memory("the container's memory", mib)));
    if let Some(mib) = definition.memory_reservation {
        let bytes = bytes(mib).to_string();
        limits.push(Limit {
            what: "the container's memoryReservation",
            controller: "memory",
            v1: vec![("memory.soft_limit_in_bytes", bytes.clone())],
            v2: vec![("memory.low", bytes)],
            missing: Missing::GoOn,
        });
    }
    limits
}

fn shares(what: &'static str, units: u64) -> Limit {
    let shares = units.clamp(MIN_SHARES, MAX_SHARES);
    Limit {
        what,
        controller: "cpu",
        v1: vec![("cpu.shares", shares.to_string())],
        v2: vec![("cpu.weight", weight(shares).to_string())],
        missing: Missing::GoOn,
    }
}

fn memory(what: &'static str, mib: u64) -> [Limit; 2] {
    let limit = bytes(mib);
    [
        Limit {
            what,
            controller: "memory",
            v1: vec![("memory.limit_in_bytes", limit.to_string())],
            v2: vec![("memory.max", limit.to_string())],
            missing: Missing::Refuse,
        },
        Limit {
            what: "swap",
            controller: "memory",
            v1: vec![("memory.memsw.limit_in_bytes", limit.saturating_mul(2).to_string())],
            v2: vec![("memory.swap.max", limit.to_string())],
            missing: Missing::GoOn,
        },
    ]
}

fn bytes(mib: u64) -> u64 {
    // Beyond this the kernel's counters end; it is no limit then.
    mib.saturating_mul(1 << 20).min(i64::MAX as u64)
}

/// The OCI runtimes' conversion of 2..262144 shares to a weight of 1..10000 (runtime-spec, and Kubernetes KEP-2254).
fn weight(shares: u64) -> u64 {
    1 + (shares - MIN_SHARES) * 9_999 / (MAX_SHARES - MIN_SHARES)
}

impl Limit {
    pub(super) fn write(&self, cgroups: &Cgroups, path: &Path) -> Result<(), CgroupError> {
        let (mount, files) = match (cgroups.v1_of(self.controller), cgroups.v2_with(self.controller)) {
            (Some(v1), _) => (&v1.mount, &self.v1),
            (None, Some(v2)) => (&v2.mount, &self.v2),
            (None, None) if self.missing == Missing::GoOn => return Ok(()),
            (None, None) => return Err(CgroupError::NoController { limit: self.what, controller: self.controller }),
        };
        for (file, value) in files {
            let path = below(mount, path).join(file);
            match write(&path, value) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.missing == Missing::GoOn => {}
                Err(source) => return Err(CgroupError::Io { action: "write", path, source }),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_become_weights_as_in_other_runtimes() {
        // crun and runc 1.1 give 1, 39 and 10000 for these.
        assert_eq!([2, 1_024, 262_144].map(weight), [1, 39, 10_000]);
    }

    #[test]
    fn memory_is_written_before_memory_and_swap() {
        // memsw may not be below memory: the kernel answers EINVAL in the other order.
        let [memory, swap] = memory("memory", 512);
        assert_eq!(memory.v1, [("memory.limit_in_bytes", "536870912".to_owned())]);
        assert_eq!(swap.v1, [("memory.memsw.limit_in_bytes", "1073741824".to_owned())]);
        assert_eq!(swap.v2, [("memory.swap.max", "536870912".to_owned())]);
        assert_eq!(bytes(u64::MAX), i64::MAX as u64);
    }
}
