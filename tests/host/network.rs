//! Published ports from everywhere they must be reached, and network modes as Amazon documents them.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::netns::{LAN_ADDRESS_OF_HOST, LAN_ADDRESS_OF_NEIGHBOUR, Namespace};
use crate::support::{Host, Running, definition, wait_for};

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Says one line to an echo server and returns its answer.
fn say(from: &Namespace, to: impl Into<IpAddr>, port: u16) -> io::Result<String> {
    let to = SocketAddr::from((to.into(), port));
    from.enter(|| {
        let mut stream = TcpStream::connect_timeout(&to, ANSWER_WITHIN)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.write_all(b"ahoy\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })
}

fn say_udp(from: &Namespace, to: Ipv4Addr, port: u16) -> io::Result<String> {
    from.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(ANSWER_WITHIN))?;
        socket.send_to(b"ahoy", (to, port))?;
        let mut datagram = [0u8; 2048];
        let (length, _) = socket.recv_from(&mut datagram)?;
        Ok(String::from_utf8_lossy(&datagram[..length]).into_owned())
    })
}

#[track_caller]
fn answers(answer: io::Result<String>) -> String {
    let answer = answer.expect("the published port answers");
    assert!(answer.contains("said ahoy"), "{answer}");
    answer
}

fn listening(host: &Host, task: &str) {
    wait_for("the server", || host.coracle(["logs", task]).stdout.contains("listening").then_some(()));
}

fn bindings(host: &Host, task: &str) -> Value {
    definition::the_container(&host.inspect(task), "main")["networkBindings"].clone()
}

fn end(host: &Host, task: &str) {
    host.coracle(["stop", task]).ok();
    host.coracle(["rm", task]).ok();
}

/// One server in bridge mode with these port mappings; stopped quickly, as it does not listen to SIGTERM as process 1.
fn server(command: &[&str], mappings: &Value) -> Value {
    definition::bridge_task(&[definition::container(
        "main",
        command,
        &json!({ "portMappings": mappings, "stopTimeout": 2 }),
    )])
}

#[test]
fn a_static_port_answers_on_loopback_the_lan_and_from_containers() {
    let host = Host::new();
    host.import_probe();
    let neighbour = host.neighbour();
    let task = host.detach(&server(&["tcp-echo", "80"], &json!([{ "containerPort": 80, "hostPort": 8080 }])), &[]);
    listening(&host, &task);
    answers(say(&host.namespace, LOOPBACK, 8080));
    answers(say(&host.namespace, LAN_ADDRESS_OF_HOST, 8080));
    let seen = answers(say(&neighbour.namespace, LAN_ADDRESS_OF_HOST, 8080));
    // The server sees who really asks.
    assert!(seen.starts_with(&format!("{LAN_ADDRESS_OF_NEIGHBOUR}:")), "{seen}");
    assert_eq!(
        bindings(&host, &task),
        json!([{ "bindIP": "0.0.0.0", "containerPort": 80, "hostPort": 8080, "protocol": "tcp" }])
    );
    let target = format!("{LAN_ADDRESS_OF_HOST}:8080");
    let client = definition::bridge_task(&[definition::container("client", &["tcp-say", &target, "ahoy"], &json!({}))]);
    host.run(&client, &[]).ok().prints(&["said ahoy"]);
    // The published port of oneself, through the host and back.
    host.coracle(["exec", &task, "--", "/bin/probe", "tcp-say", &target, "ahoy"]).ok().prints(&["said ahoy"]);
    end(&host, &task);
    assert!(say(&host.namespace, LOOPBACK, 8080).is_err(), "the port is closed with its task");
    drop(host.namespace.enter(|| TcpListener::bind("0.0.0.0:8080")).expect("the port is free again"));
    drop(neighbour);
    host.finish();
}

