//! A test bed: a thread in a fresh network namespace plays the host, another namespace on a veth plays the LAN. All
//! of it vanishes with the threads' descriptors.
#![allow(dead_code, unreachable_pub, reason = "each test file uses the part it needs")]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use ecs::task_definition::{NetworkMode, PortMapping, TransportProtocol};
use ecs::{ContainerName, TaskId};
use network::{ContainerRequest, Request, Settings};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

pub const HOST_ON_LAN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub const LAN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// An answer comes within microseconds; this is how long a test waits for one that should not come.
const SILENCE: Duration = Duration::from_millis(400);
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs `test` on a thread of its own in a network namespace of its own, which plays the host.
pub fn on_fresh_host<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let host = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
            ip("link set lo up");
            test()
        });
        match host.join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

pub fn this_namespace() -> OwnedFd {
    File::open("/proc/thread-self/ns/net").unwrap().into()
}

pub fn new_namespace() -> OwnedFd {
    thread::scope(|scope| {
        let made = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            this_namespace()
        });
        made.join().unwrap()
    })
}

/// Runs `work` inside a network namespace, on a thread that ends with it.
pub fn inside<T: Send>(namespace: impl AsFd + Sync, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        match worker.join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// A LAN with one other host on it; the host's default route leads there.
pub fn lan() -> OwnedFd {
    let neighbour = new_namespace();
    let (here, there) = ("lan0", "eth0");
    let host = this_namespace();

    inside(&neighbour, || {
        ip("link set lo up");
        ip(&format!("link add {there} type veth peer name {here}"));
        ip(&format!("addr add {LAN}/24 dev {there}"));
        ip(&format!("link set {there} up"));
        move_link(here, &host);
    });
    ip(&format!("addr add {HOST_ON_LAN}/24 dev {here}"));
    ip(&format!("link set {here} up"));
    ip(&format!("route add default via {LAN}"));
    // Asking for a link makes the kernel finish bringing it up.
    ip(&format!("link show {here}"));
    inside(&neighbour, || ip(&format!("link show {there}")));
    neighbour
}

pub fn move_link(link: &str, to: &OwnedFd) {
    // `ip link set netns` takes a process id or a name; a process that lives in the namespace gives the id.
    let mut sleeper = inside(to, || Command::new("sleep").arg("60").spawn().unwrap());
    ip(&format!("link set {link} netns {}", sleeper.id()));
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
}

/// Tries until it succeeds. A program that another test starts at this moment has copies of our descriptors between
/// its fork and its exec, so a port that was closed may be taken for a moment longer.
pub fn eventually<T, E: std::fmt::Debug>(mut attempt: impl FnMut() -> Result<T, E>) -> T {
    let begin = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(error) => assert!(begin.elapsed() < PATIENCE, "{error:?}"),
        }
        thread::yield_now();
    }
}

pub fn ip(arguments: &str) -> String {
    run("ip", &arguments.split(' ').collect::<Vec<_>>())
}

/// What `nft list ruleset` shows here.
pub fn ruleset() -> String {
    run("nft", &["list", "ruleset"])
}

/// Whether a text has this address as a whole: 10.0.1.12 is the beginning of 10.0.1.128, and is not meant by it.
pub fn names_address(text: &str, address: std::net::Ipv4Addr) -> bool {
    let address = address.to_string();
    text.split(|character: char| !character.is_ascii_digit() && character != '.').any(|found| found == address)
}

pub fn nft(script: &str) {
    run("nft", &[script]);
}

pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {told}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn settings() -> Settings {
    Settings::new("test", std::path::Path::new("/run/coracle-test/netns"))
}

pub fn task(number: u8) -> TaskId {
    TaskId::from_bytes([number; 16])
}

