//! What the tests of this module stand on.

use agent_protocol::session::{AssignedTask, Desired};
use ecs::{TaskId, Timestamp};
use serde_json::json;

pub(crate) fn id(number: u8) -> TaskId {
    TaskId::from_bytes([number; 16])
}

pub(crate) fn assigned(number: u8, desired: Desired) -> AssignedTask {
    let definition = json!({"family": "shop", "revision": 3, "containerDefinitions": [
        {"name": "web", "image": "x", "memory": 64, "cpu": 10}, {"name": "sidecar", "image": "y", "memory": 64}
    ]});
    AssignedTask {
        id: id(number),
        cluster: "harbour".to_owned(),
        region: "eu-west-1".to_owned(),
        account_id: "123456789012".to_owned(),
        definition: Box::new(serde_json::from_value(definition).expect("a task definition")),
        launch_type: "EC2".to_owned(),
        group: "family:shop".to_owned(),
        service: None,
        network: None,
        enable_execute_command: false,
        tags: Vec::new(),
        created_at: Timestamp::from_epoch_ms(1_000),
        desired,
    }
}
