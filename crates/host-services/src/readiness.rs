//! Descriptors that tokio has no type for, to be waited for.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use tokio::io::unix::AsyncFd;

/// What has a descriptor, which it keeps open as long as it lives.
#[derive(Debug)]
pub(crate) struct Watched<T: AsFd>(pub(crate) T);

impl<T: AsFd> AsFd for Watched<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl<T: AsFd> AsRawFd for Watched<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// # Errors
/// What epoll_ctl(2) says.
pub(crate) fn watch<T: AsFd>(owner: T) -> io::Result<AsyncFd<Watched<T>>> {
    #[allow(
        deprecated,
        reason = "its successor is unsafe, which this crate never is: what has a descriptor that it lends keeps it open"
    )]
    AsyncFd::new(Watched(owner))
}
