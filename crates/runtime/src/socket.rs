//! Bytes with descriptors over local stream sockets (unix(7), SCM_RIGHTS), and lines cut out of them.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, recvmsg, sendmsg,
};

/// SCM_MAX_FD of the kernel is 253; one message carries no more.
const DESCRIPTORS_PER_MESSAGE: usize = 250;

/// One read takes this much.
const READ_BYTES: usize = 16 << 10;

/// Sends all of `bytes` with all of `descriptors` on a blocking socket. More descriptors than one message takes go
/// ahead with one byte each, so there must be more bytes than messages.
pub(crate) fn send(socket: BorrowedFd<'_>, mut bytes: &[u8], mut descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    while !bytes.is_empty() {
        let now = descriptors.len().min(DESCRIPTORS_PER_MESSAGE);
        let (batch, rest) = descriptors.split_at(now);
        let piece = if rest.is_empty() { bytes } else { &bytes[..1] };
        let sent = send_some(socket, piece, batch)?;
        descriptors = rest;
        bytes = &bytes[sent..];
    }
    Ok(())
}

/// A non-blocking socket that is connected to whoever listens at `path`. An error of kind `WouldBlock` says that too many
/// wait for it already.
pub(crate) fn connect_without_waiting(path: &Path) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = nix::sys::socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    nix::sys::socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket)
}

/// Sends what the socket takes of `bytes`, with `descriptors`. Never raises SIGPIPE.
pub(crate) fn send_some(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let raw: Vec<i32> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    loop {
        match sendmsg::<UnixAddr>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None) {
            Err(nix::errno::Errno::EINTR) => {}
            Err(cause) => return Err(cause.into()),
            Ok(sent) => return Ok(sent),
        }
    }
}

/// What has arrived and is not a whole line yet, and the descriptors that came with it.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Something,
    /// The other side has closed.
    End,
}

/// The most one peer may send without a line end, and the most descriptors it may send with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) line_bytes: usize,
    pub(crate) descriptors: usize,
}

impl Incoming {
    /// One read. An error of kind `WouldBlock` says that nothing is there; one of kind `InvalidData` that the peer
    /// exceeds a limit.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>, limits: Limits) -> io::Result<Received> {
        let mut buffer = [0; READ_BYTES];
        let mut control = nix::cmsg_space!([i32; DESCRIPTORS_PER_MESSAGE]);
        let mut pieces = [IoSliceMut::new(&mut buffer)];
        let message = loop {
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            match recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut pieces, Some(&mut control), flags) {
                Err(nix::errno::Errno::EINTR) => {}
                Err(cause) => return Err(cause.into()),
                Ok(message) => break message,
            }
        };
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = part {
                // SAFETY: the kernel has just made these descriptors for us; nobody else knows their numbers.
                self.descriptors.extend(raw.into_iter().map(|raw| unsafe { OwnedFd::from_raw_fd(raw) }));
            }
        }
        let (count, cut) = (message.bytes, message.flags.contains(MsgFlags::MSG_CTRUNC));
        if count == 0 {
            return Ok(Received::End);
        }
        self.bytes.extend_from_slice(&buffer[..count]);
        if cut || self.descriptors.len() > limits.descriptors {
            let text = format!("more than {} descriptors in one request", limits.descriptors);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        if self.bytes.len() > limits.line_bytes && !self.bytes.contains(&b'\n') {
            let text = format!("a line longer than {} bytes", limits.line_bytes);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(Received::Something)
    }

    /// The next whole line, without its end.
    pub(crate) fn line(&mut self) -> Option<Vec<u8>> {
        let end = self.bytes.iter().position(|byte| *byte == b'\n')?;
        let mut line: Vec<u8> = self.bytes.drain(..=end).collect();
        line.pop();
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
        Some(line)
    }

    /// The descriptors that came so far.
    pub(crate) fn descriptors(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.descriptors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    const LIMITS: Limits = Limits { line_bytes: 4096, descriptors: 1000 };

    #[test]
    fn more_descriptors_than_one_message_takes_arrive_in_order() {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let files: Vec<std::fs::File> = (0..300).map(|_| std::fs::File::open("/dev/null").expect("open")).collect();
        let descriptors: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
        send(ours.as_fd(), b"{\"command\":\"go\"}\nrest", &descriptors).expect("send");
        drop(ours);
        let mut incoming = Incoming::default();
        while incoming.receive(theirs.as_fd(), LIMITS).expect("receive") == Received::Something {}
        assert_eq!(incoming.line().as_deref(), Some(b"{\"command\":\"go\"}".as_slice()));
        assert_eq!(incoming.line(), None);
        assert_eq!(incoming.descriptors().len(), 300);
    }

    #[test]
    fn an_endless_line_and_too_many_descriptors_are_refused() {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let limits = Limits { line_bytes: 10, descriptors: 1 };
        send(ours.as_fd(), b"12345678901", &[]).expect("send");
        let refused = Incoming::default().receive(theirs.as_fd(), limits).expect_err("too long");
        assert_eq!(refused.to_string(), "a line longer than 10 bytes");
        let null = std::fs::File::open("/dev/null").expect("open");
        send(ours.as_fd(), b"x\n", &[null.as_fd(), null.as_fd()]).expect("send");
        let refused = Incoming::default().receive(theirs.as_fd(), limits).expect_err("too many");
        assert_eq!(refused.to_string(), "more than 1 descriptors in one request");
    }
}
