//! The commands for people, with a daemon and without: ps, stop, inspect, logs, exec, status, events, explain, and what
//! shells and `man` are told.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::serve::Served;
use crate::support::netns::{self, LAN_ADDRESS_OF_HOST};
use crate::support::{Host, PATIENCE, Running, definition, process, wait_for};

/// The screen of `coracle status`.
const COLUMNS: usize = 80;
/// Of the VPC that a host makes by itself.
const DEFAULT_SUBNET: &str = "172.31.0.0/20";
/// As a task's processes have it.
const METADATA: &str = "$ECS_CONTAINER_METADATA_URI_V4";
/// Four tebibytes, more or less.
const MORE_THAN_THERE_IS_MIB: u32 = 4_000_000;

fn waits(family: &str) -> Value {
    let mut definition =
        definition::bridge_task(&[definition::container("main", &["wait", "7"], &json!({"stopTimeout": 20}))]);
    definition["family"] = json!(family);
    definition
}

fn id(arn: &str) -> &str {
    arn.rsplit('/').next().expect("an ARN has parts")
}

fn end(served: Served, host: Host) {
    served.daemon.signal(libc::SIGTERM);
    served.daemon.wait().ok();
    host.finish();
}

#[test]
fn the_clusters_tasks_and_this_hosts_are_listed_together_and_each_once() {
    let host = Host::new();
    host.import_probe();
    let served = Served::start(&host);
    let arn = served.run_task(&waits("web"));
    served.described(&arn, "RUNNING");
    let own = host.detach(&waits("own"), &["--name", "mine"]);
    for task in [&arn, &own] {
        host.wait_until_it_waits(task);
    }
    let listed = host.coracle(["ps", "--output", "json"]).ok().json();
    let listed = listed.as_array().expect("a list");
    assert_eq!(listed.len(), 2, "{listed:?}");
    let of = |wanted: &str| {
        let found = listed.iter().find(|task| task["taskArn"].as_str().is_some_and(|arn| id(arn) == wanted));
        found.unwrap_or_else(|| panic!("no {wanted} in {listed:?}"))
    };
    // What the cluster knows of its task and what this host does, in one.
    assert_eq!((&of(id(&arn))["taskArn"], &of(id(&arn))["group"]), (&json!(arn), &json!("family:web")));
    assert!(of(id(&arn))["containerInstanceArn"].is_string() && of(id(&arn))["coracle"]["supervisor"].is_object());
    assert_eq!(of(&own)["coracle"]["name"], "mine");
    let shown = host.coracle(["ps"]).ok().prints(&["HOST", "web:1", "own:1", "mine", &own[..12], &id(&arn)[..12]]);
    assert_eq!(shown.stdout.lines().count(), 3, "{}", shown.whole());
    let of_cluster = host.coracle(["ps", "--cluster", "default"]).ok().prints(&["web:1"]);
    assert!(!of_cluster.stdout.contains("own:1"), "{}", of_cluster.whole());
    host.coracle(["ps", "--cluster", "nowhere"]).refused(&["ClusterNotFoundException", "coracle status"]);
    host.coracle(["stop", "mine"]).ok();
    host.coracle(["stop", "web"]).ok();
    assert_eq!(host.coracle(["ps"]).ok().stdout.lines().count(), 1);
    let all = host.coracle(["ps", "--all"]).ok().prints(&["STOPPED (7)", "web:1", "own:1"]);
    assert_eq!(all.stdout.lines().count(), 3, "{}", all.whole());
    end(served, host);
}

