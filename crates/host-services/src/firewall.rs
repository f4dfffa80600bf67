//! Puts the firewall's table back when somebody removes it: `nft flush ruleset` takes the published ports, the interfaces
//! and the security groups of all tasks away, and whoever calls it, a service of the distribution at its start, means others.
//!
//! What is right follows from the running tasks and the host's VPC network alone; `network::restore` finds what is missing.
//! The kernel tells of changes. It is asked without that at the begin, and when a task appears that is older than the last
//! removal: its own entries were made before, and nobody knew of it then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent::Host;
use agent::recovery::chain;
use agent::vpc_store::Store;
use ecs::task_definition::NetworkMode;
use ecs::{TaskId, Timestamp};
use network::{FirewallChange, FirewallEvents, Standing, StandingContainer, StandingInterface};
use tokio::io::unix::AsyncFd;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};

use crate::readiness::{self, Watched};
use crate::sessions::is_over;
use crate::world::{Snapshot, Task, World};

/// A flush and what its author puts in its place come in several transactions; so long after the first the table is looked
/// at, milliseconds. Between tries that fail, and where somebody removes the table again and again, the time doubles.
const FIRST_PAUSE_MS: u64 = 20;
const LONGEST_PAUSE_MS: u64 = 10_000;

/// A table that stood this long was not part of a quarrel, milliseconds.
const PEACE_MS: u64 = 5_000;

/// A task that ends so soon after its entries were put back may have withdrawn them before, milliseconds.
const DOUBT_MS: u64 = 30_000;

/// Watches until the process ends.
pub(crate) async fn watch(host: Host, mut world: World) {
    let mut events = match network::firewall_events(&host.network).and_then(readiness::watch) {
        Ok(events) => events,
        Err(cause) => {
            tracing::warn!(%cause, "the firewall cannot be watched: what is removed from it stays away");
            return;
        }
    };
    let mut watch = Watch {
        host,
        due: Some((Instant::now(), FirewallChange::Removed)),
        pause_ms: FIRST_PAUSE_MS,
        last: None,
        removed_at: None,
        known: BTreeSet::new(),
        doubtful: BTreeMap::new(),
    };
    loop {
        let due = watch.due.map(|(at, _)| at);
        tokio::select! {
            change = next(&mut events) => watch.heard(change),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => watch.restore(&world.snapshot()).await,
            newest = world.changed() => match newest {
                Some(newest) => watch.look(&newest).await,
                None => return,
            },
        }
    }
}

/// The next change, whatever it is.
async fn next(events: &mut AsyncFd<Watched<FirewallEvents>>) -> FirewallChange {
    loop {
        // An error of the descriptor's own is read as what was lost.
        let Ok(mut ready) = events.readable_mut().await else { return FirewallChange::Removed };
        match ready.get_inner_mut().0.read() {
            Ok(FirewallChange::Nothing) => ready.clear_ready(),
            Ok(change) => return change,
            Err(cause) => {
                tracing::warn!(%cause, "the firewall's events cannot be read");
                ready.clear_ready();
            }
        }
    }
}

struct Watch {
    host: Host,
    /// When the table is to be looked at, and why.
    due: Option<(Instant, FirewallChange)>,
    pause_ms: u64,
    /// When something was put back.
    last: Option<Instant>,
    /// When the table was removed, as far as we know.
    removed_at: Option<Timestamp>,
    /// The tasks that stood when we last looked.
    known: BTreeSet<TaskId>,
    /// Those whose entries were put back, and when.
    doubtful: BTreeMap<TaskId, Instant>,
}

impl Watch {
    fn heard(&mut self, change: FirewallChange) {
        if change == FirewallChange::Removed {
            self.removed_at = Some(now());
        }
        let soon = Instant::now() + Duration::from_millis(self.pause_ms);
        self.due = Some(match self.due {
            Some((at, before)) => (at, before.max(change)),
            None => (soon, change),
        });
    }

