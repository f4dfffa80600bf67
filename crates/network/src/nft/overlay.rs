//! The overlay in the firewall: which hosts may send encapsulated packets, and what may come out of them.
//!
//! ```text
//! set overlay-hosts4    { ipv4_addr }             the other hosts; overlay-hosts6 the same
//! set overlay-sources4  { ipv4_addr; interval }   their interfaces' addresses; overlay-sources6 the same
//! set overlay-links     { ifname }                the overlay's device, for the chains of `vpc`
//! chain overlay-arrival  prerouting   what comes out of the device comes from one of those addresses
//! chain overlay-forward  forward      and goes to an interface of a task, nowhere else
//! chain overlay-input    input        encapsulated packets come from the other hosts alone, and not by our own links
//! chain overlay-output   output       nobody but the kernel's device sends them
//! ```
//! VXLAN has no authentication. Source addresses of the LAN are what is checked, so that the LAN must be trusted; what
//! these rules keep out is everybody else, and above all this host's own tasks, whose packets may leave with the
//! host's address. WireGuard's packets need no such check.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use nix::errno::Errno;

use super::batch::{BaseChainShape, Batch, CommitError, Element, Hook, SetShape, Type, interface_name};
use super::dump;
use super::expression::{
    Comparison, Conntrack, Expression, Header, Membership, Meta, Register, STATE_ESTABLISHED_OR_RELATED,
};
use super::groups::{Chain, FAMILIES, Family, Rule, destination, if_family, source};
use super::interface_rules::{OVERLAY_LINKS, Side, if_interface_of_task};
use super::vpc;
use crate::netlink::Socket;

/// The marker is an empty chain whose name ends in a hash of the rest.
const MARKER_PREFIX: &str = "overlay-is-";
const CHAIN_PREFIX: &str = "overlay-";
const COMMIT_ATTEMPTS: u32 = 5;
const UDP: u8 = libc::IPPROTO_UDP as u8;
const ICMP: u8 = libc::IPPROTO_ICMP as u8;
const ICMPV6: u8 = libc::IPPROTO_ICMPV6 as u8;
const DESTINATION_PORT_OFFSET: u32 = 2;
/// Behind the tracking of connections, before the security groups.
const PRIORITY_ARRIVAL: i32 = -160;
/// Before filters of the host's own.
const PRIORITY_FILTER: i32 = -10;
const BASE_CHAINS: [(&str, Hook, i32); 4] = [
    ("overlay-arrival", Hook::Prerouting, PRIORITY_ARRIVAL),
    ("overlay-forward", Hook::Forward, PRIORITY_FILTER),
    ("overlay-input", Hook::Input, PRIORITY_FILTER),
    ("overlay-output", Hook::Output, PRIORITY_FILTER),
];

#[derive(Clone, Debug)]
pub(crate) struct OverlayScope<'a> {
    pub(crate) link: &'a str,
    pub(crate) bridge: &'a str,
    /// Of encapsulated packets that carry no proof of who sent them.
    pub(crate) unproven_port: Option<u16>,
    pub(crate) hosts: Vec<IpAddr>,
    pub(crate) sources: Vec<IpNetwork>,
}

/// Makes it so in one transaction, and says whether anything had to change.
pub(crate) fn admit_overlay(socket: &mut Socket, table: &str, scope: &OverlayScope<'_>) -> Result<bool, CommitError> {
    let mut content = Batch::new(table);
    write(&mut content, scope);
    let marker = format!("{MARKER_PREFIX}{:016x}", content.fingerprint());
    let mut attempt = 0;
    loop {
        attempt += 1;
        let chains = dump::chains(socket, table)?;
        if chains.contains(&marker) && links(socket, table)?.contains(&interface_name(scope.link)) {
            return Ok(false);
        }
        let mut batch = Batch::new(table);
        batch.add_table();
        write(&mut batch, scope);
        for old in chains.iter().filter(|chain| chain.starts_with(MARKER_PREFIX) && **chain != marker) {
            batch.delete_chain(old);
        }
        batch.add_chain(&marker);
        match batch.commit(socket) {
            Ok(()) => return Ok(true),
            // Another process deleted the old marker first.
            Err(failure) if failure.errno() == Some(Errno::ENOENT) && attempt < COMMIT_ATTEMPTS => {}
            Err(failure) => return Err(failure),
        }
    }
}

/// Whether the table has been told of an overlay.
pub(crate) fn knows_overlay(socket: &mut Socket, table: &str) -> Result<bool, CommitError> {
    let chains = dump::chains(socket, table)?;
    Ok(chains.iter().any(|chain| chain.starts_with(MARKER_PREFIX)))
}

