//! `coracle doctor`: what this host has and lacks, with the cure.

mod host;

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use crate::failure::{Failure, Outcome};
use crate::options::{Options, Output};
use crate::{output, recovery};

/// Check this host: what it has, what it lacks, and the cure
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  sudo coracle doctor\n  sudo coracle doctor --output json\n\nThe exit code is 1 if something makes `coracle run` impossible."
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    Good,
    /// Tasks run, but somebody should know.
    Warning,
    /// Tasks, or those of one network mode, cannot run or cannot be reached.
    Bad,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Check {
    pub(crate) name: String,
    pub(crate) verdict: Verdict,
    /// What was found.
    pub(crate) found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cure: Option<String>,
}

pub(crate) fn run(options: &Options, arguments: &Arguments) -> Outcome {
    let checks = checks(options)?;
    let possible = !checks.iter().any(|check| check.verdict == Verdict::Bad);
    if arguments.output.is_json() {
        output::print_json(&serde_json::json!({"ready": possible, "checks": checks}))?;
    } else {
        output::print(&text(&checks, possible))?;
    }
    Ok(ExitCode::from(u8::from(!possible)))
}

fn text(checks: &[Check], possible: bool) -> String {
    let mark = |verdict| match verdict {
        Verdict::Good => "ok",
        Verdict::Warning => "warning",
        Verdict::Bad => "MISSING",
    };
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        text.push_str(&format!("{:<8} {:<width$}  {}\n", mark(check.verdict), check.name, check.found));
        if let Some(cure) = &check.cure {
            text.push_str(&format!("{:<8} {:<width$}  cure: {cure}\n", "", ""));
        }
    }
    text.push_str(if possible {
        "\nTasks can run on this host.\n"
    } else {
        "\nNot every task can run on this host yet.\n"
    });
    text
}

fn checks(options: &Options) -> Result<Vec<Check>, Failure> {
    let mut checks = host::checks(options);
    // What the others try needs root, and would only say so again.
    if nix::unistd::geteuid().is_root() {
        let host = recovery::host(options)?;
        checks.extend(runtime::checks::checks().into_iter().map(of_runtime));
        checks.extend(network::checks(&host.network).into_iter().map(of_network));
    }
    Ok(checks)
}

fn of_runtime(check: runtime::checks::Check) -> Check {
    let verdict = match check.outcome {
        runtime::checks::Outcome::Ok => Verdict::Good,
        runtime::checks::Outcome::Warn => Verdict::Warning,
        runtime::checks::Outcome::Fail => Verdict::Bad,
    };
    Check { name: check.name.to_owned(), verdict, found: check.found, cure: check.cure }
}

fn of_network(check: network::Check) -> Check {
    let verdict = match check.outcome {
        network::Outcome::Ok => Verdict::Good,
        network::Outcome::Warn => Verdict::Warning,
        network::Outcome::Fail => Verdict::Bad,
    };
    Check { name: check.name.to_owned(), verdict, found: check.found, cure: check.cure }
}

impl Check {
    fn good(name: &str, found: &str) -> Self {
        Self { name: name.to_owned(), verdict: Verdict::Good, found: found.to_owned(), cure: None }
    }

    fn warning(name: &str, found: &str, cure: &str) -> Self {
        Self { name: name.to_owned(), verdict: Verdict::Warning, found: found.to_owned(), cure: Some(cure.to_owned()) }
    }

    fn bad(name: &str, found: &str, cure: &str) -> Self {
        Self { name: name.to_owned(), verdict: Verdict::Bad, found: found.to_owned(), cure: Some(cure.to_owned()) }
    }
}
