//! Coracle's one table, `inet coracle`: what its rules say, and which published ports it holds.
//!
//! The rules are the same on every host; bridges, their networks and published ports are elements of sets that the
//! rules look in. So attaching a task is one small transaction, and two builds or two run directories share a table.
//!
//! ```text
//! set bridges      { ifname }                     our bridges
//! set bridge-nets  { ipv4_addr; interval }        their networks
//! map published    { transport . port : ipv4_addr . port }
//! map published-at { ipv4_addr . transport . port : ipv4_addr . port }
//! ```
//! The rules never touch traffic that neither enters nor leaves one of our bridges, except what claims to be 127/8
//! on a wire.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::LazyLock;

use ecs::TaskId;
use ecs::task_definition::TransportProtocol;
use ipnetwork::Ipv4Network;
use nix::errno::Errno;

use super::batch::{BaseChainShape, Batch, CommitError, Element, Hook, SetShape, Type, concatenate, interface_name};
use super::dump;
use super::expression::{
    ADDRESS_TYPE_LOCAL, Comparison, Conntrack, Expression, Header, Membership, Meta, Register,
    STATE_ESTABLISHED_OR_RELATED, STATUS_DESTINATION_NAT,
};
use crate::netlink::{self, Socket};

const BRIDGES: &str = "bridges";
const BRIDGE_NETS: &str = "bridge-nets";
const PUBLISHED: &str = "published";
const PUBLISHED_AT: &str = "published-at";
/// An empty chain whose name says which rules the table has; see `marker`.
const MARKER_PREFIX: &str = "rules-";
/// How often a transaction is tried again after another process changed the table in between.
const COMMIT_ATTEMPTS: u32 = 5;
const IPV4: u8 = libc::NFPROTO_IPV4 as u8;
const LOOPBACK_FIRST_OCTET: u8 = 127;
const SOURCE_OFFSET: u32 = 12;
const DESTINATION_OFFSET: u32 = 16;
const PRIORITY_RAW: i32 = -300;
const PRIORITY_DESTINATION_NAT: i32 = -100;
const PRIORITY_FILTER: i32 = 0;
const PRIORITY_SOURCE_NAT: i32 = 100;

/// What a host's table is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableScope<'a> {
    pub(crate) table: &'a str,
    pub(crate) bridge: &'a str,
    pub(crate) subnet: Ipv4Network,
}

/// Where a published port is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PublishedKey {
    /// None: at every address of the host.
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) protocol: TransportProtocol,
    pub(crate) port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) key: PublishedKey,
    pub(crate) target: SocketAddrV4,
}

/// Who an element belongs to: its comment, `<instance> <task>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tenant {
    pub(crate) instance: String,
    pub(crate) task: TaskId,
}

impl Tenant {
    fn comment(&self) -> String {
        format!("{} {}", self.instance, self.task)
    }

    fn parse(comment: &str) -> Option<Tenant> {
        let (instance, task) = comment.split_once(' ')?;
        Some(Tenant { instance: instance.to_owned(), task: TaskId::try_from(task.to_owned()).ok()? })
    }
}

impl PublishedKey {
    fn map(self) -> &'static str {
        if self.address.is_some() { PUBLISHED_AT } else { PUBLISHED }
    }

    fn element(self) -> Element {
        let (protocol, port) = ([transport_number(self.protocol)], self.port.to_be_bytes());
        let key = match self.address {
            Some(address) => concatenate(&[&address.octets(), &protocol, &port]),
            None => concatenate(&[&protocol, &port]),
        };
        Element { key, ..Element::default() }
    }

    fn parse(map: &str, key: &[u8]) -> Option<PublishedKey> {
        let (address, rest) = if map == PUBLISHED_AT { (dump::address_in(key), key.get(4..)?) } else { (None, key) };
        let [protocol, _, _, _, high, low, ..] = *rest else { return None };
        let protocol = match i32::from(protocol) {
            libc::IPPROTO_TCP => TransportProtocol::Tcp,
            libc::IPPROTO_UDP => TransportProtocol::Udp,
            _ => return None,
        };
        Some(PublishedKey { address, protocol, port: u16::from_be_bytes([high, low]) })
    }
}

