//! Requests a second, with states of several sizes: `cargo run --release -p server --example bench_api [TASKS]…`.
//!
//! Each state is written to a store before the daemon opens it; its container instances are there and have no agents, so
//! what is measured is the API, the control loop and the disk. Clients keep their connections.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use control_plane::{Record, Settings};
use ecs::TaskId;
use serde_json::{Value, json};
use server::backup;
use server::daemon::{self, Options};
use server::store::{Disk, FILE};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// One of every kind of record, of which the bench makes many.
const SEED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/schema-1.backup");
const INSTANCES: usize = 200;
const CLIENTS: [usize; 2] = [1, 64];
const REQUESTS: usize = 2_000;

fn main() {
    let sizes: Vec<usize> = std::env::args().skip(1).map(|text| text.parse().expect("a number of tasks")).collect();
    let sizes = if sizes.is_empty() { vec![1, 10_000, 100_000] } else { sizes };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    for size in sizes {
        runtime.block_on(bench(size));
    }
}

async fn bench(size: usize) {
    let directory = std::env::temp_dir().join(format!("bench-api-{}", std::process::id()));
    fill(&directory.join("data/state"), size);
    let options = Options {
        data_directory: directory.join("data"),
        run_directory: directory.join("run"),
        listen: "127.0.0.1:0".parse().expect("an address"),
        own_instance: false,
        certificate: None,
        names: Vec::new(),
        any_key: true,
        ephemeral: false,
        account_id: "123456789012".to_owned(),
        region: "us-east-1".to_owned(),
        patience: server::http::Patience::default(),
        settings: Settings::default(),
        event_sinks: Vec::new(),
    };
    let begun = Instant::now();
    let daemon = daemon::open(&options).await.expect("a daemon");
    println!("{size} tasks: opened in {:.1} ms", begun.elapsed().as_secs_f64() * 1e3);
    let address = Arc::new(daemon.address.to_string());
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(daemon.run(async {
        // Either way it is the end.
        let _ = ended.await;
    }));
    let task = id(0);
    let asked: [(&str, Value); 4] = [
        ("RunTask", json!({"taskDefinition": "bench"})),
        ("DescribeTasks", json!({"tasks": [task]})),
        ("ListTasks", json!({})),
        ("ListTasks", json!({"family": "nothing"})),
    ];
    register(&address).await;
    for (operation, body) in asked {
        for clients in CLIENTS {
            measure(&address, operation, &body, clients).await;
        }
    }
    end.send(()).expect("it listens");
    running.await.expect("no panic").expect("a good end");
    std::fs::remove_dir_all(&directory).expect("removed");
}

fn id(number: usize) -> String {
    format!("{number:032x}")
}

/// Copies of the seed's task and container instance.
fn fill(state: &Path, size: usize) {
    server::files::make_directory(state).expect("a directory");
    let seed = std::fs::File::open(SEED).expect("the seed");
    let seed = backup::read(std::io::BufReader::new(seed)).expect("a backup");
    let mut records = Vec::new();
    for record in seed.records {
        match record {
            Record::Task(task) => records.extend((0..size).map(|number| {
                let mut task = task.clone();
                task.id = TaskId::try_from(id(number)).expect("an id");
                task.instance = Some(id(number % INSTANCES).try_into().expect("an id"));
                Record::Task(task)
            })),
            Record::Instance(instance) => records.extend((0..INSTANCES).map(|number| {
                let mut instance = instance.clone();
                instance.id = id(number).try_into().expect("an id");
                (instance.cpu, instance.memory_mib, instance.connected) = (1 << 30, 1 << 40, true);
                Record::Instance(instance)
            })),
            other => records.push(other),
        }
    }
    Disk::replace(&state.join(FILE), 1, &records).expect("written");
}

async fn register(address: &str) {
    let mut client = Client::connect(address).await;
    let containers = json!([{"name": "a", "image": "busybox", "memory": 64}]);
    let body = json!({"family": "bench", "containerDefinitions": containers});
    let (status, answer) = client.ask("RegisterTaskDefinition", &body.to_string()).await;
    assert!(status == 200, "{}", String::from_utf8_lossy(&answer));
}

async fn measure(address: &Arc<String>, operation: &'static str, body: &Value, clients: usize) {
    let each = REQUESTS / clients;
    let mut connected = Vec::new();
    for _ in 0..clients {
        connected.push(Client::connect(address).await);
    }
    let begun = Instant::now();
    let asking: Vec<_> = connected
        .into_iter()
        .map(|mut client| {
            let body = body.to_string();
            tokio::spawn(async move {
                let mut took = Vec::with_capacity(each);
                for _ in 0..each {
                    let begun = Instant::now();
                    let (status, answer) = client.ask(operation, &body).await;
                    assert!(status == 200, "{}", String::from_utf8_lossy(&answer));
                    took.push(begun.elapsed());
                }
                took
            })
        })
        .collect();
    let mut took = Vec::new();
    for asking in asking {
        took.extend(asking.await.expect("no panic"));
    }
    let all = begun.elapsed().as_secs_f64();
    took.sort_unstable();
    let ms = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "  {operation:14} {clients:3} clients: {:8.0}/s, p50 {:7.2} ms, p99 {:7.2} ms",
        took.len() as f64 / all,
        ms(0.5),
        ms(0.99)
    );
}

struct Client(BufReader<TcpStream>);

impl Client {
    async fn connect(address: &str) -> Client {
        let stream = TcpStream::connect(address).await.expect("it listens");
        stream.set_nodelay(true).expect("a TCP socket");
        Client(BufReader::new(stream))
    }

    async fn ask(&mut self, operation: &str, body: &str) -> (u16, Vec<u8>) {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-amz-json-1.1\r\n\
             X-Amz-Target: AmazonEC2ContainerServiceV20141113.{operation}\r\nX-Amz-Date: 20261123T000000Z\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=A/20261123/us-east-1/ecs/aws4_request, \
             SignedHeaders=host;x-amz-date;x-amz-target, Signature={:064x}\r\nContent-Length: {}\r\n\r\n{body}",
            0,
            body.len()
        );
        self.0.write_all(request.as_bytes()).await.expect("written");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.expect("a head"));
        }
        let head = String::from_utf8(head).expect("ASCII").to_ascii_lowercase();
        let status = head[9..12].parse().expect("a status");
        let length = head.split_once("content-length: ").expect("a length").1.split("\r\n").next().expect("a line");
        let mut answer = vec![0; length.parse().expect("a number")];
        self.0.read_exact(&mut answer).await.expect("a body");
        (status, answer)
    }
}
