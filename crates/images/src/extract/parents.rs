//! Finds the directory that a member goes into, from the layer's root and never outside it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{ExtractError, cannot, refused};
use crate::inside;

/// Archives list a directory's members together, so the walk from the root to the last parent is kept open.
pub(crate) struct Parents {
    root: OwnedFd,
    /// Each component below the root with its directory; links among them are already resolved.
    walk: Vec<(Vec<u8>, OwnedFd)>,
}

enum Missing {
    Make,
    Refuse,
}

impl Parents {
    pub(crate) fn new(root: OwnedFd) -> Self {
        Parents { root, walk: Vec::new() }
    }

    /// To be called whenever something was removed.
    pub(crate) fn forget(&mut self) {
        self.walk.clear();
    }

    /// The directory at a clean relative path; missing ones are made, mode 0755 and root's.
    pub(crate) fn open(&mut self, path: &[u8], of: &[u8]) -> Result<BorrowedFd<'_>, ExtractError> {
        self.walk(path, of, Missing::Make)?;
        Ok(self.last())
    }

    /// The same as a descriptor of its own, and nothing is made.
    pub(crate) fn open_existing(&mut self, path: &[u8], of: &[u8]) -> Result<OwnedFd, ExtractError> {
        self.walk(path, of, Missing::Refuse)?;
        self.last().try_clone_to_owned().map_err(|source| ExtractError::Io {
            doing: "hold the directory of",
            path: super::shown(of),
            source,
        })
    }

    fn last(&self) -> BorrowedFd<'_> {
        self.walk.last().map_or(self.root.as_fd(), |(_, directory)| directory.as_fd())
    }

    fn walk(&mut self, path: &[u8], of: &[u8], missing: Missing) -> Result<(), ExtractError> {
        let wanted: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
        let common = self.walk.iter().zip(&wanted).take_while(|((have, _), want)| have == *want).count();
        self.walk.truncate(common);
        for (depth, part) in wanted.iter().enumerate().skip(common) {
            let parent = self.last();
            let opened = match (path_directory(parent, part), &missing) {
                (Err(Errno::NOENT), Missing::Make) => {
                    rustix::fs::mkdirat(parent, *part, Mode::from_raw_mode(0o755))
                        .map_err(cannot("make the directory of", of))?;
                    let made = path_directory(parent, part).map_err(cannot("open the directory of", of))?;
                    // The process's umask must not decide.
                    rustix::fs::chmodat(parent, *part, Mode::from_raw_mode(0o755), rustix::fs::AtFlags::empty())
                        .map_err(cannot("set the mode of the directory of", of))?;
                    made
                }
                (Ok(directory), _) => directory,
                // A link, perhaps: the kernel resolves it as if the root were `/`.
                (Err(Errno::NOTDIR | Errno::LOOP), _) => self.through_link(&wanted[..=depth].join(&b'/'), of)?,
                (Err(error), _) => return Err(cannot("open the directory of", of)(error)),
            };
            self.walk.push((part.to_vec(), opened));
        }
        Ok(())
    }

    fn through_link(&self, path: &[u8], of: &[u8]) -> Result<OwnedFd, ExtractError> {
        match inside::open(&self.root, path, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(directory) => Ok(directory),
            Err(Errno::NOTDIR) => Err(refused(of, "a file stands where it needs a directory")),
            Err(Errno::NOENT) => Err(refused(of, "its path leads through a link to nothing")),
            Err(Errno::LOOP) => Err(refused(of, "its path leads through links in a circle")),
            Err(Errno::NOSYS) => {
                Err(refused(of, "its path leads through a link, which needs Linux 5.6 or later to follow safely"))
            }
            Err(error) => Err(cannot("open the directory of", of)(error)),
        }
    }
}

fn path_directory(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(
        parent,
        name,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// A directory opened for reading, so that its attributes and times can be set; links are not followed.
pub(crate) fn directory(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(
        parent,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}
