//! Network namespaces for pretend hosts and their neighbours.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;

use super::netlink;

/// A network namespace that lives as long as this value or a process in it.
pub(crate) struct Namespace {
    file: File,
}

impl Namespace {
    /// A new one, its loopback up.
    pub(crate) fn new() -> Self {
        let namespace = Self::without_loopback();
        namespace.enter(|| set_up("lo").expect("a loopback can be set up"));
        namespace
    }

    pub(crate) fn without_loopback() -> Self {
        let made = std::thread::spawn(|| {
            // SAFETY: only this thread, which ends at once, changes its namespace.
            let moved = unsafe { libc::unshare(libc::CLONE_NEWNET) };
            assert_eq!(moved, 0, "a network namespace (tests run as root): {}", io::Error::last_os_error());
            File::open("/proc/thread-self/ns/net").expect("a thread sees its own namespace")
        });
        Self { file: made.join().expect("a network namespace can be made") }
    }

    /// That of a process.
    pub(crate) fn of_process(pid: i32) -> Self {
        Self { file: File::open(format!("/proc/{pid}/ns/net")).expect("the process runs") }
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    pub(crate) fn inode(&self) -> u64 {
        self.file.metadata().expect("an open file has metadata").ino()
    }

    /// Does something in the namespace, on a thread of its own.
    pub(crate) fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let namespace = self.descriptor();
        let done = std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                // SAFETY: only this thread, which ends after `act`, changes its namespace.
                let moved = unsafe { libc::setns(namespace, libc::CLONE_NEWNET) };
                assert_eq!(moved, 0, "entering a network namespace: {}", io::Error::last_os_error());
                act()
            });
            inside.join()
        });
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Names of the interfaces.
    pub(crate) fn links(&self) -> Vec<String> {
        let text = self.enter(|| std::fs::read_to_string("/proc/thread-self/net/dev").expect("procfs shows the links"));
        text.lines().skip(2).filter_map(|line| Some(line.split(':').next()?.trim().to_owned())).collect()
    }

    /// Sockets that are bound, as lines of /proc/net: TCP that listens, and UDP.
    pub(crate) fn bound_sockets(&self) -> Vec<String> {
        const LISTEN: &str = "0A";
        self.enter(|| {
            let mut bound = Vec::new();
            for protocol in ["tcp", "tcp6", "udp", "udp6"] {
                let table = std::fs::read_to_string(format!("/proc/thread-self/net/{protocol}")).unwrap_or_default();
                for line in table.lines().skip(1) {
                    let mut fields = line.split_whitespace().skip(1);
                    let local = fields.next().unwrap_or_default();
                    let state = fields.nth(1).unwrap_or_default();
                    if protocol.starts_with("udp") || state == LISTEN {
                        bound.push(format!("{protocol} {local}"));
                    }
                }
            }
            bound
        })
    }
}

/// Another machine on the same network: a namespace with a cable to `host`, which is 192.0.2.1 there.
pub(crate) struct Neighbour {
    pub(crate) namespace: Namespace,
}

pub(crate) const LAN_ADDRESS_OF_HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const LAN_ADDRESS_OF_NEIGHBOUR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub(crate) const LAN_LINK: &str = "lan0";

impl Neighbour {
    pub(crate) fn of(host: &Namespace) -> Self {
        // No loopback: 127.0.0.0/8 is then free to be routed to the host, as an attacker on the LAN would.
        let namespace = Namespace::without_loopback();
        let far = namespace.descriptor();
        host.enter(|| {
            netlink::add_veth(LAN_LINK, "eth0", far).expect("a veth pair can be made");
            set_address(LAN_LINK, LAN_ADDRESS_OF_HOST).expect("an address can be set");
            set_up(LAN_LINK).expect("a link can be set up");
        });
        namespace.enter(|| {
            set_address("eth0", LAN_ADDRESS_OF_NEIGHBOUR).expect("an address can be set");
            set_up("eth0").expect("a link can be set up");
        });
        Self { namespace }
    }

    /// Sends what is for `network`/`prefix` to the host.
    pub(crate) fn route_through_host(&self, network: Ipv4Addr, mask: Ipv4Addr) {
        self.namespace.enter(|| {
            std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").expect("own sysctl");
            add_route(network, mask, LAN_ADDRESS_OF_HOST).expect("a route can be added");
        });
    }
}

/// A cable between two hosts: 192.0.2.1 at the first, 192.0.2.2 at the other.
pub(crate) fn cable(host: &Namespace, other: &Namespace) {
    let far = other.descriptor();
    host.enter(|| netlink::add_veth(LAN_LINK, LAN_LINK, far).expect("a veth pair can be made"));
    for (namespace, address) in [(host, LAN_ADDRESS_OF_HOST), (other, LAN_ADDRESS_OF_NEIGHBOUR)] {
        namespace.enter(|| {
            set_address(LAN_LINK, address).expect("an address can be set");
            set_up(LAN_LINK).expect("a link can be set up");
        });
    }
}

/// An `ifreq` with its name set; the rest zero.
fn request(name: &str) -> libc::ifreq {
    // SAFETY: an ifreq is integers and arrays of them; zero is a value of each.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    assert!(name.len() < libc::IFNAMSIZ, "an interface name has at most 15 bytes");
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte as libc::c_char;
    }
    request
}

fn ioctl<T>(number: libc::c_ulong, argument: &mut T) -> io::Result<()> {
    // SAFETY: a socket of our own; `argument` is the structure that the request number takes.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        let result = libc::ioctl(socket, number as _, std::ptr::from_mut(argument));
        let error = io::Error::last_os_error();
        libc::close(socket);
        if result == 0 { Ok(()) } else { Err(error) }
    }
}

fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let inet = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from(address).to_be() },
        sin_zero: [0; 8],
    };
    // SAFETY: both are 16 bytes that start with the family.
    unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(inet) }
}

pub(crate) fn set_up(name: &str) -> io::Result<()> {
    let mut link = request(name);
    link.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    ioctl(libc::SIOCSIFFLAGS as libc::c_ulong, &mut link)
}

fn set_address(name: &str, address: Ipv4Addr) -> io::Result<()> {
    let mut link = request(name);
    link.ifr_ifru.ifru_addr = socket_address(address);
    ioctl(libc::SIOCSIFADDR as libc::c_ulong, &mut link)?;
    link.ifr_ifru.ifru_netmask = socket_address(Ipv4Addr::new(255, 255, 255, 0));
    ioctl(libc::SIOCSIFNETMASK as libc::c_ulong, &mut link)
}

fn add_route(network: Ipv4Addr, mask: Ipv4Addr, through: Ipv4Addr) -> io::Result<()> {
    const RTF_UP: u16 = 1;
    const RTF_GATEWAY: u16 = 2;
    // SAFETY: an rtentry is integers, arrays and a pointer; zero is a value of each.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = socket_address(network);
    route.rt_genmask = socket_address(mask);
    route.rt_gateway = socket_address(through);
    route.rt_flags = RTF_UP | RTF_GATEWAY;
    ioctl(libc::SIOCADDRT as libc::c_ulong, &mut route)
}
