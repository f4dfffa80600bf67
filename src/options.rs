//! The options that every command takes, and what they say about this host.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Where images, tasks and their logs are kept.
    #[arg(
        long,
        env = "CORACLE_DATA_DIR",
        default_value = "/var/lib/coracle",
        value_name = "DIR",
        global = true,
        hide_env_values = true
    )]
    pub(crate) data_dir: PathBuf,

    /// Where sockets and bundles of running tasks are kept; may be lost at a reboot.
    #[arg(
        long,
        env = "CORACLE_RUN_DIR",
        default_value = "/run/coracle",
        value_name = "DIR",
        global = true,
        hide_env_values = true
    )]
    pub(crate) run_dir: PathBuf,

    /// Name of the cgroup that holds every task.
    #[arg(
        long,
        env = "CORACLE_CGROUP_PARENT",
        default_value = "coracle",
        value_name = "NAME",
        global = true,
        hide_env_values = true
    )]
    pub(crate) cgroup_parent: String,

    /// Say more on standard error: once for what is done, twice for details.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
}

/// How a command prints its answer.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Output {
    /// How to print the answer.
    #[arg(long = "output", value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub(crate) format: Format,
}

impl Output {
    pub(crate) fn is_json(self) -> bool {
        self.format == Format::Json
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}
