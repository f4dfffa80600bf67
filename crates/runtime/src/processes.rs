//! The processes of a container, found by its cgroup and told from /proc.

use std::fs;
use std::io;
use std::path::Path;

use crate::cgroup::{CgroupError, Cgroups};
use crate::container_root;
use crate::users;
use agent_protocol::ProcessIdentity;

/// What is kept of a command line, bytes: the kernel lets one have megabytes.
const MAX_COMMAND: usize = 4096;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    /// Its number in its innermost pid namespace.
    pub pid_inside: i32,
    pub parent: i32,
    /// As the container's own /etc/passwd calls the effective user, else the number.
    pub user: String,
    pub uid: u32,
    /// A letter of proc_pid_stat(5): `R`, `S`, `D`, `Z`, …
    pub state: char,
    /// In user and kernel mode, milliseconds.
    pub cpu_ms: u64,
    /// Resident memory.
    pub rss_bytes: u64,
    /// With its arguments; the bare name in brackets where there is none, as of a process that has ended.
    pub command: String,
}

/// Every process in the container's cgroup, by number. `first` is its first process, whose /etc/passwd names users.
///
/// # Errors
/// The cgroup cannot be read. Processes that end meanwhile are left out.
pub fn list(cgroups: &Cgroups, cgroup: &Path, first: Option<&ProcessIdentity>) -> Result<Vec<Process>, CgroupError> {
    // Without a root, or with a broken file in it, users are numbers.
    let passwd = first
        .and_then(|first| container_root::open(first).ok())
        .and_then(|root| users::passwd(root.descriptor()).ok())
        .unwrap_or_default();
    let pids = cgroups.processes(cgroup)?;
    let read = |pid| process(pid).ok().flatten();
    Ok(pids
        .into_iter()
        .filter_map(read)
        .map(|mut process| {
            if let Some(name) = users::name_of(&passwd, process.uid) {
                process.user = name.to_owned();
            }
            process
        })
        .collect())
}

fn process(pid: i32) -> io::Result<Option<Process>> {
    let read = |name: &str| fs::read(format!("/proc/{pid}/{name}"));
    let text = |name: &str| Ok::<_, io::Error>(String::from_utf8_lossy(&read(name)?).into_owned());
    let (stat, status, command) = (text("stat")?, text("status")?, read("cmdline")?);
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
    Ok(parse(pid, &stat, &status, &command, u64::try_from(ticks).unwrap_or(100).max(1)))
}

/// proc_pid_stat(5), proc_pid_status(5), proc_pid_cmdline(5).
fn parse(pid: i32, stat: &str, status: &str, command: &[u8], ticks_per_second: u64) -> Option<Process> {
    let (before, after) = stat.rsplit_once(')')?;
    let name = before.split_once('(')?.1;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let field = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let of_status = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let uid: u32 = of_status("Uid")?.split_whitespace().nth(1)?.parse().ok()?;
    let inside = of_status("NSpid").and_then(|pids| pids.split_whitespace().last()?.parse().ok());
    let rss_kib: u64 = of_status("VmRSS").and_then(|size| size.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    let command = &command[..command.len().min(MAX_COMMAND)];
    let command = command.strip_suffix(b"\0").unwrap_or(command);
    let command = match String::from_utf8_lossy(command).replace('\0', " ") {
        command if command.trim().is_empty() => format!("[{name}]"),
        command => command,
    };
    Some(Process {
        pid,
        pid_inside: inside.unwrap_or(pid),
        parent: fields.get(1)?.parse().ok()?,
        user: uid.to_string(),
        uid,
        state: fields.first()?.chars().next()?,
        cpu_ms: (field(11)? + field(12)?).saturating_mul(1000) / ticks_per_second,
        rss_bytes: rss_kib * 1024,
        command,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let stat = "77 (a) b (c) S 1 77 77 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 777 1000";
        let status = "Name:\ta) b (c\nNSpid:\t77\t5\nUid:\t0\t1000\t0\t0\nVmRSS:\t    2048 kB\n";
        let process = parse(77, stat, status, b"/bin/sh\0-c\0echo hi\0", 100).unwrap();
        assert_eq!(
            process,
            Process {
                pid: 77,
                pid_inside: 5,
                parent: 1,
                user: "1000".to_owned(),
                uid: 1000,
                state: 'S',
                cpu_ms: 3000,
                rss_bytes: 2 << 20,
                command: "/bin/sh -c echo hi".to_owned(),
            }
        );
        assert_eq!(parse(77, stat, status, b"", 100).unwrap().command, "[a) b (c]");
        assert_eq!(parse(77, "77 (cut", status, b"", 100), None);
    }
}
