//! The loop of a container instance, which owns all that is known of its tasks.

mod tasks;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use agent_protocol::logs::ReadLogs;
use agent_protocol::session::{AssignedTask, Assignment, FromInstance, Generation, Hello, TaskReport, ToInstance};
use agent_protocol::{TaskSpec, TaskStatus};
use ecs::{ContainerInstanceId, TaskId};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::adopt::Found;
use super::clock;
use super::connection::{self, Heard, Peer, Refused};
use super::disk::{Disk, DiskError, Ended, Identity, Kept};
use super::exec;
use super::here::{self, Here};
use super::introspection::Shown;
use super::logs;
use super::reconcile::{self, Standing, Step};
use super::register::{self, FactsError, Settings};
use super::report::Around;
use super::start::Starter;
use crate::host::Host;
use crate::recovery::{self, Network, chain};
use crate::wanted_images::Unreachable;

/// What happens here and has not been looked at.
const EVENTS: usize = 1_024;
/// What the control plane has said and has not been looked at.
const HEARD: usize = 64;
/// Tasks of one report, but for the first, which has all.
const REPORTED: usize = 512;
/// After something could not be done that a full disk or a lack of descriptors may have stopped.
const TRY_AGAIN: Duration = Duration::from_secs(5);

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
    /// An assignment is on the disk, or could not be put there.
    Written {
        assignment: Assignment,
        outcome: Result<(), DiskError>,
    },
}

struct Instance {
    starter: Arc<Starter>,
    keep_stopped: Duration,
    host_name: String,
    identity: Option<Identity>,
    assignment: Option<Assignment>,
    /// Where each task is in the assignment.
    places: BTreeMap<TaskId, usize>,
    /// Newer than `assignment`, and on its way to the disk.
    writing: Option<Generation>,
    /// Newer than both: it waits for that, or could not be written down.
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
    readings: logs::Readings,
    events: mpsc::Sender<Event>,
    outgoing: Option<mpsc::Sender<FromInstance>>,
    outgoing_logs: Option<mpsc::Sender<FromInstance>>,
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
        let (starter, hello, keep_stopped) = (Arc::clone(&starter), hello.clone(), settings.keep_stopped);
        move || adopted(starter, hello, keep_stopped, events, shown)
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
    keep_stopped: Duration,
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
    let (kept_identity, assignment) = kept.map_or((None, None), |kept| (kept.identity, Some(kept.assignment)));
    // Either file says who this is, for as long as it is what it was.
    let identity = identity.or(kept_identity);
    let written = assignment.as_ref().map(|assignment| assignment.generation).unwrap_or_default();
    let known = register::known(&hello, identity.as_ref().map(|identity| &identity.instance), written);
    let mut instance = Instance {
        starter,
        keep_stopped,
        host_name: hello.host_name,
        identity,
        assignment: None,
        places: BTreeMap::new(),
        writing: None,
        unwritten: None,
        try_again_at: None,
        here: adopted.here,
        versions_before: adopted.versions_before,
        waiting: VecDeque::new(),
        starting: 0,
        released: BTreeMap::new(),
        removals: BTreeSet::new(),
        execs: exec::Sessions::default(),
        readings: logs::Readings::default(),
        events,
        outgoing: None,
        outgoing_logs: None,
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
                    Some(heard) => self.hear(heard),
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
                () = at(try_again_at) => self.write_next(),
            }
        }
    }

    fn written(&self) -> Generation {
        self.assignment.as_ref().map(|assignment| assignment.generation).unwrap_or_default()
    }

    fn assigned(&self, id: &TaskId) -> Option<&AssignedTask> {
        self.assignment.as_ref()?.tasks.get(*self.places.get(id)?)
    }

    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Welcome { instance, cluster, outgoing, outgoing_logs } => {
                self.welcome(instance, cluster);
                (self.outgoing, self.outgoing_logs) = (Some(outgoing), Some(outgoing_logs));
            }
            Heard::Lost => {
                (self.outgoing, self.outgoing_logs) = (None, None);
                self.execs.close_all();
                self.readings.close_all();
            }
            Heard::Message(message) => match *message {
                ToInstance::Assignment(assignment) => self.assign(assignment),
                ToInstance::OpenExec(open) => self.open_exec(open),
                ToInstance::ExecInput { session, bytes } => self.execs.input(&session, bytes),
                ToInstance::ExecResize { session, rows, columns } => self.execs.resize(&session, rows, columns),
                ToInstance::CloseExec { session } => self.execs.close(&session),
                ToInstance::ReadLogs(asked) => self.read_logs(asked),
                ToInstance::MoreLogs { session } => self.readings.more(&session),
                ToInstance::CloseLogs { session } => self.readings.close(&session),
                ToInstance::Welcome { .. }
                | ToInstance::Refused { .. }
                | ToInstance::StillThere
                | ToInstance::StillHere => {}
            },
        }
    }

    fn welcome(&mut self, instance: ContainerInstanceId, cluster: String) {
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
        self.whole_report_is_due = true;
    }

    fn show(&self) {
        let shown = Shown {
            cluster: self.hello.borrow().cluster.clone(),
            instance: self.identity.as_ref().map(|identity| identity.instance.clone()),
        };
        self.shown.send_replace(shown);
    }

    /// Written down before anything is done about it. What is not newer does nothing. Of those that come during a write,
    /// the newest is the next: each is the whole, and the disk is slow.
    fn assign(&mut self, assignment: Assignment) {
        let waiting = self.unwritten.as_ref().map(|unwritten| unwritten.generation);
        if assignment.generation <= waiting.or(self.writing).unwrap_or(self.written()) {
            let Generation { epoch, generation } = assignment.generation;
            tracing::debug!(epoch, generation, "an assignment that is not newer is ignored");
            return;
        }
        self.unwritten = Some(assignment);
        self.write_next();
    }

    /// On a thread of its own: what happens here is seen to in the meantime.
    fn write_next(&mut self) {
        if self.writing.is_some() {
            return;
        }
        self.try_again_at = None;
        let Some(assignment) = self.unwritten.take() else { return };
        self.writing = Some(assignment.generation);
        let (starter, events) = (Arc::clone(&self.starter), self.events.clone());
        let identity = self.identity.clone();
        tokio::task::spawn_blocking(move || {
            let kept = Kept { boot_id: starter.boot_id.clone(), identity, assignment };
            let outcome = starter.disk.write_assignment(&kept);
            events.blocking_send(Event::Written { assignment: kept.assignment, outcome }).ok();
        });
    }

    fn has_written(&mut self, assignment: Assignment, outcome: Result<(), DiskError>) {
        self.writing = None;
        match outcome {
            Ok(()) => {
                self.hello.send_modify(|hello| hello.written = assignment.generation);
                self.written_is_due = true;
                self.take(assignment);
                self.reconcile();
                self.write_next();
            }
            Err(error) => {
                tracing::error!(
                    error = chain(&error),
                    "an assignment cannot be written down; nothing of it is started"
                );
                let newest = self.unwritten.take().unwrap_or(assignment);
                let steps = reconcile::steps(&self.standings(), &newest.tasks);
                // What stops makes room, maybe on that very disk.
                self.carry_out(steps.into_iter().filter(|step| matches!(step, Step::Stop { .. })));
                self.unwritten = Some(newest);
                self.try_again_at = Some(Instant::now() + TRY_AGAIN);
            }
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

    fn read_logs(&mut self, asked: ReadLogs) {
        let Some(outgoing) = self.outgoing_logs.clone() else { return };
        self.readings.open(self.starter.host.roots.clone(), asked, outgoing);
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
