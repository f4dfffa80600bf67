//! A netlink socket: send a set of requests, collect each one's answer.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;

use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, setsockopt, sockopt,
};

use super::frame::{HEADER_LENGTH, attributes};
use super::{Buffer, Requests, flags};

/// The kernel writes dumps in parts of at most 32 KiB.
const RECEIVE_BUFFER: usize = 32 * 1024;
/// Bytes; one system call.
const CLOSING_STACK: usize = 64 * 1024;
/// How often a dump that a concurrent change tore is read again.
const DUMP_ATTEMPTS: u32 = 8;
/// Bytes: what any socket may send at once, whatever net.core.wmem_default is.
const USUAL_SEND_BUFFER: usize = 64 * 1024;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSGERR_ATTR_MSG: u16 = 1;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Protocol {
    /// Links, addresses, routes, neighbours.
    Route,
    /// nftables and conntrack.
    Netfilter,
    /// Families that the kernel numbers as they are loaded, WireGuard among them.
    Generic,
    /// Who has which socket.
    SocketDiagnosis,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open a netlink socket ({protocol})")]
    Open {
        protocol: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot send to the kernel over netlink")]
    Send(#[source] io::Error),
    #[error("cannot receive from the kernel over netlink")]
    Receive(#[source] io::Error),
    #[error("the kernel's netlink answer is longer than {RECEIVE_BUFFER} bytes")]
    Truncated,
    #[error("the list kept changing while it was read, {DUMP_ATTEMPTS} times")]
    Torn,
    #[error(transparent)]
    Refused(#[from] Refused),
}

impl Error {
    /// The kernel's error number, where the kernel refused.
    pub(crate) fn errno(&self) -> Option<Errno> {
        match self {
            Error::Refused(refused) => Some(refused.errno),
            Error::Open { .. } | Error::Send(_) | Error::Receive(_) | Error::Truncated | Error::Torn => None,
        }
    }
}

/// The kernel said no, with the sentence it gave where it gave one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}", .errno.desc(), if .said.is_empty() { String::new() } else { format!(" ({})", .said) })]
pub struct Refused {
    pub errno: Errno,
    pub said: String,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) body: Vec<u8>,
}

/// What one request of a set came to.
pub(crate) type Answer = Result<Vec<Reply>, Refused>;

/// Belongs for life to the network namespace of the thread that opened it.
pub(crate) struct Socket {
    descriptor: OwnedFd,
    next_sequence: u32,
    received: Vec<u8>,
}

impl Socket {
    pub(crate) fn open(protocol: Protocol) -> Result<Socket, Error> {
        let number = match protocol {
            Protocol::Route => SockProtocol::NetlinkRoute,
            Protocol::Netfilter => SockProtocol::NetlinkNetFilter,
            Protocol::Generic => SockProtocol::NetlinkGeneric,
            Protocol::SocketDiagnosis => SockProtocol::NetlinkSockDiag,
        };
        let descriptor = socket::socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, number)
            .map_err(|errno| Error::Open { protocol: format!("{protocol:?}"), source: io::Error::from(errno) })?;
        set_options(&descriptor);
        Ok(Socket { descriptor, next_sequence: 1, received: vec![0; RECEIVE_BUFFER] })
    }

    /// Closes a socket that nftables was changed through, or may have been by others, without waiting. The kernel
    /// frees what a transaction deleted only after a grace period, and the next one to close such a socket has to
    /// wait for that, 10 ms and more (nft_rcv_nl_event in net/netfilter/nf_tables_api.c). A thread of its own does.
    pub(crate) fn close_aside(self) {
        let closing = thread::Builder::new().name("close".into()).stack_size(CLOSING_STACK).spawn(move || drop(self));
        // Where there is no thread to be had, the socket was closed by dropping the closure.
        drop(closing);
    }

    /// As `close_aside`, for a supervisor, which has one thread: it moves itself between cgroups and ends soon, and a
    /// second thread would keep it in both. The socket is closed with the process.
    pub(crate) fn close_at_exit(self) {
        std::mem::forget(self.descriptor);
    }

    /// The first of `count` message numbers that nobody else uses on this socket.
    pub(crate) fn take_sequences(&mut self, count: u32) -> u32 {
        let first = self.next_sequence;
        self.next_sequence = first.wrapping_add(count);
        first
    }

    /// Sends the whole set at once and gives one answer for each request, in order.
    pub(crate) fn exchange(&mut self, mut requests: Requests) -> Result<Vec<Answer>, Error> {
        let count = requests.count;
        if count == 0 {
            return Ok(Vec::new());
        }
        let first = self.take_sequences(count);
        requests.buffer.renumber(first);
        self.send(&requests.buffer)?;
        let mut answers: Vec<Answer> = (0..count).map(|_| Ok(Vec::new())).collect();
        let mut open = count;
        while open > 0 {
            for reply in self.receive()? {
                let Some(answer) = answers.get_mut(reply.sequence.wrapping_sub(first) as usize) else { continue };
                if reply.kind == NLMSG_ERROR {
                    open -= 1;
                    if let Err(refused) = verdict(&reply) {
                        *answer = Err(refused);
                    }
                } else if let Ok(replies) = answer {
                    replies.push(reply);
                }
            }
        }
        Ok(answers)
    }

    /// One request whose refusal is the caller's error.
    pub(crate) fn request(
        &mut self,
        kind: u16,
        extra_flags: u16,
        fill: impl FnOnce(&mut Buffer),
    ) -> Result<Vec<Reply>, Error> {
        let mut requests = Requests::default();
        requests.push(kind, extra_flags, fill);
        let answer = self.exchange(requests)?.pop().expect("one request has one answer");
        Ok(answer?)
    }

    /// Everything of a kind, as it was at one moment.
    pub(crate) fn dump(&mut self, kind: u16, fill: impl Fn(&mut Buffer)) -> Result<Vec<Reply>, Error> {
        for _ in 0..DUMP_ATTEMPTS {
            match self.dump_once(kind, &fill) {
                Ok(Some(replies)) => return Ok(replies),
                // nf_tables ends a dump that a commit overtook with EINTR.
                Ok(None) => {}
                Err(error) if error.errno() == Some(Errno::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::Torn)
    }

    fn dump_once(&mut self, kind: u16, fill: &impl Fn(&mut Buffer)) -> Result<Option<Vec<Reply>>, Error> {
        let sequence = self.take_sequences(1);
        let mut buffer = Buffer::default();
        buffer.message(kind, flags::REQUEST | flags::DUMP, sequence, fill);
        self.send(&buffer)?;
        let (mut replies, mut torn) = (Vec::new(), false);
        loop {
            for reply in self.receive()? {
                if reply.sequence != sequence {
                    continue;
                }
                torn |= reply.flags & flags::DUMP_INTERRUPTED != 0;
                match reply.kind {
                    NLMSG_DONE => return Ok((!torn).then_some(replies)),
                    NLMSG_ERROR => {
                        verdict(&reply)?;
                        return Ok((!torn).then_some(replies));
                    }
                    _ => replies.push(reply),
                }
            }
        }
    }

    pub(crate) fn send(&self, buffer: &Buffer) -> Result<(), Error> {
        if buffer.length() > USUAL_SEND_BUFFER {
            // Refused to whoever may not change the network either, which the kernel says below.
            let _ = setsockopt(&self.descriptor, sockopt::SndBufForce, &(buffer.length() * 2));
        }
        let kernel = NetlinkAddr::new(0, 0);
        match socket::sendto(self.descriptor.as_raw_fd(), buffer.bytes(), &kernel, MsgFlags::empty()) {
            Ok(_) => Ok(()),
            Err(errno) => Err(Error::Send(io::Error::from(errno))),
        }
    }

    pub(crate) fn receive(&mut self) -> Result<Vec<Reply>, Error> {
        let length = loop {
            match socket::recv(self.descriptor.as_raw_fd(), &mut self.received, MsgFlags::MSG_TRUNC) {
                Ok(length) => break length,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::Receive(io::Error::from(errno))),
            }
        };
        let area = self.received.get(..length).ok_or(Error::Truncated)?;
        Ok(messages(area))
    }
}

/// Not in libc for every target.
const NETLINK_GET_STRICT_CHK: libc::c_int = 12;

/// Extended acknowledgements: a sentence with an error, and without the request's echo. Strict checking: a list is
/// filtered by what the request's header says. A kernel that lacks one of them gives the number alone, or the whole
/// list, which every reader here filters again.
fn set_options(descriptor: &OwnedFd) {
    let on: libc::c_int = 1;
    for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK] {
        // SAFETY: the descriptor is open, and the kernel reads size_of(c_int) bytes from a live c_int.
        unsafe {
            libc::setsockopt(
                descriptor.as_raw_fd(),
                libc::SOL_NETLINK,
                option,
                (&raw const on).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            );
        }
    }
}

/// Every message of what was received at once.
pub(crate) fn messages(mut area: &[u8]) -> Vec<Reply> {
    let mut replies = Vec::new();
    while let Some((head, _)) = area.split_at_checked(HEADER_LENGTH) {
        let word = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let half = |at: usize| u16::from_ne_bytes([head[at], head[at + 1]]);
        let length = word(0) as usize;
        let Some(body) = area.get(HEADER_LENGTH..length) else { break };
        replies.push(Reply { kind: half(4), flags: half(6), sequence: word(8), body: body.to_vec() });
        area = area.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    replies
}

/// What an NLMSG_ERROR says; number 0 is the acknowledgement.
pub(crate) fn verdict(reply: &Reply) -> Result<(), Refused> {
    let word = |at: usize| reply.body.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    let number = word(0).unwrap_or(-libc::EBADMSG);
    if number == 0 {
        return Ok(());
    }
    let mut said = String::new();
    if reply.flags & flags::ACK_ATTRIBUTES != 0 {
        let echoed =
            if reply.flags & flags::CAPPED != 0 { HEADER_LENGTH } else { word(4).unwrap_or(0).max(0) as usize };
        for (kind, payload) in attributes(reply.body.get(4 + echoed.next_multiple_of(4)..).unwrap_or(&[])) {
            if kind == NLMSGERR_ATTR_MSG {
                said = String::from_utf8_lossy(payload).trim_end_matches('\0').to_owned();
            }
        }
    }
    Err(Refused { errno: Errno::from_raw(number.wrapping_neg()), said })
}
