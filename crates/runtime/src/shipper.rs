//! A task's second process, `coracle log-shipper`: how it is started, known to live, and comes to its end. What it ships
//! and where to is another crate's.
//!
//! `<state>/shipping/lock` says that there is something to ship. The shipper has an open file description lock
//! (fcntl(2), F_OFD_SETLK) on it, taken by whoever starts it and handed over with its secrets, so that there is no
//! moment at which nobody has it. The file goes when all is shipped: one that is there and not locked is a shipper's
//! that was killed, and the next coracle that looks starts another.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_protocol::ContainerSecrets;
use agent_protocol::task_spec::Places;
use ecs::TaskId;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::cgroup::{CgroupError, Cgroups};
use crate::sealed_exe;
use crate::socket::{Incoming, Limits, Received, send};
use crate::spawn::SupervisorArgs;
use crate::supervisor::leave_cgroup;

/// The hidden subcommand.
pub const SUBCOMMAND: &str = "log-shipper";

/// In a task's state directory.
pub const DIRECTORY: &str = "shipping";
const LOCK_NAME: &str = "lock";
/// What a shipper has to say that belongs into no status; of a panic, its message.
const LOG_NAME: &str = "shipper.log";

/// Where a shipper finds the socket that it was given.
const GIVEN_SOCKET: i32 = 3;
/// A new shipper reads its secrets at once.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(20);
/// Secrets are at most 64 KiB each (Secrets Manager's limit), a few for each of ten containers; one lock.
const HANDOVER_LIMITS: Limits = Limits { line_bytes: 8 << 20, descriptors: 1 };

#[derive(Debug, thiserror::Error)]
pub enum ShipperError {
    #[error("cannot {action} {path}", path = path.display())]
    File {
        action: &'static str,
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("cannot make the shipper's cgroup")]
    Cgroup(#[source] CgroupError),
    #[error("cannot start the task's log shipper")]
    Start(#[source] io::Error),
    #[error("the task's log shipper did not take its secrets")]
    Handover(#[source] io::Error),
    #[error("log-shipper is started by coracle itself")]
    NotOurs,
}

impl ShipperError {
    fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ShipperError {
        let path = path.to_owned();
        move |cause| ShipperError::File { action, path, cause }
    }
}

/// The shipper's own cgroup, beside the supervisor's: `/coracle/shipper-<id>`.
pub fn cgroup(id: &TaskId, places: &Places) -> PathBuf {
    let parent = places.supervisor_cgroup.parent().unwrap_or(Path::new("/"));
    parent.join(format!("{CGROUP_PREFIX}{id}"))
}

pub(crate) const CGROUP_PREFIX: &str = "shipper-";

/// How shipping stands, by its lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing was to be shipped, or all is.
    Done,
    Running,
    /// Its shipper has died.
    CutShort,
}

/// # Errors
/// The lock cannot be asked for.
pub fn stage(state: &Path) -> Result<Stage, ShipperError> {
    let path = state.join(DIRECTORY).join(LOCK_NAME);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Stage::Done),
        Err(cause) => return Err(ShipperError::file("open", &path)(cause)),
    };
    let mut lock = whole_file();
    fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock))
        .map_err(|cause| ShipperError::file("ask for the lock on", &path)(cause.into()))?;
    Ok(if lock.l_type == libc::F_UNLCK as libc::c_short { Stage::CutShort } else { Stage::Running })
}

