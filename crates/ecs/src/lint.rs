//! All that is to be said about a task definition before it runs: what is wrong, what has no effect here, what becomes
//! something else. Everything at once, each with its place in the file.
//!
//! First `shape` walks the table in `fields`: types, missing and unknown members, values by themselves. Then the rules
//! that need several members look at what was well formed. Nothing here asks the host; what is to be known about it is
//! an argument.
//!
//! An error is one of two: Amazon's, which `register` gives as a ClientException too, in Amazon's words where they are
//! known; or this host's, which may run less than Amazon registers. Words are called Amazon's where the service's
//! answers are quoted in public reports; all others are ours.

mod containers;
mod dependencies;
mod fargate;
mod fetched;
mod life;
mod linux;
mod logs;
mod network;
mod place;
mod ports;
mod shape;
mod task;
mod volumes;
mod windows;

use std::collections::HashSet;
use std::fmt;

use serde_json::Value;

use crate::fields;
use crate::input::{Document, Origin};
use crate::json::{self, Position};
use crate::task_definition::TaskDefinition;
pub(crate) use fetched::environment_files;
pub(crate) use linux::resource_requirements;
pub(crate) use place::Place;
pub(crate) use shape::check_shape;

/// What the rules have to know of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostFacts {
    pub cpu_architecture: CpuArchitecture,
    /// As ECS_DISABLE_PRIVILEGED of Amazon's agent.
    pub privileged_disabled: bool,
}

/// Amazon's names of processor architectures: API_RuntimePlatform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuArchitecture {
    X86_64,
    Arm64,
}

impl CpuArchitecture {
    /// From the name that the kernel and Rust use (`uname -m`, `std::env::consts::ARCH`).
    pub fn from_machine(machine: &str) -> Option<Self> {
        match machine {
            "x86_64" => Some(Self::X86_64),
            "aarch64" => Some(Self::Arm64),
            _ => None,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::X86_64 => "X86_64",
            Self::Arm64 => "ARM64",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The definition cannot run as written.
    Error,
    /// Accepted; nothing comes of it here.
    NoEffect,
    /// Becomes something else here.
    Mapped,
    /// Runs as written; worth knowing.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Severity::Error => "error",
            Severity::NoEffect => "no effect",
            Severity::Mapped => "mapped",
            Severity::Note => "note",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    /// `containerDefinitions[0].portMappings[1].hostPort`; empty for the definition as a whole.
    pub path: String,
    pub message: String,
    /// What to do about it, where that is not plain from the message.
    pub hint: Option<String>,
    /// Where in the file: the member itself, or for a missing one the structure it is missing in.
    pub position: Option<Position>,
}

/// `error: containerDefinitions[0].image: missing; …`
impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: ", self.severity)?;
        if !self.path.is_empty() {
            write!(out, "{}: ", self.path)?;
        }
        match &self.hint {
            // Amazon's sentences end with a full stop.
            Some(hint) => write!(out, "{}; {hint}", self.message.trim_end_matches('.')),
            None => out.write_str(&self.message),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// In the order of the file.
    pub findings: Vec<Finding>,
    /// The definition, ready to run: there if and only if no finding is an error.
    pub definition: Option<TaskDefinition>,
}

impl Report {
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Error)
    }

    /// Everything that is not an error.
    pub fn warnings(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity != Severity::Error)
    }
}

/// Findings as they are made.
#[derive(Default)]
pub(crate) struct Findings {
    list: Vec<Found>,
    /// Of the findings so far. A hostile file makes thousands, and each rule asks.
    paths: HashSet<String>,
}

struct Found {
    finding: Finding,
    exception: Exception,
}

/// What RegisterTaskDefinition says about a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    /// Nothing: it is no error, or this host's alone.
    None,
    /// A ClientException in words that are not known; the finding's own serve.
    OurWords,
    /// A ClientException in Amazon's words.
    AmazonsWords(String),
}

impl Findings {
    pub(crate) fn add(&mut self, severity: Severity, path: impl Into<String>, message: impl Into<String>) {
        let exception = if severity == Severity::Error { Exception::OurWords } else { Exception::None };
        self.push(severity, path.into(), message.into(), exception);
    }

    fn push(&mut self, severity: Severity, path: String, message: String, exception: Exception) {
        self.paths.insert(path.clone());
        self.list.push(Found { finding: Finding { severity, path, message, hint: None, position: None }, exception });
    }

