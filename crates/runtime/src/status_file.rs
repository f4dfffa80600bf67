//! `status.json`: one writer, the task's supervisor, and any number of readers. It is replaced whole, so a reader
//! sees the old one or the new one, never a mixture.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use agent_protocol::TaskStatus;
use nix::fcntl::{FallocateFlags, fallocate};

pub const NAME: &str = "status.json";
const TEMPORARY: &str = ".status.json.new";
const RESERVE: &str = ".status.json.last";

/// A status of ten containers with long reasons fits.
const RESERVE_BYTES: libc::off_t = 16 << 10;

/// Far above what the largest task's status needs; a larger file is not ours.
const MAX_BYTES: u64 = 4 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Survives every process's death.
    Kernel,
    /// Survives a power cut too: the file and its directory are synced.
    Disk,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}", path = path.display())]
pub struct StatusFileError {
    action: &'static str,
    path: PathBuf,
    #[source]
    cause: io::Error,
}

/// Replaces the status of the task whose state directory this is.
pub fn write(state: &Path, status: &TaskStatus, durability: Durability) -> Result<(), StatusFileError> {
    let temporary = state.join(TEMPORARY);
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let file = options.open(&temporary).map_err(failed("create", &temporary))?;
    replace(state, &temporary, file, status, durability)
}

/// Room on the disk for one more status, taken while there is some: the last status of a task is written even where
/// its own output has filled the disk.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    file: File,
}

impl Reserve {
    pub(crate) fn take(state: &Path) -> Result<Reserve, StatusFileError> {
        let path = state.join(RESERVE);
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(&path).map_err(failed("create", &path))?;
        let keep_size = FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(&file, keep_size, 0, RESERVE_BYTES).map_err(io::Error::from).map_err(failed("reserve", &path))?;
        Ok(Reserve { path, file })
    }

    pub(crate) fn spend(
        self,
        state: &Path,
        status: &TaskStatus,
        durability: Durability,
    ) -> Result<(), StatusFileError> {
        replace(state, &self.path, self.file, status, durability)
    }
}

/// Fills `file`, which is `temporary` and empty, and puts it in the status's place.
fn replace(
    state: &Path,
    temporary: &Path,
    mut file: File,
    status: &TaskStatus,
    durability: Durability,
) -> Result<(), StatusFileError> {
    let path = state.join(NAME);
    let bytes = serde_json::to_vec(status).map_err(io::Error::other).map_err(failed("encode", &path))?;
    file.write_all(&bytes).map_err(failed("write", temporary))?;
    match durability {
        Durability::Kernel => exchange(temporary, &path).map_err(failed("replace", &path)),
        Durability::Disk => {
            file.sync_data().map_err(failed("sync", temporary))?;
            fs::rename(temporary, &path).map_err(failed("replace", &path))?;
            File::open(state).and_then(|dir| dir.sync_all()).map_err(failed("sync", state))
        }
    }
}

/// As rename(2), without waiting for the disk: ext4 writes a file out when it is renamed over another
/// (auto_da_alloc), but not when the two are exchanged.
fn exchange(temporary: &Path, path: &Path) -> io::Result<()> {
    let c_string = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from);
    let (from, to) = (c_string(temporary)?, c_string(path)?);
    // SAFETY: two C strings that outlive the call, and numbers.
    let exchanged = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            libc::AT_FDCWD,
            from.as_ptr(),
            libc::AT_FDCWD,
            to.as_ptr(),
            libc::RENAME_EXCHANGE,
        )
    };
    match exchanged {
        0 => fs::remove_file(temporary),
        // There is none yet, or the file system knows no exchange.
        _ => fs::rename(temporary, path),
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StatusFileError {
    let path = path.to_owned();
    move |cause| StatusFileError { action, path, cause }
}

/// The status of the task whose state directory this is; nothing where its supervisor has not written one yet.
pub fn read(state: &Path) -> Result<Option<TaskStatus>, StatusFileError> {
    read_json(&state.join(NAME))
}

/// Reads one JSON document of a task directory; nothing where there is no such file.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, StatusFileError> {
    let failed = |action, cause| StatusFileError { action, path: path.to_owned(), cause };
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(failed("read", cause)),
    };
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        let cause = io::Error::other(format!("not a regular file of at most {MAX_BYTES} bytes"));
        return Err(failed("read", cause));
    }
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(failed("read", cause)),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|cause| failed("understand", io::Error::other(cause)))
}
