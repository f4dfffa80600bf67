//! FireLens: a router with its generated configuration and socket, and the containers that it gets output from.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{Host, Running, definition, log_services, wait_for};

fn router(kind: &str, options: &Value) -> Value {
    let place = if kind == "fluentbit" { "/fluent-bit/etc/fluent-bit.conf" } else { "/fluentd/etc/fluent.conf" };
    let command = ["router", place, "/var/run/fluent.sock"];
    definition::container(
        "log_router",
        &command,
        &json!({ "firelensConfiguration": { "type": kind, "options": options }, "stopTimeout": 10 }),
    )
}

fn app(command: &[&str], options: &Value) -> Value {
    definition::container(
        "app",
        command,
        &json!({ "logConfiguration": { "logDriver": "awsfirelens", "options": options } }),
    )
}

/// The router of these tests ends at once with SIGTERM, and the others' last words are written right before it.
#[test]
fn a_router_gets_its_configuration_and_the_others_output() {
    let host = Host::new();
    host.import_probe();
    let task = definition::bridge_task(&[
        app(&["count", "1", "4000"], &json!({ "Name": "stdout", "Format": "json", "exclude-pattern": "debug" })),
        router("fluentbit", &json!({ "enable-ecs-log-metadata": "true" })),
    ]);
    let ended = host.run(&task, &[]).ok();
    let said: Vec<&str> = ended
        .stdout
        .lines()
        .filter(|line| line.starts_with("log_router"))
        .filter_map(|line| line.split_once("| "))
        .map(|(_, text)| text)
        .collect();
    let configuration: Vec<&str> = said.iter().filter_map(|line| line.strip_prefix("configuration: ")).collect();
    for wanted in [
        "    unix_path /var/run/fluent.sock",
        "    Listen 0.0.0.0",
        "    Mem_Buf_Limit 32MB",
        "    Tag firelens-healthcheck",
        "    Exclude log debug",
        "    Record ecs_cluster default",
        "    Record ecs_task_definition test:1",
        "    Match app-firelens*",
        "    Format json",
    ] {
        assert!(configuration.contains(&wanted), "{wanted:?} is not in {}", ended.whole());
    }
    // A line that is long goes on in another where something else was said in between.
    let got: String = said.iter().map(|line| line.strip_prefix("got: ").unwrap_or(line)).collect();
    for number in [1, 2000, 3999, 4000] {
        assert!(got.contains(&format!("line {number:06}")), "line {number} did not come: {}", ended.whole());
    }
    assert!(got.contains("app-firelens-") && got.contains("/ecs-test-1-app"), "{got}");
    host.finish();
}

#[test]
fn containers_know_the_routers_address_and_start_after_it() {
    let host = Host::new();
    host.import_probe();
    let task = definition::bridge_task(&[app(&["wait"], &json!({ "Name": "null" })), router("fluentbit", &json!({}))]);
    let id = host.detach(&task, &[]);
    let seen = host.coracle(["exec", &id, "app", "--", "/bin/probe", "environment"]).ok().json();
    let shown = host.inspect(&id);
    assert_eq!(seen["FLUENT_HOST"], shown["coracle"]["containers"]["log_router"]["ipv4Address"]);
    assert_eq!(seen["FLUENT_PORT"], "24224");
    let started = |name: &str| shown["coracle"]["containers"][name]["startedAt"].as_f64().expect("it runs");
    assert!(started("log_router") <= started("app"), "{shown}");
    host.coracle(["stop", &id]).ok();
    host.coracle(["rm", &id]).ok();
    host.finish();
}

#[test]
fn fluentd_has_its_own_file_and_gets_output_without_acknowledging_it() {
    let host = Host::new();
    host.import_probe();
    let counting = app(&["count", "1", "3", "0", "wait"], &json!({ "@type": "stdout" }));
    let id = host.detach(&definition::task(&[counting, router("fluentd", &json!({}))]), &[]);
    let of_router = || host.coracle(["logs", &id]).ok().stdout;
    let came = |said: &str| said.lines().any(|line| line.contains("got: ") && line.contains("line 000003"));
    let said = wait_for("the router's words", || Some(of_router()).filter(|said| came(said)));
    for wanted in ["<source>", "    path /var/run/fluent.sock", "<match app-firelens**>", "    @type stdout"] {
        assert!(said.contains(&format!("configuration: {wanted}\n")), "{wanted:?} is not in {said}");
    }
    host.coracle(["stop", &id]).ok();
    host.coracle(["rm", &id]).ok();
    host.finish();
}

/// What a collector answers to everything is the file here.
#[test]
fn a_configuration_out_of_s3_and_secret_options_are_the_routers() {
    let host = Host::new();
    host.import_probe();
    let mut put = host.command(["secret", "put", "key"]);
    put.stdin(Stdio::piped());
    let mut put = Running::start(&mut put);
    put.stdin().write_all(b"canary-0815").expect("it reads");
    put.wait().ok();
    let mut app = app(&["wait"], &json!({ "Name": "datadog" }));
    app["logConfiguration"]["secretOptions"] = json!([{ "name": "apikey", "valueFrom": "key" }]);
    let options = json!({ "config-file-type": "s3", "config-file-value": "arn:aws:s3:::settings/extra.conf" });
    let task = definition::task(&[app, router("fluentbit", &options)]);
    host.run(&task, &[]).expect_code(125).says(&[
        "ResourceInitializationError",
        "log_router",
        "no S3 endpoint is configured",
    ]);
    let bucket = log_services::collector(&host, 9000);
    let file = host.file("task.json", task.to_string());
    let mut command = host.command(["run".as_ref(), "--detach".as_ref(), file.as_os_str()]);
    command.env("CORACLE_S3_ENDPOINT", "http://127.0.0.1:9000");
    let id = Running::start(&mut command).wait().ok().line().to_owned();
    assert!(bucket.items()[0].head.starts_with("get /settings/extra.conf "));
    let inside =
        |words: &[&str]| host.coracle([&["exec", &id, "log_router", "--", "/bin/probe"], words].concat()).ok().stdout;
    assert!(inside(&["read", "/fluent-bit/etc/external.conf"]).contains("Success"));
    assert!(inside(&["environment"]).contains("canary-0815"));
    let configuration = inside(&["read", "/fluent-bit/etc/fluent-bit.conf"]);
    assert!(configuration.contains("@INCLUDE /fluent-bit/etc/external.conf") && configuration.contains("${apikey_0}"));
    assert!(!configuration.contains("canary-0815"));
    host.coracle(["stop", &id]).ok();
    host.coracle(["rm", &id]).ok();
    bucket.end();
    host.finish();
}

#[test]
fn a_missing_router_two_of_them_and_a_plugin_without_a_name_are_refused() {
    let host = Host::new();
    host.import_probe();
    let alone = definition::task(&[app(&["exit", "0"], &json!({ "Name": "null" }))]);
    host.run(&alone, &[]).refused(&["awsfirelens", "firelensConfiguration"]);
    let mut second = router("fluentd", &json!({}));
    second["name"] = json!("other");
    let two = definition::task(&[router("fluentbit", &json!({})), second]);
    host.run(&two, &[]).refused(&["log router"]);
    let nameless = definition::task(&[app(&["exit", "0"], &json!({ "region": "x" })), router("fluentbit", &json!({}))]);
    host.run(&nameless, &[]).refused(&["app", "missing output key Name"]);
    host.finish();
}