    /// An error by Amazon's rules, in our words.
    pub(crate) fn error(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.push(Severity::Error, path.into(), message.into(), Exception::OurWords);
    }

    /// An error by Amazon's rules, in Amazon's words.
    pub(crate) fn client_exception(&mut self, path: impl Into<String>, message: impl Into<String>) {
        let message = message.into();
        self.push(Severity::Error, path.into(), message.clone(), Exception::AmazonsWords(message));
    }

    /// An error of this host alone: Amazon registers it.
    pub(crate) fn refuse(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.push(Severity::Error, path.into(), message.into(), Exception::None);
    }

    /// What Amazon calls the error found last.
    pub(crate) fn amazon_says(&mut self, words: impl Into<String>) {
        if let Some(last) = self.list.last_mut() {
            last.exception = Exception::AmazonsWords(words.into());
        }
    }

    pub(crate) fn note(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.add(Severity::Note, path, message);
    }

    /// Adds what to do to the finding made last.
    pub(crate) fn hint(&mut self, hint: impl Into<String>) {
        if let Some(last) = self.list.last_mut() {
            last.finding.hint = Some(hint.into());
        }
    }

    /// Whether something was said about this very member already.
    pub(crate) fn is_about(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.list.iter().any(|found| found.finding.severity == Severity::Error)
    }

    /// Whether RegisterTaskDefinition would refuse.
    pub(crate) fn has_exceptions(&self) -> bool {
        self.list.iter().any(|found| found.exception != Exception::None)
    }

    /// What RegisterTaskDefinition answers: the message and the place of the first error that is Amazon's.
    pub(crate) fn into_exception(self) -> Option<(String, String)> {
        self.list.into_iter().find_map(|Found { finding, exception }| match exception {
            Exception::None => None,
            Exception::AmazonsWords(words) => Some((words, finding.path)),
            Exception::OurWords => {
                let at = if finding.path.is_empty() { String::new() } else { format!("{}: ", finding.path) };
                let hint = finding.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
                Some((format!("{at}{}{hint}", finding.message), finding.path))
            }
        })
    }

    /// The findings with their places, in the order of the file. What is missing is shown where it would be.
    pub(crate) fn in_file_order(self, document: &Document) -> Vec<Finding> {
        let mut findings: Vec<Finding> = self.list.into_iter().map(|found| found.finding).collect();
        for finding in &mut findings {
            finding.position = document.position(&finding.path);
        }
        findings.sort_by_key(|finding| finding.position);
        findings
    }
}

/// Checks a document against Amazon's rules and against what this host does.
pub fn check(document: &Document, host: &HostFacts) -> Report {
    let mut findings = Findings::default();
    let value = check_shape(&document.value, &fields::TASK_DEFINITION, &mut findings);
    let root = Place::root(&value);
    amazons_rules(&root, document.origin, &mut findings);
    task::check_host(&root, host, &mut findings);
    containers::check_host(&root, host, &mut findings);
    let definition = if findings.has_errors() { None } else { typed(value, &mut findings) };
    Report { findings: findings.in_file_order(document), definition }
}

/// The rules that need several members and no host.
pub(crate) fn amazons_rules(root: &Place<'_>, origin: Origin, findings: &mut Findings) {
    task::check(root, origin, findings);
    containers::check(root, findings);
    dependencies::check(root, findings);
    network::check(root, findings);
    ports::check(root, findings);
    linux::check(root, findings);
    volumes::check(root, findings);
    fetched::check(root, findings);
    life::check(root, findings);
    logs::check(root, findings);
    fargate::check(root, findings);
    windows::check(root, findings);
}

/// The last step from JSON to types. The table leaves nothing for it to refuse; should it, that is an error too.
pub(crate) fn typed(value: Value, findings: &mut Findings) -> Option<TaskDefinition> {
    let definition = json::typed::<TaskDefinition>(&value);
    let mut definition = definition.map_err(|error| findings.error("", error.to_string())).ok()?;
    for container in &mut definition.container_definitions {
        // Amazon's agent takes zero for "not given": `if apiTimeoutStopContainer <= 0` in docker_task_engine.go.
        container.start_timeout = container.start_timeout.filter(|seconds| *seconds > 0);
        container.stop_timeout = container.stop_timeout.filter(|seconds| *seconds > 0);
        if let Some(linux) = &mut container.linux_parameters {
            linux.shared_memory_size = linux.shared_memory_size.filter(|mib| *mib > 0);
        }
    }
    Some(definition)
}