#[test]
fn a_task_of_the_cluster_is_stopped_by_the_cluster() {
    let host = Host::new();
    host.import_probe();
    let served = Served::start(&host);
    let by_arn = served.run_task(&waits("web"));
    let by_start_of_id = served.run_task(&waits("api"));
    for arn in [&by_arn, &by_start_of_id] {
        served.described(arn, "RUNNING");
    }
    let inspected = host.inspect(&by_arn);
    assert_eq!((&inspected["taskArn"], &inspected["coracle"]["networkMode"]), (&json!(by_arn), &json!("bridge")));
    host.coracle(["exec", &id(&by_arn)[..10], "--", "/bin/probe", "exit", "9"]).expect_code(9);
    let stopped = host.coracle(["stop", "--reason", "enough", &by_arn, &id(&by_start_of_id)[..10]]).ok();
    assert_eq!(stopped.line(), format!("{}\n{}", id(&by_arn), id(&by_start_of_id)));
    for arn in [&by_arn, &by_start_of_id] {
        // It has stopped by the time that the command returns.
        let task = served.ask("DescribeTasks", &json!({"tasks": [arn]}))["tasks"][0].clone();
        let (status, reason, code) = (&task["lastStatus"], &task["stoppedReason"], &task["stopCode"]);
        assert_eq!((status, reason, code), (&json!("STOPPED"), &json!("enough"), &json!("UserInitiated")));
    }
    // Once more is no error, as with this host's own.
    host.coracle(["stop", &by_arn]).ok();
    let second = served.run_task(&waits("web"));
    let third = served.run_task(&waits("web"));
    for arn in [&second, &third] {
        served.described(arn, "RUNNING");
    }
    host.coracle(["stop", "web"]).refused(&["several tasks", &id(&second)[..12], &id(&third)[..12]]);
    host.coracle(["stop", "--timeout", "0", id(&second), id(&third)]).ok();
    host.coracle(["stop", "nothing"]).refused(&["nothing", "coracle ps --all"]);
    end(served, host);
}

/// From the answer of RunTask to the end, and by the task's own account.
#[test]
fn a_container_and_an_attachment_have_one_id_for_their_tasks_life() {
    let host = Host::new();
    host.import_probe();
    let served = Served::start(&host);
    let container = definition::container("main", &["wait", "0"], &Value::Null);
    let definition = json!({"family": "vpc", "networkMode": "awsvpc", "containerDefinitions": [container]});
    served.ask("RegisterTaskDefinition", &definition);
    let network = json!({"awsvpcConfiguration": {"subnets": [DEFAULT_SUBNET]}});
    let run = served.ask("RunTask", &json!({"taskDefinition": "vpc", "networkConfiguration": network}));
    let ids = |task: &Value| [&task["containers"][0]["containerArn"], &task["attachments"][0]["id"]].map(Value::clone);
    let first = ids(&run["tasks"][0]);
    assert!(first.iter().all(Value::is_string), "{run}");
    let arn = run["tasks"][0]["taskArn"].as_str().expect("an ARN").to_owned();
    let running = served.described(&arn, "RUNNING");
    assert_eq!((ids(&running), &running["attachments"][0]["status"]), (first.clone(), &json!("ATTACHED")));
    let told = host.coracle(["exec", id(&arn), "--", "/bin/probe", "get-all", METADATA]).ok().json();
    assert_eq!(told[METADATA]["body"]["ContainerARN"], first[0], "{told}");
    host.coracle(["stop", &arn]).ok();
    assert_eq!(ids(&served.described(&arn, "STOPPED")), first);
    end(served, host);
}

#[test]
fn one_screen_tells_of_the_cluster_and_its_problems() {
    let host = Host::new();
    host.import_probe();
    let served = Served::start(&host);
    let arn = served.run_task(&waits("web"));
    served.described(&arn, "RUNNING");
    let mut broken = waits("broken");
    broken["containerDefinitions"][0]["command"] = json!(["/nowhere"]);
    broken["containerDefinitions"][0]["entryPoint"] = json!(["/nowhere"]);
    let failed = served.run_task(&broken);
    served.described(&failed, "STOPPED");
    let screen = host.coracle(["status"]).ok();
    let screen = screen.prints(&["default", "ACTIVE", "64/", "1 RUNNING", "1 STOPPED", "broken:1", &id(&failed)[..12]]);
    for line in screen.stdout.lines().skip(1) {
        assert!(line.chars().count() <= COLUMNS, "{line}");
    }
    let told = host.coracle(["status", "--output", "json"]).ok().json();
    assert_eq!(told["tasks"], json!({"RUNNING": 1, "STOPPED": 1}));
    assert_eq!(told["problems"][0]["taskArn"], failed);
    assert_eq!(told["containerInstances"][0]["agentConnected"], true);
    host.coracle(["stop", "web"]).ok();
    end(served, host);
}

