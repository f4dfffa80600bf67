//! Which task and which running container a command means: `TASK [CONTAINER]`.

use agent::ending;
use agent_protocol::{ContainerStatus, ProcessIdentity};
use ecs::ContainerName;
use ecs::task::{ContainerLastStatus, LastStatus};
use runtime::task_dir::{self, FindError, Task};

use crate::api_client::Api;
use crate::cluster::{self, Described, Scope};
use crate::failure::{BAD_INPUT, Explain, Failure};
use crate::options::Options;
use crate::ps;

/// A task, by who knows it.
#[derive(Debug)]
pub(crate) enum Known {
    /// Of `coracle run`, or of a cluster whose daemon does not answer.
    Here(Box<Task>),
    /// The cluster's; with what this host has of it, if that is anything.
    InCluster { api: Api, described: Box<Described>, here: Option<Box<Task>> },
}

/// The task that `wanted` means, on this host or in the cluster. Of two, the one that runs.
pub(crate) fn known(options: &Options, scope: &Scope, wanted: &str) -> Result<Known, Failure> {
    let api = match &scope.cluster {
        Some(_) => Some(Api::need(options, &scope.endpoint, "stop")?),
        None => Api::find(options, &scope.endpoint)?,
    };
    let here_too = api.as_ref().is_none_or(Api::is_of_this_host) && scope.cluster.is_none();
    let here = if here_too { task_dir::find(&options.roots()?, wanted) } else { Err(not_found(wanted)) };
    let Some(api) = api else { return Ok(Known::Here(Box::new(here?))) };
    // This host's task is asked for by its id: a name is not known to the cluster.
    let by_id = here.as_ref().ok().map(|task| task.spec.id.to_string());
    let described = match &by_id {
        Some(id) => cluster::find(&api, scope, id)?,
        None => None,
    };
    if let Some(described) = described {
        return Ok(Known::InCluster { api, described: Box::new(described), here: here.ok().map(Box::new) });
    }
    match (here, cluster::find(&api, scope, wanted)?) {
        (Ok(task), None) => Ok(Known::Here(Box::new(task))),
        (Ok(task), Some(described)) if !task.is_stopped() && !described.is_stopped() => Err(Failure::new(format!(
            "{wanted:?} means both task {} of this host and task {} of cluster {}",
            ps::short_id(&task),
            cluster::short(&described.task.task_arn),
            described.cluster
        ))
        .exit(BAD_INPUT)
        .next("the id of one of them")),
        (Ok(task), Some(_)) if !task.is_stopped() => Ok(Known::Here(Box::new(task))),
        (Ok(_) | Err(_), Some(described)) => {
            let here = task_dir::find(&options.roots()?, described.id()).ok().filter(|_| here_too);
            Ok(Known::InCluster { api, described: Box::new(described), here: here.map(Box::new) })
        }
        (Err(error), None) => Err(error.into()),
    }
}

fn not_found(wanted: &str) -> FindError {
    FindError::NotFound { wanted: wanted.to_owned() }
}

/// For commands that need the task on this host: when it is not here, the cluster may know where it is.
fn elsewhere(options: &Options, scope: &Scope, wanted: &str) -> Option<Failure> {
    let api = Api::find(options, &scope.endpoint).ok()??;
    let described = cluster::find(&api, scope, wanted).ok()??;
    let host = cluster::ask_host_of(&api, &described).ok()?;
    Some(out_of_reach(&described, host.as_deref()))
}

/// Why what a task of the cluster has on its host is not here.
fn out_of_reach(described: &Described, host: Option<&str>) -> Failure {
    let (id, status) = (cluster::short(&described.task.task_arn), described.status(crate::clock::now()));
    let Some(host) = host else {
        return Failure::new(format!("task {id} is not on any host yet: {status}"))
            .next(format!("coracle explain {}", described.definition()));
    };
    match described.task.last_status {
        // Of this host it may be as well: there is nothing of it before it has its images.
        LastStatus::Provisioning | LastStatus::Pending | LastStatus::Activating => {
            Failure::new(format!("task {id} has not started yet on host {host}: {status}"))
                .next("the same again in a moment; coracle events -f tells when it runs")
        }
        LastStatus::Running | LastStatus::Deactivating | LastStatus::Stopping | LastStatus::Deprovisioning => {
            Failure::new(format!("task {id} is on host {host}, and not on this one")).next("the same command there")
        }
        LastStatus::Stopped => {
            Failure::new(format!("task {id} was on host {host}, and nothing of it is on this one: {status}"))
                .next(format!("coracle inspect {id}"))
        }
    }
}

/// Where a task is whose containers a command wants to get into.
#[derive(Debug)]
pub(crate) enum Reach {
    Here(Box<Task>),
    There { api: Api, described: Box<Described> },
}

/// The task that `wanted` means, which has not stopped, on this host or on another one of the cluster.
pub(crate) fn reach(options: &Options, scope: &Scope, wanted: &str) -> Result<Reach, Failure> {
    if scope.cluster.is_none() && scope.endpoint.endpoint.is_none() {
        match task_dir::find(&options.roots()?, wanted) {
            // A running task of this host needs no daemon.
            Ok(task) if !task.is_stopped() => return Ok(Reach::Here(Box::new(task))),
            Ok(_) | Err(_) => {}
        }
    }
    match known(options, scope, wanted).doing("no such task")? {
        Known::Here(task) => Ok(Reach::Here(Box::new(not_stopped(*task, wanted)?))),
        Known::InCluster { here: Some(task), .. } => Ok(Reach::Here(Box::new(not_stopped(*task, wanted)?))),
        Known::InCluster { api, described, here: None } if described.task.last_status == LastStatus::Running => {
            Ok(Reach::There { api, described })
        }
        Known::InCluster { api, described, here: None } => {
            Err(out_of_reach(&described, cluster::ask_host_of(&api, &described)?.as_deref()))
        }
    }
}

