//! Task metadata, stats, credentials and task protection at 169.254.170.2: in every network mode, for the task's own
//! processes and nobody else.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::support::netns::{LAN_ADDRESS_OF_HOST, Namespace};
use crate::support::{Host, Running, cgroups, definition};

const MODES: [&str; 4] = ["bridge", "host", "awsvpc", "none"];
const SERVICE: Ipv4Addr = Ipv4Addr::new(169, 254, 170, 2);
const ROLE: &str = "arn:aws:iam::111122223333:role/web";
const V4: &str = "$ECS_CONTAINER_METADATA_URI_V4";
const V3: &str = "$ECS_CONTAINER_METADATA_URI";
const PROTECTION: &str = "$ECS_AGENT_URI/task-protection/v1/state";
const CREDENTIALS: &str = "$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";

/// One container, `main`, that waits, and whatever else the task has.
fn waiting(mode: &str, members: &Value) -> Value {
    let container = definition::container("main", &["forever"], &json!({"stopTimeout": 2}));
    let mut task = json!({"family": mode, "networkMode": mode, "containerDefinitions": [container]});
    for (member, value) in members.as_object().into_iter().flatten() {
        task[member] = value.clone();
    }
    task
}

fn with_role(mode: &str) -> Value {
    waiting(mode, &json!({"taskRoleArn": ROLE}))
}

/// The answers to these paths, asked by a process of the task.
#[track_caller]
fn ask(host: &Host, task: &str, paths: &[&str]) -> Map<String, Value> {
    exec(host, task, &[&["get-all"], paths].concat()).as_object().expect("an answer for each path").clone()
}

#[track_caller]
fn exec(host: &Host, task: &str, words: &[&str]) -> Value {
    host.coracle([&["exec", task, "main", "--", "/bin/probe"], words].concat()).ok().json()
}

/// The body of one good answer.
#[track_caller]
fn get(host: &Host, task: &str, path: &str) -> Value {
    let answer = ask(host, task, &[path])[path].clone();
    assert_eq!(answer["status"], 200, "{path}: {answer}");
    answer["body"].clone()
}

/// As a task is written down: the only place that has its ids.
fn spec(host: &Host, task: &str) -> Value {
    let path = host.places.data_dir().join("tasks").join(task).join("task.json");
    serde_json::from_slice(&std::fs::read(path).expect("a task that runs")).expect("JSON")
}

fn put_credentials(host: &Host) {
    let value = json!({"AccessKeyId": "ASIA", "SecretAccessKey": "hunter2", "SessionToken": "token"});
    let file = host.file("credentials.json", value.to_string());
    let file = file.to_str().expect("a path");
    host.coracle(["secret", "put", ROLE, "--value-file", file]).ok();
}

fn end(host: &Host, tasks: impl IntoIterator<Item = String>) {
    for task in tasks {
        host.coracle(["rm", "--force", &task]).ok();
    }
}

