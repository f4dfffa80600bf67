//! Descriptors that tokio has no type for, to be waited for.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use tokio::io::unix::AsyncFd;

/// # Errors
/// What epoll_ctl(2) says.
pub(crate) fn watch<T: AsFd + AsRawFd>(owner: T) -> io::Result<AsyncFd<T>> {
    #[allow(
        deprecated,
        reason = "its successor is unsafe, which this crate never is: what has a descriptor that it lends keeps it open"
    )]
    AsyncFd::new(owner)
}
