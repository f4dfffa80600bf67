//! A command in a task of another host: a session of ECS Exec, as the AWS CLI opens one with its plug-in. The control plane
//! carries it to where the task is.

use std::io::{self, IsTerminal, Read, Write};
use std::process::ExitCode;

use agent::ending;
use serde_json::json;
use server::exec::client::{self, End, Session, Typed};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{self, Sender};

use super::Arguments;
use super::terminal::{self, Raw};
use crate::api_client::{Api, read};
use crate::cluster::{self, Described};
use crate::credentials::quoted;
use crate::failure::{BAD_INPUT, Explain, FAILED, Failure, Outcome};

/// What is typed ahead of the connection.
const TYPED: usize = 16;
const CHUNK_BYTES: usize = 1_024;
/// What a terminal takes for the end of its input.
const END_OF_INPUT: u8 = 4;

pub(super) fn run(api: &Api, described: &Described, arguments: &Arguments) -> Outcome {
    let id = cluster::short(&described.task.task_arn);
    let host = cluster::ask_host_of(api, described)?;
    let place = host.map_or_else(|| "another host".to_owned(), |host| format!("host {host}"));
    if let Some(option) = only_here(arguments) {
        return Err(Failure::new(format!("task {id} is on {place}, where ECS Exec has no {option}"))
            .exit(BAD_INPUT)
            .next("the same command there, or without it"));
    }
    let words: Vec<String> = arguments.command.iter().map(|word| quoted(word)).collect();
    let request = json!({
        "cluster": described.cluster,
        "task": described.task.task_arn,
        "container": arguments.container,
        "command": words.join(" "),
        "interactive": true,
    });
    let doing = format!("running {:?} in task {id} on {place}", arguments.command[0]);
    let mut answer = api
        .call("ExecuteCommand", &request)
        .doing(&doing)
        .next("run the task with enableExecuteCommand; or the same command on its host")?;
    let session: ecs::operations::shapes::Session = read("ExecuteCommand", &mut answer, "session")?;
    let end = carry(api, &session, arguments.interactive).doing(&doing)?;
    match (end.exit_code, end.reason.as_str()) {
        (Some(code), _) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))),
        // Whose control plane tells no exit codes.
        (None, "") => Ok(ExitCode::SUCCESS),
        (None, reason) => {
            let code = u8::try_from(ending::code_of_refusal(reason)).unwrap_or(FAILED);
            Err(Failure::new(reason).exit(code).doing(doing))
        }
    }
}

/// What only a task's own host can do.
fn only_here(arguments: &Arguments) -> Option<&'static str> {
    let given = [
        (arguments.user.is_some(), "--user"),
        (arguments.workdir.is_some(), "--workdir"),
        (!arguments.env.is_empty(), "--env"),
        (arguments.debug, "--debug"),
    ];
    given.into_iter().find_map(|(is_given, option)| is_given.then_some(option))
}

fn carry(api: &Api, session: &ecs::operations::shapes::Session, interactive: bool) -> Result<End, Failure> {
    let (url, token) = session
        .stream_url
        .as_deref()
        .zip(session.token_value.as_deref())
        .ok_or_else(|| Failure::new("the answer to ExecuteCommand names no session"))?;
    let path = url.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..])).unwrap_or("/");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let (stream, host) = api.connect().await?;
        let (sender, typed) = mpsc::channel(TYPED);
        let raw = (interactive && io::stdin().is_terminal()).then(Raw::enter).transpose()?;
        let mut changes = signal(SignalKind::window_change())?;
        let sizes = sender.clone();
        tokio::spawn(async move {
            loop {
                if let Some((rows, columns)) = terminal::size()
                    && sizes.send(Typed::Size { rows, columns }).await.is_err()
                {
                    return;
                }
                if changes.recv().await.is_none() {
                    return;
                }
            }
        });
        if interactive {
            // Ends with this process: a read of the terminal cannot be taken back.
            std::thread::spawn(move || feed(&sender));
        }
        let session = Session { host: &host, path, token };
        let ended = client::run(stream, session, typed, |bytes| {
            let mut out = io::stdout().lock();
            out.write_all(bytes).and_then(|()| out.flush())
        });
        let ended = ended.await;
        drop(raw);
        Ok::<End, Failure>(ended?)
    });
    runtime.shutdown_background();
    ended
}

/// What is typed, or piped in, until the session or the input ends.
fn feed(sender: &Sender<Typed>) {
    let mut chunk = [0; CHUNK_BYTES];
    loop {
        let bytes = match io::stdin().read(&mut chunk) {
            Ok(0) => vec![END_OF_INPUT],
            Ok(count) => chunk[..count].to_vec(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let ended = bytes == [END_OF_INPUT] && !io::stdin().is_terminal();
        if sender.blocking_send(Typed::Input(bytes)).is_err() || ended {
            return;
        }
    }
}