#[test]
fn every_mode_has_every_path_and_living_numbers() {
    let host = Host::new();
    host.import_probe();
    for mode in MODES {
        let members = json!({"cpu": "512", "memory": "256", "tags": [{"key": "team", "value": "web"}]});
        let task = host.detach(&waiting(mode, &members), &[]);
        let docker_id = spec(&host, &task)["containers"][0]["runtime_id"].as_str().expect("an id").to_owned();
        let inspected = host.inspect(&task);
        let arn = inspected["taskArn"].as_str().expect("an ARN");
        let (of_container, of_stats) = (format!("/v2/metadata/{docker_id}"), format!("/v2/stats/{docker_id}"));
        let v4 = |rest: &str| format!("{V4}{rest}");
        let v3 = |rest: &str| format!("{V3}{rest}");
        let paths = [v4(""), v4("/task"), v4("/taskWithTags"), v3(""), v3("/task"), v3("/taskWithTags"), of_container];
        let paths: Vec<&str> =
            paths.iter().map(String::as_str).chain(["/v2/metadata", "/v2/metadataWithTags"]).collect();
        for (path, answer) in ask(&host, &task, &paths) {
            let body = &answer["body"];
            assert_eq!(answer["status"], 200, "{mode} {path}: {answer}");
            let container = body["Containers"].get(0).unwrap_or(body);
            assert_eq!(
                (&container["DockerId"], &container["KnownStatus"]),
                (&json!(docker_id), &json!("RUNNING")),
                "{path}"
            );
            if body.get("Containers").is_some() {
                assert_eq!((&body["TaskARN"], &body["KnownStatus"]), (&json!(arn), &json!("RUNNING")), "{path}");
                assert_eq!(body["Limits"], json!({"CPU": 0.5, "Memory": 256}));
                let tags = if path.contains("Tags") { json!({"team": "web"}) } else { Value::Null };
                assert_eq!(body["TaskTags"], tags, "{path}");
            }
        }
        let shown = get(&host, &task, V4);
        assert_eq!(shown["Networks"][0]["NetworkMode"], mode);
        assert_eq!(shown["ContainerARN"], inspected["containers"][0]["containerArn"]);
        let stats =
            [v4("/stats"), v4("/task/stats"), v3("/stats"), v3("/task/stats"), of_stats, "/v2/stats".to_owned()];
        let stats: Vec<&str> = stats.iter().map(String::as_str).collect();
        let mut before = 0;
        for path in stats {
            let body = get(&host, &task, path);
            let own = body.get(&docker_id).unwrap_or(&body);
            let used = own["cpu_stats"]["cpu_usage"]["total_usage"].as_u64().expect("a number");
            // The processes that ask are the container's own.
            assert!(used > before, "{mode} {path}: {used} after {before}");
            before = used;
            assert!(own["pids_stats"]["current"].as_u64() >= Some(2), "{own}");
            assert!(own["memory_stats"]["usage"].as_u64() > Some(0), "{own}");
            assert_eq!(own["memory_stats"]["limit"], 64 << 20, "{own}");
            assert!(own["preread"].as_str() > Some("2000") && own["preread"].as_str() < own["read"].as_str(), "{own}");
            let of_a_network = mode == "bridge" || mode == "awsvpc";
            assert_eq!(own["networks"]["eth0"]["rx_bytes"].is_u64(), of_a_network, "{mode}: {own}");
            assert_eq!(own["network_rate_stats"]["rx_bytes_per_sec"].is_number(), of_a_network, "{mode}: {own}");
        }
        end(&host, [task]);
    }
    host.finish();
}

#[test]
fn an_interface_is_shown_as_describe_tasks_and_the_metadata_file_have_it() {
    let host = Host::new();
    host.import_probe();
    let task = host.detach(&waiting("awsvpc", &Value::Null), &[]);
    let shown = get(&host, &task, &format!("{V4}/task"));
    let network = &shown["Containers"][0]["Networks"][0];
    let inspected = host.inspect(&task);
    let details = inspected["attachments"][0]["details"].as_array().expect("details");
    let detail = |name: &str| {
        let found = details.iter().find(|detail| detail["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {details:?}"))["value"].clone()
    };
    assert_eq!(network["IPv4Addresses"], json!([detail("privateIPv4Address")]));
    assert_eq!(network["MACAddress"], detail("macAddress"));
    assert_eq!(network["PrivateDNSName"], detail("privateDnsName"));
    assert_eq!(network["AttachmentIndex"], 0);
    assert_eq!(network["DomainNameServers"], json!(["169.254.170.2"]));
    let subnet = network["IPv4SubnetCIDRBlock"].as_str().expect("a subnet");
    let gateway = network["SubnetGatewayIpv4Address"].as_str().expect("a gateway");
    assert_eq!(gateway.split_once('/').map(|parts| parts.1), subnet.split_once('/').map(|parts| parts.1));
    assert!(shown["VPCID"].as_str().is_some_and(|id| id.starts_with("vpc-")), "{shown}");
    assert!(shown["AvailabilityZone"].is_string(), "{shown}");
    let environment = exec(&host, &task, &["environment"]);
    let place = environment["ECS_CONTAINER_METADATA_FILE"].as_str().expect("a path").to_owned();
    let file = exec(&host, &task, &["read", &place]);
    let network_of_file = json!({"NetworkMode": "awsvpc", "IPv4Addresses": network["IPv4Addresses"]});
    for (member, value) in network_of_file.as_object().expect("an object") {
        assert_eq!(file["Networks"][0][member], *value, "{file}");
    }
    end(&host, [task]);
    host.finish();
}

