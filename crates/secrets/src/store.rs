//! The store's directory: `key`, `lock`, and one encrypted file an entry.
//!
//! A file is called by a hash of its entry's name, which is secret as well. Writers hold the lock; readers need none,
//! for every file is replaced whole.

use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ecs::Timestamp;
use ecs::value_from::{Name, Selector, ValueFrom};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use rustix::fs::FlockOperation;

use crate::entry::{Entry, Kind, Put, Value};
use crate::error::{Error, NotFound, io};
use crate::key;
use crate::seal::Sealer;

/// "Maximum secret value size: 65,536 bytes"
/// (<https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html>).
pub const MAX_VALUE_BYTES: usize = 65_536;
/// An entry with all its versions, and room for what JSON adds (at worst six bytes for one).
const MAX_ENTRY_BYTES: u64 = (crate::MAX_VERSIONS * MAX_VALUE_BYTES * 6 + (1 << 20)) as u64;
const EXTENSION: &str = "secret";
const LOCK: &str = "lock";
const DIRECTORY_MODE: u32 = 0o700;
const LOCK_MODE: u32 = 0o600;

/// A directory with secrets in it, which need not exist before the first is put there.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Adds a version, which becomes the current one. Gives its id.
    ///
    /// # Errors
    /// The value is empty, too long or has a NUL character; the directory cannot be written.
    pub fn put(&self, name: &Name, kind: Kind, value: Value, now: Timestamp) -> Result<String, Error> {
        if value.0.is_empty() || value.0.len() > MAX_VALUE_BYTES {
            return Err(Error::Size { bytes: value.0.len() });
        }
        if value.0.contains('\0') {
            return Err(Error::Nul);
        }
        let _lock = self.lock()?;
        let sealer = Sealer::new(&self.key_or_new()?);
        let id = version_id()?;
        let before = self.read(&sealer, name)?;
        let entry = Entry::with(before, name, Put { kind, id: id.clone(), value, now });
        let plain = serde_json::to_vec(&entry).expect("plain data");
        let file = file_name(name);
        key::write(&self.directory, &self.directory.join(&file), &sealer.seal(&file, &plain)?)?;
        Ok(id)
    }

    /// The entry by its exact name.
    pub fn find(&self, name: &Name) -> Result<Option<Entry>, Error> {
        match self.sealer()? {
            Some(sealer) => self.read(&sealer, name),
            None => Ok(None),
        }
    }

    /// What a `valueFrom` names. The outer error says that the store failed, the inner one that it has no such value.
    pub fn get(&self, wanted: &ValueFrom) -> Result<Result<Value, NotFound>, Error> {
        let (entry, selector) = match wanted {
            ValueFrom::Parameter { name } => {
                let missing = NotFound::Parameter { name: name.to_string() };
                (self.find(name)?.ok_or(missing), Selector::current(name.clone()))
            }
            ValueFrom::Secret(selector) => {
                (self.with_suffix_or_without(&selector.name)?.ok_or(NotFound::Secret), selector.clone())
            }
        };
        Ok(entry.and_then(|entry| entry.select(&selector)))
    }

    /// The six characters at the end of a secret's ARN are Amazon's and unknown here: any will do, and none.
    pub fn with_suffix_or_without(&self, name: &Name) -> Result<Option<Entry>, Error> {
        if let Some(entry) = self.find(name)? {
            return Ok(Some(entry));
        }
        match name.without_suffix() {
            Some(shorter) => self.find(&shorter),
            None => Ok(None),
        }
    }

    /// Every entry, by name.
    pub fn list(&self) -> Result<Vec<Entry>, Error> {
        let Some(sealer) = self.sealer()? else { return Ok(Vec::new()) };
        let mut entries = Vec::new();
        for path in self.files()? {
            // Another process may remove it meanwhile.
            entries.extend(self.read_file(&sealer, &path)?);
        }
        entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(entries)
    }

    /// False where there was none.
    pub fn remove(&self, name: &Name) -> Result<bool, Error> {
        if !self.directory.exists() {
            return Ok(false);
        }
        let _lock = self.lock()?;
        let path = self.directory.join(file_name(name));
        match fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(io("remove", &path)(error)),
        }
    }

    fn lock(&self) -> Result<File, Error> {
        let directory = &self.directory;
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory).map_err(io("make", directory))?;
        let path = directory.join(LOCK);
        let mut options = File::options();
        let options = options.write(true).create(true).truncate(false).mode(LOCK_MODE);
        let file = options.open(&path).map_err(io("open", &path))?;
        loop {
            match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(io("lock", &path)(error.into())),
            }
        }
    }

    fn sealer(&self) -> Result<Option<Sealer>, Error> {
        if let Some(key) = key::read(&self.directory)? {
            return Ok(Some(Sealer::new(&key)));
        }
        self.refuse_lost_key()?;
        Ok(None)
    }

    fn key_or_new(&self) -> Result<[u8; key::KEY_BYTES], Error> {
        if key::read(&self.directory)?.is_none() {
            self.refuse_lost_key()?;
        }
        key::read_or_make(&self.directory)
    }

    /// A new key beside entries of an old one would hide that they are lost.
    fn refuse_lost_key(&self) -> Result<(), Error> {
        if self.files()?.is_empty() {
            return Ok(());
        }
        Err(Error::KeyLost { key: key::path(&self.directory), directory: self.directory.clone() })
    }

    fn files(&self) -> Result<Vec<PathBuf>, Error> {
        let directory = &self.directory;
        let listing = match fs::read_dir(directory) {
            Ok(listing) => listing,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io("list", directory)(error)),
        };
        let paths = listing.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>();
        let mut paths = paths.map_err(io("list", directory))?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == EXTENSION));
        Ok(paths)
    }

    fn read(&self, sealer: &Sealer, name: &Name) -> Result<Option<Entry>, Error> {
        self.read_file(sealer, &self.directory.join(file_name(name)))
    }

    fn read_file(&self, sealer: &Sealer, path: &Path) -> Result<Option<Entry>, Error> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io("open", path)(error)),
        };
        let mut sealed = Vec::new();
        file.take(MAX_ENTRY_BYTES).read_to_end(&mut sealed).map_err(io("read", path))?;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let plain = sealer
            .open(name, &sealed)
            .ok_or_else(|| Error::Sealed { path: path.to_owned(), key: key::path(&self.directory) })?;
        // The parser's own words could quote the value.
        serde_json::from_slice(&plain).map(Some).map_err(|_| Error::Malformed { path: path.to_owned() })
    }
}

