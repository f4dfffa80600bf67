//! Host tests: the real program on pretend hosts of this machine's kernel. Root; cgroup version 1 or 2.
//!
//! One executable, so that it can be copied into a virtual machine beside the program and the probe
//! (CORACLE_TEST_BIN, CORACLE_TEST_PROBE). Each file is a theme; `support` is what they stand on.

#[path = "../support/mod.rs"]
mod support;

mod rig;
