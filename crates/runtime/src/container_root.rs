//! The root file system of a running container, as a directory to start look-ups from: with every mount that the
//! container sees, and never left, whatever links it holds.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use agent_protocol::ProcessIdentity;

use crate::process_identity;

/// A descriptor only: look-ups with openat2(2) and RESOLVE_IN_ROOT stay inside.
#[derive(Debug)]
pub struct ContainerRoot {
    directory: OwnedFd,
}

impl ContainerRoot {
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// The root of exactly this process, the container's first.
///
/// # Errors
/// The process has ended (`NotFound`), or /proc does not give its root.
pub fn open(process: &ProcessIdentity) -> io::Result<ContainerRoot> {
    let gone = || io::Error::new(io::ErrorKind::NotFound, "the container has ended");
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let root = File::options().read(true).custom_flags(flags).open(format!("/proc/{}/root", process.pid));
    // Looked at after the root was opened: if it still is this process, it was then.
    if process_identity::open(process)?.is_none() {
        return Err(gone());
    }
    Ok(ContainerRoot { directory: root?.into() })
}
