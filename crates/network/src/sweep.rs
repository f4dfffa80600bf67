//! Removes what tasks left behind whose supervisor was killed.

use ecs::TaskId;

use crate::detach;
use crate::error::Error;
use crate::plan::protocol_name;
use crate::settings::Settings;

/// What was removed, and what could not be.
#[derive(Debug, Default)]
pub struct SweepReport {
    /// By name.
    pub links: Vec<String>,
    /// As `tcp 8080`.
    pub ports: Vec<String>,
    pub errors: Vec<Error>,
}

/// Removes links and published ports of our instance whose task is not alive. A task counts as alive from before
/// its `attach` on, or it is swept while it is being made.
pub fn sweep(settings: &Settings, alive: &dyn Fn(&TaskId) -> bool) -> SweepReport {
    let removed = detach::remove(settings, &|tenant| tenant.instance == settings.instance && !alive(&tenant.task));
    let port = |port: &crate::nft::Published| format!("{} {}", protocol_name(port.key.protocol), port.key.port);
    SweepReport { links: removed.links, ports: removed.ports.iter().map(port).collect(), errors: removed.errors }
}
