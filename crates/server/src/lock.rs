//! One daemon for a data directory.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// In the state directory.
const FILE: &str = "lock";

/// Held until it is dropped, or its process ends, however it does.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "it is there to be dropped")] Flock<std::fs::File>);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("another daemon uses {}", .0.display())]
    Taken(PathBuf),
    #[error("{} cannot be locked", path.display())]
    Io {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
}

pub fn take(state_directory: &Path) -> Result<Lock, Error> {
    let path = state_directory.join(FILE);
    let opened = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = opened.map_err(|cause| Error::Io { path: path.clone(), cause })?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Lock(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Err(Error::Taken(state_directory.to_owned())),
        Err((_, errno)) => Err(Error::Io { path, cause: errno.into() }),
    }
}
