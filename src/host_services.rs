//! `coracle host-services`, hidden: the process that answers at 169.254.170.2 for all tasks of a run directory. Like the
//! supervisor it is found by its first argument before anything else of this binary has run.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Mutex;

use agent::Host;
use agent::recovery::chain;
use runtime::host_services::{HostServices, SUBCOMMAND, from_words};
use runtime::task_dir::Roots;

/// Nothing where the command line is of another command.
pub(crate) fn run_if_asked() -> Option<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    if words.next()? != SUBCOMMAND {
        return None;
    }
    let words: Vec<OsString> = words.collect();
    Some(match from_words(&words).map_err(|error| chain(&error)).and_then(serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Its log, once it has one.
            eprintln!("coracle: {error}");
            ExitCode::FAILURE
        }
    })
}

fn serve(roots: Roots) -> Result<(), String> {
    let (process, log) = HostServices::begin(&roots).map_err(|error| chain(&error))?;
    let subscriber = tracing_subscriber::fmt().with_writer(Mutex::new(log)).with_ansi(false).with_target(false);
    subscriber.with_max_level(tracing::Level::INFO).init();
    let host = Host::new(roots, |name| std::env::var(name).ok()).map_err(|error| chain(&error));
    let served = host.and_then(|host| ::host_services::process::run(&host).map_err(|error| chain(&error)));
    // Whatever was, the cgroup is to go.
    let ended = process.end();
    served.and(ended)
}
