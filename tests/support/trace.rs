//! Makes an order of events certain that a scheduler seldom chooses: a process is held, by ptrace(2), for as long as
//! something else is to happen first.

use std::time::{Duration, Instant};

use super::{PATIENCE, Running};

const OPTIONS: libc::c_int =
    libc::PTRACE_O_TRACEFORK | libc::PTRACE_O_TRACEVFORK | libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_TRACESYSGOOD;
/// What PTRACE_O_TRACESYSGOOD adds to SIGTRAP.
const SYSCALL_STOP: i32 = 0x80;
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// A process, everything that it and its children fork, and which of them forked further.
struct Traced {
    top: i32,
    /// Each with who forked it.
    children: Vec<(i32, i32)>,
    /// It is about to write the one byte.
    letting_go: Option<i32>,
    held: Option<i32>,
}

/// Starts a command, and until it has ended holds the first child of `top` that forks one of its own, from the moment
/// that it has let that one go on by writing one byte; killed, it is held no more. False when none came to that.
pub(crate) fn hold_a_forking_child(top: i32, start: impl FnOnce() -> Running + Send) -> (Running, bool) {
    // Whoever traces must be one thread; what it traced goes on when that thread ends.
    let trace = || {
        let mut traced = Traced { top, children: Vec::new(), letting_go: None, held: None };
        request(libc::PTRACE_SEIZE, top, OPTIONS as usize);
        let command = start();
        let end = Instant::now() + PATIENCE;
        while !command.ends_within(BETWEEN_LOOKS) {
            assert!(Instant::now() < end, "still runs after {PATIENCE:?} while {:?} is held", traced.held);
            traced.look();
        }
        (command, traced.letting_go.is_some())
    };
    std::thread::scope(|scope| match scope.spawn(trace).join() {
        Ok(ended) => ended,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

impl Traced {
    /// Lets all go on that have stopped, but for the one.
    fn look(&mut self) {
        let all: Vec<i32> = [self.top].into_iter().chain(self.children.iter().map(|(pid, _)| *pid)).collect();
        let held = self.held;
        for pid in all.into_iter().filter(|pid| Some(*pid) != held) {
            let mut status = 0;
            // SAFETY: the kernel writes one number that outlives the call. One that has been waited for is no error here.
            let found = unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG | libc::__WALL) };
            if found == pid && libc::WIFSTOPPED(status) {
                self.stopped(pid, status);
            }
        }
    }

    fn stopped(&mut self, pid: i32, status: i32) {
        let mut signal = 0;
        match status >> 16 {
            0 => signal = libc::WSTOPSIG(status),
            libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => {
                let mut child: libc::c_ulong = 0;
                request(libc::PTRACE_GETEVENTMSG, pid, &raw mut child as usize);
                self.children.push((i32::try_from(child).expect("a process's number"), pid));
            }
            _ => {}
        }
        if signal == libc::SIGTRAP | SYSCALL_STOP {
            signal = 0;
            if self.letting_go == Some(pid) {
                self.held = Some(pid);
                return;
            }
            if self.held.is_none() && writes_one_byte(pid) {
                self.letting_go = Some(pid);
            }
        }
        let go_on = if self.is_forking_child(pid) { libc::PTRACE_SYSCALL } else { libc::PTRACE_CONT };
        request(go_on, pid, signal as usize);
    }

    fn is_forking_child(&self, pid: i32) -> bool {
        self.children.contains(&(pid, self.top)) && self.children.iter().any(|(_, by)| *by == pid)
    }
}

/// Of a process that has stopped before or after a system call: whether it is before such a write.
fn writes_one_byte(pid: i32) -> bool {
    /// linux/ptrace.h; the struct has what kind of stop it is in its first byte, two addresses, the call's number and
    /// its arguments.
    const PTRACE_GET_SYSCALL_INFO: libc::c_int = 0x420e;
    const PTRACE_SYSCALL_INFO_ENTRY: u8 = 1;
    let mut call = [0u64; 10];
    // SAFETY: the kernel writes at most the size given into the numbers, which outlive the call.
    let got = unsafe { libc::ptrace(PTRACE_GET_SYSCALL_INFO, pid, size_of_val(&call), call.as_mut_ptr()) };
    let [kind, _, _, number, _, _, length, ..] = call;
    got > 0 && kind.to_ne_bytes()[0] == PTRACE_SYSCALL_INFO_ENTRY && number == libc::SYS_write as u64 && length == 1
}

fn request(what: libc::c_int, pid: i32, data: usize) {
    // SAFETY: `data` is a number, or where the kernel writes one that outlives the call.
    let done = unsafe { libc::ptrace(what, pid, 0usize, data) };
    // One that was killed meanwhile is gone.
    let error = std::io::Error::last_os_error();
    assert!(done >= 0 || error.raw_os_error() == Some(libc::ESRCH), "ptrace request {what} of {pid}: {error}");
}
