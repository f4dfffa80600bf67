//! Makes an order of events certain that a scheduler seldom chooses: a process is held at its end, by ptrace(2), for
//! as long as something else is to happen first.

use std::time::{Duration, Instant};

use super::{PATIENCE, Running};

const OPTIONS: libc::c_int =
    libc::PTRACE_O_TRACEFORK | libc::PTRACE_O_TRACEVFORK | libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_TRACEEXIT;
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// A process, everything that it and its children fork, and which of them forked further.
struct Traced {
    top: i32,
    /// Each with who forked it.
    children: Vec<(i32, i32)>,
    held: Option<i32>,
}

/// Starts a command, and until it has ended holds the first child of `top` that forks one of its own and comes to its
/// end. False when there was none.
pub(crate) fn hold_a_forking_child(top: i32, start: impl FnOnce() -> Running + Send) -> (Running, bool) {
    // Whoever traces must be one thread; what it traced goes on when that thread ends.
    let trace = || {
        let mut traced = Traced { top, children: Vec::new(), held: None };
        request(libc::PTRACE_SEIZE, top, OPTIONS as usize);
        let command = start();
        let end = Instant::now() + PATIENCE;
        while !command.ends_within(BETWEEN_LOOKS) {
            assert!(Instant::now() < end, "still runs after {PATIENCE:?} while {:?} is held", traced.held);
            traced.look();
        }
        (command, traced.held.is_some())
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
            libc::PTRACE_EVENT_EXIT if self.held.is_none() && self.is_forking_child(pid) => {
                self.held = Some(pid);
                return;
            }
            _ => {}
        }
        request(libc::PTRACE_CONT, pid, signal as usize);
    }

    fn is_forking_child(&self, pid: i32) -> bool {
        self.children.contains(&(pid, self.top)) && self.children.iter().any(|(_, by)| *by == pid)
    }
}

fn request(what: libc::c_int, pid: i32, data: usize) {
    // SAFETY: `data` is a number, or where the kernel writes one that outlives the call.
    let done = unsafe { libc::ptrace(what, pid, 0usize, data) };
    // One that was killed meanwhile is gone.
    let error = std::io::Error::last_os_error();
    assert!(done >= 0 || error.raw_os_error() == Some(libc::ESRCH), "ptrace request {what} of {pid}: {error}");
}
