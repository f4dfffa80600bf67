//! How registries are spoken to. A pull has an async runtime of its own, for nothing else of a start needs one.

use std::io;
use std::sync::Arc;

use images::{Image, Platform, Progress, PullError, PullOptions, Reference, Store};

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
