//! nftables by netlink: expressions, transactions, and the one table that coracle keeps on a host.

mod batch;
mod dump;
mod eni;
mod expression;
mod rules;
mod services;
mod table;

pub use batch::CommitError;
#[allow(unused_imports, reason = "the awsvpc half follows")]
pub(crate) use eni::{Forgotten, Interface, attach_interface, detach_interfaces};
pub(crate) use dump::{ForwardChain, forward_chains};
pub(crate) use services::{Redirect, redirect_services, redirect_services_once, remove_service_redirects};
pub(crate) use table::{
    Published, PublishedKey, TableScope, TableState, Tenant, publish, published, remove_table, state_of_table,
    unpublish,
};
