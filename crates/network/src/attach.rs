//! Carries a `NetworkPlan` out. Everything is decided by then except which addresses and ports are free.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use ecs::ContainerName;
use ecs::task::NetworkBinding;
use ecs::task_definition::TransportProtocol;

use crate::bindings;
use crate::conntrack;
use crate::container_link::{self, Addresses, HostBridge};
use crate::eni::{self, Gateway};
use crate::error::Error;
use crate::foreign_firewall::{self, Whose};
use crate::host_bridge::{self, Bridge};
use crate::namespace::{self, Namespace};
use crate::netlink::{Protocol, Socket};
use crate::nft::{self, Published, TableScope};
use crate::overlay;
use crate::plan::{self, InterfacePlan, NetworkPlan, Place, Request};
use crate::publish;
use crate::service_sockets;
use crate::settings::Settings;
use crate::tenant::{self, Label};
use crate::texts::{ContainerTexts, Texts};

/// A task's network, made. Closing a namespace's last descriptor removes it, links included; the published ports
/// go with `detach`. The holds must stay open until `detach` has returned: an entry whose port nobody holds is free
/// for the next task to replace.
#[derive(Debug)]
pub struct Attachment {
    /// In the order of the request.
    pub containers: Vec<AttachedContainer>,
    /// In awsvpc mode. All containers have a descriptor of the same namespace then.
    pub interface: Option<AttachedInterface>,
    pub service_sockets: Vec<AttachedService>,
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
    pub ipv6: Option<Ipv6Addr>,
    pub hostname: String,
    /// The whole content of /etc/hosts and /etc/resolv.conf.
    pub hosts: String,
    pub resolv_conf: String,
    /// Whom the resolver at 169.254.170.2 is to ask for this container; empty: whom the host asks.
    pub dns_servers: Vec<IpAddr>,
    pub bindings: Vec<NetworkBinding>,
}

/// What became of an `InterfaceRequest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachedInterface {
    /// `02:42:0a:00:01:05`.
    pub mac_address: String,
    pub private_ipv4_address: Ipv4Addr,
    pub ipv6_address: Option<Ipv6Addr>,
    pub private_dns_name: String,
    pub public_ipv4_address: Option<Ipv4Addr>,
    pub gateway: Ipv4Addr,
    /// The host's end.
    pub host_link: String,
}

/// A socket that is met at 169.254.170.2, bound to the loopback link of the namespace that it lies in: no other machine
/// and no other namespace reaches it. The port that it says of itself is another than the one it is met at, which
/// stays free for the task's own servers. It does not block.
#[derive(Debug)]
pub struct AttachedService {
    /// Which of `Attachment::containers` it lies in the namespace of; none: the host's namespace.
    pub container: Option<usize>,
    pub kind: ServiceKind,
    pub socket: OwnedFd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// A listener, met at port 80.
    Http,
    /// A listener, met at port 53.
    DnsTcp,
    /// A datagram socket, met at port 53.
    DnsUdp,
}

/// Where the time of `attach` went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    pub name: &'static str,
    pub took: Duration,
}

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
    let owners = namespace_owners(&plan);
    let threads = namespace::begin(owners.len()).map_err(|source| Error::Namespace {
        container: (*owners.first().expect("nothing is begun for nobody")).clone(),
        source,
    })?;
    let host = Host::prepare(settings, &plan, &mut clock);
    // The threads are waited for whatever became of the host's side, so that a failure leaves none behind.
    let namespaces: Vec<_> = threads.into_iter().map(join).collect();
    clock.stage("network namespaces");
    let host = host?;
    let named = owners.into_iter().zip(namespaces).map(|(container, namespace)| {
        namespace.map_err(|source| Error::Namespace { container: container.clone(), source })
    });
    let namespaces = named.collect::<Result<Vec<_>, _>>()?;
    connect(settings, request, &plan, host, namespaces, clock)
}

