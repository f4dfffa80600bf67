//! `coracle host-services`, one process for all tasks of a run directory: how supervisors start it, and what it is while it
//! runs. What it does for the tasks is another crate's.
//!
//! `<run>/host-services.lock` says that it runs: an open file description lock (fcntl(2), F_OFD_SETLK), taken by the
//! supervisor that starts it and handed over as its descriptor 3. So of many supervisors that want one, one starts it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use agent_protocol::task_spec::Places;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sched::{CloneFlags, setns};

use crate::cgroup::{CgroupError, Cgroups};
use crate::namespaces;
use crate::sealed_exe;
use crate::shipper;
use crate::supervisor::leave_cgroup;
use crate::task_dir::Roots;

/// The hidden subcommand.
pub const SUBCOMMAND: &str = "host-services";

const LOCK_NAME: &str = "host-services.lock";
const LOG_NAME: &str = "host-services.log";
const OLD_LOG_NAME: &str = "host-services.log.1";
/// In the cgroup of all tasks; no task's id has its form.
const CGROUP_NAME: &str = "host-services";

/// A log of this size becomes the old one, of which there is one, bytes.
const MAX_LOG_BYTES: u64 = 256 << 10;

/// Where the process finds its lock.
const GIVEN_LOCK: i32 = 3;

/// Less important than a supervisor, which starts it again: as any process is from the beginning.
const OOM_SCORE_ADJ: &str = "0";

#[derive(Debug, thiserror::Error)]
pub enum HostServicesError {
    #[error("cannot {action} {path}", path = path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("cannot make the cgroup of the host's services")]
    Cgroup(#[source] CgroupError),
    #[error("cannot start the host's services")]
    Start(#[source] io::Error),
    #[error("the task's directories are not below coracle's")]
    Places,
    #[error("host-services is started by coracle itself: DATA-DIR RUN-DIR CGROUP-PARENT, not {given:?}")]
    NotOurs { given: Vec<OsString> },
}

impl HostServicesError {
    fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HostServicesError {
        let path = path.to_owned();
        move |cause| HostServicesError::File { action, path, cause }
    }
}

pub fn to_words(roots: &Roots) -> [OsString; 3] {
    [&roots.data, &roots.run, &roots.cgroup_parent].map(|path| path.clone().into_os_string())
}

/// The words after the subcommand.
///
/// # Errors
/// They are not ours.
pub fn from_words(words: &[OsString]) -> Result<Roots, HostServicesError> {
    let [data, run, cgroup_parent] = words else {
        return Err(HostServicesError::NotOurs { given: words.to_vec() });
    };
    Ok(Roots { data: data.into(), run: run.into(), cgroup_parent: cgroup_parent.into() })
}

/// `/coracle/host-services`.
pub fn cgroup(roots: &Roots) -> PathBuf {
    roots.cgroup_parent.join(CGROUP_NAME)
}

/// What has become of a wish for the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Started,
    /// There is one, or somebody starts one just now. It finds every task by itself.
    Runs,
}

/// Starts the process for a supervisor, which has one thread. It is in no cgroup of a task, and nothing of the supervisor
/// is in it but its environment.
pub(crate) fn start(places: &Places) -> Result<Start, HostServicesError> {
    let roots = roots_of(places).ok_or(HostServicesError::Places)?;
    let Some(lock) = take_lock(&roots)? else { return Ok(Start::Runs) };
    let cgroups = Cgroups::detect().map_err(HostServicesError::Cgroup)?;
    let leaf = cgroup(&roots);
    cgroups.prepare_host_services_leaf(&leaf).map_err(HostServicesError::Cgroup)?;
    let birthplace = cgroups.birthplace(&leaf).map_err(HostServicesError::Cgroup)?;
    let words: Vec<OsString> = [OsString::from(SUBCOMMAND)].into_iter().chain(to_words(&roots)).collect();
    let enter = || {
        // Mounts of this task are not to be kept by a process that outlives it.
        if let Some(mounts) = namespaces::mounts_of_host() {
            setns(mounts, CloneFlags::CLONE_NEWNS)?;
        }
        // From its begin: the end of this task finds nothing of it in the supervisor's cgroup.
        cgroups.enter_v1(&leaf).map_err(io::Error::other)
    };
    let birth = sealed_exe::Birth { cgroup: birthplace.as_ref().map(AsFd::as_fd), enter: Some(&enter) };
    sealed_exe::spawn_self_at(&words, &lock, birth).map_err(HostServicesError::Start)?;
    Ok(Start::Started)
}

fn roots_of(places: &Places) -> Option<Roots> {
    let above = |path: &Path, levels: usize| path.ancestors().nth(levels).map(Path::to_owned);
    let (data, run) = (above(&places.state, 2)?, above(&places.run, 2)?);
    Some(Roots { data, run, cgroup_parent: above(&places.cgroup, 1)? })
}

/// Nothing where another process has it.
fn take_lock(roots: &Roots) -> Result<Option<OwnedFd>, HostServicesError> {
    let path = roots.run.join(LOCK_NAME);
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let file = options.open(&path).map_err(HostServicesError::file("open", &path))?;
    let free = shipper::lock(&file).map_err(HostServicesError::file("lock", &path))?;
    Ok(free.then(|| file.into()))
}

/// Removes the empty cgroup of a process that was killed, if no other runs. Errors are the next start's to tell.
pub(crate) fn remove_empty_leaf(roots: &Roots, cgroups: &Cgroups) {
    let leaf = cgroup(roots);
    if cgroups.exists(&leaf) && take_lock(roots).is_ok_and(|lock| lock.is_some()) {
        cgroups.remove_if_empty(&leaf);
    }
}

/// The calling process as the host's services.
#[derive(Debug)]
pub struct HostServices {
    cgroups: Cgroups,
    leaf: PathBuf,
    _lock: OwnedFd,
}

impl HostServices {
    /// Makes the calling process, which must have one thread, nobody's child in a cgroup of its own. Standard error is the
    /// log from here on.
    ///
    /// # Errors
    /// It was not started by a supervisor, or the run directory has gone.
    pub fn begin(roots: &Roots) -> Result<(HostServices, Log), HostServicesError> {
        let lock = given_lock(roots).ok_or_else(|| HostServicesError::NotOurs { given: to_words(roots).to_vec() })?;
        let log = Log::open(&roots.run)?;
        // Only a group leader may not; then it has no terminal to lose either.
        nix::unistd::setsid().ok();
        std::env::set_current_dir("/").map_err(HostServicesError::file("enter", Path::new("/")))?;
        let cgroups = Cgroups::detect().map_err(HostServicesError::Cgroup)?;
        let leaf = cgroup(roots);
        cgroups.enter_supervisor_leaf(&leaf).map_err(HostServicesError::Cgroup)?;
        // Higher is always allowed, and a supervisor's is as low as can be; without /proc there is none.
        let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ);
        Ok((HostServices { cgroups, leaf, _lock: lock }, log))
    }