/// Starts a task's shipper. Nothing happens where one runs, or where another coracle starts one just now.
///
/// `secrets` go over a socket: nobody writes them down, and no command line or environment has them.
pub fn spawn(id: &TaskId, places: &Places, secrets: &[ContainerSecrets]) -> Result<(), ShipperError> {
    let directory = places.state.join(DIRECTORY);
    match DirBuilder::new().mode(0o700).create(&directory) {
        Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => {
            return Err(ShipperError::file("create", &directory)(cause));
        }
        Ok(()) | Err(_) => {}
    }
    let Some(lock) = take_lock(&directory)? else { return Ok(()) };
    let (ours, theirs) = UnixStream::pair().map_err(ShipperError::Start)?;
    ours.set_write_timeout(Some(HANDOVER_TIMEOUT)).map_err(ShipperError::Start)?;
    let args = SupervisorArgs { id: id.clone(), places: places.clone() };
    let words: Vec<OsString> = [OsString::from(SUBCOMMAND)].into_iter().chain(args.to_words()).collect();
    let cgroups = Cgroups::detect().map_err(ShipperError::Cgroup)?;
    let leaf = cgroup(id, places);
    cgroups.prepare_shipper_leaf(&leaf).map_err(ShipperError::Cgroup)?;
    let birthplace = cgroups.birthplace(&leaf).map_err(ShipperError::Cgroup)?;
    let theirs = OwnedFd::from(theirs);
    sealed_exe::spawn_self(&words, &theirs, birthplace.as_ref().map(AsFd::as_fd)).map_err(ShipperError::Start)?;
    drop(theirs);
    let mut line = serde_json::to_vec(secrets).expect("secrets are plain data with string keys");
    line.push(b'\n');
    send(ours.as_fd(), &line, &[lock.as_fd()]).map_err(ShipperError::Handover)
}

/// The lock for a new shipper; nothing where another has it, or has just done its last.
fn take_lock(directory: &Path) -> Result<Option<File>, ShipperError> {
    let path = directory.join(LOCK_NAME);
    let open = |path: &Path, options: &mut OpenOptions| options.write(true).custom_flags(libc::O_NOFOLLOW).open(path);
    match open(&path, &mut OpenOptions::new()) {
        Ok(file) => {
            if !lock(&file).map_err(ShipperError::file("lock", &path))? {
                return Ok(None);
            }
            // It may have gone between our look and our lock: then all is shipped.
            return Ok(path.exists().then_some(file));
        }
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
        Err(cause) => return Err(ShipperError::file("open", &path)(cause)),
    }
    // Locked before it has its name, so that nobody sees one that is not.
    let unnamed = directory.join(format!(".{LOCK_NAME}.{}", std::process::id()));
    let file = open(&unnamed, OpenOptions::new().create(true).mode(0o600));
    let file = file.map_err(ShipperError::file("create", &unnamed))?;
    if !lock(&file).map_err(ShipperError::file("lock", &unnamed))? {
        return Ok(None);
    }
    fs::rename(&unnamed, &path).map_err(ShipperError::file("create", &path))?;
    Ok(Some(file))
}

/// Whether nobody else has it.
pub(crate) fn lock(file: &File) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole_file())) {
        Ok(_) => Ok(true),
        Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => Ok(false),
        Err(cause) => Err(cause.into()),
    }
}

fn whole_file() -> libc::flock {
    // SAFETY: a flock is plain numbers; all zero is a lock from the file's start to its end, and OFD locks want pid 0.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock
}

/// The calling process as a task's shipper.
#[derive(Debug)]
pub struct Shipper {
    pub secrets: Vec<ContainerSecrets>,
    cgroups: Cgroups,
    leaf: PathBuf,
    directory: PathBuf,
    _lock: OwnedFd,
}

impl Shipper {
    /// Makes the calling process, which must have one thread, nobody's child in a cgroup of its own.
    ///
    /// # Errors
    /// It was not started by `spawn`, or the task's directory has gone.
    pub fn begin(args: &SupervisorArgs) -> Result<Shipper, ShipperError> {
        let socket = given_socket().ok_or(ShipperError::NotOurs)?;
        let (secrets, lock) = take_over(socket.as_fd())?;
        let directory = args.places.state.join(DIRECTORY);
        let log = directory.join(LOG_NAME);
        take_standard_streams(&log).map_err(ShipperError::file("open", &log))?;
        // Only a group leader may not; then it has no terminal to lose either.
        nix::unistd::setsid().ok();
        std::env::set_current_dir("/").map_err(ShipperError::file("enter", Path::new("/")))?;
        let cgroups = Cgroups::detect().map_err(ShipperError::Cgroup)?;
        let leaf = cgroup(&args.id, &args.places);
        cgroups.enter_supervisor_leaf(&leaf).map_err(ShipperError::Cgroup)?;
        Ok(Shipper { secrets, cgroups, leaf, directory, _lock: lock })
    }

