//! `coracle log-shipper`, hidden: the process that sends one task's output to its log services. Like the supervisor it is
//! found by its first argument before anything else of this binary has run.

use std::ffi::OsString;
use std::process::ExitCode;

use runtime::shipper::SUBCOMMAND;
use runtime::spawn::SupervisorArgs;

/// Nothing where the command line is of another command.
pub(crate) fn run_if_asked() -> Option<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    if words.next()? != SUBCOMMAND {
        return None;
    }
    let words: Vec<OsString> = words.collect();
    Some(match SupervisorArgs::from_words(&words) {
        Ok(arguments) => log_shipping::process::run(&arguments),
        Err(_) => {
            eprintln!("coracle: {}", runtime::shipper::ShipperError::NotOurs);
            ExitCode::FAILURE
        }
    })
}
