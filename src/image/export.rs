//! `coracle image export`.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use images::{Reference, Store};

use crate::failure::{BAD_INPUT, Explain, Failure, Outcome};

/// Write images into one archive, for a host without a registry
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sudo coracle image export --output bundle.tar nginx busybox
  sudo coracle image export nginx | ssh edge sudo coracle image import -")]
pub(super) struct Arguments {
    /// Images by name.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// The archive; standard output otherwise.
    #[arg(short, long, value_name = "FILE", default_value = "-", hide_default_value = true)]
    output: PathBuf,
    /// `oci`, which keeps every digest, or `docker`, for `docker load` before version 25.
    #[arg(long, value_enum, default_value_t = Format::Oci, hide_possible_values = true)]
    format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Oci,
    Docker,
}

pub(super) fn run(store: &Store, arguments: &Arguments) -> Outcome {
    let references = arguments.images.iter().map(|text| super::reference(text));
    let references: Vec<Reference> = references.collect::<Result<_, _>>()?;
    let format = match arguments.format {
        Format::Oci => images::Format::OciArchive,
        Format::Docker => images::Format::DockerArchive,
    };
    if arguments.output == Path::new("-") {
        if std::io::stdout().is_terminal() {
            return Err(Failure::new("standard output is a terminal, and an archive is no text")
                .exit(BAD_INPUT)
                .next("write to a file: --output FILE"));
        }
        images::export(store, &references, &mut std::io::stdout().lock(), format)
            .doing("exporting to standard output")?;
    } else {
        let mut partial = arguments.output.clone().into_os_string();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let written = write(store, &references, format, &partial);
        if let Err(failure) = written.and_then(|()| {
            std::fs::rename(&partial, &arguments.output).doing(format!("naming {}", arguments.output.display()))
        }) {
            // The failure that is told is the first one; a partial file that cannot be removed is only rubbish.
            std::fs::remove_file(&partial).ok();
            return Err(failure.doing(format!("exporting to {}", arguments.output.display())));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write(store: &Store, references: &[Reference], format: images::Format, path: &Path) -> Result<(), Failure> {
    let mut out = std::io::BufWriter::new(File::create(path).doing(format!("creating {}", path.display()))?);
    images::export(store, references, &mut out, format)?;
    out.flush().and_then(|()| out.get_ref().sync_all()).doing(format!("writing {}", path.display()))
}
