//! How many questions a second the resolver answers on one core, over sockets of the loopback:
//! `cargo run --release -p host-services --example names_per_second`. As root, for the name server at port 53.
//!
//! The resolver has one thread, as in `coracle host-services`; the clients, eight with eight questions under way each,
//! have another. What is reported is the resolver's: answers for each second of its thread's processor time, and for
//! each second on the clock.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

use host_services::origin::Origin;
use host_services::resolver::{Resolver, serve_udp};
use host_services::world::{Snapshot, World};
use tokio::sync::{oneshot, watch};

const CLIENTS: usize = 8;
const UNDER_WAY: usize = 8;
const QUESTIONS: usize = 400_000;
const NAME_SERVER: &str = "127.83.0.53";

fn main() {
    std::thread::spawn(serve_one_name);
    let (address, resolver_at) = std::sync::mpsc::channel();
    let (stop, stopped) = oneshot::channel();
    let resolver = std::thread::spawn(move || resolve(&address, stopped));
    let at = resolver_at.recv().expect("the resolver starts");
    for (what, query) in
        [("from the cache", query(b"\x03www\x07example")), ("of an absent task", query(&absent_task()))]
    {
        ask(&at, &query, CLIENTS * UNDER_WAY);
        let (cpu, clock) = (resolver_cpu(), Instant::now());
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let query = query.clone();
                std::thread::spawn(move || ask(&at, &query, QUESTIONS / CLIENTS))
            })
            .collect();
        for client in clients {
            client.join().expect("every question has an answer");
        }
        let (clock, cpu) = (clock.elapsed(), resolver_cpu() - cpu);
        let rate = |time: Duration| QUESTIONS as f64 / time.as_secs_f64();
        println!("{what}: {:.0} answers a second, {:.0} a second of processor time", rate(clock), rate(cpu));
    }
    stop.send(()).expect("the resolver runs");
    resolver.join().expect("the resolver ends");
}

fn resolve(address: &std::sync::mpsc::Sender<std::net::SocketAddr>, stopped: oneshot::Receiver<()>) {
    let folder = std::env::temp_dir().join(format!("names-per-second-{}", std::process::id()));
    std::fs::write(&folder, format!("nameserver {NAME_SERVER}\n")).expect("a temporary file");
    std::fs::write(format!("{}.thread", folder.display()), thread_id()).expect("a temporary file");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (_tasks, newest) = watch::channel(Arc::new(Snapshot::default()));
        let resolver = Resolver::new(World::new(newest), folder.clone());
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        address.send(socket.local_addr().expect("bound")).expect("somebody waits");
        let task = ecs::TaskId::from_bytes([1; 16]);
        let serving = tokio::spawn(serve_udp(resolver, socket, Origin::Task { task, containers: Vec::new() }));
        stopped.await.expect("told to stop");
        serving.abort();
    });
    std::fs::remove_file(format!("{}.thread", folder.display())).expect("its own file");
    std::fs::remove_file(&folder).expect("its own file");
}

/// The number of the calling thread, which is the name of its directory.
fn thread_id() -> String {
    let link = std::fs::read_link("/proc/thread-self").expect("procfs");
    link.file_name().expect("PID/task/TID").to_string_lossy().into_owned()
}

/// User and system time of the resolver's thread: proc_pid_schedstat, nanoseconds on a processor.
fn resolver_cpu() -> Duration {
    let file = std::env::temp_dir().join(format!("names-per-second-{}.thread", std::process::id()));
    let thread = std::fs::read_to_string(file).expect("the resolver has written it");
    let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).expect("schedstat");
    Duration::from_nanos(text.split_whitespace().next().and_then(|word| word.parse().ok()).expect("nanoseconds"))
}

fn query(name: &[u8]) -> Vec<u8> {
    [b"\x00\x00\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00", name, b"\x00\x00\x01\x00\x01"].concat()
}

fn absent_task() -> Vec<u8> {
    [&b"\x04main\x20"[..], &[b'0'; 32]].concat()
}

fn ask(at: &std::net::SocketAddr, query: &[u8], count: usize) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.connect(at).expect("an address");
    let mut reply = [0; 512];
    for number in 0..count + UNDER_WAY {
        if number < count {
            socket.send(query).expect("it is sent");
        }
        if number >= UNDER_WAY {
            socket.recv(&mut reply).expect("an answer");
        }
    }
}

/// One address with a TTL of an hour, for whatever name.
fn serve_one_name() {
    let socket = UdpSocket::bind((NAME_SERVER, 53)).expect("run this as root");
    let mut query = [0; 1500];
    while let Ok((length, peer)) = socket.recv_from(&mut query) {
        // Without the OPT record of 11 bytes.
        let question = &query[12..length - 11];
        let record = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x0e\x10\x00\x04\xc0\x00\x02\x01";
        let reply = [&query[..2], b"\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00", question, record].concat();
        socket.send_to(&reply, peer).expect("it is sent");
    }
}
