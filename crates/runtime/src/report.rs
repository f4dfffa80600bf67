//! What a launcher tells the supervisor, one JSON object a line over a pipe. The pipe closes when the container's
//! program is executed: that is the good news.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

/// The longest report that is read, bytes.
const MAX_REPORT: usize = 64 << 10;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Progress {
    /// The process waits for its release. The number is the supervisor's view of it.
    Created {
        pid: i32,
        stages_us: Vec<(String, u64)>,
    },
    /// It was told to go on; the rest is its own.
    Released,
    Failed(Failure),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// Whether the container existed, only its program did not start.
    pub(crate) created: bool,
    pub(crate) text: String,
    pub(crate) exit_code: Option<i32>,
}

impl Failure {
    pub(crate) fn create(text: impl Into<String>) -> Self {
        Self { created: false, text: text.into(), exit_code: None }
    }

    pub(crate) fn start(text: impl Into<String>) -> Self {
        Self { created: true, text: text.into(), exit_code: None }
    }
}

/// Closes a sender's descriptor for good, in a process that sends no more and runs none of its objects' ends.
pub(crate) fn close(number: i32) {
    // SAFETY: the caller only waits to be killed after this.
    unsafe { libc::close(number) };
}

pub(crate) struct Sender {
    pipe: PipeWriter,
}

pub(crate) struct Receiver {
    pipe: PipeReader,
    buffer: Vec<u8>,
}

pub(crate) fn channel() -> io::Result<(Receiver, Sender)> {
    let (reader, writer) = io::pipe()?;
    Ok((Receiver { pipe: reader, buffer: Vec::new() }, Sender { pipe: writer }))
}

impl Sender {
    /// The sender that `fork::place_descriptors` has put at this number.
    pub(crate) fn at(number: i32) -> Self {
        // SAFETY: the descriptor was placed there a moment ago, and no object owns it.
        Self { pipe: PipeWriter::from(unsafe { OwnedFd::from_raw_fd(number) }) }
    }

    /// A report that cannot be sent has nobody left to read it.
    pub(crate) fn send(&self, progress: &Progress) {
        let mut line = serde_json::to_vec(progress).expect("plain words and numbers serialise");
        line.push(b'\n');
        let _ = (&self.pipe).write_all(&line);
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

impl Receiver {
    /// The next report; none when every writer has gone.
    ///
    /// A `launcher` that is killed leaves a writer behind: libcontainer's half-made process waits for it forever.
    /// Where none is given, the end of the other side's first process says nothing.
    ///
    /// # Errors
    /// The time is over, the launcher has ended without a word, or what came is no report.
    pub(crate) fn next(&mut self, launcher: Option<BorrowedFd<'_>>, timeout_ms: u64) -> io::Result<Option<Progress>> {
        const ENDED: &str = "the launcher ended before the container's program was executed; was it killed?";
        let mut launcher_ended = false;
        let deadline = Instant::now() + Duration::from_millis(timeout_ms);
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&line).map(Some).map_err(io::Error::from);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let wait = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let wait = if launcher_ended { PollTimeout::ZERO } else { wait };
            let watched = [Some(self.pipe.as_fd()), launcher];
            let mut watched: Vec<_> =
                watched.into_iter().flatten().map(|one| PollFd::new(one, PollFlags::POLLIN)).collect();
            match poll(&mut watched, wait) {
                // What it said last may have come between the looks at the two.
                Ok(1) if watched[0].any() != Some(true) => {
                    if launcher_ended {
                        return Err(io::Error::new(io::ErrorKind::BrokenPipe, ENDED));
                    }
                    launcher_ended = true;
                    continue;
                }
                Ok(0) => return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {timeout_ms} ms"))),
                Ok(_) => {}
                Err(nix::errno::Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
            let mut chunk = [0; 4096];
            match self.pipe.read(&mut chunk) {
                Ok(0) => return Ok(None),
                Ok(count) if self.buffer.len() + count <= MAX_REPORT => self.buffer.extend_from_slice(&chunk[..count]),
                Ok(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "a report without an end")),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
