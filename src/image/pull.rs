//! `coracle image pull`.

use std::process::ExitCode;

use agent::registries;
use clap::Args;
use images::{Reference, Store};
use serde_json::Value;

use crate::failure::{Explain, Outcome};
use crate::options::Output;
use crate::{output, progress};

/// Fetch images from registries
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sudo coracle image pull nginx
  sudo coracle image pull --platform linux/arm64 localhost:5000/team/app:1.2

Credentials are those of `docker login` and `podman login`.

A registry on loopback, and one named with --insecure or in CORACLE_INSECURE_REGISTRIES
(host[:port], with commas), is spoken to without TLS.")]
pub(super) struct Arguments {
    /// Images by name, with a tag or digest.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Instead of this host's, such as linux/arm64.
    #[arg(long, value_name = "OS/ARCHITECTURE[/VARIANT]")]
    platform: Option<String>,
    /// A registry that is spoken to without TLS.
    #[arg(long, value_name = "HOST[:PORT]")]
    insecure: Vec<String>,
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(store: &Store, arguments: &Arguments) -> Outcome {
    let references = arguments.images.iter().map(|text| super::reference(text));
    let references: Vec<Reference> = references.collect::<Result<_, _>>()?;
    let options = registries::options(super::platform(arguments.platform.as_deref())?, &arguments.insecure);
    let progress = progress::for_standard_error(arguments.output.is_json());
    let mut images: Vec<Value> = Vec::new();
    for reference in &references {
        let pulled = registries::pull(store, reference, &options, &progress).doing("a pull cannot be started")?;
        let image = pulled
            .doing(format!("image {reference} cannot be pulled"))
            .next("check the image's name, or bring the image as a file: coracle image import FILE")?;
        if arguments.output.is_json() {
            images.push(super::summary(&image));
        } else {
            output::print(&format!("{}@{}\n", image.reference, image.digest))?;
        }
    }
    if arguments.output.is_json() {
        output::print_json(&images)?;
    }
    Ok(ExitCode::SUCCESS)
}
