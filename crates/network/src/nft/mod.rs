//! nftables by netlink: expressions, transactions, and the one table that coracle keeps on a host.

mod batch;
mod configuration;
mod dump;
mod eni;
mod events;
mod expression;
pub(crate) mod foreign;
mod groups;
#[cfg(test)]
mod groups_tests;
mod interface_rules;
mod overlay;
mod public;
mod restore;
mod rules;
mod services;
mod table;
mod vpc;

pub use batch::CommitError;
pub(crate) use batch::interface_name;
pub(crate) use eni::{Forgotten, Interface, apply, attach_interface, detach_interfaces, prune};
pub(crate) use events::change_of_table;
pub(crate) use expression::{Comparison, Expression, Meta, Register};
pub(crate) use overlay::{OverlayScope, admit_overlay, knows_overlay, remove_overlay};
pub(crate) use restore::{Doubt, Standing, restore};
pub(crate) use services::{
    Redirect, TABLE as SERVICES_TABLE, redirect_services, redirect_services_once, remove_service_redirects,
};
pub(crate) use table::{
    Published, PublishedKey, TableScope, TableState, Tenant, publish, published, remove_table, state_of_table,
    unpublish,
};
