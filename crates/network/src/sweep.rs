//! Removes what tasks left behind whose supervisor was killed.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ecs::TaskId;

use crate::attach::route_socket;
use crate::detach;
use crate::error::Error;
use crate::link;
use crate::namespace_file;
use crate::netlink::Socket;
use crate::nft::{Published, Tenant};
use crate::plan::protocol_name;
use crate::public_address;
use crate::security_groups;
use crate::settings::Settings;
use crate::tenant;

/// What was removed, and what could not be.
#[derive(Debug, Default)]
pub struct SweepReport {
    /// By name.
    pub links: Vec<String>,
    /// As `tcp 8080`.
    pub ports: Vec<String>,
    /// Addresses of the LAN that were mapped to interfaces.
    pub public_addresses: Vec<Ipv4Addr>,
    /// Whose network namespace was held by a file.
    pub namespaces: Vec<TaskId>,
    pub errors: Vec<Error>,
}

/// Removes links and published ports of our instance whose task is not alive. A task counts as alive from before
/// its `attach` on, or it is swept while it is being made.
pub fn sweep(settings: &Settings, alive: &dyn Fn(&TaskId) -> bool) -> SweepReport {
    let dead = |tenant: &Tenant| tenant.instance == settings.instance && !alive(&tenant.task);
    let mut errors = Vec::new();
    // First the way in, then the links: nothing is sent to an address that somebody else may get.
    let ports = detach::withdraw(settings, &dead, &mut errors).ports;
    let public_addresses = release_public_addresses(&dead, &mut errors);
    let namespaces = release_namespaces(settings, alive, &mut errors);
    let links = detach::delete_links(&dead, &mut errors);
    errors.extend(security_groups::prune(settings).err());
    let port = |port: &Published| format!("{} {}", protocol_name(port.key.protocol), port.key.port);
    // One that is met in both families, or at several addresses, is one port.
    let ports: BTreeSet<String> = ports.iter().map(port).collect();
    SweepReport { links, ports: ports.into_iter().collect(), public_addresses, namespaces, errors }
}

/// Those whose interface is dead, or gone: an interface's link is there before its public address is, and as long as
/// somebody is in its namespace.
fn release_public_addresses(dead: &dyn Fn(&Tenant) -> bool, errors: &mut Vec<Error>) -> Vec<Ipv4Addr> {
    match route_socket().and_then(|mut socket| dead_owners(&mut socket, dead)) {
        Ok(owners) if owners.is_empty() => Vec::new(),
        Ok(owners) => detach::withdraw_public_addresses(&|owner| owners.contains(owner), errors),
        Err(error) => {
            errors.push(error);
            Vec::new()
        }
    }
}

fn dead_owners(socket: &mut Socket, dead: &dyn Fn(&Tenant) -> bool) -> Result<BTreeSet<String>, Error> {
    let mut owners: BTreeSet<String> = public_address::list(socket)?.into_iter().map(|(_, owner)| owner).collect();
    for name in owners.clone() {
        let found = link::get(socket, &name)
            .map_err(|source| Error::Netlink { action: format!("look at link {name}"), source })?;
        // Without a label it is being made, or somebody else's.
        let is_dead = found.is_none_or(|link| tenant::of_link(&link).is_some_and(|tenant| dead(&tenant)));
        if !is_dead {
            owners.remove(&name);
        }
    }
    Ok(owners)
}

fn release_namespaces(settings: &Settings, alive: &dyn Fn(&TaskId) -> bool, errors: &mut Vec<Error>) -> Vec<TaskId> {
    let held = namespace_file::list(&settings.namespaces).unwrap_or_else(|error| {
        errors.push(error);
        Vec::new()
    });
    let mut released = Vec::new();
    for task in held.into_iter().filter(|task| !alive(task)) {
        match namespace_file::release(&settings.namespaces, &task) {
            Ok(true) => released.push(task),
            Ok(false) => {}
            Err(error) => errors.push(error),
        }
    }
    released
}
