//! A volume that is empty takes over what the image has at its place: content, owners, modes, extended attributes, hard
//! and symbolic links, as Docker does (containerd/continuity's fs.CopyDir). Devices and sockets are left out.
//!
//! The image's side is hostile and does not change meanwhile; the volume's side may be another container's too. Both
//! are walked by descriptors, no link is followed, and nothing that exists is opened for writing.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, UtimensatFlags, fchmod, fstat, fstatat, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat, linkat, mkfifoat, symlinkat};

use crate::inside;

/// The deepest tree that is taken over, directories: each level holds three descriptors.
const MAX_DEPTH: usize = 200;
/// The longest list of extended attributes' names, and the longest value: the kernel's limits.
const MAX_ATTRIBUTES: usize = 64 << 10;

#[derive(Debug, thiserror::Error)]
#[error("cannot copy {path} of the image into the volume")]
pub(crate) struct CopyError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Copies the directory `from` into the directory `to`, if that is empty. Nothing is said where it is not.
pub(super) fn copy_up(from: BorrowedFd<'_>, to: BorrowedFd<'_>, shown: PathBuf) -> Result<(), CopyError> {
    let failed = |source| CopyError { path: shown.clone(), source };
    if !is_empty(to).map_err(failed)? {
        return Ok(());
    }
    let from = from.try_clone_to_owned().map_err(failed)?;
    let top = to.try_clone_to_owned().map_err(failed)?;
    let to = to.try_clone_to_owned().map_err(failed)?;
    Copy { seen: HashMap::new(), top, inside: PathBuf::from("."), shown }.directory(from, to, 0)
}

