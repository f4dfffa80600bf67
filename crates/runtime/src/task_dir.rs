//! Where tasks keep what is theirs, who may touch it, and how one is found.
//!
//! Two locks say who owns a task directory `<data-dir>/tasks/<id>`; both go with their process, whatever kills it:
//!
//! - **claim**: flock(2) on the directory itself. The driver that makes a task holds it until the supervisor has
//!   taken over; `recover` and `remove` hold it while they clean.
//! - **supervisor lock**: a POSIX record lock (fcntl(2), F_SETLK) on the file `lock` in it. The supervisor takes it
//!   before it makes anything and keeps it until it has ended. A record lock belongs to the process and is not
//!   inherited, so no launcher and no container can hold it by mistake.
//!
//! The file `lock` goes when the task has stopped: one that has a status and no lock is done with. A task that is
//! neither claimed nor supervised and whose status is not STOPPED was cut short. Directories are made
//! and claimed under flock(2) on `<data-dir>/tasks`, so that nobody finds one that is not claimed yet.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use agent_protocol::task_spec::{FORMAT, Places};
use agent_protocol::{TaskSpec, TaskStatus};
use ecs::TaskId;
use ecs::task::LastStatus;
use nix::fcntl::{Flock, FlockArg};

use crate::logs::groups;
use crate::shipper;
use crate::status_file::{self, StatusFileError};

pub const SPEC_NAME: &str = "task.json";
pub const LOGS_NAME: &str = "logs";
pub const CONTAINERS_NAME: &str = "containers";
pub const CTL_NAME: &str = "ctl";
const LOCK_NAME: &str = "lock";

/// How often a tree that is being removed is looked through; each level of directories takes one look at most.
const MAX_PASSES: u32 = 1 << 20;

/// The directories and the cgroup below which every task of one host has its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// `/var/lib/coracle` unless told otherwise.
    pub data: PathBuf,
    /// `/run/coracle` unless told otherwise. Short: a socket's path has at most 107 bytes (unix(7)).
    pub run: PathBuf,
    /// Below each cgroup hierarchy's root, with a leading slash: `/coracle` unless told otherwise.
    pub cgroup_parent: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum TaskDirError {
    #[error("cannot {action} {path}", path = path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("task {id} exists already")]
    Exists { id: TaskId },
    #[error("task {id} is still running; stop it first")]
    Running { id: TaskId },
    #[error("task {id} was cut short, and what it left has not been cleaned up yet")]
    CutShort { id: TaskId },
    #[error("the logs of task {id} are still being shipped")]
    Shipping { id: TaskId },
    #[error("task {id} is being started or removed by another coracle")]
    Claimed { id: TaskId },
    #[error("task {id} was made by another version of coracle (format {format}, this one knows {FORMAT})")]
    Format { id: TaskId, format: u32 },
    #[error("the task directory cannot be read")]
    File(#[source] StatusFileError),
}

impl TaskDirError {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TaskDirError {
        let path = path.to_owned();
        move |cause| TaskDirError::Io { action, path, cause }
    }
}

impl Roots {
    pub fn tasks(&self) -> PathBuf {
        self.data.join("tasks")
    }

    pub fn places(&self, id: &TaskId) -> Places {
        Places {
            state: self.tasks().join(id.as_str()),
            run: self.run.join("tasks").join(id.as_str()),
            cgroup: self.cgroup_parent.join(id.as_str()),
            supervisor_cgroup: self.cgroup_parent.join(format!("supervisor-{id}")),
        }
    }
}

/// The driver's or a cleaner's hold on a task directory; ends when dropped.
#[derive(Debug)]
pub struct Claim {
    _directory: Flock<File>,
}

/// A task's directories as just made: empty, and claimed.
#[derive(Debug)]
pub struct NewTask {
    pub id: TaskId,
    pub places: Places,
    pub claim: Claim,
}

/// Makes the directories of a new task, all of mode 0700, and claims them.
pub fn create(roots: &Roots, id: &TaskId) -> Result<NewTask, TaskDirError> {
    let places = roots.places(id);
    make_directory(&roots.tasks(), Existing::Fine)?;
    make_directory(&roots.run.join("tasks"), Existing::Fine)?;
    let _all = lock_all(roots)?;
    match make_directory(&places.state, Existing::Refused) {
        Err(TaskDirError::Io { cause, .. }) if cause.kind() == io::ErrorKind::AlreadyExists => {
            return Err(TaskDirError::Exists { id: id.clone() });
        }
        other => other?,
    }
    let claim = claim(&places.state)?.ok_or_else(|| TaskDirError::Claimed { id: id.clone() })?;
    for directory in [places.state.join(LOGS_NAME), places.state.join(CONTAINERS_NAME), places.run.clone()] {
        make_directory(&directory, Existing::Fine)?;
    }
    let lock = places.state.join(LOCK_NAME);
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&lock)
        .map_err(TaskDirError::io("create", &lock))?;
    Ok(NewTask { id: id.clone(), places, claim })
}

