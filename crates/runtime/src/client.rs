//! The other side of the `ctl` socket: asking a task's supervisor.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use agent_protocol::command::Exec;
use agent_protocol::task_spec::Places;
use agent_protocol::{Answer, Command, TaskStatus};
use ecs::ContainerName;
use ecs::task::StopCode;

use crate::socket::{self, Incoming, Limits, Received, send};
use crate::supervisor::services::MAX_SOCKETS;
use crate::task_dir::CTL_NAME;

/// A status of the largest task is far below this; an attachment is two descriptors.
const LIMITS: Limits = Limits { line_bytes: 4 << 20, descriptors: 2 };

const SERVE_LIMITS: Limits = Limits { descriptors: MAX_SOCKETS, ..LIMITS };

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("the task has no supervisor any more ({path})", path = path.display())]
    Gone {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("cannot reach the task's supervisor at {path}", path = path.display())]
    Connect {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("lost the connection to the task's supervisor")]
    Lost(#[source] io::Error),
    #[error("the task's supervisor ended the connection")]
    Ended,
    #[error("the task's supervisor refused: {reason}")]
    Refused { reason: String },
    #[error("the task's supervisor answered what was not asked")]
    Unexpected,
    #[error("the task's supervisor speaks another version")]
    Version(#[source] serde_json::Error),
}

impl ClientError {
    /// A supervisor that ends with our request unread resets the connection: an end like another.
    fn of_io(cause: io::Error) -> ClientError {
        match cause.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => ClientError::Ended,
            _ => ClientError::Lost(cause),
        }
    }
}

/// One connection to one task's supervisor.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    incoming: Incoming,
}

pub fn connect(places: &Places) -> Result<Client, ClientError> {
    connect_at(&places.run.join(CTL_NAME))
}

fn connect_at(path: &Path) -> Result<Client, ClientError> {
    match UnixStream::connect(path) {
        Ok(stream) => Ok(Client { stream, incoming: Incoming::default() }),
        Err(cause) if matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            Err(ClientError::Gone { path: path.to_owned(), cause })
        }
        Err(cause) => Err(ClientError::Connect { path: path.to_owned(), cause }),
    }
}

impl Client {
    /// Returns when the supervisor has taken the request; the end shows in the status.
    pub fn stop(&mut self, stop_code: StopCode, reason: &str) -> Result<(), ClientError> {
        self.ask(&Command::Stop { stop_code, reason: reason.to_owned() }, &[])?;
        self.taken()
    }

    /// SIGKILL to everything at once.
    pub fn kill(&mut self, reason: &str) -> Result<(), ClientError> {
        self.ask(&Command::Kill { reason: reason.to_owned() }, &[])?;
        self.taken()
    }

    /// The status now and after every change (some may be skipped when we are slow, never the last), until the task
    /// has stopped.
    pub fn watch(mut self) -> Result<Watch, ClientError> {
        match self.ask(&Command::Watch, &[]) {
            Ok(()) => Ok(Watch { client: Some(self) }),
            Err(ClientError::Ended) => Ok(Watch { client: None }),
            Err(error) => Err(error),
        }
    }

