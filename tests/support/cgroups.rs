//! The cgroup hierarchies of the machine, version 1 and 2, and what a test's tasks have in them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where each hierarchy is mounted. Hierarchies that are bound in twice are listed once.
pub(crate) fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("procfs is mounted");
    let mut seen = BTreeSet::new();
    mounts
        .lines()
        .filter_map(|line| {
            let (place, source) = line.split_once(" - ")?;
            let mut fields = place.split(' ').skip(2);
            let device = fields.next()?;
            let point = fields.nth(1)?;
            (source.starts_with("cgroup") && seen.insert(device.to_owned())).then(|| PathBuf::from(point))
        })
        .collect()
}

/// The directory that has the files of one controller, or the version 2 tree.
pub(crate) fn controller(name: &str) -> PathBuf {
    let split = Path::new("/sys/fs/cgroup").join(name);
    if split.is_dir() { split } else { PathBuf::from("/sys/fs/cgroup") }
}

/// Whether the machine has cgroup version 2 and nothing else.
pub(crate) fn unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// Every cgroup below `/<parent>` in every hierarchy, the deepest first, `parent` itself last.
pub(crate) fn below(parent: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for hierarchy in hierarchies() {
        let mut folders = vec![hierarchy.join(parent)];
        while let Some(folder) = folders.pop() {
            if !folder.is_dir() {
                continue;
            }
            let inner = fs::read_dir(&folder).into_iter().flatten().flatten();
            folders.extend(inner.filter(|entry| entry.path().is_dir()).map(|entry| entry.path()));
            found.push(folder);
        }
    }
    found.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    found
}

pub(crate) fn processes(cgroup: &Path) -> Vec<i32> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// One file of a container's cgroup: the first name that exists, `names` being version 1's and version 2's.
pub(crate) fn value(controller_name: &str, path: &str, names: [&str; 2]) -> String {
    let folder = controller(controller_name).join(path.trim_start_matches('/'));
    let file = if unified() { names[1] } else { names[0] };
    let file = folder.join(file);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display())).trim().to_owned()
}
