//! `coracle run`: a task definition becomes a running task, and this terminal stays with it.

mod attached;
mod console;
mod detached;
mod network;
mod report;
mod signals;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use agent::compose::Identity;
use agent::driver::{self, Images, StartError, Started};
use agent::interface::InterfaceError;
use agent::recovery::Network;
use agent::wanted_images::{self, ImageError};
use agent::{Host, Plan, compose, dice, ending};
use clap::{Args, ValueEnum};
use ecs::task_definition::TaskDefinition;
use ecs::{environment_file, overrides};

use crate::failure::{BAD_INPUT, Explain, FAILED, Failure, Outcome};
use crate::options::{Options, Output, require_root};
use crate::{clock, definition, progress, recovery};
use report::Report;

/// Run a task definition and stay with it until it ends
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  sudo coracle run web.json
  aws ecs describe-task-definition --task-definition web | sudo coracle run -
  sudo coracle run --detach --name front --env worker:QUEUE=jobs web.json

Ctrl-C stops the task as StopTask does; a second Ctrl-C kills it. A terminal that goes away leaves the task running.
A container with `interactive` reads what this command reads; with `pseudoTerminal` too it has this terminal, and Ctrl-C \
is the container's: Ctrl-P Ctrl-Q takes the terminal back.

The exit code is that of the essential container that ended the task; 125 if the task could not be started, 126 or 127 if its command could not be executed or was not found, 2 if the task definition has errors.")]
pub(crate) struct Arguments {
    /// A task definition as JSON (RegisterTaskDefinition's input or DescribeTaskDefinition's answer); - is standard input.
    file: PathBuf,
    /// RunTask's overrides: a file, or JSON in braces.
    #[arg(long = "override", value_name = "FILE|JSON")]
    overrides: Option<String>,
    /// An environment variable of every container, or of one; may be given more than once.
    #[arg(short, long, value_name = "[CONTAINER:]NAME=VALUE")]
    env: Vec<String>,
    /// Variables of every container, one NAME=VALUE a line; --env wins over them.
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// A name for the task, of which one may run at a time.
    #[arg(long)]
    name: Option<String>,
    /// Forget the task and its logs at its end; off for --detach, on otherwise.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "true|false", hide_possible_values = true)]
    rm: Option<bool>,
    /// Print the task's id, wait until it has started, and leave it running.
    #[arg(short, long)]
    detach: bool,
    /// When to ask a registry: for `missing` images, `always`, or `never`.
    #[arg(long, value_enum, default_value_t = Pull::Missing, value_name = "WHEN", hide_possible_values = true)]
    pull: Pull,
    #[command(flatten)]
    network: network::NetworkArguments,
    /// Print where the time of the start went.
    #[arg(long)]
    timings: bool,
    #[command(flatten)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Pull {
    /// Those that are not on this host.
    Missing,
    /// Every image again; a digest that is there is not fetched.
    Always,
    /// No image: what is not on this host is an error.
    Never,
}

impl From<Pull> for wanted_images::Pull {
    fn from(pull: Pull) -> Self {
        match pull {
            Pull::Missing => wanted_images::Pull::Missing,
            Pull::Always => wanted_images::Pull::Always,
            Pull::Never => wanted_images::Pull::Never,
        }
    }
}

pub(crate) fn run(options: &Options, arguments: &Arguments) -> Outcome {
    let mut report = Report::new(arguments.output.is_json());
    let ended = prepare_and_run(options, arguments, &mut report).map_err(|failure| match failure.exit {
        FAILED => failure.exit(u8::try_from(ending::FAILED_TO_START).unwrap_or(FAILED)),
        _ => failure,
    });
    match ended {
        Ok(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))),
        Err(failure) if arguments.output.is_json() => {
            report.failure(&failure);
            Ok(ExitCode::from(failure.exit))
        }
        Err(failure) => Err(failure),
    }
}

fn prepare_and_run(options: &Options, arguments: &Arguments, report: &mut Report) -> Result<i32, Failure> {
    if arguments.detach && arguments.rm == Some(true) {
        return Err(Failure::new("--rm and --detach: nobody would be there to remove the task at its end")
            .exit(BAD_INPUT)
            .next("leave --rm out, and later: coracle rm TASK"));
    }
    require_root("run")?;
    let plan = plan(arguments, report)?;
    let mut host = recovery::host(options)?;
    if let Some(addresses) = arguments.network.publish_addresses(plan.network_mode())? {
        host.network.publish_addresses = addresses;
    }
    recovery::recover(&host, Network::IfCutShort);
    let started = start(&host, &plan, arguments)?;
    report.started(&started);
    if arguments.detach {
        signals::let_through()?;
        return detached::until_started(&host, &started, report);
    }
    attached::stay(
        &host,
        &started,
        report,
        attached::AtEnd { forget: arguments.rm.unwrap_or(true), timings: arguments.timings },
    )
}

