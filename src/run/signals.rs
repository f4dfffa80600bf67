//! The signals by which a user ends `coracle run`, and when they are held back.
//!
//! Between the moment when a task can no longer be taken back and the moment when somebody waits for these signals,
//! one that killed this process would leave the task running behind the user's back. So they wait, and then stop it.

use nix::sys::signal::{SigSet, Signal};

use crate::failure::{Explain, Failure};

pub(super) fn of_users() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM].into_iter().collect()
}

/// For this thread and those that it starts from now on.
pub(super) fn hold_back() -> Result<(), Failure> {
    of_users().thread_block().doing("blocking signals")
}

/// Around what may take minutes and can be given up.
pub(super) fn let_through() -> Result<(), Failure> {
    of_users().thread_unblock().doing("unblocking signals")
}
