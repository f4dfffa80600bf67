//! What a test may not leave behind, found by looking at the kernel: processes, cgroups, mounts, links, nftables
//! elements, sockets, run files; and a directory that nothing may touch.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::netlink;
use super::netns::{LAN_LINK, Namespace};
use super::{cgroups, host};

/// Sets of the table that know the bridge itself, which stays with it, as Docker's does.
const OF_THE_BRIDGE: [&str; 3] = [" bridges", " bridge-nets", " bridge-nets6"];
/// Those that know the VPCs and their subnets, whether these have interfaces or not; each for both families.
const OF_THE_SUBNETS: [&str; 5] = [" vpc", " subnets", " masquerade", " closed", " unrouted"];

/// Everything of the host at hand that should not be there when no task runs; empty is right.
pub(crate) fn leftovers(host: &host::Places, namespace: &Namespace) -> Vec<String> {
    let mut found = Vec::new();
    found.extend(processes(host, namespace).into_iter().map(|pid| format!("process {}", describe(pid))));
    for cgroup in cgroups::below(&host.cgroup_parent) {
        if !cgroup.ends_with(&host.cgroup_parent) {
            found.push(format!("cgroup {} with processes {:?}", cgroup.display(), cgroups::processes(&cgroup)));
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let root = host.root.display().to_string();
    found.extend(mounts.lines().filter(|line| line.contains(&root)).map(|line| format!("mount {line}")));
    for link in namespace.links() {
        if link != "lo" && link != LAN_LINK && link != host::BRIDGE && link != host::GATEWAYS {
            found.push(format!("link {link}"));
        }
    }
    match namespace.enter(netlink::nft_elements) {
        Ok(sets) => found.extend(
            sets.into_iter()
                .filter(|(set, count)| *count > 0 && !OF_THE_BRIDGE.iter().any(|name| set.ends_with(name)))
                .filter(|(set, _)| !OF_THE_SUBNETS.iter().any(|name| set.contains(name) && set.contains('/')))
                .map(|(set, count)| format!("nft {set}: {count} elements")),
        ),
        Err(error) => found.push(format!("the nftables sets cannot be read: {error}")),
    }
    found.extend(namespace.bound_sockets().into_iter().map(|socket| format!("socket {socket}")));
    let run_tasks = fs::read_dir(host.run_dir().join("tasks")).into_iter().flatten().flatten();
    found.extend(run_tasks.map(|entry| format!("run directory {}", entry.path().display())));
    found
}

/// Processes that belong to the pretend host: in its cgroups, in its network namespace, or named after its root.
/// The threads of the tests that visit the namespace belong to this process and are not meant.
pub(crate) fn processes(host: &host::Places, namespace: &Namespace) -> Vec<i32> {
    let own = std::process::id() as i32;
    let mut found: Vec<i32> =
        cgroups::below(&host.cgroup_parent).iter().flat_map(|cgroup| cgroups::processes(cgroup)).collect();
    let inside = format!("net:[{}]", namespace.inode());
    let root = host.root.display().to_string();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let in_namespace = fs::read_link(entry.path().join("ns/net")).is_ok_and(|link| link == Path::new(&inside));
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if pid != own && (in_namespace || String::from_utf8_lossy(&command).contains(&root)) {
            found.push(pid);
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn describe(pid: i32) -> String {
    let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let command = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
    let status = String::from_utf8_lossy(&read("status")).lines().take(3).collect::<Vec<_>>().join(", ");
    format!("{pid} [{}] {}", status.replace('\t', " "), command.trim())
}

/// A directory, and kernel settings of the machine, as they were when the test began.
pub(crate) struct Guard {
    pub(crate) directory: PathBuf,
    before: BTreeMap<PathBuf, String>,
}

/// Settings of the whole machine that known attacks on runtimes end up writing.
const MACHINE_SETTINGS: [&str; 3] =
    ["/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/sysrq"];

impl Guard {
    /// Fills `directory` with what attacks aim at: a `ptmx` (CVE-2026-41579), a `null`, a marker.
    pub(crate) fn new(directory: PathBuf) -> Self {
        fs::create_dir_all(directory.join("pts")).expect("a test may write to its own directory");
        fs::create_dir_all(directory.join("shm")).expect("a test may write to its own directory");
        for name in ["ptmx", "null", "marker", "hosts", "resolv.conf", "passwd", "shadow"] {
            fs::write(directory.join(name), format!("guarded {name}\n"))
                .expect("a test may write to its own directory");
        }
        let before = Self::look(&directory);
        Self { directory, before }
    }

    pub(crate) fn marker(&self) -> PathBuf {
        self.directory.join("marker")
    }

    fn look(directory: &Path) -> BTreeMap<PathBuf, String> {
        let mut seen = BTreeMap::new();
        let mut paths = vec![directory.to_owned()];
        paths.extend(MACHINE_SETTINGS.map(PathBuf::from));
        while let Some(path) = paths.pop() {
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            if metadata.is_dir() {
                paths.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
            }
            let content = if metadata.is_file() { fs::read(&path).unwrap_or_default() } else { Vec::new() };
            let look = format!(
                "mode {:o} owner {}:{} device {} content {:?}",
                metadata.permissions().mode(),
                metadata.uid(),
                metadata.gid(),
                metadata.rdev(),
                String::from_utf8_lossy(&content)
            );
            seen.insert(path, look);
        }
        seen
    }

    /// What changed since.
    pub(crate) fn changes(&self) -> Vec<String> {
        let now = Self::look(&self.directory);
        let mut changes = Vec::new();
        for (path, look) in &self.before {
            match now.get(path) {
                None => changes.push(format!("{} is gone", path.display())),
                Some(other) if other != look => changes.push(format!("{}: {look} became {other}", path.display())),
                Some(_) => {}
            }
        }
        let added = now.keys().filter(|path| !self.before.contains_key(*path));
        changes.extend(added.map(|path| format!("{} appeared", path.display())));
        changes
    }
}
