//! The loop of a container instance, which owns all that is known of its tasks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use agent_protocol::session::{AssignedTask, Assignment, FromInstance, Generation, Hello, TaskReport, ToInstance};
use agent_protocol::{Command, TaskSpec, TaskStatus};
use ecs::task::LastStatus;
use ecs::{ContainerInstanceId, TaskId};
use runtime::task_dir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::adopt::{self, Found};
use super::connection::{self, Heard, Peer, Refused};
use super::ctl::{self, CtlError};
use super::disk::{Disk, DiskError, Ended, Identity, Kept};
use super::exec;
use super::here::{self, End, Here};
use super::introspection::Shown;
use super::reconcile::{self, Standing, Step, Why};
use super::register::{self, FactsError, Settings};
use super::report::Around;
use super::start::{Cancel, Starter, ended};
use super::{clock, verdict};
use crate::host::Host;
use crate::recovery::{self, Network, chain};
use crate::wanted_images::Unreachable;

/// At one time: each has a thread, and may be pulling.
const STARTS: usize = 16;
/// What happens here and has not been looked at.
const EVENTS: usize = 1_024;
/// What the control plane has said and has not been looked at.
const HEARD: usize = 64;
/// Tasks of one report, but for the first, which has all.
const REPORTED: usize = 512;
/// ECS_ENGINE_TASK_CLEANUP_WAIT_DURATION's default.
const RETENTION: Duration = Duration::from_secs(3 * 3_600);
/// Of stopped tasks; the oldest go before their time.
const KEPT: usize = 1_000;
/// After something could not be done that a full disk or a lack of descriptors may have stopped.
const TRY_AGAIN: Duration = Duration::from_secs(5);
const STOP_ATTEMPTS: u32 = 5;
/// A task whose logs are still being shipped is removed later.
const REMOVE_AGAIN: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("what the agent has written down cannot be used")]
    Disk(#[source] DiskError),
    #[error("this host cannot be described")]
    Facts(#[source] FactsError),
    #[error("the agent's own thread ended")]
    Thread(#[source] tokio::task::JoinError),
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// What happens on this host.
enum Event {
    Started {
        id: TaskId,
        outcome: Result<Box<TaskSpec>, Ended>,
    },
    Status {
        id: TaskId,
        status: Box<TaskStatus>,
    },
    /// The supervisor's socket has closed: its directory has the last word.
    WatchEnded {
        id: TaskId,
    },
    Found {
        id: TaskId,
        found: Found,
    },
    Removed {
        id: TaskId,
        outcome: Result<(), String>,
    },
}

struct Instance {
    starter: Arc<Starter>,
    host_name: String,
    identity: Option<Identity>,
    assignment: Option<Assignment>,
    /// Where each task is in the assignment.
    places: BTreeMap<TaskId, usize>,
    /// Newer than `assignment`, which could not be written down.
    unwritten: Option<Assignment>,
    try_again_at: Option<Instant>,
    here: BTreeMap<TaskId, Here>,
    versions_before: BTreeMap<TaskId, u64>,
    /// In the order in which they are to begin.
    waiting: VecDeque<TaskId>,
    starting: usize,
    released: BTreeMap<TaskId, Instant>,
    removals: BTreeSet<(Instant, TaskId)>,
    execs: exec::Sessions,
    events: mpsc::Sender<Event>,
    outgoing: Option<mpsc::Sender<FromInstance>>,
    whole_report_is_due: bool,
    written_is_due: bool,
    changed: BTreeSet<TaskId>,
    hello: watch::Sender<Hello>,
    shown: watch::Sender<Shown>,
}

/// Runs until the control plane refuses this instance; its tasks go on then, as they do when this is dropped. `connect`
/// dials; `shown` is what the introspection API tells of the instance.
///
/// # Errors
/// `Refused`, or why it cannot begin.
pub async fn run<Connect, Connecting, Stream>(
    host: Host,
    settings: &Settings,
    peer: Peer,
    connect: Connect,
    shown: watch::Sender<Shown>,
) -> Result<Infallible, RunError>
where
    Connect: Fn() -> Connecting,
    Connecting: Future<Output = io::Result<Stream>>,
    Stream: AsyncRead + AsyncWrite + Unpin,
{
    let hello = register::hello(settings).map_err(RunError::Facts)?;
    let disk = Disk::open(&host.roots.data).map_err(RunError::Disk)?;
    let starter = Arc::new(Starter {
        host,
        disk,
        boot_id: hello.boot_id.clone(),
        pull: settings.pull,
        unreachable: Arc::new(Unreachable::default()),
    });
    let (events, happening) = mpsc::channel(EVENTS);
    let adopting = tokio::task::spawn_blocking({
        let (starter, hello) = (Arc::clone(&starter), hello.clone());
        move || adopted(starter, hello, events, shown)
    });
    let mut instance = adopting.await.map_err(RunError::Thread)?.map_err(RunError::Disk)?;
    instance.begin();
    let (heard, hearing) = mpsc::channel(HEARD);
    let hello = instance.hello.subscribe();
    let refused = tokio::select! {
        refused = connection::hold(connect, peer, hello, heard) => refused,
        never = instance.run(hearing, happening) => match never {},
    };
    Err(refused.into())
}

/// What was here before, and its state as far as a look at the disk tells.
fn adopted(
    starter: Arc<Starter>,
    hello: Hello,
    events: mpsc::Sender<Event>,
    shown: watch::Sender<Shown>,
) -> Result<Instance, DiskError> {
    recovery::recover(&starter.host, Network::Always, clock::now());
    let identity = starter.disk.identity()?;
    let mut kept = starter.disk.assignment().unwrap_or_else(|error| {
        // Its control plane has it, and sends it again.
        tracing::error!(error = chain(&error), "the last assignment is lost");
        None
    });
    let adopted = here::adopt(&starter, kept.as_ref(), &hello.host_name)?;
    if let Some(kept) = &mut kept
        && kept.boot_id != starter.boot_id
    {
        kept.boot_id = starter.boot_id.clone();
        starter.disk.write_assignment(kept)?;
    }
    let assignment = kept.map(|kept| kept.assignment);
    let written = assignment.as_ref().map(|assignment| assignment.generation).unwrap_or_default();
    let known = register::known(&hello, identity.as_ref().map(|identity| &identity.instance), written);
    let mut instance = Instance {
        starter,
        host_name: hello.host_name,
        identity,
        assignment: None,
        places: BTreeMap::new(),
        unwritten: None,
        try_again_at: None,
        here: adopted.here,
        versions_before: adopted.versions_before,
        waiting: VecDeque::new(),
        starting: 0,
        released: BTreeMap::new(),
        removals: BTreeSet::new(),
        execs: exec::Sessions::default(),
        events,
        outgoing: None,
        whole_report_is_due: false,
        written_is_due: false,
        changed: BTreeSet::new(),
        hello: watch::Sender::new(known),
        shown,
    };
    if let Some(assignment) = assignment {
        instance.take(assignment);
    }
    Ok(instance)
}

impl Instance {
    /// Goes on with what was found, before there is any connection.
    fn begin(&mut self) {
        let ids: Vec<TaskId> = self.here.keys().cloned().collect();
        for id in ids {
            match &self.here[&id] {
                Here::Living { .. } => self.watch(id),
                Here::Settling { .. } => self.find(id),
                Here::Waiting(_) | Here::Starting { .. } | Here::Stopped(_) => {}
            }
        }
        if !self.here.is_empty() {
            tracing::info!(tasks = self.here.len(), "tasks of this instance are here already");
        }
        self.show();
        self.reconcile();
    }

    async fn run(&mut self, mut hearing: mpsc::Receiver<Heard>, mut happening: mpsc::Receiver<Event>) -> Infallible {
        loop {
            let outgoing = self.outgoing.clone().filter(|_| self.has_to_tell());
            let (remove_at, try_again_at) = (self.removals.first().map(|(at, _)| *at), self.try_again_at);
            tokio::select! {
                heard = hearing.recv() => match heard {
                    Some(heard) => self.hear(heard).await,
                    // The connection is at its end, and says why.
                    None => std::future::pending().await,
                },
                event = happening.recv() => match event {
                    Some(event) => self.happened(event),
                    None => unreachable!("the instance has a sender of its own"),
                },
                permit = reserve(outgoing) => match permit {
                    Some(permit) => drop(permit.send(self.message())),
                    // The connection has gone; `Lost` comes.
                    None => self.outgoing = None,
                },
                () = at(remove_at) => self.remove_due(),
                () = at(try_again_at) => self.try_again().await,
            }
        }
    }

    fn written(&self) -> Generation {
        self.assignment.as_ref().map(|assignment| assignment.generation).unwrap_or_default()
    }

    fn assigned(&self, id: &TaskId) -> Option<&AssignedTask> {
        self.assignment.as_ref()?.tasks.get(*self.places.get(id)?)
    }

    async fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Welcome { instance, cluster, outgoing } => self.welcome(instance, cluster, outgoing),
            Heard::Lost => {
                self.outgoing = None;
                self.execs.close_all();
            }
            Heard::Message(message) => match *message {
                ToInstance::Assignment(assignment) => self.assign(assignment).await,
                ToInstance::OpenExec(open) => self.open_exec(open),
                ToInstance::ExecInput { session, bytes } => self.execs.input(&session, bytes),
                ToInstance::ExecResize { session, rows, columns } => self.execs.resize(&session, rows, columns),
                ToInstance::CloseExec { session } => self.execs.close(&session),
                ToInstance::Welcome { .. }
                | ToInstance::Refused { .. }
                | ToInstance::StillThere
                | ToInstance::StillHere => {}
            },
        }
    }

    fn welcome(&mut self, instance: ContainerInstanceId, cluster: String, outgoing: mpsc::Sender<FromInstance>) {
        tracing::info!(%instance, cluster, "connected to the control plane");
        let identity = Identity { instance, cluster };
        if self.identity.as_ref() != Some(&identity) {
            if let Err(error) = self.starter.disk.write_identity(&identity) {
                // Without it the next process would come as another instance.
                tracing::error!(error = chain(&error), "this instance's identity is not written down");
            }
            self.hello.send_modify(|hello| hello.instance = Some(identity.instance.clone()));
            self.identity = Some(identity);
            self.show();
        }
        self.outgoing = Some(outgoing);
        self.whole_report_is_due = true;
    }

    fn show(&self) {
        let shown = Shown {
            cluster: self.hello.borrow().cluster.clone(),
            instance: self.identity.as_ref().map(|identity| identity.instance.clone()),
        };
        self.shown.send_replace(shown);
    }

    /// Written down before anything is done about it. What is not newer does nothing.
    async fn assign(&mut self, assignment: Assignment) {
        let newest = self.unwritten.as_ref().map_or(self.written(), |unwritten| unwritten.generation);
        if assignment.generation <= newest {
            let Generation { epoch, generation } = assignment.generation;
            tracing::debug!(epoch, generation, "an assignment that is not newer is ignored");
            return;
        }
        self.write_down(assignment).await;
    }

    async fn write_down(&mut self, assignment: Assignment) {
        let starter = Arc::clone(&self.starter);
        let kept = Kept { boot_id: starter.boot_id.clone(), assignment };
        let writing = tokio::task::spawn_blocking(move || (starter.disk.write_assignment(&kept), kept.assignment));
        // A thread that panicked was told of by itself, and its assignment comes again with the next.
        let Ok((written, assignment)) = writing.await else { return };
        match written {
            Ok(()) => {
                (self.unwritten, self.try_again_at) = (None, None);
                self.hello.send_modify(|hello| hello.written = assignment.generation);
                self.written_is_due = true;
                self.take(assignment);
                self.reconcile();
            }
            Err(error) => {
                tracing::error!(
                    error = chain(&error),
                    "an assignment cannot be written down; nothing of it is started"
                );
                let steps = reconcile::steps(&self.standings(), &assignment.tasks);
                // What stops makes room, maybe on that very disk.
                self.carry_out(steps.into_iter().filter(|step| matches!(step, Step::Stop { .. })));
                self.unwritten = Some(assignment);
                self.try_again_at = Some(Instant::now() + TRY_AGAIN);
            }
        }
    }

    async fn try_again(&mut self) {
        self.try_again_at = None;
        if let Some(assignment) = self.unwritten.clone() {
            self.write_down(assignment).await;
        }
    }

    fn take(&mut self, assignment: Assignment) {
        let places = assignment.tasks.iter().enumerate().rev().map(|(place, task)| (task.id.clone(), place));
        self.places = places.collect();
        self.assignment = Some(assignment);
    }

    fn standings(&self) -> BTreeMap<TaskId, Standing> {
        self.here.iter().map(|(id, here)| (id.clone(), here.standing())).collect()
    }

    fn reconcile(&mut self) {
        // Without any assignment nobody has said that what runs is not wanted.
        let Some(assignment) = &self.assignment else { return };
        let steps = reconcile::steps(&self.standings(), &assignment.tasks);
        self.carry_out(steps.into_iter());
        self.start_more();
    }

    fn carry_out(&mut self, steps: impl Iterator<Item = Step>) {
        for step in steps {
            match step {
                Step::Start(task) => {
                    self.waiting.push_back(task.id.clone());
                    self.here.insert(task.id.clone(), Here::Waiting(task));
                }
                Step::NeverStart { id, why } => self.never_start(id, why),
                Step::Stop { id, why } => self.stop(id, why),
                Step::Release(id) => self.release(id),
            }
        }
    }

    fn never_start(&mut self, id: TaskId, why: Why) {
        let ended = ended(why);
        // It was not begun, so that nothing but this mark says that it is not to be.
        self.starter.write_end(&id, self.versions_before(&id), &ended);
        self.settle(id, End::Untold(ended));
    }

    fn versions_before(&self, id: &TaskId) -> u64 {
        self.versions_before.get(id).copied().unwrap_or(0)
    }

    fn stop(&mut self, id: TaskId, why: Why) {
        tracing::info!(task = %id, reason = why.reason, "a task is asked to stop");
        match self.here.get_mut(&id) {
            Some(Here::Waiting(_)) => {
                self.waiting.retain(|waiting| *waiting != id);
                self.never_start(id, why);
            }
            Some(Here::Starting { cancel, stop }) => {
                cancel.set(why.clone());
                *stop = Some(why);
            }
            Some(Here::Settling { stop }) => *stop = Some(why),
            Some(Here::Living { stop, .. }) => {
                *stop = Some(why.clone());
                self.tell_stop(&id, why);
            }
            Some(Here::Stopped(_)) | None => {}
        }
    }

    fn tell_stop(&self, id: &TaskId, why: Why) {
        let (id, places) = (id.clone(), self.starter.host.roots.places(id));
        tokio::spawn(async move {
            let command = Command::Stop { stop_code: why.code, reason: why.reason };
            for _ in 0..STOP_ATTEMPTS {
                match ctl::tell(&places, &command).await {
                    // It is ending or has ended; the watch tells.
                    Ok(()) | Err(CtlError::Gone(_)) => return,
                    Err(error) => tracing::warn!(task = %id, error = chain(&error), "a task cannot be asked to stop"),
                }
                tokio::time::sleep(TRY_AGAIN).await;
            }
        });
    }

    fn start_more(&mut self) {
        while self.starting < STARTS
            && let Some(id) = self.waiting.pop_front()
        {
            let Some(Here::Waiting(assigned)) = self.here.remove(&id) else { continue };
            let cancel = Cancel::default();
            let (starter, events) = (Arc::clone(&self.starter), self.events.clone());
            let (before, theirs) = (self.versions_before(&id), cancel.clone());
            self.here.insert(id.clone(), Here::Starting { cancel, stop: None });
            let work = move || {
                let outcome = starter.start(&assigned, before, &theirs);
                // Where nobody listens any more, the next process finds what has become of it.
                events.blocking_send(Event::Started { id: assigned.id.clone(), outcome }).ok();
            };
            self.starting += 1;
            if let Err(error) = std::thread::Builder::new().name("start".to_owned()).spawn(work) {
                self.starting -= 1;
                self.never_start(id, verdict::resource(&error));
            }
        }
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::Started { id, outcome } => self.started(id, outcome),
            Event::Status { id, status } => self.status(id, status),
            Event::WatchEnded { id } => {
                if let Some(Here::Living { stop, .. }) = self.here.get_mut(&id) {
                    let stop = stop.take();
                    self.here.insert(id.clone(), Here::Settling { stop });
                    self.find(id);
                }
            }
            Event::Found { id, found } => self.found(id, found),
            Event::Removed { id, outcome } => self.removed(id, outcome),
        }
    }

    fn started(&mut self, id: TaskId, outcome: Result<Box<TaskSpec>, Ended>) {
        self.starting -= 1;
        match outcome {
            Ok(spec) => {
                let stop = match self.here.get_mut(&id) {
                    Some(Here::Starting { stop, .. }) => stop.take(),
                    _ => None,
                };
                self.live(id, spec, stop);
            }
            Err(ended) => self.settle(id, End::Untold(ended)),
        }
        self.start_more();
    }

    fn live(&mut self, id: TaskId, spec: Box<TaskSpec>, stop: Option<Why>) {
        if let Some(why) = &stop {
            self.tell_stop(&id, why.clone());
        }
        self.here.insert(id.clone(), Here::Living { spec, status: None, stop });
        self.watch(id);
    }

    fn watch(&self, id: TaskId) {
        let (events, places) = (self.events.clone(), self.starter.host.roots.places(&id));
        tokio::spawn(async move {
            if let Err(error) = watched(&id, &places, &events).await {
                tracing::debug!(task = %id, error = chain(&error), "a supervisor's socket cannot be watched");
            }
            events.send(Event::WatchEnded { id }).await.ok();
        });
    }

    fn status(&mut self, id: TaskId, new: Box<TaskStatus>) {
        let Some(Here::Living { status, .. }) = self.here.get_mut(&id) else { return };
        let has_stopped = new.last_status == LastStatus::Stopped;
        *status = Some(new);
        self.changed.insert(id.clone());
        if has_stopped && let Some(Here::Living { spec, status: Some(status), .. }) = self.here.remove(&id) {
            self.settle(id, End::Told(spec, status));
        }
    }

    /// It has stopped, and is told so until nobody asks.
    fn settle(&mut self, id: TaskId, end: End) {
        self.here.insert(id.clone(), Here::Stopped(end));
        self.changed.insert(id.clone());
        if !self.places.contains_key(&id) {
            self.release(id);
        }
    }

    fn find(&self, id: TaskId) {
        let (starter, events, theirs) = (Arc::clone(&self.starter), self.events.clone(), id.clone());
        let spawned = std::thread::Builder::new().name("find".to_owned()).spawn(move || {
            let found = adopt::find(&starter.host, &theirs);
            events.blocking_send(Event::Found { id: theirs, found }).ok();
        });
        if let Err(error) = spawned {
            self.find_later(id, &error.to_string());
        }
    }

    fn find_later(&self, id: TaskId, why: &str) {
        tracing::warn!(task = %id, why, "how a task stands is not known; it is asked again");
        let events = self.events.clone();
        tokio::spawn(async move {
            tokio::time::sleep(TRY_AGAIN).await;
            events.send(Event::Found { id, found: Found::Unclear(String::new()) }).await.ok();
        });
    }

    fn found(&mut self, id: TaskId, found: Found) {
        let Some(Here::Settling { stop }) = self.here.get_mut(&id) else { return };
        match found {
            Found::Living(spec) => {
                let stop = stop.take();
                self.live(id, spec, stop);
            }
            Found::Stopped(spec, status) => self.settle(id, End::Told(spec, status)),
            Found::Nothing => {
                let ended = ended(verdict::interrupted());
                self.starter.write_end(&id, self.versions_before(&id), &ended);
                self.settle(id, End::Untold(ended));
            }
            // A turn of its own comes from `find_later`, with nothing to say.
            Found::Unclear(why) if why.is_empty() => self.find(id),
            Found::Unclear(why) => self.find_later(id, &why),
        }
    }

    /// Its directory goes after a time; beyond a number of them, the oldest go first.
    fn release(&mut self, id: TaskId) {
        if self.released.contains_key(&id) {
            return;
        }
        let now = Instant::now();
        self.remove_at(id, now + RETENTION);
        if self.removals.len() > KEPT
            && let Some((_, oldest)) = self.removals.pop_first()
        {
            self.remove_at(oldest, now);
        }
    }

    fn remove_at(&mut self, id: TaskId, at: Instant) {
        self.released.insert(id.clone(), at);
        self.removals.insert((at, id));
    }

    fn remove_due(&mut self) {
        let now = Instant::now();
        while self.removals.first().is_some_and(|(at, _)| *at <= now)
            && let Some((_, id)) = self.removals.pop_first()
        {
            let (starter, events) = (Arc::clone(&self.starter), self.events.clone());
            tokio::task::spawn_blocking(move || {
                let outcome = remove(&starter, &id);
                events.blocking_send(Event::Removed { id, outcome }).ok();
            });
        }
    }

    fn removed(&mut self, id: TaskId, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => {
                self.released.remove(&id);
                self.here.remove(&id);
                self.versions_before.remove(&id);
                self.changed.remove(&id);
            }
            Err(why) => {
                tracing::info!(task = %id, why, "a stopped task cannot be removed yet");
                self.remove_at(id, Instant::now() + REMOVE_AGAIN);
            }
        }
    }

    fn open_exec(&mut self, open: agent_protocol::session::OpenExec) {
        let Some(outgoing) = self.outgoing.clone() else { return };
        match self.here.get(&open.task) {
            Some(Here::Living { spec, .. }) => {
                let places = spec.places.clone();
                self.execs.open(places, open, outgoing);
            }
            Some(Here::Waiting(_) | Here::Starting { .. } | Here::Settling { .. } | Here::Stopped(_)) | None => {
                exec::refuse(&outgoing, open.session, format!("task {} does not run here", open.task));
            }
        }
    }

    fn has_to_tell(&self) -> bool {
        self.whole_report_is_due || self.written_is_due || !self.changed.is_empty()
    }

    /// The next of what there is to tell; `has_to_tell` says whether there is any.
    fn message(&mut self) -> FromInstance {
        if self.whole_report_is_due {
            self.whole_report_is_due = false;
            self.changed.clear();
            let all = self.places.keys();
            return FromInstance::Report { whole: true, tasks: all.filter_map(|id| self.report(id)).collect() };
        }
        if self.written_is_due {
            self.written_is_due = false;
            return FromInstance::Written { generation: self.written() };
        }
        let next: Vec<TaskId> = self.changed.iter().take(REPORTED).cloned().collect();
        for id in &next {
            self.changed.remove(id);
        }
        FromInstance::Report { whole: false, tasks: next.iter().filter_map(|id| self.report(id)).collect() }
    }

    fn report(&self, id: &TaskId) -> Option<TaskReport> {
        let around = Around {
            versions_before: self.versions_before(id),
            boot_id: &self.starter.boot_id,
            host_name: &self.host_name,
        };
        self.here.get(id)?.report(self.assigned(id), around)
    }
}

/// Never without a connection that has something to carry; nothing where it has gone.
async fn reserve(outgoing: Option<mpsc::Sender<FromInstance>>) -> Option<mpsc::OwnedPermit<FromInstance>> {
    match outgoing {
        Some(outgoing) => outgoing.reserve_owned().await.ok(),
        None => std::future::pending().await,
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

async fn watched(
    id: &TaskId,
    places: &agent_protocol::task_spec::Places,
    events: &mpsc::Sender<Event>,
) -> Result<(), CtlError> {
    let mut watch = ctl::watch(places).await?;
    while let Some(status) = watch.next().await? {
        if events.send(Event::Status { id: id.clone(), status }).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// The mark last: it is what says that there is something to remove.
fn remove(starter: &Starter, id: &TaskId) -> Result<(), String> {
    if starter.host.roots.places(id).state.exists() {
        task_dir::remove(&starter.host.roots, id).map_err(|error| chain(&error))?;
    }
    starter.disk.unmark(id).map_err(|error| chain(&error))
}
