//! All that is to be said about a task definition before it runs: what is wrong, what has no effect here, what becomes
//! something else. Everything at once, each with its place in the file.
//!
//! First `shape` walks the table in `fields`: types, missing and unknown members, values by themselves. Then the rules
//! that need several members look at what was well formed. Nothing here asks the host; what is to be known about it is
//! an argument.

mod containers;
mod dependencies;
mod linux;
mod place;
mod ports;
mod shape;
mod task;

use std::collections::HashSet;
use std::fmt;

use serde_json::Value;

use crate::fields;
use crate::input::Document;
use crate::json::Position;
use crate::task_definition::TaskDefinition;
use place::Place;
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
        out.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(out, "; {hint}"),
            None => Ok(()),
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
    list: Vec<Finding>,
    /// Of the findings so far. A hostile file makes thousands, and each rule asks.
    paths: HashSet<String>,
}

impl Findings {
    pub(crate) fn add(&mut self, severity: Severity, path: impl Into<String>, message: impl Into<String>) {
        let path = path.into();
        self.paths.insert(path.clone());
        self.list.push(Finding { severity, path, message: message.into(), hint: None, position: None });
    }

    pub(crate) fn error(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.add(Severity::Error, path, message);
    }

    pub(crate) fn note(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.add(Severity::Note, path, message);
    }

    /// Adds what to do to the finding made last.
    pub(crate) fn hint(&mut self, hint: impl Into<String>) {
        if let Some(last) = self.list.last_mut() {
            last.hint = Some(hint.into());
        }
    }

    /// Whether something was said about this very member already.
    pub(crate) fn is_about(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.list.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// The findings with their places, in the order of the file. What is missing is shown where it would be.
    pub(crate) fn in_file_order(self, document: &Document) -> Vec<Finding> {
        let mut findings = self.list;
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
    task::check(&root, host, document.origin, &mut findings);
    containers::check(&root, host, &mut findings);
    dependencies::check(&root, &mut findings);
    ports::check(&root, &mut findings);
    linux::check(&root, &mut findings);
    let definition = if findings.has_errors() { None } else { typed(value, &mut findings) };
    Report { findings: findings.in_file_order(document), definition }
}

/// The last step from JSON to types. The table leaves nothing for it to refuse; should it, that is an error too.
fn typed(value: Value, findings: &mut Findings) -> Option<TaskDefinition> {
    let definition = serde_json::from_value::<TaskDefinition>(value);
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
