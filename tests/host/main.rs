//! Host tests: the real program on pretend hosts of this machine's kernel. Root; cgroup version 1 or 2.
//!
//! One executable, so that it can be copied into a virtual machine beside the program and the probe
//! (CORACLE_TEST_BIN, CORACLE_TEST_PROBE). Each file is a theme; `support` is what they stand on.

#![allow(unsafe_code, reason = "tests signal processes and set the stage between fork and exec")]

#[path = "../support/mod.rs"]
mod support;

mod attacks;
mod awsvpc;
mod bad_input;
mod cli;
mod confinement;
mod debug_shell;
mod debugging;
mod dns;
mod environment;
mod escapes;
mod firelens;
mod hardening;
mod image;
mod isolation;
mod kill;
mod layers;
mod lifecycle;
mod limits;
mod links;
mod lint;
mod logs;
mod members;
mod memory;
mod metadata;
mod namespaces;
mod network;
mod overlay;
mod resilience;
mod resources;
mod rig;
mod run;
mod secrets;
mod serve;
mod serve_faults;
mod services;
mod shipping;
mod storage;
mod terminal;
mod volumes;
