//! Our terminal joined to that of a process in a container: raw bytes both ways, and the size whenever it changes.

use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::OwnedFd;

use nix::sys::signal::{SigSet, Signal};
use runtime::client::{ClientError, Execution};
use rustix::termios::{self, OptionalActions, Termios, Winsize};

#[derive(Debug, thiserror::Error)]
pub(crate) enum TerminalError {
    #[error("the terminal cannot be {action}")]
    Mode {
        action: &'static str,
        #[source]
        cause: io::Error,
    },
    #[error("the process's end was not told")]
    Wait(#[source] ClientError),
}

fn failed(action: &'static str) -> impl FnOnce(io::Error) -> TerminalError {
    move |cause| TerminalError::Mode { action, cause }
}

/// Puts the terminal back as it was, however the process ends.
pub(crate) struct Raw {
    before: Termios,
}

impl Raw {
    pub(crate) fn enter() -> io::Result<Self> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Err(error) = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.before) {
            eprintln!("coracle: the terminal could not be put back ({error}); `reset` does it");
        }
    }
}

/// Joins the terminals until the process has ended. Gives its exit code.
pub(crate) fn attach(execution: Execution, master: OwnedFd, with_input: bool) -> Result<i32, TerminalError> {
    let window: SigSet = [Signal::SIGWINCH].into_iter().collect();
    // Before any thread exists: all inherit the mask, and only the thread that waits takes the signal.
    window.thread_block().map_err(|cause| failed("watched")(cause.into()))?;
    let clone = || master.try_clone().map_err(failed("shared between threads"));
    let (sized, input, mut output) = (clone()?, std::fs::File::from(clone()?), std::fs::File::from(clone()?));
    resize(&sized);
    let raw =
        if with_input && io::stdin().is_terminal() { Some(Raw::enter().map_err(failed("made raw"))?) } else { None };
    std::thread::spawn(move || {
        while window.wait().is_ok() {
            resize(&sized);
        }
    });
    if with_input {
        // Ends with this process: a read of the terminal cannot be taken back.
        std::thread::spawn(move || copy(io::stdin().lock(), input));
    }
    // A terminal's master gives EIO when its last user has gone: then all output has been read.
    let (printed, all_printed) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        copy(&mut output, io::stdout());
        drop(printed);
    });
    let code = execution.wait().map_err(TerminalError::Wait);
    drop(master);
    // A process that left others behind on its terminal keeps it open; its own end is what counts, as with ssh. Either
    // answer, all printed or out of time, ends the wait.
    all_printed.recv_timeout(LEFT_OVER_OUTPUT).err();
    drop(raw);
    code
}

/// How long output that is still under way is waited for after the process has ended.
const LEFT_OVER_OUTPUT: std::time::Duration = std::time::Duration::from_millis(500);

/// Rows and columns of our terminal, if we have one.
pub(crate) fn size() -> Option<(u16, u16)> {
    window().map(|size| (size.ws_row, size.ws_col))
}

fn window() -> Option<Winsize> {
    [termios::tcgetwinsize(io::stdout()), termios::tcgetwinsize(io::stdin())].into_iter().find_map(Result::ok)
}

/// Gives the container's terminal the size of ours; where ours has none (a pipe), it keeps its own.
pub(crate) fn resize(master: &OwnedFd) {
    if let Some(size) = window()
        && let Err(error) = termios::tcsetwinsize(master, size)
    {
        tracing::debug!(%error, "the size of the terminal was not passed on");
    }
}

fn copy(mut from: impl Read, mut to: impl Write) {
    let mut buffer = [0; 8192];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        if to.write_all(&buffer[..read]).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}
