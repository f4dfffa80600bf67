//! Where containers' output goes and how it is read back: log groups that outlive their tasks, drivers that keep
//! nothing, events of several lines, old output that goes, and floods.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Host, definition, wait_at_most, wait_for};

/// A supervisor never holds more than this at a time, whatever is written through it.
const MOST_RESIDENT_KB: u64 = 16 << 10;
/// For some hundred megabytes; an emulated processor takes minutes for them.
const FLOOD: Duration = Duration::from_secs(900);

fn awslogs(options: &[(&str, &str)]) -> Value {
    let mut all = json!({ "awslogs-group": "/ecs/test", "awslogs-region": "eu-west-1" });
    for (name, value) in options {
        all[*name] = json!(value);
    }
    json!({ "logConfiguration": { "logDriver": "awslogs", "options": all } })
}

fn json_file(options: &Value) -> Value {
    json!({ "logConfiguration": { "logDriver": "json-file", "options": options } })
}

/// What `coracle logs --output json` printed, one value a line.
fn events(host: &Host, arguments: &[&str]) -> Vec<Value> {
    let all = [&["logs", "--output", "json"], arguments].concat();
    host.coracle(all).ok().json_lines()
}

fn texts(events: &[Value], member: &str) -> Vec<String> {
    events.iter().map(|event| event[member].as_str().expect("a text").to_owned()).collect()
}

#[test]
fn a_log_group_outlives_its_tasks() {
    let host = Host::new();
    host.import_probe();
    let prefixed = awslogs(&[("awslogs-stream-prefix", "ecs")]);
    let first = host.detach(&definition::probe_with(&["say", "one"], &prefixed), &[]);
    let stream = format!("ecs/main/{first}");
    let log = host.inspect(&first)["coracle"]["containers"]["main"]["log"].clone();
    assert_eq!((&log["logGroupName"], &log["logStreamName"]), (&json!("/ecs/test"), &json!(stream)));
    host.coracle(["logs", "--follow", &first]).ok();
    wait_for("the first task to be removable", || (host.coracle(["rm", &first]).code() == 0).then_some(()));
    // A second task, which run itself removes at its end, without a prefix.
    host.run(&definition::probe_with(&["say", "two"], &awslogs(&[])), &[]).ok();
    let all = events(&host, &["--group", "/ecs/test"]);
    assert_eq!(texts(&all, "message"), ["one", "two"]);
    assert_eq!(all[0]["logStreamName"], json!(stream));
    let runtime_id = all[1]["logStreamName"].as_str().expect("a name").to_owned();
    assert!(runtime_id.len() == 64 && runtime_id.bytes().all(|digit| digit.is_ascii_hexdigit()), "{runtime_id}");
    let one = events(&host, &["--group", "/ecs/test", "--stream", &runtime_id]);
    assert_eq!(texts(&one, "message"), ["two"]);
    let text = host.coracle(["logs", "--group", "/ecs/test", "--stream", &stream]).ok().stdout;
    assert_eq!(text, "one\n");
    host.coracle(["logs", "--group", "/ecs/other"]).refused(&["one of these groups: /ecs/test"]);
    host.finish();
}

#[test]
fn with_the_driver_none_nothing_is_kept() {
    let host = Host::new();
    host.import_probe();
    let none = json!({ "logConfiguration": { "logDriver": "none" } });
    let task = host.detach(&definition::probe_with(&["flood", "1000"], &none), &[]);
    wait_for("the task's end", || (host.inspect(&task)["lastStatus"] == "STOPPED").then_some(()));
    host.coracle(["logs", &task]).refused(&["nothing is kept of what main writes: the log driver is none"]);
    let logs = host.places.data_dir().join("tasks").join(&task).join("logs");
    assert_eq!(std::fs::read_dir(logs).expect("it exists").count(), 0);
    host.coracle(["rm", &task]).ok();
    host.finish();
}

#[test]
fn lines_of_one_event_are_one_in_json_and_lines_in_text() {
    let host = Host::new();
    host.import_probe();
    let pattern = awslogs(&[("awslogs-multiline-pattern", "^INFO")]);
    let words = [r"INFO\x20one\n", r"INFO\x20two\n\x20\x20more\n", r"INFO\x20three\n"];
    let command = [&["bytes"], words.as_slice()].concat();
    let task = host.detach(&definition::probe_with(&command, &pattern), &[]);
    let events = events(&host, &["--follow", &task]);
    assert_eq!(texts(&events, "message"), ["INFO one", "INFO two\n  more", "INFO three"]);
    let text = host.coracle(["logs", "--tail", "2", &task]).ok().stdout;
    assert_eq!(text, "  more\nINFO three\n");
    host.coracle(["rm", &task]).ok();
    host.finish();
}

