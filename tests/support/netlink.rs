//! The little netlink that the tests need: one veth pair, and the elements of nftables sets.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::RawFd;

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE_EXCL: u16 = 0x600;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const HEADER: usize = 16;
const TYPE_MASK: u16 = 0x3fff;

/// One attribute: length, type, value, padding to four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(value.len() + 8);
    bytes.extend_from_slice(&(value.len() as u16 + 4).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The attributes in `bytes`, type without its flags.
fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while bytes.len() >= 4 {
        let length = u16::from_ne_bytes([bytes[0], bytes[1]]) as usize;
        if length < 4 || length > bytes.len() {
            break;
        }
        found.push((u16::from_ne_bytes([bytes[2], bytes[3]]) & TYPE_MASK, &bytes[4..length]));
        bytes = &bytes[length.next_multiple_of(4).min(bytes.len())..];
    }
    found
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
}

fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    message.extend_from_slice(&((HEADER + payload.len()) as u32).to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(payload);
    message
}

/// Sends one request and returns the messages that answer it: type and payload.
fn exchange(protocol: i32, kind: u16, flags: u16, payload: &[u8]) -> io::Result<Vec<(u16, Vec<u8>)>> {
    send(protocol, &message(kind, flags, payload))
}

fn send(protocol: i32, message: &[u8]) -> io::Result<Vec<(u16, Vec<u8>)>> {
    // SAFETY: integer arguments, then a buffer with its length; the descriptor is closed below.
    let socket = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above.
    let sent = unsafe { libc::send(socket, message.as_ptr().cast(), message.len(), 0) };
    let answer = if sent < 0 { Err(io::Error::last_os_error()) } else { receive(socket) };
    // SAFETY: our own descriptor, closed once.
    unsafe { libc::close(socket) };
    answer
}

fn receive(socket: RawFd) -> io::Result<Vec<(u16, Vec<u8>)>> {
    let mut messages = Vec::new();
    let mut buffer = vec![0u8; 1 << 16];
    loop {
        // SAFETY: a local buffer with its length.
        let got = unsafe { libc::recv(socket, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        let Ok(got) = usize::try_from(got) else { return Err(io::Error::last_os_error()) };
        let mut rest = &buffer[..got];
        while rest.len() >= HEADER {
            let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
            let kind = u16::from_ne_bytes([rest[4], rest[5]]);
            let payload = &rest[HEADER..length.clamp(HEADER, rest.len())];
            match kind {
                NLMSG_DONE => return Ok(messages),
                NLMSG_ERROR => {
                    let code = i32::from_ne_bytes([payload[0], payload[1], payload[2], payload[3]]);
                    return if code == 0 { Ok(messages) } else { Err(io::Error::from_raw_os_error(-code)) };
                }
                other => messages.push((other, payload.to_vec())),
            }
            rest = &rest[length.next_multiple_of(4).min(rest.len())..];
        }
    }
}

/// A veth pair: `near` in the calling thread's namespace, `far` in the other.
pub(crate) fn add_veth(near: &str, far: &str, other: RawFd) -> io::Result<()> {
    const RTM_NEWLINK: u16 = 16;
    const IFLA_IFNAME: u16 = 3;
    const IFLA_LINKINFO: u16 = 18;
    const IFLA_NET_NS_FD: u16 = 28;
    const IFLA_INFO_KIND: u16 = 1;
    const IFLA_INFO_DATA: u16 = 2;
    const VETH_INFO_PEER: u16 = 1;
    const IFINFOMSG: [u8; 16] = [0; 16];
    let name = |name: &str| attribute(IFLA_IFNAME, &[name.as_bytes(), &[0]].concat());
    let peer = [&IFINFOMSG[..], &name(far), &attribute(IFLA_NET_NS_FD, &other.to_ne_bytes())].concat();
    let info =
        [attribute(IFLA_INFO_KIND, b"veth\0"), attribute(IFLA_INFO_DATA, &attribute(VETH_INFO_PEER, &peer))].concat();
    let payload = [&IFINFOMSG[..], &name(near), &attribute(IFLA_LINKINFO, &info)].concat();
    exchange(libc::NETLINK_ROUTE, RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE_EXCL, &payload).map(drop)
}

const NFTABLES: u16 = 10 << 8;
const GETTABLE: u16 = NFTABLES | 1;
const GETSET: u16 = NFTABLES | 10;
const GETSETELEM: u16 = NFTABLES | 13;

/// As `nft flush ruleset`: every table of every family in the calling thread's namespace is gone.
pub(crate) fn nft_flush() -> io::Result<()> {
    const BATCH_BEGIN: u16 = 0x10;
    const BATCH_END: u16 = 0x11;
    const DELTABLE: u16 = NFTABLES | 2;
    // The subsystem that the batch is for, in network byte order.
    const OF_NFTABLES: [u8; 4] = [0, 0, 0, 10];
    let batch = [
        message(BATCH_BEGIN, 0, &OF_NFTABLES),
        message(DELTABLE, NLM_F_ACK, &[0; 4]),
        message(BATCH_END, 0, &OF_NFTABLES),
    ];
    send(libc::NETLINK_NETFILTER, &batch.concat()).map(drop)
}

/// Names of the nftables tables in the calling thread's namespace.
pub(crate) fn nft_tables() -> io::Result<Vec<String>> {
    let tables = exchange(libc::NETLINK_NETFILTER, GETTABLE, NLM_F_DUMP, &[0; 4])?;
    Ok(tables
        .iter()
        .filter_map(|(_, payload)| {
            attributes(payload.get(4..)?).iter().find(|(kind, _)| *kind == 1).map(|(_, value)| text(value))
        })
        .collect())
}

/// `table set` -> number of elements, of the named sets and maps in the calling thread's namespace.
pub(crate) fn nft_elements() -> io::Result<BTreeMap<String, usize>> {
    const ANONYMOUS: u32 = 1;
    let mut counts = BTreeMap::new();
    for (_, payload) in exchange(libc::NETLINK_NETFILTER, GETSET, NLM_F_DUMP, &[0; 4])? {
        let family = payload[0];
        let (mut table, mut set, mut flags) = (String::new(), String::new(), 0);
        for (kind, value) in attributes(&payload[4..]) {
            match kind {
                1 => table = text(value),
                2 => set = text(value),
                3 => flags = u32::from_be_bytes(value.try_into().unwrap_or_default()),
                _ => {}
            }
        }
        if flags & ANONYMOUS != 0 {
            continue;
        }
        let ask = [
            vec![family, 0, 0, 0],
            attribute(1, &[table.as_bytes(), &[0]].concat()),
            attribute(2, &[set.as_bytes(), &[0]].concat()),
        ]
        .concat();
        let answers = exchange(libc::NETLINK_NETFILTER, GETSETELEM, NLM_F_DUMP, &ask)?;
        let elements = answers.iter().flat_map(|(_, payload)| attributes(&payload[4..])).filter(|(kind, _)| *kind == 3);
        counts.insert(format!("{table} {set}"), elements.map(|(_, list)| attributes(list).len()).sum());
    }
    Ok(counts)
}
