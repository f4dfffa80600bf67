//! Sessions of container instances: who is connected, and how a connection is served.
//!
//! Of two connections that say to be the same instance the newer one counts, and the older one is closed: a host that lost
//! its network comes back before anybody here has noticed that it had gone. A session sends the whole assignment when it
//! begins and whenever a commit has changed it; several changes during one write are one assignment. What the instance has
//! told itself, as that a task of its own has ended, is not worth a message, which it would have to write down: that goes
//! with the next one, or a little later.

mod logs;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use agent_protocol::session::{
    FromInstance, Generation, HEARTBEAT_EVERY_MS, HEARTBEAT_LIMIT_MS, Hello, MAX_FRAME_BYTES, OpenExec, ToInstance,
};
use control_plane::records::InstanceStatus;
use control_plane::{Change, Changes, Input, Record, State, observe};
use ecs::ContainerInstanceId;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, timeout};

use crate::metrics::{Gauge, Metrics};
use crate::{control, dice, frames};

pub use logs::{CannotRead, LogReading};

/// From a connection's begin to its Hello.
const HELLO_LIMIT: Duration = Duration::from_secs(10);
/// How long an instance is not sent what it has told itself, if nothing else comes.
const KNOWN_LATER: Duration = Duration::from_secs(1);
/// Nobody is known to be an instance before it has said this much.
const MAX_HELLO_BYTES: usize = 1 << 20;
const HEARTBEAT_EVERY: Duration = Duration::from_millis(HEARTBEAT_EVERY_MS);
const HEARTBEAT_LIMIT: Duration = Duration::from_millis(HEARTBEAT_LIMIT_MS);
/// Messages to an instance that are neither written nor part of its assignment.
const OUTGOING: usize = 256;
/// What commands have written and their clients have not read yet, in messages. The protocol cannot slow a command down, and
/// one client must not hold up what its instance reports.
const EXEC_OUTPUT: usize = 4_096;

/// Who is at the other end of a connection, as far as the connection itself says it.
#[derive(Clone, Debug)]
pub enum Peer {
    /// The agent of this very process.
    Own,
    /// Root of this host at the unix socket. The kernel tells when it has gone, so it is never asked.
    Local,
    /// Whoever showed a certificate of ours for this instance.
    Instance(ContainerInstanceId),
    /// A single-use token has just been taken from it.
    Invited,
}

