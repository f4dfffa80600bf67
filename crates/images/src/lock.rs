//! flock(2): a lock ends with its process, however that ends.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::error::{Error, io};
use crate::store::Store;

/// A file under a name that nobody else holds.
#[derive(Debug)]
pub(crate) struct Locked {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
}

impl Locked {
    /// Opens or makes the file and locks it, or gives `None` while another holds it.
    pub(crate) fn try_at(path: PathBuf) -> Result<Option<Self>, Error> {
        loop {
            let mut options = File::options();
            let file =
                options.read(true).append(true).create(true).mode(0o600).open(&path).map_err(io("open", &path))?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(io("lock", path)(error)),
            }
            // Between open and lock another may have renamed or removed it; then this lock guards nothing.
            let mine = file.metadata().map_err(io("look at", &path))?;
            match std::fs::symlink_metadata(&path) {
                Ok(there) if (there.dev(), there.ino()) == (mine.dev(), mine.ino()) => {
                    return Ok(Some(Locked { file, path }));
                }
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(io("look at", path)(error)),
            }
        }
    }

    /// A new file that no other process uses.
    pub(crate) fn unique(store: &Store, dir: &str, prefix: &str) -> Result<Self, Error> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = store.dir.join(dir).join(format!("{prefix}-{}-{number}", std::process::id()));
            if let Some(locked) = Locked::try_at(path)? {
                if locked.file.metadata().map_err(io("look at", &locked.path))?.len() == 0 {
                    return Ok(locked);
                }
                // Left by a dead process that had our number.
                std::fs::remove_file(&locked.path).map_err(io("remove", &locked.path))?;
            }
        }
    }
}

/// Held by whoever puts things in place, for the moment that takes.
pub(crate) fn shared(store: &Store) -> Result<File, Error> {
    whole(store, FlockOperation::LockShared)
}

/// Held while garbage is told from what is used.
pub(crate) fn exclusive(store: &Store) -> Result<File, Error> {
    whole(store, FlockOperation::LockExclusive)
}

fn whole(store: &Store, operation: FlockOperation) -> Result<File, Error> {
    let path = store.dir.join("lock");
    let mut options = File::options();
    let file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(io("open", &path))?;
    loop {
        match rustix::fs::flock(&file, operation) {
            Ok(()) => return Ok(file),
            Err(Errno::INTR) => {}
            Err(error) => return Err(io("lock", path)(error)),
        }
    }
}
