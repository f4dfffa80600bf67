//! The control plane as a value and a function: `step` takes the state and one input and says what is answered and what
//! changes; `reconcile` says what changes by itself, up to a fixed point. Nobody here reads a clock, throws dice or writes
//! anything down: who calls does, applies the changes once they are durable, and then answers.
//!
//! Two runs with the same inputs, times and ids make the same states, so a whole cluster can be simulated from a seed.

pub mod answer;
pub mod assignment;
pub mod change;
pub mod counts;
pub mod demand;
mod draft;
pub mod events;
pub mod explain;
pub mod input;
pub mod names;
pub mod observe;
pub mod page;
mod placing;
pub mod reconcile;
pub mod records;
pub mod settings;
pub mod shown;
pub mod state;
mod stopping;
mod timers;

pub use change::{Change, Changes, Key, Record};
pub use input::{Caller, Ids, Input, Outcome, step};
pub use reconcile::reconcile;
pub use settings::Settings;
pub use state::State;
