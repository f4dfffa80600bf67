//! A cluster query of any text: a refusal, or an expression that can be asked of an instance.
#![no_main]

use ecs::operations::shapes::Attribute;
use ecs::{ContainerInstanceId, Timestamp};
use libfuzzer_sys::fuzz_target;
use scheduler::query::Facts;
use scheduler::{Instance, InstanceStatus, Query};

fuzz_target!(|text: &str| {
    let Ok(query) = Query::parse(text) else { return };
    let rack = Attribute { name: Some("rack".to_owned()), value: Some("12".to_owned()), ..Attribute::default() };
    let instance = Instance {
        id: ContainerInstanceId::from_bytes([1; 16]),
        status: InstanceStatus::Active,
        agent_connected: true,
        agent_version: "1.10.2".to_owned(),
        host_name: "i-abcd1234".to_owned(),
        registered_at: Timestamp::from_epoch_ms(1_529_360_908_000),
        attributes: vec![rack],
        cpu: 1024,
        memory_mib: 1024,
        reserved_tcp_ports: Vec::new(),
        reserved_udp_ports: Vec::new(),
        gpus: 0,
        interfaces: 1,
    };
    query.matches(&Facts::new(&instance, 3, &["service:production"]));
});
