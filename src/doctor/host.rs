//! What the host itself must have, before network and runtime are asked: who we are, the kernel, places, memory, clock.

use std::path::{Path, PathBuf};

use nix::sys::statfs::{self, FsType};

use super::Check;
use crate::options::Options;
use crate::output;

/// Process descriptors and safe path look-ups are all there from here on.
const KERNEL_WANTED: (u32, u32) = (5, 8);
/// cgroup v2 kill, mount_setattr(2) and the overlay options used here are all present from here on.
const KERNEL_RECOMMENDED: (u32, u32) = (5, 14);
/// Less free space than this and a pull will probably fail.
const SPACE_WANTED: u64 = 1 << 30;
const MEMORY_WANTED: u64 = 64 << 20;
/// A clock before this was never set: 2020-01-01.
const CLOCK_WANTED_EPOCH_S: u64 = 1_577_836_800;

/// What was found, so that judging needs no host.
pub(super) struct Found {
    pub(super) is_root: bool,
    pub(super) kernel: String,
    pub(super) architecture: &'static str,
    pub(super) data: Result<Place, String>,
    pub(super) memory_available: Option<u64>,
    pub(super) epoch_s: u64,
}

pub(super) struct Place {
    /// The data directory, or the nearest folder above it that exists.
    pub(super) path: PathBuf,
    pub(super) file_system: FileSystem,
    pub(super) free_bytes: u64,
    pub(super) free_inodes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileSystem {
    Named(&'static str),
    /// Cannot hold the writable layer of an overlay.
    NoUpper(&'static str),
    Other(i64),
}

pub(super) fn checks(options: &Options) -> Vec<Check> {
    judge(&find(options))
}

fn find(options: &Options) -> Found {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    Found {
        is_root: nix::unistd::geteuid().is_root(),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        architecture: std::env::consts::ARCH,
        data: place(&options.data_dir),
        memory_available: memory_available(&read("/proc/meminfo")),
        epoch_s: crate::clock::now().epoch_ms / 1000,
    }
}

fn place(data_dir: &Path) -> Result<Place, String> {
    let absolute = std::path::absolute(data_dir).map_err(|error| error.to_string())?;
    let path = absolute
        .ancestors()
        .find(|folder| folder.exists())
        .ok_or_else(|| format!("{} has no folder above it", absolute.display()))?;
    let found = statfs::statfs(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Place {
        path: path.to_owned(),
        file_system: file_system(found.filesystem_type()),
        free_bytes: found.blocks_available().saturating_mul(found.block_size()),
        free_inodes: found.files_free(),
    })
}

/// Names by the numbers of statfs(2).
fn file_system(kind: FsType) -> FileSystem {
    const BTRFS: i64 = 0x9123_683e;
    const EXT: i64 = 0xef53;
    const XFS: i64 = 0x5846_5342;
    const F2FS: i64 = 0xf2f5_2010;
    const ZFS: i64 = 0x2fc1_2fc1;
    const TMPFS: i64 = 0x0102_1994;
    const OVERLAY: i64 = 0x794c_7630;
    const NFS: i64 = 0x6969;
    const VFAT: i64 = 0x4d44;
    const EXFAT: i64 = 0x2011_bab0;
    const FUSE: i64 = 0x6573_5546;
    #[allow(clippy::unnecessary_cast, reason = "the number's width differs between C libraries")]
    match kind.0 as i64 {
        EXT => FileSystem::Named("ext4"),
        XFS => FileSystem::Named("xfs"),
        BTRFS => FileSystem::Named("btrfs"),
        F2FS => FileSystem::Named("f2fs"),
        ZFS => FileSystem::Named("zfs"),
        TMPFS => FileSystem::Named("tmpfs"),
        OVERLAY => FileSystem::NoUpper("overlayfs"),
        NFS => FileSystem::NoUpper("nfs"),
        VFAT => FileSystem::NoUpper("vfat"),
        EXFAT => FileSystem::NoUpper("exfat"),
        FUSE => FileSystem::NoUpper("fuse"),
        other => FileSystem::Other(other),
    }
}

/// Bytes, out of /proc/meminfo.
fn memory_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

fn version(kernel: &str) -> Option<(u32, u32)> {
    let mut numbers = kernel.split(['.', '-']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn judge(found: &Found) -> Vec<Check> {
    let mut checks = vec![root(found.is_root), kernel(&found.kernel), architecture(found.architecture)];
    match &found.data {
        Ok(place) => checks.extend([file_system_check(place), space(place)]),
        Err(error) => {
            checks.push(Check::bad("data directory", error, "name a folder that can be made: --data-dir DIR"))
        }
    }
    checks.extend(found.memory_available.map(memory));
    checks.push(clock(found.epoch_s));
    checks
}

fn root(is_root: bool) -> Check {
    if is_root {
        Check::good("root", "yes")
    } else {
        Check::bad("root", "no: namespaces, cgroups, mounts and nftables of the host need it", "sudo coracle …")
    }
}

fn kernel(release: &str) -> Check {
    let (wanted, recommended) = (KERNEL_WANTED, KERNEL_RECOMMENDED);
    match version(release) {
        Some(version) if version >= recommended => Check::good("kernel", release),
        Some(version) if version >= wanted => Check::warning(
            "kernel",
            release,
            &format!("{}.{} or newer has everything; older ones use slower ways", recommended.0, recommended.1),
        ),
        Some(_) => Check::bad("kernel", release, &format!("{}.{} or newer is needed", wanted.0, wanted.1)),
        None => Check::warning("kernel", &format!("{release:?}, which is no version"), "go on and see"),
    }
}

fn architecture(name: &str) -> Check {
    match name {
        "x86_64" | "aarch64" => Check::good("architecture", name),
        _ => Check::bad("architecture", name, "x86_64 or aarch64: the seccomp tables know these"),
    }
}

fn file_system_check(place: &Place) -> Check {
    let at = place.path.display();
    match place.file_system {
        FileSystem::Named(name @ "tmpfs") => Check::warning(
            "data directory",
            &format!("{at} on {name}"),
            "images and tasks are lost at a reboot: --data-dir DIR",
        ),
        FileSystem::Named(name) => Check::good("data directory", &format!("{at} on {name}")),
        FileSystem::NoUpper(name) => Check::bad(
            "data directory",
            &format!("{at} is on {name}, which cannot hold the writable layer of a container"),
            "a folder on ext4, xfs or btrfs: --data-dir DIR",
        ),
        FileSystem::Other(kind) => Check::warning(
            "data directory",
            &format!("{at} on a file system of type {kind:#x}"),
            "ext4, xfs and btrfs are known to hold containers",
        ),
    }
}

fn space(place: &Place) -> Check {
    let found = format!("{} and {} inodes free", output::bytes(place.free_bytes), place.free_inodes);
    // Some file systems (btrfs) have no fixed number of inodes and report none at all.
    if place.free_bytes < SPACE_WANTED {
        Check::warning("disk space", &found, "coracle image gc, or a larger disk: --data-dir DIR")
    } else {
        Check::good("disk space", &found)
    }
}

fn memory(available: u64) -> Check {
    let found = format!("{} available", output::bytes(available));
    if available < MEMORY_WANTED {
        Check::warning("memory", &found, "stop something, or give tasks smaller memory limits")
    } else {
        Check::good("memory", &found)
    }
}

fn clock(epoch_s: u64) -> Check {
    let shown = crate::time_text::rfc3339(ecs::Timestamp::from_epoch_ms(epoch_s.saturating_mul(1000)));
    if epoch_s < CLOCK_WANTED_EPOCH_S {
        Check::warning(
            "clock",
            &format!("{shown}, before 2020"),
            "set the clock (date -s, NTP): certificates of registries look not valid yet; everything local works",
        )
    } else {
        Check::good("clock", &shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    fn found() -> Found {
        Found {
            is_root: true,
            kernel: "6.1.0-25-amd64".to_owned(),
            architecture: "x86_64",
            data: Ok(Place {
                path: PathBuf::from("/var/lib"),
                file_system: FileSystem::Named("ext4"),
                free_bytes: 50 << 30,
                free_inodes: 1_000_000,
            }),
            memory_available: Some(1 << 30),
            epoch_s: 1_795_398_837,
        }
    }

    fn verdict(found: &Found, name: &str) -> Verdict {
        judge(found).into_iter().find(|check| check.name == name).expect("there is such a check").verdict
    }

    #[test]
    fn a_good_host_has_nothing_to_cure() {
        assert!(judge(&found()).iter().all(|check| check.verdict == Verdict::Good && check.cure.is_none()));
    }

    #[test]
    fn what_makes_a_run_impossible() {
        assert_eq!(verdict(&Found { is_root: false, ..found() }, "root"), Verdict::Bad);
        assert_eq!(verdict(&Found { kernel: "5.4.0".to_owned(), ..found() }, "kernel"), Verdict::Bad);
        assert_eq!(verdict(&Found { architecture: "mips", ..found() }, "architecture"), Verdict::Bad);
        assert_eq!(verdict(&Found { data: Err("no".to_owned()), ..found() }, "data directory"), Verdict::Bad);
        let place = |file_system| Found {
            data: Ok(Place { path: PathBuf::from("/"), file_system, free_bytes: 1, free_inodes: 0 }),
            ..found()
        };
        assert_eq!(verdict(&place(FileSystem::NoUpper("nfs")), "data directory"), Verdict::Bad);
        assert_eq!(verdict(&place(FileSystem::Named("tmpfs")), "data directory"), Verdict::Warning);
        assert_eq!(verdict(&place(FileSystem::Named("ext4")), "disk space"), Verdict::Warning);
    }

    #[test]
    fn a_clock_that_was_never_set_is_a_warning_only() {
        assert_eq!(verdict(&Found { epoch_s: 3600, ..found() }, "clock"), Verdict::Warning);
        assert_eq!(verdict(&Found { kernel: "5.10.0".to_owned(), ..found() }, "kernel"), Verdict::Warning);
    }

    #[test]
    fn available_memory_is_read_in_bytes() {
        assert_eq!(memory_available("MemTotal: 9 kB\nMemAvailable:   2048 kB\n"), Some(2 << 20));
        assert_eq!(memory_available("nothing"), None);
    }
}
