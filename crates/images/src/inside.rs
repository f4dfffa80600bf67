//! Opening what is inside a root that is somebody else's: the kernel holds the look-up inside (openat2(2)), so that no
//! symbolic link leads out of it.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::path::Arg;

/// A `..` in a link is not followed while anything is mounted or renamed anywhere on the host; openat2(2) says EAGAIN,
/// "The caller may choose to retry". As often as runc does.
const MAX_TRIES: usize = 128;

/// Opens a path as if the root were `/`; symbolic links are followed, except a last one with `NOFOLLOW`.
///
/// # Errors
/// What openat2(2) says; `NOSYS` before Linux 5.6.
pub fn open(root: impl AsFd, path: impl Arg + Copy, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut tries = 0;
    loop {
        tries += 1;
        match rustix::fs::openat2(root.as_fd(), path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN) if tries < MAX_TRIES => {}
            outcome => return outcome,
        }
    }
}