#[test]
fn dynamic_ports_come_from_the_kernels_range_and_are_different() {
    let host = Host::new();
    host.import_probe();
    let mappings = json!([{ "containerPort": 80 }, { "containerPort": 81, "hostPort": 0 }]);
    let range = host.namespace.enter(|| std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range"));
    let range: Vec<u64> =
        range.expect("a setting").split_whitespace().map(|port| port.parse().expect("a port")).collect();
    let tasks: Vec<String> = (0..2).map(|_| host.detach(&server(&["tcp-echo", "80,81"], &mappings), &[])).collect();
    let mut ports = Vec::new();
    for task in &tasks {
        listening(&host, task);
        for binding in bindings(&host, task).as_array().expect("bindings") {
            let port = binding["hostPort"].as_u64().expect("a port");
            assert!(range[0] <= port && port <= range[1], "{port} is not in {range:?}");
            assert!(!ports.contains(&port), "{port} is given twice");
            ports.push(port);
            answers(say(&host.namespace, LOOPBACK, port as u16));
        }
    }
    assert_eq!(ports.len(), 4);
    for task in tasks {
        end(&host, &task);
    }
    host.finish();
}

#[test]
fn udp_and_ranges() {
    let host = Host::new();
    host.import_probe();
    let neighbour = host.neighbour();
    let mapping = json!([{ "containerPort": 53, "hostPort": 5353, "protocol": "udp" }]);
    let task = host.detach(&server(&["udp-echo", "53"], &mapping), &[]);
    listening(&host, &task);
    answers(say_udp(&host.namespace, LOOPBACK, 5353));
    answers(say_udp(&neighbour.namespace, LAN_ADDRESS_OF_HOST, 5353));
    end(&host, &task);
    let task =
        host.detach(&server(&["tcp-echo", "7000,7001,7002"], &json!([{ "containerPortRange": "7000-7002" }])), &[]);
    listening(&host, &task);
    let bound = bindings(&host, &task);
    assert_eq!(bound[0]["containerPortRange"], "7000-7002", "{bound}");
    let (first, last) = bound[0]["hostPortRange"].as_str().expect("a range").split_once('-').expect("a range");
    let (first, last): (u16, u16) = (first.parse().expect("a port"), last.parse().expect("a port"));
    assert_eq!(last - first, 2);
    for port in first..=last {
        answers(say(&host.namespace, LOOPBACK, port));
        answers(say(&neighbour.namespace, LAN_ADDRESS_OF_HOST, port));
    }
    end(&host, &task);
    drop(neighbour);
    host.finish();
}

#[test]
fn containers_of_one_task_have_networks_of_their_own_in_bridge_mode() {
    let host = Host::new();
    host.import_probe();
    let containers = [
        definition::container("one", &["tcp-echo", "80"], &json!({ "essential": false, "stopTimeout": 2 })),
        definition::container("main", &["report"], &json!({})),
        definition::container("alone", &["interfaces"], &json!({ "essential": false, "disableNetworking": true })),
    ];
    let ended = host.run(&definition::bridge_task(&containers), &[]).ok();
    assert_ne!(ended.report("main")["namespaces"]["net"], format!("net:[{}]", host.namespace.inode()));
    host.finish();
}

#[test]
fn a_container_reaches_the_lan_with_the_hosts_address() {
    let host = Host::new();
    host.import_probe();
    let neighbour = host.neighbour();
    let listener = neighbour
        .namespace
        .enter(|| TcpListener::bind((LAN_ADDRESS_OF_NEIGHBOUR, 9000)))
        .expect("the port is free in there");
    let target = format!("{LAN_ADDRESS_OF_NEIGHBOUR}:9000");
    let definition =
        definition::bridge_task(&[definition::container("main", &["tcp-say", &target, "ahoy"], &json!({}))]);
    let run = host.start_run(&definition, &[]);
    let (mut stream, from) = listener.accept().expect("the container comes");
    assert_eq!(from.ip(), LAN_ADDRESS_OF_HOST);
    let mut line = [0u8; 5];
    stream.read_exact(&mut line).expect("the container says something");
    stream.write_all(b"welcome").expect("the container listens");
    drop(stream);
    run.wait().ok().prints(&["welcome"]);
    drop(listener);
    drop(neighbour);
    host.finish();
}

#[test]
fn host_mode_is_the_hosts_network() {
    let host = Host::new();
    host.import_probe();
    let mut definition = definition::probe_with(
        &["tcp-echo", "7070"],
        &json!({ "stopTimeout": 2, "portMappings": [{ "containerPort": 7070 }] }),
    );
    definition["networkMode"] = json!("host");
    let task = host.detach(&definition, &[]);
    listening(&host, &task);
    answers(say(&host.namespace, LOOPBACK, 7070));
    let report = host.coracle(["exec", &task, "--", "/bin/probe", "report"]).ok().json();
    assert_eq!(report["namespaces"]["net"], format!("net:[{}]", host.namespace.inode()));
    assert_eq!(bindings(&host, &task)[0]["hostPort"], 7070);
    end(&host, &task);
    host.finish();
}

#[test]
fn mode_none_has_a_loopback_and_nothing_else() {
    let host = Host::new();
    assert_eq!(host.probe(&["interfaces"]), json!(["lo"]));
    let mut published = definition::probe_with(&["exit", "0"], &json!({ "portMappings": [{ "containerPort": 80 }] }));
    published["networkMode"] = json!("none");
    host.run(&published, &[]).refused(&["portMappings"]);
    // Nothing was needed, so nothing was made.
    assert_eq!(host.namespace.links(), ["lo"]);
    host.finish();
}

#[test]
fn a_port_that_is_taken_is_named_and_nothing_stays() {
    let host = Host::new();
    host.import_probe();
    let definition = server(&["tcp-echo", "80"], &json!([{ "containerPort": 80, "hostPort": 8080 }]));
    let holder = host.namespace.enter(|| TcpListener::bind("0.0.0.0:8080")).expect("the port is free");
    host.run(&definition, &[]).refused(&["8080"]);
    drop(holder);
    host.audit();
    let task = host.detach(&definition, &[]);
    host.run(&definition, &[]).refused(&["8080"]);
    // Whoever else wants the port is told so by the kernel.
    assert!(host.namespace.enter(|| TcpListener::bind("0.0.0.0:8080")).is_err());
    end(&host, &task);
    host.finish();
}

#[test]
fn bridge_tasks_see_their_own_name_and_the_hosts_name_servers() {
    let host = Host::new();
    host.import_probe();
    let members = json!({ "hostname": "dinghy", "dnsServers": ["192.0.2.53"], "dnsSearchDomains": ["example.test"] });
    let report = host
        .run(&definition::bridge_task(&[definition::container("main", &["report"], &members)]), &[])
        .ok()
        .report("main");
    let resolv = report["resolv_conf"].as_str().expect("text");
    // The resolver there asks 192.0.2.53 for this container.
    assert_eq!(resolv.lines().collect::<Vec<_>>(), ["nameserver 169.254.170.2", "search example.test"]);
    let hosts = report["hosts"].as_str().expect("text");
    assert!(hosts.lines().any(|line| line.split_whitespace().nth(1) == Some("dinghy")), "{hosts}");
    host.finish();
}

/// Addresses, ports and the bridge itself are handed out by the kernel, whoever asks at the same time.
#[test]
fn many_tasks_start_at_once() {
    const TASKS: usize = 8;
    let host = Host::new();
    host.import_probe();
    let definition = server(&["tcp-echo", "80"], &json!([{ "containerPort": 80 }]));
    let starts: Vec<_> = (0..TASKS).map(|_| host.start_run(&definition, &["--detach"])).collect();
    let tasks: Vec<String> = starts.into_iter().map(|start| start.wait().ok().line().to_owned()).collect();
    let mut ports = Vec::new();
    for task in &tasks {
        listening(&host, task);
        let port = bindings(&host, task)[0]["hostPort"].as_u64().expect("a port") as u16;
        assert!(!ports.contains(&port), "{port} is given twice");
        answers(say(&host.namespace, LOOPBACK, port));
        ports.push(port);
    }
    let stops: Vec<_> = tasks.iter().map(|task| host.start(["rm", "--force", task])).collect();
    for stop in stops {
        stop.wait().ok();
    }
    host.finish();
}

const HOST6_ON_LAN: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
const NEIGHBOUR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2);

