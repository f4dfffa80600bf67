//! Where in a container's root something is to be mounted: found, or made where it is missing. The root is an image's,
//! so every look-up is held inside by the kernel, links included, those that lead nowhere too.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::readlinkat;
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat};

use crate::inside::{self, FOLLOW};

/// As many links as the kernel follows in one look-up.
const MAX_LINKS: u32 = 40;

/// What the mount's source is, and so what has to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Directory,
    File,
}

/// The directory or file at `path` of the root, as a descriptor that only names it.
///
/// # Errors
/// A file where a directory is wanted or the other way round (`NotADirectory`, `IsADirectory`), a loop of links, a path
/// that leads to the root itself (`InvalidInput`), and whatever the file system says.
pub(super) fn find_or_make(root: BorrowedFd<'_>, path: &Path, wanted: Wanted) -> io::Result<OwnedFd> {
    let mut links = 0;
    let found = match wanted {
        Wanted::Directory => directory(root, path, &mut links)?,
        Wanted::File => file(root, path, &mut links)?,
    };
    if same(root, &found)? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it leads to the container's root"));
    }
    Ok(found)
}

/// The directory at `path`, if there is one, without making anything.
pub(super) fn find_directory(root: BorrowedFd<'_>, path: &Path) -> io::Result<Option<OwnedFd>> {
    match open(root, path, libc::O_RDONLY | libc::O_DIRECTORY) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn directory(root: BorrowedFd<'_>, path: &Path, links: &mut u32) -> io::Result<OwnedFd> {
    let mut done = PathBuf::from(".");
    let mut here = open(root, &done, libc::O_PATH | libc::O_DIRECTORY)?;
    for part in path.components() {
        let name = match part {
            Component::Normal(name) => name,
            Component::ParentDir => "..".as_ref(),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
        };
        let before = done.clone();
        done.push(name);
        here = match open(root, &done, libc::O_PATH | libc::O_DIRECTORY) {
            Ok(next) => next,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match mkdirat(&here, name, Mode::from_bits_truncate(0o755)) {
                    Ok(()) => open(root, &done, libc::O_PATH | libc::O_DIRECTORY)?,
                    // A link that leads nowhere: what it names is made.
                    Err(Errno::EEXIST) => directory(root, &named_by(&here, &before, Path::new(name), links)?, links)?,
                    Err(errno) => return Err(errno.into()),
                }
            }
            Err(error) => return Err(error),
        };
    }
    Ok(here)
}

fn file(root: BorrowedFd<'_>, path: &Path, links: &mut u32) -> io::Result<OwnedFd> {
    match open(root, &Path::new(".").join(path.strip_prefix("/").unwrap_or(path)), libc::O_PATH) {
        Ok(found) if kind(&found)? == SFlag::S_IFDIR => Err(Errno::EISDIR.into()),
        Ok(found) => Ok(found),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_file(root, path, links),
        Err(error) => Err(error),
    }
}

fn make_file(root: BorrowedFd<'_>, path: &Path, links: &mut u32) -> io::Result<OwnedFd> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = directory(root, parent, links)?;
    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | libc::O_WRONLY | libc::O_CLOEXEC;
    let c_name = CString::new(name.as_bytes())?;
    // SAFETY: a descriptor, a C string that outlives the call, and numbers.
    let made = unsafe { libc::openat(folder.as_raw_fd(), c_name.as_ptr(), flags, 0o644) };
    if made >= 0 {
        // SAFETY: the kernel has just made this descriptor, and nobody else owns it.
        return Ok(unsafe { OwnedFd::from_raw_fd(made) });
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::AlreadyExists => {
            let leads_to = named_by(&folder, parent, Path::new(name), links)?;
            file(root, &leads_to, links)
        }
        error => Err(error),
    }
}

/// The path that the link `name` in `folder`, which is at `before`, names.
fn named_by(folder: &OwnedFd, before: &Path, name: &Path, links: &mut u32) -> io::Result<PathBuf> {
    *links += 1;
    if *links > MAX_LINKS {
        return Err(Errno::ELOOP.into());
    }
    // Not a link: somebody has made it meanwhile, which nobody should.
    let named = readlinkat(folder, name).map_err(|errno| match errno {
        Errno::EINVAL => io::Error::from(Errno::EEXIST),
        errno => errno.into(),
    })?;
    Ok(if Path::new(&named).is_absolute() { PathBuf::from(named) } else { before.join(named) })
}

