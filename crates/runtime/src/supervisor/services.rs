//! The task's own sockets at 169.254.170.2. The supervisor holds them and answers on none: `host-services` does, with
//! copies. While nobody does, somebody who calls is heard here, and the process is started; so it may die at any time.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use agent_protocol::TaskSpec;
use ecs::Timestamp;
use ecs::task_definition::NetworkMode;

use crate::ctl::ClientId;

/// One for each of three services, in a namespace of each of ten containers (ECS's limit), with room.
pub(crate) const MAX_SOCKETS: usize = 64;

/// How long after its begin a task is looked after without having called, milliseconds: a task that ends at once is not.
const FIRST_START_MS: u64 = 300;

/// How long after a start nobody is called again, milliseconds, while none has come. It doubles with each start.
const FIRST_PAUSE_MS: u64 = 100;
const LONGEST_PAUSE_MS: u64 = 10_000;

#[derive(Debug)]
pub(super) struct Services {
    sockets: Vec<OwnedFd>,
    /// Whether the host has something of this task to be watched: ports or an interface, which live in the firewall's
    /// table.
    watched: bool,
    /// Who has copies of the sockets. One; while one process follows another, two.
    servers: Vec<ClientId>,
    /// The process is to be there, called or not.
    wanted_at: Option<Timestamp>,
    /// Nobody is called before.
    not_before: Option<Timestamp>,
    pause_ms: u64,
}

impl Services {
    pub(super) fn new(task: &TaskSpec, sockets: Vec<OwnedFd>, now: Timestamp) -> Services {
        let published = |mode| mode == NetworkMode::Bridge || mode == NetworkMode::Awsvpc;
        let bound = task.containers.iter().any(|container| !container.network.bindings.is_empty());
        let watched = task.network_interface.is_some() || bound && published(task.network_mode);
        Services {
            sockets,
            watched,
            servers: Vec::new(),
            wanted_at: watched.then(|| now.plus_ms(FIRST_START_MS)),
            not_before: None,
            pause_ms: FIRST_PAUSE_MS,
        }
    }

    /// What to poll: somebody who calls, while nobody answers.
    pub(super) fn interest(&self, now: Timestamp) -> impl Iterator<Item = RawFd> + '_ {
        let listens = self.servers.is_empty() && self.may_call(now);
        self.sockets.iter().filter(move |_| listens).map(AsRawFd::as_raw_fd)
    }

    /// When `interest` and `is_wanted` may say something else without anything having happened.
    pub(super) fn look_again_at(&self, now: Timestamp) -> Option<Timestamp> {
        if !self.servers.is_empty() {
            return None;
        }
        let pause = self.not_before.filter(|at| *at > now);
        pause.or(self.wanted_at)
    }

    /// Whether the process is to be started. `ready` are descriptors on which something has happened.
    pub(super) fn is_wanted(&self, ready: &[RawFd], now: Timestamp) -> bool {
        let called = self.sockets.iter().any(|socket| ready.contains(&socket.as_raw_fd()));
        self.servers.is_empty() && self.may_call(now) && (called || self.wanted_at.is_some_and(|at| now >= at))
    }

    /// Somebody was started, or should have been: now it has time to come.
    pub(super) fn pause(&mut self, now: Timestamp) {
        self.not_before = Some(now.plus_ms(self.pause_ms));
        self.pause_ms = (self.pause_ms * 2).min(LONGEST_PAUSE_MS);
    }

    /// Copies for a new server.
    ///
    /// # Errors
    /// It has some, or there is no descriptor left.
    pub(super) fn serve(&mut self, client: ClientId) -> Result<Vec<OwnedFd>, String> {
        if self.servers.contains(&client) {
            return Err("the task's service sockets were given on this connection already".to_owned());
        }
        let copies: io::Result<Vec<OwnedFd>> = self.sockets.iter().map(OwnedFd::try_clone).collect();
        let copies = copies.map_err(|cause| format!("cannot copy the task's service sockets: {cause}"))?;
        self.servers.push(client);
        self.wanted_at = None;
        self.not_before = None;
        self.pause_ms = FIRST_PAUSE_MS;
        Ok(copies)
    }

    pub(super) fn gone(&mut self, client: ClientId, now: Timestamp) {
        let before = self.servers.len();
        self.servers.retain(|server| *server != client);
        if self.servers.is_empty() && before > 0 {
            self.wanted_at = self.watched.then_some(now);
        }
    }

    /// The task is over: whoever has copies is told so by the status.
    pub(super) fn end(&mut self) {
        self.sockets.clear();
        self.wanted_at = None;
    }

    fn may_call(&self, now: Timestamp) -> bool {
        self.not_before.is_none_or(|at| now >= at)
    }
}
