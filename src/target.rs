//! Which running container a command means: `TASK [CONTAINER]`.

use agent::ending;
use agent_protocol::{ContainerStatus, ProcessIdentity};
use ecs::ContainerName;
use ecs::task::ContainerLastStatus;
use runtime::task_dir::{self, Task};

use crate::failure::{BAD_INPUT, Explain, Failure};
use crate::options::Options;
use crate::ps;

/// The task that `wanted` means, which has not stopped.
pub(crate) fn running(options: &Options, wanted: &str) -> Result<Task, Failure> {
    let task = task_dir::find(&options.roots()?, wanted).doing("no such task")?;
    if let Some(status) = task.status.as_ref().filter(|_| task.is_stopped()) {
        let code = ending::exit_code(&task.spec, status);
        return Err(Failure::new(format!("task {} has stopped (exit code {code})", ps::short_id(&task)))
            .next(format!("coracle logs {wanted}")));
    }
    Ok(task)
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