fn open(root: BorrowedFd<'_>, path: &Path, flags: i32) -> io::Result<OwnedFd> {
    let text = path.to_str().ok_or(io::ErrorKind::InvalidInput)?;
    inside::open(root, text.trim_start_matches('/'), flags, FOLLOW)
}

fn kind(found: &OwnedFd) -> io::Result<SFlag> {
    Ok(SFlag::from_bits_truncate(fstat(found)?.st_mode) & SFlag::S_IFMT)
}

fn same(root: BorrowedFd<'_>, found: &OwnedFd) -> io::Result<bool> {
    let (root, found) = (fstat(root)?, fstat(found)?);
    Ok((root.st_dev, root.st_ino) == (found.st_dev, found.st_ino))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    use super::*;

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("root")).unwrap();
        fs::create_dir(folder.path().join("outside")).unwrap();
        let descriptor = OwnedFd::from(File::open(folder.path().join("root")).unwrap());
        (folder, descriptor)
    }

    fn look(path: &str, wanted: Wanted, links: &[(&str, &str)]) -> (tempfile::TempDir, io::Result<OwnedFd>) {
        let (folder, root) = root();
        for (name, target) in links {
            let target = target.replace("OUTSIDE", folder.path().join("outside").to_str().unwrap());
            symlink(target, folder.path().join("root").join(name)).unwrap();
        }
        let found = find_or_make(root.as_fd(), Path::new(path), wanted);
        assert_eq!(fs::read_dir(folder.path().join("outside")).unwrap().count(), 0, "{path} reached out");
        (folder, found)
    }

    #[test]
    fn what_is_missing_is_made_inside_whatever_the_links_say() {
        for (path, wanted, links, made) in [
            ("/a/b", Wanted::Directory, vec![], "a/b"),
            ("/a/b", Wanted::File, vec![], "a/b"),
            ("/l/x", Wanted::Directory, vec![("l", "OUTSIDE")], ""),
            ("/l", Wanted::Directory, vec![("l", "/deep/er")], "deep/er"),
            ("/l", Wanted::File, vec![("l", "../../../up")], "up"),
            ("/l/f", Wanted::File, vec![("l", "m"), ("m", "n/../n")], "n/f"),
            ("/l", Wanted::Directory, vec![("l", "..//x/.")], "x"),
        ] {
            let (folder, found) = look(path, wanted, &links);
            found.unwrap_or_else(|error| panic!("{path} {links:?}: {error}"));
            assert!(folder.path().join("root").join(made).exists(), "{path} {links:?}");
        }
    }

    #[test]
    fn what_is_in_the_way_is_told() {
        for (path, wanted, links, words) in [
            ("/l", Wanted::Directory, vec![("l", "/")], "leads to the container's root"),
            ("/l", Wanted::Directory, vec![("l", "..")], "leads to the container's root"),
            ("/l", Wanted::Directory, vec![("l", "l")], "ymbolic link"),
            ("/l", Wanted::File, vec![("l", "m"), ("m", "l")], "ymbolic link"),
        ] {
            let (_folder, found) = look(path, wanted, &links);
            let said = found.unwrap_err().to_string();
            assert!(said.contains(words), "{path} {links:?}: {said}");
        }
        let (folder, root) = root();
        fs::write(folder.path().join("root/file"), "").unwrap();
        fs::create_dir(folder.path().join("root/directory")).unwrap();
        let kind = |path: &str, wanted| find_or_make(root.as_fd(), Path::new(path), wanted).unwrap_err().kind();
        assert_eq!(kind("/file", Wanted::Directory), io::ErrorKind::NotADirectory);
        assert_eq!(kind("/file/x", Wanted::File), io::ErrorKind::NotADirectory);
        assert_eq!(kind("/directory", Wanted::File), io::ErrorKind::IsADirectory);
    }
}
