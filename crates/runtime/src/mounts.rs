//! What is mounted in a container's root, as Docker has it, and by ourselves: libcontainer would make some eighty
//! system calls for each, to be safe against a root that changes meanwhile. This one is the launcher's alone, and
//! `rootfs::preflight` has looked at every mount point.
//!
//! What needs no namespace of the container is mounted by the launcher; what shows the container's processes,
//! network, IPC and cgroup is mounted by its first process, once it is inside.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use agent_protocol::ContainerSpec;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, mknod, umask};

use crate::cgroup::Cgroups;
use crate::cgroup_mounts::{self, CgroupFilesystem};
use crate::namespaces::Ipc;
use crate::rootfs::ETC_FILES;
use crate::tmpfs::{self, TmpfsError};

/// Docker's, MiB.
pub(crate) const DEFAULT_SHM_MIB: u64 = 64;
/// The largest processor number whose thermal counters are masked; more than any machine's here.
const MAX_CPUS: usize = 1_024;
/// The most device nodes that a privileged container gets.
const MAX_DEVICES: usize = 8_192;

const SAFE: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

/// Docker's masked paths.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Docker's read-only paths.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Made by libcontainer, or ours: not copied from the host.
const OWN_DEVICES: [&str; 15] = [
    "console", "fd", "full", "kcore", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout",
    "tty", "urandom",
];

#[derive(Debug, thiserror::Error)]
#[error("cannot mount {target} in the container")]
pub(crate) struct MountError {
    target: PathBuf,
    #[source]
    source: io::Error,
}

/// Decided before anything is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mounts {
    shm: Shm,
    /// Parents before what is below them.
    tmpfs: Vec<tmpfs::Plan>,
    privileged: bool,
    /// The root's, and with it, as in Docker, that of our files in /etc.
    pub(crate) read_only: bool,
    /// On a v2-only host, none: there it is one file system.
    cgroups: Vec<CgroupFilesystem>,
}

/// /dev/shm, which belongs to the IPC namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shm {
    /// A file system of its own, of so many MiB.
    New(u64),
    /// The task's, or the host's.
    Of(PathBuf),
    None,
}

/// MiB of a container's own /dev/shm.
pub(crate) fn shm_mib(container: &ContainerSpec) -> u64 {
    let parameters = container.definition.linux_parameters.as_ref();
    parameters.and_then(|parameters| parameters.shared_memory_size).unwrap_or(DEFAULT_SHM_MIB)
}

/// Mount options of a /dev/shm.
pub(crate) fn shm_options(mib: u64) -> String {
    format!("mode=1777,size={}k", mib.saturating_mul(1_024))
}

/// # Errors
/// The definition wants a tmpfs that cannot be.
pub(crate) fn plan(container: &ContainerSpec, cgroups: &Cgroups, ipc: &Ipc) -> Result<Mounts, TmpfsError> {
    let parameters = container.definition.linux_parameters.as_ref();
    let asked = parameters.map(|parameters| parameters.tmpfs.as_slice()).unwrap_or_default();
    let mut tmpfs = asked.iter().map(tmpfs::plan).collect::<Result<Vec<_>, _>>()?;
    tmpfs.sort_by_key(|plan| plan.target.components().count());
    Ok(Mounts {
        shm: match ipc {
            Ipc::Own => Shm::New(shm_mib(container)),
            Ipc::OwnWithoutShm => Shm::None,
            Ipc::Host => Shm::Of("/dev/shm".into()),
            Ipc::Task { shm, .. } => Shm::Of(shm.clone()),
        },
        tmpfs,
        privileged: container.definition.privileged == Some(true),
        read_only: container.definition.readonly_root_filesystem == Some(true),
        cgroups: cgroup_mounts::plan(cgroups),
    })
}

