//! `ephemeralStorage`: a task's writable layers and the volumes that live as long as it, on a file system of a fixed
//! size, so that a task which fills its disk fills nobody else's.
//!
//! The file system is a sparse file on a loop device, mounted over the task's directory of containers in its
//! supervisor's own mount namespace. The file has no name once the device holds it, and the device is let go with its
//! last mount (LO_FLAGS_AUTOCLEAR): whatever ends the supervisor and its containers, nothing of it is left.
//!
//! What it costs, measured on Linux 6.18 with two busy cores over ext4: a start takes 13 ms longer at best and 33 ms in
//! the median, be it 21 GiB or 200 (1 ms is our formatting, the rest the kernel's attaching and mounting); the file
//! takes 36 to 80 KiB of the disk at first; the kernel keeps 0.1 MiB for 21 GiB and 0.9 MiB for 200. What is written
//! takes room on the host's disk, what is deleted gives it back (discard). The size is what the task can use: the file
//! system's own tables (1.6 %) come on top of it. A host whose own disk is full shows as an I/O error in the task, not
//! as ENOSPC.
//!
//! Project quotas would cost no device, but need a host file system that was made or mounted for them; a loop device
//! needs nothing.

mod ext4;
mod loop_device;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Nothing of the task outlives a crash of the host, so nothing need reach the disk in order.
const OPTIONS: &str = "barrier=0,discard,errors=continue,noinit_itable";
/// In the directory that is mounted over, for a moment.
const FILE_NAME: &str = ".storage";
const NODE_NAME: &str = ".loop";

#[derive(Debug, thiserror::Error)]
pub(crate) enum StorageError {
    #[error("cannot {action} {path}", path = path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{size_bytes} bytes are more than a file system of this kind holds")]
    TooLarge { size_bytes: u64 },
    #[error("no loop device can be had; the kernel needs CONFIG_BLK_DEV_LOOP (modprobe loop), Linux 5.8 or newer")]
    Loop(#[source] io::Error),
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StorageError {
    let path = path.to_owned();
    move |source| StorageError::Io { action, path, source }
}

/// What is mounted on a directory, in the caller's mount namespace.
#[derive(Debug)]
pub(crate) struct Storage {
    place: PathBuf,
}

/// Mounts a new file system with room for `size_bytes` on `place`, an empty directory. The caller's mounts do not reach
/// the host's.
pub(crate) fn mount_new(place: &Path, size_bytes: u64) -> Result<Storage, StorageError> {
    let path = place.join(FILE_NAME);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .map_err(failed("create", &path))?;
    fs::remove_file(&path).map_err(failed("remove", &path))?;
    let layout = ext4::layout(size_bytes).ok_or(StorageError::TooLarge { size_bytes })?;
    let identity = ext4::Identity { uuid: random(&path)?, hash_seed: random(&path)?, made_at_s: now_s() };
    ext4::format(&file, &layout, &identity).map_err(failed("format", &path))?;
    let device = loop_device::attach(&file, &place.join(NODE_NAME)).map_err(StorageError::Loop)?;
    let mounted = mount(Some(device.path()), place, Some("ext4"), MsFlags::empty(), Some(OPTIONS));
    mounted.map_err(|errno| failed("mount a file system of its own on", place)(errno.into()))?;
    Ok(Storage { place: place.to_owned() })
}

impl Storage {
    /// Takes it away, with all that is in it. What is not on the disk yet is dropped, not written.
    pub(crate) fn release(self) -> Result<(), StorageError> {
        // Without it, everything would only be written to be thrown away; and that is all that fails here.
        drop(File::open(&self.place).and_then(|top| drop_unwritten(&top)));
        umount2(&self.place, MntFlags::MNT_DETACH).map_err(|errno| failed("unmount", &self.place)(errno.into()))
    }
}

/// ext4's EXT4_IOC_SHUTDOWN, whose numbers are those of XFS.
fn drop_unwritten(top: &File) -> io::Result<()> {
    const SHUTDOWN: libc::c_ulong = 0x8004_587d;
    const NO_FLUSH: u32 = 2;
    let how = NO_FLUSH;
    // SAFETY: the kernel reads one number.
    let answer = unsafe { libc::ioctl(top.as_raw_fd(), SHUTDOWN as _, &raw const how) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn random(path: &Path) -> Result<[u8; 16], StorageError> {
    let mut bytes = [0_u8; 16];
    // SAFETY: fills a local buffer of the size given.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if usize::try_from(got) == Ok(bytes.len()) {
        return Ok(bytes);
    }
    Err(failed("get random bytes for", path)(io::Error::last_os_error()))
}

fn now_s() -> u32 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.ok().and_then(|since| u32::try_from(since.as_secs()).ok()).unwrap_or_default()
}
