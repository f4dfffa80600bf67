//! Where the control plane's records are kept: all of them are read once, at the start, and from then on batches of changes
//! are written. What a record means is `control_plane`'s to say; this knows bytes under keys.
//!
//! A store never acknowledges what is not durable, and never goes on after a commit that failed: what the disk then holds is
//! unknown, so the process ends and the next one reads what is there.

mod disk;
mod memory;

use std::collections::BTreeMap;
use std::path::PathBuf;

use control_plane::{Change, Record};

pub use disk::{Disk, FILE};
pub use memory::Memory;

/// Of the records and their keys. A later build opens every older one; see `tests/data` for one file of each.
pub const SCHEMA: u64 = 1;
/// Of the first control plane; each restored one has a greater epoch.
pub const FIRST_EPOCH: u64 = 1;

/// What is written down at the start.
#[derive(Debug)]
pub struct Loaded {
    pub epoch: u64,
    /// By key.
    pub records: Vec<Record>,
}

pub trait Store: Send {
    fn load(&self) -> Result<Loaded, Error>;

    /// All of them or none, durable when this returns. After an error the store is not to be used again.
    fn commit(&mut self, changes: &[Change]) -> Result<(), Error>;
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} cannot be {doing}", path.display())]
    Io {
        path: PathBuf,
        doing: &'static str,
        #[source]
        cause: std::io::Error,
    },
    #[error("the store {} cannot be {doing}", path.display())]
    Engine {
        path: PathBuf,
        doing: &'static str,
        #[source]
        cause: Box<redb::Error>,
    },
    #[error("the store {} is damaged: {what}", path.display())]
    Damaged { path: PathBuf, what: String },
    #[error("the store {} has schema {found}, and this build knows schemas up to {SCHEMA}: a newer build wrote it", path.display())]
    Newer { path: PathBuf, found: u64 },
    #[error("the record {key:?} in {} cannot be read", path.display())]
    Unreadable {
        path: PathBuf,
        key: String,
        #[source]
        cause: serde_json::Error,
    },
    #[error("the record {key:?} cannot be written as JSON")]
    Unwritable {
        key: String,
        #[source]
        cause: serde_json::Error,
    },
}

/// What a batch comes to: for each key its last value, or nothing where it is removed.
fn last_of_each(changes: &[Change]) -> Result<BTreeMap<String, Option<Vec<u8>>>, Error> {
    let mut last: BTreeMap<String, Option<&Record>> = BTreeMap::new();
    for change in changes {
        match change {
            Change::Put(record) => last.insert(record.key().text(), Some(record)),
            Change::Remove(key) => last.insert(key.text(), None),
        };
    }
    let bytes = |(key, record): (String, Option<&Record>)| {
        let value = record.map(serde_json::to_vec).transpose();
        value.map(|value| (key.clone(), value)).map_err(|cause| Error::Unwritable { key, cause })
    };
    last.into_iter().map(bytes).collect()
}
