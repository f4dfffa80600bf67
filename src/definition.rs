//! Reading a task definition from a file or standard input, and what lint has to say of it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use agent::recovery::chain;
use ecs::input::{self, Document};
use ecs::lint::{self, CpuArchitecture, Finding, HostFacts, Report, Severity};
use images::{NotAReference, Reference};
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
    let mut report = lint::check(document, &HostFacts { cpu_architecture, privileged_disabled });
    check_images(document, &mut report);
    Ok(report)
}

/// What an image's name may be.
pub(crate) const IMAGE_NAMES: &str = "a name such as nginx, nginx:1.27 or registry.example:5000/team/app@sha256:…";

pub(crate) fn image_name(text: &str) -> Result<Reference, NotAReference> {
    text.parse()
}

/// The grammar of images' names is the store's, which lint's own rules do not know.
fn check_images(document: &Document, report: &mut Report) {
    let containers = document.value.get("containerDefinitions").and_then(Value::as_array);
    for (index, container) in containers.into_iter().flatten().enumerate() {
        let path = format!("containerDefinitions[{index}].image");
        let Some(image) = container.get("image").and_then(Value::as_str) else { continue };
        if report.errors().any(|finding| finding.path == path) {
            continue;
        }
        let Err(error) = image_name(image) else { continue };
        let name = container.get("name").and_then(Value::as_str).unwrap_or("without a name");
        report.definition = None;
        report.findings.push(Finding {
            severity: Severity::Error,
            message: format!("container {name}: {}", chain(&error)),
            hint: Some(IMAGE_NAMES.to_owned()),
            position: document.position(&path),
            path,
        });
    }
    report.findings.sort_by_key(|finding| finding.position);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_image_name_is_an_error_with_its_container_and_path() {
        let text = br#"{"family": "f", "containerDefinitions": [
            {"name": "good", "image": "nginx:1.27", "memory": 64},
            {"name": "web", "image": "Nginx", "memory": 64}]}"#;
        let report = check(&input::read(text).expect("it is JSON")).expect("this processor is known");
        let errors: Vec<&Finding> = report.errors().collect();
        let [error] = errors.as_slice() else { panic!("{errors:?}") };
        assert_eq!(error.path, "containerDefinitions[1].image");
        assert!(error.message.starts_with("container web: ") && error.message.contains("lower-case"), "{error}");
        assert!(report.definition.is_none());
    }
}
