//! RegisterTaskDefinition's rules, each with what keeps it and what breaks it.
//!
//! In `data/rules`, every file is one part of the rules and every line of it one example: what is set at the task, what
//! at its first container `c` (which has an image and memory), which containers there are besides, and, for a bad one,
//! the ClientException. A good line has none. Messages that Amazon's service is known to give are written as it gives
//! them; those that begin with a path are in our own words.

use std::fmt::Write as _;
use std::path::Path;

use ecs::input::Document;
use ecs::lint::{CpuArchitecture, HostFacts};
use ecs::register::validate;
use serde_json::{Map, Value, json};

const HOST: HostFacts = HostFacts { cpu_architecture: CpuArchitecture::X86_64, privileged_disabled: false };

/// Sets the members of `given` in `base`; null takes one away.
fn set(base: &mut Value, given: Option<&Value>) {
    let base = base.as_object_mut().expect("an object");
    for (name, value) in given.and_then(Value::as_object).into_iter().flatten() {
        if value.is_null() {
            base.remove(name);
        } else {
            base.insert(name.clone(), value.clone());
        }
    }
}

fn definition(example: &Value) -> Map<String, Value> {
    let mut first = json!({ "name": "c", "image": "i", "memory": 64 });
    set(&mut first, example.get("container"));
    let mut containers = vec![first];
    for other in example.get("others").and_then(Value::as_array).into_iter().flatten() {
        let mut container = json!({ "image": "i", "memory": 64 });
        set(&mut container, Some(other));
        containers.push(container);
    }
    let mut task = json!({ "family": "f", "containerDefinitions": containers });
    set(&mut task, example.get("task"));
    task.as_object().expect("an object").clone()
}

fn examples() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/rules");
    let mut examples = Vec::new();
    for entry in std::fs::read_dir(&folder).expect("the folder of rules") {
        let path = entry.expect("an entry of it").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("a file of rules");
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let place = format!("{name}, line {}", number + 1);
            let example = serde_json::from_str(line).unwrap_or_else(|error| panic!("{place}: {error}"));
            examples.push((place, example));
        }
    }
    examples
}

#[test]
fn every_rule_is_kept_by_the_good_and_broken_by_the_bad() {
    let mut wrong = String::new();
    let (mut good, mut bad) = (0, 0);
    for (place, example) in examples() {
        let wanted = example.get("exception").map(|words| words.as_str().expect("text"));
        let said = validate(&Document::registration(definition(&example))).err().map(|error| error.message);
        *(if wanted.is_some() { &mut bad } else { &mut good }) += 1;
        if said.as_deref() != wanted {
            writeln!(wrong, "{place}: wanted {wanted:?}, got {said:?}").expect("writing to a string");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(good > 50 && bad > 100, "{good} good and {bad} bad examples");
}

/// `lint` never lets pass what RegisterTaskDefinition refuses, and says it at the same place.
#[test]
fn lint_finds_what_registration_refuses() {
    for (place, example) in examples() {
        let written = definition(&example);
        let Err(error) = validate(&Document::registration(written.clone())) else { continue };
        let text = Value::Object(written).to_string();
        let Ok(document) = ecs::input::read(text.as_bytes()) else { continue };
        let report = ecs::lint::check(&document, &HOST);
        assert!(report.definition.is_none(), "{place}");
        assert!(report.errors().any(|finding| finding.path == error.path), "{place}: {}: {error}", error.path);
    }
}

#[test]
fn what_this_host_cannot_run_is_registered_all_the_same() {
    let example = json!({
        "task": { "runtimePlatform": { "cpuArchitecture": "ARM64" }, "somethingNewer": 1 },
        "container": { "privileged": true, "credentialSpecs": ["credentialspec:arn:x"],
            "dockerSecurityOptions": ["credentialspec:arn:x"] }
    });
    let definition = validate(&Document::registration(definition(&example))).expect("Amazon registers it");
    assert_eq!(definition.container_definitions[0].credential_specs, ["credentialspec:arn:x"]);
}

#[test]
fn a_definition_has_64_kib() {
    let with = |length: usize| {
        let example = json!({ "container": { "environment": [{ "name": "A", "value": "x".repeat(length) }] } });
        validate(&Document::registration(definition(&example)))
    };
    // What is around the value: {"family":"f","containerDefinitions":[{"name":"c","image":"i","memory":64,
    // "environment":[{"name":"A","value":""}]}]}
    let around = r#"{"family":"f","containerDefinitions":[{"name":"c","image":"i","memory":64,"environment":[{"name":"A","value":""}]}]}"#;
    assert!(with(65_536 - around.len()).is_ok());
    let error = with(65_537 - around.len()).expect_err("a byte too many");
    assert_eq!(error.message, "Actual length: '65537'. Max allowed length is '65536' bytes.");
}
