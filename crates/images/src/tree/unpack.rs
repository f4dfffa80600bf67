//! An archive as files in a directory that may hold others.
//!
//! A file takes the place of a file or a link; nothing takes the place of a directory, and a directory only that of
//! nothing. What this leaves on the way when it fails stays, as with tar.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Statx, StatxFlags, Uid};
use rustix::io::Errno;

use super::{Copied, TreeError};
use crate::extract::parents::{self, Parents};
use crate::extract::{
    ExtractError, Name, PENDING_OVERHEAD, cannot, name, refused, set_metadata, shown, times, write_data,
};
use crate::limits::{MAX_DIRECTORY_BYTES, MAX_PATH_BYTES};
use crate::tar::{self, Entry, Kind};

/// Whether device files of the archive are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Devices {
    Make,
    /// They are told of in the notes: who owns the archive is not who owns the machine.
    LeaveOut,
}

pub struct Destination {
    /// No link leads out of it.
    pub root: OwnedFd,
    /// Below the root, without `..`: where the archive's names begin.
    pub prefix: Vec<u8>,
    pub devices: Devices,
}

/// Reads the archive to its end.
///
/// # Errors
/// It is no tar archive, has a name that leads elsewhere, or a file cannot be made.
pub fn unpack(from: &mut dyn Read, into: Destination) -> Result<Copied, TreeError> {
    let mut archive = tar::Reader::new(from);
    let mut unpacker = Unpacker {
        parents: Parents::new(into.root),
        devices: into.devices,
        directories: Vec::new(),
        directory_bytes: 0,
        copied: Copied::default(),
    };
    while let Some(mut entry) = archive.next().map_err(ExtractError::from)? {
        if !into.prefix.is_empty() {
            entry.path = [&into.prefix[..], &entry.path].join(&b'/');
            if entry.kind == Kind::HardLink {
                entry.link = [&into.prefix[..], &entry.link].join(&b'/');
            }
        }
        unpacker.copied.entries += 1;
        unpacker.copied.bytes = unpacker.copied.bytes.saturating_add(entry.size);
        unpacker.entry(&mut archive, &entry)?;
    }
    archive.drain().map_err(ExtractError::from)?;
    unpacker.finish_directories()?;
    Ok(unpacker.copied)
}

struct Unpacker {
    parents: Parents,
    devices: Devices,
    /// Their owner, mode and times are set last: writing into them changes the times.
    directories: Vec<Entry>,
    directory_bytes: usize,
    copied: Copied,
}

impl Unpacker {
    fn entry<R: Read>(&mut self, archive: &mut tar::Reader<R>, entry: &Entry) -> Result<(), ExtractError> {
        let at = name(&entry.path, &entry.path)?;
        if at.last.is_empty() {
            return match entry.kind {
                // `./`, as tar itself begins: the directory is there.
                Kind::Directory => Ok(()),
                _ => Err(refused(&entry.path, "it has no name")),
            };
        }
        match entry.kind {
            Kind::File => self.file(archive, entry, &at),
            Kind::Directory => self.directory(entry, &at),
            Kind::Symlink => {
                if entry.link.is_empty() || entry.link.contains(&0) || entry.link.len() > MAX_PATH_BYTES {
                    return Err(refused(&entry.path, "its target is empty, longer than 4095 bytes or has a NUL"));
                }
                self.make(entry, &at, |parent, last| rustix::fs::symlinkat(&entry.link[..], parent, last))?;
                self.set_metadata_by_name(entry, &at)
            }
            Kind::HardLink => self.hard_link(entry, &at),
            Kind::CharDevice | Kind::BlockDevice if self.devices == Devices::LeaveOut => {
                self.copied.note(format!("{:?}: a device is left out", shown(&entry.path)));
                Ok(())
            }
            Kind::CharDevice => self.special(entry, &at, FileType::CharacterDevice),
            Kind::BlockDevice => self.special(entry, &at, FileType::BlockDevice),
            Kind::Fifo => self.special(entry, &at, FileType::Fifo),
        }
    }

    fn file<R: Read>(&mut self, archive: &mut tar::Reader<R>, entry: &Entry, at: &Name) -> Result<(), ExtractError> {
        let path = &entry.path[..];
        let new = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = self.make(entry, at, |parent, last| rustix::fs::openat(parent, last, new, Mode::RUSR | Mode::WUSR));
        let file = match made {
            Ok(file) => file,
            // A file that something is mounted on, such as /etc/hosts of a container, is written where it is.
            Err(ExtractError::Io { source, .. }) if source.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => {
                let old = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let parent = self.parents.open(&at.parent, path)?;
                rustix::fs::openat(parent, &at.last[..], old, Mode::empty()).map_err(cannot("write over", path))?
            }
            Err(error) => return Err(error),
        };
        let file = File::from(file);
        write_data(archive, entry, &file)?;
        set_metadata(file.as_fd(), entry)
    }

