//! What a container's process is: its arguments, environment and working directory, out of the container definition
//! and the image, by the rules that Docker follows. Pure.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use agent_protocol::ContainerSecrets;
use agent_protocol::task_spec::{ContainerSpec, ImageConfig};
use ecs::task_definition::{ContainerDefinition, KeyValuePair};

/// Docker's PATH for an image that sets none.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoProcess {
    #[error("No command specified: neither the container definition nor its image names one")]
    NoCommand,
    #[error("the working directory '{0}' is not an absolute path")]
    RelativeWorkingDirectory(String),
    #[error("{what} {given:?} holds a NUL byte")]
    Nul { what: &'static str, given: String },
}

/// Docker's rule (`docker run --entrypoint`): an entry point of one's own hides the image's CMD as well.
///
/// # Errors
/// Nothing is left to run, or an argument could not be passed to a program.
pub(crate) fn arguments(definition: &ContainerDefinition, image: &ImageConfig) -> Result<Vec<String>, NoProcess> {
    let entry_point = definition.entry_point.as_ref();
    let command = definition.command.as_deref().unwrap_or_default();
    let mut arguments = entry_point.unwrap_or(&image.entrypoint).clone();
    let own_entry_point = entry_point.is_some_and(|words| !words.is_empty());
    if command.is_empty() && !own_entry_point {
        arguments.extend_from_slice(&image.cmd);
    } else {
        arguments.extend_from_slice(command);
    }
    if arguments.is_empty() {
        return Err(NoProcess::NoCommand);
    }
    refuse_nul("argument", &arguments)?;
    Ok(arguments)
}

/// In Docker's order: PATH and HOSTNAME, what links tell, then the container definition's variables, then those of the
/// image that these do not replace. The definition's are, in the order of Amazon's agent: `environment`, environment
/// files' where the name is new, secrets over both, and what the agent puts in. HOME is added later, by who knows the
/// user.
///
/// # Errors
/// A variable could not be passed to a program.
pub(crate) fn environment(
    container: &ContainerSpec,
    secrets: Option<&ContainerSecrets>,
) -> Result<Vec<String>, NoProcess> {
    let mut environment = Variables::default();
    environment.set(format!("PATH={DEFAULT_PATH}"));
    environment.set(format!("HOSTNAME={}", container.network.hostname));
    let image = &container.image.config.env;
    let pair = |pair: &KeyValuePair| format!("{}={}", pair.name, pair.value);
    container.link_environment.iter().for_each(|variable| environment.set(pair(variable)));
    let mut own = Variables::default();
    container.definition.environment.iter().for_each(|variable| own.set(pair(variable)));
    for variable in &container.environment_from_files {
        if !own.has(&variable.name) {
            own.set(pair(variable));
        }
    }
    for (name, value) in secrets.iter().flat_map(|secrets| &secrets.environment) {
        own.set(format!("{name}={}", value.0));
    }
    container.injected_environment.iter().for_each(|variable| own.set(pair(variable)));
    let image_only: Vec<&String> = image.iter().filter(|variable| !own.has(name_of(variable))).collect();
    own.list.iter().chain(image_only).for_each(|variable| environment.set(variable.clone()));
    if let Some(file) = &container.metadata_file {
        environment.set(format!("ECS_CONTAINER_METADATA_FILE={}", file.place.display()));
    }
    refuse_nul("environment variable", &environment.list)?;
    Ok(environment.list)
}

/// Variables in their order, with the place of each name: files bring a hundred thousand of them.
#[derive(Default)]
struct Variables {
    list: Vec<String>,
    places: HashMap<String, usize>,
}

impl Variables {
    fn has(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// As the function of that name.
    fn set(&mut self, variable: String) {
        match self.places.entry(name_of(&variable).to_owned()) {
            Entry::Occupied(place) => self.list[*place.get()] = variable,
            Entry::Vacant(place) => {
                place.insert(self.list.len());
                self.list.push(variable);
            }
        }
    }
}

/// Replaces the variable of the same name where it stands, or appends.
pub(crate) fn set(environment: &mut Vec<String>, variable: String) {
    match environment.iter_mut().find(|known| name_of(known) == name_of(&variable)) {
        Some(known) => *known = variable,
        None => environment.push(variable),
    }
}

/// The value of a variable.
pub(crate) fn get<'a>(environment: &'a [String], name: &str) -> Option<&'a str> {
    environment.iter().find_map(|variable| variable.strip_prefix(name)?.strip_prefix('='))
}

fn name_of(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(name, _)| name)
}

