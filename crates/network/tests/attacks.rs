//! What a hostile task sends, with every capability over its own network namespace: forged frames, other tasks'
//! addresses, and floods. The others and the host go on.
#![allow(unsafe_code, reason = "frames are sent by system calls")]

mod bed;
#[allow(dead_code, unreachable_pub, reason = "shared with the tests of security groups")]
#[path = "security_groups/vpc.rs"]
mod vpc;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aws::ec2::WayOut;
use bed::*;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use vpc::*;

const EVERYTHING: &[&str] = &["all 0.0.0.0/0", "all ::/0"];
const BROADCAST_MAC: [u8; 6] = [0xff; 6];
const FORGED_MAC: [u8; 6] = [2, 0, 0, 0, 0x66, 0x66];
const GATEWAY6: &str = "fd00:1::a00:101";
const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

fn frame(kind: u16, payload: &[u8]) -> Vec<u8> {
    [&BROADCAST_MAC[..], &FORGED_MAC, &kind.to_be_bytes(), payload].concat()
}

/// RFC 826: somebody has this address, at the forged MAC. Operation 1 asks, 2 answers.
fn arp(operation: u8, address: Ipv4Addr) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    frame(ARP, &[&head[..], &FORGED_MAC, &address.octets(), &[0; 6], &address.octets()].concat())
}

fn ipv4(protocol: u8, from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()) as u16;
    let mut header = [&[0x45, 0][..], &length.to_be_bytes(), &[0, 0, 0, 0, 64, protocol, 0, 0]].concat();
    header.extend([from.octets(), to.octets()].concat());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [&header, payload].concat()
}

fn udp(from_port: u16, to_port: u16, text: &[u8]) -> Vec<u8> {
    // No checksum: IPv4 allows that.
    let length = 8 + text.len() as u16;
    [&from_port.to_be_bytes()[..], &to_port.to_be_bytes(), &length.to_be_bytes(), &[0, 0], text].concat()
}

fn icmpv6(from: Ipv6Addr, to: Ipv6Addr, mut message: Vec<u8>) -> Vec<u8> {
    let length = message.len() as u16;
    let pseudo = [&from.octets()[..], &to.octets(), &u32::from(length).to_be_bytes(), &[0, 0, 0, ICMPV6]].concat();
    let sum = checksum(&[&pseudo[..], &message].concat());
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let header = [&[0x60, 0, 0, 0][..], &length.to_be_bytes(), &[ICMPV6, 255], &from.octets(), &to.octets()].concat();
    frame(IPV6, &[header, message].concat())
}

/// RFC 4861: this address is at the forged MAC, whatever was known before.
fn neighbour_advertisement(address: Ipv6Addr) -> Vec<u8> {
    let message = [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &address.octets(), &[2, 1], &FORGED_MAC].concat();
    icmpv6(address, "ff02::1".parse().unwrap(), message)
}

/// RFC 4861: the sender is the router, and 2001:db8:bad::/64 is on this link.
fn router_advertisement(from: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1];
    message.extend(FORGED_MAC);
    message.extend([3, 4, 64, 0xc0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    message.extend("2001:db8:bad::".parse::<Ipv6Addr>().unwrap().octets());
    icmpv6(from, "ff02::1".parse().unwrap(), message)
}

/// Frames as they are, out of a task's `eth0`.
fn send(from: &OwnedFd, frames: &[Vec<u8>]) {
    inside(from, || {
        // SAFETY: integer arguments; the descriptor is nobody else's.
        let socket = unsafe { OwnedFd::from_raw_fd(libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0)) };
        // SAFETY: a sockaddr_ll is integers; zero is a value of each.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = libc::AF_PACKET as u16;
        // SAFETY: a NUL-terminated name.
        to.sll_ifindex = unsafe { libc::if_nametoindex(c"eth0".as_ptr()) }.cast_signed();
        for frame in frames {
            // SAFETY: the buffer and the address are lent for the call, with their lengths.
            let sent = unsafe {
                libc::sendto(
                    socket.as_raw_fd(),
                    frame.as_ptr().cast(),
                    frame.len(),
                    0,
                    (&raw const to).cast(),
                    size_of::<libc::sockaddr_ll>() as u32,
                )
            };
            assert_eq!(sent, frame.len() as isize, "{}", std::io::Error::last_os_error());
        }
    });
}

fn received(link: &str) -> u64 {
    let shown: serde_json::Value = serde_json::from_str(&ip(&format!("-s -j link show {link}"))).unwrap();
    shown[0]["stats64"]["rx"]["packets"].as_u64().unwrap()
}

