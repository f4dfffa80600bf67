//! How shipping stands for one container: what the shipper writes down for people, and what they are shown of it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use agent_protocol::{ContainerSpec, TaskSpec};
use ecs::ContainerName;
use runtime::logs::read_shipped;
use runtime::shipper;
use runtime::task_dir::LOGS_NAME;
use serde::{Deserialize, Serialize};

use crate::driver::is_shipped;

/// Far above what a status takes; a larger file is not ours.
const MAX_BYTES: u64 = 64 << 10;

/// `<state>/shipping/<container>.json`; one writer, the task's shipper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    pub(crate) target: String,
    /// The latest failure, if the service has taken nothing since.
    #[serde(default)]
    pub(crate) failing: Option<String>,
    /// The latest failure ever.
    #[serde(default)]
    pub(crate) last_error: Option<String>,
    /// Everything is shipped or given up.
    #[serde(default)]
    pub(crate) finished: bool,
}

/// What is shown of one container's shipping.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shipping {
    pub driver: String,
    /// Where to: an address. Nothing before the shipper's first word.
    pub target: Option<String>,
    /// The container's bytes that the service has taken, line ends included.
    pub shipped_bytes: u64,
    /// Those that it never will.
    pub lost_bytes: u64,
    /// Why nothing gets through at present.
    pub failing: Option<String>,
    pub last_error: Option<String>,
    pub finished: bool,
    /// Whether a shipper is at work.
    pub running: bool,
}

/// Nothing for a container whose output stays on this host.
pub fn shipping(task: &TaskSpec, container: &ContainerSpec) -> Option<Shipping> {
    let definition = &container.definition;
    let log = definition.log_configuration.as_ref().filter(|_| is_shipped(definition))?;
    let state = &task.places.state;
    // What cannot be read is not known; the rest is told.
    let status = read(state, &definition.name).ok().flatten();
    let done = read_shipped(&state.join(LOGS_NAME), &definition.name).unwrap_or_default();
    Some(Shipping {
        driver: log.log_driver.clone(),
        target: status.as_ref().map(|status| status.target.clone()),
        shipped_bytes: done.position.bytes.saturating_sub(done.missing_bytes),
        lost_bytes: done.missing_bytes,
        failing: status.as_ref().and_then(|status| status.failing.clone()),
        last_error: status.as_ref().and_then(|status| status.last_error.clone()),
        finished: status.as_ref().is_some_and(|status| status.finished),
        running: shipper::stage(state).is_ok_and(|stage| stage == shipper::Stage::Running),
    })
}

fn path(state: &Path, container: &ContainerName) -> PathBuf {
    state.join(shipper::DIRECTORY).join(format!("{container}.json"))
}

/// Nothing before the shipper's first word.
pub(crate) fn read(state: &Path, container: &ContainerName) -> io::Result<Option<Status>> {
    let path = path(state, container);
    match fs::metadata(&path) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(cause),
        Ok(metadata) if metadata.len() > MAX_BYTES => {
            return Err(io::Error::other("too long to be a shipping status"));
        }
        Ok(_) => {}
    }
    serde_json::from_slice(&fs::read(&path)?).map(Some).map_err(io::Error::other)
}

/// Replaces the file whole.
pub(crate) fn write(state: &Path, container: &ContainerName, status: &Status) -> io::Result<()> {
    let path = path(state, container);
    let temporary = path.with_extension("new");
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
    let mut file = options.open(&temporary)?;
    file.write_all(&serde_json::to_vec(status).map_err(io::Error::other)?)?;
    fs::rename(&temporary, &path)
}
