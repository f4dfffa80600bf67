//! A pretend LAN: a bridge in a namespace of its own, hosts on it, and on each host interfaces of tasks as awsvpc makes
//! them: a pair of links, routed, the host's end named `eni` and the address.
#![allow(dead_code, unreachable_pub, reason = "each test file uses the part it needs")]

use std::error::Error;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use aws::ec2::VpcNetwork;
use network::{Settings, overlay};
use serde_json::json;

use crate::bed::{inside, ip, move_link, new_namespace, settings};

/// The group of links that tells the firewall a task's interface: "eni".
const INTERFACE_GROUP: u32 = 0x65_6e69;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Ip,
    Ethernet,
    Wireguard,
}

impl Form {
    /// 1500 less IPv4, UDP and VXLAN or WireGuard, and Ethernet in the older form.
    pub fn mtu(self) -> usize {
        match self {
            Form::Ip => 1500 - 20 - 8 - 8,
            Form::Ethernet => 1500 - 20 - 8 - 8 - 14,
            Form::Wireguard => 1500 - 20 - 8 - 32,
        }
    }

    pub fn link(self) -> &'static str {
        match self {
            Form::Ip | Form::Ethernet => "coracle-vxlan",
            Form::Wireguard => "coracle-wg",
        }
    }
}

pub struct Lan {
    namespace: OwnedFd,
    pub stranger_address: Ipv4Addr,
}

impl Lan {
    pub fn new() -> Lan {
        let namespace = new_namespace();
        inside(&namespace, || {
            ip("link add br0 type bridge");
            ip("link set br0 up");
        });
        Lan { namespace, stranger_address: Ipv4Addr::new(192, 0, 2, 66) }
    }

    fn connect(&self, address: Ipv4Addr) -> OwnedFd {
        let machine = new_namespace();
        let port = format!("port{}", address.octets()[3]);
        inside(&self.namespace, || {
            ip(&format!("link add {port} type veth peer name lan0"));
            ip(&format!("link set {port} master br0 up"));
            move_link("lan0", &machine);
        });
        inside(&machine, || {
            ip("link set lo up");
            ip(&format!("addr add {address}/24 dev lan0"));
            ip("link set lan0 up");
            // Asking for a link makes the kernel finish bringing it up.
            ip("link show lan0");
        });
        machine
    }

    /// A machine that is not one of the hosts.
    pub fn stranger(&self) -> OwnedFd {
        self.connect(self.stranger_address)
    }
}

pub struct Host {
    pub number: u8,
    /// Of its tasks.
    mtu: usize,
    pub address: Ipv4Addr,
    pub namespace: OwnedFd,
    pub tasks: Vec<Task>,
}

pub struct Task {
    pub address: Ipv4Addr,
    pub link: String,
    pub namespace: OwnedFd,
}

impl Host {
    /// 192.0.2.11 and so on, without a task or anything for one.
    pub fn bare(lan: &Lan, number: u8) -> Host {
        let address = Ipv4Addr::new(192, 0, 2, 10 + number);
        Host { number, mtu: 0, address, namespace: lan.connect(address), tasks: Vec::new() }
    }

    /// The same with a task at the fifth address of its slice.
    pub fn new(lan: &Lan, number: u8, form: Form) -> Host {
        let mut host = Host { mtu: form.mtu(), ..Host::bare(lan, number) };
        inside(&host.namespace, || {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
            ip("link add coracle-eni type bridge");
            ip("link set coracle-eni up");
            ip("addr add 10.0.1.1/32 dev coracle-eni");
        });
        host.add_task(address_of(number, 5));
        host
    }

    pub fn settings(&self) -> Settings {
        let key = std::env::temp_dir().join(format!("coracle-overlay-{}-{}", std::process::id(), self.number));
        Settings { wireguard_key: key, ..settings() }
    }

