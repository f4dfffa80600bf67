//! `coracle exec`: a further process in a running container.

mod debug;
mod remote;
mod streams;
pub(crate) mod terminal;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use agent::ending;
use agent_protocol::command::Exec;
use clap::Args;
use clap::error::{ContextKind, ContextValue};
use runtime::client::{self, ClientError};
use runtime::task_dir::Task;

use crate::cluster::Scope;
use crate::failure::{BAD_INPUT, Explain, FAILED, Failure, Outcome};
use crate::options::{Options, require_root};
use crate::target::Reach;
use crate::{ps, target};
use debug::Wanted;
use streams::StreamsError;

/// Run a further process in a running container
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  sudo coracle exec -it web -- sh\n  sudo coracle exec --user 1000 --env DEBUG=1 web sidecar -- id\n  sudo coracle exec --debug web\n  sudo coracle exec --debug web -- ps\n\nWith --debug, a shell and the other tools of busybox are there for this one process, in\n/dev/coracle/bin: the image needs none, and a read-only root stays one. The process is the\ncontainer's root, as confined as the container, and sees its files, processes and network; the\ncontainer sees nothing of the tools.\n\nA task on another host is reached as ECS Exec reaches it: the process always has a terminal, and is the\ncontainer's user in the container's folder.\n\nThe exit code is the process's own."
)]
pub(crate) struct Arguments {
    /// Keep standard input open.
    #[arg(short, long)]
    interactive: bool,
    /// Give the process a terminal.
    #[arg(short, long)]
    tty: bool,
    /// A user's name or id, with a group after a colon; the container's own otherwise.
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// The folder to start in; the container's own otherwise.
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// An environment variable beside the container's own; NAME alone takes the value from here.
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Bring a shell and tools for a container that has none; without a COMMAND, runs the shell.
    #[arg(long)]
    debug: bool,
    /// An image that is here, to take a static busybox from; this host's own otherwise.
    #[arg(long, value_name = "IMAGE", requires = "debug", conflicts_with = "busybox")]
    debug_image: Option<String>,
    /// A static busybox of this host; /bin/busybox or /usr/bin/busybox otherwise.
    #[arg(long, value_name = "FILE", requires = "debug")]
    busybox: Option<PathBuf>,
    #[command(flatten)]
    scope: Scope,
    /// The task's id, the start of its id, its name or its family.
    task: String,
    /// The container; may be left out where only one runs.
    container: Option<String>,
    /// The command, after `--`.
    #[arg(last = true, required_unless_present = "debug", value_name = "COMMAND")]
    command: Vec<String>,
}

/// Adds what clap cannot know to its words about a command line without `--`.
pub(crate) fn hint(mut error: clap::Error) -> clap::Error {
    let is_ours = matches!(error.get(ContextKind::Usage),
        Some(ContextValue::StyledStr(usage)) if usage.to_string().contains("coracle exec"));
    if is_ours && !std::env::args_os().any(|argument| argument == "--") {
        let tip = "put the command after `--`, for example: coracle exec web -- ls -l".to_owned();
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

pub(crate) fn run(options: &Options, arguments: &Arguments) -> Outcome {
    if arguments.scope.endpoint.endpoint.is_none() {
        require_root("exec")?;
    }
    let stdin_is_terminal = std::io::stdin().is_terminal();
    if arguments.tty && arguments.interactive && !stdin_is_terminal {
        return Err(Failure::new("standard input is no terminal")
            .exit(BAD_INPUT)
            .next("leave -t out, or run this in a terminal"));
    }
    let task = match target::reach(options, &arguments.scope, &arguments.task)? {
        Reach::Here(task) => *task,
        Reach::There { api, described } => return remote::run(&api, &described, arguments),
    };
    let wanted = debug::wanted(options, arguments)?;
    let (interactive, doing) = (wanted.interactive, format!("running {:?}", wanted.command[0]));
    let exec = request(&task, arguments, wanted)?;
    let client =
        client::connect(&task.spec.places).doing(format!("asking the supervisor of task {}", ps::short_id(&task)))?;
    let doing = format!("{doing} in container {}", exec.container);
    let code = if exec.terminal {
        let (execution, master) = client.exec_with_terminal(&exec).map_err(refused).doing(&doing)?;
        terminal::attach(execution, master, interactive).doing(&doing)?
    } else {
        streams::carry(client, &exec, interactive)
            .map_err(|error| match error {
                StreamsError::Client(error) => refused(error),
                StreamsError::Pipes(_) => Failure::from(error),
            })
            .doing(&doing)?
    };
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// A command that is not there or cannot be executed gives 127 and 126, as in a shell.
fn refused(error: ClientError) -> Failure {
    let code = match &error {
        ClientError::Refused { reason } => ending::code_of_refusal(reason),
        ClientError::Gone { .. }
        | ClientError::Connect { .. }
        | ClientError::Lost(_)
        | ClientError::Ended
        | ClientError::Unexpected
        | ClientError::Version(_) => ending::FAILED_TO_START,
    };
    Failure::from(error).exit(u8::try_from(code).unwrap_or(FAILED))
}

fn request(task: &Task, arguments: &Arguments, wanted: Wanted) -> Result<Exec, Failure> {
    let mut environment = environment(&arguments.env, |name| std::env::var(name).ok())?;
    if wanted.terminal && !environment.iter().any(|variable| variable.starts_with("TERM=")) {
        let term = std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned());
        environment.push(format!("TERM={term}"));
    }
    let usage = format!("coracle exec {} CONTAINER -- COMMAND", arguments.task);
    Ok(Exec {
        container: target::container(task, arguments.container.as_deref(), &usage).map_err(|failure| {
            // A tool's name in the container's place: with --debug no command is missing then.
            let next = failure.next.as_deref().map(|next| format!("{next}; a COMMAND comes after `--`"));
            if arguments.command.is_empty() { Failure { next, ..failure } } else { failure }
        })?,
        command: wanted.command,
        environment,
        user: arguments.user.clone(),
        working_directory: arguments.workdir.clone(),
        terminal: wanted.terminal,
        terminal_size: if wanted.terminal { terminal::size() } else { None },
        debug: wanted.tools,
    })
}

/// `NAME=VALUE`, or `NAME` with the value that it has here; a name without a value here is left out, as Docker does.
fn environment(given: &[String], here: impl Fn(&str) -> Option<String>) -> Result<Vec<String>, Failure> {
    let mut variables = Vec::new();
    for text in given {
        let name = text.split('=').next().unwrap_or_default();
        if name.is_empty() {
            return Err(Failure::new(format!("--env {text:?} has no name")).exit(BAD_INPUT).next("--env NAME=VALUE"));
        }
        if text.contains('=') {
            variables.push(text.clone());
        } else {
            variables.extend(here(name).map(|value| format!("{name}={value}")));
        }
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_is_taken_as_docker_takes_it() {
        let here = |name: &str| (name == "HOME").then(|| "/root".to_owned());
        let given = ["A=1", "HOME", "NOBODY", "B="].map(str::to_owned);
        assert_eq!(environment(&given, here).expect("all have names"), ["A=1", "HOME=/root", "B="]);
        assert!(environment(&["=x".to_owned()], here).is_err());
    }
}