    fn directory(&mut self, entry: &Entry, at: &Name) -> Result<(), ExtractError> {
        let path = &entry.path[..];
        let parent = self.parents.open(&at.parent, path)?;
        match rustix::fs::mkdirat(parent, &at.last[..], Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let there = rustix::fs::statat(parent, &at.last[..], AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(cannot("look at", path))?;
                match FileType::from_raw_mode(there.st_mode) {
                    FileType::Directory => {}
                    // A link to a directory stays, and what the archive has goes where it leads.
                    FileType::Symlink => {
                        let through =
                            if at.parent.is_empty() { at.last.clone() } else { [&at.parent[..], &at.last].join(&b'/') };
                        self.parents.open_existing(&through, path)?;
                        return Ok(());
                    }
                    _ => return Err(refused(path, "a directory would take the place of something else")),
                }
            }
            Err(error) => return Err(cannot("make", path)(error)),
        }
        let xattrs: usize = entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.directory_bytes += entry.path.len() + xattrs + PENDING_OVERHEAD;
        if self.directory_bytes > MAX_DIRECTORY_BYTES {
            return Err(ExtractError::TooLarge { what: "bytes of directory names", limit: MAX_DIRECTORY_BYTES as u64 });
        }
        self.directories.push(entry.clone());
        Ok(())
    }

    fn hard_link(&mut self, entry: &Entry, at: &Name) -> Result<(), ExtractError> {
        let path = &entry.path[..];
        let target = name(&entry.link, path)?;
        if target.last.is_empty() {
            return Err(refused(path, "it is a hard link to a directory"));
        }
        let target_parent = self.parents.open_existing(&target.parent, path)?;
        let there = rustix::fs::statat(&target_parent, &target.last[..], AtFlags::SYMLINK_NOFOLLOW)
            .map_err(cannot("look at the target of", path))?;
        let parent = self.parents.open(&at.parent, path)?;
        if let Ok(same) = rustix::fs::statat(parent, &at.last[..], AtFlags::SYMLINK_NOFOLLOW)
            && (same.st_dev, same.st_ino) == (there.st_dev, there.st_ino)
        {
            return Ok(());
        }
        self.make(entry, at, |parent, last| {
            rustix::fs::linkat(&target_parent, &target.last[..], parent, last, AtFlags::empty())
        })
    }

    fn special(&mut self, entry: &Entry, at: &Name, kind: FileType) -> Result<(), ExtractError> {
        let device = rustix::fs::makedev(entry.device.0, entry.device.1);
        // The mode is right from the beginning: a name may be somebody else's by the time it would be set.
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        self.make(entry, at, |parent, last| rustix::fs::mknodat(parent, last, kind, mode, device))?;
        self.set_metadata_by_name(entry, at)
    }

    /// Owner and times of what cannot be opened: a symbolic link or a special file. Links are not followed.
    fn set_metadata_by_name(&mut self, entry: &Entry, at: &Name) -> Result<(), ExtractError> {
        let path = &entry.path[..];
        let parent = self.parents.open(&at.parent, path)?;
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        rustix::fs::chownat(parent, &at.last[..], Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(cannot("set the owner of", path))?;
        rustix::fs::utimensat(parent, &at.last[..], &times(entry), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(cannot("set the times of", path))
    }

    /// Makes something where nothing is, or where a file or a link gives way.
    fn make<T>(
        &mut self,
        entry: &Entry,
        at: &Name,
        mut with: impl FnMut(BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, ExtractError> {
        let path = &entry.path[..];
        let parent = self.parents.open(&at.parent, path)?;
        match with(parent, &at.last) {
            Err(Errno::EXIST) => {}
            result => return result.map_err(cannot("make", path)),
        }
        if is_mounted_on(parent, &at.last) {
            return Err(cannot("replace", path)(Errno::BUSY));
        }
        match rustix::fs::unlinkat(parent, &at.last[..], AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => return Err(refused(path, "it would take the place of a directory")),
            Err(error) => return Err(cannot("replace", path)(error)),
        }
        // The walk to a later parent may lead through the link that is gone now.
        self.parents.forget();
        let parent = self.parents.open(&at.parent, path)?;
        with(parent, &at.last).map_err(cannot("make", path))
    }

    fn finish_directories(&mut self) -> Result<(), ExtractError> {
        for entry in std::mem::take(&mut self.directories) {
            let path = &entry.path[..];
            let at = name(path, path)?;
            let parent = self.parents.open(&at.parent, path)?;
            let directory = match parents::directory(parent, &at.last) {
                Ok(directory) => directory,
                // It became something else meanwhile.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(error) => return Err(cannot("open", path)(error)),
            };
            set_metadata(directory.as_fd(), &entry)?;
        }
        Ok(())
    }
}

/// In the mount namespace of the directory, which need not be ours: there the kernel would not refuse to unlink what
/// something is mounted on, and would take the mount away with it (Linux, `vfs_unlink`).
fn is_mounted_on(parent: BorrowedFd<'_>, last: &[u8]) -> bool {
    let look = |path: &[u8], flags| rustix::fs::statx(parent, path, flags | AtFlags::NO_AUTOMOUNT, StatxFlags::MNT_ID);
    match (look(b"", AtFlags::EMPTY_PATH), look(last, AtFlags::SYMLINK_NOFOLLOW)) {
        (Ok(directory), Ok(file)) => {
            let told = directory.stx_mask & file.stx_mask & StatxFlags::MNT_ID.bits() != 0;
            let device = |found: &Statx| (found.stx_dev_major, found.stx_dev_minor);
            // Before Linux 5.8 mounts have no numbers here, but most are of another file system.
            if told { directory.stx_mnt_id != file.stx_mnt_id } else { device(&directory) != device(&file) }
        }
        // It went away meanwhile.
        (Err(_), _) | (_, Err(_)) => false,
    }
}
