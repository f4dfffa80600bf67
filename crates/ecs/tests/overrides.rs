//! RunTask's overrides against a definition with two containers.

use ecs::lint::{CpuArchitecture, HostFacts};
use ecs::overrides::{self, OverrideError, add_environment, apply};
use ecs::task_definition::TaskDefinition;

fn definition() -> TaskDefinition {
    let text = br#"{"family": "f", "memory": "1 GB", "containerDefinitions": [
        {"name": "web", "image": "nginx", "memory": 256, "memoryReservation": 128, "command": ["serve"],
         "environment": [{"name": "MODE", "value": "a"}, {"name": "KEEP", "value": "k"}, {"name": "MODE", "value": "b"}]},
        {"name": "side", "image": "busybox", "cpu": 64}]}"#;
    let host = HostFacts { cpu_architecture: CpuArchitecture::X86_64, privileged_disabled: false };
    let document = ecs::input::read(text).expect("JSON");
    ecs::lint::check(&document, &host).definition.expect("no errors")
}

fn said(text: &str) -> String {
    let written = match overrides::read(text.as_bytes()) {
        Ok(written) => written,
        Err(error) => return format!("unreadable: {error}"),
    };
    let report = overrides::check(&written, &definition());
    let lines: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    let end = if report.overrides.is_some() { "applies" } else { "refused" };
    format!("{}{end}", lines.iter().map(|line| format!("{line}\n")).collect::<String>())
}

fn variables(definition: &TaskDefinition, container: usize) -> Vec<String> {
    let environment = &definition.container_definitions[container].environment;
    environment.iter().map(|variable| format!("{}={}", variable.name, variable.value)).collect()
}

#[test]
fn members_that_are_given_replace_and_the_others_stay() {
    let text = r#"{"containerOverrides": [{"name": "web", "command": ["migrate", "--now"], "cpu": 0, "memory": 512,
        "environment": [{"name": "MODE", "value": "c"}, {"name": "NEW", "value": ""}]}], "memory": "2 GB",}"#;
    let written = overrides::read(text.as_bytes()).expect("JSON");
    let given = overrides::check(&written, &definition()).overrides.expect("no errors");
    let mut changed = definition();
    apply(&mut changed, &given).expect("it applies");
    let web = &changed.container_definitions[0];
    assert_eq!(web.command.as_deref(), Some(&["migrate".to_owned(), "--now".to_owned()][..]));
    assert_eq!((web.cpu, web.memory, web.memory_reservation), (0, Some(512), Some(128)));
    assert_eq!(variables(&changed, 0), ["MODE=c", "KEEP=k", "NEW="]);
    assert_eq!(changed.memory.as_deref(), Some("2 GB"));
    assert_eq!(changed.container_definitions[1], definition().container_definitions[1]);
}

#[test]
fn findings_name_their_place() {
    let text = r#"{"containerOverrides": [{"name": "wbe", "comand": []}, {"name": "web", "memory": "1",
        "environmentFiles": [{"value": "x", "type": "s3"}], "resourceRequirements": [{"type": "GPU", "value": "some"}],
        "environment": [{"name": "=", "value": "1"}]}], "taskRoleArn": "r", "image": "x"}"#;
    assert_eq!(
        said(text),
        "error: containerOverrides[0].name: no container is named \"wbe\"; the containers are: web, side\n\
         error: containerOverrides[0].comand: ContainerOverride has no such member; did you mean \"command\"?\n\
         error: containerOverrides[1].memory: a whole number is wanted here, not the text \"1\"; write 1 without quotes\n\
         error: containerOverrides[1].environmentFiles[0].value: \"x\" is not possible here; invalid s3 arn: \"x\"; arn:aws:s3:::BUCKET/KEY.env is one, and the absolute path of a file of this host will do\n\
         error: containerOverrides[1].resourceRequirements[0].value: \"some\" is no number of GPUs; write \"1\", or \"ALL\"\n\
         error: containerOverrides[1].environment[0].name: \"=\" is not possible here; an environment variable's name is not empty and has no '='\n\
         mapped: taskRoleArn: \"r\": no role is assumed: the task gets the credentials that this host's store of secrets has under the role's ARN\n\
         error: image: TaskOverride has no such member; it belongs into containerDefinitions[]\n\
         refused"
    );
}

#[test]
fn sizes_must_fit_together_afterwards() {
    assert_eq!(said(r#"{"containerOverrides": [{"name": "web", "memory": 1024}]}"#), "applies");
    assert_eq!(
        said(r#"{"containerOverrides": [{"name": "web", "memory": 127}]}"#),
        "error: container web: memory (127 MiB) must be greater than memoryReservation (128 MiB)\nrefused"
    );
    assert_eq!(
        said(r#"{"memory": "128"}"#),
        "error: task memory spec builder: container memory limit(256) greater than task memory limit(128), container web\nrefused"
    );
}

#[test]
fn amazons_limit_counts_characters() {
    let with = |length: usize| format!("{{\"taskRoleArn\": \"{}\"}}", "ö".repeat(length));
    // {"taskRoleArn":"…"}: 18 characters around the text.
    assert!(overrides::read(with(8192 - 18).as_bytes()).is_ok());
    assert_eq!(said(&with(8192 - 17)), "unreadable: the overrides are 8193 characters of JSON; Amazon ECS allows 8192");
}

#[test]
fn one_variable_goes_to_one_container_or_to_all() {
    let mut changed = definition();
    add_environment(&mut changed, None, "A", "1=2").expect("every container");
    add_environment(&mut changed, Some("side"), "A", "3").expect("one container");
    assert_eq!(variables(&changed, 0), ["MODE=a", "KEEP=k", "MODE=b", "A=1=2"]);
    assert_eq!(variables(&changed, 1), ["A=3"]);
    assert_eq!(
        add_environment(&mut changed, Some("db"), "A", "1"),
        Err(OverrideError::UnknownContainer { name: "db".into(), known: vec!["web".into(), "side".into()] })
    );
    let name = OverrideError::VariableName { name: "A=".into() };
    assert_eq!(add_environment(&mut changed, None, "A=", "1"), Err(name));
}

#[test]
fn roles_storage_and_devices_are_those_of_the_override() {
    let text = r#"{"taskRoleArn": "t", "executionRoleArn": "e", "ephemeralStorage": {"sizeInGiB": 21}, "cpu": "512",
        "containerOverrides": [{"name": "side", "memoryReservation": 32,
            "environmentFiles": [{"type": "s3", "value": "arn:aws:s3:::b/x.env"}],
            "resourceRequirements": [{"type": "GPU", "value": "2"}]}]}"#;
    let given = serde_json::from_str(text).expect("overrides");
    let mut changed = definition();
    apply(&mut changed, &given).expect("it applies");
    assert_eq!((changed.task_role_arn.as_deref(), changed.execution_role_arn.as_deref()), (Some("t"), Some("e")));
    assert_eq!(changed.ephemeral_storage.map(|storage| storage.size_in_gib), Some(21));
    assert_eq!(changed.cpu.as_deref(), Some("512"));
    let side = &changed.container_definitions[1];
    assert_eq!(side.memory_reservation, Some(32));
    assert_eq!(side.resource_requirements[0].value.as_deref(), Some("2"));
    assert_eq!(side.environment_files[0].value, "arn:aws:s3:::b/x.env");
    assert_eq!(changed.container_definitions[0], definition().container_definitions[0]);
}
