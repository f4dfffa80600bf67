//! `coracle image inspect`.

use std::process::ExitCode;

use clap::Args;
use images::Store;
use serde_json::json;

use crate::failure::{Explain, Outcome};
use crate::output;

/// Show everything about one image as JSON
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  sudo coracle image inspect nginx | jq .config.config.Env")]
pub(super) struct Arguments {
    /// The image by name.
    #[arg(value_name = "IMAGE")]
    image: String,
}

pub(super) fn run(store: &Store, arguments: &Arguments) -> Outcome {
    let inspected = store.inspect(&super::reference(&arguments.image)?).doing("no image to inspect")?;
    let mut value = super::summary(&inspected.image);
    value["layers"] = json!(inspected.image.layer_digests);
    value["layerDirectories"] = json!(inspected.image.layers);
    value["manifest"] = inspected.manifest;
    value["config"] = inspected.config;
    output::print_json(&value)?;
    Ok(ExitCode::SUCCESS)
}
