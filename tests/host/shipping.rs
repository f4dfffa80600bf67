//! Output on its way to log services: every driver against a service of its protocol, and what dies on the way.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::log_services::{self as services, Entry, Service};
use crate::support::{Host, Running, cgroups, definition, process, wait_for};

const PORT: u16 = 24224;
/// Lines of 12 bytes: a container that nobody reads from is held up by its pipe of 256 KiB, and not before.
const MORE_THAN_A_PIPE: usize = 60_000;

/// A task that writes `line 000001` and so on, with this log configuration.
fn counting(command: &[&str], driver: &str, options: &Value) -> Value {
    definition::probe_with(command, &logged(driver, options))
}

fn logged(driver: &str, options: &Value) -> Value {
    json!({ "logConfiguration": { "logDriver": driver, "options": options }, "stopTimeout": 5 })
}

fn fluentd_options() -> Value {
    json!({ "fluentd-address": format!("127.0.0.1:{PORT}"), "fluentd-retry-wait": "50ms", "tag": "t" })
}

fn line(number: usize) -> String {
    format!("line {number:06}")
}

/// The counted lines among what came, without those that only say how the probe ends.
fn counted(entries: &[Entry]) -> Vec<String> {
    entries
        .iter()
        .filter_map(|entry| entry.get("log"))
        .filter(|log| log.starts_with("line "))
        .map(str::to_owned)
        .collect()
}

fn has_line(number: usize) -> impl Fn(&[Entry]) -> bool {
    move |entries| counted(entries).contains(&line(number))
}

fn all_lines(last: usize) -> Vec<String> {
    (1..=last).map(line).collect()
}

/// Without repetitions they are all there, in order; and nothing that was repeated came out of its order.
#[track_caller]
fn complete(lines: &[String], last: usize) {
    let mut seen = BTreeSet::new();
    let first: Vec<String> = lines.iter().filter(|line| seen.insert((*line).clone())).cloned().collect();
    assert_eq!(first, all_lines(last));
}

/// What `coracle inspect` says of the shipping of `main`.
fn shipping(host: &Host, task: &str) -> Value {
    host.inspect(task)["coracle"]["containers"]["main"]["log"]["shipping"].clone()
}

fn wait_until_failing(host: &Host, task: &str) {
    wait_for("a failure that is told", || shipping(host, task)["failing"].is_string().then_some(()));
}

/// The container sleeps in a write: the probe that counts sleeps nowhere else.
fn wait_until_held_up(host: &Host, task: &str) {
    wait_for("a container that is held up", || {
        let processes = super::hardening::container_processes(host, task);
        let call = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
        processes.iter().any(|pid| call(pid).starts_with(&format!("{} ", libc::SYS_write))).then_some(())
    });
}

/// The container has written it, whether it was shipped or not.
fn wait_until_written(host: &Host, task: &str, number: usize) {
    wait_for("the last line", || host.coracle(["logs", task]).stdout.contains(&line(number)).then_some(()));
}

fn processes_of(host: &Host, kind: &str, task: &str) -> Vec<i32> {
    let leaf = format!("{kind}-{task}");
    let mut found: Vec<i32> = cgroups::below(&host.places.cgroup_parent)
        .iter()
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy() == leaf))
        .flat_map(|path| cgroups::processes(path))
        .collect();
    found.dedup();
    found
}

fn shipper(host: &Host, task: &str) -> i32 {
    wait_for("the shipper in its cgroup", || processes_of(host, "shipper", task).first().copied())
}

fn stop_and_remove(host: &Host, task: &str) {
    host.coracle(["stop", task]).ok();
    host.coracle(["rm", task]).ok();
}

