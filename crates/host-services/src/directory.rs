//! Tells that something has changed among the run directories of the tasks: never what. Whoever asks looks at all of them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use ecs::TaskId;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::io::unix::AsyncFd;

use crate::readiness::{self, Watched};

/// A task's directory is made before its supervisor listens in it, and the socket gets its mode when it does.
const IN_ONE: AddWatchFlags = AddWatchFlags::IN_CREATE.union(AddWatchFlags::IN_ATTRIB);
const AMONG_ALL: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF);

/// `<run>/tasks`, and those directories in it whose supervisor is awaited.
pub(crate) struct Directory {
    path: PathBuf,
    events: AsyncFd<Watched<Inotify>>,
    awaited: BTreeMap<TaskId, WatchDescriptor>,
}

impl Directory {
    /// # Errors
    /// There is no such directory, or the user has too many watches (inotify(7), max_user_instances).
    pub(crate) fn watch(path: &Path) -> io::Result<Directory> {
        let events = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        events.add_watch(path, AMONG_ALL | AddWatchFlags::IN_ONLYDIR)?;
        let events = readiness::watch(events)?;
        Ok(Directory { path: path.to_owned(), events, awaited: BTreeMap::new() })
    }

    /// Returns after a change.
    pub(crate) async fn changed(&self) -> io::Result<()> {
        loop {
            let mut ready = self.events.readable().await?;
            match self.events.get_ref().0.read_events() {
                Ok(_) => return Ok(()),
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// The tasks that have a run directory now. None, if all of it has gone.
    pub(crate) fn tasks(&self) -> io::Result<Vec<TaskId>> {
        let mut tasks = Vec::new();
        let entries = match std::fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(tasks),
            Err(cause) => return Err(cause),
        };
        for entry in entries {
            let name = entry?.file_name().into_string().ok();
            tasks.extend(name.and_then(|name| TaskId::try_from(name).ok()));
        }
        Ok(tasks)
    }

    /// From now on a socket that appears in the task's directory is a change. Where the kernel has no watch left, only
    /// looking again from time to time finds it.
    pub(crate) fn await_supervisor(&mut self, task: &TaskId) {
        if self.awaited.contains_key(task) {
            return;
        }
        if let Ok(watch) = self.events.get_ref().0.add_watch(&self.path.join(task.as_str()), IN_ONE) {
            self.awaited.insert(task.clone(), watch);
        }
    }

    /// Its supervisor is there, or its directory has gone.
    pub(crate) fn forget(&mut self, task: &TaskId) {
        if let Some(watch) = self.awaited.remove(task) {
            // Gone with the directory, if that has gone.
            let _ = self.events.get_ref().0.rm_watch(watch);
        }
    }

    /// The tasks whose supervisors are awaited.
    pub(crate) fn awaited(&self) -> impl Iterator<Item = &TaskId> {
        self.awaited.keys()
    }
}