fn ip(namespace: &Namespace, arguments: &str) {
    let status = namespace.enter(|| Command::new("ip").args(arguments.split(' ')).status()).expect("ip is installed");
    assert!(status.success(), "ip {arguments}");
}

#[test]
fn published_ports_answer_over_ipv6_and_at_its_loopback() {
    let host = Host::new();
    host.import_probe();
    let neighbour = host.neighbour();
    ip(&host.namespace, &format!("addr add {HOST6_ON_LAN}/64 dev lan0 nodad"));
    ip(&neighbour.namespace, &format!("addr add {NEIGHBOUR6}/64 dev eth0 nodad"));
    let mapping = json!([{ "containerPort": 80, "hostPort": 8080 }]);
    let task = host.detach(&server(&["tcp-echo", "[::]:80"], &mapping), &[]);
    listening(&host, &task);
    let seen = answers(say(&neighbour.namespace, HOST6_ON_LAN, 8080));
    assert!(seen.starts_with(&format!("[{NEIGHBOUR6}]:")), "{seen}");
    answers(say(&host.namespace, HOST6_ON_LAN, 8080));
    answers(say(&neighbour.namespace, LAN_ADDRESS_OF_HOST, 8080));
    // The kernel sends on nothing from there; the host's services do, once they are there.
    let said = wait_for("the forwarder", || say(&host.namespace, Ipv6Addr::LOCALHOST, 8080).ok());
    answers(Ok(said));
    // As on ECS, whose agent leaves the IPv6 half out.
    assert_eq!(
        bindings(&host, &task),
        json!([{ "bindIP": "0.0.0.0", "containerPort": 80, "hostPort": 8080, "protocol": "tcp" }])
    );
    let target = format!("[{HOST6_ON_LAN}]:8080");
    host.coracle(["exec", &task, "--", "/bin/probe", "tcp-say", &target, "ahoy"]).ok().prints(&["said ahoy"]);
    end(&host, &task);
    for gone in [Ipv6Addr::LOCALHOST, HOST6_ON_LAN] {
        wait_for("the port to be closed", || say(&host.namespace, gone, 8080).is_err().then_some(()));
    }
    drop(neighbour);
    host.finish();
}