impl Mounts {
    /// In the launcher, on `root`, whose mount points are real.
    pub(crate) fn mount_outside(&self, root: &Path) -> Result<(), MountError> {
        let dev = root.join("dev");
        new(&dev, "tmpfs", MsFlags::MS_NOSUID | MsFlags::MS_STRICTATIME, Some("mode=755,size=65536k"))?;
        for directory in ["pts", "mqueue"] {
            make_directory(&dev.join(directory))?;
        }
        let unsafe_only = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
        new(&dev.join("pts"), "devpts", unsafe_only, Some("newinstance,ptmxmode=0666,mode=0620,gid=5"))?;
        self.mount_shm(&dev.join("shm"))?;
        self.mount_tmpfs(root)?;
        if self.privileged {
            copy_devices(Path::new("/dev"), &dev).map_err(|source| MountError { target: dev, source })?;
        }
        Ok(())
    }

    /// Our own files, in the image's /etc, where `rootfs::preflight` has made way for them, or in a tmpfs there. After
    /// `mount_outside`.
    pub(crate) fn mount_etc(&self, root: &Path, bundle: &Path) -> Result<(), MountError> {
        for file in ETC_FILES {
            let target = root.join("etc").join(file);
            if self.tmpfs.iter().any(|plan| plan.target == Path::new("/etc")) {
                fs::File::create(&target).map_err(|source| MountError { target: target.clone(), source })?;
            }
            bind(&bundle.join(file), &target)?;
            if self.read_only {
                make_read_only(&target)?;
            }
        }
        Ok(())
    }

    fn mount_shm(&self, target: &Path) -> Result<(), MountError> {
        match &self.shm {
            Shm::None => Ok(()),
            Shm::New(mib) => make_directory(target).and_then(|()| new(target, "tmpfs", SAFE, Some(&shm_options(*mib)))),
            Shm::Of(path) => make_directory(target).and_then(|()| bind(path, target)),
        }
    }

    fn mount_tmpfs(&self, root: &Path) -> Result<(), MountError> {
        if self.tmpfs.is_empty() {
            return Ok(());
        }
        let open = fs::File::open(root).map_err(|source| MountError { target: root.to_owned(), source })?;
        for plan in &self.tmpfs {
            let target = || plan.target.clone();
            plan.mount_below(open.as_fd()).map_err(|source| MountError { target: target(), source })?;
        }
        Ok(())
    }

    /// In the container's first process, on its root, in its namespaces, with all privileges. `cgroup_tree` is the
    /// mount of `cgroup_mounts::tree`.
    pub(crate) fn mount_inside(&self, cgroup_tree: Option<BorrowedFd<'_>>) -> Result<(), MountError> {
        for plan in &self.tmpfs {
            plan.propagate().map_err(|source| MountError { target: plan.target.clone(), source })?;
        }
        let sys = Path::new("/sys");
        new(Path::new("/proc"), "proc", SAFE, None)?;
        new(sys, "sysfs", SAFE, None)?;
        if !self.privileged {
            make_read_only(sys)?;
        }
        new(Path::new("/dev/mqueue"), "mqueue", SAFE, None)?;
        cgroup_mounts::mount_all(&self.cgroups, cgroup_tree, self.privileged)
            .map_err(|source| MountError { target: cgroup_mounts::TARGET.into(), source })?;
        if self.privileged {
            return Ok(());
        }
        READ_ONLY
            .iter()
            .try_for_each(|path| if_there(Path::new(path), |path| bind(path, path).and(make_read_only(path))))?;
        MASKED.iter().try_for_each(|path| if_there(Path::new(path), mask))?;
        mask_thermal_counters()
    }
}

fn make_directory(path: &Path) -> Result<(), MountError> {
    fs::create_dir(path).map_err(|source| MountError { target: path.to_owned(), source })
}

fn new(target: &Path, kind: &str, flags: MsFlags, data: Option<&str>) -> Result<(), MountError> {
    failed(target, mount(Some(kind), target, Some(kind), flags, data))
}

fn bind(source: &Path, target: &Path) -> Result<(), MountError> {
    failed(target, mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>))
}

/// This mount, not the file system behind it, which may be the host's too.
fn make_read_only(target: &Path) -> Result<(), MountError> {
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | SAFE;
    failed(target, mount(None::<&str>, target, None::<&str>, flags, None::<&str>))
}

/// A file shows as empty, a directory too.
fn mask(path: &Path) -> Result<(), MountError> {
    if path.is_dir() {
        return new(path, "tmpfs", MsFlags::MS_RDONLY | SAFE, Some("nr_inodes=1"));
    }
    bind(Path::new("/dev/null"), path)
}

