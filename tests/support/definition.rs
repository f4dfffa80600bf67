//! Task definitions for tests, as the JSON that a person would write.

use serde_json::{Value, json};

use super::image;

/// A container of the probe's image with a memory limit, a command, and further members laid over it.
pub(crate) fn container(name: &str, command: &[&str], members: &Value) -> Value {
    let mut container = json!({ "name": name, "image": image::PROBE, "memory": 64, "command": command });
    for (member, value) in members.as_object().into_iter().flatten() {
        container[member] = value.clone();
    }
    container
}

/// A task without a network of these containers.
pub(crate) fn task(containers: &[Value]) -> Value {
    json!({ "family": "test", "networkMode": "none", "containerDefinitions": containers })
}

/// The same in bridge mode.
pub(crate) fn bridge_task(containers: &[Value]) -> Value {
    json!({ "family": "test", "networkMode": "bridge", "containerDefinitions": containers })
}

/// One container, `main`, that runs the probe with these words.
pub(crate) fn probe(command: &[&str]) -> Value {
    task(&[container("main", command, &Value::Null)])
}

pub(crate) fn probe_with(command: &[&str], members: &Value) -> Value {
    task(&[container("main", command, members)])
}

pub(crate) fn is_task_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase())
}

/// The one task in an answer of DescribeTasks' shape: bare, in `tasks`, or in a list.
#[track_caller]
pub(crate) fn the_task(answer: &Value) -> Value {
    let tasks = answer.get("tasks").unwrap_or(answer);
    let task = tasks.as_array().map_or(tasks, |list| &list[0]);
    assert!(task["taskArn"].is_string(), "a task as DescribeTasks shows it: {answer}");
    task.clone()
}

/// The container `name` of a task in DescribeTasks' shape.
#[track_caller]
pub(crate) fn the_container(task: &Value, name: &str) -> Value {
    let containers = task["containers"].as_array().expect("a task has containers");
    containers.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no container {name} in {task}")).clone()
}
