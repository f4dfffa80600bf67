//! Generic netlink: families that the kernel numbers as they are loaded
//! (<https://docs.kernel.org/networking/generic_netlink.html>).

use super::{Buffer, Error, Socket, find};

const CONTROLLER: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// struct genlmsghdr: command, version, and two bytes that mean nothing.
pub(crate) const GENERIC_HEADER: usize = 4;

/// The number of a family; refused with ENOENT where the kernel has none of that name.
pub(crate) fn family(socket: &mut Socket, name: &str) -> Result<u16, Error> {
    let replies = socket.request(CONTROLLER, 0, |body| {
        header(body, GET_FAMILY).text(FAMILY_NAME, name);
    })?;
    let number = replies.iter().find_map(|reply| find(reply.body.get(GENERIC_HEADER..)?, FAMILY_ID));
    let number = number.and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
    let refused = super::Refused { errno: nix::errno::Errno::ENOENT, said: format!("no family {name}") };
    number.ok_or_else(|| refused.into())
}

/// Every family used here is of version 1.
pub(crate) fn header(body: &mut Buffer, command: u8) -> &mut Buffer {
    body.raw(&[command, 1, 0, 0])
}
