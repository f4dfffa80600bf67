//! Secrets: in their container and nowhere else; the store's commands; a login for a registry.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::registry::{Fault, Registry, Repository};
use crate::support::{Finished, Host, Running, definition, image};

const ARN: &str = "arn:aws:secretsmanager:eu-central-1:123456789012:secret";

/// `coracle secret put`, with the value on standard input.
fn put(host: &Host, name: &str, value: &str, arguments: &[&str]) -> Finished {
    let mut command = host.command(["secret", "put", name].iter().chain(arguments));
    command.stdin(Stdio::piped());
    let mut running = Running::start(&mut command);
    // What is refused by its name is not read.
    drop(running.stdin().write_all(value.as_bytes()));
    running.wait()
}

/// Every file below a directory that has the text in it.
fn files_with(directory: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                open.push(entry.path());
            } else if kind.is_file() {
                let bytes = fs::read(entry.path()).unwrap_or_default();
                if String::from_utf8_lossy(&bytes).contains(text) {
                    found.push(entry.path().display().to_string());
                }
            }
        }
    }
    found
}

/// What everybody may read of the processes whose command line names the task: supervisor and shippers.
fn said_in_proc(task: &str) -> String {
    let mut said = String::new();
    for process in fs::read_dir("/proc").expect("proc is mounted").flatten() {
        let file = |name: &str| fs::read(process.path().join(name)).unwrap_or_default();
        let command = String::from_utf8_lossy(&file("cmdline")).into_owned();
        if command.contains(task) {
            said.push_str(&command);
            said.push_str(&String::from_utf8_lossy(&file("environ")));
        }
    }
    assert!(said.contains(task), "the supervisor of {task} runs");
    said
}

#[test]
fn secrets_reach_their_container_and_nobody_else() {
    const VALUE: &str = "correct-horse-battery-staple";
    const PASSWORD: &str = "tr0ub4dor-and-3";
    let host = Host::new();
    host.import_probe();
    put(&host, "/prod/token", &format!("{VALUE}\n"), &[]).ok();
    put(&host, &format!("{ARN}:prod/db-AbCdEf"), &json!({ "password": PASSWORD, "port": 5432 }).to_string(), &[]).ok();
    let task = definition::task(&[
        definition::container(
            "main",
            &["wait"],
            &json!({
                "environment": [{ "name": "HOST", "value": "db" }],
                "secrets": [
                    { "name": "TOKEN", "valueFrom": "/prod/token" },
                    { "name": "AGAIN", "valueFrom": "arn:aws:ssm:eu-central-1:123456789012:parameter/prod/token" },
                    { "name": "PASSWORD", "valueFrom": format!("{ARN}:prod/db-AbCdEf:password::") },
                    { "name": "PORT", "valueFrom": format!("{ARN}:prod/db:port::") },
                    { "name": "/run/secrets/token", "valueFrom": "/prod/token" },
                ],
                "logConfiguration": { "logDriver": "json-file" },
            }),
        ),
        definition::container("other", &["wait"], &json!({ "essential": false })),
    ]);
    let task = host.detach(&task, &[]);
    let environment =
        |container: &str| host.coracle(["exec", &task, container, "--", "/bin/probe", "environment"]).ok().json();
    let own = environment("main");
    for (name, value) in [("TOKEN", VALUE), ("AGAIN", VALUE), ("PASSWORD", PASSWORD), ("PORT", "5432"), ("HOST", "db")]
    {
        assert_eq!(own[name], value, "{name}");
    }
    assert_eq!(own["/run/secrets/token"], Value::Null);
    assert_eq!(environment("other")["TOKEN"], Value::Null);
    let read =
        |container: &str| host.coracle(["exec", &task, container, "--", "/bin/probe", "read", "/run/secrets/token"]);
    assert_eq!(read("main").ok().stdout.trim_end(), VALUE);
    read("other").refused(&["/run/secrets/token"]);

    let shown = [
        said_in_proc(&task),
        host.coracle(["inspect", &task]).ok().whole(),
        host.coracle(["ps", "--output", "json"]).ok().whole(),
        host.coracle(["logs", &task]).ok().whole(),
    ];
    let nowhere = |when: &str| {
        for value in [VALUE, PASSWORD] {
            for directory in [host.places.data_dir(), host.places.run_dir()] {
                assert_eq!(files_with(&directory, value), [""; 0], "{when}");
            }
        }
    };
    for value in [VALUE, PASSWORD] {
        assert!(shown.iter().all(|text| !text.contains(value)), "{shown:?}");
    }
    nowhere("while the task runs");
    host.coracle(["stop", &task]).ok();
    nowhere("after its end");
    host.coracle(["rm", &task]).ok();
    host.finish();
}

