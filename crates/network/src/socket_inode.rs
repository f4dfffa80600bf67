//! Which socket a TCP connection of this host belongs to, by the inode that /proc/PID/fd shows.
//!
//! sock_diag(7) answers for one connection with one look-up; a kernel without it is read through /proc/net/tcp, which
//! lists every connection of the namespace.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use nix::errno::Errno;

use crate::netlink::{Error, Protocol, Socket};

/// linux/sock_diag.h and linux/inet_diag.h.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const ALL_STATES: u32 = u32::MAX;
const NO_COOKIE: [u8; 8] = [0xff; 8];
/// The loopback's number in every namespace. A socket that is bound to it is found by it alone, one that is bound to
/// nothing by any.
const LOOPBACK: u32 = 1;
/// `idiag_inode` in `struct inet_diag_msg`: after 4 bytes of states and timers, the 48 of the socket's id, expiry, two
/// queues and the user.
const INODE_AT: usize = 68;

/// The inode of the socket that is bound to `local` and connected to `remote`, in the namespace of the calling thread.
/// Nothing where there is no such connection, or nobody has it open any more.
///
/// # Errors
/// The kernel can be asked neither way.
pub fn socket_inode(local: SocketAddrV4, remote: SocketAddrV4) -> Result<Option<u64>, io::Error> {
    match ask(local, remote) {
        Ok(inode) => Ok(inode),
        Err(_) => read_tables(local, remote),
    }
}

fn ask(local: SocketAddrV4, remote: SocketAddrV4) -> Result<Option<u64>, Error> {
    let mut socket = Socket::open(Protocol::SocketDiagnosis)?;
    let request = request(local, remote);
    match socket.request(SOCK_DIAG_BY_FAMILY, 0, |buffer| {
        buffer.raw(&request);
    }) {
        Ok(replies) => Ok(replies.iter().find_map(|reply| inode(&reply.body))),
        Err(error) if error.errno() == Some(Errno::ENOENT) && knows_tcp(&mut socket) => Ok(None),
        Err(error) => Err(error),
    }
}

/// ENOENT is also what a kernel says that has no tcp_diag. It then has none for a listing either.
fn knows_tcp(socket: &mut Socket) -> bool {
    let mut nobody = request(SocketAddrV4::new(0.into(), 0), SocketAddrV4::new(0.into(), 0));
    // No state at all: the list is empty.
    nobody[4..8].fill(0);
    socket
        .dump(SOCK_DIAG_BY_FAMILY, |buffer| {
            buffer.raw(&nobody);
        })
        .is_ok()
}

/// The inode of the UDP socket that is bound to `local`, or to its port at any address, in the namespace of the calling
/// thread. Nothing where there is none.
///
/// # Errors
/// The table of these sockets cannot be read.
pub fn udp_socket_inode(local: SocketAddrV4) -> Result<Option<u64>, io::Error> {
    let everywhere = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, local.port());
    let tables = [
        fs::read_to_string("/proc/thread-self/net/udp")?,
        // A kernel without IPv6 has none.
        fs::read_to_string("/proc/thread-self/net/udp6").unwrap_or_default(),
    ];
    let of = |wanted: SocketAddrV4| tables.iter().flat_map(|table| table.lines()).find_map(|line| of_udp(line, wanted));
    Ok(of(local).or_else(|| of(everywhere)))
}

/// proc_net_udp, which has the columns of TCP's. `::` stands for every IPv4 address as well.
fn of_udp(line: &str, local: SocketAddrV4) -> Option<u64> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let text = fields.get(1)?;
    let anywhere6 = || format!("{:032}:{:04X}", 0, local.port());
    if address(text) != Some(local) && !(local.ip().is_unspecified() && **text == anywhere6()) {
        return None;
    }
    fields.get(9)?.parse().ok().filter(|inode| *inode != 0)
}

/// `struct inet_diag_req_v2`: family, protocol, extensions, padding, states, and `struct inet_diag_sockid`.
fn request(local: SocketAddrV4, remote: SocketAddrV4) -> Vec<u8> {
    let mut bytes = vec![libc::AF_INET as u8, libc::IPPROTO_TCP as u8, 0, 0];
    bytes.extend_from_slice(&ALL_STATES.to_ne_bytes());
    bytes.extend_from_slice(&local.port().to_be_bytes());
    bytes.extend_from_slice(&remote.port().to_be_bytes());
    for address in [local.ip(), remote.ip()] {
        bytes.extend_from_slice(&address.octets());
        bytes.extend_from_slice(&[0; 12]);
    }
    bytes.extend_from_slice(&LOOPBACK.to_ne_bytes());
    bytes.extend_from_slice(&NO_COOKIE);
    bytes
}

