//! A stream to a log service: TCP, TLS over it, or a local socket.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use super::{ANSWER_TIMEOUT, CONNECT_TIMEOUT, tls};
use crate::encode::fluentd;
use crate::encode::syslog::Certificates;
use crate::options::Address;

/// How often it is looked whether the other side has taken everything: from the first to the longest wait.
const FIRST_LOOK: Duration = Duration::from_micros(100);
const LONGEST_LOOK: Duration = Duration::from_millis(20);
/// The longest acknowledgement is far below this.
const MAX_ANSWER_BYTES: usize = 1024;

pub(super) struct Wire {
    kind: Kind,
    /// Whether a batch was ever acknowledged here.
    pub(super) has_acknowledged: bool,
}

enum Kind {
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    Local(UnixStream),
}

impl Wire {
    pub(super) fn connect(address: &Address, certificates: &Certificates) -> io::Result<Wire> {
        let kind = match address {
            Address::Tcp { host, port } => Kind::Tcp(tcp(host, *port)?),
            Address::Tls { host, port } => {
                let name = certificates.name.as_ref().unwrap_or(host).clone();
                let name = ServerName::try_from(name).map_err(io::Error::other)?;
                let config = Arc::new(tls::config(certificates)?);
                let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
                Kind::Tls(Box::new(StreamOwned::new(connection, tcp(host, *port)?)))
            }
            Address::Unix(path) => Kind::Local(local(UnixStream::connect(path)?)?),
            Address::UnixOfContainer(path) => Kind::Local(local(connect_without_links(path)?)?),
            Address::Udp { .. } | Address::UnixDatagram(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok(Wire { kind, has_acknowledged: false })
    }

    /// Whether the other side has gone, as far as is known here. What it may have said meanwhile is nobody's.
    pub(super) fn is_closed(&mut self) -> bool {
        let mut ignored = [0; MAX_ANSWER_BYTES];
        if self.set_nonblocking(true).is_err() {
            return true;
        }
        let closed = loop {
            match self.read(&mut ignored) {
                Ok(0) => break true,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break false,
                Err(_) => break true,
            }
        };
        closed || self.set_nonblocking(false).is_err()
    }

    /// Writes all, and waits until the other side's kernel (TCP) or the receiver itself (a local socket) has taken it.
    pub(super) fn deliver(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.kind {
            Kind::Tcp(stream) => stream.write_all(bytes)?,
            Kind::Local(stream) => stream.write_all(bytes)?,
            Kind::Tls(stream) => {
                stream.write_all(bytes)?;
                stream.flush()?;
            }
        }
        let end = Instant::now() + ANSWER_TIMEOUT;
        let mut look = FIRST_LOOK;
        while runtime::shipper::untaken_bytes(self.as_fd())? > 0 {
            if Instant::now() > end {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it does not read what it is sent"));
            }
            std::thread::sleep(look);
            look = (look * 2).min(LONGEST_LOOK);
        }
        match self.socket_error()? {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// False where no answer comes in time, or one that acknowledges something else.
    pub(super) fn acknowledged(&mut self, chunk: &str) -> io::Result<bool> {
        let end = Instant::now() + ANSWER_TIMEOUT;
        let mut answer = Vec::new();
        let mut buffer = [0; MAX_ANSWER_BYTES];
        while answer.len() < MAX_ANSWER_BYTES && Instant::now() < end {
            match self.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => answer.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => break,
                Err(error) => return Err(error),
            }
            if let Some(acknowledged) = fluentd::is_acknowledged(&answer, chunk) {
                self.has_acknowledged |= acknowledged;
                return Ok(acknowledged);
            }
        }
        Ok(false)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.kind {
            Kind::Tcp(stream) => stream.read(buffer),
            Kind::Local(stream) => stream.read(buffer),
            Kind::Tls(stream) => stream.read(buffer),
        }
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        match &self.kind {
            Kind::Tcp(stream) => stream.set_nonblocking(nonblocking),
            Kind::Local(stream) => stream.set_nonblocking(nonblocking),
            Kind::Tls(stream) => stream.sock.set_nonblocking(nonblocking),
        }
    }

    fn socket_error(&self) -> io::Result<Option<io::Error>> {
        match &self.kind {
            Kind::Tcp(stream) => stream.take_error(),
            Kind::Local(stream) => stream.take_error(),
            Kind::Tls(stream) => stream.sock.take_error(),
        }
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kind {
            Kind::Tcp(stream) => stream.as_fd(),
            Kind::Local(stream) => stream.as_fd(),
            Kind::Tls(stream) => stream.sock.as_fd(),
        }
    }
}

fn local(stream: UnixStream) -> io::Result<UnixStream> {
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    Ok(stream)
}

/// To the socket that has this name itself. A link in its place could lead to any socket of the host's, which would
/// take us for who we are.
fn connect_without_links(path: &Path) -> io::Result<UnixStream> {
    // The standard library would drop O_PATH, which is an access mode in musl's eyes.
    let named = File::from(open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?);
    if !named.metadata()?.file_type().is_socket() {
        return Err(io::Error::other("it is no socket"));
    }
    UnixStream::connect(format!("/proc/self/fd/{}", named.as_raw_fd()))
}

fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for place in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&place, CONNECT_TIMEOUT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
                stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_container_cannot_send_us_to_a_socket_of_the_hosts() {
        let folder = tempfile::tempdir().expect("a directory");
        let (socket, link) = (folder.path().join("socket"), folder.path().join("link"));
        let listener = UnixListener::bind(&socket).expect("a new socket");
        listener.set_nonblocking(true).expect("a listener");
        symlink(&socket, &link).expect("a new link");
        let connect = |path: &Path| Wire::connect(&Address::UnixOfContainer(path.to_owned()), &Certificates::default());
        assert!(connect(&link).is_err());
        assert!(listener.accept().is_err(), "somebody came through the link");
        assert!(connect(&socket).is_ok());
        assert!(listener.accept().is_ok());
    }
}
