//! `coracle lint`: all findings at once, each with its path, and exit code 1 on errors only.

use serde_json::{Value, json};

use crate::support::{Finished, Host, definition};

fn lint(host: &Host, definition: &Value) -> Finished {
    let file = host.file("task.json", definition.to_string());
    host.coracle(["lint".as_ref(), file.as_os_str()])
}

#[test]
fn a_good_definition_passes() {
    let host = Host::new();
    lint(&host, &definition::probe(&["exit", "0"])).ok();
    host.finish();
}

#[test]
fn every_error_is_told_with_its_path_in_one_go() {
    let host = Host::new();
    let mut bad = definition::task(&[
        json!({ "name": "has space", "image": "a:b", "memory": 64 }),
        json!({ "name": "two", "image": "", "memory": 64, "memoryReservation": 128, "essential": "yes" }),
        json!({ "name": "two", "image": "x", "memory": 3, "dependsOn": [{ "containerName": "nobody", "condition": "START" }] }),
        json!({ "name": "four", "image": "x", "portMapping": [] }),
    ]);
    bad["networkMode"] = json!("brigde");
    bad["family"] = json!("not a family!");
    let found = lint(&host, &bad).expect_code(1);
    for path in [
        "family",
        "networkMode",
        "containerDefinitions[0].name",
        "containerDefinitions[1].image",
        "containerDefinitions[1].essential",
        "containerDefinitions[2].name",
        "containerDefinitions[2].memory",
        "containerDefinitions[2].dependsOn[0].containerName",
        "containerDefinitions[3].portMapping",
    ] {
        assert!(found.stdout.contains(path), "{path} is not among the findings: {}", found.whole());
    }
    // What would be right, where it can be guessed.
    for right in ["bridge", "portMappings"] {
        assert!(found.stdout.contains(right), "{right} is not suggested: {}", found.whole());
    }
    host.finish();
}

#[test]
fn what_has_no_effect_is_a_warning_that_run_prints_too() {
    let host = Host::new();
    host.import_probe();
    let mut definition = definition::probe_with(
        &["exit", "0"],
        &json!({ "logConfiguration": { "logDriver": "awslogs", "options": {
            "awslogs-group": "/ecs/x", "awslogs-region": "us-east-1", "awslogs-stream-prefix": "ecs" } } }),
    );
    definition["executionRoleArn"] = json!("arn:aws:iam::123456789012:role/ecsTaskExecutionRole");
    definition["requiresCompatibilities"] = json!(["EC2"]);
    lint(&host, &definition).ok().prints(&["logConfiguration", "executionRoleArn"]);
    host.run(&definition, &[]).ok().says(&["logConfiguration"]);
    host.finish();
}

#[test]
fn every_network_mode_is_right_where_amazon_has_it() {
    let host = Host::new();
    // Linux modes of each launch type: task-networking.html and ecs-anywhere.html of Amazon's developer guide.
    let modes = ["awsvpc", "bridge", "host", "none"];
    for (launch_type, right) in [("EC2", modes.as_slice()), ("FARGATE", &modes[..1]), ("EXTERNAL", &modes)] {
        for mode in modes {
            let mut definition = definition::probe(&["exit", "0"]);
            definition["networkMode"] = json!(mode);
            definition["requiresCompatibilities"] = json!([launch_type]);
            (definition["cpu"], definition["memory"]) = (json!("256"), json!("512"));
            let done = lint(&host, &definition);
            if !right.contains(&mode) {
                done.expect_code(1).prints(&["Fargate only supports network mode"]);
            } else if (launch_type, mode) == ("EXTERNAL", "awsvpc") {
                done.ok().prints(&["note: networkMode", "EXTERNAL instances have no network mode awsvpc"]);
            } else {
                done.ok();
            }
        }
    }
    host.finish();
}

#[test]
fn findings_as_json() {
    let host = Host::new();
    let mut definition = definition::probe(&["exit", "0"]);
    definition["networkMode"] = json!("vpc");
    let file = host.file("task.json", definition.to_string());
    let found =
        host.coracle(["lint".as_ref(), "--output".as_ref(), "json".as_ref(), file.as_os_str()]).expect_code(1).json();
    assert_eq!(found["errors"], 1);
    assert_eq!(found["findings"][0]["path"], "networkMode");
    host.finish();
}
