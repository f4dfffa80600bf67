//! Tar archives, read as Go's archive/tar reads them, because that is what every image was built and checked with.
//!
//! An archive that Go refuses is refused here, and what two readers could take for different trees (a PAX size against
//! the header's, a name with a NUL, a sparse map that does not fit) follows Go's rule. Nothing here touches a file system.

pub(crate) mod encode;
mod header;
mod pax;
mod reader;
mod sparse;
pub(crate) mod write;

use std::io;

pub(crate) use reader::Reader;
pub(crate) use sparse::Segment;

pub(crate) const BLOCK: usize = 512;

/// Extended attributes by their full names.
pub(crate) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// One member, with every extension header already applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    /// The target of a symbolic or hard link.
    pub(crate) link: Vec<u8>,
    /// Permission bits with setuid, setgid and sticky: `0o7777` at most.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    /// Logical size of a file, its holes included.
    pub(crate) size: u64,
    pub(crate) device: (u32, u32),
    /// As `SCHILY.xattr.` records gave them.
    pub(crate) xattrs: Xattrs,
    /// Where the stored bytes of a sparse file belong; `None` for an ordinary one.
    pub(crate) sparse: Option<Vec<Segment>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

impl Kind {
    /// Kinds whose size field does not stand for data that follows.
    fn is_header_only(self) -> bool {
        match self {
            Kind::File => false,
            Kind::HardLink | Kind::Symlink | Kind::CharDevice | Kind::BlockDevice | Kind::Directory | Kind::Fifo => {
                true
            }
        }
    }
}

/// Seconds and nanoseconds since 1970; the nanoseconds count upwards for times before it, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum TarError {
    /// Reading the archive failed; an early end is `UnexpectedEof`.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    #[error("malformed tar header at byte {offset}: {what}")]
    Malformed { offset: u64, what: String },
}
