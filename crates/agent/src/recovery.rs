//! What SIGKILL, power cuts and crashes left behind, found and removed before anything new is made.

use ecs::{TaskId, Timestamp};
use runtime::task_dir;

use crate::host::Host;
use crate::shipping;

/// What was found and removed, and what could not be.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Tasks that were cut short and are STOPPED now.
    pub ended: Vec<TaskId>,
    /// Tasks that had not been written down; nothing is left of them.
    pub removed: Vec<TaskId>,
    /// Links and published ports that no task owned any more.
    pub network: Vec<String>,
    pub errors: Vec<String>,
}

/// Whether the network is looked through too. It costs a dump of links and rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    Always,
    /// Only where a task was found that was cut short.
    IfCutShort,
}

/// Safe at any time and from several processes at once; tasks that live or are being made are not touched.
pub fn recover(host: &Host, network: Network, now: Timestamp) -> Recovered {
    let report = runtime::recover::recover(&host.roots, now);
    let mut recovered =
        Recovered { ended: report.ended, removed: report.removed, network: Vec::new(), errors: report.errors };
    let cut_short = !recovered.ended.is_empty() || !recovered.removed.is_empty() || !recovered.errors.is_empty();
    if cut_short || network == Network::Always {
        let swept = network::sweep(&host.network, &|id| is_alive(host, id));
        recovered.network.extend(swept.links);
        recovered.network.extend(swept.ports.into_iter().map(|port| format!("port {port}")));
        recovered.errors.extend(swept.errors.iter().map(|error| chain(error)));
    }
    recovered.errors.extend(shipping::recover(host));
    tell(&recovered);
    recovered
}

/// A task directory is made before its network and removed after it; a task that has STOPPED has no network left.
/// What cannot be read is left alone.
fn is_alive(host: &Host, id: &TaskId) -> bool {
    let state = host.roots.places(id).state;
    match runtime::status_file::read(&state) {
        Ok(Some(status)) => status.last_status != ecs::task::LastStatus::Stopped,
        Ok(None) => state.exists(),
        Err(_) => true,
    }
}

fn tell(recovered: &Recovered) {
    for id in &recovered.ended {
        tracing::info!(task = %id, "a task that was cut short is stopped now");
    }
    for id in &recovered.removed {
        tracing::info!(task = %id, "what was left of a start that was cut short is removed");
    }
    for what in &recovered.network {
        tracing::info!(what, "removed from the network: no task owns it");
    }
    for error in &recovered.errors {
        tracing::warn!(error, "could not be cleaned up; the next coracle tries again");
    }
}

/// An error with all its causes in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// Layers that the containers of unfinished tasks stand on: what a collection of garbage has to keep.
pub fn layers_in_use(host: &Host) -> Result<Vec<std::path::PathBuf>, task_dir::TaskDirError> {
    let (tasks, unreadable) = task_dir::list(&host.roots)?;
    // A task that cannot be read may need any layer, so nothing may be collected.
    if let Some(error) = unreadable.into_iter().next() {
        return Err(error);
    }
    let living = tasks.into_iter().filter(|task| !task.is_stopped());
    Ok(living.flat_map(|task| task.spec.containers).flat_map(|container| container.image.layers).collect())
}
