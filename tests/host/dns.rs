//! Names inside tasks, looked up by the clients that images have: musl's and glibc's getaddrinfo and busybox.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use serde_json::{Value, json};

use super::debug_shell::busybox;
use crate::support::netns::{LAN_ADDRESS_OF_NEIGHBOUR, Neighbour};
use crate::support::tar::Tar;
use crate::support::{Finished, Host, definition, image, wait_for};

const MODES: [&str; 4] = ["bridge", "awsvpc", "host", "none"];
const CLIENTS: &str = "clients:latest";
/// A client whose own parts are all in one file: its C library and what that wants at run time.
const GETENT: [&str; 3] = ["/usr/bin/getent", "/lib64/ld-linux-x86-64.so.2", "/lib/x86_64-linux-gnu/libc.so.6"];

/// The probe (musl), getent (glibc) and busybox.
fn import_clients(host: &Host) {
    let read = |path: &str| fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut layer = image::base_layer()
        .directory("etc/")
        .file("etc/nsswitch.conf", 0o644, b"hosts: files dns\n")
        .directory("usr/")
        .directory("usr/bin/")
        .directory("lib/")
        .directory("lib/x86_64-linux-gnu/")
        .directory("lib64/")
        .file("bin/busybox", 0o755, &read(busybox()))
        .symlink("bin/nslookup", "busybox")
        .symlink("bin/wget", "busybox");
    for path in GETENT {
        layer = layer.file(path.trim_start_matches('/'), 0o755, &read(path));
    }
    host.import(&image::Image::of(vec![Tar::finish(layer)]), CLIENTS).ok();
}

/// A task that waits, with the clients in it.
fn asker(host: &Host, mode: &str, members: &Value) -> String {
    let mut container = definition::container("asker", &["wait"], &json!({ "image": CLIENTS, "stopTimeout": 2 }));
    for (member, value) in members.as_object().into_iter().flatten() {
        container[member] = value.clone();
    }
    let task = json!({ "family": "asker", "networkMode": mode, "containerDefinitions": [container] });
    running(host, &task)
}

fn running(host: &Host, definition: &Value) -> String {
    let task = host.detach(definition, &[]);
    wait_for("the task", || (host.inspect(&task)["lastStatus"] == "RUNNING").then_some(()));
    task
}

fn web(host: &Host, mode: &str) -> String {
    let port = json!([{ "containerPort": 8080, "name": "http" }]);
    let members = json!({ "image": CLIENTS, "portMappings": port, "stopTimeout": 2 });
    let container = definition::container("server", &["http", "8080", "ahoy"], &members);
    running(host, &json!({ "family": "web", "networkMode": mode, "containerDefinitions": [container] }))
}

fn exec(host: &Host, task: &str, command: &[&str]) -> Finished {
    host.coracle([&["exec", task, "--"], command].concat())
}

/// musl's getaddrinfo: the addresses of a name, or what it says instead.
#[track_caller]
fn resolve(host: &Host, task: &str, name: &str) -> Value {
    exec(host, task, &["/bin/probe", "resolve", name]).ok().json()[name].clone()
}

