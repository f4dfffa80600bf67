//! Volumes that outlive their tasks: `<data>/volumes/<name>/` with `volume.json` and the data in `_data`.
//!
//! A volume appears whole, by a rename. Who starts a task holds a shared lock (flock(2)) on the directories of its
//! volumes until the task is written down; who removes one takes the lock for itself.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use ecs::Timestamp;
use runtime::task_dir::{self, Task};
use serde::{Deserialize, Serialize};

use crate::dice;
use crate::host::Host;

const DIRECTORY: &str = "volumes";
const DATA: &str = "_data";
const DESCRIPTION: &str = "volume.json";
/// What begins with a dot is being made or being removed.
const MAKING: &str = ".making-";
const REMOVING: &str = ".removing-";
/// API_Volume: "Up to 255 letters (uppercase and lowercase), numbers, underscores, and hyphens are allowed".
const MAX_NAME: usize = 255;
/// The largest `volume.json` that is read, bytes.
const MAX_DESCRIPTION: u64 = 1 << 20;
/// How often a volume is looked up that is removed and made again meanwhile.
const MAX_TRIES: u32 = 16;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "{name:?} is no name of a volume: 1 to {MAX_NAME} letters, digits, '_', '-' and '.', the first a letter or digit"
    )]
    Name { name: String },
    #[error("volume {name} exists already")]
    Exists { name: String },
    #[error("there is no volume {name}")]
    NotFound { name: String },
    #[error("volume {name} is in use by {}", tasks.join(", "))]
    InUse {
        name: String,
        /// `task <id> (family:revision)` each, or what else uses it.
        tasks: Vec<String>,
    },
    #[error("cannot {action} {path}", path = path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { action, path, source }
}

/// A volume as it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoredVolume {
    pub name: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// `type`, `device` and `o`; without them it is a directory of this host.
    #[serde(default)]
    pub driver_opts: BTreeMap<String, String>,
    pub created_at: Timestamp,
}

/// Of a volume's directory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lock {
    /// Waits for who removes it.
    Shared,
    /// Does not wait.
    Whole,
}

/// Keeps a volume from being removed while it is there.
#[derive(Debug)]
pub struct Hold {
    _directory: File,
}

