//! Hostile tasks against their neighbours and against coracle's own sockets. What they send in frames and in floods is
//! in `crates/network/tests/attacks.rs`; requests that are no good are in `crates/host-services/tests/http.rs`.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::hardening::so_many_processes;
use crate::support::netns::Namespace;
use crate::support::{Host, Running, definition};

const SERVICE: Ipv4Addr = Ipv4Addr::new(169, 254, 170, 2);
const ROLE: &str = "arn:aws:iam::111122223333:role/web";
const CREDENTIALS: &str = "$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const SECRET: &str = "hunter2";
const MODES: [&str; 4] = ["bridge", "host", "awsvpc", "none"];
/// An answer comes in milliseconds.
const NO_ANSWER_WITHIN: Duration = Duration::from_millis(400);

fn task(mode: &str, command: &[&str], of_container: &Value, of_task: &Value) -> Value {
    let mut container = definition::container("main", command, of_container);
    container["stopTimeout"] = json!(2);
    let mut task = json!({ "family": mode, "networkMode": mode, "containerDefinitions": [container] });
    for (member, value) in of_task.as_object().into_iter().flatten() {
        task[member] = value.clone();
    }
    task
}

fn exec(host: &Host, task: &str, words: &[&str]) -> Value {
    host.coracle([&["exec", task, "main", "--", "/bin/probe"], words].concat()).ok().json()
}

fn end(host: &Host, tasks: impl IntoIterator<Item = String>) {
    for task in tasks {
        host.coracle(["rm", "--force", &task]).ok();
    }
}

fn sockets_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(sockets_below(&entry.path())),
            Ok(kind) if kind.is_socket() => found.push(entry.path()),
            Ok(_) | Err(_) => {}
        }
    }
    found
}

/// CVE-2020-15257, with everything of coracle's running. Root of a container that shares the host's network and its
/// processes has neither an abstract socket to connect to nor a way to one that is a file.
#[test]
fn e19_no_socket_of_ours_is_reached_from_a_task() {
    let host = Host::new();
    host.import_probe();
    let tasks: Vec<String> =
        MODES.iter().map(|mode| host.detach(&task(mode, &["forever"], &json!({}), &json!({})), &[])).collect();
    // The process of the host's services as well.
    exec(&host, &tasks[0], &["get-all", "/v2/metadata"]);
    let sockets = sockets_below(&host.places.run_dir());
    assert!(sockets.len() >= tasks.len(), "one of each supervisor: {sockets:?}");
    let paths: Vec<&str> = sockets.iter().map(|path| path.to_str().expect("a path")).collect();
    let members = json!({ "pidMode": "host" });
    let hostile = task("host", &[&["reach-sockets"], paths.as_slice()].concat(), &json!({}), &members);
    let report = host.run(&hostile, &[]).ok().report("main");
    assert_eq!(report["reached"], json!([]), "{report}");
    assert!(report["processes"].as_u64() > Some(tasks.len() as u64), "it does see the host's: {report}");
    let named = report["unix_sockets"].as_array().expect("lines").iter().filter_map(Value::as_str);
    let named: Vec<_> = named.filter_map(|line| line.split_whitespace().nth(7)).collect();
    assert!(paths.iter().all(|path| named.contains(path)), "it does see their names: {named:?}");
    assert!(named.iter().all(|name| !name.starts_with('@')), "abstract: {named:?}");
    end(&host, tasks);
    host.finish();
}

fn ip(namespace: &Namespace, arguments: &str) {
    let status = namespace.enter(|| Command::new("ip").args(arguments.split(' ')).status()).expect("ip is installed");
    assert!(status.success(), "ip {arguments}");
}

fn ask(from: &Namespace, to: Ipv4Addr, path: &str) -> io::Result<String> {
    from.enter(|| {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from((to, 80)), NO_ANSWER_WITHIN)?;
        stream.set_read_timeout(Some(NO_ANSWER_WITHIN))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {SERVICE}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })
}

