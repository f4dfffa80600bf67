//! `coracle completions` and `coracle man`: what shells and `man` know of the commands, from the commands themselves.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Command, ValueEnum};
use clap_complete::generate;
use clap_complete::shells::{Bash, Fish, Zsh};
use clap_mangen::Man;

use crate::failure::{Explain, Failure, Outcome};
use crate::output;

const NAME: &str = "coracle";

/// Print what a shell needs to complete coracle's commands and options
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  coracle completions bash | sudo tee /etc/bash_completion.d/coracle
  coracle completions zsh | sudo tee /usr/local/share/zsh/site-functions/_coracle
  coracle completions fish > ~/.config/fish/completions/coracle.fish")]
pub(crate) struct Arguments {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// The crate's own list has further ones, each of which has its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Write manual pages, one a command
#[derive(Args, Debug)]
#[command(after_help = "Example:
  sudo coracle man /usr/local/share/man/man1; man coracle-run")]
pub(crate) struct ManArguments {
    /// The directory, which is made where it is missing.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub(crate) fn run(arguments: &Arguments, mut command: Command) -> Outcome {
    let mut text = Vec::new();
    match arguments.shell {
        Shell::Bash => generate(Bash, &mut command, NAME, &mut text),
        Shell::Zsh => generate(Zsh, &mut command, NAME, &mut text),
        Shell::Fish => generate(Fish, &mut command, NAME, &mut text),
    }
    output::print(&String::from_utf8_lossy(&text))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn man(arguments: &ManArguments, command: Command) -> Outcome {
    let directory = &arguments.directory;
    std::fs::create_dir_all(directory).doing(format!("making {}", directory.display()))?;
    let mut command = command.disable_help_subcommand(true);
    // Gives every command what those above it hand down.
    command.build();
    for (name, page) in pages(&command, NAME)? {
        let path = directory.join(format!("{name}.1"));
        let written = std::fs::write(&path, page);
        written.doing(format!("writing {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The command's own page and those of all below it, as `coracle-image-pull` and its text.
fn pages(command: &Command, name: &str) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let mut page = Vec::new();
    Man::new(command.clone()).render(&mut page).doing(format!("the page of {name}"))?;
    let mut all = vec![(name.to_owned(), page)];
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        all.extend(pages(below, &format!("{name}-{}", below.get_name()))?);
    }
    Ok(all)
}
