//! The supervisor's side of the `ctl` socket: who is connected, what they asked, what they have not read yet.
//!
//! Nothing here waits. A client that does not read keeps at most [`MAX_OUTGOING_BYTES`] of answers; a watching one
//! that is behind gets the newest status when it catches up, not every one in between.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use agent_protocol::{Answer, Command};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use crate::socket::{Incoming, Limits, Received, send_some};

/// Connections at a time; more are closed at once.
const MAX_CLIENTS: usize = 64;

/// An exec's environment may be as long as execve(2)'s arguments usually are.
const LIMITS: Limits = Limits { line_bytes: 256 << 10, descriptors: 3 };

/// Answers that one client has not read. A client with more is disconnected.
const MAX_OUTGOING_BYTES: usize = 256 << 10;

/// The kernel's limit of a socket's path without its final zero (unix(7)).
const MAX_SOCKET_PATH_BYTES: usize = 107;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientId(u64);

#[derive(Debug)]
pub(crate) struct Ctl {
    listener: UnixListener,
    path: PathBuf,
    clients: Vec<Client>,
    next_id: u64,
}

#[derive(Debug)]
struct Client {
    id: ClientId,
    stream: UnixStream,
    incoming: Incoming,
    outgoing: Vec<u8>,
    /// Go with the next byte of `outgoing`.
    descriptors: Vec<OwnedFd>,
    watching: Watching,
    /// Everything that it is owed is in `outgoing`; then the connection ends.
    ending: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watching {
    No,
    UpToDate,
    /// A status came while older answers were still unread.
    Behind,
}

/// What a client wants, or that it has gone.
#[derive(Debug)]
pub(crate) enum Request {
    Command { client: ClientId, command: Command, descriptors: Vec<OwnedFd> },
    Gone { client: ClientId },
}

impl Ctl {
    /// Listens at `path`, for this user only.
    pub(crate) fn listen(path: &Path) -> io::Result<Ctl> {
        if path.as_os_str().len() > MAX_SOCKET_PATH_BYTES {
            let text = format!(
                "{}: a socket's path has at most {MAX_SOCKET_PATH_BYTES} bytes; choose a shorter run directory",
                path.display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        match std::fs::remove_file(path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Ctl { listener, path: path.to_owned(), clients: Vec::new(), next_id: 0 })
    }

    /// What to poll for: the listener, then each client, as (descriptor, events).
    pub(crate) fn interest(&self) -> impl Iterator<Item = (RawFd, i16)> + '_ {
        let clients = self.clients.iter().map(|client| {
            let write = if client.outgoing.is_empty() { 0 } else { libc::POLLOUT };
            (client.stream.as_raw_fd(), libc::POLLIN | write)
        });
        std::iter::once((self.listener.as_raw_fd(), libc::POLLIN)).chain(clients)
    }

    /// Serves the sockets that poll(2) named ready.
    pub(crate) fn serve(&mut self, ready: &[RawFd]) -> Vec<Request> {
        let mut requests = Vec::new();
        for client in &mut self.clients {
            if ready.contains(&client.stream.as_raw_fd()) {
                client.serve(&mut requests);
            }
        }
        self.bury(&mut requests);
        if ready.contains(&self.listener.as_raw_fd()) {
            self.accept();
        }
        requests
    }

    /// Queues an answer, with its descriptors, and sends what the socket takes.
    pub(crate) fn answer(&mut self, to: ClientId, answer: &Answer, descriptors: Vec<OwnedFd>) {
        let Some(client) = self.clients.iter_mut().find(|client| client.id == to) else { return };
        client.outgoing.extend(line_of(answer));
        client.descriptors.extend(descriptors);
        client.flush();
    }

    /// As `answer`; the connection ends when it has been read.
    pub(crate) fn last_answer(&mut self, to: ClientId, answer: &Answer) {
        if let Some(client) = self.clients.iter_mut().find(|client| client.id == to) {
            client.ending = true;
        }
        self.answer(to, answer, Vec::new());
    }

    /// From now on this client is told of every status.
    pub(crate) fn watch(&mut self, client: ClientId) {
        if let Some(client) = self.clients.iter_mut().find(|candidate| candidate.id == client) {
            client.watching = Watching::Behind;
        }
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.clients.iter().any(|client| client.watching != Watching::No)
    }

    /// Tells every watching client that has read all before; the others get it, or a newer one, later.
    pub(crate) fn tell_status(&mut self, status: &Answer) {
        let line = line_of(status);
        for client in &mut self.clients {
            if client.watching != Watching::No {
                client.watching = Watching::Behind;
                client.catch_up(&line);
            }
        }
    }

    /// Clients that have not seen the newest status and have room for it.
    pub(crate) fn wants_status(&self) -> bool {
        self.clients.iter().any(|client| client.watching == Watching::Behind && client.outgoing.is_empty())
    }

    pub(crate) fn send_wanted_status(&mut self, status: &Answer) {
        let line = line_of(status);
        for client in &mut self.clients {
            if client.watching == Watching::Behind {
                client.catch_up(&line);
            }
        }
    }

    fn accept(&mut self) {
        // One round for each free place; the listener is level-triggered, so the rest comes with the next poll.
        for _ in 0..=MAX_CLIENTS {
            let Ok((stream, _)) = self.listener.accept() else { return };
            if self.clients.len() >= MAX_CLIENTS || !is_us(&stream) || stream.set_nonblocking(true).is_err() {
                continue;
            }
            self.next_id += 1;
            self.clients.push(Client {
                id: ClientId(self.next_id),
                stream,
                incoming: Incoming::default(),
                outgoing: Vec::new(),
                descriptors: Vec::new(),
                watching: Watching::No,
                ending: false,
            });
        }
    }

    fn bury(&mut self, requests: &mut Vec<Request>) {
        self.clients.retain(|client| {
            let gone = client.ending && client.outgoing.is_empty();
            if gone {
                requests.push(Request::Gone { client: client.id });
            }
            !gone
        });
    }
}

impl Drop for Ctl {
    fn drop(&mut self) {
        // The run directory goes next, and its remover tells if that fails.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Client {
    fn serve(&mut self, requests: &mut Vec<Request>) {
        self.flush();
        match self.incoming.receive(self.stream.as_fd(), LIMITS) {
            Ok(Received::Something) => self.parse(requests),
            Ok(Received::End) => self.hang_up(),
            Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => {}
            Err(cause) if cause.kind() == io::ErrorKind::InvalidData => {
                self.refuse(cause.to_string());
                self.ending = true;
            }
            Err(_) => self.hang_up(),
        }
    }

    fn parse(&mut self, requests: &mut Vec<Request>) {
        while let Some(line) = self.incoming.line() {
            let descriptors = self.incoming.descriptors();
            match serde_json::from_slice(&line) {
                Ok(command) => requests.push(Request::Command { client: self.id, command, descriptors }),
                Err(cause) => self.refuse(format!("not a command: {cause}")),
            }
        }
    }

    fn refuse(&mut self, reason: String) {
        self.outgoing.extend(line_of(&Answer::Refused { reason }));
        self.flush();
    }

    fn catch_up(&mut self, line: &[u8]) {
        if self.outgoing.is_empty() {
            self.outgoing.extend_from_slice(line);
            self.watching = Watching::UpToDate;
            self.flush();
        }
    }

    fn flush(&mut self) {
        while !self.outgoing.is_empty() {
            let descriptors: Vec<_> = self.descriptors.iter().map(AsFd::as_fd).collect();
            match send_some(self.stream.as_fd(), &self.outgoing, &descriptors) {
                Ok(sent) => {
                    drop(self.outgoing.drain(..sent));
                    self.descriptors.clear();
                }
                Err(cause) if cause.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return self.hang_up(),
            }
        }
        if self.outgoing.len() > MAX_OUTGOING_BYTES {
            self.hang_up();
        }
    }

    fn hang_up(&mut self) {
        self.outgoing = Vec::new();
        self.watching = Watching::No;
        self.ending = true;
    }
}

fn is_us(stream: &UnixStream) -> bool {
    getsockopt(stream, PeerCredentials).is_ok_and(|peer| peer.uid() == nix::unistd::geteuid().as_raw())
}

fn line_of(answer: &Answer) -> Vec<u8> {
    let mut line = serde_json::to_vec(answer).expect("an answer is plain data with string keys");
    line.push(b'\n');
    line
}
