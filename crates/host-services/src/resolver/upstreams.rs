//! Whom to ask for whom: a container's own name servers or the host's.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use agent_protocol::task_spec::NetworkNamespace;
use agent_protocol::{ContainerSpec, TaskSpec};
use network::SERVICE_ADDRESS;
use tokio::sync::Semaphore;

use crate::origin::Origin;
use crate::world::World;

/// More are never tried within the time that an asker has.
const MAX_SERVERS: usize = 8;
/// Questions that the askers on one socket have at name servers at a time.
const MAX_OUTSTANDING: usize = 32;
/// Questions that wait for a place among those.
pub(super) const MAX_WAITING: usize = 1024;

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

    /// Their own name servers; none: the host's.
    pub(super) fn servers(&self, world: &World) -> Option<Arc<[IpAddr]>> {
        self.profile(world)?.servers.clone()
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