    /// Tasks have come or gone.
    async fn look(&mut self, newest: &Snapshot) {
        let standing: BTreeSet<TaskId> =
            newest.tasks.iter().filter(|task| stands(task)).map(|task| task.spec.id.clone()).collect();
        let older = |id: &TaskId| {
            let task = newest.task(id);
            task.zip(self.removed_at).is_some_and(|(task, removed)| task.spec.created_at <= removed)
        };
        if standing.difference(&self.known).any(older) {
            self.heard_of_older();
        }
        let doubt = Duration::from_millis(DOUBT_MS);
        let gone: Vec<TaskId> = self.doubtful.keys().filter(|id| !standing.contains(*id)).cloned().collect();
        for id in gone {
            if self.doubtful.remove(&id).is_some_and(|since| since.elapsed() < doubt) {
                self.withdraw(id).await;
            }
        }
        self.known = standing;
    }

    fn heard_of_older(&mut self) {
        let at = self.due.map_or_else(Instant::now, |(at, _)| at);
        self.due = Some((at, FirewallChange::Removed));
    }

    /// Its supervisor has done the same, or does it just now.
    async fn withdraw(&self, task: TaskId) {
        let settings = self.host.network.clone();
        let id = task.clone();
        let errors = spawn_blocking(move || network::detach(&settings, &id)).await.unwrap_or_default();
        for error in errors {
            tracing::warn!(%task, error = chain(&error), "its entries in the firewall may be left");
        }
    }

    async fn restore(&mut self, tasks: &Arc<Snapshot>) {
        let Some((_, change)) = self.due.take() else { return };
        let standing: Vec<Standing> =
            tasks.tasks.iter().filter(|task| stands(task)).map(standing).filter(has_entries).collect();
        if standing.is_empty() {
            return;
        }
        let ids: Vec<TaskId> = standing.iter().map(|task| task.task.clone()).collect();
        let host = self.host.clone();
        let done = spawn_blocking(move || restore(&host, &standing, change)).await;
        match done.unwrap_or_else(|panic| Err(panic.to_string())) {
            Ok(false) => {}
            Ok(true) => {
                let now = Instant::now();
                tracing::warn!(
                    tasks = ids.len(),
                    "the firewall's entries were removed by somebody else; they are back"
                );
                self.doubtful.extend(ids.into_iter().map(|id| (id, now)));
                let peace = self.last.is_none_or(|last| last.elapsed() > Duration::from_millis(PEACE_MS));
                self.pause_ms = if peace { FIRST_PAUSE_MS } else { (self.pause_ms * 2).min(LONGEST_PAUSE_MS) };
                self.last = Some(now);
            }
            Err(error) => {
                tracing::warn!(error, "the firewall cannot be put back; trying again");
                self.pause_ms = (self.pause_ms * 2).min(LONGEST_PAUSE_MS);
                self.due = Some((Instant::now() + Duration::from_millis(self.pause_ms), change));
            }
        }
    }
}

fn restore(host: &Host, standing: &[Standing], change: FirewallChange) -> Result<bool, String> {
    // Held, so that what is put back is not older than a change that is being carried out.
    let (network, _hold) = Store::of(host).hold().map_err(|error| chain(&error))?;
    network::restore(&host.network, &network, standing, change).map_err(|error| chain(&error))
}

/// Its network is there, and not about to be taken down.
fn stands(task: &Task) -> bool {
    !is_over(&task.status)
}

fn has_entries(standing: &Standing) -> bool {
    standing.interface.is_some() || standing.is_on_host || !standing.containers.is_empty()
}

fn standing(task: &Task) -> Standing {
    let spec = &task.spec;
    let containers =
        spec.containers.iter().filter(|_| spec.network_mode == NetworkMode::Bridge).filter_map(|container| {
            let network = &container.network;
            Some(StandingContainer {
                ipv4: network.ipv4_address?,
                ipv6: network.ipv6_address,
                bindings: network.bindings.clone(),
            })
        });
    let interface = spec.network_interface.as_ref().map(|interface| StandingInterface {
        host_link: interface.host_link.clone(),
        mac_address: interface.mac_address.clone(),
        private_ipv4_address: interface.private_ipv4_address,
        ipv6_address: interface.ipv6_address,
        public_ipv4_address: interface.public_ipv4_address,
        security_groups: interface.security_groups.clone(),
    });
    Standing {
        task: spec.id.clone(),
        containers: containers.collect(),
        interface,
        is_on_host: spec.network_mode == NetworkMode::Host,
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_epoch_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
