//! A supervisor's `ctl` socket for one who waits for many of them: each costs a socket and, between two statuses, no memory.

use std::io;
use std::path::Path;
use std::time::Duration;

use agent_protocol::task_spec::Places;
use agent_protocol::{Answer, Command, TaskStatus};
use runtime::task_dir::CTL_NAME;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

/// A status of the largest task is far below this.
const MAX_LINE_BYTES: usize = 4 << 20;
/// Of one container; less would be a system call for each part of it.
const USUAL_LINE_BYTES: usize = 4 << 10;
/// A supervisor answers at once, or is stopped by somebody with a debugger.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug, thiserror::Error)]
pub(super) enum CtlError {
    /// Its supervisor has gone, or has no socket yet.
    #[error("the task has no supervisor")]
    Gone(#[source] io::Error),
    #[error("the connection to the task's supervisor failed")]
    Io(#[source] io::Error),
    #[error("the task's supervisor speaks another version")]
    Version(#[source] serde_json::Error),
    #[error("the task's supervisor refused: {0}")]
    Refused(String),
    #[error("the task's supervisor does not answer as it should")]
    Unexpected,
}

/// Its answers, one by one.
#[derive(Debug)]
pub(super) struct Answers {
    stream: UnixStream,
    buffer: Vec<u8>,
}

async fn ask(places: &Places, command: &Command) -> Result<Answers, CtlError> {
    let path = places.run.join(CTL_NAME);
    let mut stream = connect(&path).await?;
    let mut line = serde_json::to_vec(command).expect("a command is plain data with string keys");
    line.push(b'\n');
    stream.write_all(&line).await.map_err(|cause| match cause.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => CtlError::Gone(cause),
        _ => CtlError::Io(cause),
    })?;
    Ok(Answers { stream, buffer: Vec::new() })
}

async fn connect(path: &Path) -> Result<UnixStream, CtlError> {
    UnixStream::connect(path).await.map_err(|cause| match cause.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => CtlError::Gone(cause),
        _ => CtlError::Io(cause),
    })
}

impl Answers {
    /// Nothing after the last.
    async fn next(&mut self) -> Result<Option<Answer>, CtlError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if self.buffer.is_empty() {
                    self.buffer = Vec::new();
                }
                return serde_json::from_slice(&line).map(Some).map_err(CtlError::Version);
            }
            if self.buffer.len() > MAX_LINE_BYTES {
                return Err(CtlError::Unexpected);
            }
            self.stream.readable().await.map_err(CtlError::Io)?;
            self.buffer.reserve(USUAL_LINE_BYTES);
            match self.stream.try_read_buf(&mut self.buffer) {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {}
                // A supervisor that ends with something unread resets the connection: an end like another.
                Err(cause) if cause.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(cause) => return Err(CtlError::Io(cause)),
            }
        }
    }
}

/// The statuses of a task, now and after every change; some may be skipped when we are slow, never the last.
#[derive(Debug)]
pub(super) struct Watch(Answers);

pub(super) async fn watch(places: &Places) -> Result<Watch, CtlError> {
    ask(places, &Command::Watch).await.map(Watch)
}

impl Watch {
    /// Nothing when the task has stopped or its supervisor has gone: `status.json` has the last word.
    pub(super) async fn next(&mut self) -> Result<Option<Box<TaskStatus>>, CtlError> {
        match self.0.next().await? {
            Some(Answer::Status { status }) => Ok(Some(status)),
            Some(Answer::Refused { reason }) => Err(CtlError::Refused(reason)),
            Some(
                Answer::Taken | Answer::Serve | Answer::Terminal | Answer::Attached { .. } | Answer::Exited { .. },
            ) => Err(CtlError::Unexpected),
            None => Ok(None),
        }
    }
}

/// Asks for something that is done when it is taken.
pub(super) async fn tell(places: &Places, command: &Command) -> Result<(), CtlError> {
    let mut answers = ask(places, command).await?;
    match tokio::time::timeout(ANSWER_LIMIT, answers.next()).await {
        Ok(Ok(Some(Answer::Taken))) => Ok(()),
        Ok(Ok(Some(Answer::Refused { reason }))) => Err(CtlError::Refused(reason)),
        Ok(Ok(None)) => Err(CtlError::Gone(io::ErrorKind::UnexpectedEof.into())),
        Ok(Err(error)) => Err(error),
        Ok(Ok(Some(
            Answer::Status { .. } | Answer::Serve | Answer::Terminal | Answer::Attached { .. } | Answer::Exited { .. },
        )))
        | Err(_) => Err(CtlError::Unexpected),
    }
}
