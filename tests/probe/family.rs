//! Processes that leave others behind, and what becomes of signals: what an init is for.

use std::io::Read;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::load::say;

/// How long whoever should reap has for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Leaves so many grandchildren that end at once. Whether each was waited for by somebody in time.
pub(crate) fn orphans(wanted: i32) -> Value {
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    for _ in 0..wanted {
        // SAFETY: the children only fork, write to a pipe and end.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                let grandchild = libc::fork();
                if grandchild == 0 {
                    libc::_exit(0);
                }
                let number = grandchild.to_ne_bytes();
                libc::write(std::os::fd::AsRawFd::as_raw_fd(&writer), number.as_ptr().cast(), number.len());
                libc::_exit(0);
            }
            libc::waitpid(child, std::ptr::null_mut(), 0);
        }
    }
    drop(writer);
    let mut numbers = Vec::new();
    reader.read_to_end(&mut numbers).expect("the pipe is read");
    let numbers: Vec<i32> =
        numbers.chunks_exact(4).map(|one| i32::from_ne_bytes(one.try_into().expect("four"))).collect();
    let end = Instant::now() + PATIENCE;
    let there = |number: &i32| std::fs::exists(format!("/proc/{number}")).unwrap_or(false);
    while numbers.iter().any(there) && Instant::now() < end {
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let left = numbers.iter().filter(|number| there(number)).count();
    json!({ "made": numbers.len(), "left": left, "pid": std::process::id(), "parent": std::os::unix::process::parent_id() })
}

/// Says each signal that comes, until SIGTERM, which it ends with.
pub(crate) fn say_signals(code: i32) -> i32 {
    // SAFETY: a signal set on the stack, filled by sigfillset.
    unsafe {
        let mut every: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut every);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const every, std::ptr::null_mut());
        say(&["waiting"]);
        loop {
            let mut signal = 0;
            libc::sigwait(&raw const every, &raw mut signal);
            say(&["signal", &signal.to_string(), "."]);
            if signal == libc::SIGTERM {
                return code;
            }
        }
    }
}

/// Ends by a signal of its own, where it is not process 1.
pub(crate) fn kill_self(signal: i32) -> i32 {
    // SAFETY: a signal to this process.
    unsafe { libc::kill(libc::getpid(), signal) };
    0
}

/// Leaves a process behind that waits for ever, and ends.
pub(crate) fn leave_behind(code: i32) -> i32 {
    // SAFETY: the child only waits.
    match unsafe { libc::fork() } {
        0 => loop {
            // SAFETY: waits for a signal.
            unsafe { libc::pause() };
        },
        _ => code,
    }
}

/// A System V message queue of this key, made if it is not there: its number, or less than 0.
pub(crate) fn message_queue(key: i32) -> i32 {
    // SAFETY: numbers only.
    unsafe { libc::msgget(key, libc::IPC_CREAT | 0o600) }
}
