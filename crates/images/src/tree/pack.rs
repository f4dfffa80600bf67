//! A file or a directory with all that is in it, as an archive.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::{Copied, TreeError};
use crate::extract::{ExtractError, cannot, refused, shown, xattr};
use crate::inside;
use crate::limits::{BUFFER_BYTES, MAX_PATH_BYTES, MAX_PATH_DEPTH, MAX_XATTR_BYTES};
use crate::tar::{Entry, Kind, Time, Xattrs, encode, write};

/// File systems that show the kernel, not files (statfs(2)): they have no end worth copying. Those of proc, sysfs,
/// cgroup, cgroup2, devpts and mqueue.
const KERNELS_OWN: [u64; 6] = [0x9fa0, 0x6265_6572, 0x0027_e0eb, 0x6367_7270, 0x1cd1, 0x1980_0202];

/// What is read of a file there, which says of itself that it is empty.
const MAX_KERNEL_FILE_BYTES: u64 = 16 << 20;

/// Files with several names that are known again; what is beyond is copied as often as it has names.
const MAX_LINKED: usize = 1_000_000;

/// What becomes of a symbolic link that is the thing to copy. Links below it are always copied as links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    Follow,
    Keep,
}

#[derive(Clone, Debug)]
pub struct What {
    /// Below the root; links on the way are followed inside it.
    pub path: Vec<u8>,
    pub links: Links,
    /// What it is called in the archive; empty for the content of a directory, without the directory.
    pub name: Vec<u8>,
}

/// Writes the archive whole, with its end.
///
/// # Errors
/// There is no such file, it cannot be read, or `to` takes no more.
pub fn pack(root: BorrowedFd<'_>, what: &What, to: &mut dyn Write) -> Result<Copied, TreeError> {
    let mut packer = Packer { to, copied: Copied::default(), linked: HashMap::new(), buffer: vec![0; BUFFER_BYTES] };
    packer.top(root, what)?;
    write::end(packer.to).and_then(|()| packer.to.flush()).map_err(output(&what.name))?;
    Ok(packer.copied)
}

fn output(path: &[u8]) -> impl FnOnce(io::Error) -> ExtractError {
    let path = shown(path);
    move |source| ExtractError::Io { doing: "write the archive of", path, source }
}

struct Packer<'a> {
    to: &'a mut dyn Write,
    copied: Copied,
    /// Files with several names, by device and number, and the name that was written first.
    linked: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

