//! What a running container uses, out of its cgroup and its network namespace, on cgroup v1, hybrid and v2.
//!
//! Everything is a look at a moment; rates are the difference of two. What a host does not count (a controller that is
//! not mounted) is absent, never zero.

pub mod detail;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use agent_protocol::ProcessIdentity;

use crate::cgroup::{Cgroups, below};
use crate::process_identity;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time of all its processes since its start, nanoseconds.
    pub cpu_ns: Option<u64>,
    /// Without the file cache that the kernel would give up first, as Docker counts it.
    pub memory_bytes: Option<u64>,
    /// The smallest limit of the container and its task; absent where only the host's memory is one.
    pub memory_limit_bytes: Option<u64>,
    /// Reads and writes that reached block devices.
    pub block: Option<Traffic>,
    pub pids: Option<u64>,
    /// Of all links of its network namespace but the loopback.
    pub network: Option<Traffic>,
}

/// Bytes into the container and out of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub read: u64,
    pub written: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum StatsError {
    #[error("cannot read {path}", path = path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the container has ended")]
    Gone,
}

/// Looks once at the container whose cgroup this is. `process` is its first process where it has a network namespace
/// that is not the host's.
///
/// # Errors
/// The container has ended, or a file of its cgroup cannot be read.
pub fn read(cgroups: &Cgroups, cgroup: &Path, process: Option<&ProcessIdentity>) -> Result<Usage, StatsError> {
    if !cgroups.exists(cgroup) {
        return Err(StatsError::Gone);
    }
    Ok(Usage {
        cpu_ns: cpu(cgroups, cgroup)?,
        memory_bytes: memory(cgroups, cgroup)?,
        memory_limit_bytes: memory_limit(cgroups, cgroup)?,
        block: block(cgroups, cgroup)?,
        pids: pids(cgroups, cgroup)?,
        network: process.map(network).transpose()?.flatten(),
    })
}

/// The host's memory, which is the limit where no other is, bytes.
///
/// # Errors
/// /proc/meminfo cannot be read.
pub fn host_memory_bytes() -> Result<u64, StatsError> {
    let path = Path::new("/proc/meminfo");
    let text = file(path)?.ok_or(StatsError::Gone)?;
    let kib =
        text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    let missing = || io::Error::new(io::ErrorKind::InvalidData, "it has no MemTotal");
    kib.map(|kib: u64| kib * 1024).ok_or_else(|| StatsError::Read { path: path.to_owned(), source: missing() })
}

fn cpu(cgroups: &Cgroups, cgroup: &Path) -> Result<Option<u64>, StatsError> {
    if let Some(v1) = cgroups.v1_of("cpuacct") {
        return Ok(file(&below(&v1.mount, cgroup).join("cpuacct.usage"))?.as_deref().and_then(number));
    }
    // cpu.stat is there with or without the controller.
    let Some(v2) = &cgroups.v2 else { return Ok(None) };
    let stat = file(&below(&v2.mount, cgroup).join("cpu.stat"))?;
    Ok(stat.as_deref().and_then(|stat| keyed(stat, "usage_usec")).map(|us| us.saturating_mul(1000)))
}

fn memory(cgroups: &Cgroups, cgroup: &Path) -> Result<Option<u64>, StatsError> {
    let (directory, current, cache) = match (cgroups.v1_of("memory"), cgroups.v2_with("memory")) {
        (Some(v1), _) => (below(&v1.mount, cgroup), "memory.usage_in_bytes", "total_inactive_file"),
        (None, Some(v2)) => (below(&v2.mount, cgroup), "memory.current", "inactive_file"),
        (None, None) => return Ok(None),
    };
    let used = file(&directory.join(current))?.as_deref().and_then(number);
    let stat = file(&directory.join("memory.stat"))?;
    let cache = stat.as_deref().and_then(|stat| keyed(stat, cache)).unwrap_or(0);
    Ok(used.map(|used| used.saturating_sub(cache)))
}

fn memory_limit(cgroups: &Cgroups, cgroup: &Path) -> Result<Option<u64>, StatsError> {
    let (mount, limit) = match (cgroups.v1_of("memory"), cgroups.v2_with("memory")) {
        (Some(v1), _) => (&v1.mount, "memory.limit_in_bytes"),
        (None, Some(v2)) => (&v2.mount, "memory.max"),
        (None, None) => return Ok(None),
    };
    let host = host_memory_bytes()?;
    let mut smallest: Option<u64> = None;
    for ancestor in cgroup.ancestors().filter(|ancestor| *ancestor != Path::new("/")) {
        let limit = file(&below(mount, ancestor).join(limit))?.as_deref().and_then(number);
        // "max" of v2 is no number, and no limit of v1 is one beyond all memory.
        smallest = smallest.into_iter().chain(limit.filter(|limit| *limit < host)).min();
    }
    Ok(smallest)
}

