//! What a host does for its tasks while they run: `coracle host-services`, one process for all tasks of a run directory.
//!
//! It answers on 169.254.170.2 in every task: task metadata, credentials and task protection over HTTP, names over DNS.
//! The sockets are the supervisors', which hand them out (`Command::Serve`) and start this process when somebody calls
//! and nobody is there; so it may die at any moment, and a container never sees more of that than a pause. It also puts
//! the firewall's table back when somebody flushes it.
//!
//! `world` knows the tasks, `origin` says who is calling, `http` and `resolver` answer. `loopback6` stands at `[::1]`.

pub mod caller;
pub mod credentials;
mod directory;
mod firewall;
pub mod http;
pub mod loopback6;
pub mod metadata;
pub mod origin;
pub mod process;
pub mod protection;
mod readiness;
pub mod resolver;
mod sessions;
pub mod world;
