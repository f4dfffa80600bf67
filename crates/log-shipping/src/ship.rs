//! One container's output on its way: read, sent, recorded, again and again until its task has stopped and nothing is
//! left.
//!
//! A batch is recorded as shipped after the service has taken it and before the next is sent. So a shipper that is
//! killed sends at most one batch twice, and none never.

use std::error::Error;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use agent_protocol::TaskSpec;
use ecs::ContainerName;
use ecs::task::LastStatus;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use runtime::logs::{Position, ReadError, Reader, Shipped, read_shipped, write_shipped};
use runtime::task_dir::LOGS_NAME;
use runtime::{status_file, task_dir};

use crate::batch::{self, Batch, MAX_MESSAGES, OpenLines};
use crate::connect::{Outlet, SendError};
use crate::process::DRAIN;
use crate::status::{self, Status};

/// How often it is asked whether the task still lives; everything else wakes the shipper at once.
const LIVENESS_MS: u16 = 1000;
/// Between attempts: from the first to the longest wait, doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// How much of a long wait passes between two looks at the task.
const WAIT_STEP: Duration = Duration::from_millis(100);
/// The longest error that is written down, bytes: a service may answer with a page.
const MAX_ERROR_BYTES: usize = 1000;

/// What one container's driver asks for besides its connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manner {
    pub(crate) first_wait: Option<Duration>,
    /// A batch that was tried so often is given up.
    pub(crate) max_retries: Option<u64>,
    /// How long to wait for more once something is there: a request each line would be dear.
    pub(crate) linger: Duration,
    /// The receiver is a container of the task: once the task has stopped, it never comes back.
    pub(crate) receiver_ends: bool,
}

pub(crate) struct Shipment<'a> {
    task: &'a TaskSpec,
    container: ContainerName,
    logs: PathBuf,
    /// Or why there can be none.
    outlet: Result<Outlet, String>,
    manner: Manner,
    status: Status,
    shipped: Shipped,
    open: OpenLines,
    changes: Inotify,
    /// Whether the task's supervisor was ever seen: one that has not begun yet has not ended.
    began: bool,
    /// When shipping ends whatever is left; known when the task has stopped.
    deadline: Option<Instant>,
}

/// Shipping ends with something left.
struct GivenUp;

