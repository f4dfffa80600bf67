//! What a process inside a container can know of its task: ECS's metadata file, and the kernel's own words.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

/// The most that is read of any file.
const FILE_LIMIT: usize = 256 * 1024;

pub(super) struct Facts {
    /// Content of `$ECS_CONTAINER_METADATA_FILE`; null outside of a task.
    pub(super) metadata: Value,
    pub(super) hostname: String,
    pub(super) kernel: String,
    pub(super) pid: u32,
    pub(super) uptime_s: u64,
    pub(super) seccomp: Option<String>,
    pub(super) capabilities: Option<String>,
    /// Bytes; absent where there is no limit.
    pub(super) memory_limit: Option<u64>,
    pub(super) version: &'static str,
}

impl Facts {
    pub(super) fn json(&self) -> Value {
        json!({
            "metadata": self.metadata,
            "hostname": self.hostname,
            "kernel": self.kernel,
            "pid": self.pid,
            "uptimeSeconds": self.uptime_s,
            "seccomp": self.seccomp,
            "capabilities": self.capabilities,
            "memoryLimitBytes": self.memory_limit,
            "version": self.version,
        })
    }
}

pub(super) fn gather(uptime: Duration) -> Facts {
    let status = read("/proc/self/status").unwrap_or_default();
    Facts {
        metadata: metadata(),
        hostname: read("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned(),
        kernel: read("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        pid: std::process::id(),
        uptime_s: uptime.as_secs(),
        seccomp: status_field(&status, "Seccomp").map(|mode| match mode.as_str() {
            "0" => "off".to_owned(),
            "2" => "filter".to_owned(),
            _ => mode,
        }),
        capabilities: status_field(&status, "CapEff"),
        memory_limit: memory_limit(),
        version: env!("CARGO_PKG_VERSION"),
    }
}

fn metadata() -> Value {
    std::env::var("ECS_CONTAINER_METADATA_FILE")
        .ok()
        .and_then(|path| read(&path))
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or(Value::Null)
}

/// Version 2 first, then version 1, whose "no limit" is a number near 2^63.
fn memory_limit() -> Option<u64> {
    const NO_LIMIT: u64 = 1 << 60;
    ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .into_iter()
        .find_map(|path| read(path)?.trim().parse().ok())
        .filter(|limit| *limit < NO_LIMIT)
}

fn read(path: &str) -> Option<String> {
    let bytes = fs::read(path).ok().filter(|bytes| bytes.len() <= FILE_LIMIT)?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

pub(super) fn status_field(status: &str, name: &str) -> Option<String> {
    status.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key == name).then(|| value.trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc_status() {
        let status = "Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        assert_eq!(status_field(status, "Seccomp").as_deref(), Some("2"));
        assert_eq!(status_field(status, "CapEff"), None);
    }
}
