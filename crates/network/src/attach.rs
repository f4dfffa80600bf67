//! Carries a `NetworkPlan` out. Everything is decided by then except which addresses and ports are free.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use ecs::ContainerName;
use ecs::task::NetworkBinding;
use ecs::task_definition::TransportProtocol;
use nix::errno::Errno;

use crate::conntrack;
use crate::error::Error;
use crate::host_bridge::{self, Bridge};
use crate::host_files;
use crate::hosts_file;
use crate::link::{self, CONTAINER_LINK, Mac, Veth};
use crate::namespace::{self, Namespace};
use crate::netlink::{self, Answer, Protocol, Requests, Socket};
use crate::nft::{self, Published, PublishedKey, TableScope};
use crate::plan::{
    self, ContainerPlan, ExtraAddress, HostPort, NetworkPlan, Place, Ports, Publish, Request, protocol_name,
};
use crate::pool;
use crate::port_holder;
use crate::ports::{self, DynamicRange, Port};
use crate::resolv::ResolvConf;
use crate::settings::Settings;
use crate::tenant::{self, Label};

/// A task's network, made. Closing a namespace's last descriptor removes it, links included; the published ports
/// go with `detach`. The holds must stay open until `detach` has returned: an entry whose port nobody holds is free
/// for the next task to replace.
#[derive(Debug)]
pub struct Attachment {
    /// In the order of the request.
    pub containers: Vec<AttachedContainer>,
    pub port_holds: Vec<OwnedFd>,
    /// What a person should know: settings of the host that were changed, and what a container will lack.
    pub said: Vec<String>,
    pub stages: Vec<Stage>,
}

#[derive(Debug)]
pub struct AttachedContainer {
    pub name: ContainerName,
    /// None: the host's.
    pub netns: Option<OwnedFd>,
    pub ipv4: Option<Ipv4Addr>,
    pub hostname: String,
    /// The whole content of /etc/hosts and /etc/resolv.conf.
    pub hosts: String,
    pub resolv_conf: String,
    pub bindings: Vec<NetworkBinding>,
}

/// Where the time of `attach` went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    pub name: &'static str,
    pub took: Duration,
}

/// How long a link that comes up is waited for, and how often it is looked at, on kernels before 6.8.
const CARRYING_PATIENCE: Duration = Duration::from_millis(250);
const CARRYING_PAUSE: Duration = Duration::from_micros(500);

struct Clock {
    last: Instant,
    stages: Vec<Stage>,
}

impl Clock {
    fn start() -> Clock {
        Clock { last: Instant::now(), stages: Vec::new() }
    }

    fn stage(&mut self, name: &'static str) {
        let now = Instant::now();
        self.stages.push(Stage { name, took: now - self.last });
        self.last = now;
    }
}

/// Makes the network of a task in the network namespace of the calling thread. When a step fails, all that was made
/// goes with its descriptors: held ports at once, namespaces and their links as soon as the kernel gets to them.
/// The firewall's transaction is the last step that can fail for a reason of the task's own, and it is all or
/// nothing. The bridge and the table stay for the next task.
pub fn attach(settings: &Settings, request: &Request) -> Result<Attachment, Error> {
    let mut clock = Clock::start();
    let plan = plan::plan(request)?;
    let apart = plan.containers.iter().filter(|container| !matches!(container.place, Place::Host { .. }));
    let apart: Vec<&ContainerPlan> = apart.collect();
    let threads = namespace::begin(apart.len()).map_err(|source| Error::Namespace {
        container: apart.first().expect("nothing is begun for nobody").name.clone(),
        source,
    })?;
    let host = Host::prepare(settings, &plan, &mut clock);
    // The threads are waited for whatever became of the host's side, so that a failure leaves none behind.
    let namespaces: Vec<_> = threads.into_iter().map(join).collect();
    clock.stage("network namespaces");
    let mut host = host?;
    let named = apart.iter().zip(namespaces).map(|(container, namespace)| {
        namespace.map_err(|source| Error::Namespace { container: container.name.clone(), source })
    });
    let namespaces = named.collect::<Result<Vec<_>, _>>()?;
    connect(settings, request, &plan, &mut host, namespaces, &mut clock)
}

