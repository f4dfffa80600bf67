//! Takes a task's network away.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use ecs::TaskId;
use ecs::task_definition::TransportProtocol;

use crate::attach::route_socket;
use crate::conntrack;
use crate::eni;
use crate::error::Error;
use crate::foreign_firewall;
use crate::link;
use crate::namespace_file;
use crate::netlink::{Protocol, Socket};
use crate::nft::{self, Forgotten, Published, Tenant};
use crate::pool;
use crate::public_address;
use crate::service_sockets;
use crate::settings::Settings;
use crate::tenant;

/// Withdraws a task's published ports, its interface and its public address from the firewall and from the NIC, and
/// forgets the flows that went through them; removes the file that holds its namespace. Its links are left to the
/// kernel: they go with the namespaces, when the last descriptor of `Attachment` is closed and the last process in
/// them is gone. Deleting them here would only make the caller wait for the same work (40 ms and more); one that
/// somebody else keeps alive is found by `sweep`. Nothing gets through an interface that the firewall has forgotten.
///
/// Goes on after an error and returns them all. Safe to run twice, and beside other tasks' attaching and detaching.
/// Plain system calls on the calling thread: a supervisor may call it. The port holds must stay open until it has
/// returned.
pub fn detach(settings: &Settings, task: &TaskId) -> Vec<Error> {
    let tenant = tenant::of(settings, task);
    let mut errors = Vec::new();
    let Withdrawn { interfaces, .. } = withdraw(settings, &|other| *other == tenant, &mut errors);
    let had_interface = namespace_file::release(&settings.namespaces, task).unwrap_or_else(|error| {
        errors.push(error);
        true
    });
    let mut owners: Vec<String> = interfaces.into_iter().map(|interface| interface.link).collect();
    if owners.is_empty() && had_interface {
        // Somebody emptied the table, or the firewall would not speak to us.
        owners = links_of(&|other| *other == tenant, &mut errors);
    }
    if !owners.is_empty() {
        withdraw_public_addresses(&|owner| owners.iter().any(|name| name == owner), &mut errors);
    }
    errors
}

fn links_of(theirs: &dyn Fn(&Tenant) -> bool, errors: &mut Vec<Error>) -> Vec<String> {
    let failed = |source| Error::Netlink { action: "list the links of this host".into(), source };
    let listed = route_socket().and_then(|mut socket| link::list(&mut socket).map_err(failed));
    let ours = or_none(listed, errors).into_iter();
    let ours = ours.filter(|link| tenant::of_link(link).is_some_and(|tenant| theirs(&tenant)));
    ours.map(|link| link.name).collect()
}

/// What the firewall had of somebody.
#[derive(Debug, Default)]
pub(crate) struct Withdrawn {
    pub(crate) ports: Vec<Published>,
    pub(crate) interfaces: Vec<Forgotten>,
}

/// Takes tenants' ports and interfaces out of the firewall, and forgets their flows.
pub(crate) fn withdraw(settings: &Settings, theirs: &dyn Fn(&Tenant) -> bool, errors: &mut Vec<Error>) -> Withdrawn {
    let failed = |source| Error::Firewall { table: settings.table.clone(), source };
    let mut socket = match Socket::open(Protocol::Netfilter) {
        Ok(socket) => socket,
        Err(error) => {
            errors.push(failed(error.into()));
            return Withdrawn::default();
        }
    };
    let ports = nft::unpublish(&mut socket, &settings.table, theirs);
    let interfaces = nft::detach_interfaces(&mut socket, settings, theirs);
    let (ports, interfaces) = (or_none(ports.map_err(failed), errors), or_none(interfaces.map_err(failed), errors));
    let udp = ports.iter().filter(|port| port.key.protocol == TransportProtocol::Udp);
    let targets: BTreeSet<IpAddr> = udp.map(|port| port.target.ip()).collect();
    for address in targets {
        if let Err(source) = conntrack::forget_udp_target(&mut socket, address) {
            errors.push(Error::Netlink { action: format!("forget the UDP flows to {address}"), source });
        }
    }
    let own = interfaces.iter().flat_map(|one| [Some(one.ipv4.into()), one.ipv6.map(IpAddr::V6)]);
    for address in own.flatten() {
        if let Err(source) = conntrack::forget_address(&mut socket, address) {
            errors.push(Error::Netlink { action: format!("forget the flows of {address}"), source });
        }
    }
    socket.close_at_exit();
    Withdrawn { ports, interfaces }
}

