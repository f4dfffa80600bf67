//! Where a task goes: a cluster's container instances with what is free on them, the task's demand, its constraints and
//! strategies, and where nothing fits, why not on each.
//!
//! Pure. `Fleet` is kept up with every change instead of being made for every placement; a copy of it is cheap.

pub mod demand;
pub mod fleet;
mod member;
pub mod place;
mod pool;
pub mod query;
mod tree;

pub use demand::{Demand, Wanted};
pub use fleet::{Claim, Fleet, Instance, InstanceStatus};
pub use place::{BadConstraint, BadStrategy, Constraints, Lack, Placement, Strategy, Unplaceable, place};
pub use query::{Query, QueryError};

/// A persistent ordered map: copies share what they have in common, and the order of a walk never depends on chance.
pub type Map<Key, Value> = rpds::RedBlackTreeMapSync<Key, Value>;
