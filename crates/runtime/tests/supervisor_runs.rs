//! A supervisor from its start to its end: exit codes, stops, order, output.

#[allow(dead_code, reason = "each test file uses its part of the host")]
mod host;

use ecs::task::{ContainerLastStatus, LastStatus, StopCode};
use host::{Host, container};
use serde_json::json;

#[test]
fn exit_codes_are_the_containers() {
    let host = Host::new();
    for (serial, script, expected) in [(1, "exit 0", 0), (2, "exit 3", 3), (3, "exec /bin/false", 1)] {
        let task = host.script(serial, script);
        let status = host.run(&task);
        let app = container(&status, "app");
        assert_eq!(status.stop_code, Some(StopCode::EssentialContainerExited), "{status:?}");
        assert_eq!(status.stopped_reason.as_deref(), Some("Essential container in task exited"));
        assert_eq!(status.ended_by.as_ref().map(|name| name.as_str()), Some("app"));
        assert_eq!(app.last_status, ContainerLastStatus::Stopped);
        assert_eq!(app.exit_code, Some(expected), "{script}{}", host.journal(&task));
        assert_eq!(status.teardown_errors, Vec::<String>::new());
        host.assert_gone(&task.places);
    }
}