fn or_none<T>(found: Result<Vec<T>, Error>, errors: &mut Vec<Error>) -> Vec<T> {
    found.unwrap_or_else(|error| {
        errors.push(error);
        Vec::new()
    })
}

/// Takes those public addresses from their NICs whose owner, the host's end of an interface, is one of theirs.
pub(crate) fn withdraw_public_addresses(theirs: &dyn Fn(&str) -> bool, errors: &mut Vec<Error>) -> Vec<Ipv4Addr> {
    let found = route_socket().and_then(|mut socket| public_address::list(&mut socket).map(|all| (socket, all)));
    match found {
        Ok((mut socket, all)) => {
            let all: Vec<_> = all.into_iter().filter(|(_, owner)| theirs(owner)).map(|(address, _)| address).collect();
            errors.extend(public_address::give_back(&mut socket, &all));
            all.into_iter().map(|one| one.address).collect()
        }
        Err(error) => {
            errors.push(error);
            Vec::new()
        }
    }
}

/// Deletes the links of tenants, on whatever bridge or on none any more, and waits until they are gone.
pub(crate) fn delete_links(theirs: &dyn Fn(&Tenant) -> bool, errors: &mut Vec<Error>) -> Vec<String> {
    let names = links_of(theirs, errors);
    if !names.is_empty() {
        match route_socket() {
            Ok(mut socket) => errors.extend(tenant::delete_links(&mut socket, &names)),
            Err(error) => errors.push(error),
        }
    }
    names
}

/// Takes the bridge, the gateways of subnets, the host's services and the table away, with whatever still hangs on them:
/// for tests, and for leaving a host as it
/// was found. Settings of the host that `attach` changed stay, since others may rely on them by then.
pub fn remove_bridge_and_table(settings: &Settings) -> Vec<Error> {
    let mut errors = Vec::new();
    let failed = |source| Error::Firewall { table: settings.table.clone(), source };
    let netfilter = Socket::open(Protocol::Netfilter).map_err(|error| failed(error.into()));
    match (netfilter, route_socket()) {
        (Ok(mut netfilter), Ok(mut route)) => {
            errors.extend(foreign_firewall::take_back(&mut netfilter, settings));
            errors.extend(nft::remove_table(&mut netfilter, &settings.table).err().map(failed));
            errors.extend(service_sockets::remove_from_host(&mut route, &mut netfilter));
            match ports(&mut route, settings) {
                Ok(mut names) => {
                    let own = links_of(&|tenant| tenant.instance == settings.instance, &mut errors);
                    names.extend(own.into_iter().filter(|name| pool::address_of_interface_link(name).is_some()));
                    names.extend([settings.bridge.clone(), eni::GATEWAY_LINK.to_owned()]);
                    errors.extend(tenant::delete_links(&mut route, &names));
                }
                Err(error) => errors.push(error),
            }
        }
        (netfilter, route) => errors.extend(netfilter.err().into_iter().chain(route.err())),
    }
    errors
}

/// The containers' links on the bridge.
fn ports(socket: &mut Socket, settings: &Settings) -> Result<Vec<String>, Error> {
    let failed = |source| Error::Netlink { action: format!("list the ports of bridge {}", settings.bridge), source };
    let Some(bridge) = link::get(socket, &settings.bridge).map_err(failed)? else { return Ok(Vec::new()) };
    let ports = link::ports_of(socket, bridge.index).map_err(failed)?;
    Ok(ports.into_iter().filter(|port| tenant::of_link(port).is_some()).map(|port| port.name).collect())
}