/// Docker masks those of every processor: they tell one container what others do.
fn mask_thermal_counters() -> Result<(), MountError> {
    for cpu in 0..MAX_CPUS {
        let directory = PathBuf::from(format!("/sys/devices/system/cpu/cpu{cpu}"));
        if !directory.exists() {
            break;
        }
        if_there(&directory.join("thermal_throttle"), mask)?;
    }
    Ok(())
}

fn if_there(path: &Path, change: impl FnOnce(&Path) -> Result<(), MountError>) -> Result<(), MountError> {
    match fs::symlink_metadata(path) {
        Ok(_) => change(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(MountError { target: path.to_owned(), source }),
    }
}

fn failed(target: &Path, answer: nix::Result<()>) -> Result<(), MountError> {
    answer.map_err(|errno: Errno| MountError { target: target.to_owned(), source: errno.into() })
}

/// The device nodes of the host, for a privileged container, as Docker gives them.
fn copy_devices(from: &Path, to: &Path) -> io::Result<()> {
    let old = umask(Mode::empty());
    let answer = copy_devices_below(from, to, &mut 0);
    umask(old);
    answer
}

fn copy_devices_below(from: &Path, to: &Path, count: &mut usize) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if *count >= MAX_DEVICES || name.to_str().is_none_or(|name| OWN_DEVICES.contains(&name) || name == "zero") {
            continue;
        }
        let kind = entry.file_type()?;
        let target = to.join(&name);
        if kind.is_dir() {
            fs::create_dir(&target)?;
            copy_devices_below(&entry.path(), &target, count)?;
        } else if kind.is_char_device() || kind.is_block_device() {
            let metadata = entry.metadata()?;
            let kind = if kind.is_char_device() { SFlag::S_IFCHR } else { SFlag::S_IFBLK };
            mknod(&target, kind, Mode::from_bits_truncate(metadata.mode()), metadata.rdev())?;
            std::os::unix::fs::chown(&target, Some(metadata.uid()), Some(metadata.gid()))?;
            *count += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn container(definition: serde_json::Value) -> ContainerSpec {
        let mut members = json!({"name": "app", "image": "app"});
        members.as_object_mut().unwrap().extend(definition.as_object().unwrap().clone());
        serde_json::from_value(json!({
            "definition": members,
            "image": {"digest": "", "layers": [], "config": {}},
            "network": {"namespace": "host", "hostname": "h", "hosts": "", "resolv_conf": ""},
            "runtime_id": ""
        }))
        .unwrap()
    }

    #[test]
    fn the_plan_follows_the_definition() {
        let cgroups = Cgroups { v1: Vec::new(), v2: None };
        let plan = |definition, ipc| plan(&container(definition), &cgroups, &ipc).unwrap();
        let default = plan(json!({}), Ipc::Own);
        assert_eq!((default.shm, default.privileged), (Shm::New(64), false));
        let own = plan(json!({"privileged": true, "linuxParameters": {"sharedMemorySize": 3}}), Ipc::Own);
        assert_eq!((own.shm, own.privileged), (Shm::New(3), true));
        assert_eq!(shm_options(3), "mode=1777,size=3072k");
        assert_eq!(plan(json!({}), Ipc::OwnWithoutShm).shm, Shm::None);
        assert_eq!(plan(json!({}), Ipc::Host).shm, Shm::Of("/dev/shm".into()));
    }

    #[test]
    fn a_tmpfs_comes_before_what_is_in_it() {
        let tmpfs = json!([{"containerPath": "/a/b", "size": 1}, {"containerPath": "/a", "size": 1}]);
        let container = container(json!({"linuxParameters": {"tmpfs": tmpfs}}));
        let plan = plan(&container, &Cgroups { v1: Vec::new(), v2: None }, &Ipc::Own).unwrap();
        let targets: Vec<&Path> = plan.tmpfs.iter().map(|plan| plan.target.as_path()).collect();
        assert_eq!(targets, [Path::new("/a"), Path::new("/a/b")]);
    }
}