impl Packer<'_> {
    fn top(&mut self, root: BorrowedFd<'_>, what: &What) -> Result<(), ExtractError> {
        let path = &what.path[..];
        let found = |flags| {
            let path: &[u8] = if path.is_empty() { b"." } else { path };
            inside::open(root, path, flags)
        };
        let keep = if what.links == Links::Keep { OFlags::NOFOLLOW } else { OFlags::empty() };
        let top = found(OFlags::PATH | keep).map_err(cannot("find", path))?;
        let stat = rustix::fs::fstat(&top).map_err(cannot("look at", path))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let directory = readable(top.as_fd(), path)?;
                self.directory(directory, &stat, &what.name, 0)
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | keep;
                self.file(found(flags), &stat, &what.name)
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(&top, "", Vec::new()).map_err(cannot("read the link", path))?;
                self.header(&Entry { link: target.into_bytes(), ..entry(&stat, &what.name, Kind::Symlink) })
            }
            _ => Err(refused(path, "only files, directories and links are copied by their own name")),
        }
    }

    fn directory(&mut self, directory: OwnedFd, stat: &Stat, name: &[u8], depth: usize) -> Result<(), ExtractError> {
        if !name.is_empty() {
            let xattrs = xattrs(directory.as_fd());
            self.header(&Entry { xattrs, ..entry(stat, name, Kind::Directory) })?;
        }
        if depth > MAX_PATH_DEPTH || name.len() > MAX_PATH_BYTES {
            return Err(refused(name, "it is more than 256 directories deep, or its path longer than 4095 bytes"));
        }
        let mut names = Vec::new();
        let list = Dir::read_from(&directory).map_err(cannot("list", name))?;
        for child in list {
            let child = child.map_err(cannot("list", name))?.file_name().to_bytes().to_vec();
            if child != b"." && child != b".." {
                names.push(child);
            }
        }
        names.sort_unstable();
        for child in names {
            let path = if name.is_empty() { child.clone() } else { [name, &child[..]].join(&b'/') };
            let found = rustix::fs::statat(&directory, &child[..], AtFlags::SYMLINK_NOFOLLOW);
            match found {
                Ok(found) => self.child(directory.as_fd(), &child, &found, &path, (stat.st_dev, depth))?,
                // It went away meanwhile.
                Err(Errno::NOENT) => {}
                Err(error) => return Err(cannot("look at", &path)(error)),
            }
        }
        Ok(())
    }

    fn child(
        &mut self,
        directory: BorrowedFd<'_>,
        child: &[u8],
        stat: &Stat,
        path: &[u8],
        (device, depth): (u64, usize),
    ) -> Result<(), ExtractError> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory && stat.st_nlink > 1 {
            if let Some(first) = self.linked.get(&(stat.st_dev, stat.st_ino)) {
                let link = first.clone();
                return self.header(&Entry { link, size: 0, ..entry(stat, path, Kind::HardLink) });
            }
            if self.linked.len() < MAX_LINKED {
                self.linked.insert((stat.st_dev, stat.st_ino), path.to_vec());
            }
        }
        match kind {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match rustix::fs::openat(directory, child, flags, Mode::empty()) {
                    Ok(inner) if stat.st_dev != device && is_kernels_own(inner.as_fd()) => {
                        self.copied.note(format!("{:?}: what the kernel shows there is left out", shown(path)));
                        self.header(&entry(stat, path, Kind::Directory))
                    }
                    Ok(inner) => self.directory(inner, stat, path, depth + 1),
                    // It went away, or became something else, meanwhile.
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
                    Err(error) => Err(cannot("open", path)(error)),
                }
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                self.file(rustix::fs::openat(directory, child, flags, Mode::empty()), stat, path)
            }
            FileType::Symlink => match rustix::fs::readlinkat(directory, child, Vec::new()) {
                Ok(target) => self.header(&Entry { link: target.into_bytes(), ..entry(stat, path, Kind::Symlink) }),
                Err(Errno::NOENT | Errno::INVAL) => Ok(()),
                Err(error) => Err(cannot("read the link", path)(error)),
            },
            FileType::CharacterDevice => self.header(&entry(stat, path, Kind::CharDevice)),
            FileType::BlockDevice => self.header(&entry(stat, path, Kind::BlockDevice)),
            FileType::Fifo => self.header(&entry(stat, path, Kind::Fifo)),
            FileType::Socket | FileType::Unknown => {
                self.copied.note(format!("{:?}: a socket is left out", shown(path)));
                Ok(())
            }
        }
    }

    /// As many bytes as it has now: a file that grows is cut, one that shrinks ends in zeros and is told of.
    fn file(&mut self, opened: Result<OwnedFd, Errno>, seen: &Stat, path: &[u8]) -> Result<(), ExtractError> {
        let file = match opened {
            Ok(file) => file,
            // It went away, or became something else, meanwhile.
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(()),
            Err(error) => return Err(cannot("open", path)(error)),
        };
        let stat = rustix::fs::fstat(&file).map_err(cannot("look at", path))?;
        // What was opened is what counts: a container may have exchanged it.
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_ino != seen.st_ino {
            self.copied.note(format!("{:?}: it changed while it was copied, and is left out", shown(path)));
            return Ok(());
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if size == 0 && is_kernels_own(file.as_fd()) {
            return self.kernel_file(file, &stat, path);
        }
        let xattrs = xattrs(file.as_fd());
        self.header(&Entry { size, xattrs, ..entry(&stat, path, Kind::File) })?;
        self.copied.bytes += size;
        let mut file = std::fs::File::from(file).take(size);
        let mut left = size;
        while left > 0 {
            let read = file.read(&mut self.buffer);
            let read = read.map_err(|source| ExtractError::Io { doing: "read", path: shown(path), source })?;
            if read == 0 {
                break;
            }
            self.to.write_all(&self.buffer[..read]).map_err(output(path))?;
            left -= read as u64;
        }
        if left > 0 {
            self.copied.note(format!("{:?}: it became shorter while it was copied, and ends in zeros", shown(path)));
            io::copy(&mut io::repeat(0).take(left), &mut self.to).map_err(output(path))?;
        }
        write::pad(self.to, size).map_err(output(path))
    }

    fn kernel_file(&mut self, file: OwnedFd, stat: &Stat, path: &[u8]) -> Result<(), ExtractError> {
        let mut content = Vec::new();
        let read = std::fs::File::from(file).take(MAX_KERNEL_FILE_BYTES).read_to_end(&mut content);
        read.map_err(|source| ExtractError::Io { doing: "read", path: shown(path), source })?;
        let size = content.len() as u64;
        self.header(&Entry { size, ..entry(stat, path, Kind::File) })?;
        self.copied.bytes += size;
        self.to.write_all(&content).and_then(|()| write::pad(self.to, size)).map_err(output(path))
    }

    fn header(&mut self, entry: &Entry) -> Result<(), ExtractError> {
        self.copied.entries += 1;
        encode::member(self.to, entry).map_err(output(&entry.path))
    }
}

fn readable(directory: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, ExtractError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(directory, ".", flags, Mode::empty()).map_err(cannot("open", path))
}

fn is_kernels_own(directory: BorrowedFd<'_>) -> bool {
    // One that does not tell is copied as any other.
    rustix::fs::fstatfs(directory)
        .is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|kind| KERNELS_OWN.contains(&kind)))
}

fn entry(stat: &Stat, path: &[u8], kind: Kind) -> Entry {
    let device = match kind {
        Kind::CharDevice | Kind::BlockDevice => (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)),
        Kind::File | Kind::HardLink | Kind::Symlink | Kind::Directory | Kind::Fifo => (0, 0),
    };
    Entry {
        path: path.to_vec(),
        kind,
        link: Vec::new(),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: Time { seconds: stat.st_mtime, nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0) },
        size: 0,
        device,
        xattrs: Vec::new(),
        sparse: None,
    }
}

/// Those that a copy keeps. A file system without attributes has none.
fn xattrs(file: BorrowedFd<'_>) -> Xattrs {
    let mut names = vec![0; MAX_XATTR_BYTES];
    let Ok(length) = rustix::fs::flistxattr(file, &mut names[..]) else { return Xattrs::new() };
    let mut found = Xattrs::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| xattr::is_kept(name)) {
        let mut value = vec![0; MAX_XATTR_BYTES];
        if let Ok(length) = rustix::fs::fgetxattr(file, name, &mut value[..]) {
            value.truncate(length);
            found.push((name.to_vec(), value));
        }
    }
    found
}
