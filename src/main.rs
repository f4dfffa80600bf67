//! The `coracle` binary: arguments and wiring, nothing else. One file a command.

mod agent;
mod api_client;
mod backup;
mod clock;
mod cluster;
mod completions;
mod copy;
mod credentials;
mod definition;
mod doctor;
mod events;
mod exec;
mod explain;
mod failure;
mod hello;
mod host_services;
mod image;
mod inspect;
mod lint;
mod log_shipper;
mod logs;
mod network;
mod options;
mod output;
mod port_forward;
mod progress;
mod ps;
mod recovery;
mod rm;
mod run;
mod secret;
mod serve;
mod show;
mod stats;
mod status;
mod stop;
mod target;
mod task_supervisor;
mod time_text;
mod top;
mod volume;

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use failure::Outcome;
use options::Options;

/// Runs Amazon ECS task definitions on Linux hosts that you own: no Docker, no daemon, no cloud
#[derive(Parser, Debug)]
#[command(
    name = "coracle",
    version,
    arg_required_else_help = true,
    after_help = "Example:\n  sudo coracle run examples/hello.json\n\nSee `coracle COMMAND --help` for an example of each command."
)]
struct CommandLine {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Run(run::Arguments),
    Ps(ps::Arguments),
    Logs(logs::Arguments),
    Stop(stop::Arguments),
    Exec(exec::Arguments),
    Cp(copy::Arguments),
    Stats(stats::Arguments),
    Top(top::Arguments),
    PortForward(port_forward::Arguments),
    Inspect(inspect::Arguments),
    Rm(rm::Arguments),
    Image(image::Arguments),
    Volume(volume::Arguments),
    Network(network::Arguments),
    Secret(secret::Arguments),
    Serve(serve::Arguments),
    Status(status::Arguments),
    Events(events::Arguments),
    Explain(explain::Arguments),
    Agent(agent::Arguments),
    Credentials(credentials::Arguments),
    Backup(backup::BackupArguments),
    Restore(backup::RestoreArguments),
    Lint(lint::Arguments),
    Doctor(doctor::Arguments),
    Completions(completions::Arguments),
    Man(completions::ManArguments),
    #[command(hide = true)]
    Hello(hello::Arguments),
}

fn main() -> ExitCode {
    if let Some(code) = runtime::init::run_if_asked().or_else(task_supervisor::run_if_asked) {
        return code;
    }
    if let Some(code) = log_shipper::run_if_asked().or_else(host_services::run_if_asked) {
        return code;
    }
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) if error.kind() == ErrorKind::MissingSubcommand => return missing_command(),
        Err(error) => without_set_options(exec::hint(error)).exit(),
    };
    start_log(line.options.verbose);
    match dispatch(&line) {
        Ok(code) => code,
        Err(failure) => {
            eprint!("{failure}");
            ExitCode::from(failure.exit)
        }
    }
}

/// The help of what was called. clap shows it by itself, but not where a variable of the environment is an option.
fn missing_command() -> ExitCode {
    let asked = std::env::args_os().chain(["--help".into()]);
    if let Err(help) = CommandLine::try_parse_from(asked) {
        eprint!("{}", help.render());
    }
    ExitCode::from(failure::BAD_INPUT)
}

/// clap takes an option that a variable of the environment has set for one that must be given, and its words on usage
/// name it.
fn without_set_options(mut error: clap::Error) -> clap::Error {
    let usage = match error.get(ContextKind::Usage) {
        Some(ContextValue::StyledStr(usage)) => usage.to_string(),
        _ => return error,
    };
    let shorter = options::USAGES.iter().fold(usage.clone(), |usage, option| usage.replace(option, ""));
    if shorter != usage {
        error.insert(ContextKind::Usage, ContextValue::StyledStr(shorter.into()));
    }
    error
}

fn dispatch(line: &CommandLine) -> Outcome {
    let options = &line.options;
    match &line.command {
        Command::Run(arguments) => run::run(options, arguments),
        Command::Ps(arguments) => ps::run(options, arguments),
        Command::Logs(arguments) => logs::run(options, arguments),
        Command::Stop(arguments) => stop::run(options, arguments),
        Command::Exec(arguments) => exec::run(options, arguments),
        Command::Cp(arguments) => copy::run(options, arguments),
        Command::Stats(arguments) => stats::run(options, arguments),
        Command::Top(arguments) => top::run(options, arguments),
        Command::PortForward(arguments) => port_forward::run(options, arguments),
        Command::Inspect(arguments) => inspect::run(options, arguments),
        Command::Rm(arguments) => rm::run(options, arguments),
        Command::Image(arguments) => image::run(options, arguments),
        Command::Volume(arguments) => volume::run(options, arguments),
        Command::Network(arguments) => network::run(options, arguments),
        Command::Secret(arguments) => secret::run(options, arguments),
        Command::Serve(arguments) => serve::run(options, arguments),
        Command::Agent(arguments) => agent::run(options, arguments),
        Command::Status(arguments) => status::run(options, arguments),
        Command::Events(arguments) => events::run(options, arguments),
        Command::Explain(arguments) => explain::run(options, arguments),
        Command::Credentials(arguments) => credentials::run(options, arguments),
        Command::Backup(arguments) => backup::backup(options, arguments),
        Command::Restore(arguments) => backup::restore(options, arguments),
        Command::Lint(arguments) => lint::run(arguments),
        Command::Doctor(arguments) => doctor::run(options, arguments),
        Command::Completions(arguments) => completions::run(arguments, CommandLine::command()),
        Command::Man(arguments) => completions::man(arguments, CommandLine::command()),
        Command::Hello(arguments) => hello::run(arguments),
    }
}

/// `CORACLE_LOG` wins over `-v`: a level, or levels of modules as in `info,network=debug`.
fn start_log(verbose: u8) {
    let colours = output::colours(&std::io::stderr());
    let subscriber = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(colours).with_target(false);
    let given = std::env::var("CORACLE_LOG").ok().map(|filter| filter.parse::<Targets>());
    if let Some(Ok(targets)) = given {
        return subscriber.with_max_level(tracing::Level::TRACE).finish().with(targets).init();
    }
    let level = match verbose {
        0 => tracing::Level::WARN,
        1 => tracing::Level::INFO,
        2.. => tracing::Level::DEBUG,
    };
    subscriber.with_max_level(level).init();
    if let Some(Err(error)) = given {
        tracing::warn!(%error, "CORACLE_LOG is no filter and is passed over");
    }
}
