//! A running copy of our own binary that nobody can write to through /proc/PID/exe (CVE-2019-5736).
//!
//! A container's first process is a fork of this program, and a container may execute /proc/self/exe again: whoever
//! opens that link for writing later would write the binary on the host. So a supervisor is executed through a
//! detached read-only mount of the binary: the same pages, but EROFS for writers. Where the kernel cannot do that
//! (before 5.12), it is executed from a sealed copy in memory.

use std::ffi::{CStr, CString, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::fork::{self, Fork, Parent};
use crate::program::pointers;

const OWN_EXECUTABLE: &CStr = c"/proc/self/exe";
/// Where a spawned process finds the descriptor that it was given.
const GIVEN_FD: i32 = 3;
const ERROR_FD: i32 = 4;
const EXECUTABLE_FD: i32 = 5;
/// Of the environment, a supervisor gets only what is coracle's own: it may outlive the shell that held the rest.
const KEPT_VARIABLES: [&str; 2] = ["CORACLE_", "RUST_"];

#[derive(Debug, thiserror::Error)]
pub(crate) enum NotSealed {
    #[error("this process was not executed from a sealed copy of coracle, and containers could overwrite the binary")]
    Writable,
    #[error("cannot tell whether /proc/self/exe is sealed")]
    Unknown(#[source] io::Error),
}

/// Whether the calling process runs from a sealed copy.
///
/// # Errors
/// It does not, or /proc does not say.
pub(crate) fn verify() -> Result<(), NotSealed> {
    let executable = File::open("/proc/self/exe").map_err(NotSealed::Unknown)?;
    // SAFETY: statfs is plain numbers, for which zero is a value.
    let mut found: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `found` outlives the call.
    if unsafe { libc::fstatfs(executable.as_raw_fd(), &raw mut found) } != 0 {
        return Err(NotSealed::Unknown(io::Error::last_os_error()));
    }
    let read_only = found.f_flags & libc::ST_RDONLY != 0;
    // SAFETY: numbers only; a file that takes no seals answers -1.
    let seals = unsafe { libc::fcntl(executable.as_raw_fd(), libc::F_GET_SEALS) };
    let sealed = seals >= 0 && seals & libc::F_SEAL_WRITE != 0;
    if read_only || sealed { Ok(()) } else { Err(NotSealed::Writable) }
}

/// The calling process's own binary, to be executed again by descriptor. As sealed as the process itself.
///
/// # Errors
/// /proc does not give it.
pub(crate) fn own_executable() -> io::Result<OwnedFd> {
    File::open("/proc/self/exe").map(OwnedFd::from)
}

/// Starts this program anew, sealed, with `words` as its arguments and `given` as its descriptor 3; nothing else is
/// inherited but the standard streams. It is nobody's child: init reaps it, or the nearest subreaper. It is born in
/// the v2 cgroup `birthplace`, where there is one. May be called with threads.
///
/// # Errors
/// The copy could not be made, or the system refused the process.
pub(crate) fn spawn_self(words: &[OsString], given: &OwnedFd, birthplace: Option<BorrowedFd<'_>>) -> io::Result<()> {
    spawn_self_at(words, given, Birth { cgroup: birthplace, enter: None })
}

/// Where a process begins that is not to be where its maker is.
#[derive(Clone, Copy)]
pub(crate) struct Birth<'a> {
    /// A v2 cgroup.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// What takes it elsewhere before it becomes the program. A caller with threads has none: this may allocate.
    pub(crate) enter: Option<&'a dyn Fn() -> io::Result<()>>,
}

/// As `spawn_self`, elsewhere.
///
/// # Errors
/// As `spawn_self`.
pub(crate) fn spawn_self_at(words: &[OsString], given: &OwnedFd, birth: Birth<'_>) -> io::Result<()> {
    let program = Program::new(words.iter().cloned())?;
    let (mut errors, sender) = io::pipe()?;
    let mut placed = [
        (given.as_raw_fd(), GIVEN_FD),
        (sender.as_raw_fd(), ERROR_FD),
        (program.executable.as_raw_fd(), EXECUTABLE_FD),
    ];
    let arguments = pointers(&program.arguments);
    let environment = pointers(&program.environment);
    // From here to the exec, system calls only: another thread may hold any lock.
    match fork::fork_into(None, Parent::Caller)? {
        Fork::Child => match fork::fork_into(birth.cgroup, Parent::Caller) {
            Ok(Fork::Child) => {
                let entered = birth.enter.map_or(Ok(()), |enter| enter());
                let error = match entered.and_then(|()| become_program(&mut placed, &arguments, &environment)) {
                    Ok(never) => match never {},
                    Err(error) => error,
                };
                report_errno(ERROR_FD, &error)
            }
            Ok(Fork::Parent { .. }) => fork::exit_now(0),
            Err(error) => report_errno(sender.as_raw_fd(), &error),
        },
        Fork::Parent { pid } => {
            drop(sender);
            fork::reap_child(pid);
        }
    }
    let mut errno = Vec::new();
    errors.read_to_end(&mut errno)?;
    match errno.first_chunk() {
        None => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(i32::from_ne_bytes(*errno))),
    }
}

