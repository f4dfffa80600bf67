//! No input makes reading or checking panic, and what is read as a definition survives a round through JSON.

mod cpu_time;

use ecs::input::Document;
use ecs::lint::{CpuArchitecture, HostFacts};
use ecs::task_definition::TaskDefinition;
use proptest::prelude::*;
use serde_json::Value;

const HOST: HostFacts = HostFacts { cpu_architecture: CpuArchitecture::X86_64, privileged_disabled: false };
const SEEDS: [&str; 5] = [
    include_str!("data/every-member.json"),
    include_str!("data/definitions/nginx-bridge.json"),
    include_str!("data/definitions/described.json"),
    include_str!("data/definitions/not-here-yet.json"),
    include_str!("data/definitions/combinations.json"),
];

fn all_of_it(text: &[u8]) {
    let _ = ecs::overrides::read(text);
    if let Ok(document) = ecs::input::read(text) {
        registered(&document);
        linted(&document);
    }
}

fn linted(document: &Document) {
    let report = ecs::lint::check(document, &HOST);
    for finding in &report.findings {
        assert!(!finding.message.is_empty());
        assert!(!finding.path.is_empty(), "only a type that the table forgot has no place: {finding}");
        assert!(finding.position.is_some());
    }
    assert_eq!(report.definition.is_some(), report.errors().next().is_none());
    if let Some(definition) = report.definition {
        let again = serde_json::to_value(&definition).expect("a definition is JSON");
        assert_eq!(serde_json::from_value::<TaskDefinition>(again).expect("and back"), definition);
        let overrides = ecs::overrides::check(document, &definition);
        assert!(overrides.overrides.is_none() || overrides.findings.iter().all(|finding| !finding.message.is_empty()));
    }
}

/// Registration refuses with words, and gives back what it registers.
fn registered(document: &Document) {
    let verdict = ecs::register::validate(document);
    match &verdict {
        Ok(definition) => {
            let again = serde_json::to_value(definition).expect("a definition is JSON");
            assert_eq!(&serde_json::from_value::<TaskDefinition>(again).expect("and back"), definition);
        }
        Err(error) => assert!(!error.message.is_empty()),
    }
}

/// Every value of a document, by the way to it.
fn pointers(value: &Value) -> Vec<String> {
    let mut found = vec![String::new()];
    let children: Vec<(String, &Value)> = match value {
        Value::Object(members) => members.iter().map(|(name, inner)| (name.replace('/', "~1"), inner)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(index, inner)| (index.to_string(), inner)).collect(),
        _ => Vec::new(),
    };
    for (name, inner) in children {
        found.extend(pointers(inner).into_iter().map(|rest| format!("/{name}{rest}")));
    }
    found
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-9..70_000_i64).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        "(c|a|b|START|HEALTHY|host|bridge|none|[0-9]{1,6}(-[0-9]{1,6})?|[.0-9]{1,4} ?(GB|vCPU)|net\\.[a-z.]{0,5})"
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let name = "(name|image|containerPort|hostPort|memory|cpu|volumes|host|healthCheck|command|secrets|options|type|value|[a-zA-Z.\"]{0,6})";
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..4).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// As many findings as fit into a definition take no time worth waiting for.
#[test]
fn a_file_of_nothing_but_mistakes_is_answered_soon() {
    let around = |items: String| format!(r#"{{"family":"f","containerDefinitions":[{{"portMappings":[{items}]}}]}}"#);
    // The rules are registration's as well: once is enough here.
    let check = |text: &[u8]| linted(&ecs::input::read(text).expect("a definition that is read"));
    let before = cpu_time::of_this_thread();
    for item in ["{}", r#"{"containerPort":1}"#, r#"{"a":1}"#, r#"{"containerPortRange":"1-9"}"#] {
        let count = 65_000 / (item.len() + 1);
        check(around(vec![item; count].join(",")).as_bytes());
    }
    let unknown: Vec<String> = (0..5_000).map(|index| format!(r#""mem{index}":1"#)).collect();
    check(format!("{{{}}}", unknown.join(",")).as_bytes());
    let chain: Vec<String> = (0..900)
        .map(|index| {
            let next = index + 1;
            format!(r#"{{"name":"{index}","dependsOn":[{{"containerName":"{next}","condition":"START"}}]}}"#)
        })
        .collect();
    check(format!(r#"{{"containerDefinitions":[{}]}}"#, chain.join(",")).as_bytes());
    let volumes: Vec<String> = (0..1_500).map(|index| format!(r#"{{"name":"{index}"}}"#)).collect();
    let mounts = vec![r#"{"sourceVolume":"x","containerPath":"/a"}"#; 500].join(",");
    let links = vec![r#""x""#; 2_500].join(",");
    let volumes = volumes.join(",");
    check(
        format!(r#"{{"volumes":[{volumes}],"containerDefinitions":[{{"name":"a","mountPoints":[{mounts}],"links":[{links}]}}]}}"#)
            .as_bytes(),
    );
    let took = cpu_time::of_this_thread() - before;
    assert!(took < std::time::Duration::from_secs(20), "{took:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        all_of_it(&bytes);
    }

    #[test]
    fn any_text_of_jsons_characters(text in "[\\[\\]{}\",:/*\\\\ \n0-9a-fu.e+-]{0,60}") {
        all_of_it(text.as_bytes());
    }

    #[test]
    fn bytes_changed_in_a_definition(
        seed in 0..SEEDS.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..6),
    ) {
        let mut text = SEEDS[seed].as_bytes().to_vec();
        for (at, byte, how) in changes {
            let at = at.index(text.len());
            match how {
                0 => text[at] = byte,
                1 => text.insert(at, byte),
                _ => text.truncate(at.max(1)),
            }
        }
        all_of_it(&text);
    }

    #[test]
    fn values_changed_in_a_definition(
        seed in 0..SEEDS.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any_json()), 1..5),
    ) {
        let mut document = Value::Object(ecs::input::read(SEEDS[seed].as_bytes()).expect("seeds are JSON").value);
        for (at, value) in changes {
            let pointers = pointers(&document);
            if let Some(place) = document.pointer_mut(&pointers[at.index(pointers.len())]) {
                *place = value;
            }
        }
        all_of_it(document.to_string().as_bytes());
    }
}