impl<'a> Shipment<'a> {
    pub(crate) fn new(
        task: &'a TaskSpec,
        container: ContainerName,
        outlet: Result<Outlet, String>,
        target: String,
        manner: Manner,
    ) -> io::Result<Shipment<'a>> {
        let state = &task.places.state;
        let logs = state.join(LOGS_NAME);
        let changes = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        changes.add_watch(&logs, AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE)?;
        changes.add_watch(state, AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE_SELF)?;
        let before = status::read(state, &container).ok().flatten();
        let status =
            Status { target, failing: None, last_error: before.and_then(|before| before.last_error), finished: false };
        Ok(Shipment {
            task,
            shipped: read_shipped(&logs, &container)?,
            container,
            logs,
            outlet,
            manner,
            status,
            open: OpenLines::default(),
            changes,
            began: false,
            deadline: None,
        })
    }

    /// Comes back when there is nothing more to ship, and never will be.
    pub(crate) fn run(mut self) -> Result<(), ReadError> {
        self.tell();
        let mut reader = self.reader()?;
        let mut ended = false;
        loop {
            let mut batch = Batch::read(&mut reader, self.shipped.position, MAX_MESSAGES, &mut self.open)?;
            if batch.messages.is_empty() {
                if ended {
                    self.status.finished = true;
                    self.tell();
                    return Ok(());
                }
                // What was written before the end shows at one more look.
                ended = self.has_ended();
                if !ended {
                    self.wait();
                }
                continue;
            }
            if !ended && !self.manner.linger.is_zero() && batch.messages.len() < MAX_MESSAGES {
                std::thread::sleep(self.manner.linger);
                let room = MAX_MESSAGES - batch.messages.len();
                batch.append(Batch::read(&mut reader, batch.end, room, &mut self.open)?);
            }
            if let Err(GivenUp) = self.deliver(&batch) {
                return self.give_up_rest(&mut reader);
            }
        }
    }

    fn reader(&self) -> Result<Reader, ReadError> {
        runtime::logs::read(self.task, &batch::options(&self.container, self.shipped.position))
    }

    /// Tries until the service has the batch, or it is given up.
    fn deliver(&mut self, batch: &Batch) -> Result<(), GivenUp> {
        let mut wait = self.manner.first_wait.unwrap_or(FIRST_WAIT);
        let mut attempts = 0;
        loop {
            let error = match &mut self.outlet {
                Ok(outlet) => match outlet.send(batch) {
                    Ok(()) => {
                        self.record(batch, 0);
                        return Ok(());
                    }
                    Err(SendError::Refused { .. }) if batch.messages.len() > 1 => {
                        // One of them is what it will not have.
                        let (first, second) = batch.halves();
                        self.deliver(&first)?;
                        return self.deliver(&second);
                    }
                    Err(error @ SendError::Refused { .. }) => {
                        self.failed(&chain(&error));
                        self.record(batch, batch.bytes());
                        return Ok(());
                    }
                    Err(error @ (SendError::Unreachable { .. } | SendError::Unwilling { .. })) => chain(&error),
                },
                Err(never) => never.clone(),
            };
            self.failed(&error);
            attempts += 1;
            if self.manner.max_retries.is_some_and(|most| attempts > most) {
                self.record(batch, batch.bytes());
                return Ok(());
            }
            if !self.pause(wait) {
                return Err(GivenUp);
            }
            wait = (wait * 2).min(LONGEST_WAIT.max(wait));
        }
    }

    /// False when the time for it is over.
    fn pause(&mut self, wait: Duration) -> bool {
        let end = Instant::now() + wait;
        loop {
            let ended = self.has_ended();
            let out_of_time = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if out_of_time || ended && (self.manner.receiver_ends || self.outlet.is_err()) {
                return false;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(WAIT_STEP));
        }
    }

    /// Nothing of it will be shipped; all of it is counted.
    fn give_up_rest(&mut self, reader: &mut Reader) -> Result<(), ReadError> {
        *reader = self.reader()?;
        let mut end = self.shipped.position;
        while let Some(record) = reader.next_record()? {
            end = record.end;
        }
        self.advance(end, end.bytes.saturating_sub(self.shipped.position.bytes));
        self.status.finished = true;
        self.tell();
        Ok(())
    }

    /// The batch is done with; `refused_bytes` of it were not taken.
    fn record(&mut self, batch: &Batch, refused_bytes: u64) {
        self.advance(batch.end, batch.missing_bytes + refused_bytes);
        if refused_bytes == 0 && self.status.failing.take().is_some() {
            self.tell();
        }
    }

    fn advance(&mut self, to: Position, lost_bytes: u64) {
        let missing_bytes = self.shipped.missing_bytes + lost_bytes;
        self.shipped = Shipped { position: to, missing_bytes };
        // A full disk: the next batch is recorded with this one. Killed before that, both are sent again.
        if let Err(cause) = write_shipped(&self.logs, &self.container, &self.shipped) {
            eprintln!("container {}: how far shipping has come is not written down: {cause}", self.container);
        }
    }

    fn failed(&mut self, error: &str) {
        let end = (0..=error.len().min(MAX_ERROR_BYTES)).rev().find(|end| error.is_char_boundary(*end)).unwrap_or(0);
        let error = Some(error[..end].to_owned());
        if self.status.failing != error {
            self.status.last_error = error.clone();
            self.status.failing = error;
            self.tell();
        }
    }

    fn tell(&self) {
        if let Err(cause) = status::write(&self.task.places.state, &self.container, &self.status) {
            eprintln!("container {}: the status of shipping is not written: {cause}", self.container);
        }
    }

    /// STOPPED is written after the last byte of output, and nobody writes without a supervisor.
    fn has_ended(&mut self) -> bool {
        if self.deadline.is_some() {
            return true;
        }
        let state = &self.task.places.state;
        let status = status_file::read(state).unwrap_or(None);
        let supervised = task_dir::supervised(state).unwrap_or(true);
        self.began |= supervised || status.is_some();
        let stopped = status.is_some_and(|status| status.last_status == LastStatus::Stopped);
        let ended = stopped || (self.began && !supervised) || !state.exists();
        if ended {
            self.deadline = Some(Instant::now() + DRAIN);
        }
        ended
    }

    fn wait(&self) {
        let mut interest = [PollFd::new(self.changes.as_fd(), PollFlags::POLLIN)];
        // Whatever ends the wait, the next look tells what there is.
        poll(&mut interest, PollTimeout::from(LIVENESS_MS)).ok();
        self.changes.read_events().ok();
    }
}

/// An error with all its causes in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    text
}
