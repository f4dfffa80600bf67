//! The options that every command takes, and what they say about this host.

use std::path::{Component, Path, PathBuf};

use clap::{Args, ValueEnum};
use runtime::task_dir::Roots;

use crate::failure::{BAD_INPUT, Explain, Failure};

const EVERY_COMMAND: &str = "Options of every command";

/// The options below as clap shows them in a line of usage.
pub(crate) const USAGES: [&str; 3] = ["--data-dir <DIR> ", "--run-dir <DIR> ", "--cgroup-parent <NAME> "];

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Where images, tasks and their logs are kept.
    #[arg(
        long,
        env = "CORACLE_DATA_DIR",
        default_value = "/var/lib/coracle",
        value_name = "DIR",
        global = true,
        hide_env_values = true,
        help_heading = EVERY_COMMAND
    )]
    pub(crate) data_dir: PathBuf,

    /// Where sockets and bundles of running tasks are kept; may be lost at a reboot.
    #[arg(
        long,
        env = "CORACLE_RUN_DIR",
        default_value = "/run/coracle",
        value_name = "DIR",
        global = true,
        hide_env_values = true,
        help_heading = EVERY_COMMAND
    )]
    pub(crate) run_dir: PathBuf,

    /// Name of the cgroup that holds every task.
    #[arg(
        long,
        env = "CORACLE_CGROUP_PARENT",
        default_value = "coracle",
        value_name = "NAME",
        global = true,
        hide_env_values = true,
        help_heading = EVERY_COMMAND
    )]
    pub(crate) cgroup_parent: String,

    /// Say more on standard error: once for what is done, twice for details.
    #[arg(short, long, action = clap::ArgAction::Count, global = true, help_heading = EVERY_COMMAND)]
    pub(crate) verbose: u8,
}

impl Options {
    pub(crate) fn roots(&self) -> Result<Roots, Failure> {
        let absolute = |path: &Path| std::path::absolute(path).doing(format!("{} is no path", path.display()));
        Ok(Roots {
            data: absolute(&self.data_dir)?,
            run: absolute(&self.run_dir)?,
            cgroup_parent: cgroup_parent(&self.cgroup_parent)?,
        })
    }
}

/// `coracle` or `a/b`, with or without a leading slash, becomes `/coracle` or `/a/b`.
fn cgroup_parent(text: &str) -> Result<PathBuf, Failure> {
    let relative = Path::new(text.trim_start_matches('/'));
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_)))
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:@/".contains(&byte));
    if !plain || relative.as_os_str().is_empty() {
        return Err(Failure::new(format!("{text:?} cannot be the name of a cgroup"))
            .exit(BAD_INPUT)
            .next("a name such as coracle, or a path of names: --cgroup-parent machines/coracle"));
    }
    Ok(Path::new("/").join(relative))
}

/// Said before anything else is tried, because half of what follows would fail one by one.
pub(crate) fn require_root(command: &str) -> Result<(), Failure> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "`coracle {command}` needs root: it makes namespaces, cgroups, mounts and nftables rules of this host"
    ))
    .next(format!("sudo coracle {command} …")))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_parent_stays_below_the_root() {
        for (text, path) in [("coracle", "/coracle"), ("/coracle", "/coracle"), ("a/b", "/a/b")] {
            assert_eq!(cgroup_parent(text).expect(text), PathBuf::from(path));
        }
        for bad in ["", "/", ".", "..", "a/../b", "with\nline", "a b"] {
            assert!(cgroup_parent(bad).is_err(), "{bad}");
        }
    }
}
