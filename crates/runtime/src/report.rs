//! What a launcher tells the supervisor, one JSON object a line over a pipe. The pipe closes when the container's
//! program is executed: that is the good news.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
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

#[derive(Debug)]
pub(crate) struct Receiver {
    pipe: PipeReader,
    buffer: Vec<u8>,
}

/// One look at the pipe.
#[derive(Debug, PartialEq)]
pub(crate) enum Heard {
    Report(Progress),
    Nothing,
    /// Every writer has gone.
    Closed,
}

/// The receiver never waits.
pub(crate) fn channel() -> io::Result<(Receiver, Sender)> {
    let (reader, writer) = io::pipe()?;
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
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
    /// For poll(2): readable when there may be a report, or when it closes.
    pub(crate) fn as_raw_fd(&self) -> RawFd {
        self.pipe.as_raw_fd()
    }

    /// The next report, if one is there.
    ///
    /// # Errors
    /// What came is no report.
    pub(crate) fn take(&mut self) -> io::Result<Heard> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&line).map(Heard::Report).map_err(io::Error::from);
            }
            let mut chunk = [0; 4096];
            match self.pipe.read(&mut chunk) {
                Ok(0) => return Ok(Heard::Closed),
                Ok(count) if self.buffer.len() + count <= MAX_REPORT => self.buffer.extend_from_slice(&chunk[..count]),
                Ok(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "a report without an end")),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Heard::Nothing),
                Err(error) => return Err(error),
            }
        }
    }
}