    /// Runs a further process with these as its standard input, output and error.
    pub fn exec(mut self, exec: &Exec, stdio: [BorrowedFd<'_>; 3]) -> Result<Execution, ClientError> {
        self.ask(&Command::Exec(Exec { terminal: false, ..exec.clone() }), &stdio)?;
        self.taken()?;
        Ok(Execution { client: self })
    }

    /// Runs a further process on a terminal of its own, whose master side is returned.
    pub fn exec_with_terminal(mut self, exec: &Exec) -> Result<(Execution, OwnedFd), ClientError> {
        self.ask(&Command::Exec(Exec { terminal: true, ..exec.clone() }), &[])?;
        match self.answer()? {
            Answer::Terminal => {}
            Answer::Refused { reason } => return Err(ClientError::Refused { reason }),
            Answer::Taken | Answer::Serve | Answer::Status { .. } | Answer::Attached { .. } | Answer::Exited { .. } => {
                return Err(ClientError::Unexpected);
            }
        }
        let master = self.incoming.descriptors().pop().ok_or(ClientError::Unexpected)?;
        Ok((Execution { client: self }, master))
    }

    /// The input, and where it has one the terminal, of a container with `interactive` or `pseudoTerminal`.
    pub fn attach(mut self, container: &ContainerName) -> Result<Attachment, ClientError> {
        self.ask(&Command::Attach { container: container.clone() }, &[])?;
        let terminal = match self.answer()? {
            Answer::Attached { terminal } => terminal,
            Answer::Refused { reason } => return Err(ClientError::Refused { reason }),
            Answer::Taken | Answer::Serve | Answer::Terminal | Answer::Status { .. } | Answer::Exited { .. } => {
                return Err(ClientError::Unexpected);
            }
        };
        let mut descriptors = self.incoming.descriptors().into_iter();
        match (terminal, descriptors.next(), descriptors.next()) {
            (true, Some(master), Some(shown)) => Ok(Attachment::Terminal { master, shown }),
            (false, Some(input), None) => Ok(Attachment::Input(input)),
            (true | false, _, _) => Err(ClientError::Unexpected),
        }
    }

    pub(crate) fn of_stream(stream: UnixStream) -> Client {
        Client { stream, incoming: Incoming::default() }
    }

    pub(crate) fn ask(&mut self, command: &Command, descriptors: &[BorrowedFd<'_>]) -> Result<(), ClientError> {
        let mut line = serde_json::to_vec(command).expect("a command is plain data with string keys");
        line.push(b'\n');
        send(self.stream.as_fd(), &line, descriptors).map_err(ClientError::of_io)
    }

    pub(crate) fn taken(&mut self) -> Result<(), ClientError> {
        match self.answer()? {
            Answer::Taken => Ok(()),
            Answer::Refused { reason } => Err(ClientError::Refused { reason }),
            Answer::Terminal
            | Answer::Serve
            | Answer::Attached { .. }
            | Answer::Status { .. }
            | Answer::Exited { .. } => Err(ClientError::Unexpected),
        }
    }

    fn answer(&mut self) -> Result<Answer, ClientError> {
        loop {
            if let Some(line) = self.incoming.line() {
                return serde_json::from_slice(&line).map_err(ClientError::Version);
            }
            match self.incoming.receive(self.stream.as_fd(), LIMITS).map_err(ClientError::of_io)? {
                Received::Something => {}
                Received::End => return Err(ClientError::Ended),
            }
        }
    }
}

/// A task's service sockets and then its statuses, for one that waits for many tasks at a time: nothing here blocks.
#[derive(Debug)]
pub struct Service {
    client: Client,
    served: bool,
}

/// What comes of a [`Service`].
#[derive(Debug)]
pub enum Served {
    /// First, and once: copies, in the order of `TaskSpec::service_sockets`.
    Sockets(Vec<OwnedFd>),
    /// Now and after every change; some may be skipped when we are slow.
    Status(Box<TaskStatus>),
}

/// Asks the supervisor whose task has this run directory for its service sockets.
///
/// # Errors
/// `Gone`: there is none (yet). `Connect` also where so many wait for it that it cannot be asked now.
pub fn serve(run: &Path) -> Result<Service, ClientError> {
    let path = run.join(CTL_NAME);
    let failed = |cause| ClientError::Connect { path: path.clone(), cause };
    let socket = socket::connect_without_waiting(&path).map_err(|cause| match cause.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::Gone { path: path.clone(), cause },
        _ => failed(cause),
    })?;
    let mut client = Client::of_stream(UnixStream::from(socket));
    // The empty buffer of a new socket has room for it.
    client.ask(&Command::Serve, &[])?;
    Ok(Service { client, served: false })
}

impl Service {
    /// What has arrived; nothing where nothing has. To be asked again and again until it says so.
    ///
    /// # Errors
    /// The connection is of no more use. `Refused`: a supervisor of an older build, or one that lacks descriptors.
    pub fn advance(&mut self) -> Result<Option<Served>, ClientError> {
        loop {
            if let Some(line) = self.client.incoming.line() {
                let answer = serde_json::from_slice(&line).map_err(ClientError::Version)?;
                return self.told(answer).map(Some);
            }
            match self.client.incoming.receive(self.client.stream.as_fd(), SERVE_LIMITS) {
                Ok(Received::Something) => {}
                Ok(Received::End) => return Err(ClientError::Ended),
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(cause) => return Err(ClientError::of_io(cause)),
            }
        }
    }