/// Takes it out again, and the table with it where nothing else is in it. Says whether anything was there.
pub(crate) fn remove_overlay(socket: &mut Socket, table: &str) -> Result<bool, CommitError> {
    let chains = dump::chains(socket, table)?;
    let ours: Vec<&String> = chains.iter().filter(|chain| chain.starts_with(CHAIN_PREFIX)).collect();
    if ours.is_empty() {
        return Ok(false);
    }
    let mut batch = Batch::new(table);
    for chain in &ours {
        batch.flush_chain(chain);
    }
    for chain in &ours {
        batch.delete_chain(chain);
    }
    for family in FAMILIES {
        batch.delete_set(&hosts(family));
        batch.delete_set(&sources(family));
    }
    batch.flush_set(OVERLAY_LINKS);
    if chains.len() == ours.len() {
        batch.delete_set(OVERLAY_LINKS);
    }
    batch.commit(socket)?;
    if chains.len() == ours.len() {
        let mut last = Batch::new(table);
        last.delete_table_if_empty();
        match last.commit(socket) {
            Err(failure) if !matches!(failure.errno(), Some(Errno::EBUSY | Errno::ENOENT)) => return Err(failure),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(true)
}

fn links(socket: &mut Socket, table: &str) -> Result<Vec<Vec<u8>>, CommitError> {
    match dump::elements(socket, table, OVERLAY_LINKS) {
        Ok(elements) => Ok(elements.into_iter().map(|element| element.key).collect()),
        Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn hosts(family: Family) -> String {
    format!("overlay-hosts{}", family.digit())
}

fn sources(family: Family) -> String {
    format!("overlay-sources{}", family.digit())
}

fn write(batch: &mut Batch, scope: &OverlayScope<'_>) {
    batch.add_set(SetShape { name: OVERLAY_LINKS, key: &[Type::InterfaceName], interval: false, data: &[] });
    batch.flush_set(OVERLAY_LINKS);
    batch.add_elements(OVERLAY_LINKS, &[Element { key: interface_name(scope.link), ..Element::default() }]);
    for family in FAMILIES {
        let key: &[Type] = match family {
            Family::Ipv4 => &[Type::Ipv4Address],
            Family::Ipv6 => &[Type::Ipv6Address],
        };
        let (hosts, sources) = (hosts(family), sources(family));
        batch.add_set(SetShape { name: &hosts, key, interval: false, data: &[] });
        batch.add_set(SetShape { name: &sources, key, interval: true, data: &[] });
        batch.flush_set(&hosts);
        batch.flush_set(&sources);
        let of_family = scope.hosts.iter().filter_map(|host| number(*host, family));
        let addresses: Vec<Element> =
            of_family.map(|host| Element { key: vpc::key_of(family, host), ..Element::default() }).collect();
        batch.add_elements(&hosts, &addresses);
        let ranges = scope
            .sources
            .iter()
            .filter_map(|network| Some((number(network.network(), family)?, number(network.broadcast(), family)?)));
        let ranges = vpc::merged(ranges);
        let elements: Vec<Element> = ranges.into_iter().flat_map(|range| vpc::elements(family, range)).collect();
        batch.add_elements(&sources, &elements);
    }
    for (name, hook, priority) in BASE_CHAINS {
        batch.add_base_chain(BaseChainShape { name, kind: "filter", hook, priority });
    }
    let rules = [arrival(scope), forward(scope), input(scope), output(scope)];
    for ((name, ..), rules) in BASE_CHAINS.into_iter().zip(rules) {
        Chain { name: name.to_owned(), rules }.write_rules(batch);
    }
}

fn number(address: IpAddr, family: Family) -> Option<u128> {
    match (address, family) {
        (IpAddr::V4(address), Family::Ipv4) => Some(u32::from(address).into()),
        (IpAddr::V6(address), Family::Ipv6) => Some(address.into()),
        (IpAddr::V4(_), Family::Ipv6) | (IpAddr::V6(_), Family::Ipv4) => None,
    }
}

/// Another host's word that a packet cannot be delivered comes from the host's own address; it is one of a flow that
/// is known here.
fn arrival(scope: &OverlayScope<'_>) -> Vec<Rule> {
    let from_device = || if_link(Meta::InterfaceNameIn, scope.link);
    let mut rules = Vec::new();
    for protocol in [ICMP, ICMPV6] {
        let mut related = from_device().to_vec();
        related.extend(if_transport(protocol));
        let known = Expression::ConntrackBits { of: Conntrack::State, mask: STATE_ESTABLISHED_OR_RELATED, any: true };
        related.extend([known, Expression::Accept]);
        rules.push(Rule::new("about a flow of ours", related));
    }
    for family in FAMILIES {
        let mut stranger = from_device().to_vec();
        stranger.extend(if_family(family));
        stranger.extend([source(family, Register(0)), lookup(sources(family), Membership::NotIn)]);
        rules.push(Rule::new("not from an interface of another host", dropped(stranger)));
    }
    rules
}

fn forward(scope: &OverlayScope<'_>) -> Vec<Rule> {
    let from_device = || if_link(Meta::InterfaceNameIn, scope.link);
    let mut to_task = from_device().to_vec();
    to_task.extend(if_interface_of_task(Side::Out));
    to_task.push(Expression::Accept);
    let mut rules = vec![
        Rule::new("to an interface of a task", to_task),
        Rule::new("to anything else", dropped(from_device().to_vec())),
    ];
    let Some(port) = scope.unproven_port else { return rules };
    // A task's packets may leave with this host's address, which the other hosts trust.
    for family in FAMILIES {
        for link in own_links(scope) {
            let mut forged = link;
            forged.extend(to_port(port));
            forged.extend(if_family(family));
            forged.extend([destination(family, Register(0)), lookup(hosts(family), Membership::In)]);
            rules.push(Rule::new("encapsulated by a task", dropped(forged)));
        }
    }
    rules
}

fn input(scope: &OverlayScope<'_>) -> Vec<Rule> {
    let mut rules = Vec::new();
    if let Some(port) = scope.unproven_port {
        for link in own_links(scope).into_iter().chain([if_link(Meta::InterfaceNameIn, "lo").to_vec()]) {
            let forged = link.into_iter().chain(to_port(port)).collect();
            rules.push(Rule::new("encapsulated by a task", dropped(forged)));
        }
        for family in FAMILIES {
            let mut stranger = to_port(port);
            stranger.extend(if_family(family));
            stranger.extend([source(family, Register(0)), lookup(hosts(family), Membership::NotIn)]);
            rules.push(Rule::new("encapsulated, not by one of the hosts", dropped(stranger)));
        }
    }
    let to_host = if_link(Meta::InterfaceNameIn, scope.link).to_vec();
    rules.push(Rule::new("from another host's task to this host", dropped(to_host)));
    rules
}

fn output(scope: &OverlayScope<'_>) -> Vec<Rule> {
    let Some(port) = scope.unproven_port else { return Vec::new() };
    let of_family = |family: Family| {
        let mut forged = to_port(port);
        forged.extend(if_family(family));
        forged.extend([destination(family, Register(0)), lookup(hosts(family), Membership::In)]);
        // What the device sends has no owner: then the expression matches nothing.
        forged.push(Expression::Meta(Meta::SocketOwner, Register(0)));
        forged.push(Expression::Compare(Register(0), Comparison::NotEqual, u32::MAX.to_ne_bytes().to_vec()));
        Rule::new("encapsulated by a process", dropped(forged))
    };
    FAMILIES.map(of_family).into()
}

/// The links that tasks of this host send by, and the overlay's own.
fn own_links(scope: &OverlayScope<'_>) -> [Vec<Expression>; 3] {
    [
        if_interface_of_task(Side::In),
        if_link(Meta::InterfaceNameIn, scope.bridge).to_vec(),
        if_link(Meta::InterfaceNameIn, scope.link).to_vec(),
    ]
}

fn if_link(meta: Meta, name: &str) -> [Expression; 2] {
    [Expression::Meta(meta, Register(0)), Expression::Compare(Register(0), Comparison::Equal, interface_name(name))]
}

fn if_transport(protocol: u8) -> [Expression; 2] {
    [
        Expression::Meta(Meta::Transport, Register(0)),
        Expression::Compare(Register(0), Comparison::Equal, vec![protocol]),
    ]
}

fn to_port(port: u16) -> Vec<Expression> {
    let mut expressions = if_transport(UDP).to_vec();
    expressions.extend([
        Expression::Payload { header: Header::Transport, offset: DESTINATION_PORT_OFFSET, length: 2, to: Register(0) },
        Expression::Compare(Register(0), Comparison::Equal, port.to_be_bytes().to_vec()),
    ]);
    expressions
}

fn lookup(set: String, membership: Membership) -> Expression {
    Expression::Lookup { key: Register(0), set: set.into(), membership }
}

fn dropped(mut condition: Vec<Expression>) -> Vec<Expression> {
    condition.extend([Expression::Counter, Expression::Drop]);
    condition
}
