//! `coracle image gc`.

use std::process::ExitCode;

use agent::{Host, recovery};
use clap::Args;
use images::{Digest, Store};
use serde_json::json;

use crate::failure::{Explain, Outcome};
use crate::options::Output;
use crate::output;

/// Remove layers, blobs and unfinished downloads that no image and no task needs
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  sudo coracle image gc")]
pub(super) struct Arguments {
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(host: &Host, store: &Store, arguments: &Arguments) -> Outcome {
    let freed = store.gc(|| Ok(recovery::layers_in_use(host)?)).doing("collecting garbage")?;
    if arguments.output.is_json() {
        let names = |digests: &[Digest]| digests.iter().map(ToString::to_string).collect::<Vec<_>>();
        output::print_json(&json!({
            "layers": names(&freed.layers),
            "blobs": names(&freed.blobs),
            "bytes": freed.bytes,
        }))?;
    } else {
        let (layers, blobs) = (freed.layers.len(), freed.blobs.len());
        output::print(&format!("{} freed: {layers} layers, {blobs} blobs\n", output::bytes(freed.bytes)))?;
    }
    Ok(ExitCode::SUCCESS)
}
