//! How far a container's output has been read, and how far it has been shipped: the one file by which a shipper and a
//! supervisor know of each other.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ecs::ContainerName;
use serde::{Deserialize, Serialize};

/// In a task's logs directory; not a name that a segment could have.
const SHIPPED_NAME: &str = "shipped";

/// Far above what the few numbers take; a larger file is not ours.
const MAX_BYTES: u64 = 4 << 10;

/// A place between two pieces of a container's output. The default is its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    pub segment: u64,
    /// Where in the segment's file a record begins.
    pub offset: u64,
    /// How many of that record's bytes lie before the place.
    pub inside: u64,
    /// How many bytes of the container's output lie before the place, in all segments that ever were.
    pub bytes: u64,
}

/// How far a shipper has come with one container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shipped {
    /// Everything before it has been taken by the backend, or was gone before it could be shipped.
    pub position: Position,
    /// The part of `position.bytes` that was gone: the sum of `Record::missing` over what was read.
    pub missing_bytes: u64,
}

impl Shipped {
    /// What has been lost to the backend when no segment before the one at `oldest_bytes` exists any more. Exact as
    /// soon as the shipper has gone on: what it had in hand while its segment was removed counts until then.
    pub(crate) fn lost_bytes(&self, oldest_bytes: u64) -> u64 {
        self.missing_bytes + oldest_bytes.saturating_sub(self.position.bytes)
    }
}

/// How far shipping has come; the beginning when nobody has begun. `logs` is the task's logs directory.
pub fn read_shipped(logs: &Path, container: &ContainerName) -> io::Result<Shipped> {
    let path = shipped_path(logs, container);
    let length = match fs::metadata(&path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Shipped::default()),
        other => other?.len(),
    };
    if length > MAX_BYTES {
        return Err(io::Error::other("too long to be a shipping position"));
    }
    serde_json::from_slice(&fs::read(&path)?).map_err(io::Error::other)
}

/// Replaces the file whole, so that its readers see the old one or the new one.
pub fn write_shipped(logs: &Path, container: &ContainerName, shipped: &Shipped) -> io::Result<()> {
    let directory = logs.join(SHIPPED_NAME);
    match DirBuilder::new().mode(0o700).create(&directory) {
        Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => return Err(cause),
        Ok(()) | Err(_) => {}
    }
    let temporary = directory.join(format!(".{container}.new"));
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let mut file = options.open(&temporary)?;
    file.write_all(&serde_json::to_vec(shipped).map_err(io::Error::other)?)?;
    fs::rename(&temporary, shipped_path(logs, container))
}

fn shipped_path(logs: &Path, container: &ContainerName) -> PathBuf {
    logs.join(SHIPPED_NAME).join(container.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_is_the_beginning() {
        let logs = tempfile::tempdir().expect("a directory");
        let name = ContainerName::try_from("app".to_owned()).expect("a name");
        assert_eq!(read_shipped(logs.path(), &name).expect("readable"), Shipped::default());
        let position = Position { segment: 3, offset: 4096, inside: 17, bytes: 1 << 40 };
        let shipped = Shipped { position, missing_bytes: 9 };
        write_shipped(logs.path(), &name, &shipped).expect("written");
        assert_eq!(read_shipped(logs.path(), &name).expect("readable"), shipped);
        fs::write(shipped_path(logs.path(), &name), "{").expect("written");
        assert!(read_shipped(logs.path(), &name).is_err());
    }

    #[test]
    fn lost_is_what_was_removed_before_it_was_shipped() {
        let at = |bytes, missing_bytes| Shipped { position: Position { bytes, ..Position::default() }, missing_bytes };
        assert_eq!(at(0, 0).lost_bytes(0), 0);
        assert_eq!(at(100, 0).lost_bytes(250), 150);
        // The shipper has gone on behind the gap of 150 bytes.
        assert_eq!(at(300, 150).lost_bytes(250), 150);
    }
}
