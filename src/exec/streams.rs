//! The standard streams of a process without a terminal: pipes. What this command itself has open, a file of the
//! host's or the operator's terminal, never reaches the container, whose root could change it or read from it.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;

use agent_protocol::command::Exec;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use runtime::client::{Client, ClientError};

const CHUNK_BYTES: usize = 65_536;
/// How long output may be silent after the process's end. Something it left in the background may hold the pipe open
/// for as long as it lives.
const SILENCE_MS: u16 = 100;

#[derive(Debug, thiserror::Error)]
pub(super) enum StreamsError {
    #[error("making pipes for its standard streams")]
    Pipes(#[source] io::Error),
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Runs the process and carries its streams until it ends; its exit code.
pub(super) fn carry(client: Client, exec: &Exec, interactive: bool) -> Result<i32, StreamsError> {
    let (input, to_process) = io::pipe().map_err(StreamsError::Pipes)?;
    let (from_process, output) = io::pipe().map_err(StreamsError::Pipes)?;
    let (errors_from_process, errors) = io::pipe().map_err(StreamsError::Pipes)?;
    let (at_end, end) = io::pipe().map_err(StreamsError::Pipes)?;
    let execution = client.exec(exec, [input.as_fd(), output.as_fd(), errors.as_fd()])?;
    drop((input, output, errors));
    // Without -i the process reads an end of file at once.
    if interactive {
        thread::spawn(move || feed(to_process));
    } else {
        drop(to_process);
    }
    thread::scope(|scope| {
        scope.spawn(|| drain(from_process, &at_end, io::stdout()));
        scope.spawn(|| drain(errors_from_process, &at_end, io::stderr()));
        let code = execution.wait();
        drop(end);
        Ok(code?)
    })
}

/// Until either end closes. Ends with this command where neither does.
fn feed(mut to_process: PipeWriter) {
    // A process that reads no more is no error of this command's.
    io::copy(&mut io::stdin(), &mut to_process).ok();
}

/// Copies until the pipe closes, or until the process has ended and the pipe is silent.
fn drain(mut from_process: PipeReader, at_end: &PipeReader, mut to: impl Write) {
    let mut chunk = vec![0; CHUNK_BYTES];
    while is_readable(from_process.as_fd(), at_end.as_fd()) {
        match from_process.read(&mut chunk) {
            Ok(0) => return,
            Ok(count) => {
                // Who closed our output wants no more of it; the process then learns by its own writes.
                if to.write_all(&chunk[..count]).and_then(|()| to.flush()).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Waits until there is something to read. False when the process has ended and nothing more comes.
fn is_readable(pipe: BorrowedFd<'_>, at_end: BorrowedFd<'_>) -> bool {
    let wait = |fds: &mut [PollFd<'_>], timeout: PollTimeout| loop {
        match poll(fds, timeout) {
            Err(Errno::EINTR) => {}
            Err(_) => return false,
            Ok(_) => return fds[0].any() == Some(true),
        }
    };
    let reading = || PollFd::new(pipe, PollFlags::POLLIN);
    wait(&mut [reading(), PollFd::new(at_end, PollFlags::POLLIN)], PollTimeout::NONE)
        || wait(&mut [reading()], PollTimeout::from(SILENCE_MS))
}
