//! Removes a tree of any depth with a bounded number of descriptors and no recursion.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

/// Directories held open at once. What lies deeper is first moved to the top.
const MAX_OPEN: usize = 64;

/// Removes a file or a whole directory; links are removed, never followed. What is not there is no error.
pub(crate) fn tree(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    let top = open(parent, name)?;
    let mut moved = 0u64;
    loop {
        empty(&top, &mut moved)?;
        // What was moved up during the pass is met by the next one.
        match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
}

struct Level {
    fd: OwnedFd,
    entries: Dir,
    name: Vec<u8>,
}

fn empty(top: &OwnedFd, moved: &mut u64) -> Result<(), Errno> {
    let mut levels = vec![level(open(top.as_fd(), b".")?, Vec::new())?];
    while let Some(current) = levels.last_mut() {
        let Some(entry) = current.entries.read() else {
            let done = levels.pop().expect("the loop holds one");
            if let Some(above) = levels.last() {
                match rustix::fs::unlinkat(&above.fd, &done.name[..], AtFlags::REMOVEDIR) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(error) => return Err(error),
                }
            }
            continue;
        };
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        match rustix::fs::unlinkat(&current.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error),
        }
        let name = name.to_vec();
        if levels.len() < MAX_OPEN {
            let below = open(levels[levels.len() - 1].fd.as_fd(), &name)?;
            levels.push(level(below, name)?);
        } else {
            move_up(levels[levels.len() - 1].fd.as_fd(), &name, top.as_fd(), moved)?;
        }
    }
    Ok(())
}

fn move_up(from: BorrowedFd<'_>, name: &[u8], top: BorrowedFd<'_>, moved: &mut u64) -> Result<(), Errno> {
    loop {
        *moved += 1;
        match rustix::fs::renameat_with(from, name, top, format!(".deep-{moved}"), RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            result => return result,
        }
    }
}

fn level(fd: OwnedFd, name: Vec<u8>) -> Result<Level, Errno> {
    let entries = Dir::read_from(&fd)?;
    Ok(Level { fd, entries, name })
}

fn open(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(
        parent,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}