#[test]
fn syslog_over_tcp_udp_and_a_local_socket() {
    let host = Host::new();
    host.import_probe();
    let path = host.places.root.join("syslog");
    let streams = [services::lines_on_tcp(&host, 514), services::lines_on_unix(&path)];
    let datagrams = services::datagrams_on_udp(&host, 514);
    let addresses =
        ["tcp://127.0.0.1".to_owned(), format!("unix://{}", path.display()), "udp://127.0.0.1:514".to_owned()];
    for address in &addresses {
        let options =
            json!({ "syslog-address": address, "syslog-format": "rfc5424", "syslog-facility": "local0", "tag": "web" });
        host.run(&counting(&["count", "1", "300"], "syslog", &options), &[]).ok();
    }
    let right = |text: &str, number: usize| {
        // Facility 16 and severity 6: 16 * 8 + 6.
        assert!(text.starts_with("<134>1 ") && text.ends_with(&format!(" web - {}", line(number))), "{text}");
    };
    for stream in streams {
        let lines = stream.wait_for("300 lines", |lines| lines.len() >= 300);
        lines.iter().enumerate().for_each(|(place, text)| right(text, place + 1));
        stream.end();
    }
    let came = datagrams.wait_for("300 datagrams", |came| came.len() >= 300);
    for (place, datagram) in came.iter().enumerate() {
        right(String::from_utf8_lossy(datagram).trim_end(), place + 1);
    }
    datagrams.end();
    host.finish();
}

#[test]
fn gelf_over_udp_and_tcp() {
    let host = Host::new();
    host.import_probe();
    let udp = services::datagrams_on_udp(&host, 12201);
    let tcp = services::messages_on_tcp(&host, 12201);
    let udp_options = json!({ "gelf-address": "udp://127.0.0.1:12201", "gelf-compression-type": "none", "tag": "t" });
    host.run(&counting(&["count", "1", "50"], "gelf", &udp_options), &[]).ok();
    let tcp_options = json!({ "gelf-address": "tcp://127.0.0.1:12201", "labels": "com.amazonaws.ecs.container-name" });
    host.run(&counting(&["count", "1", "50"], "gelf", &tcp_options), &[]).ok();
    let right = |message: &[u8], number: usize| {
        let message: Value = serde_json::from_slice(message).expect("JSON");
        assert_eq!(
            (message["version"].as_str(), message["short_message"].as_str()),
            (Some("1.1"), Some(line(number).as_str()))
        );
        message
    };
    let came = udp.wait_for("50 datagrams", |came| came.len() >= 50);
    for (place, message) in came.iter().enumerate() {
        assert_eq!(right(message, place + 1)["_tag"], "t");
    }
    let came = tcp.wait_for("50 messages", |came| came.len() >= 50);
    for (place, message) in came.iter().enumerate() {
        assert_eq!(right(message.as_bytes(), place + 1)["_com.amazonaws.ecs.container-name"], "main");
    }
    udp.end();
    tcp.end();
    host.finish();
}

#[test]
fn fluentd_with_dockers_fields_and_long_lines_in_parts() {
    let host = Host::new();
    host.import_probe();
    let service = services::fluentd(&host, PORT);
    let mut options = fluentd_options();
    options["env"] = json!("COLOUR");
    let mut members = logged("fluentd", &options);
    members["environment"] = json!([{ "name": "COLOUR", "value": "red" }]);
    host.run(&definition::probe_with(&["say", &"x".repeat(40_000)], &members), &[]).ok();
    let entries = service
        .wait_for("the last part", |entries| entries.iter().any(|entry| entry.get("partial_last") == Some("true")));
    let parts: Vec<&str> = entries.iter().filter_map(|entry| entry.get("partial_ordinal")).collect();
    let last: Vec<&str> = entries.iter().filter_map(|entry| entry.get("partial_last")).collect();
    assert!(parts.len() >= 3 && last.len() == parts.len(), "{parts:?} {last:?}");
    for (place, (part, last)) in parts.iter().zip(&last).enumerate() {
        assert_eq!((*part, *last == "true"), ((place + 1).to_string().as_str(), place + 1 == parts.len()));
    }
    let ids: BTreeSet<&str> = entries.iter().filter_map(|entry| entry.get("partial_id")).collect();
    assert_eq!(ids.len(), 1);
    let lengths: usize = entries.iter().filter_map(|entry| entry.get("log")).map(str::len).sum();
    assert_eq!(lengths, 40_000);
    let entry = &entries[0];
    assert_eq!((entry.tag.as_str(), entry.get("source"), entry.get("COLOUR")), ("t", Some("stdout"), Some("red")));
    assert_eq!(entry.get("container_name"), Some("/ecs-test-1-main"));
    assert_eq!(entry.get("container_id").map(str::len), Some(64));
    service.end();
    host.finish();
}