/// Writes `task.json` whole: from here on the task is told of, whatever process dies. A power cut may lose it; it
/// has ended the task's containers too.
pub fn write_spec(spec: &TaskSpec) -> Result<(), TaskDirError> {
    use std::io::Write;
    let path = spec.places.state.join(SPEC_NAME);
    let temporary = spec.places.state.join(".task.json.new");
    let bytes = serde_json::to_vec(spec).map_err(io::Error::other).map_err(TaskDirError::io("encode", &path))?;
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let mut file = options.open(&temporary).map_err(TaskDirError::io("create", &temporary))?;
    file.write_all(&bytes).map_err(TaskDirError::io("write", &temporary))?;
    fs::rename(&temporary, &path).map_err(TaskDirError::io("replace", &path))
}

/// The spec of the task whose state directory this is; nothing where the driver has not written it yet.
pub fn read_spec(state: &Path) -> Result<Option<TaskSpec>, TaskDirError> {
    let spec: Option<TaskSpec> = status_file::read_json(&state.join(SPEC_NAME)).map_err(TaskDirError::File)?;
    match spec {
        Some(spec) if spec.format != FORMAT => Err(TaskDirError::Format { id: spec.id, format: spec.format }),
        spec => Ok(spec),
    }
}

/// A task as its directory tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    pub spec: TaskSpec,
    /// Nothing before the supervisor's first word.
    pub status: Option<TaskStatus>,
}

impl Task {
    pub fn is_stopped(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.last_status == LastStatus::Stopped)
    }
}

/// Every task with a readable `task.json`, oldest first, and what could not be read.
pub fn list(roots: &Roots) -> Result<(Vec<Task>, Vec<TaskDirError>), TaskDirError> {
    let (mut tasks, mut unreadable) = (Vec::new(), Vec::new());
    for id in ids(roots)? {
        match read(roots, &id) {
            Ok(Some(task)) => tasks.push(task),
            // Being made, or being removed.
            Ok(None) => {}
            Err(error) => unreadable.push(error),
        }
    }
    tasks.sort_unstable_by(|one, other| {
        (one.spec.created_at, &one.spec.id).cmp(&(other.spec.created_at, &other.spec.id))
    });
    Ok((tasks, unreadable))
}

pub fn read(roots: &Roots, id: &TaskId) -> Result<Option<Task>, TaskDirError> {
    let state = roots.places(id).state;
    let Some(spec) = read_spec(&state)? else { return Ok(None) };
    let status = status_file::read(&state).map_err(TaskDirError::File)?;
    Ok(Some(Task { spec, status }))
}

/// The ids of all task directories, whatever is in them.
pub(crate) fn ids(roots: &Roots) -> Result<Vec<TaskId>, TaskDirError> {
    let tasks = roots.tasks();
    let entries = match fs::read_dir(&tasks) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(TaskDirError::io("list", &tasks)(cause)),
    };
    let mut ids = Vec::new();
    for entry in entries {
        let entry = entry.map_err(TaskDirError::io("list", &tasks))?;
        // Names that are no ids are not ours to judge.
        ids.extend(entry.file_name().into_string().ok().and_then(|name| TaskId::try_from(name).ok()));
    }
    ids.sort_unstable();
    Ok(ids)
}

#[derive(Debug, thiserror::Error)]
pub enum FindError {
    #[error(
        "no task has {wanted:?} as its id, the start of its id, its name or its family; `coracle ps --all` lists them"
    )]
    NotFound { wanted: String },
    #[error("{wanted:?} means several tasks; give one of these ids: {}", candidates.join(", "))]
    Ambiguous {
        wanted: String,
        /// `<id> (family:revision, STATUS)` each.
        candidates: Vec<String>,
    },
    #[error("the tasks cannot be listed")]
    List(#[source] TaskDirError),
}

/// The task that `wanted` means: an id, an ARN, the start of an id, a name, or a family. Of a family or a name, a
/// task that still runs goes before those that have stopped.
pub fn find(roots: &Roots, wanted: &str) -> Result<Task, FindError> {
    let (tasks, _) = list(roots).map_err(FindError::List)?;
    choose(tasks, wanted)
}