/// What the file says, with what lint says of it told, and with the command line's changes.
fn plan(arguments: &Arguments, report: &mut Report) -> Result<Plan, Failure> {
    let document = definition::load(&arguments.file)?;
    let checked = definition::check(&document)?;
    report.findings(&checked.findings);
    let Some(mut definition) = checked.definition else {
        return Err(Failure::new(format!("{} has errors, so nothing was started", definition::shown(&arguments.file)))
            .exit(BAD_INPUT)
            .next("correct what is listed above; `coracle lint` lists it again"));
    };
    if let Some(given) = &arguments.overrides {
        apply_overrides(&mut definition, given, report)?;
    }
    for file in &arguments.env_file {
        add_file(&mut definition, file)
            .doing(format!("--env-file {}", file.display()))
            .map_err(|failure| failure.exit(BAD_INPUT))?;
    }
    for variable in &arguments.env {
        let (container, name, value) = variable_of(variable, &definition)?;
        overrides::add_environment(&mut definition, container, name, value)
            .doing(format!("--env {variable:?}"))
            .map_err(|failure| failure.exit(BAD_INPUT))?;
    }
    let name = arguments.name.as_deref().map(task_name).transpose()?;
    let region = std::env::var("AWS_REGION").ok().filter(|region| !region.is_empty());
    let region = region.unwrap_or_else(|| compose::REGION.to_owned());
    let launch_type = arguments.network.launch_type(&definition)?;
    let interface = arguments.network.configuration(definition.effective_network_mode())?;
    let id = dice::task_id().doing("the task cannot be given an id")?;
    let task = Identity::of_nobody(id, &definition, clock::now());
    Ok(Plan { task, definition, name, region, launch_type, interface })
}

fn apply_overrides(definition: &mut TaskDefinition, given: &str, report: &mut Report) -> Result<(), Failure> {
    let bad = |failure: Failure| failure.doing("--override").exit(BAD_INPUT);
    let bytes = if given.trim_start().starts_with('{') {
        given.as_bytes().to_vec()
    } else {
        let next = "the path of a file, or JSON: --override '{\"containerOverrides\": […]}'";
        std::fs::read(Path::new(given)).doing(format!("reading {given}")).next(next).map_err(bad)?
    };
    let written = overrides::read(&bytes).map_err(|error| bad(error.into()))?;
    let checked = overrides::check(&written, definition);
    report.findings(&checked.findings);
    let Some(overrides) = checked.overrides else {
        return Err(Failure::new("the overrides have errors, so nothing was started").exit(BAD_INPUT));
    };
    overrides::apply(definition, &overrides).map_err(|error| bad(error.into()))
}

/// Larger than all that a program can be given: execve(2).
const MAX_ENV_FILE_BYTES: u64 = 1 << 20;

/// The lines of an environment file, as `environmentFiles` has them.
fn add_file(definition: &mut TaskDefinition, file: &Path) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(MAX_ENV_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_ENV_FILE_BYTES {
        return Err(Failure::new(format!("it is larger than {MAX_ENV_FILE_BYTES} bytes")));
    }
    for variable in environment_file::parse(&bytes)? {
        overrides::add_environment(definition, None, &variable.name, &variable.value)?;
    }
    Ok(())
}

/// `NAME=VALUE` is for every container; `CONTAINER:NAME=VALUE` for one, if there is one of that name.
fn variable_of<'a>(text: &'a str, definition: &TaskDefinition) -> Result<(Option<&'a str>, &'a str, &'a str), Failure> {
    let Some((name, value)) = text.split_once('=') else {
        return Err(Failure::new(format!("--env {text:?} has no value"))
            .exit(BAD_INPUT)
            .next("--env NAME=VALUE or --env CONTAINER:NAME=VALUE"));
    };
    match name.split_once(':') {
        Some((container, variable)) => {
            let known = definition.container_definitions.iter().any(|known| known.name.as_str() == container);
            if known {
                return Ok((Some(container), variable, value));
            }
            let names: Vec<&str> = definition.container_definitions.iter().map(|known| known.name.as_str()).collect();
            Err(Failure::new(format!("--env {text:?}: there is no container {container:?}"))
                .exit(BAD_INPUT)
                .next(format!("one of {}", names.join(", "))))
        }
        None => Ok((None, name, value)),
    }
}

