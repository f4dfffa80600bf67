//! Coracle's one table, `inet coracle`, as a whole: made and renewed, entered and left by tasks. What its rules say is
//! in `rules`. Attaching a task is one small transaction, and two builds or two run directories share a table.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::LazyLock;

use ecs::TaskId;
use ecs::task_definition::TransportProtocol;
use ipnetwork::{Ipv4Network, Ipv6Network};
use nix::errno::Errno;

use super::batch::{Batch, CommitError, Element, concatenate, interface_name};
use super::dump;
use super::rules::{
    BRIDGE_NETS, BRIDGE_NETS6, BRIDGES, PUBLISHED, PUBLISHED_AT, PUBLISHED6, PUBLISHED6_AT, write_rules,
};
use crate::netlink::{self, Socket};

/// An empty chain whose name says which rules the table has; see `marker`.
const MARKER_PREFIX: &str = "rules-";
/// How often a transaction is tried again after another process changed the table in between.
const COMMIT_ATTEMPTS: u32 = 5;
/// Where published ports are entered.
const MAPS: [&str; 4] = [PUBLISHED, PUBLISHED_AT, PUBLISHED6, PUBLISHED6_AT];

/// What a host's table is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TableScope<'a> {
    pub(crate) table: &'a str,
    pub(crate) bridge: &'a str,
    pub(crate) subnet: Ipv4Network,
    pub(crate) subnet6: Option<Ipv6Network>,
}

/// Where a published port is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PublishedKey {
    /// 0.0.0.0: at every IPv4 address of the host, `::`: at every IPv6 address but `::1`.
    pub(crate) address: IpAddr,
    pub(crate) protocol: TransportProtocol,
    pub(crate) port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) key: PublishedKey,
    /// Of the address's own family.
    pub(crate) target: SocketAddr,
}

/// Who an element belongs to: its comment, `<instance> <task>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tenant {
    pub(crate) instance: String,
    pub(crate) task: TaskId,
}

impl Tenant {
    pub(super) fn comment(&self) -> String {
        format!("{} {}", self.instance, self.task)
    }

    pub(super) fn parse(comment: &str) -> Option<Tenant> {
        let (instance, task) = comment.split_once(' ')?;
        Some(Tenant { instance: instance.to_owned(), task: TaskId::try_from(task.to_owned()).ok()? })
    }
}

impl Published {
    pub(super) fn element(&self, tenant: &Tenant) -> Element {
        let (data, comment) = (Some(target_data(self.target)), Some(tenant.comment()));
        Element { data, comment, ..self.key.element() }
    }
}

impl PublishedKey {
    pub(super) fn map(self) -> &'static str {
        match (self.address, self.address.is_unspecified()) {
            (IpAddr::V4(_), true) => PUBLISHED,
            (IpAddr::V4(_), false) => PUBLISHED_AT,
            (IpAddr::V6(_), true) => PUBLISHED6,
            (IpAddr::V6(_), false) => PUBLISHED6_AT,
        }
    }

    fn element(self) -> Element {
        let (protocol, port) = ([transport_number(self.protocol)], self.port.to_be_bytes());
        let key = match self.address {
            address if address.is_unspecified() => concatenate(&[&protocol, &port]),
            IpAddr::V4(address) => concatenate(&[&address.octets(), &protocol, &port]),
            IpAddr::V6(address) => concatenate(&[&address.octets(), &protocol, &port]),
        };
        Element { key, ..Element::default() }
    }

    fn parse(map: &str, key: &[u8]) -> Option<PublishedKey> {
        let (address, rest) = match map {
            PUBLISHED_AT => (dump::address_in(key)?.into(), key.get(4..)?),
            PUBLISHED6_AT => (dump::address6_in(key)?.into(), key.get(16..)?),
            PUBLISHED6 => (Ipv6Addr::UNSPECIFIED.into(), key),
            _ => (Ipv4Addr::UNSPECIFIED.into(), key),
        };
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
    for map in MAPS {
        let old: Vec<Element> = stale.iter().filter(|key| key.map() == map).map(|key| key.element()).collect();
        batch.delete_elements(map, &old);
        let in_map = ports.iter().filter(|port| port.key.map() == map);
        let new: Vec<Element> = in_map.map(|port| port.element(tenant)).collect();
        batch.add_new_elements(map, &new);
    }
    batch
}

pub(super) fn add_scope(batch: &mut Batch, scope: TableScope<'_>) {
    batch.add_elements(BRIDGES, &[Element { key: interface_name(scope.bridge), ..Element::default() }]);
    if let Some(subnet) = scope.subnet6 {
        let behind = Ipv6Addr::from(u128::from(subnet.broadcast()).wrapping_add(1));
        batch.add_elements(
            BRIDGE_NETS6,
            &[
                Element { key: subnet.network().octets().to_vec(), ..Element::default() },
                Element { key: behind.octets().to_vec(), interval_end: true, ..Element::default() },
            ],
        );
    }
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
        for map in MAPS {
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
    for map in MAPS {
        let elements = match dump::elements(socket, table, map) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => continue,
            other => other?,
        };
        for element in elements {
            let target = element.data.as_deref().and_then(|data| read_target(map, data));
            if let (Some(key), Some(target)) = (PublishedKey::parse(map, &element.key), target) {
                ports.push((Published { key, target }, element.comment.as_deref().and_then(Tenant::parse)));
            }
        }
    }
    Ok(ports)
}

fn target_data(target: SocketAddr) -> Vec<u8> {
    let port = target.port().to_be_bytes();
    match target.ip() {
        IpAddr::V4(address) => concatenate(&[&address.octets(), &port]),
        IpAddr::V6(address) => concatenate(&[&address.octets(), &port]),
    }
}

fn read_target(map: &str, data: &[u8]) -> Option<SocketAddr> {
    let (address, rest): (IpAddr, _) = match map {
        PUBLISHED6 | PUBLISHED6_AT => (dump::address6_in(data)?.into(), data.get(16..)?),
        _ => (dump::address_in(data)?.into(), data.get(4..)?),
    };
    let port = rest.get(..2)?.try_into().ok().map(u16::from_be_bytes)?;
    Some(SocketAddr::new(address, port))
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
    for _ in 0..COMMIT_ATTEMPTS {
        let mut batch = Batch::new(scope.table);
        renew(&mut batch, &dump::chains(socket, scope.table)?.into_iter().collect());
        match batch.commit(socket) {
            // Another process deleted the old marker first.
            Err(failure) if failure.errno() == Some(Errno::ENOENT) => {}
            other => return other,
        }
    }
    Ok(())
}

/// Makes the rules this build's. `chains` are the table's.
pub(super) fn renew(batch: &mut Batch, chains: &BTreeSet<String>) {
    let current = marker();
    write_rules(batch);
    for old in chains.iter().filter(|chain| chain.starts_with(MARKER_PREFIX) && *chain != current) {
        batch.delete_chain(old);
    }
    batch.add_chain(current);
}

/// Named after the rules' encoding (FNV-1a, 64 bits), so that any change of them is noticed.
pub(super) fn marker() -> &'static str {
    static MARKER: LazyLock<String> = LazyLock::new(|| {
        let mut batch = Batch::new("");
        write_rules(&mut batch);
        format!("{MARKER_PREFIX}{:016x}", batch.fingerprint())
    });
    &MARKER
}

pub(super) fn transport_number(protocol: TransportProtocol) -> u8 {
    match protocol {
        TransportProtocol::Tcp => libc::IPPROTO_TCP as u8,
        TransportProtocol::Udp => libc::IPPROTO_UDP as u8,
    }
}
