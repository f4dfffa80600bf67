//! `coracle image …`: the images of this host.

mod export;
mod gc;
mod import;
mod inspect;
mod ls;
mod pull;
mod rm;

use clap::{Args, Subcommand};
use images::{Image, Platform, Reference, Store};
use serde_json::{Value, json};

use crate::failure::{BAD_INPUT, Explain, Failure, Outcome};
use crate::options::{Options, require_root};
use crate::{definition, recovery};

/// Pull, import, export, list and remove images
#[derive(Args, Debug)]
#[command(
    arg_required_else_help = true,
    disable_help_subcommand = true,
    after_help = "Example:\n  sudo coracle image pull docker.io/library/nginx:latest"
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Pull(pull::Arguments),
    Import(import::Arguments),
    Export(export::Arguments),
    Ls(ls::Arguments),
    Inspect(inspect::Arguments),
    Rm(rm::Arguments),
    Gc(gc::Arguments),
}

pub(crate) fn run(options: &Options, arguments: &Arguments) -> Outcome {
    require_root("image")?;
    let host = recovery::host(options)?;
    let store = Store::open(&host.images()).doing(format!("opening the image store in {}", host.images().display()))?;
    match &arguments.command {
        Command::Pull(arguments) => pull::run(&store, arguments),
        Command::Import(arguments) => import::run(&store, arguments),
        Command::Export(arguments) => export::run(&store, arguments),
        Command::Ls(arguments) => ls::run(&store, arguments),
        Command::Inspect(arguments) => inspect::run(&store, arguments),
        Command::Rm(arguments) => rm::run(&host, &store, arguments),
        Command::Gc(arguments) => gc::run(&host, &store, arguments),
    }
}

fn reference(text: &str) -> Result<Reference, Failure> {
    definition::image_name(text).map_err(|error| Failure::from(error).exit(BAD_INPUT).next(definition::IMAGE_NAMES))
}

fn platform(text: Option<&str>) -> Result<Option<Platform>, Failure> {
    text.map(str::parse::<Platform>).transpose().map_err(|error| Failure::from(error).exit(BAD_INPUT))
}

fn summary(image: &Image) -> Value {
    json!({
        "name": image.reference.to_string(),
        "digest": image.digest.to_string(),
        "indexDigest": image.index_digest.map(|digest| digest.to_string()),
        "configDigest": image.config_digest.to_string(),
        "created": image.created,
        "sizeBytes": image.size_bytes,
        "layers": image.layer_digests.len(),
        "platform": format!("{}/{}", image.config.os, image.config.architecture),
    })
}
