//! All that Docker's `stats` tells of a container, out of the same files. What a host does not count is absent or empty.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use agent_protocol::ProcessIdentity;

use super::{StatsError, file, host_memory_bytes, keyed, memory_limit, number};
use crate::cgroup::{Cgroups, below};
use crate::process_identity;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    pub cpu: Cpu,
    pub memory: Memory,
    /// Bytes and operations that reached block devices.
    pub block_bytes: Vec<BlockCount>,
    pub block_operations: Vec<BlockCount>,
    pub pids: Option<u64>,
    pub pids_limit: Option<u64>,
    /// Of each link of its network namespace but the loopback; nothing where that is the host's.
    pub links: Option<BTreeMap<String, Link>>,
}

/// Nanoseconds since the container's start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    pub total_ns: u64,
    /// On each processor, where the kernel counts that (cgroup v1).
    pub each_ns: Vec<u64>,
    pub user_ns: u64,
    pub kernel_ns: u64,
    /// Of all processes of the host, since it started.
    pub host_ns: u64,
    pub processors: u64,
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled_ns: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub usage_bytes: Option<u64>,
    /// cgroup v1.
    pub max_usage_bytes: Option<u64>,
    /// How often the limit was in the way.
    pub failures: Option<u64>,
    /// The smallest of the container's, the task's and the host's.
    pub limit_bytes: u64,
    /// `memory.stat`.
    pub stat: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockCount {
    pub major: u64,
    pub minor: u64,
    /// `Read`, `Write`, …; in small letters on v2, as Docker has it.
    pub operation: String,
    pub value: u64,
}

/// proc_pid_net(5), `dev`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    pub received_bytes: u64,
    pub received_packets: u64,
    pub received_errors: u64,
    pub received_dropped: u64,
    pub sent_bytes: u64,
    pub sent_packets: u64,
    pub sent_errors: u64,
    pub sent_dropped: u64,
}

/// Looks once at the container whose cgroup this is. `process` is its first process.
///
/// # Errors
/// The container has ended, or a file of its cgroup cannot be read.
pub fn read(cgroups: &Cgroups, cgroup: &Path, process: Option<&ProcessIdentity>) -> Result<Detail, StatsError> {
    if !cgroups.exists(cgroup) {
        return Err(StatsError::Gone);
    }
    let (block_bytes, block_operations) = block(cgroups, cgroup)?;
    let (pids, pids_limit) = pids(cgroups, cgroup)?;
    Ok(Detail {
        cpu: cpu(cgroups, cgroup)?,
        memory: memory(cgroups, cgroup)?,
        block_bytes,
        block_operations,
        pids,
        pids_limit,
        links: process.map(links).transpose()?.flatten(),
    })
}

fn cpu(cgroups: &Cgroups, cgroup: &Path) -> Result<Cpu, StatsError> {
    let mut cpu = host_cpu(&file(Path::new("/proc/stat"))?.unwrap_or_default());
    let tick_ns = tick_ns();
    if let Some(v1) = cgroups.v1_of("cpuacct") {
        let directory = below(&v1.mount, cgroup);
        cpu.total_ns = file(&directory.join("cpuacct.usage"))?.as_deref().and_then(number).unwrap_or(0);
        let each = file(&directory.join("cpuacct.usage_percpu"))?.unwrap_or_default();
        cpu.each_ns = each.split_whitespace().filter_map(|ns| ns.parse().ok()).collect();
        let stat = file(&directory.join("cpuacct.stat"))?.unwrap_or_default();
        cpu.user_ns = keyed(&stat, "user").unwrap_or(0).saturating_mul(tick_ns);
        cpu.kernel_ns = keyed(&stat, "system").unwrap_or(0).saturating_mul(tick_ns);
    }
    let stat_of = |mount: &Path| file(&below(mount, cgroup).join("cpu.stat"));
    if let Some(v1) = cgroups.v1_of("cpu") {
        let stat = stat_of(&v1.mount)?.unwrap_or_default();
        throttling(&mut cpu, &stat, keyed(&stat, "throttled_time"));
    }
    if cgroups.v1_of("cpuacct").is_none()
        && let Some(v2) = &cgroups.v2
    {
        let stat = stat_of(&v2.mount)?.unwrap_or_default();
        let ns = |key: &str| keyed(&stat, key).map(|us| us.saturating_mul(1000));
        cpu.total_ns = ns("usage_usec").unwrap_or(0);
        cpu.user_ns = ns("user_usec").unwrap_or(0);
        cpu.kernel_ns = ns("system_usec").unwrap_or(0);
        throttling(&mut cpu, &stat, ns("throttled_usec"));
    }
    Ok(cpu)
}