/// glibc's getaddrinfo: `ADDRESS STREAM NAME`, `ADDRESS DGRAM`, … for each address.
#[track_caller]
fn getent(host: &Host, task: &str, name: &str) -> Vec<String> {
    let found = exec(host, task, &["/usr/bin/getent", "ahosts", name]).ok().stdout;
    let mut addresses: Vec<String> =
        found.lines().filter_map(|line| Some(line.split_once(' ')?.0.to_owned())).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

/// The IPv4 address of the task's one container.
fn address_of(host: &Host, task: &str) -> String {
    let hosts = exec(host, task, &["/bin/busybox", "hostname", "-i"]).ok().stdout;
    hosts.split_whitespace().find(|word| word.parse::<Ipv4Addr>().is_ok()).expect("an address").to_owned()
}

fn end(host: Host, tasks: &[String]) {
    for task in tasks {
        host.coracle(["rm", "--force", task]).ok();
    }
    host.finish();
}

#[test]
fn own_names_in_every_mode_and_with_every_client() {
    let host = Host::new();
    import_clients(&host);
    let mut tasks = vec![web(&host, "bridge")];
    let server = format!("server.{}", tasks[0]);
    let address = address_of(&host, &tasks[0]);
    for mode in MODES {
        let task = asker(&host, mode, &Value::Null);
        for name in ["web", "WEB.coracle.internal", &server, &format!("{server}.coracle.internal")] {
            let found = resolve(&host, &task, name);
            assert!(found.as_array().is_some_and(|all| all.contains(&json!(address))), "{mode} {name}: {found}");
            let found = getent(&host, &task, name);
            assert!(found.contains(&address), "{mode} {name}: {found:?}");
        }
        let shown = exec(&host, &task, &["/bin/nslookup", "-type=srv", "_http._tcp.web"]).ok().stdout;
        assert!(shown.contains("169.254.170.2") && shown.contains(&format!("0 1 8080 {server}")), "{mode}: {shown}");
        let shown = exec(&host, &task, &["/bin/nslookup", &address]).ok().stdout;
        assert!(shown.contains(&format!("name = {server}.coracle.internal")), "{mode}: {shown}");
        if mode == "bridge" {
            let page = exec(&host, &task, &["/bin/probe", "http-get", "web:8080", "/"]).ok();
            page.prints(&["ahoy"]);
        }
        tasks.push(task);
    }
    end(host, &tasks);
}

#[test]
fn a_name_goes_with_its_task_and_a_family_is_all_of_them() {
    let host = Host::new();
    import_clients(&host);
    let mut tasks = vec![asker(&host, "bridge", &Value::Null), web(&host, "bridge"), web(&host, "bridge")];
    let addresses = [address_of(&host, &tasks[1]), address_of(&host, &tasks[2])];
    let mut both = addresses.to_vec();
    both.sort();
    let found = getent(&host, &tasks[0], "web");
    assert!(both.iter().all(|address| found.contains(address)), "{found:?}");
    let gone = tasks.remove(1);
    host.coracle(["stop", &gone]).ok();
    let left = |found: &Value| found.as_array().is_some_and(|all| !all.contains(&json!(addresses[0])));
    wait_for("the name to go", || left(&resolve(&host, &tasks[0], "web")).then_some(()));
    let found = getent(&host, &tasks[0], "web");
    assert!(found.contains(&addresses[1]), "{found:?}");
    exec(&host, &tasks[0], &["/usr/bin/getent", "ahosts", &format!("server.{gone}")]).expect_code(2);
    tasks.push(gone);
    end(host, &tasks);
}

/// It has the host's addresses, and is found at one.
#[test]
fn a_task_on_the_hosts_network_is_found_from_another_network() {
    let host = Host::new();
    import_clients(&host);
    let tasks = [web(&host, "host"), asker(&host, "bridge", &Value::Null)];
    let page = exec(&host, &tasks[1], &["/bin/probe", "http-get", "web:8080", "/"]).ok();
    page.prints(&["ahoy"]);
    end(host, &tasks);
}

/// What a test's network namespace has: no way to any name server.
#[test]
fn without_name_servers_own_names_work_and_others_fail() {
    let host = Host::new();
    import_clients(&host);
    let members = json!({ "dnsServers": ["192.0.2.53"], "dnsSearchDomains": ["lan"] });
    let tasks = [web(&host, "bridge"), asker(&host, "bridge", &members)];
    let address = address_of(&host, &tasks[0]);
    // Below the search domain first, where nobody can be asked; musl's would end there.
    let found = resolve(&host, &tasks[1], "web");
    assert!(found.as_array().is_some_and(|all| all.contains(&json!(address))), "{found}");
    assert!(getent(&host, &tasks[1], "web").contains(&address));
    assert!(resolve(&host, &tasks[1], "www.example.com").is_string());
    exec(&host, &tasks[1], &["/usr/bin/getent", "ahosts", "www.example.com"]).expect_code(2);
    end(host, &tasks);
}

/// A name server on the LAN. It answers A questions with 198.51.100.<length of the first label>; to names that begin
/// with `many` it says over UDP that there is more, and over TCP gives forty addresses. It tells what it is asked.
fn name_server(neighbour: &Neighbour) -> Receiver<String> {
    let (heard, asked) = channel();
    let over_tcp = heard.clone();
    let (udp, tcp) = neighbour.namespace.enter(|| {
        let place = (LAN_ADDRESS_OF_NEIGHBOUR, 53);
        (UdpSocket::bind(place).expect("a free port"), TcpListener::bind(place).expect("a free port"))
    });
    thread::spawn(move || {
        let mut query = [0; 1500];
        while let Ok((length, peer)) = udp.recv_from(&mut query) {
            let (name, reply) = reply(&query[..length], "udp");
            // Whoever has asked, or the test, may be gone.
            if heard.send(name).is_err() || udp.send_to(&reply, peer).is_err() {
                break;
            }
        }
    });
    thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.expect("a connection");
            let mut length = [0; 2];
            stream.read_exact(&mut length).expect("a length");
            let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut query).expect("a query");
            let (name, reply) = reply(&query, "tcp");
            stream.write_all(&(reply.len() as u16).to_be_bytes()).expect("it is taken");
            stream.write_all(&reply).expect("it is taken");
            if over_tcp.send(name).is_err() {
                break;
            }
        }
    });
    asked
}

