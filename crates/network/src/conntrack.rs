//! Forgetting flows. The kernel remembers where a UDP flow went longer than the rule that sent it there, and as long
//! as the client goes on talking: it would miss the new container, or reach the address's next owner. TCP through a
//! published port needs none of this: whoever gets the address answers a connection that it does not know with a reset.
//! Behind security groups a flow that is remembered is a flow that is allowed, so all of an address are forgotten.

use std::net::{IpAddr, Ipv6Addr};

use nix::errno::Errno;

use crate::netlink::{self, Buffer, Reply, Requests, Socket, find};
use crate::sysctl;

/// So few that looking at each costs less than having the kernel walk its table once more.
const FEW_CONNECTIONS: u32 = 10_000;
const GET: u16 = 0x0101;
const DELETE: u16 = 0x0102;
const GET_STATISTICS: u16 = 0x0105;
const HEADER: usize = 4;
const IPV4: u8 = libc::AF_INET as u8;
const IPV6: u8 = libc::AF_INET6 as u8;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const CONNECTION_ID: u16 = 12;
const TUPLE_ADDRESSES: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const ADDRESS_SOURCE: u16 = 1;
const ADDRESS6_SOURCE: u16 = 3;
const PROTOCOL_NUMBER: u16 = 1;
const PROTOCOL_DESTINATION_PORT: u16 = 3;
const NESTED: u16 = 0x8000;
const UDP: u8 = libc::IPPROTO_UDP as u8;
const FILTER: u16 = 25;
const FILTER_ORIGINAL: u16 = 1;
const FILTER_REPLY: u16 = 2;
const FILTER_ADDRESS_SOURCE: u32 = 1;
const FILTER_PROTOCOL_NUMBER: u32 = 1 << 3;

/// Forgets every UDP flow that was sent to one of these ports, in either family.
pub(crate) fn forget_udp_ports(socket: &mut Socket, ports: &[u16]) -> Result<usize, netlink::Error> {
    let filter = |body: &mut Buffer| {
        body.nest(TUPLE_ORIGINAL, |tuple| {
            tuple.nest(TUPLE_PROTOCOL, |protocol| {
                protocol.attribute(PROTOCOL_NUMBER, &[UDP]);
            });
        });
        body.nest(FILTER, |flags| {
            flags.u32(FILTER_ORIGINAL, FILTER_PROTOCOL_NUMBER).u32(FILTER_REPLY, 0);
        });
    };
    let mut forgotten = 0;
    for family in [IPV4, IPV6] {
        forgotten += forget(socket, family, filter, |connection| {
            connection.original_protocol() == Some(UDP)
                && connection.original_destination_port().is_some_and(|port| ports.contains(&port))
        })?;
    }
    Ok(forgotten)
}

/// Forgets every UDP flow that was sent on to this address.
pub(crate) fn forget_udp_target(socket: &mut Socket, address: IpAddr) -> Result<usize, netlink::Error> {
    let filter = |body: &mut Buffer| with_source(body, TUPLE_REPLY, address);
    forget(socket, family_of(address), filter, |connection| {
        connection.original_protocol() == Some(UDP) && connection.source_in(connection.reply) == Some(address)
    })
}

/// Forgets every flow of any protocol that this address began or answered.
pub(crate) fn forget_address(socket: &mut Socket, address: IpAddr) -> Result<usize, netlink::Error> {
    let family = family_of(address);
    let own = |connection: &Connection<'_>| {
        [connection.original, connection.reply].into_iter().any(|tuple| connection.source_in(tuple) == Some(address))
    };
    let count = sysctl::read(sysctl::CONNECTIONS).ok().flatten().and_then(|count| count.parse::<u32>().ok());
    if count.is_some_and(|count| count < FEW_CONNECTIONS) {
        // One walk for all of them instead of one for each direction.
        return forget(socket, family, |_| {}, own);
    }
    let mut forgotten = 0;
    for tuple in [TUPLE_ORIGINAL, TUPLE_REPLY] {
        forgotten += forget(socket, family, |body: &mut Buffer| with_source(body, tuple, address), own)?;
    }
    Ok(forgotten)
}