fn choose(tasks: Vec<Task>, wanted: &str) -> Result<Task, FindError> {
    let id = wanted.rsplit('/').next().unwrap_or(wanted);
    let is_id = |task: &Task| !id.is_empty() && task.spec.id.as_str().starts_with(id);
    let is_called = |task: &Task| task.spec.name.as_deref() == Some(wanted);
    let is_family =
        |task: &Task| task.spec.family == wanted || format!("{}:{}", task.spec.family, task.spec.revision) == wanted;
    for matches in [&is_called as &dyn Fn(&Task) -> bool, &is_id, &is_family] {
        let mut found: Vec<&Task> = tasks.iter().filter(|task| matches(task)).collect();
        if found.len() > 1 && found.iter().any(|task| !task.is_stopped()) {
            found.retain(|task| !task.is_stopped());
        }
        match found.as_slice() {
            [] => {}
            [one] => return Ok((*one).clone()),
            several => {
                let candidates = several.iter().map(|task| describe(task)).collect();
                return Err(FindError::Ambiguous { wanted: wanted.to_owned(), candidates });
            }
        }
    }
    Err(FindError::NotFound { wanted: wanted.to_owned() })
}

fn describe(task: &Task) -> String {
    let status = match &task.status {
        Some(status) => format!("{:?}", status.last_status).to_uppercase(),
        None => "PENDING".to_owned(),
    };
    format!("{} ({}:{}, {status})", task.spec.id, task.spec.family, task.spec.revision)
}

/// Removes everything a stopped task has left: its state and logs.
pub fn remove(roots: &Roots, id: &TaskId) -> Result<(), TaskDirError> {
    let places = roots.places(id);
    let Some(_claim) = claim(&places.state)? else { return Err(TaskDirError::Claimed { id: id.clone() }) };
    if supervised(&places.state)? {
        return Err(TaskDirError::Running { id: id.clone() });
    }
    if shipper::stage(&places.state).is_ok_and(|stage| stage == shipper::Stage::Running) {
        return Err(TaskDirError::Shipping { id: id.clone() });
    }
    // Its directories are the only thing by which the rest of it is found.
    if !is_stopped(&places.state) {
        return Err(TaskDirError::CutShort { id: id.clone() });
    }
    for directory in [&places.run, &places.state] {
        remove_tree(directory).map_err(TaskDirError::io("remove", directory))?;
    }
    // The task is gone, whether what other tasks have left can be thinned out or not.
    let tasks = roots.tasks();
    if let Err(cause) = groups::prune(&roots.data, groups::Retention::default(), |task| tasks.join(task).exists()) {
        tracing::warn!(error = %cause, "old log streams are not removed");
    }
    Ok(())
}

/// Removes a directory with all in it; one that is gone already is as good.
///
/// A container may have put directories inside each other without end: std's `remove_dir_all` recurses and holds a
/// descriptor for each of them. Here what is not empty comes up to the top, until nothing is below it. No link is
/// followed, even if something that outlived SIGKILL still changes the tree.
pub fn remove_tree(directory: &Path) -> io::Result<()> {
    let top = match open_directory(directory) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let mut moved = 0;
    for _ in 0..MAX_PASSES {
        for entry in fs::read_dir(place_of(&top))? {
            let place = entry?.path();
            if removed(&place)? {
                continue;
            }
            let inner = open_directory(&place)?;
            for entry in fs::read_dir(place_of(&inner))? {
                let deep = entry?.path();
                if !removed(&deep)? {
                    move_up(&deep, &place_of(&top), &mut moved)?;
                }
            }
            removed(&place)?;
        }
        if removed(directory)? {
            return Ok(());
        }
    }
    Err(io::ErrorKind::DirectoryNotEmpty.into())
}

fn open_directory(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(path)
}

/// A path to what is open, wherever it is moved meanwhile.
fn place_of(directory: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()))
}

/// False for a directory that is not empty.
fn removed(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() == io::ErrorKind::IsADirectory => {}
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
        Ok(()) | Err(_) => return Ok(true),
    }
    match fs::remove_dir(path) {
        Err(cause) if cause.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause),
        Ok(()) | Err(_) => Ok(true),
    }
}

fn move_up(from: &Path, top: &Path, moved: &mut u64) -> io::Result<()> {
    loop {
        *moved += 1;
        match fs::rename(from, top.join(format!(".deep-{moved}"))) {
            // Left by a removal that was cut short.
            Err(cause) if matches!(cause.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {}
            other => return other,
        }
    }
}

/// Whether a supervisor lives for the task whose state directory this is.
pub fn supervised(state: &Path) -> Result<bool, TaskDirError> {
    let path = state.join(LOCK_NAME);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(cause) => return Err(TaskDirError::io("open", &path)(cause)),
    };
    let mut lock = whole_file_lock();
    // SAFETY: F_GETLK reads and writes the struct that is lent to it, and nothing else.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &raw mut lock) };
    if done < 0 {
        return Err(TaskDirError::io("ask for the lock on", &path)(io::Error::last_os_error()));
    }
    Ok(lock.l_type != libc::F_UNLCK as libc::c_short)
}

