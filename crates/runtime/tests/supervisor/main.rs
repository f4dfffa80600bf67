//! The supervisor's side of this crate, tested from outside as root: real processes, real cgroups, real sockets.

mod ctl;
mod exec;
mod host;
mod logs;
mod recovery;
mod runs;
mod services;