fn family_of(address: IpAddr) -> u8 {
    if address.is_ipv4() { IPV4 } else { IPV6 }
}

/// Asks for the flows whose tuple of one direction begins at an address.
fn with_source(body: &mut Buffer, tuple: u16, address: IpAddr) {
    body.nest(tuple, |tuple| {
        tuple.nest(TUPLE_ADDRESSES, |addresses| {
            match address {
                IpAddr::V4(address) => addresses.attribute(ADDRESS_SOURCE, &address.octets()),
                IpAddr::V6(address) => addresses.attribute(ADDRESS6_SOURCE, &address.octets()),
            };
        });
    });
    let of = |wanted| if wanted == tuple { FILTER_ADDRESS_SOURCE } else { 0 };
    body.nest(FILTER, |flags| {
        flags.u32(FILTER_ORIGINAL, of(TUPLE_ORIGINAL)).u32(FILTER_REPLY, of(TUPLE_REPLY));
    });
}

/// How many were forgotten. The kernel filters the list where it can (5.8 and later); an older one gives all of it,
/// so `which` decides in any case. It walks its whole table for that, empty or not, in ten milliseconds and more: an
/// idle host is spared it. A kernel without ctnetlink has nothing to be told; `checks` says so.
fn forget(
    socket: &mut Socket,
    family: u8,
    filter: impl Fn(&mut Buffer),
    which: impl Fn(&Connection<'_>) -> bool,
) -> Result<usize, netlink::Error> {
    if matches!(sysctl::read(sysctl::CONNECTIONS), Ok(Some(count)) if count == "0") {
        return Ok(0);
    }
    let header = [family, 0, 0, 0];
    let listed = match socket.dump(GET, |body| {
        body.raw(&header);
        filter(body);
    }) {
        Err(error) if is_without_ctnetlink(&error) => return Ok(0),
        other => other?,
    };
    let mut forgotten = 0;
    for connection in listed.iter().filter_map(Connection::read).filter(|connection| which(connection)) {
        let mut requests = Requests::default();
        requests.push(DELETE, 0, |body| {
            body.raw(&header).attribute(TUPLE_ORIGINAL | NESTED, connection.original);
            if let Some(id) = connection.id {
                body.attribute(CONNECTION_ID, id);
            }
        });
        for answer in socket.exchange(requests)? {
            match answer {
                Ok(_) => forgotten += 1,
                // It ended by itself meanwhile.
                Err(refused) if refused.errno == Errno::ENOENT => {}
                Err(refused) => return Err(refused.into()),
            }
        }
    }
    Ok(forgotten)
}

fn is_without_ctnetlink(error: &netlink::Error) -> bool {
    matches!(error.errno(), Some(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT))
}

/// Whether the kernel can list connections at all.
pub(crate) fn is_available(socket: &mut Socket) -> Result<bool, netlink::Error> {
    match socket.request(GET_STATISTICS, 0, |body| {
        body.raw(&[IPV4, 0, 0, 0]);
    }) {
        Ok(_) => Ok(true),
        Err(error) if is_without_ctnetlink(&error) => Ok(false),
        Err(error) => Err(error),
    }
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

    /// Who sends in one direction. In that of replies behind a published port, that is the container.
    fn source_in(&self, tuple: &[u8]) -> Option<IpAddr> {
        let addresses = find(tuple, TUPLE_ADDRESSES)?;
        if let Some(octets) = find(addresses, ADDRESS_SOURCE) {
            let octets: [u8; 4] = octets.try_into().ok()?;
            return Some(octets.into());
        }
        let octets: [u8; 16] = find(addresses, ADDRESS6_SOURCE)?.try_into().ok()?;
        Some(Ipv6Addr::from(octets).into())
    }

    fn original_protocol(&self) -> Option<u8> {
        find(find(self.original, TUPLE_PROTOCOL)?, PROTOCOL_NUMBER)?.first().copied()
    }

    fn original_destination_port(&self) -> Option<u16> {
        let port = find(find(self.original, TUPLE_PROTOCOL)?, PROTOCOL_DESTINATION_PORT)?;
        port.try_into().ok().map(u16::from_be_bytes)
    }
}