/// A task that has stopped and whose supervisor has done its last: it has a status, and nothing to lock any more.
pub(crate) fn is_retired(state: &Path) -> bool {
    !state.join(LOCK_NAME).exists() && state.join(status_file::NAME).exists()
}

/// An unreadable status is no STOPPED: such a task is cleaned, and gets a readable one.
pub fn is_stopped(state: &Path) -> bool {
    let status = status_file::read(state).unwrap_or(None);
    status.is_some_and(|status| status.last_status == LastStatus::Stopped)
}

/// Nobody is going to supervise this task again.
pub(crate) fn retire(state: &Path) -> Result<(), TaskDirError> {
    let path = state.join(LOCK_NAME);
    match fs::remove_file(&path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(TaskDirError::io("remove", &path)(cause)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The supervisor's own lock. It must stay open, and this process must never open the file again: closing any
/// descriptor of it would give the lock up (fcntl(2)).
#[derive(Debug)]
pub(crate) struct SupervisorLock {
    _file: File,
}

pub(crate) fn lock_as_supervisor(state: &Path) -> Result<SupervisorLock, TaskDirError> {
    let path = state.join(LOCK_NAME);
    let mut options = OpenOptions::new();
    let file = options.write(true).open(&path).map_err(TaskDirError::io("open", &path))?;
    let lock = whole_file_lock();
    // SAFETY: F_SETLK reads the struct that is lent to it, and nothing else.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw const lock) } < 0 {
        return Err(TaskDirError::io("lock", &path)(io::Error::last_os_error()));
    }
    Ok(SupervisorLock { _file: file })
}

fn whole_file_lock() -> libc::flock {
    // SAFETY: a flock is plain numbers; all zero is a lock from the file's start to its end.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock
}

/// Takes the claim on a task's state directory; nothing where somebody else has it, or has just removed it.
pub(crate) fn claim(state: &Path) -> Result<Option<Claim>, TaskDirError> {
    let directory = match File::open(state) {
        Ok(directory) => directory,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(TaskDirError::io("open", state)(cause)),
    };
    match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
        // It may have been opened, then removed by whoever had the claim until then.
        Ok(_) if !state.exists() => Ok(None),
        Ok(directory) => Ok(Some(Claim { _directory: directory })),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, cause)) => Err(TaskDirError::io("claim", state)(cause.into())),
    }
}

/// The lock under which task directories come to be and names are taken; held for moments.
pub fn lock_all(roots: &Roots) -> Result<Flock<File>, TaskDirError> {
    let tasks = roots.tasks();
    let mut directory = File::open(&tasks).map_err(TaskDirError::io("open", &tasks))?;
    loop {
        match Flock::lock(directory, FlockArg::LockExclusive) {
            Ok(locked) => return Ok(locked),
            Err((again, nix::errno::Errno::EINTR)) => directory = again,
            Err((_, cause)) => return Err(TaskDirError::io("lock", &tasks)(cause.into())),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Existing {
    Fine,
    Refused,
}

fn make_directory(path: &Path, existing: Existing) -> Result<(), TaskDirError> {
    DirBuilder::new()
        .recursive(existing == Existing::Fine)
        .mode(0o700)
        .create(path)
        .map_err(TaskDirError::io("create", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_gone_is_nothing_to_claim_and_a_claimed_one_neither() {
        let around = tempfile::tempdir().expect("a directory");
        assert!(claim(&around.path().join("gone")).expect("no error").is_none());
        let held = claim(around.path()).expect("claimed");
        assert!(held.is_some() && claim(around.path()).expect("no error").is_none());
    }

    #[test]
    fn a_tree_deeper_than_any_limit_of_descriptors_goes_and_what_a_link_names_stays() {
        const DEPTH: u32 = 30_000;
        let around = tempfile::tempdir().expect("a directory");
        let (tree, lifted) = (around.path().join("tree"), around.path().join("lifted"));
        let kept = around.path().join("kept");
        fs::write(&kept, "x").expect("written");
        fs::create_dir(&tree).expect("made");
        // From the inside out, because no path is long enough for it.
        for _ in 0..DEPTH {
            fs::create_dir(&lifted).expect("made");
            fs::write(lifted.join("file"), "").expect("written");
            std::os::unix::fs::symlink(around.path(), lifted.join("link")).expect("linked");
            fs::rename(&tree, lifted.join("below")).expect("moved");
            fs::rename(&lifted, &tree).expect("moved");
        }
        remove_tree(&tree).expect("removed");
        assert!(!tree.exists() && kept.exists());
        remove_tree(&tree).expect("what is gone is as good");
    }
}