#[test]
fn bytes_are_kept_as_they_were_written() {
    let host = Host::new();
    host.import_probe();
    // Half a letter, then the other half; what is no text; a line without an end; and the other stream.
    let command = ["bytes", r"\xe2\x82", r"\xac\n", r"\x00\xff\n", "open", "stderr", r"\x1b[31mred\n"];
    let task = host.detach(&definition::probe(&command), &[]);
    wait_for("the task's end", || (host.inspect(&task)["lastStatus"] == "STOPPED").then_some(()));
    let printed = host.coracle(["logs", &task]).ok();
    assert_eq!(printed.stdout, "€\n\0\u{fffd}\nopen");
    assert_eq!(printed.stderr, "\u{1b}[31mred\n");
    let until_before = host.coracle(["logs", "--until", "2001-01-01", &task]).ok().stdout;
    let since_later = host.coracle(["logs", "--since", "2100-01-01", &task]).ok().stdout;
    assert_eq!((until_before.as_str(), since_later.as_str()), ("", ""));
    host.coracle(["rm", &task]).ok();
    host.finish();
}

/// HARDENING.md's R07: a hundred megabytes of lines, then one line of 256 MiB; all there, and the supervisor small.
#[test]
fn r07_a_flood_is_whole_and_the_supervisor_stays_small() {
    let host = Host::new();
    host.import_probe();
    let mut large = json_file(&json!({ "max-size": "1g" }));
    large["essential"] = json!(false);
    let task = host.detach(
        &definition::task(&[
            definition::container("lines", &["flood", "1000000"], &large),
            definition::container("long", &["long-line", "256"], &large),
            definition::container("last", &["wait"], &json!({})),
        ]),
        &[],
    );
    let supervisor = super::hardening::supervisor(&host, &task);
    let done = |name: &str, size: u64| {
        let logs = host.places.data_dir().join("tasks").join(&task).join("logs");
        let length =
            |number: u32| std::fs::metadata(logs.join(format!("{name}.log.{number}"))).map_or(0, |file| file.len());
        (length(0) + length(1) >= size).then_some(())
    };
    wait_at_most(FLOOD, "the lines", || done("lines", 100_000_000));
    wait_at_most(FLOOD, "the long line", || done("long", 256 << 20));
    let status = std::fs::read_to_string(format!("/proc/{supervisor}/status")).expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel counts pages");
    let peak: u64 = peak.trim().trim_end_matches("kB").trim().parse().expect("a number");
    assert!(peak < MOST_RESIDENT_KB, "{peak} kB");
    host.coracle(["stop", &task]).ok();
    let all = |container: &str| host.start(["logs", "--container", container, &task]).wait_at_most(FLOOD).ok().stdout;
    let lines = all("lines");
    assert!(lines.lines().map(|line| &line[..9]).eq((0..1_000_000).map(|number| format!("{number:09}"))));
    let long = all("long");
    let end = "\nafter 256 MiB\n";
    assert_eq!(long.len(), (256 << 20) + end.len());
    assert!(long.ends_with(end) && long.bytes().take(256 << 20).all(|byte| byte == b'x'));
    host.coracle(["rm", &task]).ok();
    host.finish();
}

#[test]
fn old_output_goes_by_size() {
    let host = Host::new();
    host.import_probe();
    let small = json_file(&json!({ "max-size": "64k", "max-file": "2" }));
    let task = host.detach(&definition::probe_with(&["flood", "10000"], &small), &[]);
    wait_for("the task's end", || (host.inspect(&task)["lastStatus"] == "STOPPED").then_some(()));
    let kept = host.coracle(["logs", &task]).ok().stdout;
    assert!(kept.len() > 64 << 10 && kept.len() <= 128 << 10, "{} bytes", kept.len());
    assert!(kept.lines().last().is_some_and(|line| line.starts_with("000009999 ")), "the newest are kept");
    host.coracle(["rm", &task]).ok();
    host.finish();
}

#[test]
fn wrong_options_are_refused_before_anything_starts() {
    let host = Host::new();
    host.import_probe();
    let definition = definition::probe_with(
        &["say", "x"],
        &json!({ "logConfiguration": { "logDriver": "awslogs", "options": { "mode": "later", "log_key": "x" } } }),
    );
    host.run(&definition, &[]).refused(&[
        "Log driver awslogs requires options: awslogs-region, awslogs-group",
        "Log driver awslogs disallows options: log_key",
        "\"later\" is not blocking or non-blocking",
    ]);
    host.finish();
}
