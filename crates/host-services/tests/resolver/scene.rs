//! Tasks, their resolver and a client, in one process.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use agent_protocol::{TaskSpec, TaskStatus};
use ecs::TaskId;
use host_services::origin::Origin;
use host_services::resolver::{Resolver, serve_tcp, serve_udp};
use host_services::world::{Snapshot, Task, World};
use serde_json::{Value, json};
use simple_dns::rdata::RData;
use simple_dns::{Packet, RCODE};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;

/// How long a client waits before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const A: u16 = 1;
pub(crate) const AAAA: u16 = 28;

/// An address of 127/8 that no other test of this process has. Port 53 there is for name servers.
pub(crate) fn address() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [_, high, low, _] = std::process::id().to_be_bytes();
    IpAddr::from([127, high | 0x80, low, NEXT.fetch_add(1, Ordering::Relaxed)])
}

/// A running task with the container `main`, in bridge mode.
pub(crate) struct Example {
    pub(crate) number: u8,
    pub(crate) family: &'static str,
    pub(crate) dns_servers: Vec<IpAddr>,
    pub(crate) resolv_conf: &'static str,
}

impl Example {
    pub(crate) fn new(number: u8, family: &'static str) -> Example {
        Example { number, family, dns_servers: Vec::new(), resolv_conf: "nameserver 169.254.170.2\n" }
    }

    pub(crate) fn id(number: u8) -> TaskId {
        TaskId::from_bytes([number; 16])
    }

    pub(crate) fn spec(&self) -> Value {
        let id = Example::id(self.number);
        json!({
            "format": agent_protocol::task_spec::FORMAT, "id": id, "family": self.family, "revision": 1,
            "cluster": "default", "account_id": "000000000000", "region": "xx-test-1", "group": "family:x",
            "launch_type": "EXTERNAL", "created_at": 1, "network_mode": "bridge", "pids_limit": 64,
            "containers": [{
                "definition": {
                    "name": "main", "image": "busybox:1", "memory": 64,
                    "portMappings": [{ "containerPort": 80, "name": "http" }],
                },
                "image": { "digest": "sha256:1234", "layers": [], "config": {} },
                "network": {
                    "namespace": { "received": { "index": 0 } }, "hostname": "main", "hosts": "",
                    "resolv_conf": self.resolv_conf, "ipv4_address": format!("10.0.0.{}", self.number),
                    "dns_servers": self.dns_servers,
                },
                "runtime_id": "0".repeat(64),
            }],
            "places": { "state": "/s", "run": "/r", "cgroup": "/c", "supervisor_cgroup": "/u" },
        })
    }

    pub(crate) fn status(&self) -> Value {
        json!({
            "format": agent_protocol::task_spec::FORMAT, "id": Example::id(self.number), "version": 1,
            "supervisor": { "pid": 1, "start_time": 1, "boot_id": "b" }, "last_status": "RUNNING",
            "desired_status": "RUNNING", "health_status": "HEALTHY",
            "containers": [{ "name": "main", "last_status": "RUNNING", "health_status": "HEALTHY" }],
        })
    }

    pub(crate) fn task(&self) -> Task {
        task(self.spec(), self.status())
    }
}

pub(crate) fn task(spec: Value, status: Value) -> Task {
    let spec: TaskSpec = serde_json::from_value(spec).expect("a good spec");
    let status: TaskStatus = serde_json::from_value(status).expect("a good status");
    Task { spec: Arc::new(spec), status: Arc::new(status) }
}

pub(crate) struct Scene {
    pub(crate) resolver: Arc<Resolver>,
    tasks: watch::Sender<Arc<Snapshot>>,
    folder: TempDir,
}

impl Scene {
    /// A host with these tasks, and with these name servers in its resolv.conf.
    pub(crate) fn new(tasks: Vec<Task>, servers: &[IpAddr]) -> Scene {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let (tasks, newest) = watch::channel(Arc::new(Snapshot { tasks }));
        let path = folder.path().join("resolv.conf");
        let scene = Scene { resolver: Resolver::new(World::new(newest), path), tasks, folder };
        scene.write_resolv_conf(servers);
        scene
    }