fn file_name(name: &Name) -> String {
    let hash = digest(&SHA256, name.as_str().as_bytes());
    let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{hex}.{EXTENSION}")
}

/// A random UUID, version 4 of RFC 9562.
fn version_id() -> Result<String, Error> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Error::Dice)?;
    Ok(ecs::arn::uuid(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NOW: Timestamp = Timestamp::from_epoch_ms(1_000);

    struct Temporary {
        _directory: tempfile::TempDir,
        path: PathBuf,
        store: Store,
    }

    fn temporary() -> Temporary {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("secrets");
        Temporary { _directory: directory, store: Store::new(path.clone()), path }
    }

    fn name(text: &str) -> Name {
        Name::parse(text).expect("a good name")
    }

    fn put(store: &Store, to: &str, value: &str) -> String {
        store.put(&name(to), Kind::Ssm, Value(value.to_owned()), NOW).expect("it can be put")
    }

    fn get(store: &Store, value_from: &str) -> Result<String, String> {
        let wanted = ValueFrom::parse(value_from).expect("a good valueFrom");
        let found = store.get(&wanted).expect("the store works");
        found.map(|value| value.0).map_err(|error| error.to_string())
    }

    #[test]
    fn an_entry_answers_to_its_name_and_to_both_arns() {
        let Temporary { store, .. } = temporary();
        put(&store, "/prod/db", "value");
        for wanted in [
            "/prod/db",
            "prod/db",
            "arn:aws:ssm:eu-central-1:123456789012:parameter/prod/db",
            "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/db",
            "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/db-AbCdEf",
            "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/db-AbCdEf::AWSCURRENT:",
        ] {
            assert_eq!(get(&store, wanted).as_deref(), Ok("value"), "{wanted}");
        }
        assert_eq!(get(&store, "/prod/other"), Err("invalid parameters: prod/other".to_owned()));
        assert_eq!(
            get(&store, "arn:aws:secretsmanager:eu-central-1:1:secret:prod/other-AbCdEf"),
            Err("ResourceNotFoundException: Secrets Manager can't find the specified secret.".to_owned())
        );
        // A parameter's name has no suffix of Amazon's.
        assert!(get(&store, "/prod/db-AbCdEf").is_err());
    }

    #[test]
    fn a_name_that_ends_like_a_suffix_is_taken_at_its_word_first() {
        let Temporary { store, .. } = temporary();
        put(&store, "my", "short");
        put(&store, "my-secret", "long");
        assert_eq!(get(&store, "arn:aws:secretsmanager:r:1:secret:my-secret").as_deref(), Ok("long"));
        assert_eq!(get(&store, "arn:aws:secretsmanager:r:1:secret:my-AbCdEf").as_deref(), Ok("short"));
    }

    #[test]
    fn nothing_readable_is_on_the_disk() {
        let Temporary { store, path, .. } = temporary();
        put(&store, "prod/db", "correct horse battery staple");
        let mut files = 0;
        for file in fs::read_dir(&path).expect("it is there") {
            let file = file.expect("it is there");
            let bytes = fs::read(file.path()).expect("a test may read");
            for text in ["horse", "prod", "db\""] {
                assert!(!String::from_utf8_lossy(&bytes).contains(text), "{text} in {:?}", file.path());
            }
            let mode = file.metadata().expect("it is there").permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{:?}", file.path());
            files += 1;
        }
        assert_eq!(files, 3, "key, lock and one entry");
        assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn what_was_changed_or_moved_is_not_believed() {
        let Temporary { store, path, .. } = temporary();
        put(&store, "a", "value of a");
        put(&store, "b", "value of b");
        let (a, b) = (path.join(file_name(&name("a"))), path.join(file_name(&name("b"))));
        let good = fs::read(&a).expect("it is there");
        fs::copy(&b, &a).expect("a test may write");
        assert!(matches!(store.find(&name("a")), Err(Error::Sealed { .. })));
        for changed in [&good[..good.len() - 1], &good[..5], &[], &[&good[..20], &[good[20] ^ 1], &good[21..]].concat()]
        {
            fs::write(&a, changed).expect("a test may write");
            assert!(matches!(store.find(&name("a")), Err(Error::Sealed { .. })));
        }
        fs::write(&a, good).expect("a test may write");
        assert_eq!(get(&store, "a").as_deref(), Ok("value of a"));
    }

    #[test]
    fn a_lost_or_open_key_is_told() {
        let Temporary { store, path, .. } = temporary();
        put(&store, "a", "value");
        let key = path.join("key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("a test may change it");
        assert!(matches!(store.find(&name("a")), Err(Error::Key { .. })));
        fs::remove_file(&key).expect("a test may remove it");
        assert!(matches!(store.list(), Err(Error::KeyLost { .. })));
        assert!(matches!(store.put(&name("b"), Kind::Ssm, Value("x".into()), NOW), Err(Error::KeyLost { .. })));
        assert!(store.remove(&name("a")).expect("removing needs no key"));
        put(&store, "b", "new");
        assert_eq!(get(&store, "b").as_deref(), Ok("new"));
    }

    #[test]
    fn a_store_that_was_never_used_is_empty_and_stays_so() {
        let Temporary { store, path, .. } = temporary();
        assert_eq!(store.list().expect("empty"), []);
        assert_eq!(store.find(&name("a")).expect("empty"), None);
        assert!(!store.remove(&name("a")).expect("empty"));
        assert!(!path.exists());
    }

    #[test]
    fn a_put_makes_a_version_and_a_removal_takes_all() {
        let Temporary { store, .. } = temporary();
        let (first, second) = (put(&store, "a", "1"), put(&store, "a", "2"));
        assert_ne!(first, second);
        let listed = store.list().expect("it works");
        assert_eq!(listed.len(), 1);
        assert_eq!(listed[0].versions.iter().map(|version| &version.id).collect::<Vec<_>>(), [&first, &second]);
        assert_eq!(get(&store, "a").as_deref(), Ok("2"));
        assert!(store.remove(&name("a")).expect("it works"));
        assert_eq!(get(&store, "a"), Err("invalid parameters: a".to_owned()));
    }

    #[test]
    fn values_have_limits() {
        let Temporary { store, .. } = temporary();
        let value = |text: String| store.put(&name("a"), Kind::Ssm, Value(text), NOW);
        assert!(matches!(value(String::new()), Err(Error::Size { bytes: 0 })));
        assert!(matches!(value("x".repeat(MAX_VALUE_BYTES + 1)), Err(Error::Size { .. })));
        assert!(matches!(value("a\0b".to_owned()), Err(Error::Nul)));
        assert!(value("x".repeat(MAX_VALUE_BYTES)).is_ok());
    }

    /// Two processes at once: no version is lost.
    #[test]
    fn writers_wait_for_each_other() {
        let Temporary { store, .. } = temporary();
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let store = &store;
                scope.spawn(move || (0..10).for_each(|number| drop(put(store, "a", &format!("{writer}-{number}")))));
            }
        });
        assert_eq!(store.list().expect("it works")[0].versions.len(), 40);
    }
}
