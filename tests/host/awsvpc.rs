//! awsvpc tasks from the command line to the packet: an interface for each task, security groups that are changed while
//! it runs, public addresses, and what DescribeTasks shows of all that.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::netns::{LAN_ADDRESS_OF_NEIGHBOUR, LAN_LINK, Namespace};
use crate::support::{Finished, Host, definition, wait_for};

const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// For what is dropped: it would be there in a millisecond.
const NO_ANSWER_WITHIN: Duration = Duration::from_millis(300);

/// `main` listens on port 80.
fn server(members: &Value) -> Value {
    task(&[definition::container("main", &["tcp-echo", "80"], &json!({ "stopTimeout": 2 }))], members)
}

fn task(containers: &[Value], members: &Value) -> Value {
    let mut task = json!({ "family": "vpc", "networkMode": "awsvpc", "containerDefinitions": containers });
    for (member, value) in members.as_object().into_iter().flatten() {
        task[member] = value.clone();
    }
    task
}

fn listening(host: &Host, task: &str) {
    wait_for("the server", || host.coracle(["logs", task]).stdout.contains("listening").then_some(()));
}

/// Says one line to an echo server; its answer begins with who asked.
fn say(from: &Namespace, to: Ipv4Addr, port: u16, within: Duration) -> io::Result<String> {
    from.enter(|| {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from((to, port)), within)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.write_all(b"ahoy\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })
}

#[track_caller]
fn answers(from: &Namespace, to: Ipv4Addr) -> String {
    let answer = say(from, to, 80, ANSWER_WITHIN).expect("it is allowed in");
    assert!(answer.contains("said ahoy"), "{answer}");
    answer
}

#[track_caller]
fn is_dropped(from: &Namespace, to: Ipv4Addr) {
    let refused = say(from, to, 80, NO_ANSWER_WITHIN).expect_err("nothing comes through");
    assert_eq!(refused.kind(), io::ErrorKind::TimedOut, "dropped, and nobody says so: {refused}");
}

fn detail(task: &Value, name: &str) -> String {
    let details = task["attachments"][0]["details"].as_array().expect("an interface has details");
    let found = details.iter().find(|detail| detail["name"] == name);
    found.and_then(|detail| detail["value"].as_str()).unwrap_or_else(|| panic!("no {name} in {task}")).to_owned()
}

fn address(host: &Host, task: &str) -> Ipv4Addr {
    detail(&host.inspect(task), "privateIPv4Address").parse().expect("an address")
}

fn network(host: &Host, words: &[&str]) -> Finished {
    host.coracle([&["network"], words].concat())
}

/// Lets everybody in to port 80 of the default group's members.
fn open_port_80(host: &Host) {
    let rule = ["--group-name", "default", "--protocol", "tcp", "--port", "80", "--cidr", "0.0.0.0/0"];
    network(host, &[&["security-group", "authorize-ingress"], rule.as_slice()].concat()).ok();
}

fn end(host: &Host, tasks: &[String]) {
    let ends: Vec<_> = tasks.iter().map(|task| host.start(["rm", "--force", task])).collect();
    for end in ends {
        end.wait().ok();
    }
}

fn without_namespaces(host: &Host) {
    let held = std::fs::read_dir(host.places.run_dir().join("netns"));
    let held: Vec<_> = held.into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
    assert!(held.is_empty(), "{held:?}");
}

#[test]
fn containers_of_a_task_meet_on_localhost() {
    let host = Host::new();
    host.import_probe();
    let containers = [
        definition::container(
            "server",
            &["tcp-echo", "80"],
            &json!({ "essential": false, "stopTimeout": 2,
            "healthCheck": { "command": ["CMD", "/bin/probe", "tcp-say", "127.0.0.1:80", "ahoy"], "interval": 5 } }),
        ),
        definition::container(
            "main",
            &["tcp-say", "127.0.0.1:80", "ahoy"],
            &json!({
            "dependsOn": [{ "containerName": "server", "condition": "HEALTHY" }] }),
        ),
    ];
    let ended = host.run(&task(&containers, &Value::Null), &[]).ok();
    ended.prints(&["127.0.0.1:", "said ahoy"]);
    without_namespaces(&host);
    host.finish();
}

#[test]
fn twenty_tasks_listen_on_port_80() {
    const TASKS: usize = 20;
    let host = Host::new();
    host.import_probe();
    open_port_80(&host);
    let starts: Vec<_> = (0..TASKS).map(|_| host.start_run(&server(&Value::Null), &["--detach"])).collect();
    let tasks: Vec<String> =
        starts.into_iter().map(|start| start.wait().ok().line().lines().last().expect("an id").to_owned()).collect();
    let mut addresses = Vec::new();
    for task in &tasks {
        listening(&host, task);
        let address = address(&host, task);
        assert!(!addresses.contains(&address), "{address} is given twice");
        answers(&host.namespace, address);
        addresses.push(address);
    }
    let listed = network(&host, &["interface", "ls", "--output", "json"]).ok().json();
    assert_eq!(listed.as_array().map(Vec::len), Some(TASKS));
    end(&host, &tasks);
    without_namespaces(&host);
    host.finish();
}

/// Amazon's keys, each against what a process in there and a peer outside see.
#[test]
fn what_inspect_shows_is_what_a_packet_sees() {
    let host = Host::new();
    host.import_probe();
    open_port_80(&host);
    let one = host.detach(&server(&Value::Null), &[]);
    let other = host.detach(&server(&Value::Null), &[]);
    listening(&host, &other);
    let shown = host.inspect(&one);
    let attachment = &shown["attachments"][0];
    assert_eq!((&attachment["type"], &attachment["status"]), (&json!("ElasticNetworkInterface"), &json!("ATTACHED")));
    let interface = &definition::the_container(&shown, "main")["networkInterfaces"][0];
    assert_eq!(interface["attachmentId"], attachment["id"]);
    assert_eq!(interface["privateIpv4Address"], detail(&shown, "privateIPv4Address"));
    assert_eq!(shown["availabilityZone"], "us-east-1a");
    // Whom the other task sees is the interface's address.
    let target = format!("{}:80", address(&host, &other));
    let said = host.coracle(["exec", &one, "--", "/bin/probe", "tcp-say", &target, "ahoy"]).ok();
    said.prints(&[&format!("{}:", detail(&shown, "privateIPv4Address")), "said ahoy"]);
    let mac = host.coracle(["exec", &one, "--", "/bin/probe", "read", "/sys/class/net/eth0/address"]).ok();
    mac.prints(&[&detail(&shown, "macAddress")]);
    let report = host.coracle(["exec", &one, "--", "/bin/probe", "report"]).ok().json();
    let name = detail(&shown, "privateDnsName");
    assert!(name.starts_with("ip-172-31-") && name.ends_with(".ec2.internal"), "{name}");
    assert_eq!(report["hostname"], name);
    assert!(report["hosts"].as_str().is_some_and(|hosts| hosts.contains(&name)), "{report}");
    host.coracle(["ps"]).ok().prints(&[&detail(&shown, "privateIPv4Address")]);
    host.coracle(["stop", &one]).ok();
    assert_eq!(host.inspect(&one)["attachments"][0]["status"], "DELETED");
    end(&host, &[one, other]);
    host.finish();
}

#[test]
fn a_rule_reaches_running_tasks_at_once() {
    let host = Host::new();
    host.import_probe();
    let started = host.run(&server(&Value::Null), &["--detach"]).ok();
    let task = started.line().lines().last().expect("an id").to_owned();
    listening(&host, &task);
    let to = address(&host, &task);
    is_dropped(&host.namespace, to);
    let rule = ["--group-name", "default", "--protocol", "tcp", "--port", "80", "--cidr", "0.0.0.0/0"];
    let words = |verb| [&["security-group", verb], rule.as_slice()].concat();
    let made = network(&host, &words("authorize-ingress")).ok();
    assert!(made.line().starts_with("sgr-"), "{}", made.whole());
    answers(&host.namespace, to);
    network(&host, &words("authorize-ingress")).expect_code(2).says(&["InvalidPermission.Duplicate"]);
    // What stands goes on, what is new is dropped.
    let mut stands = host.namespace.enter(|| TcpStream::connect((to, 80))).expect("it is allowed in");
    network(&host, &words("revoke-ingress")).ok();
    is_dropped(&host.namespace, to);
    stands.set_read_timeout(Some(ANSWER_WITHIN)).expect("a socket");
    stands.write_all(b"ahoy\n").expect("the connection stands");
    let mut answer = String::new();
    stands.read_to_string(&mut answer).expect("the connection stands");
    assert!(answer.contains("said ahoy"), "{answer}");
    // From members of a group alone.
    network(&host, &["security-group", "create", "--group-name", "clients"]).ok();
    let from = ["--group-name", "default", "--protocol", "tcp", "--port", "80", "--source-group", "clients"];
    network(&host, &[&["security-group", "authorize-ingress"], from.as_slice()].concat()).ok();
    let target = format!("{to}:80");
    let client = |group: &str| {
        let asking = definition::container("main", &["tcp-say", &target, "ahoy"], &Value::Null);
        host.start_run(&self::task(&[asking], &Value::Null), &["--security-group", group])
    };
    client("clients").wait().ok().prints(&["said ahoy"]);
    network(&host, &["security-group", "rm", "--group-name", "clients"]).expect_code(2).says(&["DependencyViolation"]);
    end(&host, &[task]);
    host.finish();
}

/// Whoever starts a task while rules are changed gets the new ones: no interface is made by old rules afterwards.
#[test]
fn tasks_that_start_while_a_rule_is_made_have_it() {
    const TASKS: usize = 6;
    let host = Host::new();
    host.import_probe();
    let starts: Vec<_> = (0..TASKS).map(|_| host.start_run(&server(&Value::Null), &["--detach"])).collect();
    open_port_80(&host);
    let tasks: Vec<String> =
        starts.into_iter().map(|start| start.wait().ok().line().lines().last().expect("an id").to_owned()).collect();
    for task in &tasks {
        listening(&host, task);
        answers(&host.namespace, address(&host, task));
    }
    end(&host, &tasks);
    without_namespaces(&host);
    host.finish();
}

#[test]
fn a_public_address_is_answered_on_the_lan() {
    let host = Host::new();
    host.import_probe();
    let neighbour = host.neighbour();
    open_port_80(&host);
    let subnet = ["subnet", "create", "--cidr-block", "172.31.32.0/24", "--public-interface", LAN_LINK];
    network(&host, &[subnet.as_slice(), &["--public-addresses", "192.0.2.100-192.0.2.101"]].concat()).ok();
    let asked = "awsvpcConfiguration={subnets=[172.31.32.0/24],securityGroups=[default],assignPublicIp=ENABLED}";
    let task = host.detach(&server(&Value::Null), &["--network-configuration", asked]);
    listening(&host, &task);
    let interface = host.inspect(&task)["coracle"]["networkInterface"].clone();
    let public: Ipv4Addr = interface["publicIpv4Address"].as_str().expect("an address").parse().expect("an address");
    assert!([100, 101].contains(&public.octets()[3]), "{public}");
    let seen = answers(&neighbour.namespace, public);
    assert!(seen.starts_with(&format!("{LAN_ADDRESS_OF_NEIGHBOUR}:")), "{seen}");
    host.coracle(["ps"]).ok().prints(&[&public.to_string()]);
    end(&host, &[task]);
    assert!(say(&neighbour.namespace, public, 80, NO_ANSWER_WITHIN).is_err(), "the address went with its task");
    drop(neighbour);
    host.finish();
}

#[test]
fn what_cannot_be_is_said_before_anything_is_made() {
    let host = Host::new();
    host.import_probe();
    let definition = server(&Value::Null);
    let cases: [(&[&str], &[&str]); 6] = [
        (&["--subnet", "subnet-0123456789abcdef0"], &["InvalidSubnetID.NotFound", "subnet-0123456789abcdef0"]),
        (&["--security-group", "nobody"], &["InvalidGroup.NotFound", "'nobody'"]),
        (&["--assign-public-ip"], &["assignPublicIp is ENABLED", "no public addresses"]),
        (&["--security-group", "a,b,c,d,e,f"], &["securityGroups can have at most 5 items."]),
        (
            &["--network-configuration", "awsvpcConfiguration={subnet=[a]}"],
            &["awsvpcConfiguration.subnet: there is no"],
        ),
        (&["--launch-type", "FARGATE"], &["launch type FARGATE", "no cpu"]),
    ];
    for (options, words) in cases {
        let refused = host.run(&definition, options);
        assert_ne!(refused.code(), 0, "{options:?}");
        refused.says(words);
    }
    let mut bridge = definition;
    bridge["networkMode"] = json!("bridge");
    host.run(&bridge, &["--subnet", "172.31.0.0/20"]).expect_code(2).says(&["Network Configuration is not valid"]);
    host.finish();
}

#[test]
fn a_file_is_applied_and_tasks_follow() {
    const FILE: &str = r#"
        [[vpcs]]
        cidrBlock = "10.77.0.0/16"
        [[subnets]]
        cidrBlock = "10.77.1.0/24"
        ipv6CidrBlock = "fd77:1::/64"
        defaultForAz = true
        [[securityGroups]]
        groupName = "web"
        ingress = [{ protocol = "tcp", ports = 80, cidr = "0.0.0.0/0" }]
    "#;
    let host = Host::new();
    host.import_probe();
    let apply = |text: &str, options: &[&str]| {
        let file = host.file("network.toml", text);
        let file = file.to_str().expect("a path");
        network(&host, &[&["apply"], options, &[file]].concat())
    };
    apply(FILE, &["--dry-run"]).ok().prints(&["would be: subnet 10.77.1.0/24"]);
    network(&host, &["ls"]).ok().prints(&["nothing is configured yet"]);
    apply(FILE, &[]).ok().prints(&["VPC 10.77.0.0/16", "subnet 10.77.1.0/24", "security group web", "created"]);
    apply(FILE, &[]).ok().prints(&["nothing to change"]);
    let task = host.detach(&server(&Value::Null), &["--security-group", "web"]);
    listening(&host, &task);
    let to = address(&host, &task);
    assert_eq!(to.octets()[..3], [10, 77, 1]);
    assert!(detail(&host.inspect(&task), "ipv6Address").starts_with("fd77:1::"));
    answers(&host.namespace, to);
    apply(&FILE.replace("ports = 80", "ports = 81"), &[]).ok().prints(&["security group web", "changed"]);
    is_dropped(&host.namespace, to);
    apply("", &["--prune"]).expect_code(2).says(&["DependencyViolation"]);
    apply("[[subnets]]\ncidr = 1\n", &[]).expect_code(2).says(&["subnets[0].cidr", "unknown field"]);
    end(&host, &[task]);
    apply("", &["--prune"]).ok().prints(&["subnet 10.77.1.0/24", "removed"]);
    host.finish();
}

#[test]
fn a_definition_for_fargate_runs_as_one() {
    let host = Host::new();
    host.import_probe();
    let fargate = json!({ "requiresCompatibilities": ["FARGATE"], "cpu": "256", "memory": "512" });
    let asking = definition::container("main", &["report"], &Value::Null);
    let report = host.run(&task(&[asking], &fargate), &[]).ok().report("main");
    assert_eq!(report["environment"]["AWS_EXECUTION_ENV"], "AWS_ECS_FARGATE");
    // Fargate's 65,535 open files, as far as whoever runs the tests may have them.
    let limits = report["limits"].as_array().expect("lines").iter().filter_map(Value::as_str);
    let files = limits.into_iter().find(|line| line.starts_with("Max open files")).expect("a limit of open files");
    let files: Vec<u64> = files.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert!(files[0] == files[1] && files[0] > 1024 && files[1] <= 65_535, "{files:?}");
    let detached = host.detach(&server(&fargate), &[]);
    let shown = host.inspect(&detached);
    assert_eq!(shown["launchType"], "FARGATE");
    assert_eq!((&shown["cpu"], &shown["memory"]), (&json!("256"), &json!("512")));
    end(&host, &[detached]);
    host.finish();
}

#[test]
fn the_examples_run() {
    let host = Host::new();
    open_port_80(&host);
    for example in [include_str!("../../examples/awsvpc.json"), include_str!("../../examples/fargate.json")] {
        let task = host.detach(&serde_json::from_str(example).expect("JSON"), &[]);
        // One of them has another server beside the one on port 80.
        let on_80 = |line: &str| line.ends_with("listening on port 80");
        wait_for("the server", || host.coracle(["logs", &task]).stdout.lines().any(on_80).then_some(()));
        let to = address(&host, &task);
        let page = host.namespace.enter(|| {
            let mut stream = TcpStream::connect((to, 80))?;
            stream.set_read_timeout(Some(ANSWER_WITHIN))?;
            stream.write_all(b"GET /json HTTP/1.0\r\n\r\n")?;
            let mut page = String::new();
            stream.read_to_string(&mut page).map(|_| page)
        });
        let page = page.expect("the example serves");
        assert!(page.contains(&to.to_string()), "{page}");
        end(&host, &[task]);
    }
    host.finish();
}
