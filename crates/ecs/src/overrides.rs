//! RunTask's `overrides`: read, checked against the definition they are for, and applied to it.
//!
//! Shape: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_TaskOverride.html>.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fields;
use crate::input::{self, Document, MAX_FILE_BYTES, ReadError};
use crate::json;
use crate::lint::{Finding, Findings, Place, check_shape, environment_files, resource_requirements};
use crate::size;
use crate::task_definition::{
    ContainerDefinition, EnvironmentFile, EphemeralStorage, KeyValuePair, ResourceRequirement, TaskDefinition,
};

/// "A total of 8192 characters are allowed for overrides. This limit includes the JSON formatting characters of the
/// override structure" (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html>).
pub const MAX_OVERRIDES_CHARACTERS: usize = 8192;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskOverride {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub container_overrides: Vec<ContainerOverride>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_role_arn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_role_arn: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ephemeral_storage: Option<EphemeralStorage>,
    /// Elastic Inference has ended; kept as given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inference_accelerator_overrides: Vec<InferenceAcceleratorOverride>,
}

/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_InferenceAcceleratorOverride.html>
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InferenceAcceleratorOverride {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_type: Option<String>,
}

/// What one container gets instead; absent members stay as registered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerOverride {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Added to the definition's; replaces variables of the same name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<KeyValuePair>,
    /// "instead of the value from the container definition"
    /// (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerOverride.html>).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment_files: Vec<EnvironmentFile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    /// MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_reservation: Option<u64>,
    /// All of the container's, instead of those of the definition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resource_requirements: Vec<ResourceRequirement>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OverrideError {
    #[error("no container is named {name:?}; the containers are: {}", known.join(", "))]
    UnknownContainer { name: String, known: Vec<String> },
    #[error("{name:?} is no environment variable's name: it is not empty and has no '=' and no NUL")]
    VariableName { name: String },
    #[error("the value of {name} has a NUL character, which no environment variable can hold")]
    VariableValue { name: String },
    #[error("container {container}: memory ({memory} MiB) must be greater than memoryReservation ({reservation} MiB)")]
    Reservation { container: String, memory: u64, reservation: u64 },
    #[error(
        "task memory spec builder: container memory limit({memory}) greater than task memory limit({task}), container {container}"
    )]
    TaskMemory { container: String, memory: u64, task: u64 },
    #[error(transparent)]
    Size(#[from] size::SizeError),
}

/// What was found in overrides, and the overrides where nothing of it is an error.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub findings: Vec<Finding>,
    pub overrides: Option<TaskOverride>,
}

/// Reads overrides; comments and trailing commas are allowed as in a task definition.
pub fn read(text: &[u8]) -> Result<Document, ReadError> {
    let document = input::read_object(text, "overrides", MAX_FILE_BYTES)?;
    let characters = serde_json::to_string(&document.value).map(|json| json.chars().count()).unwrap_or(usize::MAX);
    if characters > MAX_OVERRIDES_CHARACTERS {
        return Err(ReadError::OverridesTooLarge { characters });
    }
    Ok(document)
}

/// Checks overrides against the definition that they are for.
pub fn check(document: &Document, definition: &TaskDefinition) -> Report {
    let mut findings = Findings::default();
    let value = check_shape(&document.value, &fields::TASK_OVERRIDE, &mut findings);
    unknown_containers(&value, definition, &mut findings);
    for container in Place::root(&value).items("containerOverrides") {
        environment_files(&container, &mut findings);
        resource_requirements(&container, &mut findings);
    }
    let mut overrides = None;
    if !findings.has_errors() {
        match json::typed::<TaskOverride>(&value) {
            Ok(read) => match apply(&mut definition.clone(), &read) {
                Ok(()) => overrides = Some(read),
                Err(error) => findings.error("", error.to_string()),
            },
            Err(error) => findings.error("", error.to_string()),
        }
    }
    Report { findings: findings.in_file_order(document), overrides }
}

fn unknown_containers(value: &Value, definition: &TaskDefinition, findings: &mut Findings) {
    let items = value.get("containerOverrides").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for (index, item) in items.iter().enumerate() {
        if let Some(name) = item.get("name").and_then(Value::as_str)
            && !definition.container_definitions.iter().any(|container| container.name.as_str() == name)
        {
            findings.error(format!("containerOverrides[{index}].name"), unknown(name, definition).to_string());
        }
    }
}