fn pids(cgroups: &Cgroups, cgroup: &Path) -> Result<Option<u64>, StatsError> {
    let mount = match (cgroups.v1_of("pids"), cgroups.v2_with("pids")) {
        (Some(v1), _) => &v1.mount,
        (None, Some(v2)) => &v2.mount,
        (None, None) => return Ok(None),
    };
    Ok(file(&below(mount, cgroup).join("pids.current"))?.as_deref().and_then(number))
}

fn block(cgroups: &Cgroups, cgroup: &Path) -> Result<Option<Traffic>, StatsError> {
    if let Some(v1) = cgroups.v1_of("blkio") {
        let directory = below(&v1.mount, cgroup);
        // The older name is without what is below.
        for name in ["blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"] {
            if let Some(text) = file(&directory.join(name))? {
                return Ok(Some(block_of_v1(&text)));
            }
        }
        return Ok(None);
    }
    let Some(v2) = cgroups.v2_with("io") else { return Ok(None) };
    Ok(file(&below(&v2.mount, cgroup).join("io.stat"))?.map(|text| block_of_v2(&text)))
}

/// `8:0 Read 4096`, a line for each device and kind, then `Total 8192`.
fn block_of_v1(text: &str) -> Traffic {
    let mut traffic = Traffic::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(_device), Some(kind), Some(count)) = (words.next(), words.next(), words.next()) else { continue };
        let count: u64 = count.parse().unwrap_or(0);
        match kind {
            "Read" => traffic.read = traffic.read.saturating_add(count),
            "Write" => traffic.written = traffic.written.saturating_add(count),
            _ => {}
        }
    }
    traffic
}

/// `8:0 rbytes=4096 wbytes=0 rios=1 …`, a line for each device.
fn block_of_v2(text: &str) -> Traffic {
    let mut traffic = Traffic::default();
    for word in text.split_whitespace() {
        if let Some(count) = word.strip_prefix("rbytes=") {
            traffic.read = traffic.read.saturating_add(count.parse().unwrap_or(0));
        } else if let Some(count) = word.strip_prefix("wbytes=") {
            traffic.written = traffic.written.saturating_add(count.parse().unwrap_or(0));
        }
    }
    traffic
}

/// Nothing when the process has ended meanwhile, or shares our own network namespace: its links are the host's.
fn network(process: &ProcessIdentity) -> Result<Option<Traffic>, StatsError> {
    let path = PathBuf::from(format!("/proc/{}/net/dev", process.pid));
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let shared = namespace(&process.pid.to_string()) == namespace("self");
    let text = file(&path)?;
    // Looked at last: what was read before is this process's, if it still is this process.
    let alive = process_identity::open(process).map_err(|source| StatsError::Read { path, source })?.is_some();
    Ok(text.filter(|_| alive && !shared).map(|text| links(&text)))
}

/// proc_pid_net(5), `dev`: two lines of headings, then `name: received … transmitted …`.
fn links(text: &str) -> Traffic {
    let mut traffic = Traffic::default();
    for (name, counters) in text.lines().filter_map(|line| line.split_once(':')) {
        if name.trim() == "lo" {
            continue;
        }
        let mut counters = counters.split_whitespace().map(|count| count.parse::<u64>().unwrap_or(0));
        traffic.read = traffic.read.saturating_add(counters.next().unwrap_or(0));
        traffic.written = traffic.written.saturating_add(counters.nth(7).unwrap_or(0));
    }
    traffic
}

/// Nothing where there is no such file, or the cgroup or the process has just gone.
fn file(path: &Path) -> Result<Option<String>, StatsError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ESRCH | libc::EINVAL)) =>
        {
            Ok(None)
        }
        Err(source) => Err(StatsError::Read { path: path.to_owned(), source }),
    }
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_counters_of_both_versions() {
        let v1 = "8:0 Read 4096\n8:0 Write 100\n8:0 Sync 1\n8:0 Total 4196\n259:0 Read 4\n259:0 Write 1\nTotal 4201\n";
        assert_eq!(block_of_v1(v1), Traffic { read: 4100, written: 101 });
        let v2 = "8:0 rbytes=4096 wbytes=100 rios=1 wios=2 dbytes=0 dios=0\n259:0 rbytes=4 wbytes=1 rios=1 wios=1\n";
        assert_eq!(block_of_v2(v2), Traffic { read: 4100, written: 101 });
        assert_eq!(block_of_v2(""), Traffic::default());
    }

    #[test]
    fn links_without_the_loopback() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
                     face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop\n    \
                        lo: 99 1 0 0 0 0 0 0 99 1 0 0 0 0 0 0\n  eth0:1000 10 0 0 0 0 0 0 20 2 0 0 0 0 0 0\n  \
                      eth1: 1 1 0 0 0 0 0 0 2 2 0 0 0 0 0 0\n";
        assert_eq!(links(text), Traffic { read: 1001, written: 22 });
    }

    #[test]
    fn keys_are_whole_words() {
        let stat = "inactive_file_extra 1\ntotal_inactive_file 5\ninactive_file 7\n";
        assert_eq!(keyed(stat, "inactive_file"), Some(7));
        assert_eq!(keyed(stat, "missing"), None);
    }
}
