//! How far the kernel believes this host's clock may be off.

use std::io;

/// adjtimex(2), as a time daemon keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drift {
    /// The largest error there can be, microseconds. It grows until the daemon hears from its servers again.
    pub error_bound_us: u64,
    pub synchronized: bool,
}

/// # Errors
/// The kernel does not tell.
pub fn drift() -> io::Result<Drift> {
    // SAFETY: a timex is integers and arrays of them; zero is a value of each.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills a live structure; no mode is set, so that it changes nothing.
    let answer = unsafe { libc::adjtimex(&raw mut state) };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    let synchronized = answer != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0;
    Ok(Drift { error_bound_us: u64::try_from(state.maxerror).unwrap_or(0), synchronized })
}