/// Why a session has ended. Not one of them is an end for the instance's tasks.
#[derive(Debug, thiserror::Error)]
pub enum End {
    #[error("it said nothing for {} s", HEARTBEAT_LIMIT.as_secs())]
    Silent,
    #[error("a newer connection of the same instance came")]
    Replaced,
    #[error("the instance has been deregistered")]
    Deregistered,
    #[error("it was refused: {0}")]
    Refused(String),
    #[error("it speaks out of turn")]
    OutOfTurn,
    #[error("the connection failed")]
    Frames(#[from] frames::Error),
    #[error(transparent)]
    Control(#[from] control::Ended),
}

/// What happens to a command in a container.
#[derive(Clone, Debug, PartialEq)]
pub enum ExecEvent {
    Opened,
    Refused(String),
    Output(Vec<u8>),
    Ended(i32),
}

/// Rings for whoever writes to an instance.
#[derive(Default)]
struct Bells {
    /// For what it is to do.
    now: Notify,
    /// For what it has told itself.
    later: Notify,
}

struct Connection {
    number: u64,
    bells: Arc<Bells>,
    replaced: Arc<Notify>,
    outgoing: mpsc::Sender<ToInstance>,
    reads_logs: bool,
}

struct Exec {
    instance: ContainerInstanceId,
    events: mpsc::Sender<ExecEvent>,
}

#[derive(Default)]
struct Known {
    connections: HashMap<ContainerInstanceId, Connection>,
    next_number: u64,
    execs: HashMap<String, Exec>,
    logs: HashMap<String, logs::Reader>,
}

impl Known {
    /// What was opened on an instance's connection ends with it.
    fn end_open(&mut self, instance: &ContainerInstanceId) {
        self.execs.retain(|_, exec| exec.instance != *instance);
        self.logs.retain(|_, reader| reader.instance != *instance);
    }
}

/// Everybody who is connected. Clones are alike.
#[derive(Clone)]
pub struct Sessions {
    control: control::Handle,
    metrics: Arc<Metrics>,
    known: Arc<Mutex<Known>>,
    /// Whether the agent of this very process is connected.
    own: watch::Sender<bool>,
}

impl Sessions {
    pub fn new(control: control::Handle, metrics: Arc<Metrics>) -> Self {
        Self { control, metrics, known: Arc::default(), own: watch::Sender::new(false) }
    }

    /// Whether a RunTask that comes now finds the container instance of this very process.
    pub fn own(&self) -> watch::Receiver<bool> {
        self.own.subscribe()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn is_connected(&self, instance: &ContainerInstanceId) -> bool {
        self.known().connections.contains_key(instance)
    }

    /// Serves one connection to its end.
    pub async fn serve<Stream>(&self, stream: Stream, peer: Peer) -> End
    where
        Stream: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let (mut reader, mut writer) = tokio::io::split(stream);
        match self.begin(&mut reader, &peer).await {
            Ok((instance, hello)) => self.known_instance(instance, hello, reader, writer, &peer).await,
            Err(end) => {
                if let End::Refused(reason) = &end {
                    // It may have gone already.
                    let refused = ToInstance::Refused { reason: reason.clone() };
                    let _ = timeout(HELLO_LIMIT, frames::write(&mut writer, &refused)).await;
                }
                end
            }
        }
    }

    /// Who it is, if it may come.
    async fn begin(
        &self,
        reader: &mut (impl AsyncRead + Unpin),
        peer: &Peer,
    ) -> Result<(ContainerInstanceId, Box<Hello>), End> {
        let first = timeout(HELLO_LIMIT, frames::read(reader, MAX_HELLO_BYTES)).await.map_err(|_| End::Silent)?;
        let FromInstance::Hello(hello) = first? else { return Err(End::OutOfTurn) };
        let instance = match (peer, &hello.instance) {
            (Peer::Own | Peer::Local, Some(known)) => known.clone(),
            (Peer::Own | Peer::Local | Peer::Invited, _) => ContainerInstanceId::from_bytes(dice::bytes()),
            (Peer::Instance(certified), Some(said)) if said != certified => {
                return Err(End::Refused(format!("the certificate is of {certified}, and not of {said}")));
            }
            (Peer::Instance(certified), _) => certified.clone(),
        };
        let admitted = observe::admit(&self.control.snapshot(), &instance, &hello);
        admitted.map_err(|refusal| End::Refused(refusal.to_string()))?;
        Ok((instance, hello))
    }

    async fn known_instance(
        &self,
        instance: ContainerInstanceId,
        hello: Box<Hello>,
        mut reader: impl AsyncRead + Unpin,
        mut writer: impl AsyncWrite + Unpin,
        peer: &Peer,
    ) -> End {
        let (outgoing, messages) = mpsc::channel(OUTGOING);
        let (number, bells, replaced) = self.enter(&instance, &hello, outgoing.clone());
        let _counted = Gauge::count(&self.metrics.agents);
        let written = hello.written;
        let cluster = hello.cluster.clone();
        let arrived = self.control.tell(Input::Arrived { instance: instance.clone(), hello }).await;
        let end = match arrived {
            Err(ended) => End::Control(ended),
            // The agent tries again, and is then told why it is not taken in.
            Ok(_) if !self.control.snapshot().instances.contains_key(&instance) => End::OutOfTurn,
            Ok(_) => {
                tracing::info!(%instance, cluster, "a container instance is connected");
                self.tell_own(peer, true);
                let sent = Generation::default();
                let send = Sender { sessions: self, instance: &instance, peer, bells: &bells, sent };
                let welcome = ToInstance::Welcome { instance: instance.clone(), cluster };
                tokio::select! {
                    end = self.listen(&instance, number, &mut reader, &outgoing, peer) => end,
                    end = send.run(&mut writer, welcome, messages, written) => end,
                    () = replaced.notified() => self.given_up(&instance),
                }
            }
        };
        self.tell_own(peer, false);
        self.leave(&instance, number);
        tracing::info!(%instance, %end, "a container instance's connection has ended");
        end
    }

    fn tell_own(&self, peer: &Peer, connected: bool) {
        match peer {
            Peer::Own => drop(self.own.send_replace(connected)),
            Peer::Local | Peer::Instance(_) | Peer::Invited => {}
        }
    }

    /// Why somebody has closed its connection from here.
    fn given_up(&self, instance: &ContainerInstanceId) -> End {
        let state = self.control.snapshot();
        let status = state.instances.get(instance).map(|known| known.status);
        match status {
            Some(InstanceStatus::Inactive) | None => End::Deregistered,
            Some(InstanceStatus::Active | InstanceStatus::Draining) => End::Replaced,
        }
    }

    fn enter(
        &self,
        instance: &ContainerInstanceId,
        hello: &Hello,
        outgoing: mpsc::Sender<ToInstance>,
    ) -> (u64, Arc<Bells>, Arc<Notify>) {
        let mut known = self.known();
        known.next_number += 1;
        let number = known.next_number;
        let (bells, replaced) = (Arc::new(Bells::default()), Arc::new(Notify::new()));
        let connection = Connection {
            number,
            bells: Arc::clone(&bells),
            replaced: Arc::clone(&replaced),
            outgoing,
            reads_logs: hello.reads_logs,
        };
        if let Some(older) = known.connections.insert(instance.clone(), connection) {
            older.replaced.notify_one();
            known.end_open(instance);
        }
        (number, bells, replaced)
    }

    /// `Left` is in the queue before a newer connection can put its `Arrived` there.
    fn leave(&self, instance: &ContainerInstanceId, number: u64) {
        let mut known = self.known();
        if known.connections.get(instance).is_some_and(|connection| connection.number == number) {
            known.connections.remove(instance);
            known.end_open(instance);
            self.control.mention_at_once(Input::Left { instance: instance.clone() });
        }
    }

    async fn listen(
        &self,
        instance: &ContainerInstanceId,
        number: u64,
        reader: &mut (impl AsyncRead + Unpin),
        outgoing: &mpsc::Sender<ToInstance>,
        peer: &Peer,
    ) -> End {
        loop {
            let message = match peer {
                Peer::Own | Peer::Local => frames::read(reader, MAX_FRAME_BYTES).await,
                Peer::Instance(_) | Peer::Invited => {
                    match timeout(HEARTBEAT_LIMIT, frames::read(reader, MAX_FRAME_BYTES)).await {
                        Ok(read) => read,
                        Err(_) => return End::Silent,
                    }
                }
            };
            let told = match message {
                Ok(message) => self.heard(instance, number, message, outgoing).await,
                Err(error) => Err(error.into()),
            };
            if let Err(end) = told {
                return end;
            }
        }
    }

    async fn heard(
        &self,
        instance: &ContainerInstanceId,
        number: u64,
        message: FromInstance,
        outgoing: &mpsc::Sender<ToInstance>,
    ) -> Result<(), End> {
        match message {
            FromInstance::Hello(_) => return Err(End::OutOfTurn),
            FromInstance::Report { whole, tasks } => {
                let place = self.control.place().await?;
                let known = self.known();
                // Nothing of an earlier connection may come after the newer one's arrival.
                if known.connections.get(instance).is_none_or(|connection| connection.number != number) {
                    return Err(End::Replaced);
                }
                self.control.mention(Input::Observed { instance: instance.clone(), whole, tasks }, place)?;
            }
            FromInstance::Written { generation } => {
                tracing::debug!(%instance, epoch = generation.epoch, generation = generation.generation, "written there");
            }
            // Where its queue is full there is enough to hear anyway.
            FromInstance::StillThere => drop(outgoing.try_send(ToInstance::StillHere)),
            FromInstance::StillHere => {}
            FromInstance::ExecOpened { session, refused: None } => self.exec(instance, &session, ExecEvent::Opened),
            FromInstance::ExecOpened { session, refused: Some(reason) } => {
                self.exec(instance, &session, ExecEvent::Refused(reason));
            }
            FromInstance::ExecOutput { session, bytes } => self.exec(instance, &session, ExecEvent::Output(bytes)),
            FromInstance::ExecEnded { session, exit_code } => {
                self.exec(instance, &session, ExecEvent::Ended(exit_code));
            }
            FromInstance::Logs { session, told } => self.logs_told(instance, session, told, outgoing),
        }
        Ok(())
    }

    fn exec(&self, instance: &ContainerInstanceId, session: &str, event: ExecEvent) {
        let mut known = self.known();
        let Some(exec) = known.execs.get(session).filter(|exec| exec.instance == *instance) else { return };
        if exec.events.try_send(event).is_err() {
            // Its client reads too slowly, or has gone. Dropping the sender tells it, and it closes the command.
            known.execs.remove(session);
        }
    }

    /// Starts a command in a container; nothing where the instance is not connected.
    pub async fn open_exec(&self, instance: &ContainerInstanceId, open: OpenExec) -> Option<ExecSession> {
        let (events, received) = mpsc::channel(EXEC_OUTPUT);
        let session = open.session.clone();
        let outgoing = {
            let mut known = self.known();
            let outgoing = known.connections.get(instance)?.outgoing.clone();
            known.execs.insert(session.clone(), Exec { instance: instance.clone(), events });
            outgoing
        };
        let exec = ExecSession { session, outgoing, events: received, sessions: self.clone() };
        exec.outgoing.send(ToInstance::OpenExec(open)).await.ok()?;
        Some(exec)
    }

    /// For those who were connected when this process's predecessor ended, and have not come back.
    pub fn miss(&self) {
        let state = self.control.snapshot();
        let known = self.known();
        for (id, instance) in &state.instances {
            if instance.connected && !known.connections.contains_key(id) {
                self.control.mention_at_once(Input::Left { instance: id.clone() });
            }
        }
    }

    /// After a commit: rings for everybody whose assignment it changed. Whoever is deregistered is told nothing more: it
    /// comes again, and is refused with the reason.
    pub(crate) fn ring(&self, before: &State, changes: &Changes) {
        let known = self.known();
        for change in &changes.0 {
            let Change::Put(Record::Instance(instance)) = change else { continue };
            if instance.status == InstanceStatus::Inactive
                && let Some(connection) = known.connections.get(&instance.id)
            {
                connection.replaced.notify_one();
                continue;
            }
            let Some(connection) = known.connections.get(&instance.id) else { continue };
            let before = before.instances.get(&instance.id);
            if before.map(|before| before.pressing) != Some(instance.pressing) {
                connection.bells.now.notify_one();
            } else if before.map(|before| before.assigned) != Some(instance.assigned) {
                connection.bells.later.notify_one();
            }
        }
    }
}

/// The half of a session that writes.
struct Sender<'a> {
    sessions: &'a Sessions,
    instance: &'a ContainerInstanceId,
    peer: &'a Peer,
    bells: &'a Bells,
    sent: Generation,
}

impl Sender<'_> {
    async fn run(
        mut self,
        writer: &mut (impl AsyncWrite + Unpin),
        welcome: ToInstance,
        mut messages: mpsc::Receiver<ToInstance>,
        written: Generation,
    ) -> End {
        tracing::debug!(instance = %self.instance, epoch = written.epoch, generation = written.generation, "it knows");
        let mut next = Some(welcome);
        let mut assignment_is_due = true;
        let mut later: Option<Instant> = None;
        // Whatever is sent meanwhile need not be answered.
        let mut ask = self.ask();
        loop {
            if let Some(message) = next.take()
                && let Err(end) = send(writer, &message).await
            {
                return end;
            }
            if std::mem::take(&mut assignment_is_due) {
                later = None;
                if let Err(end) = self.assignment(writer).await {
                    return end;
                }
            }
            tokio::select! {
                () = self.bells.now.notified() => assignment_is_due = true,
                () = self.bells.later.notified() => later = later.or_else(|| Some(Instant::now() + KNOWN_LATER)),
                () = at(later) => assignment_is_due = true,
                message = messages.recv() => match message {
                    Some(message) => next = Some(message),
                    None => return End::Control(control::Ended),
                },
                () = at(ask) => {
                    next = Some(ToInstance::StillThere);
                    ask = self.ask();
                }
            }
        }
    }

