//! How registries are spoken to, and the one place that starts an async runtime: only a pull needs one.

use std::io;
use std::sync::Arc;

use images::{Image, Platform, Progress, PullError, PullOptions, Reference, Store};

/// Hosts that are spoken to without TLS, beside loopback, with commas between them.
pub(crate) const INSECURE_VARIABLE: &str = "CORACLE_INSECURE_REGISTRIES";

pub(crate) fn options(platform: Option<Platform>, insecure: &[String]) -> PullOptions {
    let mut options = PullOptions { platform, ..PullOptions::from_environment() };
    let variable = std::env::var(INSECURE_VARIABLE).unwrap_or_default();
    let named = variable.split(',').map(str::trim).filter(|host| !host.is_empty()).map(str::to_owned);
    options.insecure_hosts.extend(named.chain(insecure.iter().cloned()));
    options
}

/// The layers of the image are fetched side by side. The outer error says that no runtime could be started.
pub(crate) fn pull(
    store: &Store,
    reference: &Reference,
    options: &PullOptions,
    progress: &Arc<dyn Progress>,
) -> io::Result<Result<Image, PullError>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    Ok(runtime.block_on(images::pull(store, reference, options, Arc::clone(progress))))
}
