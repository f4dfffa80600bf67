//! Containers that really start, seen from the host: as root, each in a cgroup of its own, nothing left behind.
//! The same tests run on cgroup v1, hybrid and v2.

#![allow(unsafe_code, reason = "a test prepares what a careless caller would leave behind")]

mod basics;
mod confinement;
mod rig;
