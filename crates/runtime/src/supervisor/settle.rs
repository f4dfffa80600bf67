//! What a supervisor does to its own process before it makes anything: nobody's child, deaf to terminals, father of
//! its containers' orphans, hard to kill for memory. Mounts are not its matter: each launcher has a namespace for its own.

use std::io;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::{Mode, umask};

/// Just above the kernel's "never": the last to go.
const OOM_SCORE_ADJ: i32 = -999;

#[derive(Debug, thiserror::Error)]
#[error("the supervisor cannot {what}")]
pub(crate) struct SettleError {
    what: &'static str,
    #[source]
    cause: io::Error,
}

fn failed<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> SettleError {
    move |cause| SettleError { what, cause: cause.into() }
}

/// Returns what did not succeed and is not needed, as sentences for the journal.
pub(crate) fn settle() -> Result<Vec<String>, SettleError> {
    let mut notes = Vec::new();
    // Only a group leader may not; then it has no terminal to lose either.
    if let Err(cause) = nix::unistd::setsid() {
        notes.push(format!("no session of its own: {cause}"));
    }
    umask(Mode::from_bits_truncate(0o022));
    nix::sys::prctl::set_child_subreaper(true).map_err(failed("become the reaper of its containers"))?;
    if let Err(cause) = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ.to_string()) {
        notes.push(format!("oom_score_adj stays as it is (needs CAP_SYS_RESOURCE): {cause}"));
    }
    std::env::set_current_dir("/").map_err(failed("leave its working directory"))?;
    Ok(notes)
}

/// Blocks the signals that a supervisor listens to and returns where they are read. SIGHUP is read and ignored:
/// an ignored disposition would be inherited by containers.
pub(crate) fn signals() -> Result<SignalFd, SettleError> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        set.add(signal);
    }
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None).map_err(failed("block signals"))?;
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).map_err(failed("read signals"))
}
