//! How a command fails: one line that says what, the chain of causes, what to do next, and an exit code.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use serde_json::json;

/// A command did not do what it was asked.
pub(crate) const FAILED: u8 = 1;
/// What was given is wrong: arguments, a task definition with errors.
pub(crate) const BAD_INPUT: u8 = 2;

pub(crate) type Outcome = Result<ExitCode, Failure>;

#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: u8,
    /// The outermost first.
    pub(crate) chain: Vec<String>,
    /// What the reader can do about it.
    pub(crate) next: Option<String>,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { exit: FAILED, chain: vec![message.into()], next: None }
    }

    pub(crate) fn exit(mut self, exit: u8) -> Self {
        self.exit = exit;
        self
    }

    /// The innermost advice stays: it knows best.
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next.get_or_insert(next.into());
        self
    }

    pub(crate) fn doing(mut self, what: impl Into<String>) -> Self {
        self.chain.insert(0, what.into());
        self
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        json!({
            "event": "error",
            "message": self.chain.first(),
            "causes": self.chain.get(1..).unwrap_or_default(),
            "next": self.next,
        })
    }
}

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut chain = vec![error.to_string()];
        let mut cause = error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // An error that already told its cause in its own words would say it twice.
            if chain.last().is_none_or(|outer| !outer.ends_with(&text)) {
                chain.push(text);
            }
            cause = error.source();
        }
        Self { exit: FAILED, chain, next: None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, text) in self.chain.iter().enumerate() {
            let head = if depth == 0 { "coracle: " } else { "  because: " };
            writeln!(out, "{head}{}", text.trim_end().replace('\n', "\n    "))?;
        }
        if let Some(next) = &self.next {
            writeln!(out, "  try: {next}")?;
        }
        Ok(())
    }
}

/// What was being done when something failed, and what to do next.
pub(crate) trait Explain<T> {
    fn doing(self, what: impl Into<String>) -> Result<T, Failure>;
    fn next(self, next: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Into<Failure>> Explain<T> for Result<T, E> {
    fn doing(self, what: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| error.into().doing(what))
    }

    fn next(self, next: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| error.into().next(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("reading /etc/x")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn a_failure_reads_from_the_outside_in() {
        let outer = Outer(std::io::Error::other("disk on fire"));
        let failure: Result<(), Failure> = Err(outer).doing("starting the task").next("another disk");
        assert_eq!(
            failure.expect_err("made above").to_string(),
            "coracle: starting the task\n  because: reading /etc/x\n  because: disk on fire\n  try: another disk\n"
        );
    }
}
