//! What is done about single tasks: each step that `reconcile` finds, and each thing that happens to one of them. Nothing here
//! waits; what takes time has a thread or a task of its own, and tells in an `Event` what came of it.

use std::sync::Arc;
use std::time::Duration;

use agent_protocol::task_spec::Places;
use agent_protocol::{Command, TaskSpec, TaskStatus};
use ecs::TaskId;
use ecs::task::LastStatus;
use runtime::task_dir;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Event, Instance, TRY_AGAIN};
use crate::instance::adopt::{self, Found};
use crate::instance::ctl::{self, CtlError};
use crate::instance::disk::Ended;
use crate::instance::here::{End, Here};
use crate::instance::reconcile::{Step, Why};
use crate::instance::start::{Cancel, Starter, ended};
use crate::instance::verdict;
use crate::recovery::chain;

/// At one time: each has a thread, and may be pulling.
const STARTS: usize = 16;
/// Of stopped tasks; the oldest go before their time.
const KEPT: usize = 1_000;
const STOP_ATTEMPTS: u32 = 5;
/// A task whose logs are still being shipped is removed later.
const REMOVE_AGAIN: Duration = Duration::from_secs(60);

impl Instance {
    pub(super) fn carry_out(&mut self, steps: impl Iterator<Item = Step>) {
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

    pub(super) fn versions_before(&self, id: &TaskId) -> u64 {
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

    pub(super) fn start_more(&mut self) {
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

    pub(super) fn happened(&mut self, event: Event) {
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
            Event::Written { assignment, outcome } => self.has_written(assignment, outcome),
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

    pub(super) fn watch(&self, id: TaskId) {
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

    pub(super) fn find(&self, id: TaskId) {
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
        self.remove_at(id, now + self.keep_stopped);
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

    pub(super) fn remove_due(&mut self) {
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
}

async fn watched(id: &TaskId, places: &Places, events: &mpsc::Sender<Event>) -> Result<(), CtlError> {
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
