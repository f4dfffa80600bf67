//! `coracle-init`: process 1 of a container with `initProcessEnabled`, and of a pid namespace that a task's containers
//! share. It reaps what nobody else does, hands signals on, and ends as its one child ends.
//!
//! It is this same binary, executed anew by descriptor from the sealed copy that the supervisor runs from, so that it
//! holds nothing of the supervisor's memory, and found by its first word before anything else of the binary has run.
//! The rules are those of tini, which `docker run --init` puts there: the child leads a process group of its own and has
//! the terminal, and every signal but those about children and the terminal is the child's.

use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use crate::enter::reset_signals;
use crate::fork::{die_with_parent, exit_now};
use crate::process::DEFAULT_PATH;
use crate::program::Program;
use crate::report::{self, Failure, Progress};

/// Its first word: nobody's command, and what `ps` shows.
pub(crate) const NAME: &str = "coracle-init";
/// Where it finds the report, which closes when the child is the program.
pub(crate) const REPORT_FD: i32 = 3;

/// Becomes the init where the command line says so; nothing where it is of something else. The words after the first
/// are the program; without any it only reaps, as long as its supervisor lives.
pub fn run_if_asked() -> Option<ExitCode> {
    let mut words = std::env::args_os();
    if words.next()? != NAME {
        return None;
    }
    // The kernel calls a program by the number of its descriptor otherwise.
    // SAFETY: a C string that outlives the call.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"coracle-init".as_ptr()) };
    let arguments: Vec<CString> = words.filter_map(c_string).collect();
    if arguments.is_empty() {
        pause();
    }
    Some(ExitCode::from(run(arguments)))
}

/// Words that came from exec hold no NUL byte.
fn c_string(word: OsString) -> Option<CString> {
    CString::new(word.into_vec()).ok()
}

fn run(arguments: Vec<CString>) -> u8 {
    let environment = std::env::vars_os().filter_map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        c_string(name)
    });
    let path = std::env::var("PATH").unwrap_or_else(|_| DEFAULT_PATH.to_owned());
    let program = Program { arguments, environment: environment.collect(), path };
    let every = every_signal();
    block(&every);
    // In a pid namespace that is not its own, orphans of the container would be somebody else's.
    // SAFETY: numbers only.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    // SAFETY: one thread, which has only read its own words.
    match unsafe { libc::fork() } {
        0 => become_child(&program),
        -1 => {
            let error = io::Error::last_os_error();
            fail(128, format!("cannot fork the container's program: {error}"))
        }
        child => {
            report::close(REPORT_FD);
            forward_until_end(child, &every)
        }
    }
}

/// The child. A program that does not start is reported as if there were no init.
fn become_child(program: &Program) -> ! {
    // SAFETY: numbers only. SIGTTOU is blocked, so taking the terminal does not stop us; without one both fail, which
    // is as well.
    unsafe {
        libc::setpgid(0, 0);
        libc::tcsetpgrp(0, libc::getpid());
    }
    // SAFETY: numbers only; a missing report is a descriptor that is not there.
    unsafe { libc::fcntl(REPORT_FD, libc::F_SETFD, libc::FD_CLOEXEC) };
    reset_signals();
    let Err(error) = program.execute();
    let code = error.exit_code;
    fail(code, error.to_string())
}

fn fail(exit_code: i32, text: String) -> ! {
    report::Sender::at(REPORT_FD).send(&Progress::Failed(Failure { created: true, exit_code: Some(exit_code), text }));
    exit_now(exit_code)
}

/// The child's exit code; a death by signal is 128 + its number.
fn forward_until_end(child: i32, every: &libc::sigset_t) -> u8 {
    loop {
        match wait_for_signal(every) {
            libc::SIGCHLD => {
                if let Some(code) = reap(child) {
                    return code;
                }
            }
            // About the terminal, which is the child's.
            libc::SIGTTIN | libc::SIGTTOU => {}
            // SAFETY: our own child, not yet waited for. Where it has changed its user it may be out of our reach.
            signal => unsafe {
                libc::kill(child, signal);
            },
        }
    }
}

/// First process of a namespace that a task's containers share.
fn pause() -> ! {
    let every = every_signal();
    block(&every);
    // A container whose user is nobody too could trace us, and end everything in the namespace with us.
    // SAFETY: numbers only.
    if unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) } != 0 {
        exit_now(1);
    }
    // The supervisor's end is the namespace's, and with it that of everything in it.
    die_with_parent();
    report::close(REPORT_FD);
    loop {
        if wait_for_signal(&every) == libc::SIGCHLD {
            reap(0);
        }
    }
}

/// Waits for every child that has ended. The exit code of `child`, if it is one of them.
fn reap(child: i32) -> Option<u8> {
    let mut code = None;
    loop {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        let ended = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        if ended <= 0 {
            return code;
        }
        if ended == child {
            let number = match libc::WIFEXITED(status) {
                true => libc::WEXITSTATUS(status),
                false => 128 + libc::WTERMSIG(status),
            };
            code = Some(u8::try_from(number).unwrap_or(u8::MAX));
        }
    }
}

fn every_signal() -> libc::sigset_t {
    // SAFETY: a signal set is plain bits, which sigfillset fills in.
    unsafe {
        let mut every: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut every);
        every
    }
}

/// A fault of our own still ends us: the kernel does not ask the mask for those.
fn block(signals: &libc::sigset_t) {
    // SAFETY: the set outlives the call.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, signals, std::ptr::null_mut()) };
}

fn wait_for_signal(every: &libc::sigset_t) -> i32 {
    loop {
        let mut signal = 0;
        // SAFETY: both outlive the call.
        if unsafe { libc::sigwait(every, &raw mut signal) } == 0 {
            return signal;
        }
    }
}