    pub(crate) fn write_resolv_conf(&self, servers: &[IpAddr]) {
        let text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
        let (new, path) = (self.folder.path().join("new"), self.folder.path().join("resolv.conf"));
        std::fs::write(&new, text).expect("a test may write to its own directory");
        std::fs::rename(new, path).expect("a test may write to its own directory");
    }

    pub(crate) fn set_tasks(&self, tasks: Vec<Task>) {
        self.tasks.send_replace(Arc::new(Snapshot { tasks }));
    }

    /// The sockets of this task, served.
    pub(crate) async fn client(&self, number: u8) -> Client {
        let main = "main".to_owned().try_into().expect("a good name");
        let origin = Origin::Task { task: Example::id(number), containers: vec![main] };
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (udp, tcp) = (socket.local_addr().expect("bound"), listener.local_addr().expect("bound"));
        tokio::spawn(serve_udp(self.resolver.clone(), socket, origin.clone()));
        tokio::spawn(serve_tcp(self.resolver.clone(), listener, origin));
        Client { udp, tcp }
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Client {
    pub(crate) udp: SocketAddr,
    tcp: SocketAddr,
}

impl Client {
    pub(crate) async fn ask(self, name: &str, kind: u16) -> String {
        self.ask_udp(&query(name, kind)).await
    }

    /// Asks for its A records again and again.
    pub(crate) async fn ask_until(self, name: &str, answer: &str) {
        let asking = async { while self.ask(name, A).await != answer {} };
        tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("{name} never becomes {answer}"));
    }

    /// What a stub resolver would make of it: `RCODE [TC] | answers`.
    pub(crate) async fn ask_udp(self, query: &[u8]) -> String {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        socket.connect(self.udp).await.expect("an address");
        socket.send(query).await.expect("a datagram is sent");
        let mut reply = [0; 65_535];
        let received = tokio::time::timeout(PATIENCE, socket.recv(&mut reply)).await.expect("an answer in time");
        shown(query, &reply[..received.expect("an answer")])
    }

    pub(crate) async fn ask_tcp(self, name: &str, kind: u16) -> String {
        let mut stream = TcpStream::connect(self.tcp).await.expect("a connection");
        self.ask_over(&mut stream, name, kind).await
    }

    pub(crate) async fn connect(self) -> TcpStream {
        TcpStream::connect(self.tcp).await.expect("a connection")
    }

    pub(crate) async fn ask_over(self, stream: &mut TcpStream, name: &str, kind: u16) -> String {
        let query = query(name, kind);
        stream.write_u16(query.len() as u16).await.expect("it is taken");
        stream.write_all(&query).await.expect("it is taken");
        let length = tokio::time::timeout(PATIENCE, stream.read_u16()).await.expect("in time").expect("an answer");
        let mut reply = vec![0; usize::from(length)];
        stream.read_exact(&mut reply).await.expect("a whole answer");
        shown(&query, &reply)
    }
}

pub(crate) fn query(name: &str, kind: u16) -> Vec<u8> {
    let mut bytes = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&[0, 1]);
    bytes
}

fn shown(query: &[u8], reply: &[u8]) -> String {
    assert_eq!(reply[..2], query[..2], "the asker's id");
    let packet = Packet::parse(reply).expect("an answer that others can read");
    assert!(packet.questions.is_empty() || reply[12..].starts_with(&query[12..]), "the asker's question");
    let rcode = match packet.rcode() {
        RCODE::NoError => "ok",
        RCODE::NameError => "no such name",
        RCODE::ServerFailure => "failure",
        RCODE::Refused => "refused",
        other => panic!("{other:?}"),
    };
    let cut = if packet.has_flags(simple_dns::PacketFlag::TRUNCATION) { " cut" } else { "" };
    let mut answers = Vec::new();
    for record in &packet.answers {
        answers.push(match &record.rdata {
            RData::A(a) => std::net::Ipv4Addr::from(a.address).to_string(),
            RData::AAAA(aaaa) => std::net::Ipv6Addr::from(aaaa.address).to_string(),
            RData::SRV(srv) => format!("{}:{}", srv.target, srv.port),
            other => panic!("{other:?}"),
        });
    }
    format!("{rcode}{cut} {}", answers.join(" ")).trim_end().to_owned()
}
