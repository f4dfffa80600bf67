//! Forks of the single-threaded supervisor, born in a cgroup and tied to its life.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

pub(crate) enum Fork {
    Child,
    Parent { pid: i32 },
}

/// The first version of the kernel's `struct clone_args` that has a cgroup.
#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_INTO_CGROUP: u64 = 1 << 33;
/// Above every number that descriptors are placed at.
const PARKING: i32 = 64;

/// Whose child a fork is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parent {
    Caller,
    /// The caller's own parent.
    Sibling,
}

/// fork(2), into a v2 cgroup where one is given. The child of a caller with threads may only make system calls.
pub(crate) fn fork_into(cgroup: Option<BorrowedFd<'_>>, parent: Parent) -> io::Result<Fork> {
    clone(CloneArguments::default(), cgroup, parent)
}

/// The same; the child is the first process of a new pid namespace.
pub(crate) fn fork_as_first(cgroup: Option<BorrowedFd<'_>>) -> io::Result<Fork> {
    let flags = u64::try_from(libc::CLONE_NEWPID).expect("clone flags are positive");
    clone(CloneArguments { flags, ..CloneArguments::default() }, cgroup, Parent::Caller)
}

fn clone(mut arguments: CloneArguments, cgroup: Option<BorrowedFd<'_>>, parent: Parent) -> io::Result<Fork> {
    match parent {
        Parent::Caller => arguments.exit_signal = u64::try_from(libc::SIGCHLD).expect("signal numbers are positive"),
        Parent::Sibling => arguments.flags |= u64::try_from(libc::CLONE_PARENT).expect("clone flags are positive"),
    }
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = u64::try_from(cgroup.as_raw_fd()).expect("an open descriptor is not negative");
    }
    // SAFETY: without CLONE_VM this is fork: the child has its own copy of everything. The C library keeps the
    // parent's thread id in the child, which only matters to abort(3): `run_child` ends the child before that.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<CloneArguments>()) } {
        0 => Ok(Fork::Child),
        pid if pid > 0 => Ok(Fork::Parent { pid: i32::try_from(pid).expect("a pid fits its own type") }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Runs `work` as the whole life of a forked child: it dies with its parent, a panic ends only itself, and nothing
/// of the parent's environment variables or signals is left. Never returns into the parent's code.
pub(crate) fn run_child(parent: u32, work: impl FnOnce() -> io::Result<()>) -> ! {
    end_at_panic();
    die_with_parent();
    if std::os::unix::process::parent_id() != parent {
        exit_now(102);
    }
    clear_environment();
    lower_own_importance();
    match work() {
        Ok(()) => exit_now(0),
        Err(_) => exit_now(1),
    }
}

/// Runs `work` in a forked child when its parent, held by `parent`, has ended. Nothing that the parent had open stays
/// open because of it. The parent may have had threads, so neither this nor `work` allocates.
pub(crate) fn run_survivor(parent: BorrowedFd<'_>, work: impl FnOnce()) -> ! {
    let parent = match place_descriptors(&mut [(parent.as_raw_fd(), 0)]) {
        // SAFETY: just placed there, and closed by nobody before this process ends.
        Ok(()) => unsafe { BorrowedFd::borrow_raw(0) },
        Err(_) => exit_now(1),
    };
    let mut waiting = [PollFd::new(parent, PollFlags::POLLIN)];
    while poll(&mut waiting, PollTimeout::NONE) == Err(Errno::EINTR) {}
    work();
    exit_now(0)
}

/// What `attempt` gets in a child that changes only itself and ends. May be called with threads, so `attempt` makes
/// system calls only.
pub(crate) fn try_in_child(attempt: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    match fork_into(None, Parent::Caller)? {
        Fork::Child => match attempt() {
            Ok(()) => exit_now(0),
            Err(error) => exit_now(error.raw_os_error().filter(|errno| (1..=255).contains(errno)).unwrap_or(libc::EIO)),
        },
        Fork::Parent { pid } => match reap_child(pid) {
            Some(0) => Ok(()),
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Err(io::Error::other("the child that tried it was killed")),
        },
    }
}

/// abort(3) would signal the thread whose id the C library remembers: the parent's.
pub(crate) fn end_at_panic() {
    std::panic::set_hook(Box::new(|_| exit_now(101)));
}

/// For a child whose end is its parent's decision.
pub(crate) fn wait_to_be_killed() -> ! {
    loop {
        // SAFETY: no arguments; returns after a signal that was handled, of which there is none.
        unsafe { libc::pause() };
    }
}

/// No signal blocked: a program inherits the mask of who executes it.
pub(crate) fn unblock_signals() {
    // SAFETY: an empty set is made by sigemptyset and outlives the call.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// SIGKILL when the parent ends.
pub(crate) fn die_with_parent() {
    // SAFETY: numbers only; it cannot fail with a valid signal.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
}

pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process without running what the parent has registered for its own end.
    unsafe { libc::_exit(code) }
}

/// LISTEN_FDS above all: libcontainer believes it, and would leave descriptors open in the container.
fn clear_environment() {
    for (name, _) in std::env::vars_os() {
        // SAFETY: this process has one thread.
        unsafe { std::env::remove_var(name) };
    }
}

/// A supervisor is protected from the out-of-memory killer; a container is not.
fn lower_own_importance() {
    let path = "/proc/self/oom_score_adj";
    let protected = std::fs::read_to_string(path).is_ok_and(|score| score.starts_with('-'));
    if protected {
        // Raising the score is always allowed; without /proc there is no score to write.
        let _ = std::fs::write(path, "0");
    }
}

/// Puts descriptors, given as (from, to), at fixed numbers, the highest of which is the last open one afterwards.
/// Allocates nothing, for children of a process with threads. `wanted` is used up.
pub(crate) fn place_descriptors(wanted: &mut [(i32, i32)]) -> io::Result<()> {
    let check = |answer: i32| if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) };
    for (from, _) in wanted.iter_mut() {
        // SAFETY: copies a descriptor that the caller holds.
        *from = check(unsafe { libc::fcntl(*from, libc::F_DUPFD_CLOEXEC, PARKING) })?;
    }
    let mut last = 2;
    for (from, to) in wanted.iter() {
        // SAFETY: what was at that number belongs to the parent's objects, which this child never uses again.
        check(unsafe { libc::dup2(*from, *to) })?;
        last = last.max(*to);
    }
    // SAFETY: as above.
    let answer = unsafe { libc::syscall(libc::SYS_close_range, last + 1, i32::MAX, 0) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// SIGKILL to a child that has not been waited for, whose number is therefore still its own.
pub(crate) fn kill_child(pid: i32) {
    // SAFETY: numbers only. ESRCH is impossible for an unreaped child.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// Waits for a child to end. Its exit code, if it came to one.
pub(crate) fn reap_child(pid: i32) -> Option<i32> {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    while unsafe { libc::waitpid(pid, &raw mut status, 0) } < 0 {
        if io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            return None;
        }
    }
    libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status))
}
