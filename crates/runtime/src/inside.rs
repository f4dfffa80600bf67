//! Opening and making things inside a root that is somebody else's: every look-up is held inside by the kernel
//! (openat2(2)), so that no symbolic link of an image leads out of it.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};

/// Symbolic links are followed, as if the root were `/`.
pub(crate) const FOLLOW: u64 = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
/// No symbolic link anywhere in the path.
pub(crate) const NO_LINKS: u64 = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS;

/// A `..` in a link is not followed while anything is mounted or renamed anywhere on the host; openat2(2) says EAGAIN,
/// "The caller may choose to retry". As often as runc does.
const MAX_TRIES: usize = 128;

/// openat2(2).
pub(crate) fn open(root: BorrowedFd<'_>, path: &str, flags: i32, resolve: u64) -> io::Result<OwnedFd> {
    let path = CString::new(path).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    // SAFETY: open_how is plain numbers, for which zero is the documented default.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = u64::try_from(flags | libc::O_CLOEXEC).expect("open flags are positive");
    how.resolve = resolve;
    let mut tries = 0;
    loop {
        // SAFETY: the path and `how` outlive the call, and the size given is that of `how`.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                root.as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                size_of::<libc::open_how>(),
            )
        };
        if fd >= 0 {
            // SAFETY: the kernel has just made this descriptor, and nobody else owns it.
            return Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).expect("descriptors are small numbers")) });
        }
        tries += 1;
        match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::EAGAIN) && tries < MAX_TRIES => {}
            error => return Err(error),
        }
    }
}

/// A regular file for reading; anything else (a FIFO, a device, a directory) is `InvalidInput` and is never opened.
pub(crate) fn open_regular(root: BorrowedFd<'_>, path: &str) -> io::Result<File> {
    let is_regular = |fd: &OwnedFd| -> io::Result<bool> {
        Ok(SFlag::from_bits_truncate(fstat(fd)?.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG)
    };
    if !is_regular(&open(root, path, libc::O_PATH, FOLLOW)?)? {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // The file may be exchanged in between where the root is a running container's: O_NONBLOCK keeps a FIFO from
    // holding us, and the second look decides.
    let fd = open(root, path, libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY, FOLLOW)?;
    if is_regular(&fd)? { Ok(File::from(fd)) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// A directory, made with its parents where missing (mode 0755), symbolic links followed inside the root.
pub(crate) fn make_directories(root: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    let mut done = String::from(".");
    let mut directory = open(root, &done, libc::O_PATH | libc::O_DIRECTORY, FOLLOW)?;
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        done = format!("{done}/{part}");
        directory = match open(root, &done, libc::O_PATH | libc::O_DIRECTORY, FOLLOW) {
            Ok(next) => next,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match mkdirat(&directory, part, Mode::from_bits_truncate(0o755)) {
                    Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
                    Err(errno) => return Err(errno.into()),
                }
                open(root, &done, libc::O_PATH | libc::O_DIRECTORY, FOLLOW)?
            }
            Err(error) => return Err(error),
        };
    }
    Ok(directory)
}