#[test]
fn events_are_followed_and_a_missing_place_is_explained() {
    let host = Host::new();
    host.import_probe();
    let served = Served::start(&host);
    let (lines, json_lines) = (host.start(["events"]), host.start(["events", "--output", "json"]));
    for follower in [&lines, &json_lines] {
        follower.wait_for_errors("following");
    }
    let arn = served.run_task(&waits("web"));
    lines.wait_for_output("web:1  RUNNING");
    host.wait_until_it_waits(&arn);
    host.coracle(["stop", "--reason", "enough", "web"]).ok();
    lines.wait_for_output("web:1  STOPPED (main 7): enough");
    json_lines.wait_for_output("\"stoppedReason\":\"enough\"");
    let event: Value = serde_json::from_str(json_lines.stdout().lines().next().expect("a line")).expect("JSON");
    assert_eq!((&event["source"], &event["detail"]["clusterArn"].is_string()), (&json!("aws.ecs"), &true));
    assert!(json_lines.stdout().contains(id(&arn)));

    host.coracle(["explain", "web"]).ok().prints(&["There is a place on"]);
    let mut large = waits("large");
    large["containerDefinitions"][0]["memory"] = json!(MORE_THAN_THERE_IS_MIB);
    let file = host.file("large.json", large.to_string());
    let file = file.to_str().expect("a path of a test");
    host.coracle(["explain", file]).expect_code(1).prints(&["RESOURCE:MEMORY", "needs 4000000 MiB"]);
    let told = host.coracle(["explain", "--output", "json", "--constraint", "attribute:rack == 7", "web"]);
    let told = told.expect_code(1).json();
    assert!(
        told["fits"].is_null() && told["lacks"][0]["detail"].as_str().is_some_and(|why| why.contains("rack")),
        "{told}"
    );
    // Explaining registers nothing.
    let families = served.ask("ListTaskDefinitionFamilies", &json!({}));
    assert_eq!(families["families"], json!(["web"]));
    host.coracle(["explain", "nobody"]).expect_code(2).says(&["TaskDefinition not found."]);
    served.daemon.signal(libc::SIGTERM);
    served.daemon.wait().ok();
    lines.wait().refused(&["the daemon has ended"]);
    json_lines.wait().refused(&["the daemon has ended"]);
    host.finish();
}

#[test]
fn the_api_of_another_host_is_asked_with_a_signature_over_tls() {
    let host = Host::new();
    host.import_probe();
    let _lan = host.neighbour();
    let served = Served::start_with(&host, &["--listen", &format!("{LAN_ADDRESS_OF_HOST}:0")]);
    let arn = served.run_task(&waits("web"));
    served.described(&arn, "RUNNING");
    let key = host.coracle(["credentials", "--output", "json"]).ok().json();
    let text = |name: &str| key[name].as_str().unwrap_or_else(|| panic!("no {name}: {key}")).to_owned();
    let ask = |words: &[&str], secret: &str, authority: Option<&str>| {
        let mut command = host.command([words[0], "--endpoint", &text("EndpointUrl")]);
        command.args(&words[1..]);
        command
            .env("CORACLE_DATA_DIR", host.places.root.join("other"))
            .env("CORACLE_RUN_DIR", host.places.root.join("other"));
        command.env("AWS_ACCESS_KEY_ID", text("AccessKeyId")).env("AWS_SECRET_ACCESS_KEY", secret);
        command.env("AWS_REGION", "eu-central-1");
        if let Some(authority) = authority {
            command.env("AWS_CA_BUNDLE", authority);
        }
        Running::start(&mut command).wait()
    };
    let (secret, authority) = (text("SecretAccessKey"), text("CertificateAuthority"));
    ask(&["status"], &secret, Some(&authority)).ok().prints(&["default", "1 RUNNING"]);
    let listed = ask(&["ps", "--output", "json"], &secret, Some(&authority)).ok().json();
    assert_eq!(listed[0]["taskArn"], arn.replace("us-east-1", "eu-central-1"));
    ask(&["status"], "wrong", Some(&authority)).refused(&["coracle credentials"]);
    ask(&["status"], &secret, None).refused(&["AWS_CA_BUNDLE"]);
    // A task that was not run for it is not looked into.
    let exec = ["exec", "web", "--", "/bin/probe", "exit", "9"];
    ask(&exec, &secret, Some(&authority)).refused(&["execute command was not enabled", "enableExecuteCommand"]);
    ask(&["stop", "web"], &secret, Some(&authority)).ok();
    let run = json!({"taskDefinition": "web", "enableExecuteCommand": true});
    let second = served.ask("RunTask", &run)["tasks"][0]["taskArn"].as_str().expect("an ARN").to_owned();
    served.described(&second, "RUNNING");
    ask(&exec, &secret, Some(&authority)).expect_code(9);
    ask(&["stop", "web"], &secret, Some(&authority)).ok();
    served.described(&arn, "STOPPED");
    end(served, host);
}