/// Two tasks in each mode, and every id of each is known to all: only a task's own is answered.
#[test]
fn a_task_reaches_only_its_own_whatever_ids_it_knows() {
    let host = Host::new();
    host.import_probe();
    put_credentials(&host);
    let tasks: Vec<String> =
        MODES.iter().flat_map(|mode| [mode, mode]).map(|mode| host.detach(&with_role(mode), &[])).collect();
    let paths_of = |task: &String| {
        let spec = spec(&host, task);
        let text = |value: &Value| value.as_str().expect("an id").to_owned();
        let container = &spec["containers"][0];
        let (endpoint, docker_id) = (text(&container["endpoint_id"]), text(&container["runtime_id"]));
        let credentials = text(&spec["credentials_id"]);
        [
            format!("/v4/{endpoint}"),
            format!("/v4/{endpoint}/task"),
            format!("/v3/{endpoint}/taskWithTags"),
            format!("/v2/metadata/{docker_id}"),
            format!("/v2/credentials/{credentials}"),
            format!("/v1/credentials?id={credentials}"),
            format!("/api/{endpoint}/task-protection/v1/state"),
        ]
    };
    let paths: Vec<[String; 7]> = tasks.iter().map(paths_of).collect();
    let all: Vec<&str> = paths.iter().flatten().map(String::as_str).collect();
    for (task, own) in tasks.iter().zip(&paths) {
        let answers = ask(&host, task, &all);
        assert_eq!(answers.len(), all.len());
        for (path, answer) in answers {
            let is_own = own.contains(&path);
            assert_eq!(answer["status"] == 200, is_own, "{path}: {answer}");
            assert!(is_own || !answer.to_string().contains("hunter2"), "{path}: {answer}");
        }
        let whose = get(&host, task, "/v2/metadata")["TaskARN"].as_str().expect("an ARN").to_owned();
        assert!(whose.ends_with(task.as_str()), "{whose}");
    }
    end(&host, tasks);
    host.finish();
}

/// Of a listener at `to`, where there is one: the answer to a good request.
fn answer_from(namespace: &Namespace, to: Ipv4Addr, port: u16, path: &str) -> Option<String> {
    const WITHIN: Duration = Duration::from_secs(2);
    namespace.enter(|| {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from((to, port)), WITHIN).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: 169.254.170.2\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    })
}

#[test]
fn neither_the_lan_nor_the_host_gets_anything() {
    let host = Host::new();
    host.import_probe();
    let neighbour = host.neighbour();
    neighbour.route_through_host(Ipv4Addr::new(169, 254, 0, 0), Ipv4Addr::new(255, 255, 0, 0));
    let nobody = |what: &str| {
        for to in [SERVICE, LAN_ADDRESS_OF_HOST] {
            for port in [80, 53] {
                let answer = answer_from(&neighbour.namespace, to, port, "/v2/metadata");
                assert_eq!(answer, None, "{what}: {to}:{port} from the LAN");
            }
        }
    };
    let namespaced: Vec<String> =
        ["bridge", "awsvpc", "none"].iter().map(|mode| host.detach(&with_role(mode), &[])).collect();
    nobody("without a task in host mode");
    assert_eq!(answer_from(&host.namespace, SERVICE, 80, "/v2/metadata"), None);
    let task = host.detach(&with_role("host"), &[]);
    get(&host, &task, "/v2/metadata");
    nobody("with a task in host mode");
    let spec = spec(&host, &task);
    let endpoint = spec["containers"][0]["endpoint_id"].as_str().expect("an id");
    let credentials = spec["credentials_id"].as_str().expect("an id");
    for path in [format!("/v4/{endpoint}"), format!("/v2/credentials/{credentials}"), "/v2/metadata".to_owned()] {
        let answer = answer_from(&host.namespace, SERVICE, 80, &path).expect("the socket of the task in host mode");
        assert!(answer.starts_with("HTTP/1.1 403 "), "{path}: {answer}");
    }
    end(&host, namespaced.into_iter().chain([task]));
    drop(neighbour);
    host.finish();
}