    /// All is shipped or given up: nobody is going to start another. To be called with one thread.
    ///
    /// # Errors
    /// What could not be taken away; the rest was.
    pub fn end(self) -> Vec<String> {
        let mut errors = Vec::new();
        let lock = self.directory.join(LOCK_NAME);
        match fs::remove_file(&lock) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                errors.push(format!("cannot remove {}: {cause}", lock.display()));
            }
            Ok(()) | Err(_) => {}
        }
        errors.extend(leave_cgroup(&self.cgroups, &self.leaf).err());
        errors
    }
}

/// The inherited socket; nothing where descriptor 3 is something else.
fn given_socket() -> Option<OwnedFd> {
    // SAFETY: only asks what the number is; a number without a descriptor is an error.
    let mut metadata: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: fstat writes the struct that is lent to it, and nothing else.
    let known = unsafe { libc::fstat(GIVEN_SOCKET, &raw mut metadata) } == 0;
    if !known || metadata.st_mode & libc::S_IFMT != libc::S_IFSOCK {
        return None;
    }
    // SAFETY: whoever started us left this descriptor to us, and nothing in this process has taken it yet.
    let socket = unsafe { OwnedFd::from_raw_fd(GIVEN_SOCKET) };
    fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).ok()?;
    Some(socket)
}

fn take_over(socket: BorrowedFd<'_>) -> Result<(Vec<ContainerSecrets>, OwnedFd), ShipperError> {
    let mut incoming = Incoming::default();
    let line = loop {
        if let Some(line) = incoming.line() {
            break line;
        }
        match incoming.receive(socket, HANDOVER_LIMITS).map_err(ShipperError::Handover)? {
            Received::Something => {}
            // Whoever started us has died in the middle of it.
            Received::End => return Err(ShipperError::Handover(io::ErrorKind::UnexpectedEof.into())),
        }
    };
    let secrets = serde_json::from_slice(&line).map_err(|cause| ShipperError::Handover(cause.into()))?;
    let lock = incoming.descriptors().pop().ok_or(ShipperError::NotOurs)?;
    Ok((secrets, lock))
}

fn take_standard_streams(log: &Path) -> io::Result<()> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    // Of the latest shipper only, and of that nothing but its errors: it cannot grow.
    let mut options = OpenOptions::new();
    let log = options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(log)?;
    nix::unistd::dup2_stderr(&log)?;
    Ok(())
}

/// How many bytes written to a socket the other side has not taken yet: for TCP those that its kernel has not
/// acknowledged (tcp(7), SIOCOUTQ), for a local socket those that the receiver has not read (unix(7)).
///
/// # Errors
/// It is no such socket.
pub fn untaken_bytes(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: SIOCOUTQ, which is TIOCOUTQ, writes one int.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ as _, &raw mut count) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(count).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn what_a_local_receiver_has_not_read_is_not_taken() {
        let (mut ours, mut theirs) = UnixStream::pair().expect("a socket pair");
        assert_eq!(untaken_bytes(ours.as_fd()).expect("asked"), 0);
        ours.write_all(b"hello").expect("written");
        assert!(untaken_bytes(ours.as_fd()).expect("asked") > 0);
        theirs.read_exact(&mut [0; 5]).expect("read");
        assert_eq!(untaken_bytes(ours.as_fd()).expect("asked"), 0);
    }

    #[test]
    fn a_lock_tells_a_running_shipper_from_one_that_was_killed_and_from_none() {
        let state = tempfile::tempdir().expect("a directory");
        let directory = state.path().join(DIRECTORY);
        assert_eq!(stage(state.path()).expect("asked"), Stage::Done);
        fs::create_dir(&directory).expect("made");
        let held = take_lock(&directory).expect("no error").expect("nobody has it");
        assert_eq!(stage(state.path()).expect("asked"), Stage::Running);
        assert!(take_lock(&directory).expect("no error").is_none());
        drop(held);
        assert_eq!(stage(state.path()).expect("asked"), Stage::CutShort);
        assert!(take_lock(&directory).expect("no error").is_some());
        fs::remove_file(directory.join(LOCK_NAME)).expect("removed");
        assert_eq!(stage(state.path()).expect("asked"), Stage::Done);
    }
}
