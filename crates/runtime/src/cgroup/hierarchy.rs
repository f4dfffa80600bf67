//! Which cgroup hierarchies this host has, and the little that every use of them shares.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{CgroupError, below, make_directories};

/// The hierarchies below /sys/fs/cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroups {
    pub v1: Vec<V1Hierarchy>,
    /// The v2 tree: the only one, or, on a hybrid host, one beside v1 with few controllers or none.
    pub v2: Option<V2Hierarchy>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct V1Hierarchy {
    pub mount: PathBuf,
    /// `cpu`, `memory`, …; none for a named hierarchy.
    pub controllers: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct V2Hierarchy {
    pub mount: PathBuf,
    /// Of those that limits are written to, the ones that the root offers.
    pub controllers: Vec<String>,
}

/// The v1 controllers there ever were (cgroups(7)), to tell them from other mount options.
const V1_CONTROLLERS: [&str; 13] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "debug",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
];

/// The v2 controllers that a task's limits use, or that accounting reads.
const V2_CONTROLLERS: [&str; 4] = ["cpu", "memory", "pids", "io"];

impl Cgroups {
    /// # Errors
    /// /proc cannot be read, or no hierarchy is mounted.
    pub fn detect() -> Result<Self, CgroupError> {
        let path = Path::new("/proc/self/mountinfo");
        let mounts = fs::read_to_string(path).map_err(|source| CgroupError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        })?;
        let mut found = read_mounts(&mounts);
        if found.v1.is_empty() && found.v2.is_none() {
            return Err(CgroupError::NoHierarchy);
        }
        if let Some(unified) = &mut found.v2 {
            // A tree without this file offers no controllers, as on many hybrid hosts.
            let offered = fs::read_to_string(unified.mount.join("cgroup.controllers")).unwrap_or_default();
            unified.controllers.retain(|name| offered.split_whitespace().any(|known| known == name));
        }
        Ok(found)
    }

    /// The v1 hierarchy of a controller.
    pub(crate) fn v1_of(&self, controller: &str) -> Option<&V1Hierarchy> {
        self.v1.iter().find(|hierarchy| hierarchy.controllers.iter().any(|name| name == controller))
    }

    /// The v2 tree, when it has this controller.
    pub(crate) fn v2_with(&self, controller: &str) -> Option<&V2Hierarchy> {
        self.v2.as_ref().filter(|unified| unified.controllers.iter().any(|name| name == controller))
    }

    pub(crate) fn mounts(&self) -> impl Iterator<Item = &Path> {
        self.v1.iter().map(|hierarchy| hierarchy.mount.as_path()).chain(self.v2.iter().map(|v2| v2.mount.as_path()))
    }
}

impl V1Hierarchy {
    /// A new cpuset has no processors and no memory and cannot be entered: it takes its parent's.
    pub(super) fn make(&self, path: &Path) -> Result<(), CgroupError> {
        if !self.controllers.iter().any(|name| name == "cpuset") {
            return make_directories(&below(&self.mount, path));
        }
        let mut parent = self.mount.clone();
        for part in path.components().filter(|part| matches!(part, std::path::Component::Normal(_))) {
            let child = parent.join(part);
            make_directories(&child)?;
            for file in ["cpuset.cpus", "cpuset.mems"] {
                inherit(&parent.join(file), &child.join(file))?;
            }
            parent = child;
        }
        Ok(())
    }
}

fn inherit(from: &Path, to: &Path) -> Result<(), CgroupError> {
    let io = |action, path: &Path| {
        let path = path.to_owned();
        move |source| CgroupError::Io { action, path, source }
    };
    if !fs::read_to_string(to).map_err(io("read", to))?.trim().is_empty() {
        return Ok(());
    }
    let value = fs::read_to_string(from).map_err(io("read", from))?;
    write(to, value.trim()).map_err(io("write", to))
}

/// One write(2), as cgroup files want it; never makes a file.
pub(super) fn write(path: &Path, value: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

/// The calling process's place in the v2 tree.
pub(super) fn own_unified_path() -> Option<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    own.lines().find_map(|line| line.strip_prefix("0::")).map(PathBuf::from)
}

fn read_mounts(mountinfo: &str) -> Cgroups {
    let mut found = Cgroups { v1: Vec::new(), v2: None };
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let Some(mount) = before.split(' ').nth(4) else { continue };
        if !Path::new(mount).starts_with("/sys/fs/cgroup") {
            continue;
        }
        let mut after = after.split(' ');
        let kind = after.next();
        let options = after.nth(1).unwrap_or_default();
        if kind == Some("cgroup2") && found.v2.is_none() {
            let controllers = V2_CONTROLLERS.map(String::from).to_vec();
            found.v2 = Some(V2Hierarchy { mount: mount.into(), controllers });
        } else if kind == Some("cgroup") {
            let known = |name: &&str| V1_CONTROLLERS.contains(name);
            let controllers: Vec<String> = options.split(',').filter(known).map(String::from).collect();
            let again = |one: &V1Hierarchy| !controllers.is_empty() && one.controllers == controllers;
            if !found.v1.iter().any(again) {
                found.v1.push(V1Hierarchy { mount: mount.into(), controllers });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_read_from_mountinfo() {
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
                      35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
                      40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n\
                      99 31 0:32 / /mnt/memory rw,relatime - cgroup cgroup rw,memory\n";
        let found = read_mounts(hybrid);
        let v1: Vec<_> = found.v1.iter().map(|one| (one.mount.to_str().unwrap(), one.controllers.join("+"))).collect();
        assert_eq!(
            v1,
            [
                ("/sys/fs/cgroup/cpu,cpuacct", "cpu+cpuacct".to_owned()),
                ("/sys/fs/cgroup/memory", "memory".to_owned()),
                ("/sys/fs/cgroup/systemd", String::new()),
            ]
        );
        assert_eq!(found.v2.unwrap().mount, Path::new("/sys/fs/cgroup/unified"));
        let unified = read_mounts("30 23 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
        assert_eq!((unified.v1.len(), unified.v2.unwrap().mount), (0, PathBuf::from("/sys/fs/cgroup")));
    }
}
