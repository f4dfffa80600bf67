//! Takes a task's network away.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ecs::TaskId;
use ecs::task_definition::TransportProtocol;

use crate::attach::route_socket;
use crate::conntrack;
use crate::error::Error;
use crate::link;
use crate::netlink::{Protocol, Socket};
use crate::nft::{self, Published, Tenant};
use crate::service_sockets;
use crate::settings::Settings;
use crate::tenant;

/// Withdraws a task's published ports and forgets the UDP flows that went through them. Its links are left to the
/// kernel: they go with the namespaces, when the last descriptor of `Attachment` is closed and the last process in
/// them is gone. Deleting them here would only make the caller wait for the same work (40 ms and more); one that
/// somebody else keeps alive is found by `sweep`.
///
/// Goes on after an error and returns them all. Safe to run twice, and beside other tasks' attaching and detaching.
/// Plain system calls on the calling thread: a supervisor may call it. The port holds must stay open until it has
/// returned.
pub fn detach(settings: &Settings, task: &TaskId) -> Vec<Error> {
    let tenant = tenant::of(settings, task);
    let mut errors = Vec::new();
    withdraw(settings, &|other| *other == tenant, &mut errors);
    errors
}

/// The published ports that were withdrawn.
pub(crate) fn withdraw(
    settings: &Settings,
    theirs: &dyn Fn(&Tenant) -> bool,
    errors: &mut Vec<Error>,
) -> Vec<Published> {
    let failed = |source| Error::Firewall { table: settings.table.clone(), source };
    let withdrawn = Socket::open(Protocol::Netfilter).map_err(|error| failed(error.into())).and_then(|mut socket| {
        nft::unpublish(&mut socket, &settings.table, theirs).map_err(failed).map(|gone| (socket, gone))
    });
    let (mut socket, gone) = match withdrawn {
        Ok(withdrawn) => withdrawn,
        Err(error) => {
            errors.push(error);
            return Vec::new();
        }
    };
    let udp = gone.iter().filter(|port| port.key.protocol == TransportProtocol::Udp);
    let targets: BTreeSet<IpAddr> = udp.map(|port| port.target.ip()).collect();
    for address in targets {
        if let Err(source) = conntrack::forget_udp_target(&mut socket, address) {
            errors.push(Error::Netlink { action: format!("forget the UDP flows to {address}"), source });
        }
    }
    socket.close_at_exit();
    gone
}

/// Deletes the links of tenants, on whatever bridge or on none any more, and waits until they are gone.
pub(crate) fn delete_links(theirs: &dyn Fn(&Tenant) -> bool, errors: &mut Vec<Error>) -> Vec<String> {
    let failed = |source| Error::Netlink { action: "list the links of this host".into(), source };
    let listed = route_socket().and_then(|mut socket| link::list(&mut socket).map_err(failed).map(|all| (socket, all)));
    let (mut socket, all) = match listed {
        Ok(listed) => listed,
        Err(error) => {
            errors.push(error);
            return Vec::new();
        }
    };
    let ours = all.into_iter().filter(|link| tenant::of_link(link).is_some_and(|tenant| theirs(&tenant)));
    let names: Vec<String> = ours.map(|link| link.name).collect();
    errors.extend(tenant::delete_links(&mut socket, &names));
    names
}

/// Takes the bridge and the table away, with whatever still hangs on them: for tests, and for leaving a host as it
/// was found. Settings of the host that `attach` changed stay, since others may rely on them by then.
pub fn remove_bridge_and_table(settings: &Settings) -> Vec<Error> {
    let mut errors = Vec::new();
    let failed = |source| Error::Firewall { table: settings.table.clone(), source };
    let netfilter = Socket::open(Protocol::Netfilter).map_err(|error| failed(error.into()));
    match (netfilter, route_socket()) {
        (Ok(mut netfilter), Ok(mut route)) => {
            errors.extend(nft::remove_table(&mut netfilter, &settings.table).err().map(failed));
            errors.extend(service_sockets::remove_from_host(&mut route, &mut netfilter));
            match ports(&mut route, settings) {
                Ok(mut names) => {
                    names.push(settings.bridge.clone());
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
