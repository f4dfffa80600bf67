//! How 169.254.170.2:80 and :53 are met although the sockets that answer listen at other ports: a socket at port 80 of
//! any address would take that port from every server of the namespace that listens at 0.0.0.0:80, since the kernel
//! lets the wildcard and one address share a port only with the consent of both. So the port of what is sent to the
//! address is rewritten on its way out, and written back on the way in to whoever asked. Nothing is remembered of it:
//! a namespace without connection tracking stays without.
//!
//! ```text
//! output  ip daddr 169.254.170.2 tcp dport 80    tcp dport set 51679
//! input   ip saddr 169.254.170.2 tcp sport 51679 tcp sport set 80      (from lo)
//! ```
//! Connection tracking lies between the two, and sees the port that the socket has.

use std::net::Ipv4Addr;

use ecs::task_definition::TransportProtocol;
use nix::errno::Errno;

use super::batch::{BaseChainShape, Batch, CommitError, Hook, interface_name};
use super::expression::{Comparison, Expression, Header, Meta, Register};
use super::{dump, table};
use crate::netlink::Socket;

/// Of the same content in every namespace; on a host, of all run directories. A build that writes other rules takes
/// another name.
pub(crate) const TABLE: &str = "coracle-services";
const OUTPUT: &str = "out";
const INPUT: &str = "in";
const SOURCE_OFFSET: u32 = 12;
const DESTINATION_OFFSET: u32 = 16;
const SOURCE_PORT_OFFSET: u32 = 0;
const DESTINATION_PORT_OFFSET: u32 = 2;
const TCP_CHECKSUM_OFFSET: u32 = 16;
const UDP_CHECKSUM_OFFSET: u32 = 6;
/// Before connection tracking, which is at -200.
const PRIORITY_RAW: i32 = -300;

/// One service: where it is met, and where its socket is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Redirect {
    pub(crate) protocol: TransportProtocol,
    pub(crate) port: u16,
    pub(crate) socket_port: u16,
}

/// Into a namespace that has no such table yet.
pub(crate) fn redirect_services(
    socket: &mut Socket,
    address: Ipv4Addr,
    redirects: &[Redirect],
) -> Result<(), CommitError> {
    let mut batch = Batch::new(TABLE);
    batch.add_table();
    for (name, hook) in [(OUTPUT, Hook::Output), (INPUT, Hook::Input)] {
        batch.add_base_chain(BaseChainShape { name, kind: "filter", hook, priority: PRIORITY_RAW });
    }
    for redirect in redirects {
        write_rules(&mut batch, address, *redirect);
    }
    batch.commit(socket)
}

/// The same where another task may have been first.
pub(crate) fn redirect_services_once(
    socket: &mut Socket,
    address: Ipv4Addr,
    redirects: &[Redirect],
) -> Result<(), CommitError> {
    if dump::chains(socket, TABLE)?.is_empty() {
        // Two at once write the rules twice, of which the second ones meet nothing any more.
        redirect_services(socket, address, redirects)?;
    }
    Ok(())
}

/// None being there is no error.
pub(crate) fn remove_service_redirects(socket: &mut Socket) -> Result<(), CommitError> {
    let mut batch = Batch::new(TABLE);
    batch.delete_table();
    match batch.commit(socket) {
        Err(failure) if failure.errno() == Some(Errno::ENOENT) => Ok(()),
        other => other,
    }
}

fn write_rules(batch: &mut Batch, address: Ipv4Addr, redirect: Redirect) {
    let Redirect { protocol, port, socket_port } = redirect;
    let mut question = with(address, DESTINATION_OFFSET, protocol);
    question.extend(port_becomes(protocol, DESTINATION_PORT_OFFSET, port, socket_port));
    batch.add_rule(OUTPUT, "to a service of the task", &question);
    let mut answer = vec![
        Expression::Meta(Meta::InterfaceNameIn, Register(0)),
        Expression::Compare(Register(0), Comparison::Equal, interface_name("lo")),
    ];
    answer.extend(with(address, SOURCE_OFFSET, protocol));
    answer.extend(port_becomes(protocol, SOURCE_PORT_OFFSET, socket_port, port));
    batch.add_rule(INPUT, "from a service of the task", &answer);
}

fn with(address: Ipv4Addr, offset: u32, protocol: TransportProtocol) -> Vec<Expression> {
    let octets = address.octets().to_vec();
    vec![
        Expression::Meta(Meta::FamilyOfPacket, Register(0)),
        Expression::Compare(Register(0), Comparison::Equal, vec![libc::NFPROTO_IPV4 as u8]),
        Expression::Payload { header: Header::Network, offset, length: 4, to: Register(0) },
        Expression::Compare(Register(0), Comparison::Equal, octets),
        Expression::Meta(Meta::Transport, Register(0)),
        Expression::Compare(Register(0), Comparison::Equal, vec![table::transport_number(protocol)]),
    ]
}

fn port_becomes(protocol: TransportProtocol, offset: u32, from: u16, to: u16) -> [Expression; 4] {
    let checksum_offset = match protocol {
        TransportProtocol::Tcp => TCP_CHECKSUM_OFFSET,
        TransportProtocol::Udp => UDP_CHECKSUM_OFFSET,
    };
    [
        Expression::Payload { header: Header::Transport, offset, length: 2, to: Register(0) },
        Expression::Compare(Register(0), Comparison::Equal, from.to_be_bytes().to_vec()),
        Expression::Immediate(Register(0), to.to_be_bytes().to_vec()),
        Expression::WriteTransport { offset, length: 2, from: Register(0), checksum_offset },
    ]
}
