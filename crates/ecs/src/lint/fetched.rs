//! Rules about what is fetched before a container starts: environment files, secrets.

use std::collections::HashSet;

use super::Findings;
use super::place::Place;
use crate::environment_file::{MAX_ENVIRONMENT_FILES, Source};

pub(super) fn check(root: &Place<'_>, findings: &mut Findings) {
    for container in root.items("containerDefinitions") {
        environment_files(&container, findings);
        secrets(&container, findings);
    }
}

/// Of a container definition or of a container override.
pub(crate) fn environment_files(container: &Place<'_>, findings: &mut Findings) {
    let files = container.items("environmentFiles");
    if files.len() > MAX_ENVIRONMENT_FILES {
        let message = format!("{} files; a container has at most {MAX_ENVIRONMENT_FILES}", files.len());
        findings.error(container.path_of("environmentFiles"), message);
    }
    for file in files {
        if let Some(Ok(Source::Local(_))) = file.text("value").map(Source::parse) {
            let message = "a file of this host; Amazon ECS itself takes environment files from S3 alone";
            findings.note(file.path_of("value"), message);
        }
    }
}

fn secrets(container: &Place<'_>, findings: &mut Findings) {
    let variables = container.items("environment");
    let variables: HashSet<&str> = variables.iter().filter_map(|variable| variable.text("name")).collect();
    let mut seen = HashSet::new();
    for secret in container.items("secrets") {
        let Some(name) = secret.text("name") else { continue };
        if name.starts_with('/') {
            let message = "becomes a file in the container here; Amazon ECS itself makes variables alone";
            findings.note(secret.path_of("name"), message);
        }
        if !seen.insert(name) {
            let words = format!("Duplicate secret names found: {name}. Each secret name must be unique.");
            findings.client_exception(secret.path_of("name"), words);
        } else if variables.contains(name) {
            let words = format!(
                "The secret name must be unique and not shared with any new or existing environment variables set on \
                 the container, such as '{name}'."
            );
            findings.client_exception(secret.path_of("name"), words);
        }
    }
}