#[test]
fn ports_are_published_at_given_addresses_alone() {
    let host = Host::new();
    host.import_probe();
    let neighbour = host.neighbour();
    let definition = server(&["tcp-echo", "80"], &json!([{ "containerPort": 80, "hostPort": 8080 }]));
    let task = host.detach(&definition, &["--publish-address", "127.0.0.1", "--publish-address", "::1"]);
    listening(&host, &task);
    answers(say(&host.namespace, LOOPBACK, 8080));
    let bound = bindings(&host, &task);
    assert_eq!((&bound[0]["bindIP"], &bound[1]["bindIP"]), (&json!("127.0.0.1"), &json!("::1")), "{bound}");
    assert!(say(&neighbour.namespace, LAN_ADDRESS_OF_HOST, 8080).is_err(), "nothing is met on the LAN");
    answers(Ok(wait_for("the forwarder", || say(&host.namespace, Ipv6Addr::LOCALHOST, 8080).ok())));
    end(&host, &task);
    let said = ["ports cannot be published at 192.0.2.77", "this host has no such address"];
    host.run(&definition, &["--publish-address", "192.0.2.77"]).refused(&said);
    host.run(&definition, &["--publish-address", "0.0.0.0"]).refused(&["leave it out to publish at every address"]);
    drop(neighbour);
    host.finish();
}