fn throttling(cpu: &mut Cpu, stat: &str, throttled_ns: Option<u64>) {
    cpu.periods = keyed(stat, "nr_periods").unwrap_or(0);
    cpu.throttled_periods = keyed(stat, "nr_throttled").unwrap_or(0);
    cpu.throttled_ns = throttled_ns.unwrap_or(0);
}

/// proc_stat(5): `cpu user nice system idle iowait irq softirq …` in ticks, then a line for each processor.
fn host_cpu(stat: &str) -> Cpu {
    /// As many as Docker adds up: what is stolen or a guest's is counted elsewhere.
    const KINDS: usize = 7;
    let all = stat.lines().find_map(|line| line.strip_prefix("cpu "));
    let ticks = all.unwrap_or_default().split_whitespace().take(KINDS).filter_map(|ticks| ticks.parse::<u64>().ok());
    let processors = stat.lines().filter_map(|line| line.strip_prefix("cpu"));
    let processors = processors.filter(|rest| rest.starts_with(|first: char| first.is_ascii_digit())).count();
    Cpu {
        host_ns: ticks.fold(0u64, u64::saturating_add).saturating_mul(tick_ns()),
        processors: processors as u64,
        ..Cpu::default()
    }
}

fn tick_ns() -> u64 {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    1_000_000_000 / ticks.and_then(|ticks| u64::try_from(ticks).ok()).filter(|ticks| *ticks > 0).unwrap_or(100)
}

fn memory(cgroups: &Cgroups, cgroup: &Path) -> Result<Memory, StatsError> {
    let limit_bytes = match memory_limit(cgroups, cgroup)? {
        Some(limit) => limit,
        None => host_memory_bytes()?,
    };
    let (directory, usage, failures) = match (cgroups.v1_of("memory"), cgroups.v2_with("memory")) {
        (Some(v1), _) => (below(&v1.mount, cgroup), "memory.usage_in_bytes", "memory.failcnt"),
        (None, Some(v2)) => (below(&v2.mount, cgroup), "memory.current", "memory.events"),
        (None, None) => return Ok(Memory { limit_bytes, ..Memory::default() }),
    };
    let read = |name: &str| file(&directory.join(name));
    let failures = read(failures)?;
    Ok(Memory {
        usage_bytes: read(usage)?.as_deref().and_then(number),
        max_usage_bytes: read("memory.max_usage_in_bytes")?.as_deref().and_then(number),
        failures: failures.as_deref().and_then(|text| number(text).or_else(|| keyed(text, "oom"))),
        limit_bytes,
        stat: keys(&read("memory.stat")?.unwrap_or_default()),
    })
}

fn keys(stat: &str) -> BTreeMap<String, u64> {
    let lines = stat.lines().filter_map(|line| line.split_once(' '));
    lines.filter_map(|(key, value)| Some((key.to_owned(), value.trim().parse().ok()?))).collect()
}

type Counts = (Vec<BlockCount>, Vec<BlockCount>);

fn block(cgroups: &Cgroups, cgroup: &Path) -> Result<Counts, StatsError> {
    if let Some(v1) = cgroups.v1_of("blkio") {
        let directory = below(&v1.mount, cgroup);
        let counts = |name: &str| -> Result<Vec<BlockCount>, StatsError> {
            // The older name is without what is below.
            let recursive = file(&directory.join(format!("blkio.throttle.{name}_recursive")))?;
            let text = match recursive {
                Some(text) => text,
                None => file(&directory.join(format!("blkio.throttle.{name}")))?.unwrap_or_default(),
            };
            Ok(text.lines().filter_map(block_line_of_v1).collect())
        };
        return Ok((counts("io_service_bytes")?, counts("io_serviced")?));
    }
    let Some(v2) = cgroups.v2_with("io") else { return Ok(Counts::default()) };
    let text = file(&below(&v2.mount, cgroup).join("io.stat"))?.unwrap_or_default();
    let both = |keys: [(&str, &str); 2]| text.lines().flat_map(|line| block_line_of_v2(line, keys)).collect();
    Ok((both([("rbytes", "read"), ("wbytes", "write")]), both([("rios", "read"), ("wios", "write")])))
}

fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// `8:0 Read 4096`; the sum at the end has no device.
fn block_line_of_v1(line: &str) -> Option<BlockCount> {
    let mut words = line.split_whitespace();
    let (major, minor) = device(words.next()?)?;
    Some(BlockCount { major, minor, operation: words.next()?.to_owned(), value: words.next()?.parse().ok()? })
}