#[test]
fn a_secret_that_is_not_there_stops_the_task_before_its_start() {
    let host = Host::new();
    host.import_probe();
    put(&host, "prod/db", "hunter2", &[]).ok();
    let task = definition::probe_with(
        &["exit", "0"],
        &json!({ "secrets": [
            { "name": "A", "valueFrom": "/prod/none" },
            { "name": "B", "valueFrom": format!("{ARN}:none-AbCdEf") },
            { "name": "C", "valueFrom": format!("{ARN}:prod/db:key::") },
            { "name": "D", "valueFrom": format!("{ARN}:prod/db::AWSPREVIOUS:") },
        ] }),
    );
    let failed = host.run(&task, &[]).expect_code(125).says(&[
        "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: ",
        "unable to retrieve secrets from ssm: container main: secret A: /prod/none: invalid parameters: prod/none",
        &format!("unable to retrieve secret from asm: container main: secret B: {ARN}:none-AbCdEf: "),
        "ResourceNotFoundException: Secrets Manager can't find the specified secret.",
        "`coracle secret put none` puts it",
        "secret C: ",
        "is not a JSON object, so it has no json key key",
        "can't find the specified secret value for staging label: AWSPREVIOUS",
    ]);
    assert!(!failed.whole().contains("hunter2"), "{}", failed.whole());
    // What could never be a name is told with its place in the file.
    for (name, from, words) in [
        ("A", "a b", "is no name of a secret"),
        ("A", "arn:aws:s3:::b/x", "neither arn:aws:ssm"),
        ("A", &format!("{ARN}:db:key"), "an invalid ARN format for the AWS Secrets Manager secret was specified"),
        ("/a/../b", "db", "a secret's file is an absolute path"),
    ] {
        let task = definition::probe_with(&["exit", "0"], &json!({ "secrets": [{ "name": name, "valueFrom": from }] }));
        host.run(&task, &[]).expect_code(2).says(&["secrets[0].", words]);
    }
    host.finish();
}

