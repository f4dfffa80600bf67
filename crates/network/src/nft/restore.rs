//! Puts back what somebody else took from the table: `nft flush ruleset`, a reload of the host's firewall, a rule that was
//! deleted by hand. What there should be is known from the tasks, never from the table.

use std::collections::BTreeMap;

use aws::ec2::VpcNetwork;

use super::batch::{Batch, CommitError, interface_name};
use super::configuration::{Authority, Configuration};
use super::eni::{Interface, Transaction, read_and_write};
use super::groups::{self, DIRECTIONS};
use super::rules::{BRIDGE_NETS, BRIDGE_NETS6, BRIDGES, write_rules};
use super::table::add_scope;
use super::{Published, TableScope, Tenant, dump};
use crate::netlink::{self, Socket};

/// What may have happened to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// Its rules changed: where they are as they should be, so is the rest.
    Rules,
    /// It was removed, and perhaps made again for another task: everything is looked at.
    Everything,
}

/// What there is to be, of one run directory.
#[derive(Clone, Debug)]
pub(crate) struct Standing<'a> {
    pub(crate) instance: &'a str,
    pub(crate) network: &'a VpcNetwork,
    /// Where there is a bridge.
    pub(crate) scope: Option<TableScope<'a>>,
    pub(crate) published: Vec<(Tenant, Published)>,
    pub(crate) interfaces: Vec<Interface<'a>>,
}

/// One transaction, and none where nothing is missing. True if anything was put back.
pub(crate) fn restore(
    socket: &mut Socket,
    table: &str,
    standing: &Standing<'_>,
    doubt: Doubt,
) -> Result<bool, CommitError> {
    let mut changed = false;
    read_and_write(socket, table, |transaction| {
        let intact = is_intact(transaction, standing)?;
        if !intact {
            if standing.interfaces.is_empty() {
                transaction.renew();
            } else {
                transaction.rewrite(standing.instance, standing.network)?;
            }
        }
        if intact && doubt == Doubt::Everything && !standing.interfaces.is_empty() {
            // Whoever made the table again may have read an older configuration.
            transaction.settle(standing.instance, standing.network, Authority::Replace)?;
        }
        if !intact || doubt == Doubt::Everything {
            put_elements(transaction, standing)?;
        }
        changed = transaction.changes();
        Ok(())
    })?;
    Ok(changed)
}

fn put_elements(transaction: &mut Transaction<'_>, standing: &Standing<'_>) -> Result<(), netlink::Error> {
    if let Some(scope) = standing.scope
        && !has_scope(transaction, scope)?
    {
        add_scope(&mut transaction.batch, scope);
    }
    for (tenant, port) in &standing.published {
        transaction.put(port.key.map(), port.element(tenant))?;
    }
    standing.interfaces.iter().try_for_each(|interface| transaction.let_in(interface))
}

fn has_scope(transaction: &mut Transaction<'_>, scope: TableScope<'_>) -> Result<bool, netlink::Error> {
    let network = scope.subnet.network().octets().to_vec();
    let network6 = scope.subnet6.map(|subnet| subnet.network().octets().to_vec());
    let wanted =
        [(BRIDGES, Some(interface_name(scope.bridge))), (BRIDGE_NETS, Some(network)), (BRIDGE_NETS6, network6)];
    for (set, key) in wanted {
        let Some(key) = key else { continue };
        if !transaction.elements(set)?.contains_key(&key) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether every chain that there is to be has just the rules that it is to have, told by their comments.
fn is_intact(transaction: &mut Transaction<'_>, standing: &Standing<'_>) -> Result<bool, netlink::Error> {
    if !transaction.is_current() {
        return Ok(false);
    }
    let mut wanted = Batch::new("");
    write_rules(&mut wanted);
    if !standing.interfaces.is_empty() {
        Configuration::new(standing.instance, standing.network).write(&mut wanted);
    }
    let combinations: BTreeMap<String, _> = standing
        .interfaces
        .iter()
        .flat_map(|interface| {
            DIRECTIONS.map(|direction| groups::combination(standing.instance, direction, &interface.groups()))
        })
        .map(|chain| (chain.name.clone(), chain))
        .collect();
    combinations.values().for_each(|chain| chain.write(&mut wanted));
    let found = dump::rule_comments(transaction.socket, transaction.table)?;
    let as_wanted = |(chain, comments)| found.get(chain) == Some(comments);
    Ok(wanted.rules().iter().all(as_wanted))
}
