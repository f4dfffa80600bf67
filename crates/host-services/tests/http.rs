//! The HTTP service over real sockets, with tasks that are only written down: who gets what, and what hostile clients
//! get. Which task calls from the host's own namespace is for `tests/host`, where there are tasks.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use agent::Host;
use agent_protocol::TaskSpec;
use ecs::value_from::Name;
use ecs::{TaskId, Timestamp};
use host_services::http::{self, Http, MAX_CONNECTIONS_OF_TASK};
use host_services::origin::Origin;
use host_services::protection;
use host_services::world::{Snapshot, Task, World};
use runtime::task_dir::Roots;
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};

const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const ROLE: &str = "arn:aws:iam::111122223333:role/web";
const NOW: Timestamp = Timestamp::from_epoch_ms(1_795_398_837_042);

/// Tasks that are served, each on a listener of its own, as if in a namespace of its own.
struct Served {
    tasks: Vec<Task>,
    places: Vec<SocketAddr>,
    host: Host,
    _directory: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

fn id(number: usize) -> TaskId {
    TaskId::try_from(format!("{number:032x}")).expect("hexadecimal digits")
}

fn task(number: usize, state: &Path) -> Task {
    // The task 2 was started by hand.
    let group = if number == 2 { "family:shop" } else { "service:shop" };
    let spec = json!({
        "format": 1, "id": id(number), "family": "shop", "revision": 1, "cluster": "default",
        "account_id": "111122223333", "region": "us-west-2", "group": group, "launch_type": "EXTERNAL",
        "created_at": number, "network_mode": "bridge", "pids_limit": 64,
        "containers": [{
            "definition": {"name": "web", "image": "busybox"},
            "image": {"digest": "sha256:d691", "layers": [], "config": {}},
            "network": {"namespace": {"received": {"index": 0}}, "hostname": "h", "hosts": "", "resolv_conf": ""},
            "runtime_id": format!("docker-{number}"), "endpoint_id": format!("endpoint-{number}"),
        }],
        // The task 1 has no role.
        "task_role_arn": (number != 1).then_some(ROLE),
        "credentials_id": (number != 1).then(|| format!("credentials-{number}")),
        "places": {"state": state, "run": "/r", "cgroup": "/none", "supervisor_cgroup": "/none"},
    });
    let status = json!({
        "format": 1, "id": id(number), "version": 3, "supervisor": {"pid": 1, "start_time": 1, "boot_id": "b"},
        "last_status": "RUNNING", "desired_status": "RUNNING",
        "containers": [{"name": "web", "last_status": "PENDING"}],
    });
    let spec: TaskSpec = serde_json::from_value(spec).expect("a spec");
    Task { spec: Arc::new(spec), status: Arc::new(serde_json::from_value(status).expect("a status")) }
}

impl Served {
    fn new(count: usize) -> Served {
        let directory = tempfile::tempdir().expect("a directory");
        let roots = Roots {
            data: directory.path().join("data"),
            run: directory.path().join("run"),
            cgroup_parent: "/none".into(),
        };
        let host = Host::new(roots, |_| None).expect("nothing is set");
        let tasks: Vec<Task> = (0..count)
            .map(|number| {
                let state = host.roots.places(&id(number)).state;
                std::fs::create_dir_all(&state).expect("a directory of our own");
                task(number, &state)
            })
            .collect();
        let snapshot = Arc::new(Snapshot { tasks: tasks.clone() });
        let (stop, stopped) = oneshot::channel();
        let (tell, told) = std::sync::mpsc::channel();
        let (ids, of_host) = (tasks.iter().map(|task| task.spec.id.clone()).collect::<Vec<_>>(), host.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a loop");
            runtime.block_on(async {
                let (_sender, receiver) = watch::channel(snapshot);
                let shared = Arc::new(Http::new(World::new(receiver), of_host).expect("cgroups"));
                for task in ids {
                    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
                    tell.send(listener.local_addr().expect("it is bound")).expect("somebody waits");
                    let origin = Origin::Task { task, containers: Vec::new() };
                    tokio::spawn(http::serve(listener, origin, Arc::clone(&shared)));
                }
                drop(tell);
                stopped.await.expect("the test ends it");
            });
        });
        let places = told.iter().collect();
        Served { tasks, places, host, _directory: directory, stop: Some(stop), thread: Some(thread) }
    }

