//! `linuxParameters.tmpfs`: a file system in memory at a path of the container.
//!
//! As in Docker, `noexec,nosuid,nodev` come first and the definition's words after them, of which the last wins
//! (<https://docs.docker.com/reference/cli/docker/container/run/#tmpfs>). The words are those of
//! <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Tmpfs.html>, their meaning is mount(8)'s.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ecs::task_definition::Tmpfs;
use nix::mount::{MsFlags, mount};

use crate::inside;

/// One file system, decided before it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// In the container; absolute.
    pub(crate) target: PathBuf,
    flags: MsFlags,
    /// What tmpfs itself reads: `size=…,mode=…`.
    data: String,
    propagation: Option<MsFlags>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TmpfsError {
    #[error("linuxParameters.tmpfs: containerPath {0:?} is not an absolute path of its own in the container")]
    NoPath(String),
    #[error("linuxParameters.tmpfs: mount option {0:?} is none that a tmpfs can have")]
    NoOption(String),
}

enum Word {
    Set(MsFlags),
    Clear(MsFlags),
    Propagation(MsFlags),
    /// For tmpfs itself.
    Data,
    /// The default anyway.
    Nothing,
}

/// # Errors
/// A path or an option that makes no sense; the linter has said so before.
pub(crate) fn plan(asked: &Tmpfs) -> Result<Plan, TmpfsError> {
    let path = Path::new(&asked.container_path);
    let odd = |part: std::path::Component<'_>| matches!(part, std::path::Component::ParentDir);
    // What the kernel shows there is mounted later, over anything else.
    let kernels = ["/proc", "/sys"].iter().any(|kernels| path.starts_with(kernels)) || path == Path::new("/dev");
    if !path.is_absolute() || path.parent().is_none() || path.components().any(odd) || kernels {
        return Err(TmpfsError::NoPath(asked.container_path.clone()));
    }
    let mut flags = MsFlags::MS_NOEXEC | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let mut propagation = None;
    let mut data = vec![format!("size={}m", asked.size)];
    for option in &asked.mount_options {
        match word(option).ok_or_else(|| TmpfsError::NoOption(option.clone()))? {
            Word::Set(bits) => flags |= bits,
            Word::Clear(bits) => flags -= bits,
            Word::Propagation(kind) => propagation = Some(kind),
            Word::Data => data.push(option.clone()),
            Word::Nothing => {}
        }
    }
    Ok(Plan { target: path.to_owned(), flags, data: data.join(","), propagation })
}

/// `remount`, `bind` and `rbind` are on Amazon's list, but do not make a new file system; nothing is known to be meant.
fn word(option: &str) -> Option<Word> {
    if let Some((name, value)) = option.split_once('=') {
        let numbers = |value: &str| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let right = match name {
            "mode" | "uid" | "gid" | "nr_inodes" | "nr_blocks" => numbers(value),
            "mpol" => !value.is_empty() && !value.contains([',', '\0']),
            _ => false,
        };
        return right.then_some(Word::Data);
    }
    Some(match option {
        "defaults" => Word::Nothing,
        "ro" => Word::Set(MsFlags::MS_RDONLY),
        "rw" => Word::Clear(MsFlags::MS_RDONLY),
        "nosuid" => Word::Set(MsFlags::MS_NOSUID),
        "suid" => Word::Clear(MsFlags::MS_NOSUID),
        "nodev" => Word::Set(MsFlags::MS_NODEV),
        "dev" => Word::Clear(MsFlags::MS_NODEV),
        "noexec" => Word::Set(MsFlags::MS_NOEXEC),
        "exec" => Word::Clear(MsFlags::MS_NOEXEC),
        "sync" => Word::Set(MsFlags::MS_SYNCHRONOUS),
        "async" => Word::Clear(MsFlags::MS_SYNCHRONOUS),
        "dirsync" => Word::Set(MsFlags::MS_DIRSYNC),
        "mand" => Word::Set(MsFlags::MS_MANDLOCK),
        "nomand" => Word::Clear(MsFlags::MS_MANDLOCK),
        "noatime" => Word::Set(MsFlags::MS_NOATIME),
        "atime" => Word::Clear(MsFlags::MS_NOATIME),
        "nodiratime" => Word::Set(MsFlags::MS_NODIRATIME),
        "diratime" => Word::Clear(MsFlags::MS_NODIRATIME),
        "relatime" => Word::Set(MsFlags::MS_RELATIME),
        "norelatime" => Word::Clear(MsFlags::MS_RELATIME),
        "strictatime" => Word::Set(MsFlags::MS_STRICTATIME),
        "nostrictatime" => Word::Clear(MsFlags::MS_STRICTATIME),
        "private" | "rprivate" => Word::Propagation(MsFlags::MS_PRIVATE),
        "shared" | "rshared" => Word::Propagation(MsFlags::MS_SHARED),
        "slave" | "rslave" => Word::Propagation(MsFlags::MS_SLAVE),
        "unbindable" | "runbindable" => Word::Propagation(MsFlags::MS_UNBINDABLE),
        _ => return None,
    })
}

