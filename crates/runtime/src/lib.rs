//! One task's containers: the supervisor that runs them, and all that a container is made of on this host.
//!
//! The supervisor has one thread and no async runtime. Only `launch` names libcontainer. Nothing here decides which
//! task runs where, pulls an image or makes a network: it is given all of them.

#![allow(
    unsafe_code,
    reason = "namespaces, seccomp, capabilities and clone3 have no safe interface; each use says why it is sound"
)]

pub mod busybox;
mod capabilities;
pub mod cgroup;
mod cgroup_mounts;
pub mod checks;
pub mod client;
pub mod clock;
pub mod container_root;
mod ctl;
pub mod debug_mounts;
mod devices;
mod enter;
pub mod exec;
mod fork;
pub mod host_services;
pub mod init;
mod inside;
pub mod launch;
pub mod logs;
pub mod memory;
mod mounts;
pub mod namespace_socket;
pub mod namespaces;
mod process;
pub mod process_identity;
pub mod processes;
mod program;
pub mod recover;
mod report;
mod rlimits;
mod rootfs;
pub mod sealed_exe;
mod seccomp;
mod security;
pub mod shipper;
mod socket;
pub mod spawn;
mod spec;
pub mod stats;
pub mod status_file;
mod storage;
pub mod supervisor;
pub mod task_dir;
mod terminal;
mod tmpfs;
mod users;
pub mod volumes;
