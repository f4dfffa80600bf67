//! What this host has of a task, looked up in its directory: after a restart of the agent, and when a supervisor's socket
//! has closed.

use std::time::{Duration, Instant};

use agent_protocol::{TaskSpec, TaskStatus};
use ecs::TaskId;
use ecs::task::LastStatus;
use runtime::task_dir::{self, Task};

use super::clock;
use crate::host::Host;
use crate::recovery::{self, Network, chain};

/// How long a supervisor may neither have its task nor be gone: it was given up by its driver and cleans up, or has
/// stopped and goes.
const SETTLING_LIMIT: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) enum Found {
    /// Its supervisor lives.
    Living(Box<TaskSpec>),
    Stopped(Box<TaskSpec>, Box<TaskStatus>),
    /// No directory, or none that says what the task is, and no supervisor.
    Nothing,
    /// It cannot be said now.
    Unclear(String),
}

/// Blocks for as long as the task is on its way from one to the other. What a dead supervisor has left is cleaned up.
pub(super) fn find(host: &Host, id: &TaskId) -> Found {
    let since = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        match look(host, id) {
            Ok(found) => return found,
            Err(why) if since.elapsed() > SETTLING_LIMIT => return Found::Unclear(why),
            Err(_) => {}
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// At once. The error says why it is neither yet.
pub(super) fn look(host: &Host, id: &TaskId) -> Result<Found, String> {
    let state = host.roots.places(id).state;
    let supervised = task_dir::supervised(&state).map_err(|error| chain(&error))?;
    match task_dir::read(&host.roots, id).map_err(|error| chain(&error))? {
        Some(Task { spec, status: Some(status) }) if status.last_status == LastStatus::Stopped => {
            Ok(Found::Stopped(Box::new(spec), Box::new(status)))
        }
        // A first status is the supervisor's word that it has the task.
        Some(Task { spec, status: Some(_) }) if supervised => Ok(Found::Living(Box::new(spec))),
        _ if supervised => Err("its supervisor has not taken it over".to_owned()),
        None if !state.exists() => Ok(Found::Nothing),
        _ => {
            recovery::recover(host, Network::IfCutShort, clock::now());
            Err("what is left of it cannot be cleaned up".to_owned())
        }
    }
}
