//! The table of members: printed, and as good as its word where no other theme shows a member: tags and the members of
//! RunTask's overrides. And registration's rules at the command line.

use serde_json::json;

use crate::support::{Host, cgroups, definition};

const MIB: u64 = 1 << 20;

#[test]
fn the_table_of_members_is_printed() {
    let host = Host::new();
    host.coracle(["lint", "--members"]).ok().prints(&["# Members", "| `containerDefinitions[].image` | effective |"]);
    let table = host.coracle(["lint", "--members", "--output", "json"]).ok().json();
    assert_eq!(table["ContainerDefinition"]["image"]["here"], "effective");
    assert_eq!(table["HealthCheck"]["command"]["type"], "list<string>");
    // One of the two is wanted, a file or the table.
    host.coracle(["lint"]).expect_code(2);
    host.coracle(["lint", "--members", "task.json"]).expect_code(2);
    host.finish();
}

#[test]
fn a_definitions_tags_are_the_tasks() {
    let host = Host::new();
    host.import_probe();
    let mut tagged = definition::probe(&["wait"]);
    tagged["tags"] = json!([{ "key": "team", "value": "web" }, { "key": "no-value" }]);
    let task = host.detach(&tagged, &[]);
    let shown = host.inspect(&task);
    assert_eq!(shown["tags"], json!([{ "key": "team", "value": "web" }, { "key": "no-value", "value": "" }]));
    host.coracle(["stop", &task]).ok();
    host.coracle(["rm", &task]).ok();
    host.finish();
}

#[test]
fn an_override_gives_a_container_other_sizes() {
    let host = Host::new();
    host.import_probe();
    let overrides =
        json!({ "containerOverrides": [{ "name": "main", "cpu": 512, "memory": 80, "memoryReservation": 40 }] });
    let task = host.detach(&definition::probe(&["wait"]), &["--override", &overrides.to_string()]);
    let cgroup = format!("{}/{task}/main", host.places.cgroup_parent);
    let hard = cgroups::value("memory", &cgroup, ["memory.limit_in_bytes", "memory.max"]);
    assert_eq!(hard, (80 * MIB).to_string());
    let soft = cgroups::value("memory", &cgroup, ["memory.soft_limit_in_bytes", "memory.low"]);
    assert_eq!(soft, (40 * MIB).to_string());
    if !cgroups::unified() {
        assert_eq!(cgroups::value("cpu", &cgroup, ["cpu.shares", "cpu.weight"]), "512");
    }
    host.coracle(["stop", &task]).ok();
    host.coracle(["rm", &task]).ok();
    host.finish();
}

#[test]
fn an_override_gives_the_task_another_size() {
    let host = Host::new();
    host.import_probe();
    let overrides = json!({ "cpu": ".5 vcpu", "memory": "128" });
    let task = host.detach(&definition::probe(&["wait"]), &["--override", &overrides.to_string()]);
    let shown = host.inspect(&task);
    assert_eq!((&shown["cpu"], &shown["memory"]), (&json!("512"), &json!("128")));
    let cgroup = format!("{}/{task}", host.places.cgroup_parent);
    let hard = cgroups::value("memory", &cgroup, ["memory.limit_in_bytes", "memory.max"]);
    assert_eq!(hard, (128 * MIB).to_string());
    host.coracle(["stop", &task]).ok();
    host.coracle(["rm", &task]).ok();
    host.finish();
}

/// `run` and `lint` give RegisterTaskDefinition's answers, in Amazon's words.
#[test]
fn what_amazon_does_not_register_does_not_run() {
    let host = Host::new();
    host.import_probe();
    let waits_for =
        |name: &str, condition: &str| json!({ "dependsOn": [{ "containerName": name, "condition": condition }] });
    let two = |first, second| {
        definition::task(&[
            definition::container("one", &["exit", "0"], &first),
            definition::container("two", &["exit", "0"], &second),
        ])
    };
    let mut volume = definition::probe_with(
        &["exit", "0"],
        &json!({
            "mountPoints": [{ "sourceVolume": "data", "containerPath": "/data" }]
        }),
    );
    volume["volumes"] = json!([{ "name": "other" }]);
    let mut fargate = definition::probe(&["exit", "0"]);
    fargate["requiresCompatibilities"] = json!(["FARGATE"]);
    for (refused, words) in [
        (two(waits_for("two", "START"), waits_for("one", "START")), "a cycle: one waits for two waits for one"),
        (two(waits_for("three", "START"), json!({})), "Cannot depend on container + 'three' because it does not exist"),
        (
            two(waits_for("two", "SUCCESS"), json!({})),
            "A dependency container with SUCCESS or COMPLETE condition cannot be an essential container",
        ),
        (volume, "Unknown volume 'data'"),
        (fargate, "Fargate only supports network mode ‘awsvpc’."),
    ] {
        host.run(&refused, &[]).refused(&[words]);
        let file = host.file("refused.json", refused.to_string());
        host.coracle(["lint".as_ref(), file.as_os_str()]).expect_code(1).prints(&[words]);
    }
    host.finish();
}
