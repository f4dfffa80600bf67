//! Security groups and subnets that were changed, for tasks that run.

use aws::ec2::VpcNetwork;

use crate::error::Error;
use crate::netlink::{Protocol, Socket};
use crate::nft::{self, CommitError};
use crate::settings::Settings;

/// Makes the firewall what the configuration says now, in one transaction: groups and their rules, other hosts'
/// members, subnets and their ways out. Tasks that run follow at once; flows that are established go on, allowed or not,
/// as they do with Amazon. True if anything was changed. Before the first task of awsvpc mode there is nothing to do.
///
/// Whoever changes the configuration calls this before he lets the next one change it.
///
/// # Errors
/// The kernel refused, and nothing was changed.
pub fn apply_groups(settings: &Settings, network: &VpcNetwork) -> Result<bool, Error> {
    with_firewall(settings, |socket| nft::apply(socket, settings, network))
}

/// Removes what no interface needs any more of groups and their combinations.
pub(crate) fn prune(settings: &Settings) -> Result<(), Error> {
    with_firewall(settings, |socket| nft::prune(socket, settings))
}

fn with_firewall<T>(
    settings: &Settings,
    change: impl FnOnce(&mut Socket) -> Result<T, CommitError>,
) -> Result<T, Error> {
    let failed = |source| Error::Firewall { table: settings.table.clone(), source };
    let mut socket = Socket::open(Protocol::Netfilter).map_err(|error| failed(error.into()))?;
    let changed = change(&mut socket).map_err(failed)?;
    socket.close_aside();
    Ok(changed)
}