/// `8:0 rbytes=4096 wbytes=0 rios=1 …`
fn block_line_of_v2(line: &str, keys: [(&str, &str); 2]) -> Vec<BlockCount> {
    let mut words = line.split_whitespace();
    let Some((major, minor)) = words.next().and_then(device) else { return Vec::new() };
    let values: Vec<(&str, u64)> =
        words.filter_map(|word| word.split_once('=')).filter_map(|(key, n)| Some((key, n.parse().ok()?))).collect();
    keys.into_iter()
        .filter_map(|(key, operation)| {
            let (_, value) = values.iter().find(|(found, _)| *found == key)?;
            Some(BlockCount { major, minor, operation: operation.to_owned(), value: *value })
        })
        .collect()
}

fn pids(cgroups: &Cgroups, cgroup: &Path) -> Result<(Option<u64>, Option<u64>), StatsError> {
    let mount = match (cgroups.v1_of("pids"), cgroups.v2_with("pids")) {
        (Some(v1), _) => &v1.mount,
        (None, Some(v2)) => &v2.mount,
        (None, None) => return Ok((None, None)),
    };
    let read = |name: &str| Ok::<_, StatsError>(file(&below(mount, cgroup).join(name))?.as_deref().and_then(number));
    Ok((read("pids.current")?, read("pids.max")?))
}

/// Nothing when the process has ended meanwhile, or shares our own network namespace: its links are the host's.
fn links(process: &ProcessIdentity) -> Result<Option<BTreeMap<String, Link>>, StatsError> {
    let path = Path::new("/proc").join(process.pid.to_string()).join("net/dev");
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let shared = namespace(&process.pid.to_string()) == namespace("self");
    let text = file(&path)?;
    // Looked at last: what was read before is this process's, if it still is this process.
    let alive = process_identity::open(process).map_err(|source| StatsError::Read { path, source })?.is_some();
    Ok(text.filter(|_| alive && !shared).map(|text| link_table(&text)))
}

pub(super) fn link_table(text: &str) -> BTreeMap<String, Link> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let lines = lines.map(|(name, counters)| (name.trim(), counters)).filter(|(name, _)| *name != "lo");
    lines.map(|(name, counters)| (name.to_owned(), link(counters))).collect()
}

fn link(counters: &str) -> Link {
    let counters: Vec<u64> = counters.split_whitespace().map(|count| count.parse().unwrap_or(0)).collect();
    let at = |place: usize| counters.get(place).copied().unwrap_or(0);
    Link {
        received_bytes: at(0),
        received_packets: at(1),
        received_errors: at(2),
        received_dropped: at(3),
        sent_bytes: at(8),
        sent_packets: at(9),
        sent_errors: at(10),
        sent_dropped: at(11),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(operation: &str, value: u64) -> BlockCount {
        BlockCount { major: 8, minor: 16, operation: operation.to_owned(), value }
    }

    #[test]
    fn block_counters_of_both_versions() {
        let v1 = "8:16 Read 4096\n8:16 Write 100\nTotal 4196\n";
        let read: Vec<BlockCount> = v1.lines().filter_map(block_line_of_v1).collect();
        assert_eq!(read, [count("Read", 4096), count("Write", 100)]);
        let v2 = "8:16 rbytes=4096 wbytes=100 rios=1 wios=2 dbytes=0 dios=0";
        assert_eq!(block_line_of_v2(v2, [("rios", "read"), ("wios", "write")]), [count("read", 1), count("write", 2)]);
        assert_eq!(block_line_of_v2("", [("rios", "read"), ("wios", "write")]), []);
    }

    #[test]
    fn the_hosts_processors() {
        let stat = "cpu  1 2 3 4 5 6 7 100 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\ncpu1 0 0 0 0 0 0 0 0 0 0\nintr 5\n";
        let cpu = host_cpu(stat);
        assert_eq!((cpu.host_ns, cpu.processors), (28 * tick_ns(), 2));
        assert_eq!(host_cpu(""), Cpu::default());
    }

    #[test]
    fn links_without_the_loopback() {
        let text = "Inter-|   Receive                            |  Transmit\n face |bytes packets errs drop fifo\n    \
                    lo: 99 1 0 0 0 0 0 0 99 1 0 0 0 0 0 0\n  eth0:1000 10 1 2 0 0 0 0 20 3 4 5 0 0 0 0\n";
        let table = link_table(text);
        assert_eq!(table.len(), 1);
        let wanted = Link {
            received_bytes: 1000,
            received_packets: 10,
            received_errors: 1,
            received_dropped: 2,
            sent_bytes: 20,
            sent_packets: 3,
            sent_errors: 4,
            sent_dropped: 5,
        };
        assert_eq!(table["eth0"], wanted);
    }
}
