//! The control loop: one thread that owns the working state.
//!
//! It takes everything that waits, one `step` each, lets `reconcile` come to its fixed point, writes the batch down in one
//! commit, publishes the new state, and only then answers. What arrives during a commit is the next batch, so the disk's
//! speed decides how many share a commit and never how many can be served. Operations that only read never come here: they
//! are answered from the published state.
//!
//! A commit that fails ends the loop: nobody of that batch is answered, and the process ends.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use control_plane::answer::is_read;
use control_plane::{Caller, Changes, Input, State, reconcile, step};
use ecs::Timestamp;
use ecs::operations::{ApiError, ErrorCode, Operation, Reply};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use crate::metrics::Metrics;
use crate::store::{self, Store};
use crate::{clock, dice};

/// Inputs that wait for the loop; who has another one waits for a place.
const QUEUE: usize = 4_096;
/// Inputs of one commit.
const BATCH: usize = 1_024;
/// Of `reconcile` in one turn. It ends by itself; this is for the day on which it does not.
const ROUNDS: usize = 10_000;
/// The longest wait for a deadline: a clock that was set is looked at again after it.
const LONGEST_WAIT: Duration = Duration::from_secs(3_600);

type Answer = Option<Result<Reply, ApiError>>;

enum Message {
    Turn(Turn),
    Stop,
}

struct Turn {
    input: Input,
    /// Whoever waits for it to be durable.
    done: Option<oneshot::Sender<Answer>>,
    _place: Option<OwnedSemaphorePermit>,
}

/// The newest durable state.
#[derive(Debug, Default)]
pub struct Published {
    state: RwLock<Arc<State>>,
    /// For one who waits.
    changed: Notify,
}

impl Published {
    pub fn snapshot(&self) -> Arc<State> {
        Arc::clone(&self.state.read().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    fn publish(&self, state: Arc<State>) {
        *self.state.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = state;
        self.changed.notify_one();
    }

    /// Returns when nothing has changed for `pause` since the last change that was not waited for. Only one may wait.
    pub async fn quiet(&self, pause: Duration) {
        self.changed.notified().await;
        while timeout(pause, self.changed.notified()).await.is_ok() {}
    }
}

/// The loop has ended: what was asked may or may not have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the control plane is ending")]
pub struct Ended;

/// A place in the queue.
pub struct Place(OwnedSemaphorePermit);

/// Who may ask and tell the loop. Clones are alike.
#[derive(Clone)]
pub struct Handle {
    queue: Sender<Message>,
    places: Arc<Semaphore>,
    published: Arc<Published>,
}

impl Handle {
    pub fn snapshot(&self) -> Arc<State> {
        self.published.snapshot()
    }

    pub fn published(&self) -> Arc<Published> {
        Arc::clone(&self.published)
    }

    /// A read is answered at once from the published state, everything else when it is durable.
    pub async fn ask(&self, caller: Caller, operation: Operation) -> Result<Reply, ApiError> {
        if is_read(&operation) {
            return read(&self.snapshot(), &caller, &operation);
        }
        let input = Input::Operation { caller, operation: Box::new(operation) };
        match self.tell(input).await {
            Ok(Some(answer)) => answer,
            Ok(None) | Err(Ended) => Err(ApiError::new(ErrorCode::Server, Ended.to_string())),
        }
    }

    /// Returns when it is durable.
    pub async fn tell(&self, input: Input) -> Result<Answer, Ended> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| Ended)?;
        let (done, answer) = oneshot::channel();
        self.queue.send(Message::Turn(Turn { input, done: Some(done), _place: Some(place) })).map_err(|_| Ended)?;
        answer.await.map_err(|_| Ended)
    }

    /// For one input that `mention` will put there.
    pub async fn place(&self) -> Result<Place, Ended> {
        Arc::clone(&self.places).acquire_owned().await.map(Place).map_err(|_| Ended)
    }

    /// It is in the queue, behind what was told before, when this returns.
    pub fn mention(&self, input: Input, place: Place) -> Result<(), Ended> {
        self.queue.send(Message::Turn(Turn { input, done: None, _place: Some(place.0) })).map_err(|_| Ended)
    }

    /// For what must be in the queue before something else is, at most once a connection.
    pub(crate) fn mention_at_once(&self, input: Input) {
        // A loop that has ended needs to know nothing any more.
        let _ = self.queue.send(Message::Turn(Turn { input, done: None, _place: None }));
    }

