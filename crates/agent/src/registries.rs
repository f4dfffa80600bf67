//! How registries are spoken to. A pull has an async runtime of its own, for nothing else of a start needs one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use images::{Digest, Image, Platform, Progress, PullError, PullOptions, Reference, Store};
use tokio::sync::Notify;

/// Hosts that are spoken to without TLS, beside loopback, with commas between them.
pub const INSECURE_VARIABLE: &str = "CORACLE_INSECURE_REGISTRIES";

/// As this process's environment says.
pub fn options(platform: Option<Platform>, insecure: &[String]) -> PullOptions {
    let mut options = PullOptions { platform, ..PullOptions::from_environment() };
    let variable = std::env::var(INSECURE_VARIABLE).unwrap_or_default();
    let named = variable.split(',').map(str::trim).filter(|host| !host.is_empty()).map(str::to_owned);
    options.insecure_hosts.extend(named.chain(insecure.iter().cloned()));
    options
}

/// The layers of the image are fetched side by side.
///
/// # Errors
/// The outer one says that no runtime could be started.
pub fn pull(
    store: &Store,
    reference: &Reference,
    options: &PullOptions,
    progress: &Arc<dyn Progress>,
) -> io::Result<Result<Image, PullError>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    Ok(runtime.block_on(images::pull(store, reference, options, Arc::clone(progress))))
}

/// As `pull`, unless the registry has not said within `limit` what the image is: nothing then. From there on it may take its
/// time.
///
/// # Errors
/// As `pull`.
pub fn pull_if_answered(
    store: &Store,
    reference: &Reference,
    options: &PullOptions,
    limit: Duration,
) -> io::Result<Option<Result<Image, PullError>>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let answer = Arc::new(Answer::default());
    let pulled = runtime.block_on(async {
        let pulling = images::pull(store, reference, options, Arc::clone(&answer) as Arc<dyn Progress>);
        tokio::pin!(pulling);
        tokio::select! {
            pulled = &mut pulling => return Some(pulled),
            () = answer.came.notified() => {}
            () = tokio::time::sleep(limit) => return None,
        }
        Some(pulling.await)
    });
    // A name that is still being looked up is looked up to its end, by nobody who waits.
    runtime.shutdown_background();
    Ok(pulled)
}

/// Hears of an image's layers: its manifest has come by then.
#[derive(Default)]
struct Answer {
    came: Notify,
}

impl Progress for Answer {
    fn layer(&self, _layer: &Digest, _size: u64) {
        self.came.notify_one();
    }

    fn present(&self, _layer: &Digest) {
        self.came.notify_one();
    }
}
