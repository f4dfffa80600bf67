//! `coracle image import`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use images::{ImportOptions, Source, Store};
use serde_json::Value;

use crate::failure::{BAD_INPUT, Explain, Failure, Outcome};
use crate::options::Output;
use crate::{output, progress};

/// Take images from a file: docker save, an OCI layout, or a bare root file system
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  docker save nginx | sudo coracle image import -
  sudo coracle image import nginx.oci.tar
  sudo coracle image import --name tools:1 --cmd /bin/sh --env LANG=C.UTF-8 rootfs.tar.gz

All options but --name and --platform are for a bare root file system, which cannot say them itself.")]
pub(super) struct Arguments {
    /// A tar archive, compressed or not; the folder of an OCI layout; - is standard input.
    file: PathBuf,
    /// Instead of the name in the archive; needed where it has none.
    #[arg(long, value_name = "IMAGE")]
    name: Option<String>,
    /// Instead of this host's, such as linux/arm64.
    #[arg(long, value_name = "OS/ARCHITECTURE[/VARIANT]")]
    platform: Option<String>,
    /// A word of the command; once for each word.
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    cmd: Vec<String>,
    /// A word of the entry point; once for each word.
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    entrypoint: Vec<String>,
    /// An environment variable.
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// The folder that processes start in.
    #[arg(long, value_name = "DIR", default_value = "", hide_default_value = true)]
    workdir: String,
    /// The user that processes run as.
    #[arg(long, value_name = "USER[:GROUP]", default_value = "", hide_default_value = true)]
    user: String,
    /// The signal that asks the container to stop.
    #[arg(long, value_name = "SIGNAL", default_value = "", hide_default_value = true)]
    stop_signal: String,
    /// A port that the image listens on.
    #[arg(long, value_name = "PORT/PROTOCOL")]
    expose: Vec<String>,
    /// A label.
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
    #[command(flatten)]
    output: Output,
}

pub(super) fn run(store: &Store, arguments: &Arguments) -> Outcome {
    let source = if arguments.file == Path::new("-") {
        Source::Reader(Box::new(std::io::stdin().lock()))
    } else {
        Source::Path(&arguments.file)
    };
    let options = import_options(arguments)?;
    let progress = progress::for_standard_error(arguments.output.is_json());
    let images = images::import(store, source, &options, progress.as_ref())
        .map_err(|error| {
            let is_damaged = matches!(error, images::Error::ArchiveRead { .. } | images::Error::Layer { .. });
            let failure = Failure::from(error);
            if is_damaged { failure.next("copy the file again; it is damaged or cut short") } else { failure }
        })
        .doing(format!("{} cannot be imported", crate::definition::shown(&arguments.file)))?;
    if arguments.output.is_json() {
        output::print_json(&images.iter().map(super::summary).collect::<Vec<Value>>())?;
    } else {
        let lines = images.iter().map(|image| format!("{}@{}\n", image.reference, image.digest));
        output::print(&lines.collect::<String>())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn import_options(arguments: &Arguments) -> Result<ImportOptions, Failure> {
    let labels = arguments.label.iter().map(|label| {
        label.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(|| {
            Failure::new(format!("--label {label:?} has no value")).exit(BAD_INPUT).next("--label NAME=VALUE")
        })
    });
    if let Some(variable) = arguments.env.iter().find(|variable| !variable.contains('=')) {
        return Err(Failure::new(format!("--env {variable:?} has no value")).exit(BAD_INPUT).next("--env NAME=VALUE"));
    }
    Ok(ImportOptions {
        name: arguments.name.as_deref().map(super::reference).transpose()?,
        platform: super::platform(arguments.platform.as_deref())?,
        cmd: arguments.cmd.clone(),
        entrypoint: arguments.entrypoint.clone(),
        env: arguments.env.clone(),
        working_dir: arguments.workdir.clone(),
        user: arguments.user.clone(),
        stop_signal: arguments.stop_signal.clone(),
        expose: arguments.expose.clone(),
        labels: labels.collect::<Result<_, _>>()?,
        volumes: Vec::new(),
    })
}