/// Whoever in the task makes the connection, and however it was started.
#[test]
fn a_process_of_a_task_in_host_mode_is_known_by_its_cgroup() {
    let host = Host::new();
    host.import_probe();
    put_credentials(&host);
    let tasks: Vec<String> = [json!({}), json!({"pidMode": "host"}), json!({"pidMode": "task"})]
        .iter()
        .map(|members| {
            let mut task = with_role("host");
            for (member, value) in members.as_object().expect("an object") {
                task[member] = value.clone();
            }
            host.detach(&task, &[])
        })
        .collect();
    for task in &tasks {
        for words in [&["child", "-", "get-all"][..], &["child", "1000", "get-all"], &["get-all"]] {
            let answers = exec(&host, task, &[words, &["/v2/metadata", CREDENTIALS]].concat());
            let arn = answers["/v2/metadata"]["body"]["TaskARN"].as_str().unwrap_or_default().to_owned();
            assert!(arn.ends_with(task.as_str()), "{words:?}: {answers}");
            assert_eq!(answers[CREDENTIALS]["body"]["SecretAccessKey"], "hunter2", "{words:?}: {answers}");
        }
    }
    end(&host, tasks);
    // The container's first process, as soon as it starts.
    let container = definition::container("main", &["get-all", V4, "/v2/metadata"], &Value::Null);
    let report = host
        .run(&json!({"family": "first", "networkMode": "host", "containerDefinitions": [container]}), &[])
        .ok()
        .report("main");
    assert_eq!((&report[V4]["status"], &report["/v2/metadata"]["status"]), (&json!(200), &json!(200)), "{report}");
    host.finish();
}

/// A socket that was handed from task to task belongs to neither: who has it last would get the other's secrets.
#[test]
fn a_connection_of_two_tasks_is_nobodys() {
    let host = Host::new();
    host.import_probe();
    let mut of_host_pids = with_role("host");
    of_host_pids["pidMode"] = json!("host");
    let [one, other] = [(); 2].map(|()| host.detach(&of_host_pids, &[]));
    let ask_while = |child_is_in: Option<&str>| {
        let words = ["exec", "--interactive", &one, "main", "--", "/bin/probe", "shared-socket", "/v2/metadata"];
        let mut asking = Running::start(host.command(words).stdin(Stdio::piped()));
        asking.wait_for_output("child ");
        let said = asking.stdout();
        let child = said.lines().find_map(|line| line.strip_prefix("child ")).expect("it says who the child is");
        if let Some(task) = child_is_in {
            let parent = host.places.cgroup_parent.trim_start_matches('/');
            let place = cgroups::controller("memory").join(parent).join(task).join("main/cgroup.procs");
            std::fs::write(&place, child).expect("tests run as root");
        }
        asking.stdin().write_all(b"ask\n").expect("it listens");
        let answer = asking.wait().ok().report("answer");
        answer["status"].as_u64().expect("a status")
    };
    assert_eq!(ask_while(None), 200);
    assert_eq!(ask_while(Some(&other)), 403);
    end(&host, [one, other]);
    host.finish();
}

#[test]
fn credentials_come_from_the_hosts_store_and_protection_is_for_services() {
    let host = Host::new();
    host.import_probe();
    let task = host.detach(&with_role("bridge"), &[]);
    let answer = ask(&host, &task, &[CREDENTIALS])[CREDENTIALS].clone();
    assert_eq!(
        (&answer["status"], &answer["body"]["code"]),
        (&json!(503), &json!("CredentialsUninitialized")),
        "{answer}"
    );
    put_credentials(&host);
    let found = get(&host, &task, CREDENTIALS);
    assert_eq!((&found["RoleArn"], &found["Token"]), (&json!(ROLE), &json!("token")));
    // No service started it.
    let asked = exec(&host, &task, &["ask", "PUT", PROTECTION, r#"{"ProtectionEnabled":true}"#]);
    assert_eq!(
        (&asked["status"], &asked["body"]["failure"]["Reason"]),
        (&json!(200), &json!("TASK_NOT_VALID")),
        "{asked}"
    );
    assert_eq!(get(&host, &task, PROTECTION), asked["body"]);
    let without = host.detach(&waiting("bridge", &Value::Null), &[]);
    let answers = ask(&host, &without, &[PROTECTION, CREDENTIALS]);
    assert_eq!(answers[PROTECTION]["status"], 403, "{answers:?}");
    assert_ne!(answers[CREDENTIALS]["status"], 200, "no role, no variable: {answers:?}");
    // What is secret is in nobody's log.
    let log = std::fs::read_to_string(host.places.run_dir().join("host-services.log")).expect("it has a log");
    let credentials_id = spec(&host, &task)["credentials_id"].as_str().expect("an id").to_owned();
    assert!(!log.contains("hunter2") && !log.contains(&credentials_id), "{log}");
    end(&host, [task, without]);
    host.finish();
}
