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
            // Each counts for at least what it gets itself.
            let units =
                task.containers.iter().map(|container| u64::from(container.definition.cpu).max(MIN_SHARES)).sum();
            limits.push(shares("the task's share of cpu", units));
        }
    }
    // A container's own maxSwap is not cut by the task's size.
    let swap = |mib: u64| mib.max(task.containers.iter().filter_map(max_swap).fold(0, u64::saturating_add));
    limits.extend(task.memory_mib.into_iter().flat_map(|mib| memory("the task's memory", mib, swap(mib))));
    limits
}

pub(super) fn of_container(container: &ContainerSpec) -> Vec<Limit> {
    let definition = &container.definition;
    let mut limits = vec![shares("the container's cpu", u64::from(definition.cpu))];
    let swap = |mib: u64| max_swap(container).unwrap_or(mib);
    limits.extend(definition.memory.into_iter().flat_map(|mib| memory("the container's memory", mib, swap(mib))));
    limits.extend(swappiness(container));
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

/// A batch of each of ten containers, in a few copies, with TLS: a shipper that needs more is wrong. Without the controller
/// there is no limit: shipping must not be refused for it.
const SHIPPER_MEMORY_MIB: u64 = 64;

pub(super) fn of_shipper() -> Vec<Limit> {
    welcome(memory("the log shipper's memory", SHIPPER_MEMORY_MIB, 0))
}

/// Thousands of connections and what is known of hundreds of tasks are far below it. Containers must not use up the host's
/// memory through the process that answers them; at the limit it is killed and started again.
const HOST_SERVICES_MEMORY_MIB: u64 = 256;

pub(super) fn of_host_services() -> Vec<Limit> {
    welcome(memory("the memory of the host's services", HOST_SERVICES_MEMORY_MIB, 0))
}

/// Limits of our own making, which nobody has asked for.
fn welcome(limits: [Limit; 2]) -> Vec<Limit> {
    limits.map(|limit| Limit { missing: Missing::GoOn, ..limit }).into()
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

fn max_swap(container: &ContainerSpec) -> Option<u64> {
    container.definition.linux_parameters.as_ref().and_then(|parameters| parameters.max_swap)
}

/// What of a task's swap settings comes to nothing on this host, a sentence for each. Costs nothing where none is set.
pub fn unkept(cgroups: &Cgroups, containers: &[ecs::task_definition::ContainerDefinition]) -> Vec<String> {
    let mut said = Vec::new();
    for container in containers {
        let name = &container.name;
        let Some(parameters) = &container.linux_parameters else { continue };
        if parameters.max_swap.is_none() {
            continue;
        }
        if container.memory.is_none() {
            said.push(format!("container {name}: maxSwap has no effect without memory, which it is added to"));
        } else if !cgroups.account_swap() {
            said.push(format!(
                "container {name}: maxSwap has no effect: this host's kernel does not account swap (boot with swapaccount=1)"
            ));
        }
        if parameters.swappiness.is_some() && cgroups.v1_of("memory").is_none() {
            said.push(format!("container {name}: swappiness has no effect: cgroup v2 has no such setting"));
        }
    }
    said
}

impl Cgroups {
    /// On v2 only cgroups below the root have the file; with none there yet nobody can say, and writing tells.
    pub(crate) fn account_swap(&self) -> bool {
        if let Some(v1) = self.v1_of("memory") {
            return v1.mount.join("memory.memsw.limit_in_bytes").exists();
        }
        let Some(v2) = self.v2_with("memory") else { return false };
        let below = std::fs::read_dir(&v2.mount).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut with_memory = below.filter(|path| path.join("memory.max").exists()).peekable();
        with_memory.peek().is_none() || with_memory.any(|path| path.join("memory.swap.max").exists())
    }
}

/// "If a value is not specified for maxSwap then this parameter is ignored."
/// (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_LinuxParameters.html>) cgroup v2 has no such file.
fn swappiness(container: &ContainerSpec) -> Option<Limit> {
    max_swap(container)?;
    let value = container.definition.linux_parameters.as_ref()?.swappiness?;
    Some(Limit {
        what: "the container's swappiness",
        controller: "memory",
        v1: vec![("memory.swappiness", value.to_string())],
        v2: Vec::new(),
        missing: Missing::GoOn,
    })
}

/// `memory` and beside it so much swap, MiB. v1 limits the sum.
fn memory(what: &'static str, mib: u64, swap_mib: u64) -> [Limit; 2] {
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
            v1: vec![(
                "memory.memsw.limit_in_bytes",
                limit.saturating_add(bytes(swap_mib)).min(i64::MAX as u64).to_string(),
            )],
            v2: vec![("memory.swap.max", bytes(swap_mib).to_string())],
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
        let [memory, swap] = memory("memory", 512, 512);
        assert_eq!(memory.v1, [("memory.limit_in_bytes", "536870912".to_owned())]);
        assert_eq!(swap.v1, [("memory.memsw.limit_in_bytes", "1073741824".to_owned())]);
        assert_eq!(swap.v2, [("memory.swap.max", "536870912".to_owned())]);
        assert_eq!(bytes(u64::MAX), i64::MAX as u64);
    }

    #[test]
    fn max_swap_comes_on_top_of_memory() {
        let [_, none] = super::memory("memory", 64, 0);
        assert_eq!(none.v1, [("memory.memsw.limit_in_bytes", "67108864".to_owned())]);
        assert_eq!(none.v2, [("memory.swap.max", "0".to_owned())]);
        let [_, some] = super::memory("memory", 64, 16);
        assert_eq!(some.v1, [("memory.memsw.limit_in_bytes", "83886080".to_owned())]);
        assert_eq!(some.v2, [("memory.swap.max", "16777216".to_owned())]);
    }
}
