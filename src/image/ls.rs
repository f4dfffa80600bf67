//! `coracle image ls`.

use std::process::ExitCode;

use clap::Args;
use images::{Image, Store};
use serde_json::Value;

use crate::failure::{Explain, Outcome};
use crate::options::Output;
use crate::output;

/// Digits of a digest that a table shows.
const SHORT_DIGEST: usize = 12;

/// List the images of this host
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  sudo coracle image ls --output json")]
pub(super) struct Arguments {
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(store: &Store, arguments: &Arguments) -> Outcome {
    let images = store.list().doing("listing the images")?;
    if arguments.output.is_json() {
        output::print_json(&images.iter().map(super::summary).collect::<Vec<Value>>())?;
    } else {
        let rows = images.iter().map(row).collect();
        output::print(&output::table(&["IMAGE", "TAG", "DIGEST", "PLATFORM", "CREATED", "SIZE"], rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(image: &Image) -> Vec<String> {
    let reference = &image.reference;
    // The image's own words: an image may say anything of itself.
    let created = image.created.as_deref().unwrap_or_default();
    let platform = format!("{}/{}", image.config.os, image.config.architecture);
    vec![
        format!("{}/{}", reference.host(), reference.repository()),
        reference.tag().unwrap_or("-").to_owned(),
        image.digest.hex().chars().take(SHORT_DIGEST).collect(),
        output::printable(&platform),
        output::printable(created.split('T').next().unwrap_or_default()),
        output::bytes(image.size_bytes),
    ]
}
