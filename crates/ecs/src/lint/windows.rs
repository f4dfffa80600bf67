//! What Amazon does not register for Windows: members of Linux alone.
//!
//! A definition for Windows is registered, and this host refuses to run it by its `runtimePlatform`. The lists are the
//! members of which API_RegisterTaskDefinition and API_ContainerDefinition say "This parameter is not supported for
//! Windows containers"; Amazon's words for it are not known.

use serde_json::Value;

use super::Findings;
use super::place::Place;

const TASK_LACKS: [&str; 2] = ["pidMode", "ipcMode"];
const CONTAINER_LACKS: [&str; 11] = [
    "links",
    "linuxParameters",
    "privileged",
    "readonlyRootFilesystem",
    "disableNetworking",
    "dnsServers",
    "dnsSearchDomains",
    "extraHosts",
    "user",
    "ulimits",
    "systemControls",
];

pub(super) fn check(root: &Place<'_>, findings: &mut Findings) {
    let system = root.member("runtimePlatform").and_then(|platform| platform.text("operatingSystemFamily"));
    if !system.is_some_and(|system| system.starts_with("WINDOWS")) {
        return;
    }
    lacks(root, &TASK_LACKS, findings);
    for container in root.items("containerDefinitions") {
        lacks(&container, &CONTAINER_LACKS, findings);
    }
}

fn lacks(place: &Place<'_>, names: &[&str], findings: &mut Findings) {
    for name in names {
        let asked = place.member(name).is_some_and(|member| *member.value != Value::Bool(false));
        if asked {
            findings.error(place.path_of(name), "not supported for Windows containers");
        }
    }
}
