//! `coracle image rm`.

use std::process::ExitCode;

use agent::{Host, recovery};
use clap::Args;
use images::Store;

use crate::failure::{Explain, Outcome};
use crate::output;

/// Remove images, and the layers that nothing else needs
#[derive(Args, Debug)]
#[command(
    after_help = "Example:\n  sudo coracle image rm nginx:1.26\n\nLayers of running tasks stay until these have stopped."
)]
pub(super) struct Arguments {
    /// Images by name.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

pub(super) fn run(host: &Host, store: &Store, arguments: &Arguments) -> Outcome {
    let mut exit = ExitCode::SUCCESS;
    for text in &arguments.images {
        let reference = super::reference(text)?;
        let removed = store.remove(&reference, || Ok(recovery::layers_in_use(host)?));
        match removed.doing(format!("removing image {reference}")) {
            Ok(freed) => output::print(&format!("{reference}  {} freed\n", output::bytes(freed.bytes)))?,
            Err(failure) => {
                eprint!("{failure}");
                exit = ExitCode::from(failure.exit);
            }
        }
    }
    Ok(exit)
}