    /// When to ask whether the instance is still there.
    fn ask(&self) -> Option<Instant> {
        match self.peer {
            Peer::Own | Peer::Local => None,
            Peer::Instance(_) | Peer::Invited => Some(Instant::now() + HEARTBEAT_EVERY),
        }
    }

    async fn assignment(&mut self, writer: &mut (impl AsyncWrite + Unpin)) -> Result<(), End> {
        let Some(assignment) = self.sessions.control.snapshot().assignment(self.instance) else { return Ok(()) };
        // The first one is sent whatever its number is: the instance knows whether it is newer than its own.
        if assignment.generation > self.sent || self.sent == Generation::default() {
            self.sent = assignment.generation;
            send(writer, &ToInstance::Assignment(assignment)).await?;
        }
        Ok(())
    }
}

/// To be called where nobody waits. Where the queue is full, the message follows: an instance that is not told would keep what
/// it does for somebody who has gone.
fn tell_at_last(outgoing: &mpsc::Sender<ToInstance>, message: ToInstance) {
    if let Err(TrySendError::Full(message)) = outgoing.try_send(message)
        && let Ok(runtime) = Handle::try_current()
    {
        let outgoing = outgoing.clone();
        runtime.spawn(async move { drop(outgoing.send(message).await) });
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

/// An instance that does not read for this long is as good as gone.
async fn send(writer: &mut (impl AsyncWrite + Unpin), message: &ToInstance) -> Result<(), End> {
    match timeout(HEARTBEAT_LIMIT, frames::write(writer, message)).await {
        Ok(written) => written.map_err(End::from),
        Err(_) => Err(End::Silent),
    }
}

/// A command that was started in a container. Dropping it closes the command.
pub struct ExecSession {
    session: String,
    outgoing: mpsc::Sender<ToInstance>,
    /// Ends without `Ended` when the instance has gone, or the client was too slow.
    pub events: mpsc::Receiver<ExecEvent>,
    sessions: Sessions,
}

impl ExecSession {
    pub async fn input(&self, bytes: Vec<u8>) -> bool {
        self.outgoing.send(ToInstance::ExecInput { session: self.session.clone(), bytes }).await.is_ok()
    }

    pub async fn resize(&self, rows: u16, columns: u16) -> bool {
        self.outgoing.send(ToInstance::ExecResize { session: self.session.clone(), rows, columns }).await.is_ok()
    }
}

impl Drop for ExecSession {
    fn drop(&mut self) {
        self.sessions.known().execs.remove(&self.session);
        tell_at_last(&self.outgoing, ToInstance::CloseExec { session: self.session.clone() });
    }
}