/// A task that may change its whole network asks for the credentials of another, whose ids it knows: past its own
/// service, by way of the gateway, of the other task and of the host, under its own address and under the other's.
#[test]
fn no_route_and_no_address_leads_to_another_tasks_credentials() {
    let host = Host::new();
    host.import_probe();
    let value = json!({"AccessKeyId": "ASIA", "SecretAccessKey": SECRET, "SessionToken": "token"});
    let file = host.file("credentials.json", value.to_string());
    host.coracle(["secret", "put", ROLE, "--value-file", file.to_str().expect("a path")]).ok();
    let rule = ["--group-name", "default", "--protocol", "all", "--cidr", "0.0.0.0/0"];
    host.coracle([&["network", "security-group", "authorize-ingress"], rule.as_slice()].concat()).ok();
    let of_role = json!({ "taskRoleArn": ROLE });
    let capabilities = json!({ "linuxParameters": { "capabilities": { "add": ["NET_ADMIN", "NET_RAW"] } } });
    // In host mode too: the host then has the address.
    let victims =
        ["awsvpc", "bridge", "host"].map(|mode| host.detach(&task(mode, &["forever"], &json!({}), &of_role), &[]));
    let paths: Vec<String> = victims.iter().map(|victim| credentials_path(&host, victim)).collect();
    let of_victims: Vec<Ipv4Addr> = victims[..2].iter().map(|victim| address(&host, victim)).collect();
    let own = |victim: &String| exec(&host, victim, &["get-all", CREDENTIALS])[CREDENTIALS]["body"].clone();
    for mode in ["awsvpc", "bridge"] {
        let thief = host.detach(&task(mode, &["forever"], &capabilities, &of_role), &[]);
        let process = so_many_processes(&host, &thief, 1)[0];
        let inside = Namespace::of_process(process);
        let gateway = gateway(&inside);
        // What it has by itself is its own.
        let answer = ask(&inside, SERVICE, &paths[0]).expect("its own service");
        assert!(!answer.contains(SECRET) && !answer.starts_with("HTTP/1.1 200"), "{answer}");
        ip(&inside, "addr del 169.254.170.2/32 dev lo");
        for by in [None, Some(of_victims[0]), Some(of_victims[1])] {
            let source = by.map(|address| {
                ip(&inside, &format!("addr add {address}/32 dev eth0"));
                format!(" src {address}")
            });
            // Nobody's own address is his gateway.
            for via in [gateway, of_victims[0], of_victims[1]].into_iter().filter(|via| Some(*via) != by) {
                let source = source.as_deref().unwrap_or_default();
                ip(&inside, &format!("route replace {SERVICE}/32 via {via} dev eth0 onlink{source}"));
                for path in &paths {
                    let others = of_victims.iter().copied().filter(|address| Some(*address) != by);
                    for to in others.chain([SERVICE, gateway, Ipv4Addr::LOCALHOST]) {
                        let answer = ask(&inside, to, path);
                        assert!(answer.is_err(), "{mode} by {by:?} via {via} to {to}: {answer:?}");
                    }
                }
            }
            if let Some(address) = by {
                ip(&inside, &format!("addr del {address}/32 dev eth0"));
            }
        }
        drop(inside);
        end(&host, [thief]);
    }
    for victim in &victims {
        assert_eq!(own(victim)["SecretAccessKey"], SECRET);
    }
    end(&host, victims);
    host.finish();
}

fn credentials_path(host: &Host, task: &str) -> String {
    let path = host.places.data_dir().join("tasks").join(task).join("task.json");
    let spec: Value = serde_json::from_slice(&std::fs::read(path).expect("a task that runs")).expect("JSON");
    format!("/v2/credentials/{}", spec["credentials_id"].as_str().expect("an id"))
}

fn address(host: &Host, task: &str) -> Ipv4Addr {
    let hosts = host.coracle(["exec", task, "--", "/bin/probe", "read", "/etc/hosts"]).ok().stdout;
    let mut all = hosts.lines().filter_map(|line| line.split_whitespace().next()?.parse::<Ipv4Addr>().ok());
    all.rfind(|address| !address.is_loopback()).expect("a container knows its address")
}

fn gateway(inside: &Namespace) -> Ipv4Addr {
    let shown =
        inside.enter(|| Command::new("ip").args(["route", "show", "default"]).output()).expect("ip is installed");
    let shown = String::from_utf8(shown.stdout).expect("text");
    shown.split_whitespace().nth(2).and_then(|word| word.parse().ok()).expect("default via ADDRESS")
}

fn goes_on(run: &Running) {
    let next = run.stdout().matches("round ").count() + 2;
    run.wait_for_output(&format!("round {next}\n"));
}

/// Names that nobody has, connections that say nothing, and datagrams that mean nothing, as many as it can.
#[test]
fn a_task_that_floods_its_services_keeps_nobody_else_from_theirs() {
    let host = Host::new();
    host.import_probe();
    let asking = ["bridge", "awsvpc"].map(|mode| {
        let run = host.start_run(&task(mode, &["ask-on", "bridge"], &json!({}), &json!({})), &["--name", mode]);
        run.wait_for_output("round 1");
        run
    });
    for mode in ["bridge", "host", "awsvpc"] {
        let mut flooding = task(mode, &["flood-services"], &json!({}), &json!({}));
        flooding["family"] = json!("flooding");
        let flooding = host.start_run(&flooding, &["--name", "flooding"]);
        flooding.wait_for_output("flooding");
        for run in &asking {
            goes_on(run);
        }
        host.coracle(["stop", "--timeout", "0", "flooding"]).ok();
        flooding.wait();
    }
    for run in &asking {
        assert!(!run.stdout().contains("no answer"), "{}", run.stdout());
    }
    // The one whose name they ask for goes last.
    for (run, name) in asking.into_iter().rev().zip(["awsvpc", "bridge"]) {
        host.coracle(["stop", name]).ok();
        run.wait();
    }
    host.finish();
}