/// The task that `wanted` means, running or stopped, on this host or on another one of the cluster that has had it.
pub(crate) fn wherever(options: &Options, scope: &Scope, wanted: &str) -> Result<Reach, Failure> {
    if scope.cluster.is_none() && scope.endpoint.endpoint.is_none() {
        match task_dir::find(&options.roots()?, wanted) {
            Err(FindError::NotFound { .. }) => {}
            // A task of this host needs no daemon.
            found => return Ok(Reach::Here(Box::new(found?))),
        }
    }
    match known(options, scope, wanted)? {
        Known::Here(task) | Known::InCluster { here: Some(task), .. } => Ok(Reach::Here(task)),
        Known::InCluster { api, described, here: None } => match described.task.last_status {
            LastStatus::Running
            | LastStatus::Deactivating
            | LastStatus::Stopping
            | LastStatus::Deprovisioning
            | LastStatus::Stopped
                if described.task.container_instance_arn.is_some() =>
            {
                Ok(Reach::There { api, described })
            }
            LastStatus::Provisioning
            | LastStatus::Pending
            | LastStatus::Activating
            | LastStatus::Running
            | LastStatus::Deactivating
            | LastStatus::Stopping
            | LastStatus::Deprovisioning
            | LastStatus::Stopped => Err(out_of_reach(&described, cluster::ask_host_of(&api, &described)?.as_deref())),
        },
    }
}

/// The task that `wanted` means, which has not stopped.
pub(crate) fn running(options: &Options, wanted: &str) -> Result<Task, Failure> {
    not_stopped(here(options, wanted).doing("no such task")?, wanted)
}

fn not_stopped(task: Task, wanted: &str) -> Result<Task, Failure> {
    if let Some(status) = task.status.as_ref().filter(|_| task.is_stopped()) {
        let code = ending::exit_code(&task.spec, status);
        return Err(Failure::new(format!("task {} has stopped (exit code {code})", ps::short_id(&task)))
            .next(format!("coracle logs {wanted}")));
    }
    Ok(task)
}

/// A task of this host; the error says where else it is.
pub(crate) fn here(options: &Options, wanted: &str) -> Result<Task, Failure> {
    match task_dir::find(&options.roots()?, wanted) {
        Err(error @ FindError::NotFound { .. }) => {
            Err(elsewhere(options, &Scope::default(), wanted).unwrap_or_else(|| error.into()))
        }
        found => Ok(found?),
    }
}

/// The container that is named, or the only one that runs. `usage` is how a container is named in the command's line.
pub(crate) fn container(task: &Task, named: Option<&str>, usage: &str) -> Result<ContainerName, Failure> {
    let names: Vec<&ContainerName> = task.spec.containers.iter().map(|container| &container.definition.name).collect();
    let list = |names: &[&ContainerName]| names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    if let Some(named) = named {
        return names.iter().find(|name| name.as_str() == named).map(|name| (*name).clone()).ok_or_else(|| {
            Failure::new(format!("task {} has no container {named:?}", ps::short_id(task)))
                .exit(BAD_INPUT)
                .next(format!("one of {}", list(&names)))
        });
    }
    let running: Vec<&ContainerName> = names.into_iter().filter(|name| status(task, name).is_some_and(runs)).collect();
    match running.as_slice() {
        [only] => Ok((*only).clone()),
        [] => Err(Failure::new(format!("no container of task {} runs", ps::short_id(task)))
            .next(format!("coracle inspect {}", ps::short_id(task)))),
        several => Err(Failure::new(format!("task {} has several containers", ps::short_id(task)))
            .exit(BAD_INPUT)
            .next(format!("name one of {}: {usage}", list(several)))),
    }
}

/// The first process of a container, which runs.
pub(crate) fn process<'a>(task: &'a Task, container: &ContainerName) -> Result<&'a ProcessIdentity, Failure> {
    let process = status(task, container).filter(|status| runs(status)).and_then(|status| status.process.as_ref());
    process.ok_or_else(|| {
        Failure::new(format!("container {container} of task {} does not run", ps::short_id(task)))
            .next(format!("coracle ps --all; coracle logs --container {container} {}", ps::short_id(task)))
    })
}

pub(crate) fn status<'a>(task: &'a Task, container: &ContainerName) -> Option<&'a ContainerStatus> {
    task.status.as_ref()?.containers.iter().find(|status| status.name == *container)
}

pub(crate) fn runs(status: &ContainerStatus) -> bool {
    status.last_status == ContainerLastStatus::Running
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::out_of_reach;
    use crate::cluster::tests::described;

    #[test]
    fn a_task_that_has_not_started_is_not_said_to_be_elsewhere() {
        for (status, host, says) in [
            ("PENDING", Some("h1"), "task 1f2e3d4c5b6a has not started yet on host h1: PENDING"),
            ("PROVISIONING", None, "task 1f2e3d4c5b6a is not on any host yet: PROVISIONING"),
            ("RUNNING", Some("h1"), "task 1f2e3d4c5b6a is on host h1, and not on this one"),
            ("STOPPED", Some("h1"), "task 1f2e3d4c5b6a was on host h1, and nothing of it is on this one: STOPPED"),
        ] {
            let failure = out_of_reach(&described(json!({"lastStatus": status})), host);
            assert_eq!(failure.chain, [says]);
            assert!(failure.next.is_some(), "{says}");
        }
    }
}
