//! Readers of this instance's tasks' output who are elsewhere: each has a thread, which waits where its reader is slow and
//! ends with it, or with the connection.

use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use agent_protocol::logs::{BATCH_BYTES, BATCH_RECORDS, MOST_LINES, ReadLogs, Record, Told};
use agent_protocol::session::FromInstance;
use runtime::logs::{self, ReadError, ReadOptions, Reader};
use runtime::task_dir::{self, Roots};
use tokio::sync::mpsc;

use crate::logs::{sources, wire};
use crate::recovery::chain;

/// At one time, on this host.
const READERS: usize = 64;
/// Batches that a reader has allowed and that are not sent yet; more allow nothing more.
const ALLOWED: usize = 64;

struct Reading {
    allow: mpsc::Sender<()>,
    /// Dropping it wakes the thread, wherever it waits.
    _open: UnixStream,
}

#[derive(Default)]
pub(super) struct Readings {
    /// The open ones, by the control plane's names for them.
    open: HashMap<String, Reading>,
    /// Each thread has a copy, also one that is closed and still on its way to its end.
    alive: Arc<()>,
}

impl Readings {
    /// What it comes to is told through `outgoing`.
    pub(super) fn open(&mut self, roots: Roots, asked: ReadLogs, outgoing: mpsc::Sender<FromInstance>) {
        self.open.retain(|_, reading| !reading.allow.is_closed());
        if self.open.contains_key(&asked.session) {
            return;
        }
        let session = asked.session.clone();
        // Where the queue is full nobody waits for this answer any more.
        let refuse = |why: String| {
            let told = Told::Refused(why);
            drop(outgoing.try_send(FromInstance::Logs { session: session.clone(), told }));
        };
        if Arc::strong_count(&self.alive) > READERS {
            return refuse(format!("{READERS} readers follow the logs of this host's tasks already"));
        }
        let (open, ours) = match UnixStream::pair() {
            Ok(pair) => pair,
            Err(error) => return refuse(format!("the task's logs cannot be read now: {error}")),
        };
        let (allow, allowed) = mpsc::channel(ALLOWED);
        let teller = Teller { session: session.clone(), outgoing: outgoing.clone(), left: asked.batches, allowed };
        let (thread, alive) = (std::thread::Builder::new().name("logs".to_owned()), Arc::clone(&self.alive));
        let work = move || {
            serve(&roots, &asked, ours, teller);
            drop(alive);
        };
        match thread.spawn(work) {
            Ok(_) => drop(self.open.insert(session, Reading { allow, _open: open })),
            Err(error) => refuse(format!("the task's logs cannot be read now: {error}")),
        }
    }

    pub(super) fn more(&mut self, session: &str) {
        if let Some(reading) = self.open.get(session) {
            // Where it is full, more is allowed than is ever used.
            let _ = reading.allow.try_send(());
        }
    }

    pub(super) fn close(&mut self, session: &str) {
        self.open.remove(session);
    }

    pub(super) fn close_all(&mut self) {
        self.open.clear();
    }
}

/// To the output's end, the reader's, or the connection's.
fn serve(roots: &Roots, asked: &ReadLogs, open: UnixStream, mut teller: Teller) {
    let (mut reader, opened) = match begin(roots, asked) {
        Ok(begun) => begun,
        Err(why) => {
            teller.tell(Told::Refused(why));
            return;
        }
    };
    reader.end_with(open.into());
    tracing::info!(task = %asked.task, "a task's logs are read from elsewhere");
    if teller.tell(opened).is_none() {
        return;
    }
    let failed = match pass_on(&mut reader, &mut teller) {
        Ok(Some(())) => None,
        // Nobody listens any more.
        Ok(None) => return,
        Err(error) => Some(chain(&error)),
    };
    teller.tell(Told::Ended { failed });
}

fn begin(roots: &Roots, asked: &ReadLogs) -> Result<(Reader, Told), String> {
    let task = task_dir::read(roots, &asked.task).map_err(|error| chain(&error))?;
    let task = task.ok_or_else(|| {
        let id = &asked.task;
        format!("its host has nothing of task {id}: it has not started yet, or was removed some time after its end")
    })?;
    let wanted = asked.wanted.clone();
    let options = ReadOptions {
        follow: wanted.follow,
        since: wanted.since,
        until: wanted.until,
        // Each of the last lines is remembered before the first of them is told.
        tail: wanted.tail.map(|lines| lines.min(MOST_LINES)),
        containers: wanted.containers,
        from: Vec::new(),
    };
    let reader = logs::read(&task.spec, &options).map_err(|error| chain(&error))?;
    Ok((reader, Told::Opened(sources(&task.spec, task.status.as_ref(), &options.containers))))
}

/// Nothing where nobody listens any more. What is there already goes together; a follower never waits with something in hand.
fn pass_on(reader: &mut Reader, teller: &mut Teller) -> Result<Option<()>, ReadError> {
    while let Some(first) = reader.next_record()? {
        let mut bytes = first.bytes.len();
        let mut batch: Vec<Record> = vec![wire(&first)];
        while bytes < BATCH_BYTES
            && batch.len() < BATCH_RECORDS
            && let Some(next) = reader.next_at_once()?
        {
            bytes += next.bytes.len();
            batch.push(wire(&next));
        }
        if teller.records(batch).is_none() {
            return Ok(None);
        }
    }
    Ok(Some(()))
}

/// Tells one reader, no faster than it allows. Nothing once it has gone.
struct Teller {
    session: String,
    outgoing: mpsc::Sender<FromInstance>,
    /// Batches that may be sent now.
    left: usize,
    allowed: mpsc::Receiver<()>,
}

impl Teller {
    fn records(&mut self, batch: Vec<Record>) -> Option<()> {
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => self.allowed.blocking_recv()?,
        }
        self.tell(Told::Records(batch))
    }

    fn tell(&mut self, told: Told) -> Option<()> {
        let message = FromInstance::Logs { session: self.session.clone(), told };
        self.outgoing.blocking_send(message).ok()
    }
}
