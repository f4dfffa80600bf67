//! Where a container's environment comes from: the definition, files in S3 and on this host, and what the agent adds;
//! and its name, name servers and hosts in each network mode.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::{Finished, Host, Running, definition};

/// What the pretend S3 does with a key.
#[derive(Clone)]
enum Answer {
    Content(Vec<u8>),
    /// A status with S3's error document.
    Refused(&'static str, &'static str),
    /// Busy the first time.
    BusyOnce(Vec<u8>),
}

/// Speaks as much of S3 as GetObject needs, with the bucket in the path.
struct Bucket {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

const CLOSE: &str = "CLOSE";

impl Bucket {
    fn start(host: &Host, objects: Vec<(&'static str, Answer)>) -> Self {
        let listener = host.namespace.enter(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("loopback is there");
        let address = listener.local_addr().expect("it is bound");
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = heads.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let head = read_head(&stream);
                if head.starts_with(CLOSE) {
                    return;
                }
                let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                seen.lock().expect("no thread panics").push(head);
                let times = seen.lock().expect("no thread panics").iter().filter(|head| head.contains(&path)).count();
                let answer = objects.iter().find(|(known, _)| *known == path).map(|(_, answer)| answer);
                // A client that goes away in the middle is its own matter.
                let _ = answer_with(&stream, answer, times);
            }
        });
        Self { address, heads }
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("no thread panics").clone()
    }

    /// Stops listening, so that the audit finds no socket.
    fn stop(self, host: &Host) {
        let said = host.namespace.enter(|| TcpStream::connect(self.address)?.write_all(b"CLOSE\r\n\r\n"));
        said.expect("it listens");
    }
}

fn read_head(stream: &TcpStream) -> String {
    let mut head = String::new();
    let lines = BufReader::new(stream.take(1 << 16)).lines();
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        head.push_str(&line);
        head.push('\n');
    }
    head
}

