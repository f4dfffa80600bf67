//! What a container instance writes down: its last assignment, its identity, and a mark for each task that it has begun.
//!
//! | | |
//! |---|---|
//! | `<data>/assignment.json` | the last assignment, before anything is done about it |
//! | `<data>/agent/instance.json` | the id that the control plane gave |
//! | `<data>/agent/tasks/<id>` | a mark: this task was begun here, so it is not begun again; and how it ended, where it has no directory of its own to tell |
//!
//! A mark is written before anything of its task is made and goes after everything of it has: the marks are the agent's
//! tasks, beside those of `coracle run`.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use agent_protocol::session::Assignment;
use ecs::task::StopCode;
use ecs::{ContainerInstanceId, TaskId, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

const ASSIGNMENT: &str = "assignment.json";
pub(super) const AGENT: &str = "agent";
const INSTANCE: &str = "instance.json";
const TASKS: &str = "tasks";
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

#[derive(Debug, thiserror::Error)]
#[error("{} cannot be {doing}", path.display())]
pub struct DiskError {
    pub path: PathBuf,
    pub doing: &'static str,
    #[source]
    pub cause: io::Error,
}

fn failed(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> DiskError {
    move |cause| DiskError { path: path.to_owned(), doing, cause }
}

/// The last assignment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Kept {
    /// Of the boot in which it was written.
    pub boot_id: String,
    /// Whose it is: an instance that came as another one would leave its tasks to nobody.
    #[serde(default)]
    pub identity: Option<Identity>,
    pub assignment: Assignment,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Identity {
    pub instance: ContainerInstanceId,
    pub cluster: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Mark {
    pub boot_id: String,
    /// False for a task that is to be begun again after a reboot.
    pub begun: bool,
    /// Of the task's status before that reboot: what is reported goes on from there.
    #[serde(default)]
    pub versions_before: u64,
    #[serde(default)]
    pub ended: Option<Ended>,
}

/// How a task ended that has no status of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ended {
    pub code: StopCode,
    pub reason: String,
    pub at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Survives every process's death; a power cut ends the tasks as well.
    Kernel,
    Disk,
}

#[derive(Clone, Debug)]
pub(crate) struct Disk {
    data: PathBuf,
}

impl Disk {
    pub(crate) fn open(data: &Path) -> Result<Disk, DiskError> {
        let disk = Disk { data: data.to_owned() };
        let tasks = disk.tasks();
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(&tasks).map_err(failed(&tasks, "made"))?;
        Ok(disk)
    }

    fn tasks(&self) -> PathBuf {
        self.agent().join(TASKS)
    }

    /// With the host's key in it, where it has joined another.
    pub(crate) fn agent(&self) -> PathBuf {
        self.data.join(AGENT)
    }

    pub(crate) fn assignment(&self) -> Result<Option<Kept>, DiskError> {
        read(&self.data.join(ASSIGNMENT))
    }

    /// Durable when this returns.
    pub(crate) fn write_assignment(&self, kept: &Kept) -> Result<(), DiskError> {
        write(&self.data.join(ASSIGNMENT), &json(kept), Durability::Disk)
    }

    pub(crate) fn identity(&self) -> Result<Option<Identity>, DiskError> {
        read(&self.agent().join(INSTANCE))
    }

    pub(crate) fn write_identity(&self, identity: &Identity) -> Result<(), DiskError> {
        write(&self.agent().join(INSTANCE), &json(identity), Durability::Disk)
    }

    /// A mark that cannot be read still says that its task was begun.
    pub(crate) fn marks(&self) -> Result<BTreeMap<TaskId, Mark>, DiskError> {
        let tasks = self.tasks();
        let mut marks = BTreeMap::new();
        for entry in fs::read_dir(&tasks).map_err(failed(&tasks, "listed"))? {
            let name = entry.map_err(failed(&tasks, "listed"))?.file_name();
            // One that was being written is none yet.
            let Some(id) = name.into_string().ok().and_then(|name| TaskId::try_from(name).ok()) else { continue };
            let mark = read(&tasks.join(id.as_str())).unwrap_or_else(|error| {
                tracing::warn!(task = %id, error = crate::recovery::chain(&error), "a mark cannot be read");
                None
            });
            marks.insert(id, mark.unwrap_or(Mark { begun: true, ..Mark::default() }));
        }
        Ok(marks)
    }

    pub(crate) fn mark(&self, id: &TaskId, mark: &Mark, durability: Durability) -> Result<(), DiskError> {
        write(&self.tasks().join(id.as_str()), &json(mark), durability)
    }

    pub(crate) fn unmark(&self, id: &TaskId) -> Result<(), DiskError> {
        let path = self.tasks().join(id.as_str());
        match fs::remove_file(&path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(failed(&path, "removed")(cause)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data with string keys")
}

pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, DiskError> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| failed(path, "understood")(error.into())),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(failed(path, "read")(cause)),
    }
}

/// Whole or not at all.
pub(super) fn write(path: &Path, bytes: &[u8], durability: Durability) -> Result<(), DiskError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let beside = directory.join(format!(".{}.new", path.file_name().unwrap_or_default().to_string_lossy()));
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(FILE_MODE);
    let mut file = options.open(&beside).map_err(failed(&beside, "made"))?;
    file.write_all(bytes).map_err(failed(&beside, "written"))?;
    match durability {
        Durability::Kernel => fs::rename(&beside, path).map_err(failed(path, "put in its place")),
        Durability::Disk => {
            file.sync_all().map_err(failed(&beside, "synced"))?;
            fs::rename(&beside, path).map_err(failed(path, "put in its place"))?;
            File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed(directory, "synced"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::samples::id;

    #[test]
    fn marks_are_found_again_and_a_broken_one_still_counts() {
        let directory = tempfile::tempdir().expect("a directory");
        let disk = Disk::open(directory.path()).expect("opened");
        assert!(disk.assignment().expect("read").is_none() && disk.marks().expect("listed").is_empty());
        let mark = Mark { boot_id: "b".to_owned(), begun: true, versions_before: 7, ended: None };
        disk.mark(&id(1), &mark, Durability::Kernel).expect("written");
        fs::write(disk.tasks().join(id(2).as_str()), "{").expect("written");
        let marks = disk.marks().expect("listed");
        assert_eq!(marks.len(), 2);
        assert_eq!(marks[&id(1)], mark);
        assert!(marks[&id(2)].begun);
        disk.unmark(&id(1)).expect("removed");
        disk.unmark(&id(1)).expect("gone is as good");
        assert_eq!(disk.marks().expect("listed").len(), 1);
    }
}