#[test]
fn a_splunk_token_is_a_secret_that_only_the_collector_sees() {
    let host = Host::new();
    host.import_probe();
    let canary = "canary-4711-of-the-token";
    let mut put = host.command(["secret", "put", "hec"]);
    put.stdin(Stdio::piped());
    let mut put = Running::start(&mut put);
    put.stdin().write_all(canary.as_bytes()).expect("it reads");
    put.wait().ok();
    let collector = services::collector(&host, 8088);
    let mut members =
        logged("splunk", &json!({ "splunk-url": "http://127.0.0.1:8088", "splunk-index": "main", "tag": "" }));
    members["logConfiguration"]["secretOptions"] = json!([{ "name": "splunk-token", "valueFrom": "hec" }]);
    let task = host.detach(&definition::probe_with(&["count", "1", "20", "0", "wait"], &members), &[]);
    let lines = |requests: &[services::Request]| -> Vec<Value> {
        let bodies = requests.iter().flat_map(|request| request.body.clone()).collect::<Vec<u8>>();
        serde_json::Deserializer::from_slice(&bodies).into_iter().map(|event| event.expect("JSON")).collect()
    };
    let requests = collector.wait_for("20 events", |requests| lines(requests).len() >= 20);
    assert!(requests[0].head.starts_with("options /services/collector/event/1.0 "), "{}", requests[0].head);
    assert!(requests.iter().all(|request| request.head.contains(&format!("Splunk {canary}"))));
    for (place, event) in lines(&requests).iter().take(20).enumerate() {
        assert_eq!(
            (event["event"]["line"].as_str(), event["index"].as_str()),
            (Some(line(place + 1).as_str()), Some("main"))
        );
    }
    let pid = shipper(&host, &task);
    for name in ["cmdline", "environ"] {
        let said = std::fs::read(format!("/proc/{pid}/{name}")).expect("the shipper runs");
        assert!(!String::from_utf8_lossy(&said).contains(canary));
    }
    let state = host.places.data_dir().join("tasks").join(&task);
    for entry in walk(&state) {
        let content = std::fs::read(&entry).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&content).contains(canary), "{}", entry.display());
    }
    stop_and_remove(&host, &task);
    collector.end();
    host.finish();
}