/// The longest name of a task; the rules are those of a container's name.
const MAX_NAME: usize = 255;

fn task_name(given: &str) -> Result<String, Failure> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let starts_well = given.starts_with(|first: char| first.is_ascii_alphanumeric());
    if starts_well && given.len() <= MAX_NAME && given.bytes().all(allowed) {
        return Ok(given.to_owned());
    }
    Err(Failure::new(format!("--name {given:?} is no name of a task"))
        .exit(BAD_INPUT)
        .next(format!("1 to {MAX_NAME} letters, digits, '-', '_' and '.', the first a letter or digit")))
}

fn start(host: &Host, plan: &Plan, arguments: &Arguments) -> Result<Started, Failure> {
    let progress = progress::for_standard_error(arguments.output.is_json());
    let pull = arguments.pull.into();
    let images = wanted_images::Wanted::of(host, plan, pull, Arc::default(), progress);
    let images = images.map_err(|error| Failure::from(error).exit(BAD_INPUT))?;
    let failed = |error| with_advice(error).doing(format!("task {} could not be started", plan.definition.family));
    let gathered = driver::gather(host, plan, clock::now()).map_err(failed)?;
    signals::hold_back()?;
    let pull = || {
        // Held back again when the images are there. That the mask cannot be changed has been told by then.
        signals::let_through().ok();
        let pulled = images.pull();
        signals::hold_back().ok();
        pulled
    };
    driver::start(host, plan, gathered, Images { find: || images.find(), pull }, clock::now, || true).map_err(failed)
}

/// What helps, where the causes alone do not say it.
fn with_advice(error: StartError<ImageError>) -> Failure {
    let next = match &error {
        StartError::NameTaken { name, .. } => Some(format!("coracle stop {name}, or another --name")),
        StartError::Images(ImageError::Missing { image }) => {
            let reference = &image.reference;
            Some(format!("coracle image pull {reference}, or coracle image import FILE"))
        }
        StartError::Images(ImageError::Pull { .. }) => {
            Some("check the image's name, or bring the image as a file: coracle image import FILE".to_owned())
        }
        StartError::Network(::network::Error::PortTaken { .. }) => {
            Some("another hostPort, or 0 for any that is free".to_owned())
        }
        StartError::Network(::network::Error::Refused(_)) => None,
        StartError::Interface(InterfaceError::NoPublicAddresses { .. }) => Some(
            "public addresses for the subnet: coracle network subnet create --help, or coracle network apply"
                .to_owned(),
        ),
        StartError::Interface(_) => Some("coracle network ls: it lists subnets and security groups".to_owned()),
        StartError::Network(_) | StartError::Spawn(_) | StartError::Handover(_) => {
            Some("coracle doctor: it says what this host lacks, with the cure".to_owned())
        }
        StartError::Images(
            ImageError::Name { .. }
            | ImageError::Open { .. }
            | ImageError::Store { .. }
            | ImageError::Login { .. }
            | ImageError::Runtime { .. },
        )
        | StartError::VpcNetwork(_)
        | StartError::Environment(_)
        | StartError::Volumes(_)
        | StartError::Gpu(_)
        | StartError::Firelens(_)
        | StartError::RouterFile { .. }
        | StartError::Shipping(_)
        | StartError::Directory(_)
        | StartError::Dice(_)
        | StartError::Size(_)
        | StartError::Unwanted => None,
    };
    let failure = Failure::from(error);
    match next {
        Some(next) => failure.next(next),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition() -> TaskDefinition {
        serde_json::from_value(serde_json::json!({
            "family": "shop",
            "containerDefinitions": [{"name": "web", "image": "x"}, {"name": "worker", "image": "x"}]
        }))
        .expect("a task definition")
    }

    #[test]
    fn a_variable_is_for_all_or_for_one() {
        let definition = definition();
        let read = |text: &'static str| variable_of(text, &definition).map_err(|failure| failure.to_string());
        assert_eq!(read("A=1"), Ok((None, "A", "1")));
        assert_eq!(read("web:A=b:c=d"), Ok((Some("web"), "A", "b:c=d")));
        assert_eq!(read("A="), Ok((None, "A", "")));
        assert!(read("A").is_err());
        assert!(read("nobody:A=1").expect_err("no such container").contains("web, worker"));
    }

    #[test]
    fn a_name_is_one_word() {
        assert!(task_name("front-2.a_b").is_ok());
        for bad in ["", "-x", "a b", "../x", "a/b", &"x".repeat(256)] {
            assert!(task_name(bad).is_err(), "{bad}");
        }
    }
}
