//! Netlink as the kernel speaks it: attributes, messages, one blocking socket. Which messages mean what is left to
//! `link`, `nft` and `conntrack`.
//!
//! The socket blocks because the kernel answers within `sendto`: waiting for it asynchronously would cost more than
//! the answer.

mod frame;
pub(crate) mod generic;
mod socket;

pub(crate) use frame::{Buffer, Requests, attributes, find};
pub(crate) use socket::{Answer, Protocol, Reply, Socket, messages, verdict};
pub use socket::{Error, Refused};

/// Flags of a message header (<https://docs.kernel.org/userspace-api/netlink/intro.html>).
pub(crate) mod flags {
    pub(crate) const REQUEST: u16 = 0x1;
    pub(crate) const ACK: u16 = 0x4;
    pub(crate) const DUMP: u16 = 0x300;
    pub(crate) const REPLACE: u16 = 0x100;
    pub(crate) const EXCL: u16 = 0x200;
    /// On a request to delete: not what is inside.
    pub(crate) const NOT_RECURSIVE: u16 = 0x100;
    pub(crate) const CREATE: u16 = 0x400;
    pub(crate) const APPEND: u16 = 0x800;
    /// On a reply: the dump was interrupted by a change and may be torn.
    pub(crate) const DUMP_INTERRUPTED: u16 = 0x10;
    /// On an error: the request is not echoed whole.
    pub(crate) const CAPPED: u16 = 0x100;
    /// On an error: attributes follow, one of them a sentence.
    pub(crate) const ACK_ATTRIBUTES: u16 = 0x200;
}