impl Plan {
    /// In the launcher, below its `root`; makes what is missing of the path. A directory of the image keeps its mode,
    /// as with runc, where the definition gives none.
    ///
    /// # Errors
    /// The path leads to a file, or the kernel takes an option's value for nonsense.
    pub(crate) fn mount_below(&self, root: BorrowedFd<'_>) -> io::Result<()> {
        let path = self.target.to_str().ok_or(io::ErrorKind::InvalidInput)?;
        let mut data = self.data.clone();
        let directory = match inside::open(root, path, libc::O_PATH | libc::O_DIRECTORY, inside::FOLLOW) {
            Ok(directory) => {
                if !data.contains("mode=") {
                    let mode = nix::sys::stat::fstat(&directory)?.st_mode & 0o7777;
                    data = format!("{data},mode={mode:o}");
                }
                directory
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => make_for_everybody(root, path)?,
            Err(error) => return Err(error),
        };
        let place = place(&directory);
        Ok(mount(Some("tmpfs"), place.as_str(), Some("tmpfs"), self.flags, Some(data.as_str()))?)
    }

    /// In the container's first process, on its root: what is done to propagation before would be undone there.
    ///
    /// # Errors
    /// What mount(2) says.
    pub(crate) fn propagate(&self) -> io::Result<()> {
        let Some(kind) = self.propagation else { return Ok(()) };
        Ok(mount(None::<&str>, &self.target, None::<&str>, kind, None::<&str>)?)
    }
}

/// With the mode that a tmpfs has of itself, so that a container which is started again finds the same.
fn make_for_everybody(root: BorrowedFd<'_>, path: &str) -> io::Result<OwnedFd> {
    let directory = inside::make_directories(root, path)?;
    fs::set_permissions(place(&directory), fs::Permissions::from_mode(0o1777))?;
    Ok(directory)
}

/// A path to what a descriptor without rights of its own stands for.
fn place(directory: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", directory.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(path: &str, options: &[&str]) -> Result<Plan, TmpfsError> {
        let mount_options = options.iter().map(|&option| option.to_owned()).collect();
        plan(&Tmpfs { container_path: path.to_owned(), size: 16, mount_options })
    }

    #[test]
    fn the_last_word_wins_over_dockers_defaults() {
        let plain = asked("/run", &[]).unwrap();
        assert_eq!(plain.flags, MsFlags::MS_NOEXEC | MsFlags::MS_NOSUID | MsFlags::MS_NODEV);
        assert_eq!((plain.data.as_str(), plain.propagation), ("size=16m", None));
        let own = asked("/run", &["exec", "ro", "noatime", "mode=0750", "uid=1000", "rw", "shared"]).unwrap();
        assert_eq!(own.flags, MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOATIME);
        assert_eq!((own.data.as_str(), own.propagation), ("size=16m,mode=0750,uid=1000", Some(MsFlags::MS_SHARED)));
    }

    #[test]
    fn nonsense_is_refused() {
        for option in ["bind", "mode", "mode=", "uid=1,size=2g", "size=1g", "exec=1", "remount", "huge=always"] {
            assert_eq!(asked("/run", &[option]), Err(TmpfsError::NoOption(option.to_owned())));
        }
        for path in ["run", "/", "/a/../b", "/proc/x", "/sys", "/dev"] {
            assert_eq!(asked(path, &[]), Err(TmpfsError::NoPath(path.to_owned())));
        }
    }
}
