//! `coracle stop`: ends tasks as StopTask does.

mod wait;

use std::process::ExitCode;
use std::time::Duration;

use agent::recovery::Network;
use agent_protocol::TaskStatus;
use clap::Args;
use ecs::task::{LastStatus, StopCode};
use runtime::client::{self, ClientError};
use runtime::task_dir::{self, Task};
use serde_json::json;

use crate::api_client::Api;
use crate::cluster::{self, Described, Scope};
use crate::failure::{Explain, Failure, Outcome};
use crate::options::{Options, require_root};
use crate::target::{self, Known};
use crate::{output, ps, recovery};

/// Amazon's reason of a stop by hand that gave none.
pub(crate) const STOPPED_BY_USER: &str = "Task stopped by user";

/// Between two looks for a last status.
const LAST_STATUS_LOOK: Duration = Duration::from_millis(2);

/// Stop tasks: the stop signal, each container's stopTimeout, then SIGKILL
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  sudo coracle stop web\n  sudo coracle stop --timeout 5 1f2e3d\n  coracle stop --endpoint https://192.0.2.10:4870 --cluster default web\n\nTasks of a cluster are stopped by its daemon, wherever they run. Returns when the tasks have stopped."
)]
pub(crate) struct Arguments {
    /// Ids, starts of ids, ARNs, names or families.
    #[arg(required = true)]
    tasks: Vec<String>,
    /// Seconds until everything left is killed; 0 kills at once. Otherwise each container's stopTimeout decides.
    #[arg(short, long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// What the task says of why it stopped.
    #[arg(long, default_value = STOPPED_BY_USER, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    scope: Scope,
}

pub(crate) fn run(options: &Options, arguments: &Arguments) -> Outcome {
    if arguments.scope.endpoint.endpoint.is_none() {
        require_root("stop")?;
        recovery::recover(&recovery::host(options)?, Network::IfCutShort);
    }
    let mut exit = ExitCode::SUCCESS;
    for wanted in &arguments.tasks {
        let known = target::known(options, &arguments.scope, wanted).doing("no task to stop");
        let stopped = known.and_then(|known| match known {
            Known::Here(task) => stop(&task, arguments).map(|()| task.spec.id.to_string()),
            Known::InCluster { api, described, here } => {
                stop_in_cluster(&api, &described, here.as_deref(), arguments).map(|()| described.id().to_owned())
            }
        });
        match stopped {
            Ok(id) => output::print(&format!("{id}\n"))?,
            Err(failure) => {
                eprint!("{failure}");
                exit = ExitCode::from(failure.exit);
            }
        }
    }
    Ok(exit)
}

/// StopTask, and then what the cluster's events say of the task.
fn stop_in_cluster(
    api: &Api,
    described: &Described,
    here: Option<&Task>,
    arguments: &Arguments,
) -> Result<(), Failure> {
    if described.is_stopped() {
        return Ok(());
    }
    // Followed before the task is stopped, so that nothing is missed.
    let events = api.stream("/events")?;
    let arn = &described.task.task_arn;
    let request = json!({"cluster": described.cluster, "task": arn, "reason": arguments.reason});
    api.call("StopTask", &request)?;
    let now = cluster::describe(api, &described.cluster, std::slice::from_ref(arn))?;
    if now.iter().all(Described::is_stopped) {
        return Ok(());
    }
    let patience = arguments.timeout.map(Duration::from_secs);
    if wait::until_stopped(events, described.id().to_owned(), patience)? {
        return Ok(());
    }
    match here {
        Some(task) => kill_and_wait(task),
        None => Err(Failure::new(format!("task {} has not stopped yet", cluster::short(arn)))
            .next("its host kills it after its stopTimeout; to kill it at once, coracle stop --timeout 0 there")),
    }
}

fn stop(task: &Task, arguments: &Arguments) -> Result<(), Failure> {
    if task.is_stopped() {
        return Ok(());
    }
    if arguments.timeout == Some(0) {
        return kill_and_wait(task);
    }
    ask(task, |client| client.stop(StopCode::UserInitiated, &arguments.reason))?;
    let Some(seconds) = arguments.timeout else { return wait(task) };
    let (ended, end) = std::sync::mpsc::channel();
    let waiting = task.clone();
    std::thread::spawn(move || ended.send(wait(&waiting)));
    match end.recv_timeout(Duration::from_secs(seconds)) {
        Ok(result) => result,
        Err(_) => kill_and_wait(task),
    }
}

pub(crate) fn kill_and_wait(task: &Task) -> Result<(), Failure> {
    ask(task, |client| client.kill(STOPPED_BY_USER))?;
    wait(task)
}

/// One that cannot be asked any more is ending, or has ended.
fn ask(task: &Task, request: impl FnOnce(&mut client::Client) -> Result<(), ClientError>) -> Result<(), Failure> {
    let doing = || format!("asking the supervisor of task {}", ps::short_id(task));
    let mut client = match client::connect(&task.spec.places) {
        Ok(client) => client,
        Err(ClientError::Gone { .. }) => return Ok(()),
        Err(error) => return Err(Failure::from(error).doing(doing())),
    };
    match request(&mut client) {
        Ok(()) | Err(ClientError::Ended) => Ok(()),
        Err(error) => Err(Failure::from(error).doing(doing())),
    }
}

/// Until the task has stopped, and its supervisor has put everything away.
fn wait(task: &Task) -> Result<(), Failure> {
    let watch = match client::connect(&task.spec.places) {
        Ok(client) => client.watch()?,
        Err(ClientError::Gone { .. }) => return wait_for_the_last_status(task),
        Err(error) => return Err(error.into()),
    };
    let mut told = false;
    for status in watch {
        // A connection that broke off tells no more; the supervisor's own file has the last word.
        let Ok(TaskStatus { last_status, containers, .. }) = status else { break };
        let stuck = containers.iter().find_map(|container| Some((&container.name, container.stuck.as_ref()?)));
        if let Some((name, reason)) = stuck.filter(|_| !told) {
            told = true;
            eprintln!("coracle: still waiting for {name}: {}", output::printable(reason));
        }
        if last_status == LastStatus::Stopped {
            return Ok(());
        }
    }
    wait_for_the_last_status(task)
}

/// A supervisor cannot be asked any more while it takes the task's network and files away, before its last word. One
/// that was killed says none: that is left to recovery.
fn wait_for_the_last_status(task: &Task) -> Result<(), Failure> {
    let state = &task.spec.places.state;
    while !task_dir::is_stopped(state) && task_dir::supervised(state).doing("looking for the task's supervisor")? {
        std::thread::sleep(LAST_STATUS_LOOK);
    }
    Ok(())
}
