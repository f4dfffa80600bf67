//! Removes what tasks left behind whose supervisor was killed.

use ecs::TaskId;

use crate::detach;
use crate::error::Error;
use crate::nft::{Published, Tenant};
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
    let dead = |tenant: &Tenant| tenant.instance == settings.instance && !alive(&tenant.task);
    let mut errors = Vec::new();
    // First the way in, then the links: nothing is sent to an address that somebody else may get.
    let ports = detach::withdraw(settings, &dead, &mut errors);
    let links = detach::delete_links(&dead, &mut errors);
    let port = |port: &Published| format!("{} {}", protocol_name(port.key.protocol), port.key.port);
    SweepReport { links, ports: ports.iter().map(port).collect(), errors }
}