    /// Out of the cgroup, so that it can go. To be called with one thread, as the last thing.
    ///
    /// # Errors
    /// Why it stays; the next process has it again.
    pub fn end(self) -> Result<(), String> {
        leave_cgroup(&self.cgroups, &self.leaf)
    }
}

/// Descriptor 3, if it is the lock and is locked.
fn given_lock(roots: &Roots) -> Option<OwnedFd> {
    // SAFETY: only asks what the number is; a number without a descriptor is an error.
    let mut found: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: fstat writes the struct that is lent to it, and nothing else.
    let known = unsafe { libc::fstat(GIVEN_LOCK, &raw mut found) } == 0;
    let wanted = fs::metadata(roots.run.join(LOCK_NAME)).ok()?;
    if !known || (found.st_dev, found.st_ino) != (wanted.dev(), wanted.ino()) {
        return None;
    }
    // SAFETY: whoever started us left this descriptor to us, and nothing in this process has taken it yet.
    let lock = File::from(unsafe { OwnedFd::from_raw_fd(GIVEN_LOCK) });
    fcntl(&lock, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).ok()?;
    // It is ours already where a supervisor has given it.
    shipper::lock(&lock).ok()?.then(|| lock.into())
}

/// What the process has to say: `host-services.log` in the run directory, and the one before it.
#[derive(Debug)]
pub struct Log {
    run: PathBuf,
    bytes: u64,
}

impl Log {
    /// Takes the standard streams: a panic's message gets into the file too.
    fn open(run: &Path) -> Result<Log, HostServicesError> {
        let null = Path::new("/dev/null");
        let opened = OpenOptions::new().read(true).write(true).open(null);
        let streams = opened.and_then(|null| {
            nix::unistd::dup2_stdin(&null)?;
            nix::unistd::dup2_stdout(&null)?;
            Ok(())
        });
        streams.map_err(HostServicesError::file("open", null))?;
        let mut log = Log { run: run.to_owned(), bytes: 0 };
        log.begin_file().map_err(HostServicesError::file("open", &run.join(LOG_NAME)))?;
        Ok(log)
    }

    fn begin_file(&mut self) -> io::Result<()> {
        let path = self.run.join(LOG_NAME);
        let mut options = OpenOptions::new();
        let options = options.append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(&path)?;
        self.bytes = file.metadata()?.len();
        nix::unistd::dup2_stderr(&file)?;
        Ok(())
    }

    fn begin_another(&mut self) -> io::Result<()> {
        fs::rename(self.run.join(LOG_NAME), self.run.join(OLD_LOG_NAME))?;
        self.begin_file()
    }
}

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.bytes + line.len() as u64 > MAX_LOG_BYTES
            && let Err(cause) = self.begin_another()
            && self.bytes > 2 * MAX_LOG_BYTES
        {
            // It must not grow without end where it cannot be moved.
            return Err(cause);
        }
        let written = io::stderr().write(line)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_read_as_it_was_written() {
        let roots = Roots { data: "/var/lib/a b".into(), run: "/run/coracle".into(), cgroup_parent: "/coracle".into() };
        assert_eq!(from_words(&to_words(&roots)).expect("the same words"), roots);
        let few = from_words(&to_words(&roots)[..2]).expect_err("a word is missing");
        assert!(few.to_string().contains("started by coracle itself"));
    }

    #[test]
    fn the_roots_are_those_that_made_the_places() {
        let roots = Roots { data: "/var/lib/x".into(), run: "/run/x".into(), cgroup_parent: "/x".into() };
        assert_eq!(roots_of(&roots.places(&ecs::TaskId::from_bytes([1; 16]))), Some(roots));
    }

    #[test]
    fn one_has_the_lock() {
        let run = tempfile::tempdir().expect("a directory");
        let roots = Roots { data: "/".into(), run: run.path().to_owned(), cgroup_parent: "/x".into() };
        let held = take_lock(&roots).expect("no error").expect("nobody has it");
        assert!(take_lock(&roots).expect("no error").is_none());
        // Whoever has it by inheritance has it as well.
        let inherited = held.try_clone().expect("cloned");
        drop(held);
        assert!(take_lock(&roots).expect("no error").is_none());
        drop(inherited);
        assert!(take_lock(&roots).expect("no error").is_some());
    }
}