    /// A request as its bytes, and everything that comes back; nothing where the connection was cut.
    fn raw(&self, number: usize, request: &[u8]) -> Option<Vec<u8>> {
        let mut stream = TcpStream::connect(self.places[number]).expect("it listens");
        stream.set_read_timeout(Some(ANSWER_WITHIN)).expect("a socket");
        // It may be cut before all is written.
        let _ = stream.write_all(request);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("no answer to {}: {error}", String::from_utf8_lossy(request)),
        }
        (!answer.is_empty()).then_some(answer)
    }

    fn ask(&self, number: usize, method: &str, path: &str, body: &str) -> (u16, Value) {
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: 169.254.170.2\r\nConnection: close\r\n{length}\r\n{body}");
        let answer = self.raw(number, request.as_bytes()).unwrap_or_else(|| panic!("{method} {path}: cut"));
        let text = String::from_utf8(answer).expect("answers are text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let value = serde_json::from_str(body).unwrap_or_else(|_| Value::from(body));
        (status(head.as_bytes()).expect("a status"), value)
    }

    fn get(&self, number: usize, path: &str) -> (u16, Value) {
        self.ask(number, "GET", path, "")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.stop.take().expect("ended once").send(());
        let ended = self.thread.take().expect("ended once").join();
        assert!(ended.is_ok() || std::thread::panicking(), "the service panicked");
    }
}

fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.strip_prefix(b"HTTP/1.1 ").or_else(|| answer.strip_prefix(b"HTTP/1.0 "))?;
    std::str::from_utf8(line.get(..3)?).ok()?.parse().ok()
}

#[test]
fn every_path_answers_with_and_without_a_slash() {
    let served = Served::new(1);
    for path in [
        "/v4/endpoint-0",
        "/v4/endpoint-0/task",
        "/v4/endpoint-0/taskWithTags",
        "/v4/endpoint-0/task/stats",
        "/v3/endpoint-0",
        "/v3/endpoint-0/task",
        "/v3/endpoint-0/taskWithTags",
        "/v3/endpoint-0/task/stats",
        "/v2/metadata",
        "/v2/metadataWithTags",
        "/v2/metadata/docker-0",
        "/v2/stats",
    ] {
        for path in [path.to_owned(), format!("{path}/")] {
            let (status, body) = served.get(0, &path);
            assert_eq!(status, 200, "{path}: {body}");
            let is_stats = path.contains("stats");
            assert!(is_stats && body["docker-0"].is_null() || !is_stats && body.is_object(), "{path}: {body}");
        }
    }
    let (status, body) = served.get(0, "/v4/endpoint-0/stats");
    assert_eq!((status, body), (500, json!("Unable to get container stats for: docker-0")));
    let (status, body) = served.get(0, "/v4/endpoint-0/nothing");
    assert_eq!((status, body), (404, json!("404 page not found\n")));
}

