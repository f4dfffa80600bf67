//! /sys/fs/cgroup of a container on a host with v1 hierarchies: mounted from inside its cgroup namespace, so that each
//! hierarchy's root is the container's own cgroup, and read-only.
//!
//! libcontainer would look for them in mountinfo, where the launcher hides them from it (see `launch`).

use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::mount::{MsFlags, mount};

use crate::cgroup::Cgroups;

const TARGET: &str = "/sys/fs/cgroup";

/// One file system below /sys/fs/cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CgroupFilesystem {
    name: String,
    kind: &'static str,
    options: Option<String>,
    /// `cpu` and `cpuacct` beside `cpu,cpuacct`.
    links: Vec<String>,
}

/// What to mount, out of what the host has; nothing on a v2-only host, where libcontainer does it.
pub(crate) fn plan(cgroups: &Cgroups) -> Vec<CgroupFilesystem> {
    if cgroups.v1.is_empty() {
        return Vec::new();
    }
    let name_of = |mount: &Path| Some(mount.file_name()?.to_str()?.to_owned());
    let v1 = cgroups.v1.iter().filter_map(|hierarchy| {
        let name = name_of(&hierarchy.mount)?;
        let (options, links) = match hierarchy.controllers.as_slice() {
            [] => (format!("none,name={name}"), Vec::new()),
            [only] => (only.clone(), Vec::new()),
            several => (several.join(","), several.to_vec()),
        };
        let links = links.into_iter().filter(|link| *link != name).collect();
        Some(CgroupFilesystem { name, kind: "cgroup", options: Some(options), links })
    });
    let v2 = cgroups.v2.iter().filter_map(|unified| {
        Some(CgroupFilesystem { name: name_of(&unified.mount)?, kind: "cgroup2", options: None, links: Vec::new() })
    });
    v1.chain(v2).collect()
}

/// Mounts them; the caller is in the container's namespaces, on its root, and still has CAP_SYS_ADMIN. /sys has just
/// been mounted by libcontainer, so nothing of the image is on the way.
pub(crate) fn mount_all(filesystems: &[CgroupFilesystem], writable: bool) -> io::Result<()> {
    if filesystems.is_empty() {
        return Ok(());
    }
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let access = if writable { MsFlags::empty() } else { MsFlags::MS_RDONLY };
    mount(Some("tmpfs"), TARGET, Some("tmpfs"), safe, Some("mode=755,size=64k"))?;
    for filesystem in filesystems {
        let target = Path::new(TARGET).join(&filesystem.name);
        std::fs::create_dir(&target)?;
        let kind = Some(filesystem.kind);
        mount(Some("cgroup"), &target, kind, safe, filesystem.options.as_deref())?;
        if !writable {
            let bind = MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
            mount(None::<&str>, &target, None::<&str>, safe | access | bind, None::<&str>)?;
        }
        for link in &filesystem.links {
            symlink(&filesystem.name, Path::new(TARGET).join(link))?;
        }
    }
    if !writable {
        mount(None::<&str>, TARGET, None::<&str>, safe | access | MsFlags::MS_REMOUNT, Some("mode=755,size=64k"))?;
    }
    Ok(())
}
