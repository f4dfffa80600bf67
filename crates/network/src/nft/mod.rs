//! nftables by netlink: expressions, transactions, and the one table that coracle keeps on a host.

mod batch;
mod dump;
mod expression;
mod rules;
mod table;

pub use batch::CommitError;
pub(crate) use dump::{ForwardChain, forward_chains};
pub(crate) use table::{
    Published, PublishedKey, TableScope, TableState, Tenant, publish, published, remove_table, state_of_table,
    unpublish,
};
