//! Records in one redb file (<https://docs.rs/redb>). A commit is two-phase: the new pages are synced before the byte that
//! makes them the state is written, and that is synced before anybody is answered.
//!
//! Opening reads and checks every page: records are all read then anyway, and a file that was changed behind our back is an
//! error instead of a surprise later.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use control_plane::{Change, Record};
use redb::backends::FileBackend;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition, TableError};

use super::{Error, FIRST_EPOCH, Loaded, SCHEMA, Store, last_of_each};

/// Its name in the state directory.
pub const FILE: &str = "state.redb";
/// Records are read once, at the start; from then on the cache holds the pages that batches change.
const CACHE_BYTES: usize = 2 << 20;
const MODE: u32 = 0o600;

const RECORDS: TableDefinition<&str, &[u8]> = TableDefinition::new("records");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const SCHEMA_KEY: &str = "schema";
const EPOCH_KEY: &str = "epoch";

pub struct Disk {
    path: PathBuf,
    database: Database,
}

impl Disk {
    /// Opens what is there, or makes an empty one of the first epoch. What cannot be looked at counts as there.
    pub fn open(path: &Path) -> Result<Disk, Error> {
        let opened = |cause| Error::Io { path: path.to_owned(), doing: "opened", cause };
        if !path.try_exists().map_err(opened)? {
            make(path, FIRST_EPOCH, &[])?;
        }
        let file = fs::OpenOptions::new().read(true).write(true).open(path).map_err(opened)?;
        let backend = FileBackend::new(file).map_err(|error| engine(path, "opened", error))?;
        Disk::on(path, backend)
    }

    /// Opens the store that a backend holds. `path` is what errors call it.
    pub fn on(path: &Path, backend: impl StorageBackend) -> Result<Disk, Error> {
        let length = backend.len().map_err(|cause| Error::Io { path: path.to_owned(), doing: "opened", cause })?;
        if length == 0 {
            // The engine would make an empty store of it.
            return Err(Error::Damaged { path: path.to_owned(), what: "it is empty".to_owned() });
        }
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
        let database = builder.create_with_backend(backend).map_err(|error| engine(path, "opened", error))?;
        let store = Disk { path: path.to_owned(), database };
        store.check_schema()?;
        Ok(store)
    }

    /// A new file with these records in place of the one that is there; the old one stays until the new one is whole.
    pub fn replace(path: &Path, epoch: u64, records: &[Record]) -> Result<(), Error> {
        make(path, epoch, records)
    }

    fn check_schema(&self) -> Result<(), Error> {
        match self.meta(SCHEMA_KEY)? {
            Some(found) if found > SCHEMA => Err(Error::Newer { path: self.path.clone(), found }),
            Some(_) => Ok(()),
            None => Err(self.damaged("it has no schema")),
        }
    }

    fn meta(&self, key: &str) -> Result<Option<u64>, Error> {
        let reading = "read";
        let transaction = self.database.begin_read().map_err(|error| self.engine(reading, error))?;
        let table = match transaction.open_table(META) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(self.engine(reading, error)),
        };
        let value = table.get(key).map_err(|error| self.engine(reading, error))?;
        Ok(value.map(|value| value.value()))
    }

    fn engine(&self, doing: &'static str, cause: impl Into<redb::Error>) -> Error {
        engine(&self.path, doing, cause)
    }

    fn damaged(&self, what: impl Into<String>) -> Error {
        Error::Damaged { path: self.path.clone(), what: what.into() }
    }
}

impl Store for Disk {
    fn load(&self) -> Result<Loaded, Error> {
        let reading = "read";
        let epoch = self.meta(EPOCH_KEY)?.ok_or_else(|| self.damaged("it has no epoch"))?;
        let transaction = self.database.begin_read().map_err(|error| self.engine(reading, error))?;
        let table = match transaction.open_table(RECORDS) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Loaded { epoch, records: Vec::new() }),
            Err(error) => return Err(self.engine(reading, error)),
        };
        let mut records = Vec::new();
        for entry in table.iter().map_err(|error| self.engine(reading, error))? {
            let (key, value) = entry.map_err(|error| self.engine(reading, error))?;
            let (key, value) = (key.value(), value.value());
            let record: Record = serde_json::from_slice(value).map_err(|cause| Error::Unreadable {
                path: self.path.clone(),
                key: key.to_owned(),
                cause,
            })?;
            if record.key().text() != key {
                return Err(self.damaged(format!("the record under {key:?} belongs under {:?}", record.key().text())));
            }
            records.push(record);
        }
        Ok(Loaded { epoch, records })
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), Error> {
        let last = last_of_each(changes)?;
        write(&self.database, |records, _| {
            for (key, value) in &last {
                match value {
                    Some(value) => drop(records.insert(key.as_str(), value.as_slice())?),
                    None => drop(records.remove(key.as_str())?),
                }
            }
            Ok(())
        })
        .map_err(|error| self.engine("written", error))
    }
}

type Records<'a> = redb::Table<'a, &'static str, &'static [u8]>;
type Meta<'a> = redb::Table<'a, &'static str, u64>;

/// One durable transaction.
fn write(
    database: &Database,
    change: impl FnOnce(&mut Records, &mut Meta) -> Result<(), redb::Error>,
) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.set_two_phase_commit(true);
    {
        let mut records = transaction.open_table(RECORDS)?;
        let mut meta = transaction.open_table(META)?;
        change(&mut records, &mut meta)?;
    }
    transaction.commit()?;
    Ok(())
}

/// Written beside its place and moved there when it is whole and synced: there is never half a store.
fn make(path: &Path, epoch: u64, records: &[Record]) -> Result<(), Error> {
    let io = |doing| move |cause| Error::Io { path: path.to_owned(), doing, cause };
    let directory = path.parent().unwrap_or(Path::new("/"));
    let beside = path.with_extension("redb.new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io("replaced")(error)),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).mode(MODE).open(&beside).map_err(io("made"))?;
    let mut builder = Database::builder();
    let backend = FileBackend::new(file).map_err(|error| engine(&beside, "made", error))?;
    let database = builder
        .set_cache_size(CACHE_BYTES)
        .create_with_backend(backend)
        .map_err(|error| engine(&beside, "made", error))?;
    let changes: Vec<Change> = records.iter().cloned().map(Change::Put).collect();
    let values = last_of_each(&changes)?;
    write(&database, |table, meta| {
        meta.insert(SCHEMA_KEY, SCHEMA)?;
        meta.insert(EPOCH_KEY, epoch)?;
        for (key, value) in &values {
            table.insert(key.as_str(), value.as_deref().unwrap_or_default())?;
        }
        Ok(())
    })
    .map_err(|error| engine(&beside, "written", error))?;
    database.close().map_err(|error| engine(&beside, "closed", error))?;
    fs::rename(&beside, path).map_err(io("put in its place"))?;
    fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(io("put in its place"))
}

fn engine(path: &Path, doing: &'static str, cause: impl Into<redb::Error>) -> Error {
    match cause.into() {
        redb::Error::Corrupted(what) => Error::Damaged { path: path.to_owned(), what },
        cause => Error::Engine { path: path.to_owned(), doing, cause: Box::new(cause) },
    }
}