/// A container for each namespace that is to be made: first the one that all share that have the task's interface.
fn namespace_owners(plan: &NetworkPlan) -> Vec<&ContainerName> {
    let shared = plan.containers.iter().find(|container| container.place == Place::Interface);
    let apart = plan.containers.iter().filter(|container| match container.place {
        Place::Loopback | Place::Bridge { .. } => true,
        Place::Host { .. } | Place::Interface => false,
    });
    shared.into_iter().chain(apart).map(|container| &container.name).collect()
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
    /// Of the subnet of the task's interface, and a socket to work on links.
    gateway: Option<(Socket, Gateway)>,
    holds: Vec<OwnedFd>,
    /// In the host's own namespace, if a container is there.
    services: Vec<(ServiceKind, OwnedFd)>,
    /// For each container, the first host port of each of its mappings.
    host_ports: Vec<Vec<u16>>,
    said: Vec<String>,
}

impl Host {
    fn prepare(settings: &Settings, plan: &NetworkPlan, clock: &mut Clock) -> Result<Host, Error> {
        let mut host = Host {
            bridge: None,
            gateway: None,
            holds: Vec::new(),
            services: Vec::new(),
            host_ports: Vec::new(),
            said: Vec::new(),
        };
        if plan.containers.iter().any(|container| matches!(container.place, Place::Host { .. })) {
            host.services = service_sockets::open_on_host(&mut route_socket()?)?;
            clock.stage("services");
        }
        if plan.containers.iter().any(|container| matches!(container.place, Place::Bridge { .. })) {
            let mut socket = route_socket()?;
            let bridge = host_bridge::ensure(&mut socket, settings, &mut host.said)?;
            host.bridge = Some(HostBridge { bridge, socket });
        }
        if let Some(interface) = &plan.interface {
            let carried = overlay::ensure(settings, &interface.network).map_err(|errors| Error::Overlay { errors })?;
            host.said.extend(carried.into_iter().flat_map(|report| report.changes.into_iter().chain(report.warnings)));
            let mut socket = route_socket()?;
            let gateway = eni::gateway(&mut socket, interface, &mut host.said)?;
            host.gateway = Some((socket, gateway));
        }
        clock.stage("bridge or gateway");
        let has_ipv6 = host.bridge.as_ref().is_some_and(|on| on.bridge.ipv6.is_some());
        let held = publish::hold(settings, plan, has_ipv6, dice)?;
        (host.holds, host.host_ports) = (held.holds, held.host_ports);
        clock.stage("host ports");
        Ok(host)
    }
}

/// A container's namespace and what became of it there.
struct Connected {
    netns: Option<OwnedFd>,
    addresses: Option<Addresses>,
    bindings: Vec<NetworkBinding>,
}