/// Publishes a task's ports in one transaction, and makes the table or renews its rules where needed. An entry that
/// is there already is replaced: whoever calls holds the port's socket, so its former owner is gone.
pub(crate) fn publish(
    socket: &mut Socket,
    scope: TableScope<'_>,
    tenant: &Tenant,
    ports: &[Published],
) -> Result<(), CommitError> {
    let mut stale: Vec<PublishedKey> = Vec::new();
    let mut attempt = 0;
    loop {
        attempt += 1;
        let failure = match publication(scope, tenant, ports, &stale).commit(socket) {
            Ok(()) => return Ok(()),
            Err(failure) if attempt == COMMIT_ATTEMPTS => return Err(failure),
            Err(failure) => failure,
        };
        match failure.errno() {
            Some(Errno::ENOENT) => {
                stale.clear();
                make_table(socket, scope)?;
            }
            Some(Errno::EEXIST) => {
                let taken = published(socket, scope.table)?;
                stale = taken.into_iter().map(|(port, _)| port.key).collect();
                stale.retain(|key| ports.iter().any(|port| port.key == *key));
            }
            _ => return Err(failure),
        }
    }
}

fn publication(scope: TableScope<'_>, tenant: &Tenant, ports: &[Published], stale: &[PublishedKey]) -> Batch {
    let mut batch = Batch::new(scope.table);
    // Flushing the empty marker chain is refused with ENOENT unless the table has these very rules.
    batch.flush_chain(marker());
    add_scope(&mut batch, scope);
    for map in [PUBLISHED, PUBLISHED_AT] {
        let old: Vec<Element> = stale.iter().filter(|key| key.map() == map).map(|key| key.element()).collect();
        batch.delete_elements(map, &old);
        let in_map = ports.iter().filter(|port| port.key.map() == map);
        let new: Vec<Element> = in_map
            .map(|port| Element {
                data: Some(concatenate(&[&port.target.ip().octets(), &port.target.port().to_be_bytes()])),
                comment: Some(tenant.comment()),
                ..port.key.element()
            })
            .collect();
        batch.add_new_elements(map, &new);
    }
    batch
}

fn add_scope(batch: &mut Batch, scope: TableScope<'_>) {
    batch.add_elements(BRIDGES, &[Element { key: interface_name(scope.bridge), ..Element::default() }]);
    let first = scope.subnet.network();
    let behind = Ipv4Addr::from(u32::from(scope.subnet.broadcast()).wrapping_add(1));
    batch.add_elements(
        BRIDGE_NETS,
        &[
            Element { key: first.octets().to_vec(), ..Element::default() },
            Element { key: behind.octets().to_vec(), interval_end: true, ..Element::default() },
        ],
    );
}

/// Removes published ports; none of them being there is no error.
pub(crate) fn unpublish(
    socket: &mut Socket,
    table: &str,
    theirs: &dyn Fn(&Tenant) -> bool,
) -> Result<Vec<Published>, CommitError> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let found = published(socket, table)?.into_iter().filter(|(_, tenant)| tenant.as_ref().is_some_and(theirs));
        let gone: Vec<Published> = found.map(|(port, _)| port).collect();
        let mut batch = Batch::new(table);
        for map in [PUBLISHED, PUBLISHED_AT] {
            let of_map = gone.iter().filter(|port| port.key.map() == map);
            let elements: Vec<Element> = of_map.map(|port| port.key.element()).collect();
            batch.delete_elements(map, &elements);
        }
        match batch.commit(socket) {
            Ok(()) => return Ok(gone),
            // Somebody else removed one of them first.
            Err(failure) if failure.errno() == Some(Errno::ENOENT) && attempt < COMMIT_ATTEMPTS => {}
            Err(failure) => return Err(failure),
        }
    }
}

/// Every published port of the table with its owner; none where there is no table.
pub(crate) fn published(socket: &mut Socket, table: &str) -> Result<Vec<(Published, Option<Tenant>)>, netlink::Error> {
    let mut ports = Vec::new();
    for map in [PUBLISHED, PUBLISHED_AT] {
        let elements = match dump::elements(socket, table, map) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => continue,
            other => other?,
        };
        for element in elements {
            let target = element.data.as_deref().and_then(read_target);
            if let (Some(key), Some(target)) = (PublishedKey::parse(map, &element.key), target) {
                ports.push((Published { key, target }, element.comment.as_deref().and_then(Tenant::parse)));
            }
        }
    }
    Ok(ports)
}