fn inode(message: &[u8]) -> Option<u64> {
    let bytes = message.get(INODE_AT..INODE_AT + 4)?;
    let inode = u32::from_ne_bytes(bytes.try_into().ok()?);
    // Zero: nobody has it open any more.
    (inode != 0).then_some(u64::from(inode))
}

fn read_tables(local: SocketAddrV4, remote: SocketAddrV4) -> Result<Option<u64>, io::Error> {
    let table = fs::read_to_string("/proc/thread-self/net/tcp")?;
    if let Some(inode) = table.lines().find_map(|line| of_line(line, local, remote)) {
        return Ok(Some(inode));
    }
    // A socket of IPv6 that speaks IPv4 stands in the other table; a kernel without IPv6 has none.
    let table = fs::read_to_string("/proc/thread-self/net/tcp6").unwrap_or_default();
    Ok(table.lines().find_map(|line| of_line(line, local, remote)))
}

/// proc_net_tcp: `sl local remote state queues timer retransmissions uid timeout inode …`.
fn of_line(line: &str, local: SocketAddrV4, remote: SocketAddrV4) -> Option<u64> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let is = |field: usize, wanted: SocketAddrV4| fields.get(field).and_then(|text| address(text)) == Some(wanted);
    if !is(1, local) || !is(2, remote) {
        return None;
    }
    fields.get(9)?.parse().ok().filter(|inode| *inode != 0)
}

/// `0100007F:1F90`: 32-bit words in the host's order, and a port. IPv6 has four of them.
fn address(text: &str) -> Option<SocketAddrV4> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| Some(u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    let ip = match address.len() {
        8 => IpAddr::from(word(0)?),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
            IpAddr::from(<[u8; 16]>::try_from(words).ok()?).to_canonical()
        }
        _ => return None,
    };
    match ip {
        IpAddr::V4(ip) => Some(SocketAddrV4::new(ip, port)),
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsRawFd;

    use super::*;

    fn v4(address: SocketAddr) -> SocketAddrV4 {
        match address {
            SocketAddr::V4(address) => address,
            SocketAddr::V6(address) => {
                SocketAddrV4::new(address.ip().to_ipv4_mapped().expect("mapped"), address.port())
            }
        }
    }

    #[test]
    fn both_ways_find_the_callers_socket_whatever_its_family() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let here = v4(listener.local_addr().expect("it is bound"));
        for to in [SocketAddr::from(here), SocketAddr::from((here.ip().to_ipv6_mapped(), here.port()))] {
            let stream = TcpStream::connect(to).expect("it listens");
            let (accepted, peer) = listener.accept().expect("somebody calls");
            let link = fs::read_link(format!("/proc/self/fd/{}", stream.as_raw_fd())).expect("an open socket");
            let wanted: u64 =
                link.to_string_lossy().trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("digits");
            assert_eq!(read_tables(v4(peer), here).expect("procfs"), Some(wanted), "{to}");
            assert_eq!(socket_inode(v4(peer), here).expect("the kernel answers"), Some(wanted), "{to}");
            drop((stream, accepted));
        }
        assert_eq!(socket_inode(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1), here).expect("the kernel answers"), None);
    }

    #[test]
    fn udp_sockets_by_their_port() {
        for bound in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0", "[::ffff:127.0.0.1]:0"] {
            let socket = UdpSocket::bind(bound).expect("a free port");
            let port = socket.local_addr().expect("it is bound").port();
            let link = fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).expect("an open socket");
            let found = udp_socket_inode(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).expect("procfs");
            assert_eq!(link.to_string_lossy(), format!("socket:[{}]", found.unwrap_or(0)), "{bound}");
            let elsewhere = udp_socket_inode(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port ^ 1)).expect("procfs");
            assert_ne!(elsewhere, found, "{bound}");
        }
    }

    #[test]
    fn addresses_of_both_tables() {
        if cfg!(target_endian = "little") {
            let wanted = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 1), 8080);
            assert_eq!(address("0100007F:1F90"), Some(wanted));
            assert_eq!(address("0000000000000000FFFF00000100007F:1F90"), Some(wanted));
        }
        for bad in ["", ":", "0100007F", "0100007:1", "zz00007F:1F90", "éééé:1"] {
            assert_eq!(address(bad), None, "{bad}");
        }
    }
}