    fn told(&mut self, answer: Answer) -> Result<Served, ClientError> {
        match (answer, self.served) {
            (Answer::Serve, false) => {
                self.served = true;
                Ok(Served::Sockets(self.client.incoming.descriptors()))
            }
            (Answer::Status { status }, true) => Ok(Served::Status(status)),
            (Answer::Refused { reason }, _) => Err(ClientError::Refused { reason }),
            (
                Answer::Serve
                | Answer::Status { .. }
                | Answer::Taken
                | Answer::Terminal
                | Answer::Attached { .. }
                | Answer::Exited { .. },
                _,
            ) => Err(ClientError::Unexpected),
        }
    }
}

impl AsFd for Service {
    /// Readable when `advance` may have something.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.client.stream.as_fd()
    }
}

impl AsRawFd for Service {
    fn as_raw_fd(&self) -> RawFd {
        self.client.stream.as_raw_fd()
    }
}

/// The statuses of a task, until it has stopped or its supervisor has gone.
#[derive(Debug)]
pub struct Watch {
    client: Option<Client>,
}

impl Watch {
    /// For poll(2): readable when a status may be there.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.client.as_ref().map(|client| client.stream.as_fd())
    }
}

impl Iterator for Watch {
    type Item = Result<TaskStatus, ClientError>;

    /// After an error, and after the socket has closed, there is no further item: `status.json` has the last word.
    fn next(&mut self) -> Option<Self::Item> {
        let answer = self.client.as_mut()?.answer();
        let item = match answer {
            Ok(Answer::Status { status }) => return Some(Ok(*status)),
            Ok(Answer::Refused { reason }) => Some(Err(ClientError::Refused { reason })),
            Ok(Answer::Taken | Answer::Serve | Answer::Terminal | Answer::Attached { .. } | Answer::Exited { .. }) => {
                Some(Err(ClientError::Unexpected))
            }
            Err(ClientError::Ended) => None,
            Err(error) => Some(Err(error)),
        };
        self.client = None;
        item
    }
}

/// What an attached client has of a container.
#[derive(Debug)]
pub enum Attachment {
    /// The only writer of its standard input.
    Input(OwnedFd),
    /// The master side of its terminal, which blocks, and a pipe with everything that it shows. The terminal's output
    /// is the supervisor's to read.
    Terminal { master: OwnedFd, shown: OwnedFd },
}

/// A further process in a container. Dropping it sends the process SIGHUP.
#[derive(Debug)]
pub struct Execution {
    client: Client,
}

/// Ends a further process from outside its `Execution`, which waits.
#[derive(Debug)]
pub struct HangUp(UnixStream);

impl HangUp {
    /// The process gets SIGHUP, and `Execution::wait` ends.
    pub fn hang_up(self) {
        // A supervisor that has gone already has nothing to be told.
        self.0.shutdown(std::net::Shutdown::Both).ok();
    }
}

impl Execution {
    /// # Errors
    /// There are no descriptors left.
    pub fn hang_up(&self) -> io::Result<HangUp> {
        self.client.stream.try_clone().map(HangUp)
    }

    /// Waits for its end: 0 to 255, a death by signal as 128 + its number.
    pub fn wait(mut self) -> Result<i32, ClientError> {
        match self.client.answer()? {
            Answer::Exited { exit_code } => Ok(exit_code),
            Answer::Refused { reason } => Err(ClientError::Refused { reason }),
            Answer::Taken | Answer::Serve | Answer::Terminal | Answer::Attached { .. } | Answer::Status { .. } => {
                Err(ClientError::Unexpected)
            }
        }
    }
}
