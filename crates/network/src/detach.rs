//! Takes a task's network away: published ports, links, remembered connections.

use std::net::Ipv4Addr;

use ecs::TaskId;

use crate::attach::route_socket;
use crate::conntrack;
use crate::error::Error;
use crate::link;
use crate::netlink::{Protocol, Socket};
use crate::nft::{self, Tenant};
use crate::pool;
use crate::settings::Settings;
use crate::tenant;

/// Goes on after an error and returns them all. Safe to run twice, and beside other tasks' attaching and detaching.
/// Plain system calls on the calling thread: a supervisor may call it.
pub fn detach(settings: &Settings, task: &TaskId) -> Vec<Error> {
    let tenant = tenant::of(settings, task);
    remove(settings, &|other| *other == tenant).errors
}

/// What was removed, and what could not be.
#[derive(Debug, Default)]
pub(crate) struct Removed {
    pub(crate) links: Vec<String>,
    pub(crate) ports: Vec<nft::Published>,
    pub(crate) errors: Vec<Error>,
}

pub(crate) fn remove(settings: &Settings, theirs: &dyn Fn(&Tenant) -> bool) -> Removed {
    let mut removed = Removed::default();
    let mut addresses: Vec<Ipv4Addr> = Vec::new();
    let firewall = |source| Error::Firewall { table: settings.table.clone(), source };
    // First the way in, then the links: nothing is sent to an address that somebody else may get.
    let mut netfilter = match Socket::open(Protocol::Netfilter) {
        Ok(socket) => Some(socket),
        Err(error) => {
            removed.errors.push(firewall(error.into()));
            None
        }
    };
    if let Some(socket) = &mut netfilter {
        match nft::unpublish(socket, &settings.table, theirs) {
            Ok(gone) => {
                addresses.extend(gone.iter().map(|port| *port.target.ip()));
                removed.ports = gone;
            }
            Err(source) => removed.errors.push(firewall(source)),
        }
    }
    match links(settings, theirs) {
        Ok((mut socket, names)) => {
            addresses.extend(names.iter().filter_map(|name| pool::address_of_link(name)));
            removed.errors.extend(tenant::delete_links(&mut socket, &names));
            removed.links = names;
        }
        Err(error) => removed.errors.push(error),
    }
    if let Some(socket) = &mut netfilter
        && !addresses.is_empty()
        && let Err(source) = conntrack::forget_addresses(socket, &addresses)
    {
        removed.errors.push(Error::Netlink { action: "forget the connections of a task's addresses".into(), source });
    }
    removed
}

fn links(settings: &Settings, theirs: &dyn Fn(&Tenant) -> bool) -> Result<(Socket, Vec<String>), Error> {
    let failed = |source| Error::Netlink { action: format!("list the ports of bridge {}", settings.bridge), source };
    let mut socket = route_socket()?;
    let Some(bridge) = link::get(&mut socket, &settings.bridge).map_err(failed)? else {
        return Ok((socket, Vec::new()));
    };
    let ports = link::ports_of(&mut socket, bridge.index).map_err(failed)?;
    let ours = ports.into_iter().filter(|port| tenant::of_link(port).is_some_and(|tenant| theirs(&tenant)));
    let names = ours.map(|port| port.name).collect();
    Ok((socket, names))
}

/// Takes the bridge and the table away, with whatever still hangs on them: for tests, and for leaving a host as it
/// was found. Settings of the host that `attach` changed stay, since others may rely on them by then.
pub fn remove_bridge_and_table(settings: &Settings) -> Vec<Error> {
    let mut errors = Vec::new();
    let firewall = |source| Error::Firewall { table: settings.table.clone(), source };
    match Socket::open(Protocol::Netfilter) {
        Ok(mut socket) => errors.extend(nft::remove_table(&mut socket, &settings.table).err().map(firewall)),
        Err(error) => errors.push(firewall(error.into())),
    }
    match links(settings, &|_| true) {
        Ok((mut socket, mut names)) => {
            names.push(settings.bridge.clone());
            errors.extend(tenant::delete_links(&mut socket, &names));
        }
        Err(error) => errors.push(error),
    }
    errors
}
