//! What every command does first: this host as coracle knows it, and what was left behind on it cleaned up.

use agent::Host;
use agent::recovery::{self, Network};

use runtime::task_dir::Roots;

use crate::clock;
use crate::failure::{BAD_INPUT, Explain, Failure};
use crate::options::Options;

pub(crate) fn host(options: &Options) -> Result<Host, Failure> {
    host_of(options.roots()?)
}

/// With directories that may be others than the options'.
pub(crate) fn host_of(roots: Roots) -> Result<Host, Failure> {
    Host::new(roots, |name| std::env::var(name).ok())
        .doing("a setting of the network in the environment is wrong")
        .map_err(|failure| failure.exit(BAD_INPUT))
}

/// Quick where nothing was left; what could not be cleaned is logged and tried again by the next command.
pub(crate) fn recover(host: &Host, network: Network) {
    recovery::recover(host, network, clock::now());
}