fn walk(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// In a mount namespace of its own, where journald's directory is the test's.
#[test]
fn journald_over_its_native_protocol() {
    let host = Host::new();
    host.import_probe();
    let directory = host.places.root.join("journal");
    std::fs::create_dir(&directory).expect("made");
    let service = services::datagrams_on_unix(&directory.join("socket"));
    let source = std::ffi::CString::new(directory.display().to_string()).expect("no NUL");
    let file =
        host.file("task.json", counting(&["count", "1", "30"], "journald", &json!({ "tag": "{{.Name}}" })).to_string());
    let mut command = host.command(["run".as_ref(), file.as_os_str()]);
    let cover = move || {
        // SAFETY: system calls with C strings that outlive them, in the child between fork and exec.
        unsafe {
            let none = std::ptr::null();
            let private = libc::MS_REC | libc::MS_PRIVATE;
            let ready = libc::unshare(libc::CLONE_NEWNS) == 0
                && libc::mount(none, c"/".as_ptr(), none, private, none.cast()) == 0
                && libc::mount(c"tmpfs".as_ptr(), c"/run".as_ptr(), c"tmpfs".as_ptr(), 0, none.cast()) == 0
                && libc::mkdir(c"/run/systemd".as_ptr(), 0o755) == 0
                && libc::mkdir(c"/run/systemd/journal".as_ptr(), 0o755) == 0
                && libc::mount(source.as_ptr(), c"/run/systemd/journal".as_ptr(), none, libc::MS_BIND, none.cast())
                    == 0;
            if ready { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        }
    };
    // SAFETY: `cover` makes system calls and allocates nothing.
    unsafe { command.pre_exec(cover) };
    Running::start(&mut command).wait().ok();
    let came = service.wait_for("30 entries", |came| came.len() >= 30);
    for (place, entry) in came.iter().enumerate() {
        let text = String::from_utf8_lossy(entry);
        for field in [
            format!("MESSAGE={}\n", line(place + 1)),
            "CONTAINER_NAME=ecs-test-1-main\n".to_owned(),
            "PRIORITY=6\n".to_owned(),
        ] {
            assert!(text.contains(&field), "{field:?} is not in {text}");
        }
    }
    service.end();
    host.finish();
}

#[test]
fn a_service_that_comes_later_gets_every_line_in_order() {
    let host = Host::new();
    host.import_probe();
    let task = host.detach(&counting(&["count", "1", "500", "0", "wait"], "fluentd", &fluentd_options()), &[]);
    wait_until_failing(&host, &task);
    host.coracle(["ps"]).ok().prints(&["RUNNING", "its logs do not get through"]);
    let service = services::fluentd(&host, PORT);
    let entries = service.wait_for("the last line", has_line(500));
    assert_eq!(counted(&entries), all_lines(500));
    // "line 000001" and its end are twelve bytes; the probe's other words come on top. Batch by batch they are told.
    let told = wait_for("all to be told", || {
        let told = shipping(&host, &task);
        (told["failing"].is_null() && told["shippedBytes"].as_u64() >= Some(500 * 12)).then_some(told)
    });
    assert!(told["lastError"].as_str().is_some_and(|error| error.contains("127.0.0.1:24224")), "{told}");
    assert_eq!(told["lostBytes"], 0, "{told}");
    stop_and_remove(&host, &task);
    service.end();
    host.finish();
}

#[test]
fn a_killed_shipper_is_started_again_and_loses_nothing() {
    let host = Host::new();
    host.import_probe();
    let service = services::fluentd(&host, PORT);
    let task = host.detach(&counting(&["count", "1", "600", "3", "wait"], "fluentd", &fluentd_options()), &[]);
    for reached in [50, 150, 300] {
        service.wait_for("some lines", has_line(reached));
        process::kill(shipper(&host, &task));
        host.coracle(["ps"]).ok();
    }
    let entries = service.wait_for("the last line", has_line(600));
    let lines = counted(&entries);
    complete(&lines, 600);
    // Each kill repeats at most the batch that was on its way; lines come every three milliseconds.
    assert!(lines.len() < 900, "{} lines came for 600", lines.len());
    stop_and_remove(&host, &task);
    service.end();
    host.finish();
}

#[test]
fn a_killed_supervisor_takes_no_line_with_it() {
    let host = Host::new();
    host.import_probe();
    let task = host.detach(&counting(&["count", "1", "400", "0", "wait"], "fluentd", &fluentd_options()), &[]);
    wait_until_written(&host, &task, 400);
    process::kill(super::hardening::supervisor(&host, &task));
    process::kill(shipper(&host, &task));
    let service = services::fluentd(&host, PORT);
    host.coracle(["ps"]).ok();
    let entries = service.wait_for("the last line", has_line(400));
    assert_eq!(counted(&entries), all_lines(400));
    host.coracle(["rm", &task]).ok();
    service.end();
    host.finish();
}

#[test]
fn a_killed_service_gets_the_rest_when_it_is_back() {
    let host = Host::new();
    host.import_probe();
    let first = services::fluentd(&host, PORT);
    let task = host.detach(&counting(&["count", "1", "500", "3", "wait"], "fluentd", &fluentd_options()), &[]);
    first.wait_for("some lines", has_line(100));
    let mut lines = counted(&first.end());
    wait_until_failing(&host, &task);
    let second: Service<Entry> = services::fluentd(&host, PORT);
    lines.extend(counted(&second.wait_for("the last line", has_line(500))));
    complete(&lines, 500);
    stop_and_remove(&host, &task);
    second.end();
    host.finish();
}

#[test]
fn without_blocking_a_full_buffer_loses_and_every_byte_is_counted() {
    let host = Host::new();
    host.import_probe();
    let mut options = fluentd_options();
    options["max-buffer-size"] = json!("8k");
    let task = host.detach(&counting(&["count", "1", "20000", "0", "wait"], "fluentd", &options), &[]);
    // Nothing holds the container up.
    wait_until_written(&host, &task, 20_000);
    let service = services::fluentd(&host, PORT);
    service.wait_for("the last line", has_line(20_000));
    host.coracle(["stop", &task]).ok();
    let told = wait_for("the end of shipping", || Some(shipping(&host, &task)).filter(|told| told["finished"] == true));
    let shipped: u64 =
        service.items().iter().filter_map(|entry| entry.get("log")).map(|log| log.len() as u64 + 1).sum();
    let lost = told["lostBytes"].as_u64().expect("a number");
    // 20,000 lines of twelve bytes, "waiting" and "signal 15" with their ends.
    let written = 20_000 * 12 + 8 + 10;
    assert_eq!((shipped + lost, told["shippedBytes"].as_u64()), (written, Some(shipped)), "{told}");
    assert!(lost > written / 2, "{told}");
    host.coracle(["rm", &task]).ok();
    service.end();
    host.finish();
}

#[test]
fn with_blocking_the_container_waits_and_nothing_is_lost() {
    let host = Host::new();
    host.import_probe();
    let mut options = fluentd_options();
    (options["max-buffer-size"], options["mode"]) = (json!("8k"), json!("blocking"));
    let task = host.detach(&counting(&["count", "1", &MORE_THAN_A_PIPE.to_string()], "fluentd", &options), &[]);
    wait_until_failing(&host, &task);
    wait_until_held_up(&host, &task);
    assert_eq!(host.inspect(&task)["lastStatus"], "RUNNING");
    let service = services::fluentd(&host, PORT);
    let entries = service.wait_for("the last line", has_line(MORE_THAN_A_PIPE));
    complete(&counted(&entries), MORE_THAN_A_PIPE);
    wait_for("the task's end", || (host.inspect(&task)["lastStatus"] == "STOPPED").then_some(()));
    host.coracle(["rm", &task]).ok();
    service.end();
    host.finish();
}

#[test]
fn a_dead_service_holds_up_the_end_of_a_run_for_a_while_and_what_is_lost_is_told() {
    let host = Host::new();
    host.import_probe();
    let ended = host.run(&counting(&["count", "1", "100"], "fluentd", &fluentd_options()), &[]).ok();
    assert!(ended.elapsed < Duration::from_secs(30), "{}", ended.whole());
    ended.says(&["waiting for the logs of task", "1200 bytes of main's output did not get to tcp://127.0.0.1:24224"]);
    host.finish();
}

#[test]
fn a_task_that_waits_for_a_dead_service_can_be_stopped() {
    let host = Host::new();
    host.import_probe();
    let mut options = fluentd_options();
    (options["max-buffer-size"], options["mode"]) = (json!("8k"), json!("blocking"));
    let mut definition = counting(&["count", "1", &MORE_THAN_A_PIPE.to_string()], "fluentd", &options);
    definition["containerDefinitions"][0]["stopTimeout"] = json!(2);
    let task = host.detach(&definition, &[]);
    wait_until_failing(&host, &task);
    wait_until_held_up(&host, &task);
    assert_eq!(host.inspect(&task)["lastStatus"], "RUNNING");
    host.coracle(["stop", &task]).ok();
    assert_eq!(host.inspect(&task)["lastStatus"], "STOPPED");
    host.coracle(["rm", &task]).ok();
    host.finish();
}

/// Of the shipper's own pages; its limit is 64 MiB, and the binary's pages are everybody's.
#[test]
fn a_shipper_has_a_session_a_cgroup_and_little_memory() {
    let host = Host::new();
    host.import_probe();
    let service = services::fluentd(&host, PORT);
    let task = host.detach(&counting(&["count", "1", "20000", "0", "wait"], "fluentd", &fluentd_options()), &[]);
    service.wait_for("the last line", has_line(20_000));
    let pid = shipper(&host, &task);
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name in parentheses").1.split_whitespace().collect();
    assert_eq!(fields[3], pid.to_string(), "it leads a session: {stat}");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("the kernel counts pages");
    let kb: u64 = anonymous.trim().trim_end_matches("kB").trim().parse().expect("a number");
    assert!(kb < 8 * 1024, "{kb} kB");
    stop_and_remove(&host, &task);
    service.end();
    host.finish();
}

#[test]
fn options_that_no_driver_has_are_told_before_anything_starts() {
    let host = Host::new();
    host.import_probe();
    let refused = |driver: &str, options: &Value, words: &[&str]| {
        host.run(&counting(&["count", "1", "1"], driver, options), &[]).refused(words);
    };
    refused("syslog", &json!({ "syslog-facility": "loud" }), &["main", "syslog-facility"]);
    refused("gelf", &json!({ "gelf-address": "http://x" }), &["main", "gelf-address"]);
    refused("fluentd", &json!({ "tag": "{{.Nothing}}" }), &["main", "tag", ".ImageFullID"]);
    refused("fluentd", &json!({ "labels-regex": "(" }), &["main", "labels-regex"]);
    host.finish();
}