/// What was asked, and the answer.
fn reply(query: &[u8], transport: &str) -> (String, Vec<u8>) {
    let (mut at, mut labels) = (12, Vec::new());
    while query[at] != 0 {
        let label = at + 1..at + 1 + usize::from(query[at]);
        at = label.end;
        labels.push(String::from_utf8_lossy(&query[label]).into_owned());
    }
    let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let name = labels.join(".");
    let many = name.starts_with("many");
    let (flags, addresses): (u16, u8) = match (kind, many, transport) {
        (1, true, "udp") => (0x8380, 0),
        (1, true, _) => (0x8180, 40),
        (1, false, _) => (0x8180, 1),
        _ => (0x8180, 0),
    };
    let mut reply = [&query[..2], &flags.to_be_bytes(), &[0, 1, 0, addresses, 0, 0, 0, 0], &query[12..at + 5]].concat();
    for number in 0..addresses {
        reply.extend_from_slice(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x0e\x10\x00\x04\xc6\x33\x64");
        reply.push(labels[0].len() as u8 + number);
    }
    (format!("{transport} {name} {kind}"), reply)
}

#[test]
fn name_servers_of_a_definition() {
    let host = Host::new();
    import_clients(&host);
    let neighbour = host.neighbour();
    let asked = name_server(&neighbour);
    let mut tasks = Vec::new();
    // Amazon allows none in awsvpc mode.
    for mode in ["bridge", "host", "none"] {
        let members =
            json!({ "dnsServers": [LAN_ADDRESS_OF_NEIGHBOUR.to_string()], "dnsSearchDomains": ["corp.example"] });
        let task = asker(&host, mode, &members);
        assert_eq!(resolve(&host, &task, "boat"), json!(["198.51.100.4"]), "{mode}");
        assert_eq!(getent(&host, &task, "boat"), ["198.51.100.4"], "{mode}");
        let many = resolve(&host, &task, "many.example");
        assert_eq!(many.as_array().map(Vec::len), Some(40), "{mode}: {many}");
        assert_eq!(getent(&host, &task, "many.example").len(), 40, "{mode}");
        tasks.push(task);
    }
    // Others ask the host's, which has none that could be reached.
    let other = asker(&host, "host", &Value::Null);
    assert!(resolve(&host, &other, "www.example").is_string());
    tasks.push(other);
    let mut asked: Vec<String> = asked.try_iter().filter(|question| question.ends_with(" 1")).collect();
    asked.sort();
    // Once for all tasks, clients and modes.
    assert_eq!(asked, ["tcp many.example 1", "udp boat.corp.example 1", "udp many.example 1"]);
    drop(neighbour);
    end(host, &tasks);
}
