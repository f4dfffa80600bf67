//! What containers write is what readers get: bytes, streams, long lines, the last lines, and while it is written.

use crate::host::{Host, name};
use runtime::logs::{self, ReadOptions, Stream};
use serde_json::json;

#[test]
fn bytes_streams_and_ends_are_kept() {
    let host = Host::new();
    let script = r"printf 'a\000b\377\n\n'; printf 'oops\r\n' >&2; printf 'no end'";
    let task = host.script(1, script);
    host.run(&task);
    assert_eq!(host.output(&task, "app", Stream::Stdout), b"a\0b\xff\n\nno end");
    assert_eq!(host.output(&task, "app", Stream::Stderr), b"oops\r\n");
}

#[test]
fn a_line_of_a_mebibyte_is_whole() {
    let host = Host::new();
    let task = host.script(1, "head -c 1048576 /dev/zero; echo; echo after");
    host.run(&task);
    let mut expected = vec![0; 1 << 20];
    expected.extend_from_slice(b"\nafter\n");
    assert!(host.output(&task, "app", Stream::Stdout) == expected);
}

#[test]
fn a_flood_is_whole_and_keeps_its_order() {
    let host = Host::new();
    let task = host.script(1, "seq 1 300000");
    host.run(&task);
    let expected: String = (1..=300_000).map(|number| format!("{number}\n")).collect();
    assert!(host.text(&task, "app") == expected);
}

#[test]
fn the_last_lines_of_all_containers_come_in_the_order_of_time() {
    let host = Host::new();
    let first = json!({"name": "first", "essential": false, "command": ["sh", "-c", "seq 1 50; echo first"]});
    let second = json!({"name": "second", "command": ["sh", "-c", "sleep 0.05; seq 1 50; echo second"],
                        "dependsOn": [{"containerName": "first", "condition": "COMPLETE"}]});
    let task = host.task(1, &[second, first]);
    host.run(&task);
    let lines = |options: ReadOptions| {
        let mut reader = logs::read(&task, &options).expect("readable");
        let mut lines = Vec::new();
        while let Some(record) = reader.next_record().expect("readable") {
            lines.push(format!("{} {}", record.container, String::from_utf8_lossy(record.bytes)));
        }
        lines
    };
    let all = lines(ReadOptions::default());
    assert_eq!((all.len(), all[50].as_str(), all[101].as_str()), (102, "first first", "second second"));
    let tail = |count| lines(ReadOptions { tail: Some(count), ..ReadOptions::default() });
    assert_eq!(tail(2), ["second 50", "second second"]);
    assert_eq!(tail(53), all[49..]);
    assert_eq!(tail(1000), all);
    assert_eq!(tail(0), Vec::<String>::new());
    let one = ReadOptions { tail: Some(1), containers: vec![name("first")], ..ReadOptions::default() };
    assert_eq!(lines(one), ["first first"]);
    let nobody = ReadOptions { containers: vec![name("third")], ..ReadOptions::default() };
    let refused = logs::read(&task, &nobody).expect_err("no such container").to_string();
    assert_eq!(refused, "the task has no container third; it has second, first");
}

/// A task that writes ten segments of 64 KiB, of which at most `kept` stay.
fn talkative(host: &Host, serial: u8, kept: &str) -> agent_protocol::TaskSpec {
    let options = json!({"logDriver": "json-file", "options": {"max-size": "64k", "max-file": kept}});
    let script = "echo begin; seq 1 30000; echo end";
    host.task(serial, &[json!({"command": ["sh", "-c", script], "logConfiguration": options})])
}

#[test]
fn a_follower_goes_through_the_change_of_segments() {
    let host = Host::new();
    let task = talkative(&host, 1, "100");
    host.start(&task);
    let followed = host.text(&task, "app");
    let expected: String = (1..=30_000).map(|number| format!("{number}\n")).collect();
    assert!(followed == format!("begin\n{expected}end\n"));
    host.stopped(&task);
}

#[test]
fn old_segments_go() {
    let host = Host::new();
    let task = talkative(&host, 1, "2");
    host.run(&task);
    let sizes: Vec<u64> = std::fs::read_dir(task.places.state.join("logs"))
        .expect("readable")
        .map(|entry| entry.expect("an entry").metadata().expect("a file").len())
        .collect();
    assert!(sizes.len() == 2 && sizes.iter().all(|size| *size <= 64 << 10), "{sizes:?}");
    assert!(host.text(&task, "app").ends_with("30000\nend\n"));
}
