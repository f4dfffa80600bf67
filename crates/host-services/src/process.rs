//! The process: it finds the tasks, has a session with each supervisor, and ends when no task is left.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use agent::Host;
use agent::recovery::chain;
use ecs::TaskId;
use ecs::task::LastStatus;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use runtime::cgroup::CgroupError;
use runtime::client::{self, ClientError};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use crate::directory::Directory;
use crate::firewall;
use crate::http::{self, Http};
use crate::loopback6;
use crate::resolver::{self, RESOLV_CONF, Resolver};
use crate::sessions::{self, Answerable, News, Place, ServedSocket};
use crate::world::{Snapshot, Task, World};

/// How long the process stays when the last task has gone, milliseconds: the next one may come at once.
const LINGER_MS: u64 = 100;

/// Changes among the directories come in bunches; so long after the first of one they are looked at, milliseconds.
const GATHER_MS: u64 = 3;

/// How soon a session that failed is tried again, milliseconds; twice as long after each further failure.
const FIRST_RETRY_MS: u64 = 50;
const LONGEST_RETRY_MS: u64 = 30_000;

/// How long nobody is answered at the begin because a supervisor has not told how its task stands, milliseconds.
const SETTLE_MS: u64 = 500;

/// How often a supervisor is looked for that has not come yet, milliseconds, beside being told when it does.
const LOOK_AGAIN_MS: u64 = 5_000;

/// What sessions have told and nobody has heard yet; then they wait.
const NEWS: usize = 64;

/// Descriptors, if the kernel gives as many: 500 tasks of ten containers have 15,000 sockets, and their callers' come on
/// top.
const DESCRIPTORS: u64 = 1 << 18;

/// Threads that look at files for those who ask; more requests than that wait for each other.
const LOOKERS: usize = 8;

/// So long after the last news of a task the process gives back what it has of the executable, milliseconds: most of it is
/// for a session's begin and end.
const SHED_AFTER_MS: u64 = 1_000;

/// For what still runs when the process ends: look-ups of files.
const SHUTDOWN: Duration = Duration::from_millis(200);

#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("no loop to wait in")]
    Runtime(#[source] io::Error),
    #[error("the host's cgroups cannot be found")]
    Cgroups(#[source] CgroupError),
    #[error("cannot listen to signals")]
    Signals(#[source] io::Error),
    #[error("cannot watch {path}", path = path.display())]
    Watch {
        path: std::path::PathBuf,
        #[source]
        cause: io::Error,
    },
}

/// Serves every task of this host until there is none, or until the process is told to end. One thread.
///
/// # Errors
/// The tasks cannot be watched.
pub fn run(host: &Host) -> Result<(), ProcessError> {
    raise_descriptor_limit();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().max_blocking_threads(LOOKERS).build().map_err(ProcessError::Runtime)?;
    let outcome = runtime.block_on(async { Services::new(host)?.run().await });
    runtime.shutdown_timeout(SHUTDOWN);
    outcome
}

/// As high as allowed. With less, fewer callers are answered at a time.
fn raise_descriptor_limit() {
    let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let most = hard.max(DESCRIPTORS);
    if setrlimit(Resource::RLIMIT_NOFILE, most, most).is_err()
        && let Err(errno) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(%errno, "the limit of descriptors stays as it is");
    }
}

struct Services<'a> {
    host: &'a Host,
    directory: Directory,
    tasks: BTreeMap<TaskId, Known>,
    world: watch::Sender<Arc<Snapshot>>,
    answering: Arc<Answering>,
    /// Those found at first that have told nothing yet.
    unsettled: BTreeSet<TaskId>,
    settled: watch::Sender<bool>,
    /// The directories could not be read.
    blind_until: Option<Instant>,
    sender: mpsc::Sender<News>,
    news: mpsc::Receiver<News>,
    /// Answering everything; dropped, they end.
    sessions: JoinSet<()>,
    terminate: Signal,
    interrupt: Signal,
}

/// A task's run directory, and how far its session is.
#[derive(Debug)]
enum Known {
    /// A session runs. It has told how the task stands, or not yet.
    InSession { task: Option<Task>, failures: u32, session: AbortHandle },
    /// Nobody listens there (yet).
    Absent,
    /// The last session failed.
    Failed { again_at: Instant, failures: u32 },
}

impl Known {
    fn is_in_session(&self) -> bool {
        matches!(self, Known::InSession { .. })
    }
}