/// What a host, or a task, believes about addresses.
fn beliefs() -> String {
    ["neigh", "-6 neigh", "route", "-6 route", "-o addr"].map(ip).concat()
}

#[test]
fn forged_frames_change_nobodys_mind() {
    on_fresh_host(|| {
        let lan = lan_with_routes();
        let mut vpc = Vpc::with_way_out(WayOut::Routed);
        vpc.group(1, EVERYTHING, EVERYTHING);
        let (thief, victim) = (vpc.attach(1, &[1]), vpc.attach(2, &[1]));
        let link = thief.attachment.interface.as_ref().unwrap().host_link.clone();
        let of_vpc = |text: String| text.lines().filter(|line| !line.contains("lan0")).collect::<Vec<_>>().join("\n");
        let before = (of_vpc(beliefs()), inside(&victim.netns, beliefs));
        let gateway6: Ipv6Addr = GATEWAY6.parse().unwrap();
        let mut frames = Vec::new();
        for address in [GATEWAY, victim.ipv4, HOST_ON_LAN, LAN] {
            frames.extend([arp(1, address), arp(2, address)]);
        }
        for address in [gateway6, victim.ipv6] {
            frames.push(neighbour_advertisement(address));
        }
        frames.push(router_advertisement("fe80::bad".parse().unwrap()));
        // A DHCP server's offer to everybody (RFC 2131), by the gateway's address and the victim's.
        let everybody = Ipv4Addr::BROADCAST;
        for from in [GATEWAY, victim.ipv4] {
            frames.push(frame(IPV4, &ipv4(UDP, from, everybody, &udp(67, 68, &[2; 300]))));
        }
        // What is said by another's address to the victim itself, or to the host.
        for to in [victim.ipv4, GATEWAY, LAN] {
            for from in [GATEWAY, victim.ipv4, LAN, Ipv4Addr::LOCALHOST] {
                frames.push(frame(IPV4, &ipv4(UDP, from, to, &udp(53, 4444, b"forged"))));
            }
        }
        // All of it once more with the MAC that the host knows.
        let text = &thief.attachment.interface.as_ref().unwrap().mac_address;
        let own_mac: Vec<u8> = text.split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect();
        frames.extend(frames.clone().into_iter().map(|mut frame| {
            frame[6..12].copy_from_slice(&own_mac);
            frame
        }));
        let clients = [
            UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68)).unwrap(),
            inside(&victim.netns, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 68)).unwrap()),
            UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 4444)).unwrap(),
            inside(&victim.netns, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 4444)).unwrap()),
            inside(&lan, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 4444)).unwrap()),
        ];
        let count = received(&link);
        send(&thief.netns, &frames);
        assert!(received(&link) >= count + frames.len() as u64, "they did leave the task");
        // A veth is as quick as a call: what came through is there by now.
        for (number, client) in clients.iter().enumerate() {
            client.set_nonblocking(true).unwrap();
            let heard = client.recv_from(&mut [0; 512]);
            assert!(heard.is_err(), "client {number} hears {heard:?}");
        }
        assert_eq!((of_vpc(beliefs()), inside(&victim.netns, beliefs)), before);
        expect(&[
            ("the LAN to the victim", true, from_to(&lan, &victim.netns, victim.ipv4, Try::Tcp(80))),
            ("the thief to the victim", true, from_to(&thief.netns, &victim.netns, victim.ipv4, Try::Tcp(81))),
            ("the victim to the LAN", true, from_to(&victim.netns, &lan, LAN, Try::Udp(82))),
            ("the victim to the LAN, ICMP", true, from_to(&victim.netns, &lan, LAN, Try::Icmp(8, 0))),
        ]);
    });
}

fn most_flows() -> usize {
    let text = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max").unwrap();
    text.trim().parse().unwrap()
}

/// Flows that the kernel follows in the calling thread's namespace.
fn flows() -> usize {
    let text = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").unwrap();
    text.trim().parse().unwrap()
}

/// Tells floods to end, also where the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Datagrams of a flow each, until it is told to end.
fn flood(to: Ipv4Addr, end: &AtomicBool) {
    while !end.load(Ordering::Relaxed) {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        for port in 1..=u16::MAX {
            // The sender is told of hosts that are not there.
            let _ = socket.send_to(b"flood", (to, port));
            if end.load(Ordering::Relaxed) {
                break;
            }
        }
    }
}