fn connect(
    settings: &Settings,
    request: &Request,
    plan: &NetworkPlan,
    mut host: Host,
    namespaces: Vec<Namespace>,
    mut clock: Clock,
) -> Result<Attachment, Error> {
    let texts = Texts::read()?;
    clock.stage("host files");
    let mut namespaces = namespaces.into_iter();
    let mut shared = match (&plan.interface, &mut host.gateway) {
        (Some(interface), Some(gateway)) => {
            let mut namespace = namespaces.next().expect("one was begun for the interface");
            let made = eni::make(settings, &request.task, interface, &mut namespace, gateway, dice())?;
            Some(Shared { namespace, made, interface })
        }
        (None, _) | (_, None) => None,
    };
    let (mut connected, mut published) = (Vec::new(), Vec::new());
    let mut services = host.services.drain(..).map(|one| attached_service(None, one)).collect::<Vec<_>>();
    for (place, (container, host_ports)) in plan.containers.iter().zip(&host.host_ports).enumerate() {
        let mut apart = || {
            let mut namespace = namespaces.next().expect("one was begun for each container apart");
            services.extend(namespace.services.drain(..).map(|one| attached_service(Some(place), one)));
            namespace
        };
        let (mut netns, mut addresses, mut bindings) = (None, None, Vec::new());
        match (&container.place, &mut host.bridge, &mut shared) {
            (Place::Host { ports }, ..) => bindings.extend(ports.iter().map(|ports| bindings::of_host(*ports))),
            (Place::Bridge { publish }, Some(on), _) => {
                let mut namespace = apart();
                let task = &request.task;
                let label = Label { instance: &settings.instance, task, container: container.name.as_str() };
                let made = container_link::make(settings, &label, &mut namespace, on, dice())?;
                for (one, first) in publish.iter().zip(host_ports) {
                    bindings.extend(bindings::published(settings, *one, *first, made.ipv6.is_some()));
                    published.extend(bindings::entries(settings, *one, *first, made));
                }
                (netns, addresses) = (Some(namespace.descriptor), Some(made));
            }
            (Place::Interface, _, Some(shared)) => {
                // The first of them speaks for all.
                services.extend(shared.namespace.services.drain(..).map(|one| attached_service(Some(place), one)));
                netns = Some(shared.namespace.again(&container.name)?);
                addresses = Some(shared.made.addresses());
            }
            (Place::Loopback | Place::Bridge { .. } | Place::Interface, ..) => netns = Some(apart().descriptor),
        }
        connected.push(Connected { netns, addresses, bindings });
    }
    let seen_at = match (&host.bridge, &shared) {
        (Some(on), _) => Some(on.bridge.address),
        (None, Some(shared)) => Some(shared.interface.gateway()),
        (None, None) => None,
    };
    let containers = described(plan, shared.as_ref(), &texts, connected, seen_at);
    clock.stage("links");
    if let Some(on) = &mut host.bridge {
        publish(settings, request, on.bridge, &published, &mut host.said, &mut clock)?;
        container_link::wait_until_carrying(settings, on, containers.iter().filter_map(|container| container.ipv4))?;
        clock.stage("links carry");
    }
    // Last, since it alone would not go by itself.
    let interface = match (&shared, host.gateway) {
        (Some(Shared { namespace, made, interface }), Some((socket, _))) => {
            let entry = eni::Entry { settings, task: &request.task, plan: interface, made, namespace };
            Some(entry.let_in(socket, dice(), &mut host.said, |name| clock.stage(name))?)
        }
        (None, _) | (_, None) => None,
    };
    Ok(Attachment {
        containers,
        interface,
        service_sockets: services,
        port_holds: host.holds,
        said: host.said,
        stages: clock.stages,
    })
}

/// The namespace that a task's containers share, with the task's interface.
struct Shared<'a> {
    namespace: Namespace,
    made: eni::Interface,
    interface: &'a InterfacePlan,
}

fn described(
    plan: &NetworkPlan,
    shared: Option<&Shared<'_>>,
    texts: &Texts,
    connected: Vec<Connected>,
    seen_at: Option<Ipv4Addr>,
) -> Vec<AttachedContainer> {
    let addresses: Vec<Option<Addresses>> = connected.iter().map(|one| one.addresses).collect();
    let each = plan.containers.iter().zip(connected).enumerate();
    let each = each.map(|(place, (container, Connected { netns, addresses: own, bindings }))| {
        let mut container = container.clone();
        if let (Place::Interface, Some(shared)) = (&container.place, shared) {
            container.hostname = Some(shared.interface.private_dns_name(shared.made.ipv4));
        }
        let ContainerTexts { hostname, hosts, resolv_conf, dns_servers } =
            texts.of(&container, place, &addresses, seen_at);
        AttachedContainer {
            name: container.name,
            netns,
            ipv4: own.map(|own| own.ipv4),
            ipv6: own.and_then(|own| own.ipv6),
            hostname,
            hosts,
            resolv_conf,
            dns_servers,
            bindings,
        }
    });
    each.collect()
}

fn attached_service(container: Option<usize>, (kind, socket): (ServiceKind, OwnedFd)) -> AttachedService {
    AttachedService { container, kind, socket }
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
    let scope = TableScope {
        table: &settings.table,
        bridge: &settings.bridge,
        subnet: bridge.subnet,
        subnet6: bridge.ipv6.map(|bridge| bridge.subnet),
    };
    let tenant = tenant::of(settings, &request.task);
    nft::publish(&mut socket, scope, &tenant, published).map_err(failed)?;
    foreign_firewall::let_through(&mut socket, settings, Whose::Bridge, said);
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

/// An arbitrary number: where to begin looking for a free address or port. The standard library seeds its hashers
/// from the kernel's randomness.
fn dice() -> u64 {
    RandomState::new().build_hasher().finish()
}
