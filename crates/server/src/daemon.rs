//! The whole of it: opened in the order in which each part needs the others, and ended in the reverse.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent_protocol::session::HEARTBEAT_LIMIT_MS;
use control_plane::events::Batch;
use control_plane::{Change, Changes, Settings, State};
use ecs::Timestamp;
use ecs::arn::Account;
use serde_json::json;
use tokio::io::DuplexStream;
use tokio::sync::{oneshot, watch};

use crate::control::{self, Published, Watch};
use crate::events::{Events, sink};
use crate::http::{self, Front, Listeners};
use crate::keys::{self, RootKey};
use crate::lock::{self, Lock};
use crate::metrics::Metrics;
use crate::sessions::{Peer, Sessions};
use crate::store::{self, Disk, Memory, Store};
use crate::tls::{self, Authority};
use crate::{files, notify};

/// Below the data directory.
pub const STATE_DIRECTORY: &str = "state";
/// In the run directory: the API for root of this host.
pub const SOCKET: &str = "coracle.sock";
/// Beside it: where the API is for everybody else, as JSON.
pub const WHERE: &str = "api.json";
/// Bytes on their way between the local agent and the loop.
const LOCAL_BUFFER: usize = 256 << 10;

#[derive(Clone, Debug)]
pub struct Options {
    pub data_directory: PathBuf,
    pub run_directory: PathBuf,
    pub listen: SocketAddr,
    /// There will be an agent in this very process: nobody is told to be ready before it has come.
    pub own_instance: bool,
    /// Without it a certificate of the own authority is used, where one is needed.
    pub certificate: Option<tls::Given>,
    /// Further names by which clients reach this host.
    pub names: Vec<String>,
    /// `--dev`.
    pub any_key: bool,
    /// Nothing of the state is written down.
    pub ephemeral: bool,
    /// Twelve digits.
    pub account_id: String,
    pub region: String,
    pub settings: Settings,
    pub patience: http::Patience,
    pub event_sinks: Vec<sink::Target>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("any key is accepted on loopback addresses alone, and {0} is none")]
    AnyKeyAbroad(SocketAddr),
    #[error(transparent)]
    File(#[from] files::Error),
    #[error(transparent)]
    Lock(#[from] lock::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Keys(#[from] keys::Error),
    #[error(transparent)]
    Tls(#[from] tls::Error),
    #[error(transparent)]
    Listen(#[from] http::Error),
    #[error("events cannot go to {}", .0.text)]
    Sink(sink::Target, #[source] std::io::Error),
    #[error("the control loop's thread cannot be started")]
    Thread(#[source] std::io::Error),
    #[error("the control plane stops, because what it would answer for might not be kept; running tasks go on")]
    NotDurable(#[source] store::Error),
    #[error("the control loop has broken off; running tasks go on")]
    Broken,
}

/// It listens, and answers once `run` is called.
pub struct Daemon {
    pub endpoint: String,
    pub address: SocketAddr,
    pub socket: PathBuf,
    /// Where clients find what to trust, where there is TLS with a certificate of our own authority.
    pub certificate_authority: Option<PathBuf>,
    /// What was there at the start.
    pub tasks: usize,
    front: Arc<Front>,
    listeners: Listeners,
    tls: Option<Arc<rustls::ServerConfig>>,
    ended: oneshot::Receiver<Result<(), store::Error>>,
    where_file: PathBuf,
    _lock: Lock,
}

pub async fn open(options: &Options) -> Result<Daemon, Error> {
    let is_local = options.listen.ip().is_loopback();
    if options.any_key && !is_local {
        return Err(Error::AnyKeyAbroad(options.listen));
    }
    let state_directory = options.data_directory.join(STATE_DIRECTORY);
    files::make_directory(&state_directory)?;
    std::fs::create_dir_all(&options.run_directory).map_err(|cause| files::Error {
        path: options.run_directory.clone(),
        doing: "made",
        cause,
    })?;
    let lock = lock::take(&state_directory)?;
    let key = keys::find_or_make(&state_directory)?;
    let listeners = Listeners::bind(options.listen, &options.run_directory.join(SOCKET)).await?;
    let bound = listeners.bound().map_err(|cause| http::Error::Tcp { address: options.listen, cause })?;
    let with_tls = !is_local || options.certificate.is_some();
    let authority = if with_tls { Some(Authority::find_or_make(&state_directory)?) } else { None };
    let tls = match &authority {
        Some(authority) => Some(Arc::new(authority.server(&names(options), options.certificate.as_ref())?)),
        None => None,
    };
    let endpoint = endpoint(bound.address, with_tls);
    let certificate_authority = authority.as_ref().filter(|_| options.certificate.is_none());
    let certificate_authority = certificate_authority.map(|authority| authority.path.clone());

    let (store, state) = load(options, &state_directory)?;
    let tasks = state.tasks.size();
    let metrics = Arc::new(Metrics::default());
    let (control, control_loop) = control::new(state, store, Arc::clone(&metrics));
    let sessions = Sessions::new(control.clone(), Arc::clone(&metrics));
    let own = sessions.own();
    let events = Events::new(Arc::clone(&metrics));
    for target in &options.event_sinks {
        sink::open(target, events.follow()).await.map_err(|cause| Error::Sink(target.clone(), cause))?;
    }
    let changed = Changed {
        sessions: sessions.clone(),
        events: events.clone(),
        region: options.region.clone(),
        account_id: options.account_id.clone(),
    };
    let (end, ended) = oneshot::channel();
    let thread = std::thread::Builder::new().name("control".to_owned());
    // Its end is waited for by what it sends, which comes whatever the thread's own end is.
    thread
        .spawn(move || {
            // Who started it has gone: there is nobody to tell.
            let _ = end.send(control_loop.run(changed));
        })
        .map_err(Error::Thread)?;

    let where_file = options.run_directory.join(WHERE);
    tell_where(&where_file, &endpoint, &options.region, certificate_authority.as_deref())?;
    let parts = http::Parts {
        control,
        sessions,
        metrics,
        events,
        key,
        any_key: options.any_key,
        account_id: options.account_id.clone(),
        region: options.region.clone(),
        own_instance: options.own_instance.then_some(own),
        endpoint: endpoint.clone(),
        names: names(options),
        state_directory,
        authority,
        patience: options.patience,
    };
    Ok(Daemon {
        endpoint,
        address: bound.address,
        socket: bound.socket,
        certificate_authority,
        tasks,
        front: Arc::new(Front::new(parts)),
        listeners,
        tls,
        ended,
        where_file,
        _lock: lock,
    })
}

impl Daemon {
    pub fn key(&self) -> &RootKey {
        &self.front.key
    }

    /// Returns when a RunTask that comes now finds the container instance of this very process; at once where there is to
    /// be none.
    pub fn ready(&self) -> impl Future<Output = ()> + Send + use<> {
        let own = self.front.own_instance.clone();
        async move {
            if let Some(mut own) = own
                && own.wait_for(|connected| *connected).await.is_err()
            {
                // A daemon that has ended will not be ready any more; whoever waits hears of its end.
                std::future::pending().await
            }
        }
    }

    pub fn published(&self) -> Arc<Published> {
        self.front.control.published()
    }

    /// A connection of the agent of this very process: its end.
    pub fn local(&self) -> DuplexStream {
        connect(&self.front.sessions)
    }

    /// Makes connections for an agent that outlives one.
    pub fn connector(&self) -> impl Fn() -> DuplexStream + Send + Sync + Clone + 'static {
        let (sessions, runtime) = (self.front.sessions.clone(), tokio::runtime::Handle::current());
        move || {
            let _entered = runtime.enter();
            connect(&sessions)
        }
    }

    /// Answers until `until` comes, or what was answered can no longer be kept.
    pub async fn run(self, until: impl Future<Output = ()>) -> Result<(), Error> {
        let (end, ending) = watch::channel(false);
        let front = tokio::spawn(http::serve(Arc::clone(&self.front), self.listeners, self.tls, ending));
        let sessions = self.front.sessions.clone();
        // Instances that were connected to our predecessor have this long to come back before they count as gone.
        let missing = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(HEARTBEAT_LIMIT_MS)).await;
            sessions.miss();
        });
        let mut ended = self.ended;
        let by_itself = tokio::select! {
            () = until => {
                tell(notify::STOPPING);
                None
            }
            outcome = &mut ended => Some(outcome),
        };
        // Whoever waits for an answer gets one, if only that there is none.
        let _ = end.send(true);
        let _ = front.await;
        let outcome = match by_itself {
            Some(outcome) => outcome,
            None => {
                self.front.control.stop();
                ended.await
            }
        };
        missing.abort();
        // A file of a directory that may be gone.
        let _ = files::remove(&self.where_file);
        match outcome {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Error::NotDurable(error)),
            Err(_) => Err(Error::Broken),
        }
    }
}

fn connect(sessions: &Sessions) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(LOCAL_BUFFER);
    let sessions = sessions.clone();
    tokio::spawn(async move { sessions.serve(ours, Peer::Own).await });
    theirs
}

