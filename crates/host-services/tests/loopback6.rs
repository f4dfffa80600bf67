//! `[::1]` at published ports, with servers on the loopback in the containers' places.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use agent_protocol::{TaskSpec, TaskStatus};
use ecs::TaskId;
use host_services::loopback6;
use host_services::world::{Snapshot, Task, World};
use serde_json::{Value, json};
use tokio::sync::watch;

const PATIENCE: Duration = Duration::from_secs(30);

/// A task whose container is this host's own loopback.
fn task(bindings: &Value, last_status: &str) -> Task {
    let id = TaskId::from_bytes([7; 16]);
    let spec = json!({
        "format": agent_protocol::task_spec::FORMAT, "id": id, "family": "web", "revision": 1,
        "cluster": "default", "account_id": "000000000000", "region": "xx-test-1", "group": "family:x",
        "launch_type": "EXTERNAL", "created_at": 1, "network_mode": "bridge", "pids_limit": 64,
        "containers": [{
            "definition": { "name": "main", "image": "busybox:1", "memory": 64 },
            "image": { "digest": "sha256:1234", "layers": [], "config": {} },
            "network": {
                "namespace": { "received": { "index": 0 } }, "hostname": "main", "hosts": "", "resolv_conf": "",
                "ipv4_address": "127.0.0.1", "bindings": bindings,
            },
            "runtime_id": "0".repeat(64),
        }],
        "places": { "state": "/s", "run": "/r", "cgroup": "/c", "supervisor_cgroup": "/u" },
    });
    let status = json!({
        "format": agent_protocol::task_spec::FORMAT, "id": id, "version": 1,
        "supervisor": { "pid": 1, "start_time": 1, "boot_id": "b" }, "last_status": "RUNNING",
        "desired_status": "RUNNING", "health_status": "HEALTHY",
        "containers": [{ "name": "main", "last_status": last_status, "health_status": "HEALTHY" }],
    });
    let spec: TaskSpec = serde_json::from_value(spec).expect("a good spec");
    let status: TaskStatus = serde_json::from_value(status).expect("a good status");
    Task { spec: Arc::new(spec), status: Arc::new(status) }
}

fn binding(bind_ip: &str, host: u16, container: u16, protocol: &str) -> Value {
    json!({ "bindIP": bind_ip, "hostPort": host, "containerPort": container, "protocol": protocol })
}

/// A port that nobody has, of both protocols.
fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).expect("a port");
        let port = tcp.local_addr().expect("bound").port();
        if UdpSocket::bind((Ipv6Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// The forwarder on a thread of its own.
fn serve(tasks: Vec<Task>) -> watch::Sender<Arc<Snapshot>> {
    let (world, newest) = watch::channel(Arc::new(Snapshot { tasks }));
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a loop");
        runtime.block_on(loopback6::serve(World::new(newest)));
    });
    world
}

fn eventually<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(begin.elapsed() < PATIENCE, "it does not come to that");
        thread::yield_now();
    }
}

fn echo_once(listener: &TcpListener) {
    let (mut client, _) = listener.accept().expect("somebody comes");
    let mut heard = [0; 4];
    client.read_exact(&mut heard).expect("it says something");
    client.write_all(&heard).expect("it listens");
}

fn ask(port: u16) -> Result<String, ErrorKind> {
    let at = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let mut client = TcpStream::connect_timeout(&at, PATIENCE).map_err(|error| error.kind())?;
    client.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
    client.write_all(b"ahoy").map_err(|error| error.kind())?;
    let mut said = String::new();
    client.read_to_string(&mut said).map_err(|error| error.kind())?;
    Ok(said)
}

#[test]
fn a_published_port_answers_at_loopback6_while_its_task_runs() {
    let container = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let inside = container.local_addr().expect("bound").port();
    let port = free_port();
    let running = || task(&json!([binding("0.0.0.0", port, inside, "tcp")]), "RUNNING");
    let world = serve(vec![]);
    assert_eq!(ask(port), Err(ErrorKind::ConnectionRefused));
    world.send_replace(Arc::new(Snapshot { tasks: vec![running()] }));
    let server = thread::spawn(move || {
        echo_once(&container);
        container
    });
    let said = eventually(|| match ask(port) {
        Err(ErrorKind::ConnectionRefused) => None,
        other => Some(other),
    });
    assert_eq!(said.as_deref(), Ok("ahoy"));
    let container = server.join().expect("the server is well");
    // Further news of the same task close nothing.
    let mut open = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).expect("it listens");
    world.send_replace(Arc::new(Snapshot { tasks: vec![running()] }));
    open.write_all(b"ahoy").expect("it is open");
    echo_once(&container);
    open.read_exact(&mut [0; 4]).expect("it is open still");
    let stopped = task(&json!([binding("0.0.0.0", port, inside, "tcp")]), "STOPPED");
    world.send_replace(Arc::new(Snapshot { tasks: vec![stopped] }));
    eventually(|| (ask(port) == Err(ErrorKind::ConnectionRefused)).then_some(()));
}

#[test]
fn ports_of_other_addresses_are_not_served_and_a_container_that_refuses_is_heard() {
    let (elsewhere, nobody) = (free_port(), free_port());
    let bindings = json!([binding("127.0.0.1", elsewhere, 1, "tcp"), binding("::1", nobody, 1, "tcp")]);
    let _world = serve(vec![task(&bindings, "RUNNING")]);
    // Port 1 of the container is nobody's: the connection is made, and reset.
    eventually(|| (ask(nobody) == Err(ErrorKind::ConnectionReset)).then_some(()));
    assert_eq!(ask(elsewhere), Err(ErrorKind::ConnectionRefused));
}

#[test]
fn somebody_elses_server_keeps_its_port() {
    let theirs = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).expect("a port");
    let port = theirs.local_addr().expect("bound").port();
    let other = free_port();
    let bindings = json!([binding("0.0.0.0", port, 1, "tcp"), binding("0.0.0.0", other, 1, "tcp")]);
    let _world = serve(vec![task(&bindings, "RUNNING")]);
    eventually(|| (ask(other) == Err(ErrorKind::ConnectionReset)).then_some(()));
    let server = thread::spawn(move || echo_once(&theirs));
    assert_eq!(ask(port).as_deref(), Ok("ahoy"));
    server.join().expect("the server is well");
}

#[test]
fn datagrams_find_their_way_there_and_back() {
    let container = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let inside = container.local_addr().expect("bound").port();
    let port = free_port();
    let _world = serve(vec![task(&json!([binding("0.0.0.0", port, inside, "udp")]), "RUNNING")]);
    thread::spawn(move || {
        let mut datagram = [0; 16];
        while let Ok((length, from)) = container.recv_from(&mut datagram) {
            let _ = container.send_to(&datagram[..length], from);
        }
    });
    let clients: Vec<UdpSocket> = (0..3).map(|_| UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).expect("a port")).collect();
    for (number, client) in clients.iter().enumerate() {
        client.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket has a timeout");
        let word = [b'a' + number as u8; 5];
        let mut heard = [0; 16];
        let length = eventually(|| {
            client.send_to(&word, (Ipv6Addr::LOCALHOST, port)).ok()?;
            client.recv_from(&mut heard).ok().map(|(length, _)| length)
        });
        assert_eq!(heard[..length], word);
    }
}