/// A directory of this test's own, gone with it.
pub struct Scratch(pub std::path::PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("coracle-bed-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    /// The settings of a host whose tasks' namespaces are held here.
    pub fn settings(&self) -> Settings {
        Settings::new("test", &self.0.join("netns"))
    }

    /// The tasks whose namespaces are held.
    pub fn held(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.0.join("netns")) else { return Vec::new() };
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for name in self.held() {
            let _ = nix::mount::umount2(&self.0.join("netns").join(name), nix::mount::MntFlags::MNT_DETACH);
        }
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

pub fn request(number: u8, mode: NetworkMode, containers: Vec<ContainerRequest>) -> Request {
    Request { task: task(number), mode, containers, interface: None }
}

pub fn container(name: &str, port_mappings: Vec<PortMapping>) -> ContainerRequest {
    ContainerRequest {
        name: ContainerName::try_from(name.to_owned()).unwrap(),
        port_mappings,
        disable_networking: false,
        hostname: None,
        extra_hosts: Vec::new(),
        dns_servers: Vec::new(),
        dns_search_domains: Vec::new(),
        links: Vec::new(),
        runtime_id: "0123456789abcdef".repeat(4),
    }
}

pub fn mapping(container_port: u16, host_port: Option<u16>, protocol: TransportProtocol) -> PortMapping {
    PortMapping {
        container_port: Some(container_port),
        host_port,
        protocol: Some(protocol),
        container_port_range: None,
        name: None,
        app_protocol: None,
    }
}

pub fn range_mapping(range: &str, protocol: TransportProtocol) -> PortMapping {
    PortMapping { container_port: None, container_port_range: Some(range.to_owned()), ..mapping(0, None, protocol) }
}

/// A TCP server inside a namespace that says `name` and the client's address to each of `count` clients.
pub fn serve_tcp(namespace: impl AsFd + Sync, port: u16, name: &'static str, count: usize) -> thread::JoinHandle<()> {
    let listener = inside(namespace, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
    thread::spawn(move || {
        for _ in 0..count {
            let (mut client, from) = listener.accept().unwrap();
            client.write_all(format!("{name} {}", from.ip()).as_bytes()).unwrap();
        }
    })
}

pub fn serve_udp(namespace: impl AsFd + Sync, port: u16, name: &'static str, count: usize) -> thread::JoinHandle<()> {
    let socket = inside(namespace, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap());
    thread::spawn(move || {
        let mut datagram = [0; 64];
        for _ in 0..count {
            let (_, from) = socket.recv_from(&mut datagram).unwrap();
            socket.send_to(format!("{name} {}", from.ip()).as_bytes(), from).unwrap();
        }
    })
}

/// What a TCP server said, or why there was none.
pub fn ask_tcp(address: Ipv4Addr, port: u16) -> Result<String, std::io::ErrorKind> {
    let at = SocketAddr::V4(SocketAddrV4::new(address, port));
    let mut client = TcpStream::connect_timeout(&at, PATIENCE).map_err(|error| error.kind())?;
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut said = String::new();
    client.read_to_string(&mut said).map_err(|error| error.kind())?;
    Ok(said)
}

/// The same for a connection that is expected to be swallowed.
pub fn is_silent_tcp(address: Ipv4Addr, port: u16) -> bool {
    let at = SocketAddr::V4(SocketAddrV4::new(address, port));
    TcpStream::connect_timeout(&at, SILENCE).is_err_and(|error| error.kind() == std::io::ErrorKind::TimedOut)
}

pub fn ask_udp(address: Ipv4Addr, port: u16) -> Result<String, std::io::ErrorKind> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    ask_udp_from(&socket, address, port)
}

/// The same for a datagram that is expected to be swallowed.
pub fn is_silent_udp(address: Ipv4Addr, port: u16) -> bool {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    socket.send_to(b"?", (address, port)).unwrap();
    socket.recv_from(&mut [0; 64]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

pub fn ask_udp_from(socket: &UdpSocket, address: Ipv4Addr, port: u16) -> Result<String, std::io::ErrorKind> {
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    let mut said = [0; 64];
    // The first datagram may meet a neighbour that is still being looked for.
    for _ in 0..5 {
        socket.send_to(b"?", (address, port)).map_err(|error| error.kind())?;
        if let Ok((length, _)) = socket.recv_from(&mut said) {
            return Ok(String::from_utf8_lossy(&said[..length]).into_owned());
        }
    }
    Err(std::io::ErrorKind::TimedOut)
}

/// The kernel's announcements about links of this namespace, from now on.
pub fn watch_links() -> LinkMonitor {
    let protocol = SockProtocol::NetlinkRoute;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).unwrap();
    const RTMGRP_LINK: u32 = 1;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, RTMGRP_LINK)).unwrap();
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(1)).unwrap();
    LinkMonitor { socket, waits_left: 20 }
}

pub struct LinkMonitor {
    socket: OwnedFd,
    waits_left: u32,
}

impl LinkMonitor {
    /// Until a link of this namespace changes, or a second has passed.
    pub fn wait(&mut self) {
        assert!(self.waits_left > 0, "the kernel removes dead namespaces within seconds");
        self.waits_left -= 1;
        let _ = recv(self.socket.as_raw_fd(), &mut [0; 8192], MsgFlags::empty());
    }
}
