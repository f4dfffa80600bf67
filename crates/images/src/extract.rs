//! Writes one layer's archive into a directory of its own, as overlayfs wants to find it.
//!
//! Nothing is ever made, changed or removed outside the root given: parents are walked component by component from the
//! root's descriptor without following links, a link on the way is resolved by openat2 inside the root only, and the last
//! component is never followed. Whiteouts become overlayfs's, and only we may write those: what an archive brings of
//! them by other ways is refused or dropped.

pub(crate) mod parents;
pub(crate) mod remove;
pub(crate) mod xattr;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::limits::{MAX_DIRECTORY_BYTES, MAX_LAYER_BYTES, MAX_LAYER_ENTRIES, MAX_PATH_BYTES, MAX_PATH_DEPTH};
use crate::tar::{self, Entry, Kind, TarError};
use parents::Parents;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// AUFS kept its own bookkeeping under this prefix; every unpacker leaves it out.
const AUFS: &[u8] = b".wh..wh.";
/// What a directory costs in memory beside its path while its mode and times wait for the end.
pub(crate) const PENDING_OVERHEAD: usize = 128;

/// What came out of a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extracted {
    pub(crate) entries: u64,
    /// Logical sizes of its files.
    pub(crate) bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ExtractError {
    #[error(transparent)]
    Archive(#[from] TarError),
    #[error("member {path:?} is refused: {why}")]
    Refused { path: PathBuf, why: String },
    #[error("more than {limit} {what}, which is this host's limit for a layer")]
    TooLarge { what: &'static str, limit: u64 },
    #[error("cannot {doing} {path:?}")]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Reads the archive to its end, and the stream behind it too.
pub(crate) fn extract<R: Read>(archive: &mut tar::Reader<R>, root: OwnedFd) -> Result<Extracted, ExtractError> {
    let mut extractor = Extractor {
        parents: Parents::new(root),
        directories: Vec::new(),
        directory_bytes: 0,
        extracted: Extracted::default(),
    };
    while let Some(entry) = archive.next()? {
        extractor.extracted.entries += 1;
        extractor.extracted.bytes = extractor.extracted.bytes.saturating_add(entry.size);
        if extractor.extracted.entries > MAX_LAYER_ENTRIES {
            return Err(ExtractError::TooLarge { what: "files, directories and links", limit: MAX_LAYER_ENTRIES });
        }
        if extractor.extracted.bytes > MAX_LAYER_BYTES {
            return Err(ExtractError::TooLarge { what: "bytes of files", limit: MAX_LAYER_BYTES });
        }
        extractor.entry(archive, &entry)?;
    }
    archive.drain()?;
    extractor.finish_directories()?;
    Ok(extractor.extracted)
}

struct Extractor {
    parents: Parents,
    /// Directories whose owner, mode, attributes and times are set last: writing into them would change the times, and
    /// a set-group-id directory would hand its group on.
    directories: Vec<Entry>,
    directory_bytes: usize,
    extracted: Extracted,
}

/// A member's name: its parent and the last component, which is empty for the root itself.
pub(crate) struct Name {
    pub(crate) parent: Vec<u8>,
    pub(crate) last: Vec<u8>,
}

pub(crate) fn shown(path: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(&path[..path.len().min(300)]))
}

pub(crate) fn refused(path: &[u8], why: &str) -> ExtractError {
    ExtractError::Refused { path: shown(path), why: why.to_owned() }
}

pub(crate) fn cannot(doing: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> ExtractError {
    let path = shown(path);
    move |source| ExtractError::Io { doing, path, source: source.into() }
}

/// Without leading and doubled slashes and `.`; `..` is refused rather than interpreted.
pub(crate) fn name(path: &[u8], of: &[u8]) -> Result<Name, ExtractError> {
    if path.len() > MAX_PATH_BYTES {
        return Err(refused(of, "its path is longer than 4095 bytes"));
    }
    if path.contains(&0) {
        return Err(refused(of, "its path has a NUL"));
    }
    let mut parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    if parts.contains(&&b".."[..]) {
        return Err(refused(of, "its path has a \"..\""));
    }
    if parts.len() > MAX_PATH_DEPTH {
        return Err(refused(of, "its path is more than 256 directories deep"));
    }
    let last = parts.pop().unwrap_or_default().to_vec();
    Ok(Name { parent: parts.join(&b'/'), last })
}

impl Extractor {
    fn entry<R: Read>(&mut self, archive: &mut tar::Reader<R>, entry: &Entry) -> Result<(), ExtractError> {
        let name = name(&entry.path, &entry.path)?;
        if name.last.is_empty() {
            return match entry.kind {
                Kind::Directory => self.remember_directory(entry),
                _ if entry.path.is_empty() => Err(refused(&entry.path, "its path is empty")),
                _ => Err(refused(&entry.path, "the root of a layer can only be a directory")),
            };
        }
        if name.last.starts_with(WHITEOUT) {
            return self.whiteout(entry, &name);
        }
        match entry.kind {
            Kind::File => self.file(archive, entry, &name),
            Kind::Directory => self.directory(entry, &name),
            Kind::Symlink => self.symlink(entry, &name),
            Kind::HardLink => self.hard_link(entry, &name),
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => self.special(entry, &name),
        }
    }

    fn file<R: Read>(&mut self, archive: &mut tar::Reader<R>, entry: &Entry, name: &Name) -> Result<(), ExtractError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            self.make(entry, name, |parent, last| rustix::fs::openat(parent, last, flags, Mode::RUSR | Mode::WUSR))?;
        let file = File::from(file);
        write_data(archive, entry, &file)?;
        let path = &entry.path[..];
        if (entry.uid, entry.gid) != (0, 0) {
            rustix::fs::fchown(&file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
                .map_err(cannot("set the owner of", path))?;
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(entry.mode)).map_err(cannot("set the mode of", path))?;
        xattr::set(file.as_fd(), entry)?;
        rustix::fs::futimens(&file, &times(entry)).map_err(cannot("set the times of", path))
    }

    fn directory(&mut self, entry: &Entry, name: &Name) -> Result<(), ExtractError> {
        let parent = self.parents.open(&name.parent, &entry.path)?;
        let last = &name.last[..];
        match rustix::fs::mkdirat(parent, last, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let there = rustix::fs::statat(parent, last, AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(cannot("look at", &entry.path))?;
                if FileType::from_raw_mode(there.st_mode) != FileType::Directory {
                    // A directory made where this layer also deletes one hides everything that was in the deleted one.
                    let opaque = is_whiteout(&there);
                    let parent = self.replace(entry, name)?;
                    rustix::fs::mkdirat(parent, last, Mode::RWXU).map_err(cannot("make", &entry.path))?;
                    if opaque {
                        let made = parents::directory(parent, last).map_err(cannot("open", &entry.path))?;
                        xattr::make_opaque(made.as_fd(), &entry.path)?;
                    }
                }
            }
            Err(error) => return Err(cannot("make", &entry.path)(error)),
        }
        self.remember_directory(entry)
    }

    fn symlink(&mut self, entry: &Entry, name: &Name) -> Result<(), ExtractError> {
        let path = &entry.path[..];
        if entry.link.is_empty() || entry.link.contains(&0) || entry.link.len() > MAX_PATH_BYTES {
            return Err(refused(path, "its link target is empty, longer than 4095 bytes or has a NUL"));
        }
        self.make(entry, name, |parent, last| rustix::fs::symlinkat(&entry.link[..], parent, last))?;
        self.set_link_metadata(entry, name)
    }

    /// Owner and times of what cannot be opened: a symbolic link or a special file.
    fn set_link_metadata(&mut self, entry: &Entry, name: &Name) -> Result<(), ExtractError> {
        let path = &entry.path[..];
        let parent = self.parents.open(&name.parent, path)?;
        if (entry.uid, entry.gid) != (0, 0) {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            rustix::fs::chownat(parent, &name.last[..], Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(cannot("set the owner of", path))?;
        }
        if entry.kind != Kind::Symlink {
            // We made it a moment ago and nobody else knows this directory, so it is no link.
            rustix::fs::chmodat(parent, &name.last[..], Mode::from_raw_mode(entry.mode), AtFlags::empty())
                .map_err(cannot("set the mode of", path))?;
        }
        rustix::fs::utimensat(parent, &name.last[..], &times(entry), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(cannot("set the times of", path))
    }

    fn hard_link(&mut self, entry: &Entry, at: &Name) -> Result<(), ExtractError> {
        let path = &entry.path[..];
        let target = name(&entry.link, path)?;
        if target.last.is_empty() {
            return Err(refused(path, "it is a hard link to the root"));
        }
        let target_parent = self.parents.open_existing(&target.parent, path)?;
        let there = match rustix::fs::statat(&target_parent, &target.last[..], AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) => there,
            Err(Errno::NOENT | Errno::NOTDIR) => {
                return Err(refused(
                    path,
                    &format!("it is a hard link to {:?}, which this layer does not have", shown(&entry.link)),
                ));
            }
            Err(error) => return Err(cannot("look at the target of", path)(error)),
        };
        match FileType::from_raw_mode(there.st_mode) {
            FileType::RegularFile | FileType::Symlink => {}
            _ => {
                return Err(refused(path, "it is a hard link to something that is neither a file nor a symbolic link"));
            }
        }
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

    /// Devices are made as Docker makes them; the device cgroup of a container decides who may open them.
    fn special(&mut self, entry: &Entry, name: &Name) -> Result<(), ExtractError> {
        let kind = match entry.kind {
            Kind::CharDevice if entry.device == (0, 0) => {
                return Err(refused(
                    &entry.path,
                    "a character device 0:0 is overlayfs's whiteout, which only \".wh.\" names may make",
                ));
            }
            Kind::CharDevice => FileType::CharacterDevice,
            Kind::BlockDevice => FileType::BlockDevice,
            Kind::Fifo => FileType::Fifo,
            Kind::File | Kind::Directory | Kind::Symlink | Kind::HardLink => {
                unreachable!("entry() sends only special files")
            }
        };
        let device = rustix::fs::makedev(entry.device.0, entry.device.1);
        self.make(entry, name, |parent, last| {
            rustix::fs::mknodat(parent, last, kind, Mode::RUSR | Mode::WUSR, device)
        })?;
        self.set_link_metadata(entry, name)
    }

    fn whiteout(&mut self, entry: &Entry, name: &Name) -> Result<(), ExtractError> {
        let path = &entry.path[..];
        if name.last == OPAQUE {
            let parent = self.parents.open(&name.parent, path)?;
            let directory = parents::directory(parent, b".").map_err(cannot("open the directory of", path))?;
            return xattr::make_opaque(directory.as_fd(), path);
        }
        if name.last.starts_with(AUFS) {
            return Ok(());
        }
        let hidden = &name.last[WHITEOUT.len()..];
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(refused(path, "a whiteout must name a file"));
        }
        let parent = self.parents.open(&name.parent, path)?;
        match rustix::fs::mknodat(parent, hidden, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => Ok(()),
            // A whiteout speaks of the layers below. A file of this very layer stays, and a directory of it hides what
            // the lower one held.
            Err(Errno::EXIST) => match parents::directory(parent, hidden) {
                Ok(directory) => xattr::make_opaque(directory.as_fd(), path),
                Err(Errno::NOTDIR | Errno::LOOP) => Ok(()),
                Err(error) => Err(cannot("open what is hidden by", path)(error)),
            },
            Err(error) => Err(cannot("make the whiteout", path)(error)),
        }
    }

    /// Makes something that must not be there yet; what is there from an earlier member of the archive gives way.
    fn make<T>(
        &mut self,
        entry: &Entry,
        name: &Name,
        mut with: impl FnMut(BorrowedFd<'_>, &[u8]) -> Result<T, Errno>,
    ) -> Result<T, ExtractError> {
        let parent = self.parents.open(&name.parent, &entry.path)?;
        match with(parent, &name.last) {
            Ok(made) => Ok(made),
            Err(Errno::EXIST) => {
                let parent = self.replace(entry, name)?;
                with(parent, &name.last).map_err(cannot("make", &entry.path))
            }
            Err(error) => Err(cannot("make", &entry.path)(error)),
        }
    }

    fn replace(&mut self, entry: &Entry, name: &Name) -> Result<BorrowedFd<'_>, ExtractError> {
        let parent = self.parents.open(&name.parent, &entry.path)?;
        remove::tree(parent, &name.last).map_err(cannot("replace", &entry.path))?;
        // The walk to some later parent may lead through what is gone now.
        self.parents.forget();
        self.parents.open(&name.parent, &entry.path)
    }

    fn remember_directory(&mut self, entry: &Entry) -> Result<(), ExtractError> {
        let xattrs: usize = entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.directory_bytes += entry.path.len() + entry.link.len() + xattrs + PENDING_OVERHEAD;
        if self.directory_bytes > MAX_DIRECTORY_BYTES {
            return Err(ExtractError::TooLarge { what: "bytes of directory names", limit: MAX_DIRECTORY_BYTES as u64 });
        }
        self.directories.push(entry.clone());
        Ok(())
    }

    fn finish_directories(&mut self) -> Result<(), ExtractError> {
        for entry in std::mem::take(&mut self.directories) {
            let path = &entry.path[..];
            let name = name(path, path)?;
            let last: &[u8] = if name.last.is_empty() { b"." } else { &name.last };
            let parent = self.parents.open(&name.parent, path)?;
            let directory = match parents::directory(parent, last) {
                Ok(directory) => directory,
                // A later member took its place.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(error) => return Err(cannot("open", path)(error)),
            };
            set_metadata(directory.as_fd(), &entry)?;
        }
        Ok(())
    }
}

/// Owner, mode, attributes and times of what is open.
pub(crate) fn set_metadata(of: BorrowedFd<'_>, entry: &Entry) -> Result<(), ExtractError> {
    let path = &entry.path[..];
    rustix::fs::fchown(of, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
        .map_err(cannot("set the owner of", path))?;
    rustix::fs::fchmod(of, Mode::from_raw_mode(entry.mode)).map_err(cannot("set the mode of", path))?;
    xattr::set(of, entry)?;
    rustix::fs::futimens(of, &times(entry)).map_err(cannot("set the times of", path))
}

pub(crate) fn write_data<R: Read>(
    archive: &mut tar::Reader<R>,
    entry: &Entry,
    file: &File,
) -> Result<(), ExtractError> {
    let failed = |source| ExtractError::Io { doing: "write", path: shown(&entry.path), source };
    let Some(segments) = &entry.sparse else {
        let mut at = 0;
        loop {
            let data = archive.data()?;
            if data.is_empty() {
                return Ok(());
            }
            file.write_all_at(data, at).map_err(failed)?;
            at += data.len() as u64;
        }
    };
    let mut segments = segments.iter().copied();
    let mut segment = tar::Segment { offset: 0, length: 0 };
    loop {
        let mut data = archive.data()?;
        if data.is_empty() {
            break;
        }
        while !data.is_empty() {
            while segment.length == 0 {
                segment = segments.next().expect("the reader checked that the map covers what is stored");
            }
            let length = segment.length.min(data.len() as u64);
            let (now, later) = data.split_at(usize::try_from(length).expect("no longer than the data"));
            file.write_all_at(now, segment.offset).map_err(failed)?;
            segment = tar::Segment { offset: segment.offset + length, length: segment.length - length };
            data = later;
        }
    }
    file.set_len(entry.size).map_err(failed)
}

fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// The access time is set to the modification time, as nobody has read the file yet.
pub(crate) fn times(entry: &Entry) -> Timestamps {
    let time = Timespec { tv_sec: entry.mtime.seconds, tv_nsec: entry.mtime.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}