fn unknown(name: &str, definition: &TaskDefinition) -> OverrideError {
    let known = definition.container_definitions.iter().map(|container| container.name.to_string()).collect();
    OverrideError::UnknownContainer { name: name.to_owned(), known }
}

/// Applies overrides. On an error the definition is as it was.
pub fn apply(definition: &mut TaskDefinition, overrides: &TaskOverride) -> Result<(), OverrideError> {
    let mut changed = definition.clone();
    for given in &overrides.container_overrides {
        let container = named(&mut changed, &given.name)?;
        container.command = given.command.clone().or(container.command.take());
        container.cpu = given.cpu.unwrap_or(container.cpu);
        container.memory = given.memory.or(container.memory);
        container.memory_reservation = given.memory_reservation.or(container.memory_reservation);
        if !given.resource_requirements.is_empty() {
            container.resource_requirements = given.resource_requirements.clone();
        }
        if !given.environment_files.is_empty() {
            container.environment_files = given.environment_files.clone();
        }
        for variable in &given.environment {
            set_variable(container, &variable.name, &variable.value)?;
        }
    }
    changed.cpu = overrides.cpu.clone().or(changed.cpu);
    changed.memory = overrides.memory.clone().or(changed.memory);
    changed.task_role_arn = overrides.task_role_arn.clone().or(changed.task_role_arn);
    changed.execution_role_arn = overrides.execution_role_arn.clone().or(changed.execution_role_arn);
    changed.ephemeral_storage = overrides.ephemeral_storage.or(changed.ephemeral_storage);
    sizes_still_fit(&changed)?;
    *definition = changed;
    Ok(())
}

/// Sets a variable in the named container, or in all of them.
pub fn add_environment(
    definition: &mut TaskDefinition,
    container: Option<&str>,
    name: &str,
    value: &str,
) -> Result<(), OverrideError> {
    match container {
        Some(container) => set_variable(named(definition, container)?, name, value),
        None => definition.container_definitions.iter_mut().try_for_each(|each| set_variable(each, name, value)),
    }
}

fn named<'a>(definition: &'a mut TaskDefinition, name: &str) -> Result<&'a mut ContainerDefinition, OverrideError> {
    let error = unknown(name, definition);
    let mut containers = definition.container_definitions.iter_mut();
    containers.find(|container| container.name.as_str() == name).ok_or(error)
}

/// In the place of the first variable of this name, or at the end.
fn set_variable(container: &mut ContainerDefinition, name: &str, value: &str) -> Result<(), OverrideError> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(OverrideError::VariableName { name: name.to_owned() });
    }
    if value.contains('\0') {
        return Err(OverrideError::VariableValue { name: name.to_owned() });
    }
    let variable = KeyValuePair { name: name.to_owned(), value: value.to_owned() };
    let environment = &mut container.environment;
    match environment.iter().position(|each| each.name == name) {
        None => environment.push(variable),
        Some(first) => {
            let mut index = 0;
            environment.retain(|each| {
                index += 1;
                each.name != name || index - 1 == first
            });
            environment[first] = variable;
        }
    }
    Ok(())
}

/// The rules of `lint` about memory, once more: each side was right by itself.
fn sizes_still_fit(definition: &TaskDefinition) -> Result<(), OverrideError> {
    definition.cpu.as_deref().map(size::cpu_units).transpose()?;
    let task = definition.memory.as_deref().map(size::memory_mib).transpose()?;
    for container in &definition.container_definitions {
        let (memory, reservation) = (container.memory, container.memory_reservation);
        if let (Some(memory), Some(reservation)) = (memory, reservation)
            && memory < reservation
        {
            return Err(OverrideError::Reservation { container: container.name.to_string(), memory, reservation });
        }
        if let (Some(memory), Some(task)) = (memory.max(reservation), task)
            && memory > task
        {
            return Err(OverrideError::TaskMemory { container: container.name.to_string(), memory, task });
        }
    }
    Ok(())
}