/// The words of Amazon's agent.
#[test]
fn another_tasks_ids_are_as_if_nobody_had_them() {
    let served = Served::new(2);
    for number in [0, 1] {
        for other in [format!("endpoint-{}", 1 - number), "endpoint-9".to_owned(), String::new()] {
            let of_task = "handler: unable to get task arn from request: unable to get task Arn from v3 endpoint ID";
            for (path, words) in [
                (
                    "",
                    "container metadata handler: unable to get container ID from request: unable to get docker ID \
                      from v3 endpoint ID"
                        .to_owned(),
                ),
                ("/task", format!("task metadata {of_task}")),
                ("/taskWithTags", format!("task metadata {of_task}")),
                ("/stats", format!("container stats {of_task}")),
                ("/task/stats", format!("task stats {of_task}")),
            ] {
                for version in ["3", "4"] {
                    let asked = format!("/v{version}/{other}{path}");
                    let expected = format!("V{version} {words}: {other}");
                    assert_eq!(served.get(number, &asked), (404, Value::from(expected)), "{asked}");
                }
            }
        }
        let docker_id = format!("docker-{}", 1 - number);
        for (path, words) in [
            ("metadata", format!("Unable to generate metadata for container '{docker_id}'")),
            ("stats", format!("Unable to get container stats for: {docker_id}")),
        ] {
            assert_eq!(served.get(number, &format!("/v2/{path}/{docker_id}")), (400, Value::from(words)));
        }
        let other = format!("/api/endpoint-{}/task-protection/v1/state", 1 - number);
        let error = json!({"error":
            {"Code": "ResourceNotFoundException", "Message": "Failed to find a task for the request"}});
        assert_eq!(served.get(number, &other), (404, error.clone()));
        assert_eq!(served.ask(number, "PUT", &other, r#"{"ProtectionEnabled": true}"#), (404, error));
    }
}

#[test]
fn credentials_are_the_tasks_own() {
    let served = Served::new(3);
    let error = |status: u16, version: u8, code: &str, text: &str| {
        let message = format!("CredentialsV{version}Request: {text}");
        (status, json!({"code": code, "message": message, "HTTPErrorCode": status}))
    };
    let uninitialized = |version| error(503, version, "CredentialsUninitialized", "Credentials uninitialized for ID");
    assert_eq!(served.get(0, "/v2/credentials/credentials-0"), uninitialized(2));
    assert_eq!(served.get(0, "/v1/credentials?id=credentials-0"), uninitialized(1));
    let name = Name::of_role(ROLE).expect("a role's ARN");
    let put = |value: &str| {
        let value = secrets::Value(value.to_owned());
        served.host.secrets().put(&name, secrets::Kind::Ssm, value, NOW).expect("the store works")
    };
    put(r#"{"AccessKeyId": "ASIA", "SecretAccessKey": "hunter2", "SessionToken": "token"}"#);
    for path in ["/v2/credentials/credentials-0", "/v1/credentials?id=credentials-0"] {
        let (status, body) = served.get(0, path);
        assert_eq!(status, 200, "{body}");
        let keys: Vec<&str> = body.as_object().expect("an object").keys().map(String::as_str).collect();
        assert_eq!(keys, ["RoleArn", "AccessKeyId", "SecretAccessKey", "Token", "Expiration"]);
        assert_eq!(
            (&body["RoleArn"], &body["SecretAccessKey"], &body["Token"]),
            (&json!(ROLE), &json!("hunter2"), &json!("token"))
        );
    }
    let unknown = |version| error(400, version, "InvalidIdInRequest", "Credentials not found");
    let none = |version| error(400, version, "NoIdInRequest", "No Credential ID in the request");
    // The role of task 2 is the same, the id is not; task 1 has no role.
    for (number, other) in [(0, "credentials-2"), (1, "credentials-0"), (1, "credentials-1"), (2, "x")] {
        assert_eq!(served.get(number, &format!("/v2/credentials/{other}")), unknown(2), "{other}");
        assert_eq!(served.get(number, &format!("/v1/credentials?id={other}")), unknown(1), "{other}");
    }
    assert_eq!(served.get(0, "/v2/credentials/"), none(2));
    assert_eq!(served.get(0, "/v1/credentials"), none(1));
    put("hunter2");
    let failed = json!({"code": "InternalServerError", "message": "Internal server error", "HTTPErrorCode": 500});
    assert_eq!(served.get(0, "/v2/credentials/credentials-0"), (500, failed));
}

#[test]
fn protection_is_asked_for_seen_and_given_back() {
    let served = Served::new(3);
    let path = |number: usize| format!("/api/endpoint-{number}/task-protection/v1/state");
    let arn = |number: usize| agent::describe::task_arn(&served.tasks[number].spec);
    let state = |number: usize| &served.tasks[number].spec.places.state;
    let off = json!({"protection": {"ExpirationDate": null, "ProtectionEnabled": false, "TaskArn": arn(0)}});
    assert_eq!(served.get(0, &path(0)), (200, off.clone()));
    let (status, body) = served.ask(0, "PUT", &path(0), r#"{"ProtectionEnabled": true, "ExpiresInMinutes": 60}"#);
    assert_eq!((status, &body["protection"]["ProtectionEnabled"]), (200, &json!(true)), "{body}");
    assert_eq!(served.get(0, &path(0)), (200, body.clone()));
    let until = Timestamp::from_rfc3339(body["protection"]["ExpirationDate"].as_str().expect("a date"));
    let read = protection::of(state(0), Timestamp::from_epoch_ms(0)).expect("it was written");
    assert_eq!(read.until, until, "what is told is what is kept");
    assert_eq!(served.ask(0, "PUT", &path(0), r#"{"ProtectionEnabled": false}"#), (200, off));
    let error = |arn: Option<String>, code: &str, text: &str| match arn {
        Some(arn) => json!({"error": {"Code": code, "Message": text, "Arn": arn}}),
        None => json!({"error": {"Code": code, "Message": text}}),
    };
    for (body, arn, text) in [
        ("{", None, "UpdateTaskProtection: failed to decode request"),
        (r#"{"Other": 1}"#, None, "UpdateTaskProtection: failed to decode request"),
        ("{}", Some(arn(0)), "Invalid request: does not contain 'ProtectionEnabled' field"),
        (
            r#"{"ProtectionEnabled": true, "ExpiresInMinutes": 2881}"#,
            Some(arn(0)),
            "expiresInMinutes must be between 1 and 2880",
        ),
    ] {
        let expected = error(arn, "InvalidParameterException", text);
        assert_eq!(served.ask(0, "PUT", &path(0), body), (400, expected), "{body}");
    }
    let too_long = format!(r#"{{"ProtectionEnabled": true{}}}"#, " ".repeat(5000));
    assert_eq!(served.ask(0, "PUT", &path(0), &too_long).0, 400);
    let text = "Invalid Request: no task IAM role credentials available for task";
    let denied = error(Some(arn(1)), "AccessDeniedException", text);
    assert_eq!(served.get(1, &path(1)), (403, denied.clone()));
    assert_eq!(served.ask(1, "PUT", &path(1), r#"{"ProtectionEnabled": true}"#), (403, denied));
    let no_service = json!({"failure": {"Arn": arn(2), "Detail": null, "Reason": "TASK_NOT_VALID"}});
    assert_eq!(served.ask(2, "PUT", &path(2), r#"{"ProtectionEnabled": true}"#), (200, no_service.clone()));
    assert_eq!(served.get(2, &path(2)), (200, no_service));
    for without in [1, 2] {
        assert!(!state(without).join(protection::FILE_NAME).exists());
    }
    let (status, body) = served.ask(0, "POST", "/api/endpoint-0/fault/v1/network-latency/start", "{}");
    assert_eq!(status, 400);
    assert!(body["Error"].as_str().is_some_and(|text| text.contains("enableFaultInjection is not enabled")), "{body}");
}

#[test]
fn what_came_through_a_proxy_is_refused() {
    let served = Served::new(1);
    let code = |request: &str| status(&served.raw(0, request.as_bytes()).unwrap_or_default());
    let with = |line: &str, headers: &str| code(&format!("{line}\r\n{headers}Connection: close\r\n\r\n"));
    const HOST: &str = "Host: 169.254.170.2\r\n";
    const LINE: &str = "GET /v4/endpoint-0 HTTP/1.1";
    assert_eq!(with(LINE, HOST), Some(200));
    assert_eq!(with(LINE, "Host: 169.254.170.2:80\r\n"), Some(200));
    assert_eq!(with("GET /v4/endpoint-0 HTTP/1.0", ""), Some(200));
    for (line, headers, expected) in [
        (LINE, "", 403),
        (LINE, "Host: metadata.example\r\n", 403),
        (LINE, "Host: 169.254.170.2\r\nHost: 169.254.170.2\r\n", 403),
        (LINE, "Host: 169.254.170.2\r\nX-Forwarded-For: 10.0.0.1\r\n", 403),
        (LINE, "Host: 169.254.170.2\r\nVia: 1.1 proxy\r\n", 403),
        (LINE, "Host: 169.254.170.2\r\nContent-Length: 1\r\n", 400),
        (LINE, "Host: 169.254.170.2\r\nTransfer-Encoding: chunked\r\n", 400),
        ("GET http://169.254.170.2/v4/endpoint-0 HTTP/1.1", HOST, 400),
        ("CONNECT 169.254.170.2:80 HTTP/1.1", HOST, 400),
        ("OPTIONS * HTTP/1.1", HOST, 400),
        ("POST /v4/endpoint-0 HTTP/1.1", HOST, 405),
        ("PUT /v2/credentials/credentials-0 HTTP/1.1", HOST, 405),
        ("HEAD /v4/endpoint-0 HTTP/1.1", HOST, 405),
    ] {
        assert_eq!(with(line, headers), Some(expected), "{line} {headers}");
    }
    assert_eq!(with(LINE, &format!("{HOST}X: {}\r\n", "y".repeat(4096))), Some(431));
    assert_eq!(with(LINE, &format!("{HOST}X: {}\r\n", "y".repeat(100_000))), Some(431));
    // HTTP/0.9 has no version, and gets no answer of this service's.
    assert!(served.raw(0, b"GET /v4/endpoint-0\r\n\r\n").is_none_or(|answer| status(&answer) != Some(200)));
}

#[test]
fn one_task_asks_as_often_as_the_agent_lets_it() {
    let served = Served::new(2);
    let codes: Vec<u16> = (0..200).map(|_| served.get(0, "/v4/endpoint-0").0).collect();
    let good = codes.iter().filter(|code| **code == 200).count();
    assert!((60..200).contains(&good), "{good} of 200 at once");
    assert!(codes[..60].iter().all(|code| *code == 200));
    assert!(codes.iter().all(|code| [200, 429].contains(code)));
    assert_eq!(served.get(1, "/v4/endpoint-1").0, 200, "another task is not held to it");
}

#[test]
fn connections_that_say_nothing_are_in_nobody_elses_way() {
    let served = Served::new(2);
    let silent: Vec<TcpStream> =
        (0..MAX_CONNECTIONS_OF_TASK).map(|_| TcpStream::connect(served.places[0]).expect("it listens")).collect();
    assert_eq!(served.get(1, "/v4/endpoint-1").0, 200);
    assert_eq!(served.raw(0, b"GET / HTTP/1.1\r\n\r\n"), None, "one more is closed");
    drop(silent);
    // The service sees them go in its own time.
    let request = b"GET /v4/endpoint-0 HTTP/1.1\r\nHost: 169.254.170.2\r\nConnection: close\r\n\r\n";
    while served.raw(0, request).is_none() {}
}

/// xorshift64 (Marsaglia, "Xorshift RNGs", 2003).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

/// Thousands of requests that are nearly right: every answer is a good one or a refusal, and the service goes on.
#[test]
fn hostile_requests_are_refused_and_nothing_breaks() {
    const TASKS: usize = 100;
    const EACH: usize = 50;
    let served = Served::new(TASKS);
    let pieces: [&[u8]; 24] = [
        b"GET ",
        b"PUT ",
        b"POST ",
        b"CONNECT ",
        b"/v4/endpoint-0",
        b"/task",
        b"/stats",
        b"/v2/credentials/",
        b"/api/",
        b"/task-protection/v1/state",
        b"%2e%2e",
        b"//",
        b"?id=",
        b" HTTP/1.1\r\n",
        b" HTTP/1.0\r\n",
        b" HTTP/9.9\r\n",
        b"Host: 169.254.170.2\r\n",
        b"Content-Length: 18446744073709551616\r\n",
        b"Content-Length: -1\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"\r\n\r\n",
        b"{\"ProtectionEnabled\":",
        b"\xff\xfe\0",
        b"PRI * HTTP/2.0\r\n\r\nSM",
    ];
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    for number in 0..TASKS {
        let good = format!(
            "PUT /api/endpoint-{number}/task-protection/v1/state HTTP/1.1\r\nHost: 169.254.170.2\r\nContent-Length: \
             27\r\n\r\n{{\"ProtectionEnabled\": false}}"
        );
        for _ in 0..EACH {
            let mut request = good.clone().into_bytes();
            for _ in 0..=dice.roll(4) {
                let at = dice.roll(request.len());
                match dice.roll(4) {
                    0 => request[at] = dice.roll(256) as u8,
                    1 => request.truncate(at.max(1)),
                    2 => drop(request.splice(at..at, pieces[dice.roll(pieces.len())].iter().copied())),
                    _ => drop(request.splice(at..(at + dice.roll(20)).min(request.len()), [])),
                }
                if request.is_empty() {
                    request.push(b'G');
                }
            }
            let answer = served.raw(number, &request);
            let code = answer.as_deref().map(|answer| status(answer).expect("an answer is HTTP"));
            assert!(code.is_none_or(|code| code < 500), "{code:?} to {}", String::from_utf8_lossy(&request));
        }
        assert!(matches!(served.get(number, &format!("/v4/endpoint-{number}")).0, 200 | 429));
    }
}
