//! What this host's kernel has and lacks for a container, each finding with its cure: for `coracle doctor`. What can
//! only be found by trying is tried by a child that changes nothing outside of itself.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use crate::cgroup::Cgroups;
use crate::{fork, inside, process_identity, sealed_exe, seccomp, security};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    pub outcome: Outcome,
    pub found: String,
    /// What would make it good, where it is not.
    pub cure: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Ok,
    /// Tasks run, but somebody should know.
    Warn,
    /// No container can start, or some task definitions cannot run.
    Fail,
}

/// A few milliseconds. To be called as root: without, most of it is refused, and says so.
pub fn checks() -> Vec<Check> {
    let mut all = cgroups();
    all.extend([
        try_it("namespaces", "a kernel with PID, IPC, UTS, network and cgroup namespaces, and root", || {
            fork::try_in_child(|| {
                let every = libc::CLONE_NEWNS
                    | libc::CLONE_NEWPID
                    | libc::CLONE_NEWIPC
                    | libc::CLONE_NEWUTS
                    | libc::CLONE_NEWNET
                    | libc::CLONE_NEWCGROUP;
                // SAFETY: numbers only, in a child that ends right after.
                if unsafe { libc::unshare(every) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
            })
        }),
        seccomp_filter(),
        overlay(),
        try_it("safe path look-ups (openat2)", "a kernel of 5.6 or later", || {
            let root = fs::File::open("/")?;
            let look_up =
                |root: &fs::File| inside::open(std::os::fd::AsFd::as_fd(root), "proc", libc::O_PATH, inside::FOLLOW);
            look_up(&root).map(|_: OwnedFd| ())
        }),
        try_it("process descriptors (pidfd)", "a kernel of 5.8 or later", || {
            let own = i32::try_from(std::process::id()).map_err(io::Error::other)?;
            process_identity::open_number(own).map(|_| ())
        }),
        sealed_binary(),
        swap_accounting(),
        security_modules(),
    ]);
    all
}

fn cgroups() -> Vec<Check> {
    const NAME: &str = "cgroup controllers";
    let found = match Cgroups::detect() {
        Ok(found) => found,
        Err(error) => {
            return vec![Check::fail(NAME, error.to_string(), "mount -t cgroup2 none /sys/fs/cgroup")];
        }
    };
    let cure_v1 = "boot with the controller enabled (cgroup_enable=memory, say)";
    let cure_v2 = "enable it in the root's cgroup.subtree_control; on a v1 boot: systemd.unified_cgroup_hierarchy=1";
    let cure = if found.v1.is_empty() { cure_v2 } else { cure_v1 };
    let has = |controller: &str| found.v1_of(controller).is_some() || found.v2_with(controller).is_some();
    let missing = |wanted: &[&'static str]| wanted.iter().copied().filter(|name| !has(name)).collect::<Vec<_>>();
    let version = match (found.v1.is_empty(), found.v2.is_some()) {
        (true, _) => "v2",
        (false, true) => "v1, with an empty v2 tree beside it",
        (false, false) => "v1",
    };
    let mut all = Vec::new();
    let needed = missing(&["pids", "memory", "cpu"]);
    all.push(match needed.as_slice() {
        [] => Check::ok(NAME, format!("{version}: cpu, memory and pids limits can be set")),
        names => Check::fail(NAME, format!("{version}, without {}: limits cannot be set", names.join(", ")), cure),
    });
    const DEVICES: &str = "device filter";
    all.push(match (found.v1_of("devices"), &found.v2) {
        (Some(_), _) => Check::ok(DEVICES, "by the devices controller of cgroup v1"),
        (None, Some(_)) => match crate::cgroup::try_device_filter() {
            Ok(()) => Check::ok(DEVICES, "by a BPF program on cgroup v2"),
            Err(error) => Check::fail(
                DEVICES,
                format!("the kernel refuses a BPF program for devices: {error}"),
                "a kernel with CONFIG_CGROUP_BPF and CONFIG_BPF_SYSCALL, and root",
            ),
        },
        (None, None) => Check::fail(DEVICES, "neither cgroup v1 devices nor cgroup v2", cure),
    });
    all
}

fn swap_accounting() -> Check {
    const NAME: &str = "swap accounting";
    // Without cgroups nothing runs, which another check has said.
    match Cgroups::detect() {
        Ok(cgroups) if !cgroups.account_swap() => {
            Check::warn(NAME, "none: maxSwap has no effect", "boot with swapaccount=1")
        }
        Ok(_) | Err(_) => Check::ok(NAME, "maxSwap is kept"),
    }
}

/// Neither is needed; a task definition that names a label of one says so itself when it cannot run.
fn security_modules() -> Check {
    const NAME: &str = "security modules";
    let modules = [("AppArmor", security::has_apparmor()), ("SELinux", security::has_selinux())];
    let there: Vec<&str> = modules.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect();
    match there.as_slice() {
        [] => Check::ok(NAME, "neither AppArmor nor SELinux: tasks with apparmor:… or label:… are refused"),
        there => Check::ok(NAME, format!("{}: dockerSecurityOptions can name its labels", there.join(" and "))),
    }
}

fn seccomp_filter() -> Check {
    const NAME: &str = "seccomp";
    let Some(architecture) = seccomp::Architecture::native() else {
        return Check::fail(NAME, format!("no profile for {}", std::env::consts::ARCH), "x86_64 or aarch64");
    };
    let filter = seccomp::default_filter(&std::collections::BTreeSet::new(), architecture);
    try_it(NAME, "a kernel with CONFIG_SECCOMP_FILTER, and root", || fork::try_in_child(|| seccomp::install(&filter)))
}

fn overlay() -> Check {
    const NAME: &str = "overlayfs";
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if known.lines().any(|line| line.ends_with("\toverlay")) {
        return Check::ok(NAME, "the kernel has it");
    }
    // The kernel loads the module when it is first asked for.
    Check::warn(NAME, "not loaded: the first container will ask for it", "modprobe overlay")
}

fn sealed_binary() -> Check {
    const NAME: &str = "sealed binary";
    match sealed_exe::try_seal() {
        Ok(sealed_exe::Seal::ReadOnlyMount) => Check::ok(NAME, "supervisors run from a read-only mount of the binary"),
        Ok(sealed_exe::Seal::Memory) => Check::warn(
            NAME,
            "supervisors run from a copy in memory, one for each task",
            "a kernel of 5.12 or later shares the binary's pages between them",
        ),
        Err(error) => Check::fail(NAME, error.to_string(), "root, and a kernel of 3.17 or later"),
    }
}

fn try_it(name: &'static str, cure: &str, attempt: impl FnOnce() -> io::Result<()>) -> Check {
    match attempt() {
        Ok(()) => Check::ok(name, "works"),
        Err(error) => Check::fail(name, error.to_string(), cure),
    }
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Ok, found: found.into(), cure: None }
    }

    fn warn(name: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Warn, found: found.into(), cure: Some(cure.into()) }
    }

    fn fail(name: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { name, outcome: Outcome::Fail, found: found.into(), cure: Some(cure.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tests of this crate start containers, so where they run everything needed is there.
    #[test]
    fn a_host_that_runs_the_tests_passes() {
        for check in checks() {
            assert!(check.outcome < Outcome::Fail, "{check:?}");
        }
    }
}
