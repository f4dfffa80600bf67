//! The resolver that answers tasks at 169.254.170.2 port 53: their own names at once, everything else from the cache or
//! from the name servers of the container or the host. What is decided is decided in crate `dns`; here are the sockets.
//!
//! One `Resolver` a process, and a call of `serve_udp` or `serve_tcp` for each socket. Whoever asks waits for nobody but
//! the name servers: what a task has outstanding is limited by socket, and questions that are alike are asked once.

mod ask;
mod host;
mod names;
mod serve;
mod upstreams;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use dns::{Answer, Cache, Query, Transport, Zone, kind};
use runtime::cgroup::Cgroups;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::warn;

use crate::world::{Snapshot, World};
use ask::Reputation;
use host::HostServers;
pub use serve::{serve_tcp, serve_udp};
use upstreams::{Asker, Upstreams};

/// Where the host's own name servers stand.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Nobody waits longer for an answer: musl gives up after five seconds, glibc asks the next server.
pub const BUDGET: Duration = Duration::from_secs(5);
/// Exchanges with name servers at a time, each with a socket of its own, for all tasks.
const MAX_EXCHANGES: usize = 1024;
/// So old may be what is known of the host's addresses, which tasks in host mode have.
const HOST_ADDRESSES_AGE: Duration = Duration::from_secs(5);

/// What all sockets have in common.
pub struct Resolver {
    world: World,
    servers: HostServers,
    reputation: Reputation,
    exchanges: Semaphore,
    turn: AtomicUsize,
    started: Instant,
    names: Mutex<Names>,
    cache: Mutex<Cache>,
    /// Questions that are being asked, by their keys.
    flights: Mutex<HashMap<Box<[u8]>, Flight>>,
    /// Looked for when first a caller on the host's network has to be found.
    cgroups: OnceLock<Option<Cgroups>>,
}

/// A question on its way: the answer, when there is one.
type Flight = watch::Receiver<Option<Arc<Answer>>>;

/// The zone, and what it was made of.
struct Names {
    of: Arc<Snapshot>,
    at: Instant,
    zone: Arc<Zone>,
}

/// What there is without asking anybody.
enum Known {
    /// With its age in seconds.
    Answer(Arc<Answer>, u32),
    Failure,
    Nothing,
}

/// How a query goes on.
enum Next {
    /// The answer is written.
    Answered,
    Drop,
    /// Somebody else has to be asked.
    Ask(Box<Question>),
}

/// A query that nobody here can answer.
struct Question {
    query: Query,
    from: From,
    /// Who might know; none: the caller has to be found first.
    servers: Option<Arc<[IpAddr]>>,
}

/// Where a query came from.
#[derive(Clone, Copy)]
struct From {
    peer: SocketAddr,
    transport: Transport,
}

impl Resolver {
    /// Asks the servers of this resolv.conf, which is `RESOLV_CONF`, for containers that have no `dnsServers`.
    pub fn new(world: World, resolv_conf: PathBuf) -> Arc<Resolver> {
        let now = Instant::now();
        Arc::new(Resolver {
            servers: HostServers::new(resolv_conf),
            reputation: Reputation::default(),
            exchanges: Semaphore::new(MAX_EXCHANGES),
            turn: AtomicUsize::new(0),
            started: now,
            names: Mutex::new(Names { of: Arc::default(), at: now, zone: Arc::new(Zone::of(&[])) }),
            cache: Mutex::default(),
            flights: Mutex::default(),
            cgroups: OnceLock::new(),
            world,
        })
    }

    /// Answers what can be answered without waiting, into `reply`.
    fn at_once(&self, asker: &Asker, bytes: &[u8], from: From, reply: &mut Vec<u8>) -> Next {
        let query = match Query::read(bytes) {
            Ok(query) => query,
            Err(dns::Rejection::Drop) => return Next::Drop,
            Err(dns::Rejection::Reply(rejection)) => {
                *reply = rejection;
                return Next::Answered;
            }
        };
        if let Some(own) = self.own(&query) {
            own.write(&query, from.transport, 0, reply);
            return Next::Answered;
        }
        let servers = match asker.upstreams(&self.world) {
            Upstreams::Own(own) => own,
            Upstreams::Hosts => self.servers.get(),
            Upstreams::OfCaller => return Next::Ask(Box::new(Question { query, from, servers: None })),
        };
        // The key is made where the reply will be: nothing is allocated for what is in the cache.
        query.write_key(&servers, reply);
        match self.known(&servers, reply) {
            Known::Answer(answer, age_s) => answer.write(&query, from.transport, age_s, reply),
            Known::Failure => self.failure(asker, &query).write(&query, from.transport, 0, reply),
            Known::Nothing => return Next::Ask(Box::new(Question { query, from, servers: Some(servers) })),
        }
        Next::Answered
    }