#[test]
fn dynamic_ports_come_from_the_agents_range_where_it_is_set() {
    let host = Host::new();
    host.import_probe();
    let definition = server(&["tcp-echo", "80"], &json!([{ "containerPort": 80 }]));
    let file = host.file("dynamic.json", definition.to_string());
    let mut run = host.command(["run", "--detach", file.to_str().expect("a path of ours")]);
    run.env("ECS_DYNAMIC_HOST_PORT_RANGE", "41000-41000");
    let task = Running::start(&mut run).wait().ok().line().to_owned();
    assert_eq!(bindings(&host, &task)[0]["hostPort"], 41000);
    // There is no other.
    Running::start(&mut run).wait().refused(&["1 free consecutive tcp ports are not left in 41000-41000"]);
    run.env("ECS_DYNAMIC_HOST_PORT_RANGE", "41000");
    Running::start(&mut run).wait().refused(&["ECS_DYNAMIC_HOST_PORT_RANGE=41000", "such as 49153-65535"]);
    end(&host, &task);
    host.finish();
}

/// ECS places no task where a port that it declares is taken.
#[test]
fn a_port_of_host_mode_that_is_taken_is_refused_with_its_holder() {
    let host = Host::new();
    host.import_probe();
    let mut definition = definition::probe_with(
        &["tcp-echo", "7070"],
        &json!({ "stopTimeout": 2, "portMappings": [{ "containerPort": 7070 }] }),
    );
    definition["networkMode"] = json!("host");
    let task = host.detach(&definition, &[]);
    listening(&host, &task);
    host.run(&definition, &[]).refused(&["tcp host port 7070 is taken by probe (pid "]);
    end(&host, &task);
    host.finish();
}

/// CVE-2020-8558 and its like: a machine on the LAN that sends to the host what no wire should carry.
#[test]
fn the_lan_reaches_neither_loopback_nor_the_services_of_tasks() {
    let host = Host::new();
    host.import_probe();
    let neighbour = host.neighbour();
    let mut on_host = definition::probe_with(&["forever"], &json!({ "stopTimeout": 2 }));
    on_host["networkMode"] = json!("host");
    let on_host = host.detach(&on_host, &[]);
    let published = server(&["tcp-echo", "80"], &json!([{ "containerPort": 80, "hostPort": 8080 }]));
    let published = host.detach(&published, &[]);
    let service = Ipv4Addr::new(169, 254, 170, 2);
    let private = host.namespace.enter(|| TcpListener::bind((LOOPBACK, 6379))).expect("the port is free in there");
    neighbour.route_through_host(Ipv4Addr::new(127, 0, 0, 0), Ipv4Addr::new(255, 0, 0, 0));
    neighbour.route_through_host(service, Ipv4Addr::BROADCAST);
    // A host that would take such packets, were it not for coracle's table.
    host.namespace
        .enter(|| std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1"))
        .expect("the namespace's own setting");
    let attempt = |from: &Namespace, to: Ipv4Addr, port| {
        let to = SocketAddr::from((to, port));
        from.enter(|| TcpStream::connect_timeout(&to, Duration::from_millis(400)).map(drop))
    };
    for (address, port) in [(LOOPBACK, 6379), (LOOPBACK, 8080), (service, 80), (service, 51679), (service, 51680)] {
        let tried = attempt(&neighbour.namespace, address, port);
        assert_eq!(tried.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut), "{address}:{port}");
    }
    // They are there, for the host.
    for (address, port) in [(LOOPBACK, 6379), (LOOPBACK, 8080), (service, 80)] {
        attempt(&host.namespace, address, port).unwrap_or_else(|error| panic!("{address}:{port}: {error}"));
    }
    drop(private);
    end(&host, &on_host);
    end(&host, &published);
    drop(neighbour);
    host.finish();
}