    /// What is in the queue by now is still done.
    pub fn stop(&self) {
        let _ = self.queue.send(Message::Stop);
    }

    pub fn is_running(&self) -> bool {
        !self.places.is_closed()
    }
}

fn read(state: &State, caller: &Caller, operation: &Operation) -> Result<Reply, ApiError> {
    let answer = control_plane::answer::answer(state, caller, operation, clock::now(), &mut dice::bytes::<16>);
    answer.map(|(reply, _)| reply)
}

/// Told after each commit that changed something, before anybody is answered.
pub trait Watch {
    fn changed(&mut self, before: &State, after: &State, changes: &Changes, now: Timestamp);
}

pub struct Loop {
    queue: Receiver<Message>,
    places: Arc<Semaphore>,
    published: Arc<Published>,
    state: State,
    store: Box<dyn Store>,
    metrics: Arc<Metrics>,
    /// Time never goes back for the state, whatever the clock does.
    now: Timestamp,
}

/// The loop is run with `Loop::run` on a thread of its own.
pub fn new(state: State, store: Box<dyn Store>, metrics: Arc<Metrics>) -> (Handle, Loop) {
    let (sender, queue) = channel();
    let published = Arc::new(Published::default());
    published.publish(Arc::new(state.clone()));
    let places = Arc::new(Semaphore::new(QUEUE));
    let handle = Handle { queue: sender, places: Arc::clone(&places), published: Arc::clone(&published) };
    (handle, Loop { queue, places, published, state, store, metrics, now: clock::now() })
}

impl Loop {
    /// Until it is told to stop. An error is the store's, and the end of the process.
    pub fn run(mut self, mut watch: impl Watch) -> Result<(), store::Error> {
        let ended = self.until_told(&mut watch);
        self.places.close();
        ended
    }

    fn until_told(&mut self, watch: &mut impl Watch) -> Result<(), store::Error> {
        // What the time in which nobody ran has brought about.
        self.turn(Vec::new(), watch)?;
        loop {
            let mut batch = Vec::new();
            let mut stop = false;
            match self.wait() {
                Some(Message::Turn(turn)) => batch.push(turn),
                Some(Message::Stop) => return Ok(()),
                None => {}
            }
            while batch.len() < BATCH && !stop {
                match self.queue.try_recv() {
                    Ok(Message::Turn(turn)) => batch.push(turn),
                    Ok(Message::Stop) | Err(TryRecvError::Disconnected) => stop = true,
                    Err(TryRecvError::Empty) => break,
                }
            }
            self.turn(batch, watch)?;
            if stop {
                return Ok(());
            }
        }
    }

    /// Nothing: a deadline has come.
    fn wait(&self) -> Option<Message> {
        let Some(deadline) = self.state.deadline(self.now) else {
            return Some(self.queue.recv().unwrap_or(Message::Stop));
        };
        let left = Duration::from_millis(deadline.ms_since(clock::now())).min(LONGEST_WAIT);
        match self.queue.recv_timeout(left) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Message::Stop),
        }
    }

    fn turn(&mut self, batch: Vec<Turn>, watch: &mut impl Watch) -> Result<(), store::Error> {
        self.now = self.now.max(clock::now());
        let before = self.state.clone();
        let mut changes = Changes::default();
        let mut answers = Vec::with_capacity(batch.len());
        for turn in batch {
            let outcome = step(&self.state, &turn.input, self.now, &mut dice::bytes::<16>);
            self.take(&mut changes, outcome.changes);
            answers.push((turn.done, outcome.answer));
        }
        self.settle(&mut changes);
        if !changes.is_empty() {
            let started = Instant::now();
            self.store.commit(&changes.0)?;
            self.metrics.committed(answers.len(), started.elapsed());
            self.published.publish(Arc::new(self.state.clone()));
            watch.changed(&before, &self.state, &changes, self.now);
        }
        for (done, answer) in answers {
            if let Some(done) = done {
                // Who asked may have hung up.
                drop(done.send(answer));
            }
        }
        Ok(())
    }

    fn settle(&mut self, changes: &mut Changes) {
        for _ in 0..ROUNDS {
            let more = reconcile(&self.state, self.now, &mut dice::bytes::<16>);
            if more.is_empty() {
                return;
            }
            self.take(changes, more);
        }
        tracing::error!(rounds = ROUNDS, "reconciling does not end");
    }

    fn take(&mut self, changes: &mut Changes, mut more: Changes) {
        self.state.apply(&more);
        changes.0.append(&mut more.0);
    }
}
