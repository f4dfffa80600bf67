//! Nothing that a definition or an override says is lost on its way through the types: a file that sets every member of
//! the table once comes back as it was written.

use std::collections::BTreeSet;

use ecs::fields::{Here, Shape, TASK_DEFINITION, TASK_OVERRIDE, rows};
use ecs::overrides::TaskOverride;
use ecs::task_definition::TaskDefinition;
use serde_json::Value;

/// The ways to all values, as the table writes them: `volumes[].host.sourcePath`.
fn paths(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            for (name, inner) in members {
                let list = if inner.is_array() { "[]" } else { "" };
                let path = format!("{at}{}{name}{list}", if at.is_empty() { "" } else { "." });
                paths(inner, &path, found);
                found.insert(path);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| paths(item, at, found)),
        _ => {}
    }
}

fn has_every_member_of(written: &Value, shape: &'static Shape) {
    let mut given = BTreeSet::new();
    paths(written, "", &mut given);
    let input = rows(shape).into_iter().filter(|row| row.here != Here::ReadOnly);
    let missing: Vec<String> = input.map(|row| row.path).filter(|path| !given.contains(path)).collect();
    assert!(missing.is_empty(), "the file does not set {missing:?}");
}

#[test]
fn a_definition_with_every_member_comes_back_whole() {
    let written: Value = serde_json::from_str(include_str!("data/every-member.json")).expect("JSON");
    has_every_member_of(&written, &TASK_DEFINITION);
    let read: TaskDefinition = serde_json::from_value(written.clone()).expect("a definition");
    assert_eq!(serde_json::to_value(&read).expect("JSON"), written);
}

#[test]
fn overrides_with_every_member_come_back_whole() {
    let written: Value = serde_json::from_str(include_str!("data/every-override.json")).expect("JSON");
    has_every_member_of(&written, &TASK_OVERRIDE);
    let read: TaskOverride = serde_json::from_value(written.clone()).expect("overrides");
    assert_eq!(serde_json::to_value(&read).expect("JSON"), written);
}
