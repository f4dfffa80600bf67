//! Bad clients: none of them ends or delays a task.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use crate::host::{Host, wait_until};
use agent_protocol::TaskSpec;
use ecs::task::StopCode;
use runtime::client;

const FOREVER: &str = "echo ready; trap 'exit 0' TERM; sleep 600 & wait";

fn running(host: &Host) -> TaskSpec {
    let task = host.script(1, FOREVER);
    host.start(&task);
    host.says(&task, "app", "ready");
    task
}

fn connect(task: &TaskSpec) -> UnixStream {
    UnixStream::connect(task.places.run.join("ctl")).expect("listens")
}

fn end(host: &Host, task: &TaskSpec) {
    client::connect(&task.places).expect("runs").kill("").expect("taken");
    host.stopped(task);
    host.assert_gone(&task.places);
}

#[test]
fn nonsense_is_refused_and_the_next_line_is_read() {
    let host = Host::new();
    let task = running(&host);
    let mode = std::fs::metadata(task.places.run.join("ctl")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut stream = connect(&task);
    for (line, expected) in [
        ("{", "not a command"),
        ("[]", "not a command"),
        ("{\"request\":\"dance\"}", "unknown variant `dance`"),
        ("\u{0}\u{7f}", "not a command"),
        ("{\"request\":\"go\",\"networkNamespaces\":0}", "started already"),
        ("{\"request\":\"exec\",\"container\":\"app\",\"command\":[\"true\"]}", "3 descriptors"),
        ("{\"request\":\"stop\",\"stopCode\":\"Whim\",\"reason\":\"\"}", "unknown variant `Whim`"),
    ] {
        stream.write_all(format!("{line}\n").as_bytes()).expect("it reads");
        let mut answer = String::new();
        BufReader::new(&stream).read_line(&mut answer).expect("it answers");
        assert!(answer.starts_with("{\"answer\":\"refused\"") && answer.contains(expected), "{line} -> {answer}");
    }
    end(&host, &task);
}

#[test]
fn an_endless_line_ends_the_connection() {
    let host = Host::new();
    let task = running(&host);
    let mut stream = connect(&task);
    let chunk = [b'x'; 64 << 10];
    // It stops reading at its limit, and the rest meets a closed socket.
    while stream.write_all(&chunk).is_ok() {}
    end(&host, &task);
}

#[test]
fn too_many_clients_are_turned_away_and_make_room_when_they_go() {
    let host = Host::new();
    let task = running(&host);
    let crowd: Vec<UnixStream> = (0..64).map(|_| connect(&task)).collect();
    let mut turned_away = connect(&task);
    assert_eq!(turned_away.read(&mut [0]).expect("closed at once"), 0);
    drop(crowd);
    wait_until("there is room again", || {
        let watch = client::connect(&task.places).and_then(client::Client::watch);
        watch.expect("listens").next().is_some_and(|status| status.expect("a status").id == task.id)
    });
    end(&host, &task);
}

#[test]
fn a_watcher_that_does_not_read_holds_nobody_up() {
    let host = Host::new();
    let task = running(&host);
    let mut deaf: Vec<UnixStream> = (0..8).map(|_| connect(&task)).collect();
    for stream in &mut deaf {
        // Each request is owed an answer, far more than a socket holds.
        let requests = "{\"request\":\"dance\"}\n".repeat(20_000);
        // It is disconnected on the way, when it is owed too much.
        let _ = stream.set_nonblocking(true).and_then(|()| stream.write_all(requests.as_bytes()));
    }
    client::connect(&task.places).expect("runs").stop(StopCode::UserInitiated, "").expect("taken");
    host.stopped(&task);
    host.assert_gone(&task.places);
}