/// # Errors
/// The container definition's is not absolute. An image's relative WORKDIR starts at the root.
pub(crate) fn working_directory(definition: &ContainerDefinition, image: &ImageConfig) -> Result<String, NoProcess> {
    let directory = match definition.working_directory.as_deref() {
        Some(own) if !own.is_empty() && !own.starts_with('/') => {
            return Err(NoProcess::RelativeWorkingDirectory(own.to_owned()));
        }
        Some(own) if !own.is_empty() => own.to_owned(),
        _ if image.working_dir.starts_with('/') => image.working_dir.clone(),
        _ => format!("/{}", image.working_dir),
    };
    refuse_nul("working directory", std::slice::from_ref(&directory))?;
    Ok(directory)
}

fn refuse_nul(what: &'static str, words: &[String]) -> Result<(), NoProcess> {
    match words.iter().find(|word| word.contains('\0')) {
        Some(given) => Err(NoProcess::Nul { what, given: given.clone() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use ecs::task_definition::KeyValuePair;
    use serde_json::json;

    use super::*;

    fn definition(members: serde_json::Value) -> ContainerDefinition {
        let mut all = json!({"name": "app", "image": "app"});
        all.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    fn image(entrypoint: &[&str], cmd: &[&str]) -> ImageConfig {
        let own = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        ImageConfig { entrypoint: own(entrypoint), cmd: own(cmd), ..ImageConfig::default() }
    }

    #[test]
    fn the_metadata_file_is_named_by_ecss_variable() {
        let container = json!({
            "definition": {"name": "app", "image": "app"},
            "image": {"digest": "sha256:1", "layers": [], "config": {}},
            "network": {"namespace": "host", "hostname": "h", "hosts": "", "resolv_conf": ""},
            "runtime_id": "r",
            "metadata_file": {"place": "/opt/ecs/metadata/y/x.json", "content": "{}"}
        });
        let container: ContainerSpec = serde_json::from_value(container).unwrap();
        let environment = environment(&container, None).unwrap();
        assert_eq!(get(&environment, "ECS_CONTAINER_METADATA_FILE"), Some("/opt/ecs/metadata/y/x.json"));
    }

    /// The table of <https://docs.docker.com/reference/dockerfile/#understand-how-cmd-and-entrypoint-interact>,
    /// with the overrides of `docker run`.
    #[test]
    fn arguments_follow_dockers_table() {
        let image = image(&["/entry"], &["serve"]);
        let cases = [
            (json!({}), vec!["/entry", "serve"]),
            (json!({"command": ["other"]}), vec!["/entry", "other"]),
            (json!({"entryPoint": ["/mine"]}), vec!["/mine"]),
            (json!({"entryPoint": ["/mine"], "command": ["x"]}), vec!["/mine", "x"]),
            (json!({"entryPoint": [], "command": ["x"]}), vec!["x"]),
            (json!({"command": []}), vec!["/entry", "serve"]),
        ];
        for (members, wanted) in cases {
            assert_eq!(arguments(&definition(members.clone()), &image).unwrap(), wanted, "{members}");
        }
        assert_eq!(arguments(&definition(json!({})), &ImageConfig::default()), Err(NoProcess::NoCommand));
    }

    #[test]
    fn the_environment_is_in_dockers_order() {
        let mut environment = vec!["PATH=/bin".to_owned(), "HOSTNAME=h".to_owned()];
        set(&mut environment, "B=1".to_owned());
        set(&mut environment, "PATH=/opt/bin".to_owned());
        set(&mut environment, "B=2".to_owned());
        assert_eq!(environment, ["PATH=/opt/bin", "HOSTNAME=h", "B=2"]);
        assert_eq!(get(&environment, "PATH"), Some("/opt/bin"));
        assert_eq!(get(&environment, "PAT"), None);
        let pair = KeyValuePair { name: "A".to_owned(), value: "x\0y".to_owned() };
        assert!(refuse_nul("environment variable", &[format!("{}={}", pair.name, pair.value)]).is_err());
    }

    #[test]
    fn working_directories_start_at_the_root() {
        let with = |dir: &str| ImageConfig { working_dir: dir.to_owned(), ..ImageConfig::default() };
        assert_eq!(working_directory(&definition(json!({})), &with("")).unwrap(), "/");
        assert_eq!(working_directory(&definition(json!({})), &with("srv")).unwrap(), "/srv");
        assert_eq!(working_directory(&definition(json!({"workingDirectory": "/w"})), &with("/srv")).unwrap(), "/w");
        assert!(working_directory(&definition(json!({"workingDirectory": "w"})), &with("/srv")).is_err());
    }
}
