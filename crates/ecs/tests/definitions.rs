//! Task definitions in files, and beside each what is to be said about it, with line and column. A last line `runs` means that a definition
//! came out of it.

use std::fmt::Write as _;
use std::path::Path;

use ecs::lint::{CpuArchitecture, Finding, HostFacts};

const HOST: HostFacts = HostFacts { cpu_architecture: CpuArchitecture::X86_64, privileged_disabled: false };

fn said(text: &[u8], host: &HostFacts) -> String {
    say(text, host, Finding::to_string)
}

fn placed(finding: &Finding) -> String {
    let position = finding.position.expect("everything that is said has a place");
    format!("{}:{}: {finding}", position.line, position.column)
}

fn say(text: &[u8], host: &HostFacts, line: fn(&Finding) -> String) -> String {
    let document = match ecs::input::read(text) {
        Ok(document) => document,
        Err(error) => return format!("unreadable: {error}\n"),
    };
    let report = ecs::lint::check(&document, host);
    let mut said = String::new();
    for finding in &report.findings {
        writeln!(said, "{}", line(finding)).expect("writing to a string");
    }
    assert_eq!(report.definition.is_some(), report.errors().next().is_none(), "a definition, or errors:\n{said}");
    if report.definition.is_some() {
        said.push_str("runs\n");
    }
    said
}

#[test]
fn each_file_gets_the_findings_beside_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/definitions");
    let mut wrong = String::new();
    let mut files = 0;
    for entry in std::fs::read_dir(&folder).expect("the folder of definitions") {
        let path = entry.expect("an entry of it").path();
        if path.extension().is_some_and(|end| end == "txt") {
            continue;
        }
        files += 1;
        let text = std::fs::read(&path).expect("a definition");
        let wanted = std::fs::read_to_string(path.with_extension("txt")).expect("its findings");
        let said = say(&text, &HOST, placed);
        if said != wanted {
            writeln!(wrong, "== {}\n-- wanted\n{wanted}-- said\n{said}", path.display()).expect("writing to a string");
        }
    }
    assert!(files >= 15, "{files} files in {}", folder.display());
    assert!(wrong.is_empty(), "{wrong}");
}

fn container(members: &str) -> String {
    let text = format!(
        r#"{{"family": "f", "containerDefinitions": [{{"name": "c", "image": "i", "memory": 64, {members}}}]}}"#
    );
    said(text.as_bytes(), &HOST)
}

#[test]
fn privileged_is_refused_where_the_host_says_so() {
    let text =
        br#"{"family": "f", "containerDefinitions": [{"name": "c", "image": "i", "memory": 64, "privileged": true}]}"#;
    let host = HostFacts { privileged_disabled: true, ..HOST };
    assert_eq!(
        said(text, &host),
        "error: containerDefinitions[0].privileged: privileged containers are disabled on this host; remove it, and add \
         the capabilities that are needed to linuxParameters.capabilities.add\n"
    );
}

#[test]
fn users_are_names_or_ids_with_a_group_or_without() {
    for right in ["www-data", "www-data:www-data", "0", "1000:1000", "nginx:101", "101:nginx", "2147483647"] {
        assert_eq!(container(&format!(r#""user": "{right}""#)), "runs\n", "{right}");
    }
    for wrong in ["0:4294967296", "2147483648", "-1", ":", "a:", ":0", "a b", "../x", "a:b:c", "\\n"] {
        let said = container(&format!(r#""user": "{wrong}""#));
        assert!(said.starts_with("error: containerDefinitions[0].user: "), "{wrong}: {said}");
    }
}

#[test]
fn images_may_be_long_only_behind_the_at_sign() {
    let digest = format!("@sha256:{}", "a".repeat(64));
    for (image, right) in [
        ("a".repeat(255), true),
        ("a".repeat(256), false),
        (format!("{}{digest}", "a".repeat(255)), true),
        (format!("{}{digest}", "a".repeat(256)), false),
        (digest.clone(), false),
    ] {
        let text = format!(
            r#"{{"family": "f", "memory": "64", "containerDefinitions": [{{"name": "c", "image": "{image}"}}]}}"#
        );
        assert_eq!(said(text.as_bytes(), &HOST) == "runs\n", right, "{image}");
    }
}

#[test]
fn zero_timeouts_and_empty_commands_mean_not_given() {
    let text = br#"{"family": "f", "containerDefinitions": [{"name": "c", "image": "i", "memory": 64, "stopTimeout": 0,
        "startTimeout": 0, "entryPoint": [], "command": [], "user": "", "environment": [{"name": "EMPTY", "value": ""}],
        "dockerLabels": {"com.example.empty": ""},
        "linuxParameters": {"sharedMemorySize": 0, "capabilities": {"add": [], "drop": ["ALL"]}}}]}"#;
    let document = ecs::input::read(text).expect("JSON");
    let definition = ecs::lint::check(&document, &HOST).definition.expect("no errors");
    let container = &definition.container_definitions[0];
    assert_eq!((container.stop_timeout, container.start_timeout), (None, None));
    assert_eq!((&container.entry_point, &container.command, &container.user), (&None, &None, &None));
    assert_eq!((container.environment[0].name.as_str(), container.environment[0].value.as_str()), ("EMPTY", ""));
    assert_eq!(container.docker_labels.get("com.example.empty").map(String::as_str), Some(""));
    let linux = container.linux_parameters.as_ref().expect("capabilities are given");
    assert_eq!(linux.shared_memory_size, None);
    assert_eq!(linux.capabilities.as_ref().expect("given").drop, ["ALL"]);
}

#[test]
fn an_answers_wrapper_comes_off_and_everything_written_stays() {
    let text = include_bytes!("data/definitions/described.json");
    let document = ecs::input::read(text).expect("JSON");
    assert_eq!(document.origin, ecs::input::Origin::Answer);
    assert_eq!(document.value["registeredBy"], "arn:aws:iam::123456789012:root");
    let names: Vec<&str> = document.value.keys().map(String::as_str).take(3).collect();
    assert_eq!(names, ["taskDefinitionArn", "containerDefinitions", "family"]);
    let definition = ecs::lint::check(&document, &HOST).definition.expect("no errors");
    assert_eq!((definition.revision, definition.tags.len()), (Some(8), 2));
}

#[test]
fn eleven_containers_and_fifty_one_tags_are_too_many() {
    let containers: Vec<String> =
        (0..11).map(|index| format!(r#"{{"name": "c{index}", "image": "i", "memory": 64}}"#)).collect();
    let tags: Vec<String> = (0..51).map(|index| format!(r#"{{"key": "k{index}"}}"#)).collect();
    let text = format!(
        r#"{{"family": "f", "containerDefinitions": [{}], "tags": [{}]}}"#,
        containers.join(","),
        tags.join(",")
    );
    assert_eq!(
        said(text.as_bytes(), &HOST),
        "error: containerDefinitions: 11 containers; a task has at most 10\n\
         error: tags: 51 tags; a task definition has at most 50\n"
    );
}

#[test]
fn the_examples_of_this_repository_run() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut files = 0;
    for entry in std::fs::read_dir(&folder).expect("the folder of examples") {
        let path = entry.expect("an entry of it").path();
        if path.extension().is_some_and(|end| end == "json") {
            let said = said(&std::fs::read(&path).expect("an example"), &HOST);
            assert!(said.ends_with("runs\n"), "{}:\n{said}", path.display());
            files += 1;
        }
    }
    assert!(files >= 4, "{files} examples in {}", folder.display());
}
