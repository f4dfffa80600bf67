//! nftables by netlink: expressions, transactions, and the one table that coracle keeps on a host.

mod batch;
mod dump;
mod expression;
mod table;

pub use batch::CommitError;
pub(crate) use dump::{BaseChain, base_chains};
pub(crate) use table::{
    Published, PublishedKey, TableScope, Tenant, has_current_table, publish, published, remove_table, unpublish,
};
