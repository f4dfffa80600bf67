//! Mounts that are nowhere yet: taken of a path, changed, then put where they belong, by descriptors all the way, so
//! that nothing is looked up twice (open_tree(2), mount_setattr(2), move_mount(2)).

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::{FsFlags, fstatvfs};

const OPEN_TREE_CLONE: libc::c_int = 1;
const AT_RECURSIVE: libc::c_int = 0x8000;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_int = 4;
const MOVE_MOUNT_T_EMPTY_PATH: libc::c_int = 0x40;
const MOUNT_ATTR_RDONLY: u64 = 1;
const MS_PRIVATE: u64 = 1 << 18;

/// The kernel's `struct mount_attr`, first version.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// A copy of mounts, attached nowhere or by `put`.
pub(crate) struct Tree {
    descriptor: OwnedFd,
    /// Still to be made so, when it is attached.
    read_only_later: bool,
}

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// A copy of the mounts at and below `path`, attached nowhere, which lets nothing out or in.
pub(crate) fn take(path: &Path, read_only: bool) -> io::Result<Tree> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let flags = OPEN_TREE_CLONE | AT_RECURSIVE | libc::O_CLOEXEC;
    // SAFETY: a C string that outlives the call, and flags.
    let tree = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, name.as_ptr(), flags) };
    if tree < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else owns it.
    let descriptor = unsafe { OwnedFd::from_raw_fd(i32::try_from(tree).expect("descriptors are small numbers")) };
    match set_attributes(descriptor.as_fd(), read_only) {
        Ok(()) => Ok(Tree { descriptor, read_only_later: false }),
        // Before Linux 5.12. The launcher's mounts are private already, and so are copies of them.
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(Tree { descriptor, read_only_later: read_only }),
        Err(error) => Err(error),
    }
}

fn set_attributes(tree: BorrowedFd<'_>, read_only: bool) -> io::Result<()> {
    let set = if read_only { MOUNT_ATTR_RDONLY } else { 0 };
    let attributes = MountAttributes { set, clear: 0, propagation: MS_PRIVATE, user_namespace: 0 };
    // SAFETY: an empty C string, and a struct of the size given, which both outlive the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | AT_RECURSIVE,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Puts a tree on what `target` is.
pub(super) fn put(tree: &Tree, target: BorrowedFd<'_>) -> io::Result<()> {
    attach(tree.as_fd(), target)?;
    if tree.read_only_later { make_read_only(tree.as_fd()) } else { Ok(()) }
}

/// Puts mounts that are attached nowhere on what `target` is.
pub(crate) fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    let (from, to) = (tree.as_raw_fd(), target.as_raw_fd());
    // SAFETY: descriptors, empty C strings and flags.
    let answer = unsafe { libc::syscall(libc::SYS_move_mount, from, c"".as_ptr(), to, c"".as_ptr(), flags) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// As older kernels do it: what is mounted below stays as it is, as with Docker there.
fn make_read_only(tree: BorrowedFd<'_>) -> io::Result<()> {
    let kept = [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
    ];
    let has = fstatvfs(tree)?.flags();
    let kept = kept.iter().filter(|(flag, _)| has.contains(*flag)).map(|(_, flag)| *flag);
    let flags = kept.fold(MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY, MsFlags::union);
    let path = format!("/proc/self/fd/{}", tree.as_raw_fd());
    Ok(mount(None::<&str>, path.as_str(), None::<&str>, flags, None::<&str>)?)
}