fn answer_with(mut to: &TcpStream, answer: Option<&Answer>, times: usize) -> std::io::Result<()> {
    let error = |code: &str, message: &str| {
        format!("<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>").into_bytes()
    };
    let (status, body) = match answer {
        Some(Answer::BusyOnce(_)) if times == 1 => ("503 Slow Down", error("SlowDown", "Please reduce your rate.")),
        Some(Answer::Content(body) | Answer::BusyOnce(body)) => ("200 OK", body.clone()),
        Some(Answer::Refused(status, code)) => (*status, error(code, "Because.")),
        None => ("404 Not Found", error("NoSuchKey", "The specified key does not exist.")),
    };
    write!(to, "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len())?;
    to.write_all(&body)
}

/// `coracle run` with further variables in coracle's own environment.
fn run_with(host: &Host, definition: &Value, arguments: &[&str], variables: &[(&str, &str)]) -> Finished {
    let file = host.file("task.json", definition.to_string());
    let mut command = host.command(["run"].iter().chain(arguments));
    command.arg(file).envs(variables.iter().copied());
    Running::start(&mut command).wait()
}

/// One container, `main`, that reports its environment.
fn reporting(members: &Value) -> Value {
    definition::task(&[definition::container("main", &["environment"], members)])
}

fn files(values: &[&str]) -> Value {
    values.iter().map(|value| json!({ "value": value, "type": "s3" })).collect()
}

#[test]
fn files_come_from_s3_and_from_this_host() {
    let host = Host::new();
    host.import_probe();
    let content = |text: &str| Answer::Content(text.as_bytes().to_vec());
    let bucket = Bucket::start(
        &host,
        vec![
            ("/settings/prod/web%20app.env", content("# web\nA=s3\nB=s3\nC=s3\nQUOTED=\"x y\"\n=none\nURL=a=b\r\n")),
            ("/settings/busy.env", Answer::BusyOnce(b"BUSY=no\n".to_vec())),
        ],
    );
    let local = host.file("local.env", "C=file\nD=file\n");
    let task = reporting(&json!({
        "environment": [{ "name": "A", "value": "own" }],
        "environmentFiles": files(&[
            "arn:aws:s3:::settings/prod/web app.env",
            local.to_str().expect("a plain path"),
            "arn:aws:s3:::settings/busy.env",
        ]),
    }));
    let ended = run_with(&host, &task, &[], &[("CORACLE_S3_ENDPOINT", &bucket.endpoint())]).ok();
    let report = ended.says(&["environmentFiles[1].value", "a file of this host"]).report("main");
    // `environment` wins over files, and the first file over later ones; nothing is unquoted.
    for (name, value) in
        [("A", "own"), ("B", "s3"), ("C", "s3"), ("D", "file"), ("QUOTED", "\"x y\""), ("URL", "a=b"), ("BUSY", "no")]
    {
        assert_eq!(report[name], value, "{name} in {report}");
    }
    let heads = bucket.heads();
    assert_eq!(heads.len(), 3, "one of the objects is asked for twice: {heads:?}");
    assert!(heads.iter().all(|head| !head.to_lowercase().contains("authorization")), "{heads:?}");
    bucket.stop(&host);
    host.finish();
}

/// The signature itself is held against Amazon's own example, where it is made.
#[test]
fn requests_are_signed_where_coracle_has_credentials() {
    let host = Host::new();
    host.import_probe();
    let bucket = Bucket::start(&host, vec![("/base/b/x.env", Answer::Content(b"A=1".to_vec()))]);
    let task = reporting(&json!({ "environmentFiles": files(&["arn:aws:s3:::b/x.env"]) }));
    let variables = [
        ("AWS_ENDPOINT_URL_S3", &*format!("{}/base/", bucket.endpoint())),
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "the-secret-access-key"),
        ("AWS_SESSION_TOKEN", "the-token"),
        ("AWS_REGION", "eu-central-1"),
    ];
    let report = run_with(&host, &task, &[], &variables).ok().report("main");
    assert_eq!(report["A"], "1");
    let head = bucket.heads().concat().to_lowercase();
    for part in [
        "authorization: aws4-hmac-sha256 credential=akidexample/",
        "/eu-central-1/s3/aws4_request,signedheaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token,signature=",
        "x-amz-security-token: the-token",
        "x-amz-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ] {
        assert!(head.contains(part), "{part}\nis not in\n{head}");
    }
    assert!(!head.contains("the-secret-access-key"));
    bucket.stop(&host);
    host.finish();
}

#[test]
fn a_file_that_cannot_be_had_stops_the_task_before_its_start() {
    let host = Host::new();
    host.import_probe();
    let bucket = Bucket::start(
        &host,
        vec![
            ("/b/forbidden.env", Answer::Refused("403 Forbidden", "AccessDenied")),
            ("/b/broken.env", Answer::Refused("500 Internal Server Error", "InternalError")),
            ("/b/moved.env", Answer::Refused("301 Moved Permanently", "PermanentRedirect")),
            ("/b/large.env", Answer::Content(vec![b'#'; (1 << 20) + 1])),
            ("/b/binary.env", Answer::Content(b"A=hunter2\0".to_vec())),
        ],
    );
    let names = ["none", "forbidden", "broken", "moved", "large", "binary"];
    let values: Vec<String> = names.iter().map(|name| format!("arn:aws:s3:::b/{name}.env")).collect();
    let values: Vec<&str> = values.iter().map(String::as_str).chain(["/none.env"]).collect();
    let task = reporting(&json!({ "environmentFiles": files(&values) }));
    let failed = run_with(&host, &task, &[], &[("CORACLE_S3_ENDPOINT", &bucket.endpoint())]).expect_code(125).says(&[
        "ResourceInitializationError: failed to download env files: container main: ",
        "unable to download env file with key none.env from bucket b, error: ",
        "404 Not Found: NoSuchKey: The specified key does not exist.",
        "403 Forbidden: AccessDenied: Because.",
        "500 Internal Server Error: InternalError",
        "301 Moved Permanently: PermanentRedirect",
        "larger than 1048576 bytes",
        "line 1 has a NUL character",
        "unable to read env file /none.env, error: No such file or directory",
    ]);
    assert!(!failed.whole().contains("hunter2"), "{}", failed.whole());
    let tries = |name: &str| bucket.heads().iter().filter(|head| head.contains(name)).count();
    assert_eq!((tries("broken.env"), tries("none.env")), (3, 1), "only what may pass by itself is tried again");
    bucket.stop(&host);

    let gone = [("CORACLE_S3_ENDPOINT", "http://127.0.0.1:9")];
    let one = reporting(&json!({ "environmentFiles": files(&["arn:aws:s3:::b/x.env"]) }));
    run_with(&host, &one, &[], &gone).expect_code(125).says(&["127.0.0.1:9 cannot be reached", "refused"]);
    host.run(&one, &[]).expect_code(125).says(&["no S3 endpoint is configured", "CORACLE_S3_ENDPOINT"]);
    host.finish();
}