impl<'a> Services<'a> {
    fn new(host: &'a Host) -> Result<Services<'a>, ProcessError> {
        let path = host.roots.run.join("tasks");
        let directory = Directory::watch(&path).map_err(|cause| ProcessError::Watch { path, cause })?;
        let (world, newest) = watch::channel(Arc::new(Snapshot::default()));
        let (settled, is_settled) = watch::channel(false);
        let newest = World::new(newest);
        let http = Http::new(newest.clone(), host.clone()).map_err(ProcessError::Cgroups)?;
        let resolver = Resolver::new(newest, RESOLV_CONF.into());
        let (sender, news) = mpsc::channel(NEWS);
        Ok(Services {
            host,
            directory,
            tasks: BTreeMap::new(),
            world,
            answering: Arc::new(Answering { http: Arc::new(http), resolver, settled: is_settled }),
            unsettled: BTreeSet::new(),
            settled,
            blind_until: None,
            sender,
            news,
            sessions: JoinSet::new(),
            terminate: signal(SignalKind::terminate()).map_err(ProcessError::Signals)?,
            interrupt: signal(SignalKind::interrupt()).map_err(ProcessError::Signals)?,
        })
    }

    async fn run(mut self) -> Result<(), ProcessError> {
        tracing::info!(pid = std::process::id(), "serving");
        // It ends with the loop.
        tokio::spawn(loopback6::serve(World::new(self.world.subscribe())));
        self.look();
        self.unsettled =
            self.tasks.iter().filter(|(_, known)| known.is_in_session()).map(|(id, _)| id.clone()).collect();
        let patience = sleep(Duration::from_millis(SETTLE_MS));
        let mut patience = std::pin::pin!(patience);
        let mut settled = false;
        // Ends with this.
        let mut watching = JoinSet::new();
        let (mut idle, mut shed_at) = (None, None);
        loop {
            if !settled && (self.unsettled.is_empty() || patience.is_elapsed()) {
                settled = true;
                self.settled.send_replace(true);
                watching.spawn(firewall::watch(self.host.clone(), World::new(self.world.subscribe())));
            }
            let next = self.next_look();
            // Since when, so that whatever else goes on does not put the end off.
            idle = if self.sessions.is_empty() { idle.or(Some(Instant::now())) } else { None };
            let end = idle.map(|since| since + Duration::from_millis(LINGER_MS));
            tokio::select! {
                changed = self.directory.changed() => {
                    if let Err(cause) = changed {
                        tracing::warn!(%cause, "the tasks' directory cannot be watched");
                        sleep(Duration::from_millis(FIRST_RETRY_MS)).await;
                    }
                    // Its own events may be the most, and are all read then.
                    sleep(Duration::from_millis(GATHER_MS)).await;
                    self.look();
                }
                Some(news) = self.news.recv() => {
                    self.hear(news);
                    shed_at = Some(Instant::now() + Duration::from_millis(SHED_AFTER_MS));
                }
                () = sleep_until(shed_at.unwrap_or_else(Instant::now)), if shed_at.is_some() => {
                    shed_at = None;
                    if let Err(cause) = runtime::memory::shed() {
                        tracing::warn!(%cause, "no memory given back");
                    }
                }
                Some(_) = self.sessions.join_next() => {}
                () = patience.as_mut(), if !settled => {}
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => self.look(),
                () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => {
                    // Once more, since whoever starts just now does not start another process.
                    self.look();
                    if self.sessions.is_empty() {
                        tracing::info!("no task is left");
                        return Ok(());
                    }
                }
                _ = self.terminate.recv() => break,
                _ = self.interrupt.recv() => break,
            }
        }
        tracing::info!("told to end");
        Ok(())
    }

    /// Looks at all directories and begins the sessions that are missing.
    fn look(&mut self) {
        let present = match self.directory.tasks() {
            Ok(present) => present,
            Err(cause) => {
                tracing::warn!(%cause, "the tasks' directory cannot be read; looking again");
                self.blind_until = Some(Instant::now() + Duration::from_millis(LOOK_AGAIN_MS));
                return;
            }
        };
        self.blind_until = None;
        let gone = |task: &TaskId| !present.contains(task);
        let awaited: Vec<TaskId> = self.directory.awaited().filter(|task| gone(task)).cloned().collect();
        awaited.iter().for_each(|task| self.directory.forget(task));
        let mut ended = false;
        self.tasks.retain(|task, known| {
            if gone(task)
                && let Known::InSession { session, .. } = known
            {
                // Its supervisor removes the directory when nobody is left who could call.
                session.abort();
                ended = true;
            }
            !gone(task)
        });
        if ended {
            self.publish();
        }
        for task in present {
            let failures = match self.tasks.get(&task) {
                None | Some(Known::Absent) => 0,
                Some(Known::InSession { .. }) => continue,
                Some(Known::Failed { again_at, .. }) if Instant::now() < *again_at => continue,
                Some(Known::Failed { failures, .. }) => *failures,
            };
            let known = self.begin(&task, failures);
            self.tasks.insert(task, known);
        }
    }

    fn begin(&mut self, task: &TaskId, failures: u32) -> Known {
        // Before the look, so that nothing comes between them.
        self.directory.await_supervisor(task);
        let places = self.host.roots.places(task);
        match client::serve(&places.run) {
            Ok(service) => {
                self.directory.forget(task);
                let place = Place { task: task.clone(), state: places.state };
                let answering = Arc::clone(&self.answering);
                let answer = move |on: &mut JoinSet<()>, socket| answering.begin(on, socket);
                let session = self.sessions.spawn(sessions::run(service, place, self.sender.clone(), answer));
                Known::InSession { task: None, failures, session }
            }
            Err(ClientError::Gone { .. }) => Known::Absent,
            Err(error) => failed(task, &error, failures),
        }
    }

    /// When to look though nobody has told of a change.
    fn next_look(&self) -> Option<Instant> {
        let at = |known: &Known| match known {
            Known::InSession { .. } => None,
            Known::Absent => Some(Instant::now() + Duration::from_millis(LOOK_AGAIN_MS)),
            Known::Failed { again_at, .. } => Some(*again_at),
        };
        let next = self.tasks.values().filter_map(at).min();
        // What is due does not matter while nothing can be seen.
        self.blind_until.or(next)
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Stands(stands) => {
                let id = stands.spec.id.clone();
                self.unsettled.remove(&id);
                if let Some(Known::InSession { task, failures, .. }) = self.tasks.get_mut(&id) {
                    if task.is_none() {
                        tracing::info!(task = %id, "served");
                    }
                    *task = Some(stands);
                    *failures = 0;
                }
            }
            News::Ended { task, why } => {
                self.unsettled.remove(&task);
                let Some(Known::InSession { failures, .. }) = self.tasks.get(&task) else { return };
                let known = match why {
                    Ok(()) => {
                        tracing::info!(%task, "not served any more");
                        // A supervisor that has just ended has nothing more to say; its directory goes.
                        failed_quietly(*failures)
                    }
                    Err(error) => failed(&task, &error, *failures),
                };
                self.tasks.insert(task, known);
            }
        }
        self.publish();
    }