#[test]
fn the_store_is_filled_and_looked_at_by_commands() {
    let host = Host::new();
    let coracle = |arguments: &[&str]| host.coracle([&["secret"], arguments].concat());
    assert_eq!(coracle(&["ls", "--output", "json"]).ok().json(), json!([]));
    let first = put(&host, "/prod/db", "one\n", &[]).ok();
    let (name, id) = first.line().split_once('\t').expect("a name and a version");
    assert_eq!(name, "prod/db");
    let file = host.file("value", "two\n");
    coracle(&["put", "prod/db", "--value-file", file.to_str().expect("a plain path")]).ok();
    put(&host, "registry", "{}", &["--type", "secretsmanager"]).ok();

    let listed = coracle(&["ls", "--output", "json"]).ok().json();
    assert_eq!(listed[0]["name"], "prod/db");
    assert_eq!((&listed[0]["type"], &listed[1]["type"]), (&json!("ssm"), &json!("secretsmanager")));
    assert_eq!(listed[0]["versions"][0]["id"], id);
    assert_eq!(listed[0]["versions"][0]["stages"], json!(["AWSPREVIOUS"]));
    coracle(&["ls"]).ok().prints(&["prod/db", "registry"]);
    let looked_at = coracle(&["get", "prod/db"]).ok().prints(&["AWSCURRENT", "AWSPREVIOUS"]);
    assert!(!looked_at.stdout.contains("two"), "{}", looked_at.stdout);

    // A file is taken as it is; of standard input, one line end is left out.
    assert_eq!(coracle(&["get", "--reveal", "prod/db"]).ok().stdout, "two\n\n");
    assert_eq!(coracle(&["get", "--reveal", &format!("{ARN}:prod/db::AWSPREVIOUS:")]).ok().stdout, "one\n");
    assert_eq!(coracle(&["get", "--reveal", &format!("{ARN}:prod/db:::{id}")]).ok().stdout, "one\n");

    let secrets = host.places.data_dir().join("secrets");
    assert_eq!(fs::metadata(&secrets).expect("it is there").permissions().mode() & 0o777, 0o700);
    for file in fs::read_dir(&secrets).expect("it is there").flatten() {
        assert_eq!(file.metadata().expect("it is there").permissions().mode() & 0o777, 0o600, "{:?}", file.path());
    }

    coracle(&["rm", "prod/db"]).ok();
    coracle(&["rm", "prod/db"]).refused(&["there is no secret prod/db"]);
    coracle(&["get", "prod/db"]).refused(&["there is no secret prod/db"]);
    put(&host, "a b", "x", &[]).expect_code(2).says(&["is no name of a secret"]);
    put(&host, "empty", "\n", &[]).refused(&["the value has 0 bytes"]);
    put(&host, "large", &"x".repeat(65_537), &[]).refused(&["65537 bytes"]);
    put(&host, &format!("{ARN}:db:key::"), "x", &[]).expect_code(2).says(&["names a part of a secret"]);
    host.finish();
}

#[test]
fn an_image_is_pulled_with_the_login_that_the_store_has() {
    let host = Host::new();
    let blobs = image::probe_image().blobs();
    let repository = |name: &str, fault| Repository { name: name.to_owned(), blobs: blobs.clone(), fault };
    let registry = Registry::start(
        &host,
        vec![repository("basic", Fault::Basic("ana", "s3cr3t")), repository("token", Fault::Token("ana", "s3cr3t"))],
    );
    put(&host, "good", &json!({ "username": "ana", "password": "s3cr3t" }).to_string(), &[]).ok();
    put(&host, "bad", &json!({ "username": "ana", "password": "guess-work" }).to_string(), &[]).ok();
    put(&host, "text", "s3cr3t", &[]).ok();
    let task = |repository: &str, credentials: Option<&str>| {
        let mut members = json!({ "image": format!("{}:1", registry.reference(repository)) });
        if let Some(credentials) = credentials {
            members["repositoryCredentials"] = json!({ "credentialsParameter": credentials });
        }
        definition::probe_with(&["exit", "0"], &members)
    };
    host.run(&task("basic", None), &[]).refused(&["it wants a login and none is known"]);
    let refused = host.run(&task("basic", Some("bad")), &[]).refused(&["does not accept the login of user \"ana\""]);
    assert!(!refused.whole().contains("guess-work"), "{}", refused.whole());
    let malformed = host.run(&task("basic", Some("text")), &[]).expect_code(125).says(&[
        "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: \
         unable to get registry auth from asm: container main: repositoryCredentials: text: ",
        "unable to unmarshal secret value, invalid schema",
    ]);
    assert!(!malformed.whole().contains("s3cr3t"), "{}", malformed.whole());
    host.run(&task("basic", Some("none")), &[]).expect_code(125).says(&["can't find the specified secret"]);
    host.run(&task("basic", Some("good")), &[]).ok();
    host.run(&task("token", Some(&format!("{ARN}:good-AbCdEf"))), &[]).ok();
    registry.stop(&host);
    host.finish();
}
