//! The control plane's shell: the loop that owns its state, the store, HTTP, the sessions of container instances.
//!
//! Everything that is decided is decided in `control-plane`; this crate reads clocks, throws dice, writes things down and
//! talks to the world.

pub mod backup;
pub mod clock;
pub mod control;
pub mod daemon;
pub mod dice;
pub mod events;
pub mod exec;
pub mod files;
pub mod frames;
pub mod http;
pub mod join;
pub mod keys;
pub mod lock;
pub mod metrics;
pub mod notify;
pub mod sessions;
pub mod store;
pub mod tls;
