//! nftables by netlink: expressions, transactions, and the one table that coracle keeps on a host.

mod batch;
mod configuration;
mod dump;
mod eni;
mod expression;
mod groups;
mod interface_rules;
mod public;
mod rules;
mod services;
mod table;
mod vpc;

pub use batch::CommitError;
pub(crate) use dump::{ForwardChain, forward_chains};
#[allow(unused_imports, reason = "the awsvpc half follows")]
pub(crate) use eni::{Forgotten, Interface, attach_interface, detach_interfaces};
pub(crate) use services::{Redirect, redirect_services, redirect_services_once, remove_service_redirects};
pub(crate) use table::{
    Published, PublishedKey, TableScope, TableState, Tenant, publish, published, remove_table, state_of_table,
    unpublish,
};