#[test]
fn nobody_waits_for_a_bucket_that_says_nothing_after_ctrl_c() {
    let host = Host::new();
    let silent = host.namespace.enter(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("loopback is there");
    let endpoint = format!("http://{}", silent.local_addr().expect("it is bound"));
    let task =
        host.file("task.json", reporting(&json!({ "environmentFiles": files(&["arn:aws:s3:::b/x.env"]) })).to_string());
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let mut command = host.command([std::ffi::OsStr::new("run"), task.as_os_str()]);
        let run = Running::start(command.env("CORACLE_S3_ENDPOINT", &endpoint));
        let _asked = silent.accept().expect("it comes");
        let begun = std::time::Instant::now();
        run.signal(signal);
        run.wait();
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{:?}", begun.elapsed());
    }
    drop(silent);
    host.finish();
}

#[test]
fn a_file_must_be_called_env_and_there_are_ten_at_most() {
    let host = Host::new();
    let refused = |values: &[&str]| {
        let task = reporting(&json!({ "environmentFiles": files(values) }));
        host.run(&task, &[]).expect_code(2)
    };
    refused(&["arn:aws:s3:::b/x.txt"]).says(&["environmentFiles[0].value", ".env file extension"]);
    refused(&["s3://b/x.env"]).says(&["environmentFiles[0].value", "invalid s3 arn"]);
    refused(&["/a.env"; 11]).says(&["environmentFiles", "10"]);
    host.finish();
}

/// API_ContainerOverride: "A list of files containing the environment variables to pass to a container, instead of the
/// value from the container definition."
#[test]
fn an_override_has_files_of_its_own() {
    let host = Host::new();
    host.import_probe();
    let (one, two) = (host.file("one.env", "A=one\nB=one\n"), host.file("two.env", "A=two\n"));
    let shown = |path: &std::path::Path| path.display().to_string();
    let task = reporting(&json!({ "environmentFiles": files(&[&shown(&one)]) }));
    let overrides = json!({ "containerOverrides": [{ "name": "main", "environmentFiles": files(&[&shown(&two)]) }] });
    let report = host.run(&task, &["--override", &overrides.to_string()]).ok().report("main");
    assert_eq!((&report["A"], &report["B"]), (&json!("two"), &Value::Null));
    let bad = json!({ "containerOverrides": [{ "name": "main", "environmentFiles": files(&["x"]) }] });
    host.run(&task, &["--override", &bad.to_string()]).expect_code(2).says(&["environmentFiles[0].value"]);
    host.finish();
}