    fn publish(&self) {
        let stands = self.tasks.values().filter_map(|known| match known {
            Known::InSession { task: Some(task), .. } => Some(task.clone()),
            Known::InSession { task: None, .. } | Known::Absent | Known::Failed { .. } => None,
        });
        let mut tasks: Vec<Task> = stands.filter(|task| task.status.last_status != LastStatus::Stopped).collect();
        tasks.sort_unstable_by(|one, other| {
            (one.spec.created_at, &one.spec.id).cmp(&(other.spec.created_at, &other.spec.id))
        });
        self.world.send_replace(Arc::new(Snapshot { tasks }));
    }
}

/// Told once; an older build's supervisor refuses for ever.
fn failed(task: &TaskId, error: &dyn std::error::Error, failures: u32) -> Known {
    if failures == 0 {
        tracing::warn!(%task, error = chain(error), "not served; trying again from time to time");
    }
    failed_quietly(failures)
}

fn failed_quietly(failures: u32) -> Known {
    let pause = FIRST_RETRY_MS.saturating_mul(1 << failures.min(16)).min(LONGEST_RETRY_MS);
    Known::Failed { again_at: Instant::now() + Duration::from_millis(pause), failures: failures + 1 }
}

/// Everybody who answers, for all sockets.
struct Answering {
    http: Arc<Http>,
    resolver: Arc<Resolver>,
    /// Before that, a name may be unknown only because its task is.
    settled: watch::Receiver<bool>,
}

impl Answering {
    fn begin(&self, on: &mut JoinSet<()>, answerable: Answerable) {
        let Answerable { origin, socket } = answerable;
        let mut settled = self.settled.clone();
        let (http, resolver) = (Arc::clone(&self.http), Arc::clone(&self.resolver));
        on.spawn(async move {
            // The process ends where nobody can say it any more.
            if settled.wait_for(|settled| *settled).await.is_err() {
                return;
            }
            let place = origin.clone();
            let error = match socket {
                ServedSocket::Http(listener) => return http::serve(listener, origin, http).await,
                ServedSocket::DnsTcp(listener) => resolver::serve_tcp(resolver, listener, origin).await,
                ServedSocket::DnsUdp(socket) => resolver::serve_udp(resolver, socket, origin).await,
            };
            tracing::warn!(origin = ?place, %error, "a socket is of no use any more");
        });
    }
}