    pub fn add_task(&mut self, address: Ipv4Addr) {
        let [a, b, c, d] = address.octets();
        let link = format!("eni{a:02x}{b:02x}{c:02x}{d:02x}");
        let (ipv6, mtu) = (ipv6_of(address), self.mtu);
        let namespace = new_namespace();
        inside(&self.namespace, || {
            ip(&format!("link add {link} mtu {mtu} type veth peer name eth0 mtu {mtu}"));
            move_link("eth0", &namespace);
            ip(&format!("link set {link} group {INTERFACE_GROUP}"));
            ip(&format!("link set {link} up"));
            ip(&format!("route add {address}/32 dev {link}"));
            ip(&format!("-6 route add {ipv6}/128 dev {link}"));
            ip(&format!("addr add fe80::1/64 dev {link} nodad"));
        });
        inside(&namespace, || {
            ip("link set lo up");
            ip(&format!("addr add {address}/32 dev eth0"));
            ip(&format!("addr add {ipv6}/128 dev eth0 nodad"));
            ip("link set eth0 up");
            ip("route add 10.0.1.1 dev eth0");
            ip("route add default via 10.0.1.1 dev eth0");
            ip("-6 route add default via fe80::1 dev eth0");
            ip("link show eth0");
        });
        self.tasks.push(Task { address, link, namespace });
    }

    pub fn remove_task(&mut self, at: usize) {
        let task = self.tasks.remove(at);
        inside(&self.namespace, || ip(&format!("link del {}", task.link)));
    }
}

/// Of a host's slice: the first has 10.0.1.0/26.
pub fn address_of(host: u8, number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 1, 64 * (host - 1) + number)
}

/// The subnet's /64 with the IPv4 address behind it.
pub fn ipv6_of(address: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::from(0xfd00_u128 << 112 | 0x0a << 64 | u128::from(u32::from(address)))
}

/// One configuration, `thisHost` excepted.
pub fn configuration(this_host: u8, form: Form) -> VpcNetwork {
    let hosts =
        [1, 2, 3].map(|number| json!({ "name": format!("host{number}"), "address": format!("192.0.2.1{number}") }));
    let slices = [1, 2, 3]
        .map(|number| json!({ "host": format!("host{number}"), "cidrBlock": format!("{}/26", address_of(number, 0)) }));
    let (encryption, encapsulation) = match form {
        Form::Ip => ("none", "ip"),
        Form::Ethernet => ("none", "ethernet"),
        Form::Wireguard => ("wireguard", "ip"),
    };
    serde_json::from_value(json!({
        "vpcs": [{ "vpcId": "vpc-0123456789abcdef0", "cidrBlock": "10.0.0.0/16" }],
        "subnets": [{
            "subnetId": "subnet-0123456789abcdef0",
            "vpcId": "vpc-0123456789abcdef0",
            "cidrBlock": "10.0.1.0/24",
            "ipv6CidrBlock": "fd00:0:0:a::/64",
            "availabilityZone": "lab",
            "slices": slices,
        }],
        "overlay": {
            "thisHost": format!("host{this_host}"),
            "hosts": hosts,
            "encryption": encryption,
            "encapsulation": encapsulation,
            "vni": 77,
        },
    }))
    .unwrap()
}

pub fn error_text(errors: &[overlay::Error]) -> String {
    let chain = |error: &overlay::Error| {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        text
    };
    errors.iter().map(chain).collect::<Vec<_>>().join("\n")
}

/// What does not fit is an error of the sender, and the host's own word about a size is not believed.
pub fn forbid_fragments(socket: &UdpSocket, ipv4: bool) {
    let (level, option) =
        if ipv4 { (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER) } else { (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER) };
    let value: libc::c_int = libc::IP_PMTUDISC_DO;
    // SAFETY: the descriptor is open, and the kernel reads size_of(c_int) bytes from a live c_int.
    let set = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), size_of::<libc::c_int>() as u32)
    };
    assert_eq!(set, 0);
}