#[test]
fn a_file_on_the_command_line_is_for_every_container() {
    let host = Host::new();
    host.import_probe();
    let file = host.file("some.vars", "# ours\nA=file\nB=file\nC=a=b\n");
    let file = file.to_str().expect("a plain path");
    let task = reporting(&json!({ "environment": [{ "name": "A", "value": "own" }] }));
    let report = host.run(&task, &["--env-file", file, "--env", "B=argument"]).ok().report("main");
    assert_eq!((&report["A"], &report["B"], &report["C"]), (&json!("file"), &json!("argument"), &json!("a=b")));
    host.run(&task, &["--env-file", "/none"]).expect_code(2).says(&["--env-file /none", "No such file"]);
    host.finish();
}

#[test]
fn the_agent_adds_where_the_task_runs_unless_somebody_said_so() {
    let host = Host::new();
    host.import_probe();
    let region = [("AWS_REGION", "eu-central-1")];
    let report = run_with(&host, &reporting(&json!({})), &[], &region).ok().report("main");
    assert_eq!(report["AWS_EXECUTION_ENV"], "AWS_ECS_EC2");
    assert_eq!(
        (&report["AWS_REGION"], &report["AWS_DEFAULT_REGION"]),
        (&json!("eu-central-1"), &json!("eu-central-1"))
    );
    assert!(report["ECS_CONTAINER_METADATA_FILE"].is_string());
    for (name, path) in
        [("ECS_CONTAINER_METADATA_URI", "v3"), ("ECS_CONTAINER_METADATA_URI_V4", "v4"), ("ECS_AGENT_URI", "api")]
    {
        let address = report[name].as_str().unwrap_or_default();
        assert!(address.starts_with(&format!("http://169.254.170.2/{path}/")), "{name}: {address}");
    }
    let credentials = &report["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"];
    assert_eq!(*credentials, Value::Null, "there are none without a task role");
    let file = host.file("region.env", "AWS_DEFAULT_REGION=us-west-2\n");
    let task = reporting(&json!({ "environmentFiles": files(&[file.to_str().expect("a plain path")]) }));
    let report = run_with(&host, &task, &[], &region).ok().report("main");
    assert_eq!((&report["AWS_REGION"], &report["AWS_DEFAULT_REGION"]), (&Value::Null, &json!("us-west-2")));
    host.finish();
}

#[test]
fn names_name_servers_and_hosts_are_the_definitions_in_every_mode() {
    let host = Host::new();
    host.import_probe();
    let members = json!({
        "hostname": "dinghy.example",
        "dnsServers": ["192.0.2.53", "192.0.2.54"],
        "dnsSearchDomains": ["one.example", "two.example"],
        "extraHosts": [{ "hostname": "up", "ipAddress": "192.0.2.1" }, { "hostname": "six", "ipAddress": "fd00::6" }],
    });
    for mode in ["bridge", "host", "none"] {
        let mut task = definition::task(&[definition::container("main", &["report"], &members)]);
        task["networkMode"] = json!(mode);
        let report = host.run(&task, &[]).ok().report("main");
        assert_eq!(report["hostname"], "dinghy.example", "{mode}");
        assert_eq!(report["environment"]["HOSTNAME"], "dinghy.example", "{mode}");
        let resolv = report["resolv_conf"].as_str().expect("text");
        let servers: Vec<&str> = resolv.lines().filter(|line| line.starts_with("nameserver")).collect();
        // The task's resolver, which asks the definition's servers for this container.
        assert_eq!(servers, ["nameserver 169.254.170.2"], "{mode}");
        assert!(resolv.lines().any(|line| line == "search one.example two.example"), "{mode}: {resolv}");
        let hosts = report["hosts"].as_str().expect("text");
        let of = |name: &str| {
            let mut lines = hosts.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
            lines.find(|words| words.iter().skip(1).any(|word| *word == name)).map(|words| words[0].to_owned())
        };
        assert_eq!(of("up").as_deref(), Some("192.0.2.1"), "{mode}: {hosts}");
        assert_eq!(of("six").as_deref(), Some("fd00::6"), "{mode}: {hosts}");
        // On the host's own network, its own file says who it is.
        assert!(mode == "host" || of("dinghy").is_some(), "{mode}: {hosts}");
    }
    host.finish();
}