/// A daemon, and another host that is a container instance of it.
struct Two {
    host: Host,
    further: Host,
    served: Served,
    agent: Running,
    /// The further one's ARN.
    instance: String,
}

impl Two {
    fn start() -> Self {
        let (host, further) = (Host::new(), Host::new());
        netns::cable(&host.namespace, &further.namespace);
        further.import_probe();
        let served = Served::start_with(&host, &["--listen", &listen()]);
        let invitation = served.post("/join-tokens", "", "");
        let text = |name: &str| invitation[name].as_str().unwrap_or_else(|| panic!("no {name}: {invitation}"));
        let authority = further.file("ca.pem", text("certificateAuthority"));
        let authority = authority.to_str().expect("a path of a test");
        let agent = Two::agent(&further, &["--join", text("token"), "--ca", authority]);
        let there = served.ask("ListContainerInstances", &json!({"filter": "attribute:deck == lower"}));
        let instance =
            there["containerInstanceArns"][0].as_str().unwrap_or_else(|| panic!("nobody: {there}")).to_owned();
        Self { host, further, served, agent, instance }
    }

    fn agent(further: &Host, words: &[&str]) -> Running {
        let mut command = further.command([&["-v", "agent", "--server", &listen()], words].concat());
        command.env("ECS_IMAGE_PULL_BEHAVIOR", "prefer-cached").env("ECS_INSTANCE_ATTRIBUTES", r#"{"deck": "lower"}"#);
        let agent = Running::start(&mut command);
        agent.wait_for_errors("connected to the control plane");
        agent
    }
}

fn listen() -> String {
    format!("{LAN_ADDRESS_OF_HOST}:4870")
}

#[test]
fn a_task_of_another_host_is_listed_and_stopped_from_here_and_looked_into_there() {
    let Two { host, further, served, agent, instance } = Two::start();
    served.ask("RegisterTaskDefinition", &waits("far"));
    let request = json!({"taskDefinition": "far", "containerInstances": [instance], "enableExecuteCommand": true});
    let started = served.ask("StartTask", &request);
    let arn = started["tasks"][0]["taskArn"].as_str().unwrap_or_else(|| panic!("no task: {started}")).to_owned();
    served.described(&arn, "RUNNING");
    host.coracle(["ps"]).ok().prints(&[&id(&arn)[..12], "far:1", "RUNNING"]);
    let inspected = host.inspect("far");
    assert!(inspected["taskArn"] == json!(arn) && inspected.get("coracle").is_none(), "{inspected}");
    // A command's terminal is carried there: by the socket, and over TLS from a host without a daemon.
    let exec = |words: &[&str]| host.coracle(["exec", "far", "--"].iter().chain(words));
    exec(&["/bin/probe", "exit", "9"]).expect_code(9);
    exec(&["/bin/probe", "read", "/etc/hostname"]).ok();
    exec(&["/nowhere"]).expect_code(127).says(&["/nowhere"]);
    host.coracle(["exec", "--user", "1", "far", "--", "/bin/probe"]).expect_code(2).says(&["--user", "is on host"]);
    // What is typed comes there: the terminal shows it, and takes Ctrl-C for what it is.
    let mut typing = host.command(["exec", "-i", "far", "--", "/bin/probe", "forever"]);
    let mut typing = Running::start(typing.stdin(Stdio::piped()));
    let mut input = typing.stdin();
    input.write_all(b"ahoy\n").expect("it reads");
    typing.wait_for_output("ahoy");
    // The terminal may show what is typed before it is anybody's.
    typing.wait_for_output("waiting");
    input.write_all(&[3]).expect("it reads");
    typing.wait().expect_code(130);
    host.coracle(["stop", "far"]).ok();
    assert_eq!(served.ask("DescribeTasks", &json!({"tasks": [arn]}))["tasks"][0]["lastStatus"], "STOPPED");
    for process in [agent, served.daemon] {
        process.signal(libc::SIGTERM);
        process.wait().ok();
    }
    further.finish();
    host.finish();
}

/// Numbered lines of a hundred bytes: more than an instance may send ahead of its reader.
const FLOOD_LINES: usize = 20_000;

/// What waits for its stop in one container, bytes of all kinds on both streams of another, and much in a third.
fn writers() -> Value {
    let beside = json!({"essential": false});
    let mut definition = definition::bridge_task(&[
        definition::container("main", &["say-signals", "7"], &json!({"stopTimeout": 20})),
        definition::container("odd", &["bytes", "\\xff\\x00ahoy\\n", "stderr", "wr\\xc3ong\\n\\nlast"], &beside),
        definition::container("much", &["flood", &FLOOD_LINES.to_string()], &beside),
    ]);
    definition["family"] = json!("far");
    definition
}

/// A command that goes on, and has printed so much.
fn shows(host: &Host, words: &[&str], text: &str) -> Running {
    let started = host.start(words);
    started.wait_for_output(text);
    started
}

/// The threads that read logs for others in a process.
fn readers(agent: &Running) -> usize {
    let threads = fs::read_dir(format!("/proc/{}/task", agent.pid())).expect("it runs");
    let names = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("comm")).ok());
    names.filter(|name| name.trim_end() == "logs").count()
}

