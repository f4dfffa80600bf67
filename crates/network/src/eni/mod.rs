//! An elastic network interface: a pair of links of which one end is `eth0` in the task's namespace and the other, on the
//! host, is routed to. There is no bridge between, and nobody is asked for an address: each end knows the other's.
//!
//! ```text
//!   task                                  host
//!   eth0 10.0.1.5/24                      eni0a000105             10.0.1.5/32 dev eni0a000105 src 10.0.1.1
//!     default via 10.0.1.1 onlink         coracle-eni 10.0.1.1/32
//! ```
//! The host's end is called by the address, so making it is taking the address. Subnets that overlap nothing are the
//! whole of what the host's routes have to know.

mod gateway;

pub(crate) use gateway::{GATEWAY_LINK, Gateway, ensure as gateway};

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use ecs::TaskId;
use nix::errno::Errno;

use crate::attach::AttachedInterface;
use crate::container_link::Addresses;
use crate::error::Error;
use crate::foreign_firewall::{self, Whose};
use crate::link::{self, CONTAINER_LINK, InterfacePair, Link, Mac, Way};
use crate::namespace::Namespace;
use crate::namespace_file;
use crate::netlink::{self, Answer, Protocol, Requests, Socket};
use crate::nft;
use crate::plan::InterfacePlan;
use crate::pool;
use crate::public_address::{self, PublicAddress};
use crate::settings::Settings;
use crate::sysctl;
use crate::tenant::{self, Label};

/// How long `eth0` is waited for, and how often it is looked at, on kernels before 6.8.
const CARRYING_PATIENCE: Duration = Duration::from_millis(250);
const CARRYING_PAUSE: Duration = Duration::from_micros(500);

/// A task's interface with both ends set up. Nobody lets anything pass yet.
pub(crate) struct Interface {
    pub(crate) ipv4: Ipv4Addr,
    pub(crate) ipv6: Option<Ipv6Addr>,
    mac: Mac,
    gateway: Ipv4Addr,
    host_link: String,
}

/// Gives the task's namespace the first address that is free, and the links. They go with the namespace.
pub(crate) fn make(
    settings: &Settings,
    task: &TaskId,
    plan: &InterfacePlan,
    namespace: &mut Namespace,
    (socket, gateway): &mut (Socket, Gateway),
    start: u64,
) -> Result<Interface, Error> {
    let label = Label { instance: &settings.instance, task, container: plan.id.as_str() }.to_string();
    for ipv4 in plan.candidates(start) {
        let interface = Interface {
            ipv4,
            ipv6: plan.ipv6(ipv4),
            mac: Mac::of(ipv4),
            gateway: plan.gateway(),
            host_link: pool::interface_link_name(ipv4),
        };
        let name = &interface.host_link;
        let failed = |action: &str, source| Error::Netlink { action: format!("{action} link {name}"), source };
        let pair = InterfacePair {
            host_name: name,
            host_mac: host_mac(&interface),
            task_mac: interface.mac,
            namespace: namespace.descriptor.as_fd(),
            mtu: gateway.mtu,
        };
        match link::add_interface_pair(socket, &pair) {
            Ok(()) => {}
            Err(error) if error.errno() == Some(Errno::EEXIST) => continue,
            Err(source) => return Err(failed("make", source)),
        }
        let inner = &mut namespace.socket;
        let eth0 = bring_up(inner, CONTAINER_LINK, None)
            .map_err(|source| failed("bring up eth0 at the other end of", source))?;
        let host_end = bring_up(socket, name, Some(&label)).map_err(|source| failed("bring up", source))?;
        lead_out(inner, plan, &interface, &eth0).map_err(|source| failed("set up eth0 at the other end of", source))?;
        lead_in(socket, plan, &interface, &host_end).map_err(|source| failed("lead to", source))?;
        wait_until_carrying(inner).map_err(|source| failed("look at eth0 at the other end of", source))?;
        return Ok(interface);
    }
    Err(Error::NoFreeInterface { subnet: plan.subnet.subnet_id.clone(), ranges: plan.ranges.clone() })
}

/// The host's end answers to the gateway's address, so it goes by the gateway's MAC, on all interfaces of a subnet.
fn host_mac(interface: &Interface) -> Mac {
    Mac::of(interface.gateway)
}

/// The link as it is then.
fn bring_up(socket: &mut Socket, name: &str, alias: Option<&str>) -> Result<Link, netlink::Error> {
    let mut requests = Requests::default();
    if let Some(alias) = alias {
        link::set_alias(&mut requests, name, alias);
    }
    if sysctl::has_ipv6() {
        link::set_no_link_local(&mut requests, name);
    }
    link::set_up(&mut requests, name);
    link::ask_link(&mut requests, name);
    let gone = || netlink::Refused { errno: Errno::ENODEV, said: String::new() };
    Ok(all(socket.exchange(requests)?)?.iter().find_map(link::read_link).ok_or_else(gone)?)
}

/// The task's end: its address with the subnet's size, as Amazon's have it, yet every other address lies behind the gateway.
fn lead_out(
    socket: &mut Socket,
    plan: &InterfacePlan,
    interface: &Interface,
    eth0: &Link,
) -> Result<(), netlink::Error> {
    let gateways = [Some(IpAddr::V4(interface.gateway)), plan.ipv6(interface.gateway).map(IpAddr::V6)];
    let addresses = [
        Some((IpAddr::V4(interface.ipv4), plan.subnet.cidr_block.prefix())),
        interface.ipv6.map(|address| (address.into(), 128)),
    ];
    let mut requests = Requests::default();
    for (address, prefix) in addresses.into_iter().flatten() {
        link::add_address_without_route(&mut requests, eth0.index, address, prefix);
    }
    for gateway in gateways.into_iter().flatten() {
        link::add_neighbour_of(&mut requests, eth0.index, gateway, host_mac(interface));
        link::add_way(&mut requests, Way::everywhere_by(gateway, eth0.index));
    }
    socket.exchange(requests).and_then(all).map(drop)
}

