//! Reading a task definition from a file or standard input, and what lint has to say of it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use ecs::input::{self, Document};
use ecs::lint::{self, CpuArchitecture, Finding, HostFacts, Report, Severity};
use serde_json::{Value, json};

use crate::failure::{BAD_INPUT, Explain, Failure};
use crate::output;

/// Where a definition comes from; `-` is standard input.
pub(crate) fn load(file: &Path) -> Result<Document, Failure> {
    let bytes = if file == Path::new("-") {
        limited(std::io::stdin().lock()).doing("reading a task definition from standard input")?
    } else {
        let opened = File::open(file).doing(format!("reading the task definition {}", file.display()));
        let opened = opened.next("the path of a file with an ECS task definition as JSON, or - for standard input");
        let opened = opened.map_err(|failure| failure.exit(BAD_INPUT))?;
        limited(opened).doing(format!("reading the task definition {}", file.display()))?
    };
    input::read(&bytes)
        .doing(format!("{} cannot be read as a task definition", shown(file)))
        .map_err(|failure| failure.exit(BAD_INPUT))
}

/// One byte more than is accepted, so that the reader of the bytes can say so.
fn limited(source: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(input::MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

pub(crate) fn shown(file: &Path) -> String {
    if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() }
}

pub(crate) fn check(document: &Document) -> Result<Report, Failure> {
    let cpu_architecture = CpuArchitecture::from_machine(std::env::consts::ARCH).ok_or_else(|| {
        Failure::new(format!(
            "this is a processor of type {}; coracle runs on x86_64 and aarch64",
            std::env::consts::ARCH
        ))
    })?;
    let privileged_disabled =
        std::env::var("ECS_DISABLE_PRIVILEGED").is_ok_and(|value| value == "true" || value == "1");
    Ok(lint::check(document, &HostFacts { cpu_architecture, privileged_disabled }))
}

/// One finding over at most three lines, the path first, so that an eye can run down the left edge.
pub(crate) fn finding_text(finding: &Finding, colours: bool) -> String {
    let severity = finding.severity.to_string();
    let severity = match (colours, finding.severity) {
        (false, _) => severity,
        (true, Severity::Error) => format!("\u{1b}[1;31m{severity}\u{1b}[0m"),
        (true, Severity::NoEffect | Severity::Mapped) => format!("\u{1b}[33m{severity}\u{1b}[0m"),
        (true, Severity::Note) => format!("\u{1b}[36m{severity}\u{1b}[0m"),
    };
    let path = if finding.path.is_empty() { "(whole definition)" } else { &finding.path };
    let mut text = format!("{severity}: {}\n  {}\n", output::printable(path), output::printable(&finding.message));
    if let Some(hint) = &finding.hint {
        text.push_str(&format!("  hint: {}\n", output::printable(hint)));
    }
    text
}

pub(crate) fn finding_json(finding: &Finding) -> Value {
    let severity = match finding.severity {
        Severity::Error => "error",
        Severity::NoEffect => "noEffect",
        Severity::Mapped => "mapped",
        Severity::Note => "note",
    };
    json!({"severity": severity, "path": finding.path, "message": finding.message, "hint": finding.hint})
}
