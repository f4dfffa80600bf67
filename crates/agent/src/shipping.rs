//! A task's log shipper: started with the task, and again by whoever finds that it has died.

use agent_protocol::{ContainerSecrets, TaskSpec};
use ecs::{ContainerName, TaskId};
use log_shipping::{Driver, OptionError, is_shipped};
use runtime::shipper::{self, ShipperError, Stage};
use runtime::task_dir;

use crate::environment;
use crate::host::Host;
use crate::recovery::chain;

#[derive(Debug, thiserror::Error)]
pub enum ShippingError {
    #[error("container {container}: its output cannot be shipped")]
    Options {
        container: ContainerName,
        #[source]
        cause: OptionError,
    },
    #[error("the task's output cannot be shipped")]
    Start(#[source] ShipperError),
}

/// Whether every driver's options make sense, before the task is written down. Nothing is asked of the network.
///
/// # Errors
/// The first that do not.
pub(crate) fn check(spec: &TaskSpec, secrets: &[ContainerSecrets]) -> Result<(), ShippingError> {
    for container in &spec.containers {
        let name = &container.definition.name;
        let own = secrets.iter().find(|secrets| secrets.container == *name);
        let log_options = own.map(|secrets| secrets.log_options.clone()).unwrap_or_default();
        let driver = Driver::of(spec, container, &log_options, "");
        driver.map_err(|cause| ShippingError::Options { container: name.clone(), cause })?;
    }
    Ok(())
}

/// Starts the shipper of a task that is written down; nothing where all its output stays here.
///
/// # Errors
/// There is no shipper.
pub(crate) fn start(spec: &TaskSpec, secrets: &[ContainerSecrets]) -> Result<(), ShippingError> {
    if !spec.containers.iter().any(|container| is_shipped(&container.definition)) {
        return Ok(());
    }
    // What a container itself is given is none of the shipper's business.
    let for_shipping = secrets.iter().filter(|secrets| !secrets.log_options.is_empty());
    let for_shipping: Vec<ContainerSecrets> = for_shipping
        .map(|secrets| ContainerSecrets { environment: Vec::new(), files: Vec::new(), ..secrets.clone() })
        .collect();
    shipper::spawn(&spec.id, &spec.places, &for_shipping).map_err(ShippingError::Start)
}

/// Starts another shipper for every task whose own was killed, and returns what did not succeed.
pub(crate) fn recover(host: &Host) -> Vec<String> {
    let mut errors = Vec::new();
    // No tasks yet, no directory. Those that have nothing to ship are told by a look-up each.
    for entry in std::fs::read_dir(host.roots.tasks()).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().ok();
        let Some(id) = name.and_then(|name| TaskId::try_from(name).ok()) else { continue };
        errors.extend(recover_task(host, &id).map_err(|error| format!("task {id}: {error}")).err());
    }
    errors
}

fn recover_task(host: &Host, id: &TaskId) -> Result<(), String> {
    match shipper::stage(&host.roots.places(id).state).map_err(|error| chain(&error))? {
        Stage::Done | Stage::Running => return Ok(()),
        Stage::CutShort => {}
    }
    // Being removed, or its start was given up.
    let Some(task) = task_dir::read(&host.roots, id).map_err(|error| chain(&error))? else { return Ok(()) };
    again(host, &task.spec).map_err(|error| chain(&error))?;
    tracing::info!(task = %id, "its log shipper had ended; another one goes on");
    Ok(())
}

/// Secrets are nowhere but in the store: they are looked up again. Without them the shipper says what is missing.
fn again(host: &Host, spec: &TaskSpec) -> Result<(), ShippingError> {
    let secrets = environment::log_secrets(host, spec);
    start(spec, &secrets)
}