/// The host's end: the way to the interface's addresses. What the host itself sends there comes from the gateway.
fn lead_in(
    socket: &mut Socket,
    plan: &InterfacePlan,
    interface: &Interface,
    host_end: &Link,
) -> Result<(), netlink::Error> {
    let mut requests = Requests::default();
    let pairs = [
        Some((IpAddr::V4(interface.ipv4), IpAddr::V4(interface.gateway))),
        interface.ipv6.zip(plan.ipv6(interface.gateway)).map(|(address, gateway)| (address.into(), gateway.into())),
    ];
    for (address, gateway) in pairs.into_iter().flatten() {
        link::add_neighbour_of(&mut requests, host_end.index, address, interface.mac);
        link::add_way(&mut requests, Way::to(address, host_end.index, gateway));
    }
    socket.exchange(requests).and_then(all).map(drop)
}

/// The kernel brings the later one of the two ends up in the background, and drops what is sent before. Since Linux 6.8,
/// asking for a link makes it do so at once.
fn wait_until_carrying(socket: &mut Socket) -> Result<(), netlink::Error> {
    let begin = Instant::now();
    loop {
        let mut requests = Requests::default();
        link::ask_link(&mut requests, CONTAINER_LINK);
        let replies = all(socket.exchange(requests)?)?;
        // Late is no failure: it costs the first connection a second.
        if replies.iter().filter_map(link::read_link).all(|link| link.carries) || begin.elapsed() > CARRYING_PATIENCE {
            return Ok(());
        }
        thread::sleep(CARRYING_PAUSE);
    }
}

impl Interface {
    pub(crate) fn addresses(&self) -> Addresses {
        Addresses { ipv4: self.ipv4, ipv6: self.ipv6 }
    }
}

/// An interface on its way into the firewall.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) task: &'a TaskId,
    pub(crate) plan: &'a InterfacePlan,
    pub(crate) made: &'a Interface,
    pub(crate) namespace: &'a Namespace,
}

impl Entry<'_> {
    /// What lets packets pass, and what outlives the namespace's last descriptor: the namespace's file, a public
    /// address, the firewall's entries. All of it, or nothing. `stage` is told what has been done.
    pub(crate) fn let_in(
        self,
        mut socket: Socket,
        start: u64,
        said: &mut Vec<String>,
        mut stage: impl FnMut(&'static str),
    ) -> Result<AttachedInterface, Error> {
        let Entry { settings, task, plan, made, namespace } = self;
        namespace_file::hold(&settings.namespaces, task, namespace.descriptor.as_fd())?;
        stage("namespace file");
        let public = match &plan.public {
            None => Ok(None),
            Some(pool) => public_address::take(&mut socket, pool, &made.host_link, start, said).map(Some),
        };
        let public = public.map_err(|error| undone(error, release(settings, task)))?;
        if public.is_some() {
            stage("public address");
        }
        self.tell_firewall(public.map(|public| public.address), said).map_err(|error| {
            let mut left = release(settings, task);
            left.extend(public.and_then(|public| give_back(&mut socket, public)));
            undone(error, left)
        })?;
        stage("nftables");
        Ok(AttachedInterface {
            mac_address: made.mac.to_string(),
            private_ipv4_address: made.ipv4,
            ipv6_address: made.ipv6,
            private_dns_name: plan.private_dns_name(made.ipv4),
            public_ipv4_address: public.map(|public| public.address),
            gateway: made.gateway,
            host_link: made.host_link.clone(),
        })
    }

    fn tell_firewall(&self, public: Option<Ipv4Addr>, said: &mut Vec<String>) -> Result<(), Error> {
        let Entry { settings, task, plan, made, .. } = self;
        let rules = nft::Interface {
            link: &made.host_link,
            mac: made.mac,
            ipv4: made.ipv4,
            ipv6: made.ipv6,
            groups: &plan.groups,
            public,
            tenant: &tenant::of(settings, task),
        };
        let failed = |source| Error::Firewall { table: settings.table.clone(), source };
        let mut firewall = Socket::open(Protocol::Netfilter).map_err(|error| failed(error.into()))?;
        let committed = nft::attach_interface(&mut firewall, settings, &plan.network, &rules).map_err(failed);
        if committed.is_ok() {
            foreign_firewall::let_through(&mut firewall, settings, Whose::Interfaces, said);
        }
        firewall.close_aside();
        committed
    }
}

fn release(settings: &Settings, task: &TaskId) -> Vec<Error> {
    namespace_file::release(&settings.namespaces, task).err().into_iter().collect()
}

fn give_back(socket: &mut Socket, public: PublicAddress) -> Option<Error> {
    public_address::give_back(socket, &[public]).pop()
}

fn undone(cause: Error, left: Vec<Error>) -> Error {
    if left.is_empty() { cause } else { Error::HalfUndone { cause: Box::new(cause), left } }
}

/// Every reply, or the first refusal.
fn all(answers: Vec<Answer>) -> Result<Vec<netlink::Reply>, netlink::Error> {
    let mut replies = Vec::new();
    for answer in answers {
        replies.extend(answer?);
    }
    Ok(replies)
}