fn read_target(data: &[u8]) -> Option<SocketAddrV4> {
    let port = data.get(4..6)?.try_into().ok().map(u16::from_be_bytes)?;
    Some(SocketAddrV4::new(dump::address_in(data)?, port))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TableState {
    Absent,
    /// It has this build's rules.
    Current,
    /// It has another build's, or somebody changed it.
    Other,
}

pub(crate) fn state_of_table(socket: &mut Socket, table: &str) -> Result<TableState, netlink::Error> {
    let chains = dump::chains(socket, table)?;
    Ok(match (chains.is_empty(), chains.iter().any(|chain| chain == marker())) {
        (true, _) => TableState::Absent,
        (false, true) => TableState::Current,
        (false, false) => TableState::Other,
    })
}

/// Takes the whole table away; none being there is no error.
pub(crate) fn remove_table(socket: &mut Socket, table: &str) -> Result<(), CommitError> {
    let mut batch = Batch::new(table);
    batch.delete_table();
    match batch.commit(socket) {
        Err(failure) if failure.errno() == Some(Errno::ENOENT) => Ok(()),
        other => other,
    }
}

/// Makes the table, or replaces the rules of another build's, in one transaction that is safe to run twice. The
/// published ports stay.
fn make_table(socket: &mut Socket, scope: TableScope<'_>) -> Result<(), CommitError> {
    let current = marker();
    for _ in 0..COMMIT_ATTEMPTS {
        let mut batch = Batch::new(scope.table);
        write_rules(&mut batch);
        for old in dump::chains(socket, scope.table)? {
            if old.starts_with(MARKER_PREFIX) && old != current {
                batch.delete_chain(&old);
            }
        }
        batch.add_chain(current);
        match batch.commit(socket) {
            // Another process deleted the old marker first.
            Err(failure) if failure.errno() == Some(Errno::ENOENT) => {}
            other => return other,
        }
    }
    Ok(())
}

/// Named after the rules' encoding (FNV-1a, 64 bits), so that any change of them is noticed.
fn marker() -> &'static str {
    static MARKER: LazyLock<String> = LazyLock::new(|| {
        let mut batch = Batch::new("");
        write_rules(&mut batch);
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in batch.bytes() {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        format!("{MARKER_PREFIX}{hash:016x}")
    });
    &MARKER
}

fn write_rules(batch: &mut Batch) {
    batch.add_table();
    let sets = [
        SetShape { name: BRIDGES, key: &[Type::InterfaceName], interval: false, data: &[] },
        SetShape { name: BRIDGE_NETS, key: &[Type::Ipv4Address], interval: true, data: &[] },
        SetShape {
            name: PUBLISHED,
            key: &[Type::Transport, Type::Port],
            interval: false,
            data: &[Type::Ipv4Address, Type::Port],
        },
        SetShape {
            name: PUBLISHED_AT,
            key: &[Type::Ipv4Address, Type::Transport, Type::Port],
            interval: false,
            data: &[Type::Ipv4Address, Type::Port],
        },
    ];
    for set in sets {
        batch.add_set(set);
    }
    batch.add_chain("publish");
    let base_chains = [
        ("loopback-guard", "filter", Hook::Prerouting, PRIORITY_RAW),
        ("publish-from-outside", "nat", Hook::Prerouting, PRIORITY_DESTINATION_NAT),
        ("publish-from-host", "nat", Hook::Output, PRIORITY_DESTINATION_NAT),
        ("forward", "filter", Hook::Forward, PRIORITY_FILTER),
        ("masquerade", "nat", Hook::Postrouting, PRIORITY_SOURCE_NAT),
    ];
    for (name, kind, hook, priority) in base_chains {
        batch.add_base_chain(BaseChainShape { name, kind, hook, priority });
    }
    for chain in base_chains.map(|(name, ..)| name).into_iter().chain(["publish"]) {
        batch.flush_chain(chain);
    }
    write_loopback_guard(batch);
    write_publish(batch);
    write_forward(batch);
    write_masquerade(batch);
}

/// `route_localnet` on the bridge lets 127.0.0.1 be the source of a published connection; it also makes the kernel
/// accept 127/8 that comes *from* the bridge (CVE-2020-8558). Neither end of a packet on a wire is ever 127/8.
fn write_loopback_guard(batch: &mut Batch) {
    for (offset, comment) in [(DESTINATION_OFFSET, "to 127/8 from a wire"), (SOURCE_OFFSET, "from 127/8 on a wire")] {
        let mut rule = vec![
            Expression::Meta(Meta::InterfaceNameIn, Register(0)),
            Expression::Compare(Register(0), Comparison::NotEqual, interface_name("lo")),
        ];
        rule.extend(if_loopback_network(offset));
        rule.extend([Expression::Counter, Expression::Drop]);
        batch.add_rule("loopback-guard", comment, &rule);
    }
}

fn write_publish(batch: &mut Batch) {
    for chain in ["publish-from-outside", "publish-from-host"] {
        let rule = [
            Expression::FibDestinationType(Register(0)),
            Expression::Compare(Register(0), Comparison::Equal, ADDRESS_TYPE_LOCAL.to_ne_bytes().to_vec()),
            Expression::Jump("publish"),
        ];
        batch.add_rule(chain, "to an address of this host", &rule);
    }
    let transport_and_port = |first: u32| {
        [
            Expression::Meta(Meta::Transport, Register(first)),
            Expression::Payload { header: Header::Transport, offset: 2, length: 2, to: Register(first + 1) },
        ]
    };
    let destination_nat = Expression::DestinationNat { address: Register(0), port: Register(1) };
    let mut at = if_ipv4().to_vec();
    at.push(payload_address(DESTINATION_OFFSET));
    at.extend(transport_and_port(1));
    at.extend([Expression::Map { key: Register(0), map: PUBLISHED_AT, to: Register(0) }, destination_nat.clone()]);
    batch.add_rule("publish", "at one address", &at);
    let mut anywhere = if_ipv4().to_vec();
    anywhere.extend(transport_and_port(0));
    anywhere.extend([Expression::Map { key: Register(0), map: PUBLISHED, to: Register(0) }, destination_nat]);
    batch.add_rule("publish", "at every address", &anywhere);
}

/// From outside a bridge only what was published is let in: a neighbour that adds a route to a container's address
/// meets the same closed ports as one that does not.
fn write_forward(batch: &mut Batch) {
    let rule = [
        Expression::Meta(Meta::InterfaceNameOut, Register(0)),
        Expression::Lookup { key: Register(0), set: BRIDGES, membership: Membership::In },
        Expression::Meta(Meta::InterfaceNameIn, Register(0)),
        Expression::Lookup { key: Register(0), set: BRIDGES, membership: Membership::NotIn },
        Expression::ConntrackBits { of: Conntrack::State, mask: STATE_ESTABLISHED_OR_RELATED, any: false },
        Expression::ConntrackBits { of: Conntrack::Status, mask: STATUS_DESTINATION_NAT, any: false },
        Expression::Counter,
        Expression::Drop,
    ];
    batch.add_rule("forward", "not published", &rule);
}

fn write_masquerade(batch: &mut Batch) {
    let from_bridge_net = || Expression::Lookup { key: Register(0), set: BRIDGE_NETS, membership: Membership::In };
    let leaves_by = |membership| {
        [
            Expression::Meta(Meta::InterfaceNameOut, Register(0)),
            Expression::Lookup { key: Register(0), set: BRIDGES, membership },
        ]
    };
    let mut outbound = if_ipv4().to_vec();
    outbound.extend([payload_address(SOURCE_OFFSET), from_bridge_net()]);
    outbound.extend(leaves_by(Membership::NotIn));
    outbound.push(Expression::Masquerade);
    batch.add_rule("masquerade", "from a container to outside", &outbound);

    let published = Expression::ConntrackBits { of: Conntrack::Status, mask: STATUS_DESTINATION_NAT, any: true };
    let mut hairpin = vec![published.clone()];
    hairpin.extend(leaves_by(Membership::In));
    hairpin.extend(if_ipv4());
    hairpin.extend([payload_address(SOURCE_OFFSET), from_bridge_net(), Expression::Masquerade]);
    batch.add_rule("masquerade", "from a container to a published port", &hairpin);

    let mut from_loopback = vec![published];
    from_loopback.extend(leaves_by(Membership::In));
    from_loopback.extend(if_loopback_network(SOURCE_OFFSET));
    from_loopback.push(Expression::Masquerade);
    batch.add_rule("masquerade", "from the host's loopback to a published port", &from_loopback);
}

fn if_ipv4() -> [Expression; 2] {
    [
        Expression::Meta(Meta::FamilyOfPacket, Register(0)),
        Expression::Compare(Register(0), Comparison::Equal, vec![IPV4]),
    ]
}

fn if_loopback_network(offset: u32) -> [Expression; 4] {
    let [family, is_ipv4] = if_ipv4();
    [
        family,
        is_ipv4,
        Expression::Payload { header: Header::Network, offset, length: 1, to: Register(0) },
        Expression::Compare(Register(0), Comparison::Equal, vec![LOOPBACK_FIRST_OCTET]),
    ]
}

fn payload_address(offset: u32) -> Expression {
    Expression::Payload { header: Header::Network, offset, length: 4, to: Register(0) }
}

fn transport_number(protocol: TransportProtocol) -> u8 {
    match protocol {
        TransportProtocol::Tcp => libc::IPPROTO_TCP as u8,
        TransportProtocol::Udp => libc::IPPROTO_UDP as u8,
    }
}
