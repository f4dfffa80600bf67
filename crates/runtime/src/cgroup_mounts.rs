//! /sys/fs/cgroup of a container: its own cgroup as the root of each hierarchy, read-only.
//!
//! v1 hierarchies are mounted from inside the cgroup namespace. The v2 tree is a mount that the launcher has taken of
//! the container's cgroup: mounting the cgroup2 type anew makes the kernel wait for a grace period. Beside v1
//! hierarchies the v2 tree is not shown, as in other runtimes.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::mount::{MsFlags, mount};

use crate::cgroup::Cgroups;

pub(crate) const TARGET: &str = "/sys/fs/cgroup";
const SAFE: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);
const DIRECTORY_OPTIONS: &str = "mode=755,size=64k";

/// One v1 hierarchy below /sys/fs/cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CgroupFilesystem {
    name: String,
    options: String,
    /// `cpu` and `cpuacct` beside `cpu,cpuacct`.
    links: Vec<String>,
}

/// The v1 hierarchies of the host; none on a v2-only host.
pub(crate) fn plan(cgroups: &Cgroups) -> Vec<CgroupFilesystem> {
    let hierarchies = cgroups.v1.iter().filter_map(|hierarchy| {
        let name = hierarchy.mount.file_name()?.to_str()?.to_owned();
        let (options, links) = match hierarchy.controllers.as_slice() {
            [] => (format!("none,name={name}"), Vec::new()),
            [only] => (only.clone(), Vec::new()),
            several => (several.join(","), several.to_vec()),
        };
        let links = links.into_iter().filter(|link| *link != name).collect();
        Some(CgroupFilesystem { name, options, links })
    });
    hierarchies.collect()
}

/// On a v2-only host, a mount of the container's cgroup, nowhere yet.
///
/// # Errors
/// What open_tree(2) says.
pub(crate) fn tree(cgroups: &Cgroups, path: &Path) -> io::Result<Option<OwnedFd>> {
    const OPEN_TREE_CLONE: libc::c_int = 1;
    if !cgroups.v1.is_empty() {
        return Ok(None);
    }
    let Some(directory) = cgroups.birthplace(path).map_err(io::Error::other)? else { return Ok(None) };
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC | libc::AT_EMPTY_PATH;
    // SAFETY: a descriptor, an empty C string and flags.
    let tree = unsafe { libc::syscall(libc::SYS_open_tree, directory.as_raw_fd(), c"".as_ptr(), flags) };
    if tree < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else owns it.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(i32::try_from(tree).expect("descriptors are small numbers")) }))
}

/// The caller is in the container's namespaces, on its root, and still has CAP_SYS_ADMIN. /sys has just been mounted,
/// so nothing of the image is on the way.
pub(crate) fn mount_all(
    hierarchies: &[CgroupFilesystem],
    tree: Option<BorrowedFd<'_>>,
    writable: bool,
) -> io::Result<()> {
    let access = if writable { MsFlags::empty() } else { MsFlags::MS_RDONLY };
    if let Some(tree) = tree {
        attach(tree)?;
        return restrict(Path::new(TARGET), access);
    }
    mount(Some("tmpfs"), TARGET, Some("tmpfs"), SAFE, Some(DIRECTORY_OPTIONS))?;
    for hierarchy in hierarchies {
        let target = Path::new(TARGET).join(&hierarchy.name);
        fs::create_dir(&target)?;
        mount(Some("cgroup"), &target, Some("cgroup"), SAFE, Some(hierarchy.options.as_str()))?;
        restrict(&target, access)?;
        for link in &hierarchy.links {
            symlink(&hierarchy.name, Path::new(TARGET).join(link))?;
        }
    }
    restrict(Path::new(TARGET), access)
}

fn attach(tree: BorrowedFd<'_>) -> io::Result<()> {
    const MOVE_MOUNT_F_EMPTY_PATH: libc::c_int = 4;
    // SAFETY: descriptors, C strings that outlive the call, and flags.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            c"/sys/fs/cgroup".as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// This mount, not the hierarchy behind it.
fn restrict(target: &Path, access: MsFlags) -> io::Result<()> {
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | SAFE | access;
    Ok(mount(None::<&str>, target, None::<&str>, flags, None::<&str>)?)
}
