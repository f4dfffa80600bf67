//! Forgetting connections. The kernel remembers where a flow went longer than the rule that sent it there: a UDP
//! client that goes on talking would miss the new container, or reach the address's next owner.

use std::net::Ipv4Addr;

use nix::errno::Errno;

use crate::netlink::{self, Reply, Requests, Socket, find};

const GET: u16 = 0x0101;
const DELETE: u16 = 0x0102;
const HEADER: usize = 4;
const IPV4_HEADER: [u8; 4] = [libc::AF_INET as u8, 0, 0, 0];
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const CONNECTION_ID: u16 = 12;
const TUPLE_ADDRESSES: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const ADDRESS_SOURCE: u16 = 1;
const ADDRESS_DESTINATION: u16 = 2;
const PROTOCOL_NUMBER: u16 = 1;
const PROTOCOL_DESTINATION_PORT: u16 = 3;
const NESTED: u16 = 0x8000;

/// Forgets every UDP flow that was sent to one of these ports.
pub(crate) fn forget_udp_ports(socket: &mut Socket, ports: &[u16]) -> Result<usize, netlink::Error> {
    forget(socket, |connection| {
        connection.original_protocol() == Some(libc::IPPROTO_UDP as u8)
            && connection.original_destination_port().is_some_and(|port| ports.contains(&port))
    })
}

/// Forgets every connection that one of these addresses takes part in.
pub(crate) fn forget_addresses(socket: &mut Socket, addresses: &[Ipv4Addr]) -> Result<usize, netlink::Error> {
    forget(socket, |connection| connection.addresses().any(|address| addresses.contains(&address)))
}

/// How many were forgotten. A kernel without ctnetlink has nothing to be told; `checks` says so.
fn forget(socket: &mut Socket, which: impl Fn(&Connection<'_>) -> bool) -> Result<usize, netlink::Error> {
    let listed = match socket.dump(GET, |body| {
        body.raw(&IPV4_HEADER);
    }) {
        Err(error) if is_without_ctnetlink(&error) => return Ok(0),
        other => other?,
    };
    let mut requests = Requests::default();
    let mut asked = 0;
    for connection in listed.iter().filter_map(Connection::read).filter(|connection| which(connection)) {
        requests.push(DELETE, 0, |body| {
            body.raw(&IPV4_HEADER).attribute(TUPLE_ORIGINAL | NESTED, connection.original);
            if let Some(id) = connection.id {
                body.attribute(CONNECTION_ID, id);
            }
        });
        asked += 1;
    }
    if asked == 0 {
        return Ok(0);
    }
    let mut forgotten = 0;
    for answer in socket.exchange(requests)? {
        match answer {
            Ok(_) => forgotten += 1,
            // It ended by itself meanwhile.
            Err(refused) if refused.errno == Errno::ENOENT => {}
            Err(refused) => return Err(refused.into()),
        }
    }
    Ok(forgotten)
}

pub(crate) fn is_without_ctnetlink(error: &netlink::Error) -> bool {
    matches!(error.errno(), Some(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT))
}

/// Asks for the list, for `checks`.
pub(crate) fn probe(socket: &mut Socket) -> Result<(), netlink::Error> {
    socket
        .dump(GET, |body| {
            body.raw(&IPV4_HEADER);
        })
        .map(drop)
}

struct Connection<'a> {
    original: &'a [u8],
    reply: &'a [u8],
    id: Option<&'a [u8]>,
}

impl<'a> Connection<'a> {
    fn read(reply: &'a Reply) -> Option<Connection<'a>> {
        let area = reply.body.get(HEADER..)?;
        Some(Connection {
            original: find(area, TUPLE_ORIGINAL)?,
            reply: find(area, TUPLE_REPLY)?,
            id: find(area, CONNECTION_ID),
        })
    }

    fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        [self.original, self.reply].into_iter().flat_map(|tuple| {
            let addresses = find(tuple, TUPLE_ADDRESSES).unwrap_or(&[]);
            [ADDRESS_SOURCE, ADDRESS_DESTINATION].into_iter().filter_map(move |end| {
                let octets: [u8; 4] = find(addresses, end)?.try_into().ok()?;
                Some(Ipv4Addr::from(octets))
            })
        })
    }

    fn original_protocol(&self) -> Option<u8> {
        find(find(self.original, TUPLE_PROTOCOL)?, PROTOCOL_NUMBER)?.first().copied()
    }

    fn original_destination_port(&self) -> Option<u16> {
        let port = find(find(self.original, TUPLE_PROTOCOL)?, PROTOCOL_DESTINATION_PORT)?;
        port.try_into().ok().map(u16::from_be_bytes)
    }
}