fn is_empty(directory: BorrowedFd<'_>) -> io::Result<bool> {
    let own = openat(directory, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    for entry in Dir::from_fd(own)?.iter() {
        if !is_dot(entry?.file_name()) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_dot(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

struct Copy {
    /// Where, in the volume, the first name of an inode with several was copied to.
    seen: HashMap<(u64, u64), PathBuf>,
    /// The volume itself.
    top: OwnedFd,
    /// The path at hand in the volume, and in the image for errors.
    inside: PathBuf,
    shown: PathBuf,
}

impl Copy {
    fn directory(&mut self, from: OwnedFd, to: OwnedFd, depth: usize) -> Result<(), CopyError> {
        if depth > MAX_DEPTH {
            return Err(self.failed(io::Error::other(format!("directories deeper than {MAX_DEPTH}"))));
        }
        let listed = from.try_clone().map_err(|error| self.failed(error))?;
        let mut listing = Dir::from_fd(listed).map_err(|errno| self.failed(errno.into()))?;
        for entry in listing.iter() {
            let entry = entry.map_err(|errno| self.failed(errno.into()))?;
            let name = entry.file_name();
            if is_dot(name) {
                continue;
            }
            let plain = OsStr::from_bytes(name.to_bytes());
            self.shown.push(plain);
            self.inside.push(plain);
            self.entry(from.as_fd(), to.as_fd(), name, depth)?;
            self.shown.pop();
            self.inside.pop();
        }
        let metadata = fstat(&from).map_err(|errno| self.failed(errno.into()))?;
        // Last: a directory's times change with what is put into it.
        self.dress_directory(&from, &to, &metadata).map_err(|error| self.failed(error))
    }

    fn failed(&self, source: io::Error) -> CopyError {
        CopyError { path: self.shown.clone(), source }
    }

    fn entry(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: usize) -> Result<(), CopyError> {
        let metadata = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(|errno| self.failed(errno.into()))?;
        match SFlag::from_bits_truncate(metadata.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFDIR => {
                let (from, to) = make_directory(from, to, name).map_err(|error| self.failed(error))?;
                self.directory(from, to, depth + 1)
            }
            SFlag::S_IFREG => self.file(from, to, name, &metadata).map_err(|error| self.failed(error)),
            SFlag::S_IFLNK => link(from, to, name, &metadata).map_err(|error| self.failed(error)),
            SFlag::S_IFIFO => mkfifoat(to, name, mode(&metadata))
                .map_err(io::Error::from)
                .and_then(|()| dress(to, name, &metadata))
                .map_err(|error| self.failed(error)),
            _ => Ok(()),
        }
    }

    fn file(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, metadata: &FileStat) -> io::Result<()> {
        let inode = (metadata.st_dev, metadata.st_ino);
        if let Some(first) = self.seen.get(&inode) {
            let first = first.to_str().ok_or(Errno::EILSEQ)?;
            let copy = inside::open(self.top.as_fd(), first, libc::O_PATH, inside::NO_LINKS)?;
            let path = CString::new(format!("/proc/self/fd/{}", copy.as_raw_fd()))?;
            return Ok(linkat(AT_FDCWD, path.as_c_str(), to, name, AtFlags::AT_SYMLINK_FOLLOW)?);
        }
        let read = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let source = openat(from, name, read, Mode::empty())?;
        let write = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let copy = openat(to, name, write, Mode::from_bits_truncate(0o600))?;
        io::copy(&mut File::from(source.try_clone()?), &mut File::from(copy.try_clone()?))?;
        // By the descriptor: its name may be another file of the volume's by now, which is not to become root's.
        dress_open(&copy, metadata)?;
        copy_attributes(&source, &copy)?;
        if metadata.st_nlink > 1 {
            self.seen.insert(inode, self.inside.clone());
        }
        Ok(())
    }

    fn dress_directory(&self, from: &OwnedFd, to: &OwnedFd, metadata: &FileStat) -> io::Result<()> {
        copy_attributes(from, to)?;
        dress_open(to, metadata)
    }
}

fn make_directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    mkdirat(to, name, Mode::from_bits_truncate(0o700))?;
    Ok((openat(from, name, flags, Mode::empty())?, openat(to, name, flags, Mode::empty())?))
}

fn link(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, metadata: &FileStat) -> io::Result<()> {
    let leads_to = readlinkat(from, name)?;
    symlinkat(leads_to.as_os_str(), to, name)?;
    dress(to, name, metadata)
}

/// Owner, mode and times of a file or directory. Owner first: it takes a setuid bit and file capabilities away.
fn dress_open(to: &OwnedFd, metadata: &FileStat) -> io::Result<()> {
    fchown(to, Some(Uid::from_raw(metadata.st_uid)), Some(Gid::from_raw(metadata.st_gid)))?;
    fchmod(to, mode(metadata))?;
    let (access, change) = times(metadata);
    Ok(nix::sys::stat::futimens(to, &access, &change)?)
}

/// Owner, mode and times of what was just made and cannot be opened, itself if it is a link.
fn dress(to: BorrowedFd<'_>, name: &CStr, metadata: &FileStat) -> io::Result<()> {
    // The directory may be another container's, which may have put something else in its place.
    let made = openat(to, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    let kind = metadata.st_mode & libc::S_IFMT;
    if fstat(&made)?.st_mode & libc::S_IFMT != kind {
        return Err(Errno::EBUSY.into());
    }
    let (owner, group) = (Uid::from_raw(metadata.st_uid), Gid::from_raw(metadata.st_gid));
    fchownat(&made, "", Some(owner), Some(group), AtFlags::AT_EMPTY_PATH)?;
    if kind != libc::S_IFLNK {
        let path = CString::new(format!("/proc/self/fd/{}", made.as_raw_fd()))?;
        // SAFETY: a C string that outlives the call; fchmod(2) refuses descriptors of O_PATH.
        if unsafe { libc::chmod(path.as_ptr(), metadata.st_mode & 0o7777) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let (access, change) = times(metadata);
    Ok(utimensat(to, name, &access, &change, UtimensatFlags::NoFollowSymlink)?)
}

fn mode(metadata: &FileStat) -> Mode {
    Mode::from_bits_truncate(metadata.st_mode & 0o7777)
}

fn times(metadata: &FileStat) -> (TimeSpec, TimeSpec) {
    (
        TimeSpec::new(metadata.st_atime, metadata.st_atime_nsec as _),
        TimeSpec::new(metadata.st_mtime, metadata.st_mtime_nsec as _),
    )
}

/// Those that the volume's file system takes.
fn copy_attributes(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    let mut names = vec![0_u8; MAX_ATTRIBUTES];
    // SAFETY: the kernel writes at most the length given.
    let length = unsafe { libc::flistxattr(from.as_raw_fd(), names.as_mut_ptr().cast(), names.len()) };
    let Ok(length) = usize::try_from(length) else {
        return match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENOTSUP) => Ok(()),
            error => Err(error),
        };
    };
    let mut value = vec![0_u8; MAX_ATTRIBUTES];
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        // overlayfs's own, of no meaning elsewhere.
        if name.to_bytes().starts_with(b"trusted.overlay.") {
            continue;
        }
        // SAFETY: a C string, and a buffer of the length given.
        let got = unsafe { libc::fgetxattr(from.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        let Ok(got) = usize::try_from(got) else { return Err(io::Error::last_os_error()) };
        // SAFETY: as above; the kernel only reads.
        let set = unsafe { libc::fsetxattr(to.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), got, 0) };
        if set != 0 {
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::ENOTSUP) {
                return Err(error);
            }
        }
    }
    Ok(())
}