#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    pub fn of(host: &Host) -> Store {
        Store::at(host.roots.data.join(DIRECTORY))
    }

    pub fn at(root: PathBuf) -> Store {
        Store { root }
    }

    /// Where the volume's data is, for those without options.
    pub fn mountpoint(&self, name: &str) -> PathBuf {
        self.root.join(name).join(DATA)
    }

    /// All volumes, by name.
    pub fn list(&self) -> Result<Vec<StoredVolume>, StoreError> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("list", &self.root)(error)),
        };
        let mut volumes = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed("list", &self.root))?.file_name();
            // Others are on their way in or out, or not ours.
            if let Some(name) = name.to_str().filter(|name| is_name(name)) {
                volumes.extend(self.get(name)?);
            }
        }
        volumes.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(volumes)
    }

    pub fn get(&self, name: &str) -> Result<Option<StoredVolume>, StoreError> {
        if !is_name(name) {
            return Err(StoreError::Name { name: name.to_owned() });
        }
        let path = self.root.join(name).join(DESCRIPTION);
        let bytes = match fs::metadata(&path) {
            Ok(found) if found.len() > MAX_DESCRIPTION => {
                return Err(failed("read", &path)(io::Error::other(format!("more than {MAX_DESCRIPTION} bytes"))));
            }
            Ok(_) => fs::read(&path),
            Err(error) => Err(error),
        };
        match bytes {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| failed("read", &path)(error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    /// Makes a volume: an empty directory, mode 0755.
    pub fn create(&self, volume: &StoredVolume) -> Result<(), StoreError> {
        let place = self.root.join(&volume.name);
        if self.get(&volume.name)?.is_some() {
            return Err(StoreError::Exists { name: volume.name.clone() });
        }
        make_directory(&self.root, 0o700, true)?;
        let making = self.passing(MAKING)?;
        let made = self.fill(&making, volume).and_then(|()| {
            fs::rename(&making, &place).map_err(|error| match error.kind() {
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => {
                    StoreError::Exists { name: volume.name.clone() }
                }
                _ => failed("make", &place)(error),
            })
        });
        if made.is_err() {
            // What stays is swept by the next that makes a volume.
            task_dir::remove_tree(&making).ok();
        }
        made
    }

    fn fill(&self, making: &Path, volume: &StoredVolume) -> Result<(), StoreError> {
        make_directory(making, 0o700, false)?;
        make_directory(&making.join(DATA), 0o755, false)?;
        let path = making.join(DESCRIPTION);
        let text = serde_json::to_vec_pretty(volume).map_err(|error| failed("encode", &path)(error.into()))?;
        fs::write(&path, text).map_err(failed("write", &path))
    }

    fn passing(&self, what: &str) -> Result<PathBuf, StoreError> {
        let id = dice::task_id().map_err(|error| failed("name something in", &self.root)(io::Error::other(error)))?;
        Ok(self.root.join(format!("{what}{id}")))
    }

    /// The volume, kept from removal; nothing where there is none.
    pub fn hold(&self, name: &str) -> Result<Option<(StoredVolume, Hold)>, StoreError> {
        let Some(directory) = self.lock(name, Lock::Shared)? else { return Ok(None) };
        Ok(self.get(name)?.map(|volume| (volume, Hold { _directory: directory })))
    }

    /// The lock on the directory that has the name now, not on one that had it.
    fn lock(&self, name: &str, how: Lock) -> Result<Option<File>, StoreError> {
        if !is_name(name) {
            return Err(StoreError::Name { name: name.to_owned() });
        }
        let path = self.root.join(name);
        for _ in 0..MAX_TRIES {
            let directory = match File::open(&path) {
                Ok(directory) => directory,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(failed("open", &path)(error)),
            };
            match how {
                Lock::Shared => directory.lock_shared().map_err(failed("lock", &path))?,
                Lock::Whole => directory.try_lock().map_err(|error| match error {
                    TryLockError::WouldBlock => StoreError::InUse {
                        name: name.to_owned(),
                        tasks: vec!["a task that is being started".to_owned()],
                    },
                    TryLockError::Error(error) => failed("lock", &path)(error),
                })?,
            }
            let own = directory.metadata().map_err(failed("look at", &path))?;
            if fs::metadata(&path).is_ok_and(|named| (named.dev(), named.ino()) == (own.dev(), own.ino())) {
                return Ok(Some(directory));
            }
        }
        Err(failed("lock", &path)(io::Error::other("it is removed and made again all the time")))
    }

    /// Removes a volume with its data. `tasks` are those of this host.
    pub fn remove(&self, name: &str, tasks: impl FnOnce() -> Result<Vec<Task>, StoreError>) -> Result<(), StoreError> {
        let lock = self.lock(name, Lock::Whole)?;
        let lock = lock.ok_or_else(|| StoreError::NotFound { name: name.to_owned() })?;
        let users = users(&tasks()?, name);
        if !users.is_empty() {
            return Err(StoreError::InUse { name: name.to_owned(), tasks: users });
        }
        let (place, removing) = (self.root.join(name), self.passing(REMOVING)?);
        fs::rename(&place, &removing).map_err(failed("remove", &place))?;
        drop(lock);
        task_dir::remove_tree(&removing).map_err(failed("remove", &removing))
    }
}

/// `task <id> (family:revision)` for each task that has not stopped and uses the shared volume.
pub fn users(tasks: &[Task], name: &str) -> Vec<String> {
    let uses = |task: &&Task| {
        !task.is_stopped() && task.spec.volumes.iter().any(|volume| volume.shared && volume.name == name)
    };
    let living = tasks.iter().filter(uses);
    living.map(|task| format!("task {} ({}:{})", task.spec.id, task.spec.family, task.spec.revision)).collect()
}

fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    name.len() <= MAX_NAME && name.starts_with(|first: char| first.is_ascii_alphanumeric()) && name.bytes().all(allowed)
}

fn make_directory(path: &Path, mode: u32, parents: bool) -> Result<(), StoreError> {
    DirBuilder::new().mode(mode).recursive(parents).create(path).map_err(failed("make", path))?;
    // Whatever the umask of who called us.
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed("change the mode of", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(name: &str) -> StoredVolume {
        let labels = BTreeMap::from([("team".to_owned(), "shop".to_owned())]);
        StoredVolume {
            name: name.to_owned(),
            labels,
            driver_opts: BTreeMap::new(),
            created_at: Timestamp::from_epoch_ms(7),
        }
    }

    #[test]
    fn a_volume_is_made_listed_and_removed() {
        let folder = tempfile::tempdir().expect("a directory");
        let store = Store::at(folder.path().join("volumes"));
        assert_eq!(store.list().expect("none yet"), []);
        store.create(&volume("b")).expect("new");
        store.create(&volume("a.b-c_d")).expect("new");
        assert!(matches!(store.create(&volume("b")), Err(StoreError::Exists { .. })));
        assert_eq!(store.list().expect("two"), [volume("a.b-c_d"), volume("b")]);
        fs::write(store.mountpoint("b").join("file"), "x").expect("it is a directory");
        let (found, hold) = store.hold("b").expect("it can be locked").expect("it is there");
        assert_eq!(found, volume("b"));
        assert!(matches!(store.remove("b", || Ok(Vec::new())), Err(StoreError::InUse { .. })));
        drop(hold);
        store.remove("b", || Ok(Vec::new())).expect("nobody uses it");
        assert!(matches!(store.remove("b", || Ok(Vec::new())), Err(StoreError::NotFound { .. })));
        assert_eq!(store.list().expect("one"), [volume("a.b-c_d")]);
        assert_eq!(fs::read_dir(folder.path().join("volumes")).expect("a directory").count(), 1);
    }

    #[test]
    fn names_stay_in_the_store() {
        let store = Store::at("/nowhere".into());
        for bad in ["", ".", "..", ".making-x", "a/b", "-x", "a b", &"x".repeat(256)] {
            assert!(matches!(store.get(bad), Err(StoreError::Name { .. })), "{bad:?}");
        }
    }
}