fn join(thread: std::thread::JoinHandle<Result<Namespace, namespace::Error>>) -> Result<Namespace, namespace::Error> {
    match thread.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// The host's side of a task before its containers have links.
struct Host {
    bridge: Option<HostBridge>,
    holds: Vec<OwnedFd>,
    /// For each container, the first host port of each of its mappings.
    host_ports: Vec<Vec<u16>>,
    said: Vec<String>,
}

struct HostBridge {
    bridge: Bridge,
    socket: Socket,
}

impl Host {
    fn prepare(settings: &Settings, plan: &NetworkPlan, clock: &mut Clock) -> Result<Host, Error> {
        let mut host = Host { bridge: None, holds: Vec::new(), host_ports: Vec::new(), said: Vec::new() };
        if plan.containers.iter().any(|container| matches!(container.place, Place::Bridge { .. })) {
            let mut socket = route_socket()?;
            let bridge = host_bridge::ensure(&mut socket, settings, &mut host.said)?;
            host.bridge = Some(HostBridge { bridge, socket });
        }
        clock.stage("bridge");
        for container in &plan.containers {
            let ports = match &container.place {
                Place::Bridge { publish } => hold_all(settings, &container.name, publish, &mut host.holds)?,
                Place::Host { .. } | Place::Loopback => Vec::new(),
            };
            host.host_ports.push(ports);
        }
        clock.stage("host ports");
        Ok(host)
    }
}

fn hold_all(
    settings: &Settings,
    container: &ContainerName,
    publish: &[Publish],
    holds: &mut Vec<OwnedFd>,
) -> Result<Vec<u16>, Error> {
    let address = settings.publish_address;
    let each = publish.iter().map(|one| {
        let (protocol, count) = (one.container.protocol, one.container.count());
        let failed = |number, source| Error::Port {
            container: container.clone(),
            protocol: protocol_name(protocol),
            port: number,
            source,
        };
        match one.host {
            HostPort::Static(number) => match ports::hold(Port { address, protocol, number }) {
                Ok(hold) => {
                    holds.push(hold);
                    Ok(number)
                }
                Err(error) if ports::is_taken(&error) => Err(Error::PortTaken {
                    container: container.clone(),
                    protocol: protocol_name(protocol),
                    port: number,
                    holder: port_holder::find(settings, protocol, number),
                }),
                Err(source) => Err(failed(number, source)),
            },
            HostPort::Dynamic => {
                let range = DynamicRange::of_host();
                let run = ports::hold_run(range, address, protocol, count, dice());
                let run = run.map_err(|source| failed(0, source))?.ok_or_else(|| Error::NoFreePorts {
                    container: container.clone(),
                    protocol: protocol_name(protocol),
                    count,
                    first: range.first,
                    last: range.last,
                })?;
                holds.extend(run.holds);
                Ok(run.first)
            }
        }
    });
    each.collect()
}

fn connect(
    settings: &Settings,
    request: &Request,
    plan: &NetworkPlan,
    host: &mut Host,
    namespaces: Vec<Namespace>,
    clock: &mut Clock,
) -> Result<Attachment, Error> {
    let mut namespaces = namespaces.into_iter();
    let mut containers = Vec::new();
    let mut published = Vec::new();
    let texts = Texts::read(plan, &mut host.said)?;
    clock.stage("host files");
    for (container, host_ports) in plan.containers.iter().zip(&host.host_ports) {
        let mut netns = None;
        let mut ipv4 = None;
        let mut bindings = Vec::new();
        match &container.place {
            Place::Host { ports } => bindings.extend(ports.iter().map(|ports| host_binding(*ports))),
            Place::Loopback | Place::Bridge { .. } => {
                let mut namespace = namespaces.next().expect("one was begun for each container apart");
                if let (Place::Bridge { publish }, Some(on)) = (&container.place, &mut host.bridge) {
                    let label =
                        Label { instance: &settings.instance, task: &request.task, container: container.name.as_str() };
                    let address = link_up(settings, &label, &mut namespace, on)?;
                    ipv4 = Some(address);
                    for (one, first) in publish.iter().zip(host_ports) {
                        bindings.push(binding(settings, *one, *first));
                        published.extend(entries(settings, *one, *first, address));
                    }
                } else {
                    loopback_up(&container.name, &mut namespace)?;
                }
                netns = Some(namespace.descriptor);
            }
        }
        let gateway = host.bridge.as_ref().map(|on| on.bridge.address);
        containers.push(texts.finish(container, netns, ipv4, gateway, bindings));
    }
    clock.stage("links");
    if let Some(on) = &host.bridge {
        publish(settings, request, on.bridge, &published, &mut host.said, clock)?;
    }
    Ok(Attachment {
        containers,
        port_holds: std::mem::take(&mut host.holds),
        said: std::mem::take(&mut host.said),
        stages: std::mem::take(&mut clock.stages),
    })
}

fn loopback_up(container: &ContainerName, namespace: &mut Namespace) -> Result<(), Error> {
    let mut requests = Requests::default();
    link::set_loopback_up(&mut requests);
    let answers = namespace.socket.exchange(requests);
    answers.and_then(all).map(drop).map_err(|source| Error::Netlink {
        action: format!("bring loopback up in the network namespace of container {container}"),
        source,
    })
}

/// Gives a container the first address whose link name is free, and the link.
fn link_up(
    settings: &Settings,
    label: &Label<'_>,
    namespace: &mut Namespace,
    on: &mut HostBridge,
) -> Result<Ipv4Addr, Error> {
    let bridge = on.bridge;
    for address in pool::candidates(bridge.subnet, bridge.address, dice()) {
        let name = pool::link_name(address);
        let failed = |action: &str, source| Error::Netlink {
            action: format!("{action} link {name} of container {}", label.container),
            source,
        };
        let veth = Veth {
            host_name: &name,
            bridge: bridge.index,
            container_mac: Mac::of(address),
            namespace: namespace.descriptor.as_fd(),
            mtu: bridge.mtu,
        };
        match link::add_veth(&mut on.socket, &veth) {
            Ok(()) => {}
            Err(error) if error.errno() == Some(Errno::EEXIST) => continue,
            Err(error) if error.errno() == Some(Errno::EXFULL) => {
                return Err(Error::BridgeFull { bridge: settings.bridge.clone() });
            }
            Err(source) => return Err(failed("make", source)),
        }
        set_up_host_end(&mut on.socket, &name, &label.to_string()).map_err(|source| failed("set up", source))?;
        set_up_container_end(&mut namespace.socket, address, bridge)
            .map_err(|source| failed("set up eth0 at the other end of", source))?;
        wait_until_carrying(&mut on.socket, &[&name, &settings.bridge]).map_err(|source| failed("look at", source))?;
        return Ok(address);
    }
    Err(Error::NoFreeAddress { bridge: settings.bridge.clone(), subnet: bridge.subnet })
}

fn set_up_host_end(socket: &mut Socket, name: &str, alias: &str) -> Result<(), netlink::Error> {
    let mut requests = Requests::default();
    link::set_port(&mut requests, name, alias);
    if crate::sysctl::has_ipv6() {
        link::set_no_link_local(&mut requests, name);
    }
    link::set_up(&mut requests, name);
    socket.exchange(requests).and_then(all).map(drop)
}

fn set_up_container_end(socket: &mut Socket, address: Ipv4Addr, bridge: Bridge) -> Result<(), netlink::Error> {
    let mut requests = Requests::default();
    link::set_loopback_up(&mut requests);
    if crate::sysctl::has_ipv6() {
        link::set_no_link_local(&mut requests, CONTAINER_LINK);
    }
    link::set_up(&mut requests, CONTAINER_LINK);
    link::ask_link(&mut requests, CONTAINER_LINK);
    let replies = all(socket.exchange(requests)?)?;
    let gone = || netlink::Refused { errno: Errno::ENODEV, said: String::new() };
    let index = replies.iter().find_map(link::read_link).ok_or_else(gone)?.index;
    let mut requests = Requests::default();
    link::add_address(&mut requests, index, address, bridge.subnet);
    link::add_default_route(&mut requests, index, bridge.address);
    // The bridge's MAC is a function of its address as well, so the first packet out need not ask for it.
    link::add_neighbour(&mut requests, index, bridge.address, Mac::of(bridge.address));
    socket.exchange(requests).and_then(all).map(drop)
}

/// The kernel brings links up in the background: until it got to it, a bridge drops what is sent, the first question
/// for a container's MAC included, and the next one comes a second later. Since Linux 6.8, asking for a link makes
/// the kernel do it at once. The port comes before its bridge, which follows it.
fn wait_until_carrying(socket: &mut Socket, names: &[&str]) -> Result<(), netlink::Error> {
    let begin = Instant::now();
    loop {
        let mut requests = Requests::default();
        for name in names {
            link::ask_link(&mut requests, name);
        }
        let links = all(socket.exchange(requests)?)?;
        let all_carry = links.iter().filter_map(link::read_link).all(|link| link.carries);
        // Late is no failure: it costs the first connection a second.
        if all_carry || begin.elapsed() > CARRYING_PATIENCE {
            return Ok(());
        }
        std::thread::sleep(CARRYING_PAUSE);
    }
}

/// Every reply, or the first refusal.
fn all(answers: Vec<Answer>) -> Result<Vec<netlink::Reply>, netlink::Error> {
    let mut replies = Vec::new();
    for answer in answers {
        replies.extend(answer?);
    }
    Ok(replies)
}

fn publish(
    settings: &Settings,
    request: &Request,
    bridge: Bridge,
    published: &[Published],
    said: &mut Vec<String>,
    clock: &mut Clock,
) -> Result<(), Error> {
    let failed = |source| Error::Firewall { table: settings.table.clone(), source };
    let mut socket = Socket::open(Protocol::Netfilter).map_err(|source| failed(source.into()))?;
    let scope = TableScope { table: &settings.table, bridge: &settings.bridge, subnet: bridge.subnet };
    let tenant = tenant::of(settings, &request.task);
    nft::publish(&mut socket, scope, &tenant, published).map_err(failed)?;
    clock.stage("nftables");
    let udp = published.iter().map(|port| port.key).filter(|key| key.protocol == TransportProtocol::Udp);
    let udp: Vec<u16> = udp.map(|key| key.port).collect();
    if !udp.is_empty() {
        // The ports are published by now: a client of an earlier owner's is no reason to stop.
        if let Err(error) = conntrack::forget_udp_ports(&mut socket, &udp) {
            said.push(format!("old UDP flows to the published ports could not be forgotten: {error}"));
        }
        clock.stage("conntrack");
    }
    socket.close_aside();
    Ok(())
}

pub(crate) fn route_socket() -> Result<Socket, Error> {
    Socket::open(Protocol::Route)
        .map_err(|source| Error::Netlink { action: "speak to the kernel about links".into(), source })
}

fn entries(settings: &Settings, one: Publish, first: u16, container: Ipv4Addr) -> impl Iterator<Item = Published> {
    let address = Some(settings.publish_address).filter(|address| !address.is_unspecified());
    let Ports { protocol, first: container_first, .. } = one.container;
    (0..one.container.count()).map(move |offset| Published {
        key: PublishedKey { address, protocol, port: first + offset },
        target: SocketAddrV4::new(container, container_first + offset),
    })
}

/// What DescribeTasks shows
/// (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_NetworkBinding.html>).
fn binding(settings: &Settings, one: Publish, first: u16) -> NetworkBinding {
    let host = Ports { first, last: first + (one.container.count() - 1), ..one.container };
    network_binding(settings.publish_address, one.container, host)
}

fn host_binding(ports: Ports) -> NetworkBinding {
    network_binding(Ipv4Addr::UNSPECIFIED, ports, ports)
}

fn network_binding(address: Ipv4Addr, container: Ports, host: Ports) -> NetworkBinding {
    let single = |ports: Ports| (!ports.is_range).then_some(ports.first);
    let range = |ports: Ports| ports.is_range.then(|| format!("{}-{}", ports.first, ports.last));
    NetworkBinding {
        bind_ip: address.to_string(),
        container_port: single(container),
        host_port: single(host),
        container_port_range: range(container),
        host_port_range: range(host),
        protocol: container.protocol,
    }
}

/// What the host's files say, read once for a task.
struct Texts {
    hostname: String,
    hosts: String,
    as_is: ResolvConf,
    reachable: ResolvConf,
}

impl Texts {
    fn read(plan: &NetworkPlan, said: &mut Vec<String>) -> Result<Texts, Error> {
        let texts = Texts {
            hostname: host_files::hostname()?,
            hosts: host_files::hosts()?,
            as_is: host_files::resolv_conf_as_is()?,
            reachable: host_files::resolv_conf()?,
        };
        let inherits = |container: &ContainerPlan| {
            matches!(container.place, Place::Bridge { .. }) && container.dns_servers.is_empty()
        };
        if plan.containers.iter().any(inherits) && texts.reachable.for_container(&[], &[]).servers.is_empty() {
            said.push(
                "the host's /etc/resolv.conf has no IPv4 name server that a container can reach; give dnsServers"
                    .into(),
            );
        }
        Ok(texts)
    }

    fn finish(
        &self,
        plan: &ContainerPlan,
        netns: Option<OwnedFd>,
        ipv4: Option<Ipv4Addr>,
        gateway: Option<Ipv4Addr>,
        bindings: Vec<NetworkBinding>,
    ) -> AttachedContainer {
        let hostname = plan.hostname.clone().unwrap_or_else(|| self.hostname.clone());
        let host_seen_at = ipv4.and(gateway).unwrap_or(Ipv4Addr::LOCALHOST);
        let extra = plan.extra_hosts.iter().map(|entry| match entry.address {
            ExtraAddress::Given(address) => (address, entry.name.clone()),
            ExtraAddress::HostGateway => (IpAddr::V4(host_seen_at), entry.name.clone()),
        });
        let extra: Vec<_> = extra.collect();
        let (servers, search) = (&plan.dns_servers, &plan.dns_search_domains);
        let (hosts, resolv) = match plan.place {
            Place::Host { .. } => (hosts_file::of_host(&self.hosts, &extra), self.as_is.overridden(servers, search)),
            Place::Loopback | Place::Bridge { .. } => {
                (hosts_file::own(&extra, ipv4, &hostname), self.reachable.for_container(servers, search))
            }
        };
        let name = plan.name.clone();
        AttachedContainer { name, netns, ipv4, hostname, hosts, resolv_conf: resolv.text(), bindings }
    }
}

/// An arbitrary number: where to begin looking for a free address or port. The standard library seeds its hashers
/// from the kernel's randomness.
fn dice() -> u64 {
    RandomState::new().build_hasher().finish()
}