/// Asks for connections to a port, and never says more (RFC 9293, 3.5).
fn flood_with_syns(from: Ipv4Addr, to: Ipv4Addr, port: u16, end: &AtomicBool) {
    let raw = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Tcp).unwrap();
    let raw = UdpSocket::from(raw);
    let pseudo = [&from.octets()[..], &to.octets(), &[0, TCP, 0, 20]].concat();
    for source in (1..=u16::MAX).cycle().take_while(|_| !end.load(Ordering::Relaxed)) {
        let sequence = u32::from(source).to_be_bytes();
        let mut segment = [&source.to_be_bytes()[..], &port.to_be_bytes(), &sequence].concat();
        segment.extend([0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
        let sum = checksum(&[&pseudo[..], &segment].concat());
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        let _ = raw.send_to(&segment, (to, 0));
    }
}

/// The kernel forgets flows that nobody answered when it needs room: whoever floods pushes out its own.
#[test]
fn one_tasks_flood_leaves_room_for_everybody_elses_flows() {
    /// Where the kernel is so slow that flows are forgotten as quickly as they come, this is as full as it gets.
    const LONGEST_FILL: Duration = Duration::from_secs(20);
    const ROUNDS_WHEN_FULL: u16 = 3;
    on_fresh_host(|| {
        let lan = lan_with_routes();
        let host = this_namespace();
        let mut vpc = Vpc::with_way_out(WayOut::Routed);
        vpc.group(1, EVERYTHING, EVERYTHING);
        let (flooding, other) = (vpc.attach(1, &[1]), vpc.attach(2, &[1]));
        let talking = inside(&other.netns, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 90)).unwrap());
        let mut stands = inside(&lan, || TcpStream::connect((other.ipv4, 90)).unwrap());
        let (mut server, _) = talking.accept().unwrap();
        let end = AtomicBool::new(false);
        let full = most_flows() - most_flows() / 100;
        thread::scope(|scope| {
            let _end = End(&end);
            for nobody in [77, 78] {
                let (end, netns) = (&end, &flooding.netns);
                scope.spawn(move || inside(netns, || flood(Ipv4Addr::new(198, 51, 100, nobody), end)));
            }
            let began = Instant::now();
            let mut rounds_when_full = 0;
            for port in 1000.. {
                rounds_when_full += u16::from(flows() >= full);
                expect(&[
                    ("another task to the LAN", true, from_to(&other.netns, &lan, LAN, Try::Tcp(port))),
                    ("the LAN to another task", true, from_to(&lan, &other.netns, other.ipv4, Try::Tcp(port))),
                    ("the host to another task", true, from_to(&host, &other.netns, other.ipv4, Try::Udp(port))),
                    ("the host to the LAN", true, from_to(&host, &lan, LAN, Try::Udp(port))),
                ]);
                stands.write_all(b"?").unwrap();
                server.read_exact(&mut [0]).unwrap();
                if rounds_when_full == ROUNDS_WHEN_FULL || began.elapsed() > LONGEST_FILL {
                    break;
                }
            }
        });
        // Nothing of it outlives the task.
        vpc.detach(1);
        let lines = std::fs::read_to_string("/proc/thread-self/net/nf_conntrack").unwrap();
        let own = format!("src={} ", flooding.ipv4);
        assert_eq!(lines.lines().filter(|line| line.contains(&own)).count(), 0);
    });
}

#[test]
fn a_flood_of_syns_keeps_nobody_from_the_port() {
    /// More than wait in the listener's queue.
    const MANY: usize = 2000;
    on_fresh_host(|| {
        let lan = lan_with_routes();
        let mut vpc = Vpc::with_way_out(WayOut::Routed);
        vpc.group(1, EVERYTHING, EVERYTHING);
        let (flooding, victim) = (vpc.attach(1, &[1]), vpc.attach(2, &[1]));
        let listener = inside(&victim.netns, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).unwrap());
        // Its own kernel would give each connection up again.
        inside(&flooding.netns, || {
            nft("table inet mute { chain out { type filter hook output priority 0; tcp flags & rst == rst drop; }; }");
        });
        let end = AtomicBool::new(false);
        thread::scope(|scope| {
            let _end = End(&end);
            let (end, from, to) = (&end, &flooding, &victim);
            scope.spawn(move || inside(&from.netns, || flood_with_syns(from.ipv4, to.ipv4, 80, end)));
            eventually(|| if flows() > MANY { Ok(()) } else { Err("the flood has not come yet") });
            for _ in 0..20 {
                let client = inside(&lan, || connect_from(LAN.into(), (to.ipv4, 80).into())).unwrap();
                let (_, from) = listener.accept().unwrap();
                assert_eq!(from, client.local_addr().unwrap());
            }
        });
    });
}