/// Replaces the calling process by a sealed execution of the same program with the same arguments; comes back at
/// once when it is one.
///
/// # Errors
/// The copy could not be made or executed.
pub fn reexec() -> io::Result<()> {
    if verify().is_ok() {
        return Ok(());
    }
    let program = Program::new(std::env::args_os().skip(1))?;
    let error = execute(program.executable.as_raw_fd(), &pointers(&program.arguments), &pointers(&program.environment));
    Err(error)
}

struct Program {
    executable: OwnedFd,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Program {
    fn new(words: impl Iterator<Item = OsString>) -> io::Result<Self> {
        let kept = |name: &OsString| KEPT_VARIABLES.iter().any(|start| name.as_bytes().starts_with(start.as_bytes()));
        let environment = std::env::vars_os().filter(|(name, _)| kept(name)).map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            name
        });
        let c_strings = |words: &mut dyn Iterator<Item = OsString>| -> io::Result<Vec<CString>> {
            words.map(|word| CString::new(word.into_vec()).map_err(io::Error::from)).collect()
        };
        Ok(Self {
            // What runs sealed is executed again as it is: a copy in memory of its own would be as large as the binary.
            executable: if verify().is_ok() { own_executable()? } else { sealed_executable()?.0 },
            arguments: c_strings(&mut std::iter::once(OsString::from("coracle")).chain(words))?,
            environment: c_strings(&mut environment.into_iter())?,
        })
    }
}

fn become_program(
    placed: &mut [(i32, i32)],
    arguments: &[*const libc::c_char],
    environment: &[*const libc::c_char],
) -> io::Result<std::convert::Infallible> {
    fork::place_descriptors(placed)?;
    for own in [ERROR_FD, EXECUTABLE_FD] {
        // SAFETY: numbers only.
        if unsafe { libc::fcntl(own, libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    fork::unblock_signals();
    Err(execute(EXECUTABLE_FD, arguments, environment))
}

/// Becomes the program behind a descriptor; comes back only when that fails.
pub(crate) fn execute(
    executable: i32,
    arguments: &[*const libc::c_char],
    environment: &[*const libc::c_char],
) -> io::Error {
    // SAFETY: both arrays are null-terminated and point to C strings that the caller holds.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            executable,
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

fn report_errno(pipe: i32, error: &io::Error) -> ! {
    let errno = error.raw_os_error().unwrap_or(libc::EIO).to_ne_bytes();
    // SAFETY: the buffer outlives the call; who cannot report has only its end left.
    unsafe { libc::write(pipe, errno.as_ptr().cast(), errno.len()) };
    fork::exit_now(1)
}

/// How this host seals the binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seal {
    ReadOnlyMount,
    Memory,
}

/// # Errors
/// It can be sealed in no way.
pub(crate) fn try_seal() -> io::Result<Seal> {
    sealed_executable().map(|(_, seal)| seal)
}

fn sealed_executable() -> io::Result<(OwnedFd, Seal)> {
    match read_only_mount() {
        Ok(tree) => Ok((tree, Seal::ReadOnlyMount)),
        // Before Linux 5.12 there is no mount_setattr; EINVAL: our own executable is in no mount of this namespace.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL | libc::EPERM)) => {
            sealed_copy().map(|copy| (copy, Seal::Memory))
        }
        Err(error) => Err(error),
    }
}

fn read_only_mount() -> io::Result<OwnedFd> {
    const OPEN_TREE_CLONE: u32 = 1;
    // SAFETY: a C string that outlives the call.
    let tree = unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            libc::AT_FDCWD,
            OWN_EXECUTABLE.as_ptr(),
            OPEN_TREE_CLONE | libc::O_CLOEXEC as u32,
        )
    };
    if tree < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else owns it.
    let tree = unsafe { OwnedFd::from_raw_fd(i32::try_from(tree).expect("descriptors are small numbers")) };
    /// `struct mount_attr` of `linux/mount.h`.
    #[repr(C)]
    struct Attributes {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    const MOUNT_ATTR_RDONLY: u64 = 1;
    const MOUNT_ATTR_NOSUID: u64 = 2;
    const MOUNT_ATTR_NODEV: u64 = 4;
    let set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
    let attributes = Attributes { set, clear: 0, propagation: 0, user_namespace: 0 };
    // SAFETY: `attributes` outlives the call and is passed with its size.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    if answer == 0 { Ok(tree) } else { Err(io::Error::last_os_error()) }
}

fn sealed_copy() -> io::Result<OwnedFd> {
    // SAFETY: a C string that outlives the call.
    let memory = unsafe { libc::memfd_create(c"coracle".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
    if memory < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else owns it.
    let mut memory = File::from(unsafe { OwnedFd::from_raw_fd(memory) });
    io::copy(&mut File::open("/proc/self/exe")?, &mut memory)?;
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: numbers only.
    if unsafe { libc::fcntl(memory.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(memory.into())
}