    /// What is known without asking these servers.
    fn known(&self, servers: &[IpAddr], key: &[u8]) -> Known {
        if servers.is_empty() {
            return Known::Failure;
        }
        match lock(&self.cache).get(key, self.started.elapsed()) {
            Some((answer, _)) if answer.rcode() == kind::SERVER_FAILURE => Known::Failure,
            Some((answer, age_s)) => Known::Answer(answer.clone(), age_s),
            None => Known::Nothing,
        }
    }

    fn own(&self, query: &Query) -> Option<Answer> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let own = self.zone().answer(query, turn);
        if own.is_none() && query.kind == kind::ANY {
            return Zone::refuse_any(query);
        }
        own
    }

    fn zone(&self) -> Arc<Zone> {
        let newest = self.world.snapshot();
        let mut names = lock(&self.names);
        let outdated = || names::on_host(&names.of) && names.at.elapsed() > HOST_ADDRESSES_AGE;
        if !Arc::ptr_eq(&names.of, &newest) || outdated() {
            let addresses = if names::on_host(&newest) { host::addresses() } else { Vec::new() };
            *names =
                Names { zone: Arc::new(Zone::of(&names::tasks(&newest, &addresses))), at: Instant::now(), of: newest };
        }
        names.zone.clone()
    }

    /// Writes what name servers say to a question, or that they do not say anything until `deadline`.
    async fn ask(self: &Arc<Self>, asker: &Asker, question: &Question, deadline: Instant, reply: &mut Vec<u8>) {
        let Question { query, from, servers } = question;
        let servers = match servers {
            Some(known) => known.clone(),
            None => self.servers_of_caller(*from).await,
        };
        query.write_key(&servers, reply);
        // It may have come while this one waited for its turn.
        let known = match self.known(&servers, reply) {
            Known::Nothing => {
                let mut flight = self.flight(query, &servers, reply);
                let landed = async { flight.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone()) };
                match timeout_at(deadline, landed).await {
                    Ok(Some(answer)) if answer.rcode() != kind::SERVER_FAILURE => Known::Answer(answer, 0),
                    Ok(_) | Err(_) => Known::Failure,
                }
            }
            known => known,
        };
        match known {
            Known::Answer(answer, age_s) => answer.write(query, from.transport, age_s, reply),
            Known::Failure | Known::Nothing => self.failure(asker, query).write(query, from.transport, 0, reply),
        }
    }

    /// Where one of the tasks on the host's network asks, of which some have servers of their own.
    async fn servers_of_caller(self: &Arc<Self>, from: From) -> Arc<[IpAddr]> {
        let (snapshot, resolver) = (self.world.snapshot(), self.clone());
        // Many files are read for it.
        let found = tokio::task::spawn_blocking(move || match resolver.cgroups.get_or_init(detect_cgroups) {
            Some(cgroups) => upstreams::of_caller(&snapshot, from.peer, from.transport, cgroups),
            None => Upstreams::Hosts,
        });
        match found.await {
            Ok(Upstreams::Own(own)) => own,
            Ok(Upstreams::Hosts | Upstreams::OfCaller) | Err(_) => self.servers.get(),
        }
    }

    /// Joins whoever asks the same, or goes first. It goes on when the one who asked has gone.
    fn flight(self: &Arc<Self>, query: &Query, servers: &Arc<[IpAddr]>, key: &[u8]) -> Flight {
        let mut flights = lock(&self.flights);
        if let Some(flight) = flights.get(key) {
            return flight.clone();
        }
        let (landing, flight) = watch::channel(None);
        let key: Box<[u8]> = key.into();
        flights.insert(key.clone(), flight.clone());
        let (resolver, query, servers) = (self.clone(), query.clone(), servers.clone());
        tokio::spawn(async move {
            let answer = Arc::new(resolver.fetch(&query, &servers).await);
            lock(&resolver.cache).insert(&key, answer.clone(), resolver.started.elapsed());
            lock(&resolver.flights).remove(&key);
            // Nobody may be waiting any more.
            landing.send_replace(Some(answer));
        });
        flight
    }

    async fn fetch(&self, query: &Query, servers: &[IpAddr]) -> Answer {
        let asking = async {
            let _place = self.exchanges.acquire().await.ok()?;
            ask::ask(query, servers, &self.reputation).await
        };
        let answer = timeout(BUDGET, asking).await.ok().flatten();
        answer.unwrap_or_else(|| Answer::failure(query, kind::SERVER_FAILURE))
    }

    /// There is no answer to be had. A client with a search domain asks for one of our names below that domain first, and
    /// musl's does not go on after a failure: it is told that there is no such name, and asks for ours.
    fn failure(&self, asker: &Asker, query: &Query) -> Answer {
        let zone = self.zone();
        let is_ours_otherwise = asker.search(&self.world).iter().any(|domain| zone.has_below(query, domain));
        Answer::failure(query, if is_ours_otherwise { kind::NAME_ERROR } else { kind::SERVER_FAILURE })
    }
}

fn detect_cgroups() -> Option<Cgroups> {
    Cgroups::detect().inspect_err(|error| warn!(%error, "nobody in host mode is told from others")).ok()
}

/// What is behind these locks is whole whenever nobody holds them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
