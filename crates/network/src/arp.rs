//! Telling an Ethernet's neighbours where an address is from now on (RFC 5227, section 2.3).

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::link::Mac;

const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERNET: u16 = 1;
const ETHERTYPE_IPV4: u16 = 0x0800;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;
const EVERYBODY: [u8; 6] = [0xff; 6];
const LENGTH: usize = 28;

/// Says it as a question and as an answer, since some listen to one and some to the other.
pub(crate) fn announce(link: u32, mac: Mac, address: Ipv4Addr) -> io::Result<()> {
    // SAFETY: socket() takes numbers alone.
    let raw = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given this descriptor to us, and to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    let mut to = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: ETHERTYPE_ARP.to_be(),
        sll_ifindex: link.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: EVERYBODY.len() as u8,
        sll_addr: [0; 8],
    };
    to.sll_addr[..EVERYBODY.len()].copy_from_slice(&EVERYBODY);
    for operation in [REQUEST, REPLY] {
        let packet = packet(operation, mac, address);
        // SAFETY: the packet and the address live until the call returns, and their lengths are their own.
        let sent = unsafe {
            libc::sendto(
                socket.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                (&raw const to).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if sent < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Sender and target have the same protocol address: "gratuitous".
fn packet(operation: u16, Mac(mac): Mac, address: Ipv4Addr) -> Vec<u8> {
    let mut packet = Vec::with_capacity(LENGTH);
    packet.extend(ETHERNET.to_be_bytes());
    packet.extend(ETHERTYPE_IPV4.to_be_bytes());
    packet.extend([6, 4]);
    packet.extend(operation.to_be_bytes());
    packet.extend(mac);
    packet.extend(address.octets());
    packet.extend(EVERYBODY);
    packet.extend(address.octets());
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_is_laid_out_as_rfc_826_has_it() {
        let found = packet(REQUEST, Mac([2, 0x42, 10, 0, 0, 1]), Ipv4Addr::new(192, 0, 2, 7));
        let expected = [
            [0, 1, 8, 0, 6, 4, 0, 1].as_slice(),
            &[2, 0x42, 10, 0, 0, 1, 192, 0, 2, 7],
            &[255, 255, 255, 255, 255, 255, 192, 0, 2, 7],
        ];
        assert_eq!(found, expected.concat());
    }
}
