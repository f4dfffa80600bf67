//! Which driver a container has, with its options read. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;

use agent_protocol::secrets::SecretValue;
use agent_protocol::task_spec::Places;
use agent_protocol::{ContainerSpec, TaskSpec};
use ecs::log_options::AWSFIRELENS;
use ecs::task_definition::{ContainerDefinition, FirelensType};

use crate::encode::fluentd::Acknowledgement;
use crate::encode::{fluentd, gelf, journald, splunk, syslog};
use crate::message::Origin;
use crate::options::{OptionError, Options};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Driver {
    Syslog(syslog::Settings),
    /// awsfirelens too.
    Fluentd(fluentd::Settings),
    Gelf(gelf::Settings),
    Splunk(Box<splunk::Settings>),
    Journald(journald::Settings),
}

/// The drivers whose output goes further than this host's log files.
const SHIPPED: [&str; 6] = ["syslog", "fluentd", "gelf", "splunk", "journald", AWSFIRELENS];

pub fn is_shipped(container: &ContainerDefinition) -> bool {
    name_of(container).is_some()
}

fn name_of(container: &ContainerDefinition) -> Option<&'static str> {
    let given = container.log_configuration.as_ref()?.log_driver.as_str();
    SHIPPED.into_iter().find(|name| *name == given)
}

/// What belongs to a task's log router on the host: `config/` and `socket/`. Gone with the task's run directory.
pub fn firelens_directory(places: &Places) -> PathBuf {
    places.run.join("firelens")
}

/// Where the router listens, as the host sees it; in the router it is `/var/run/fluent.sock`.
pub fn firelens_socket(places: &Places) -> PathBuf {
    firelens_directory(places).join("socket/fluent.sock")
}

impl Driver {
    /// Nothing for a container whose output stays here. `secrets` are the values of its `secretOptions`.
    ///
    /// # Errors
    /// What Docker's driver would refuse.
    pub fn of(
        task: &TaskSpec,
        container: &ContainerSpec,
        secrets: &BTreeMap<String, SecretValue>,
        hostname: &str,
    ) -> Result<Option<Driver>, OptionError> {
        let Some(name) = name_of(&container.definition) else { return Ok(None) };
        let given = all_options(&container.definition, secrets);
        let options = Options::new(name, &given);
        let origin = &Origin::of(task, container, hostname);
        Ok(Some(match name {
            "syslog" => Driver::Syslog(syslog::Settings::of(&options, origin)?),
            "fluentd" => Driver::Fluentd(fluentd::Settings::of(&options, origin)?),
            "gelf" => Driver::Gelf(gelf::Settings::of(&options, origin)?),
            "splunk" => Driver::Splunk(Box::new(splunk::Settings::of(&options, origin)?)),
            "journald" => Driver::Journald(journald::Settings::of(&options, origin)?),
            _ => Driver::Fluentd(firelens(task, container)),
        }))
    }

    /// For people: where the output goes.
    pub fn target(&self) -> String {
        match self {
            Driver::Syslog(settings) => settings.address.to_string(),
            Driver::Fluentd(settings) => settings.address.to_string(),
            Driver::Gelf(settings) => settings.address.to_string(),
            Driver::Splunk(settings) => settings.url.clone(),
            Driver::Journald(_) => crate::connect::JOURNAL_SOCKET.to_owned(),
        }
    }
}

fn all_options(container: &ContainerDefinition, secrets: &BTreeMap<String, SecretValue>) -> BTreeMap<String, String> {
    let mut options = container.log_configuration.as_ref().map(|log| log.options.clone()).unwrap_or_default();
    options.extend(secrets.iter().map(|(name, value)| (name.clone(), value.0.clone())));
    options
}

fn firelens(task: &TaskSpec, container: &ContainerSpec) -> fluentd::Settings {
    let tag = format!("{}-firelens-{}", container.definition.name, task.id.as_str());
    let router = task.containers.iter().find_map(|other| other.definition.firelens_configuration.as_ref());
    // fluentd's input for unix sockets reads the protocol and answers nothing.
    let acknowledgement = match router.map(|router| router.kind) {
        Some(FirelensType::Fluentd) => Acknowledgement::Never,
        Some(FirelensType::Fluentbit) | None => Acknowledgement::Hoped,
    };
    fluentd::Settings::of_firelens(tag, &firelens_socket(&task.places), acknowledgement)
}