#[test]
fn what_a_task_of_another_host_wrote_is_read_from_here() {
    let Two { host, further, served, agent, instance } = Two::start();
    served.ask("RegisterTaskDefinition", &writers());
    let started = served.ask("StartTask", &json!({"taskDefinition": "far", "containerInstances": [instance]}));
    let arn = started["tasks"][0]["taskArn"].as_str().unwrap_or_else(|| panic!("no task: {started}")).to_owned();
    served.described(&arn, "RUNNING");
    let waiting = shows(&host, &["logs", "--follow", "--container", "main", "far"], "waiting");
    wait_for("what ends to have ended", || {
        let task = served.described(&arn, "RUNNING");
        let ended = |name| definition::the_container(&task, name)["lastStatus"] == "STOPPED";
        (ended("odd") && ended("much")).then_some(())
    });
    // Byte by byte as on the task's own host, whatever is asked for.
    let same = |words: &[&str]| {
        let read = |host: &Host| host.command([&["logs"], words].concat()).output().expect("it runs");
        let (here, there) = (read(&host), read(&further));
        assert!(here == there && here.status.success(), "{words:?}: {}", String::from_utf8_lossy(&here.stderr));
    };
    for words in [
        &["far"][..],
        &["--container", "odd", "far"],
        &["--container", "odd", "--output", "json", "far"],
        &["--timestamps", "--tail", "7", "far"],
        &["--since", "1h", "--tail", "3", "--container", "main", "--container", "much", "--output", "json", "far"],
        &["--until", "2020-01-01T00:00:00Z", "far"],
    ] {
        same(words);
    }
    let odd = host.command(["logs", "--container", "odd", "far"]).output().expect("it runs");
    assert_eq!((odd.stdout.as_slice(), odd.stderr.as_slice()), (&b"\xff\0ahoy\n"[..], &b"wr\xc3ong\n\nlast"[..]));
    let much = host.coracle(["logs", "--container", "much", id(&arn)]).ok();
    assert_eq!(much.stdout.lines().count(), FLOOD_LINES);
    host.coracle(["logs", "--container", "nobody", "far"]).refused(&["on host", "no container nobody", "main"]);
    // Over TLS, from a host without a daemon.
    let key = host.coracle(["credentials", "--output", "json"]).ok().json();
    let text = |name: &str| key[name].as_str().unwrap_or_else(|| panic!("no {name}: {key}")).to_owned();
    let mut command = further.command(["logs", "--endpoint", &text("EndpointUrl"), "--container", "main", "far"]);
    let elsewhere = further.places.root.join("other");
    command.env("CORACLE_DATA_DIR", &elsewhere).env("CORACLE_RUN_DIR", &elsewhere);
    command.env("AWS_ACCESS_KEY_ID", text("AccessKeyId")).env("AWS_SECRET_ACCESS_KEY", text("SecretAccessKey"));
    let authority = further.file("authority.pem", fs::read(text("CertificateAuthority")).expect("it is there"));
    command.env("AWS_CA_BUNDLE", authority);
    assert_eq!(Running::start(&mut command).wait().ok().stdout, "waiting\n");

    // A reader that is killed leaves nothing behind, in the middle of much or while there is nothing to read.
    for words in [&["logs", "--follow", "far"][..], &["logs", "--follow", "--container", "main", "far"]] {
        let killed = shows(&host, words, "waiting");
        assert_eq!(readers(&agent), 2, "{words:?}");
        process::kill(killed.pid());
        wait_for("the killed reader's thread to have ended", || (readers(&agent) == 1).then_some(()));
    }
    // An instance that is lost is told of, and what it runs goes on.
    process::kill(agent.pid());
    waiting.wait().refused(&["reading the logs of task", "was lost"]);
    host.coracle(["logs", "far"]).refused(&["is not connected"]);
    drop(agent);
    let agent = Two::agent(&further, &[]);
    let to_the_end = shows(&host, &["logs", "--follow", "--container", "main", "far"], "waiting");
    host.coracle(["stop", "far"]).ok();
    assert_eq!(to_the_end.wait().ok().stdout, "waiting\nsignal 15 .\n");
    wait_for("the last thread to have ended", || (readers(&agent) == 0).then_some(()));
    same(&["--follow", "far"]);
    same(&["--follow", "--output", "json", "far"]);
    wait_for("the task to be removable", || (further.coracle(["rm", id(&arn)]).code() == 0).then_some(()));
    host.coracle(["logs", id(&arn)]).refused(&["has nothing of task"]);
    for process in [agent, served.daemon] {
        process.signal(libc::SIGTERM);
        process.wait().ok();
    }
    further.finish();
    host.finish();
}

