//! What every host test stands on: a pretend host of its own, images with the probe in them, a registry that
//! misbehaves on request, and an audit that fails a test which leaves anything behind.
//!
//! Nothing here needs cargo at run time: CORACLE_TEST_BIN and CORACLE_TEST_PROBE name the two programs where the tests
//! run as a copied executable.
#![allow(dead_code, reason = "each test executable uses its own part of this")]
#![allow(unsafe_code, reason = "namespaces, netlink and signals have no safe interface in the standard library")]

pub(crate) mod audit;
pub(crate) mod cgroups;
pub(crate) mod control_plane;
pub(crate) mod definition;
pub(crate) mod fault;
pub(crate) mod host;
pub(crate) mod image;
pub(crate) mod log_services;
pub(crate) mod netlink;
pub(crate) mod netns;
pub(crate) mod process;
pub(crate) mod registry;
pub(crate) mod silent;
pub(crate) mod tar;
pub(crate) mod trace;

use std::path::PathBuf;
use std::time::{Duration, Instant};

pub(crate) use host::Host;
pub(crate) use process::{Finished, Running};

/// How long anything that should be quick may take on a busy machine before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Looks again and again until there is an answer; the test fails when `PATIENCE` is over.
pub(crate) fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_at_most(PATIENCE, what, look)
}

/// As `wait_for`, for what is much work.
pub(crate) fn wait_at_most<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    const BETWEEN_LOOKS: Duration = Duration::from_millis(5);
    let end = Instant::now() + patience;
    loop {
        if let Some(answer) = look() {
            return answer;
        }
        assert!(Instant::now() < end, "waited {patience:?} for {what}");
        std::thread::park_timeout(BETWEEN_LOOKS);
    }
}

/// Where the processor is emulated, as `tests/vm/run` says, all takes ten to twenty times as long: what does much the same at
/// many points does it at some of them there, and says so.
pub(crate) fn is_emulated() -> bool {
    std::env::var_os("CORACLE_TEST_EMULATED").is_some()
}

/// Eight hexadecimal digits that no other test has.
pub(crate) fn unique() -> String {
    let mut bytes = [0u8; 4];
    // SAFETY: fills a local buffer of the size given.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    assert_eq!(got, 4, "the kernel gives four random bytes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The program under test.
pub(crate) fn coracle() -> PathBuf {
    std::env::var_os("CORACLE_TEST_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_coracle")), PathBuf::from)
}

/// The program inside the images: beside the program under test as cargo lays them out.
pub(crate) fn probe() -> PathBuf {
    let path = std::env::var_os("CORACLE_TEST_PROBE")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_coracle")).with_file_name("examples/probe"), PathBuf::from);
    assert!(path.exists(), "{} is missing: `cargo build --example probe` makes it", path.display());
    path
}