/// Says to the service manager that it can go on.
pub fn tell_ready() {
    tell(notify::READY);
}

fn tell(state: &str) {
    if let Err(error) = notify::tell(state) {
        tracing::warn!(%error, state, "the service manager cannot be told");
    }
}

fn load(options: &Options, state_directory: &Path) -> Result<(Box<dyn Store>, State), Error> {
    let store: Box<dyn Store> =
        if options.ephemeral { Box::new(Memory) } else { Box::new(Disk::open(&state_directory.join(store::FILE))?) };
    let loaded = store.load()?;
    let mut state = State::new(loaded.epoch, options.settings.clone());
    for record in loaded.records {
        state.apply_one(&Change::Put(record));
    }
    Ok((store, state))
}

/// Everything by which clients reach this host, which a certificate of ours is to be good for.
fn names(options: &Options) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), Ipv4Addr::LOCALHOST.to_string(), Ipv6Addr::LOCALHOST.to_string()];
    if let Ok(host) = nix::unistd::gethostname() {
        names.extend(host.into_string());
    }
    if options.listen.ip().is_unspecified() {
        names.extend(addresses().iter().map(IpAddr::to_string));
    } else {
        names.push(options.listen.ip().to_string());
    }
    names.extend(options.names.iter().cloned());
    names.sort_unstable();
    names.dedup();
    names
}

/// Of all interfaces.
fn addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let address = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    };
    interfaces.filter_map(address).collect()
}

fn endpoint(address: SocketAddr, with_tls: bool) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let scheme = if with_tls { "https" } else { "http" };
    format!("{scheme}://{}", SocketAddr::new(ip, address.port()))
}

fn tell_where(path: &Path, endpoint: &str, region: &str, authority: Option<&Path>) -> Result<(), files::Error> {
    let told = json!({"endpoint": endpoint, "region": region, "certificateAuthority": authority});
    files::write(path, told.to_string().as_bytes())
}

/// Who is told of what has become durable.
struct Changed {
    sessions: Sessions,
    events: Events,
    region: String,
    account_id: String,
}

impl Watch for Changed {
    fn changed(&mut self, before: &State, after: &State, changes: &Changes, now: Timestamp) {
        self.sessions.ring(before, changes);
        if self.events.is_followed() {
            let home = Account { region: &self.region, account_id: &self.account_id };
            self.events.tell_of(&Batch { before, changes, after, now, home });
        }
    }
}