#[test]
fn without_a_daemon_it_is_said_how_to_start_one() {
    let host = Host::new();
    for words in [
        &["status"][..],
        &["events"],
        &["explain", "web"],
        &["ps", "--cluster", "default"],
        &["stop", "--cluster", "a", "b"],
    ] {
        host.coracle(words).refused(&["no daemon answers", "coracle serve"]);
    }
    host.coracle(["ps"]).ok().prints(&["TASK", "PORTS"]);
    host.coracle(["status", "--endpoint", "nonsense"]).expect_code(2).says(&["https://"]);
    host.coracle(["status", "--endpoint", "http://127.0.0.1:1"]).expect_code(2).says(&["AWS_ACCESS_KEY_ID"]);
    host.finish();
}

/// As `Type=notify` has it: sd_notify(3).
#[test]
fn the_service_manager_is_told_of_the_begin_and_the_end() {
    let host = Host::new();
    let path = host.places.root.join("notify");
    let manager = UnixDatagram::bind(&path).expect("a test may listen in its own directory");
    manager.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
    let heard = || {
        let mut bytes = [0; 256];
        let length = manager.recv(&mut bytes).expect("it is told");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    let mut command = host.command(["serve", "--dev", "--listen", "127.0.0.1:0"]);
    let daemon = Running::start(command.env("NOTIFY_SOCKET", &path));
    assert_eq!(heard(), "READY=1");
    // Whoever was started after it finds it.
    host.coracle(["status"]).ok().prints(&["default", "ACTIVE"]);
    daemon.signal(libc::SIGTERM);
    assert_eq!(heard(), "STOPPING=1");
    daemon.wait().ok();
    host.finish();
}

/// Through the daemon that runs, and from its files; what is restored is what there was, with the same keys.
#[test]
fn a_backup_is_the_state_whether_the_daemon_runs_or_not() {
    let (host, other) = (Host::new(), Host::new());
    host.import_probe();
    let served = Served::start(&host);
    let arn = served.run_task(&waits("web"));
    served.described(&arn, "RUNNING");
    host.wait_until_it_waits(&arn);
    host.coracle(["stop", "web"]).ok();
    served.ask("CreateCluster", &json!({"clusterName": "kept"}));
    let (running, silent) = (host.places.root.join("running"), host.places.root.join("silent"));
    let text = |path: &std::path::Path| path.to_str().expect("a path of a test").to_owned();
    host.coracle(["backup", &text(&running)]).ok();
    host.coracle(["backup", &text(&running)]).refused(&["running"]);
    assert!(host.coracle(["backup", "-"]).ok().stdout.contains("kept"));
    host.coracle(["restore", &text(&running)]).refused(&["another daemon", "stop the daemon first"]);
    served.daemon.signal(libc::SIGTERM);
    served.daemon.wait().ok();
    host.coracle(["backup", &text(&silent)]).ok();
    let lines = |path: &std::path::Path| fs::read_to_string(path).expect("it was made").lines().count();
    assert_eq!(lines(&running), lines(&silent));
    let key = |host: &Host| host.coracle(["credentials", "--output", "json"]).ok().json()["SecretAccessKey"].clone();
    let secret = key(&host);
    other.coracle(["restore", &text(&running)]).ok();
    let again = Served::start_with(&other, &["--dev", "--no-agent", "--listen", "127.0.0.1:0"]);
    assert_eq!(key(&other), secret);
    let described = again.ask("DescribeTasks", &json!({"tasks": [arn]}));
    assert_eq!(described["tasks"][0]["containers"][0]["exitCode"], 7, "{described}");
    let clusters = again.ask("ListClusters", &json!({}))["clusterArns"].as_array().map(Vec::len);
    assert_eq!(clusters, Some(2));
    again.daemon.signal(libc::SIGTERM);
    again.daemon.wait().ok();
    other.finish();
    host.finish();
}

/// The commands of a help text.
fn commands(help: &str) -> Vec<String> {
    let after = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let listed =
        after.take_while(|line| !line.is_empty()).filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = listed.filter_map(|line| line.split_whitespace().next()).map(str::to_owned);
    names.filter(|name| name != "help").collect()
}

#[test]
fn every_command_has_an_example_a_page_and_a_completion() {
    let host = Host::new();
    let pages = host.places.root.join("man");
    host.coracle(["man".as_ref(), pages.as_os_str()]).ok();
    let bash = host.coracle(["completions", "bash"]).ok().stdout;
    for shell in ["zsh", "fish"] {
        host.coracle(["completions", shell]).ok().prints(&["coracle", "status"]);
    }
    let named = commands(&host.coracle(["--help"]).ok().stdout);
    assert!(named.len() > 20 && named.contains(&"status".to_owned()), "{named:?}");
    for name in named {
        let help = host.coracle([name.as_str(), "--help"]).ok().stdout;
        let below = commands(&help);
        assert!(help.contains("Example") || !below.is_empty(), "coracle {name} --help has no example:\n{help}");
        let page = fs::read_to_string(pages.join(format!("coracle-{name}.1")));
        let page = page.unwrap_or_else(|error| panic!("coracle-{name}.1: {error}"));
        assert!(page.contains(".SH SYNOPSIS"), "{page}");
        assert!(bash.contains(&format!("coracle,{name})")), "bash does not complete {name}");
    }
    host.finish();
}
