//! `links` of bridge mode: names in /etc/hosts and Docker's variables, in the linking container alone.

use serde_json::{Value, json};

use crate::support::{Host, definition, wait_for};

fn exec(host: &Host, task: &str, container: &str, command: &[&str]) -> crate::support::Finished {
    host.coracle([&["exec", task, container, "--", "/bin/probe"], command].concat())
}

fn hosts_of(host: &Host, task: &str, container: &str) -> String {
    exec(host, task, container, &["read", "/etc/hosts"]).ok().stdout
}

#[test]
fn a_linked_container_is_reached_by_its_names() {
    let host = Host::new();
    host.import_probe();
    let quick = |members: Value| {
        let mut all = json!({ "stopTimeout": 2 });
        all.as_object_mut().expect("an object").extend(members.as_object().expect("an object").clone());
        all
    };
    let task = definition::bridge_task(&[
        definition::container(
            "web",
            &["forever"],
            &quick(
                json!({ "links": ["store:the-db", "store"], "environment": [{ "name": "STORE_NAME", "value": "own" }] }),
            ),
        ),
        definition::container(
            "store",
            &["tcp-echo", "5432"],
            &quick(json!({
                "hostname": "store-1",
                "portMappings": [{ "containerPort": 5432 }],
                "environment": [{ "name": "VERSION", "value": "16" }],
            })),
        ),
    ]);
    let task = host.detach(&task, &[]);
    wait_for("the server", || host.coracle(["logs", &task]).stdout.contains("listening").then_some(()));
    for name in ["the-db", "store", "store-1"] {
        exec(&host, &task, "web", &["tcp-say", &format!("{name}:5432"), "ahoy"]).ok().prints(&["said ahoy"]);
    }
    let hosts = hosts_of(&host, &task, "web");
    let line = hosts.lines().find(|line| line.contains("the-db")).expect("an entry of the link").to_owned();
    let (address, names) = line.split_once('\t').expect("an address and names");
    assert_eq!(names, "the-db store-1 store");

    let environment = exec(&host, &task, "web", &["environment"]).ok().json();
    for (name, value) in [
        ("THE_DB_PORT", format!("tcp://{address}:5432")),
        ("THE_DB_PORT_5432_TCP", format!("tcp://{address}:5432")),
        ("THE_DB_PORT_5432_TCP_ADDR", address.to_owned()),
        ("THE_DB_PORT_5432_TCP_PORT", "5432".to_owned()),
        ("THE_DB_PORT_5432_TCP_PROTO", "tcp".to_owned()),
        ("THE_DB_NAME", "/ecs-test-1-web/the-db".to_owned()),
        ("THE_DB_ENV_VERSION", "16".to_owned()),
        ("STORE_PORT_5432_TCP_ADDR", address.to_owned()),
        // The container's own variables win.
        ("STORE_NAME", "own".to_owned()),
    ] {
        assert_eq!(environment[name], json!(value), "{name} in {environment}");
    }
    assert_eq!(environment["THE_DB_ENV_PATH"], Value::Null);
    // A link has one direction, and names are known through links alone.
    assert!(!hosts_of(&host, &task, "store").contains("web"));
    host.coracle(["stop", &task]).ok();
    host.coracle(["rm", &task]).ok();
    host.finish();
}

/// Docker tells a linked container's whole environment, its secrets included.
#[test]
fn secrets_of_a_linked_container_are_told_like_secrets() {
    const VALUE: &str = "told-only-in-memory-4711";
    let host = Host::new();
    host.import_probe();
    let value = host.file("value", VALUE);
    host.coracle(["secret", "put", "token", "--value-file", value.to_str().expect("a plain path")]).ok();
    let task = definition::bridge_task(&[
        definition::container("web", &["wait"], &json!({ "links": ["db"] })),
        definition::container("db", &["wait"], &json!({ "secrets": [{ "name": "TOKEN", "valueFrom": "token" }] })),
    ]);
    let task = host.detach(&task, &[]);
    let environment = exec(&host, &task, "web", &["environment"]).ok().json();
    assert_eq!(environment["DB_ENV_TOKEN"], VALUE);
    let written = host.places.data_dir().join("tasks").join(&task).join("task.json");
    let written = std::fs::read_to_string(written).expect("a task has its file");
    assert!(!written.contains(VALUE), "{written}");
    host.coracle(["stop", &task]).ok();
    host.coracle(["rm", &task]).ok();
    host.finish();
}

#[test]
fn links_that_cannot_be_are_refused_before_anything_is_made() {
    let host = Host::new();
    host.import_probe();
    let two = |web: Value, db: Value| {
        definition::bridge_task(&[
            definition::container("web", &["exit", "0"], &web),
            definition::container("db", &["exit", "0"], &db),
        ])
    };
    host.run(&two(json!({ "links": ["none"] }), json!({})), &[]).refused(&["links[0]", "none"]);
    host.run(&two(json!({ "links": ["web"] }), json!({})), &[]).refused(&["web"]);
    host.run(&two(json!({ "links": ["db"] }), json!({ "links": ["web"] })), &[]).refused(&["web", "db"]);
    host.run(&two(json!({ "links": ["db"], "disableNetworking": true }), json!({})), &[])
        .refused(&["disableNetworking"]);
    host.run(&two(json!({ "links": ["db"] }), json!({ "disableNetworking": true })), &[])
        .refused(&["disableNetworking"]);
    for mode in ["host", "none"] {
        let mut task = two(json!({ "links": ["db"] }), json!({}));
        task["networkMode"] = json!(mode);
        host.run(&task, &[]).expect_code(2).says(&["links", mode]);
    }
    host.finish();
}
