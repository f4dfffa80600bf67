//! Whom to ask for whom: a container's own name servers or the host's.

use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, OnceLock};

use agent_protocol::task_spec::NetworkNamespace;
use agent_protocol::{ContainerSpec, TaskSpec};
use dns::Transport;
use ecs::task_definition::NetworkMode;
use network::SERVICE_ADDRESS;
use runtime::cgroup::Cgroups;
use tokio::sync::Semaphore;
use tracing::debug;

use crate::caller;
use crate::origin::Origin;
use crate::world::{Snapshot, World};

const DNS_PORT: u16 = 53;
/// More are never tried within the time that an asker has.
const MAX_SERVERS: usize = 8;
/// Questions that the askers on one socket have at name servers at a time.
const MAX_OUTSTANDING: usize = 32;
/// Questions that wait for a place among those.
const MAX_WAITING: usize = 1024;

/// Those who ask on one socket.
pub(super) struct Asker {
    origin: Origin,
    /// Once their task is known: a task's specification never changes.
    profile: OnceLock<Profile>,
    pub(super) outstanding: Semaphore,
    pub(super) waiting: Semaphore,
}

#[derive(Clone, Debug, Default)]
struct Profile {
    /// None: the host's.
    servers: Option<Arc<[IpAddr]>>,
    search: Vec<String>,
}

impl Asker {
    pub(super) fn new(origin: Origin) -> Asker {
        Asker {
            origin,
            profile: OnceLock::new(),
            outstanding: Semaphore::new(MAX_OUTSTANDING),
            waiting: Semaphore::new(MAX_WAITING),
        }
    }

    pub(super) fn upstreams(&self, world: &World) -> Upstreams {
        match &self.origin {
            Origin::Host { .. } if world.snapshot().tasks.iter().any(|task| has_own(&task.spec)) => Upstreams::OfCaller,
            Origin::Host { .. } => Upstreams::Hosts,
            Origin::Task { .. } => of_profile(self.profile(world)),
        }
    }

    /// The domains in which their clients look for names first.
    pub(super) fn search(&self, world: &World) -> &[String] {
        self.profile(world).map_or(&[], |profile| &profile.search)
    }

    fn profile(&self, world: &World) -> Option<&Profile> {
        if self.profile.get().is_none() {
            let task = match &self.origin {
                Origin::Task { task, .. } | Origin::Host { holder: task } => task,
            };
            let profile = profile(&world.snapshot().task(task)?.spec, &self.origin);
            return Some(self.profile.get_or_init(|| profile));
        }
        self.profile.get()
    }
}

/// Whose name servers to ask.
pub(super) enum Upstreams {
    Hosts,
    Own(Arc<[IpAddr]>),
    /// On the host's network any task in host mode may be asking, and one of them has servers of its own: the one who
    /// asks has to be found.
    OfCaller,
}

/// Those of the task in host mode that asks from there. Nobody's question is the host's.
pub(super) fn of_caller(snapshot: &Snapshot, peer: SocketAddr, transport: Transport, cgroups: &Cgroups) -> Upstreams {
    let SocketAddr::V4(peer) = peer else { return Upstreams::Hosts };
    let inode = match transport {
        Transport::Udp => network::udp_socket_inode(peer),
        // The caller sees the port that it has called, wherever the socket is.
        Transport::Tcp => network::socket_inode(peer, SocketAddrV4::new(SERVICE_ADDRESS, DNS_PORT)),
    };
    let task = match inode {
        Ok(Some(inode)) => caller::holder(inode, snapshot, cgroups),
        Ok(None) => Err(caller::NoTask::Gone),
        Err(error) => Err(caller::NoTask::Kernel(error)),
    };
    match task {
        Ok(task) => {
            let spec =
                snapshot.task(&task).map(|task| profile(&task.spec, &Origin::Host { holder: task.spec.id.clone() }));
            of_profile(spec.as_ref())
        }
        Err(error) => {
            debug!(%peer, %error, "a question for names is nobody's");
            Upstreams::Hosts
        }
    }
}

fn of_profile(profile: Option<&Profile>) -> Upstreams {
    profile.and_then(|profile| profile.servers.clone()).map_or(Upstreams::Hosts, Upstreams::Own)
}

fn has_own(spec: &TaskSpec) -> bool {
    spec.network_mode == NetworkMode::Host
        && spec.containers.iter().any(|container| !container.network.dns_servers.is_empty())
}

/// Of the containers in the namespace the first that says anything: in awsvpc mode they have one between them.
fn profile(spec: &TaskSpec, origin: &Origin) -> Profile {
    let here = |container: &&ContainerSpec| match origin {
        Origin::Task { containers, .. } => containers.contains(&container.definition.name),
        Origin::Host { .. } => container.network.namespace == NetworkNamespace::Host,
    };
    let with_servers = spec.containers.iter().filter(here).find(|container| !container.network.dns_servers.is_empty());
    let first = with_servers.or_else(|| spec.containers.iter().find(here));
    Profile {
        servers: with_servers.map(|container| askable(&container.network.dns_servers)),
        search: first.map(|container| search(&container.network.resolv_conf)).unwrap_or_default(),
    }
}

/// The last `search` line counts (resolv.conf(5)).
fn search(resolv_conf: &str) -> Vec<String> {
    let mut domains = Vec::new();
    for line in resolv_conf.lines() {
        if let Some(rest) = line.strip_prefix("search ") {
            domains = rest.split_whitespace().map(str::to_owned).collect();
        }
    }
    domains
}

/// Without ourselves: a resolver that asks itself asks for ever.
pub(super) fn askable(servers: &[IpAddr]) -> Arc<[IpAddr]> {
    servers.iter().copied().filter(|server| server.to_canonical() != SERVICE_ADDRESS).take(MAX_SERVERS).collect()
}
