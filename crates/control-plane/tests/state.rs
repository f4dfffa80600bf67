//! What a state derives is a matter of its records alone, and not of the way on which they came.

#[path = "support/derived.rs"]
mod derived;

use std::collections::BTreeMap;
use std::sync::Arc;

use control_plane::records::{ContainerInstance, InstanceStatus, TaskRecord};
use control_plane::{Change, Key, Record, Settings, State};
use derived::derived;
use ecs::task::{DesiredStatus, LastStatus};
use ecs::{ContainerInstanceId, TaskId, Timestamp};
use proptest::prelude::*;
use scheduler::Demand;

const CLUSTERS: [&str; 2] = ["one", "two"];

fn instance(number: u8, status: InstanceStatus, connected: bool) -> ContainerInstance {
    ContainerInstance {
        id: ContainerInstanceId::from_bytes([number; 16]),
        cluster: CLUSTERS[usize::from(number) % 2].to_owned(),
        status,
        status_reason: None,
        connected,
        connection_changed_at: Timestamp::from_epoch_ms(u64::from(number)),
        registered_at: Timestamp::from_epoch_ms(0),
        host_name: format!("host-{number}"),
        boot_id: "boot".to_owned(),
        cpu: 1024,
        memory_mib: 1024,
        reserved_ports: Vec::new(),
        reserved_ports_udp: Vec::new(),
        gpu_ids: Vec::new(),
        interfaces: 2,
        attributes: Vec::new(),
        custom_attributes: Vec::new(),
        version_info: None,
        capacity_provider: None,
        tags: Vec::new(),
        version: 1,
        assigned: Default::default(),
        pressing: Default::default(),
        written: Default::default(),
        inactive_since: (status == InstanceStatus::Inactive && connected).then_some(Timestamp::from_epoch_ms(9)),
    }
}

/// On instance 0 it waits for one.
fn task(number: u8, on: u8, last_status: LastStatus, wanted: bool) -> TaskRecord {
    let definition = r#"{"family": "f", "containerDefinitions": [{"name": "c", "image": "x"}]}"#;
    TaskRecord {
        id: TaskId::from_bytes([number; 16]),
        cluster: CLUSTERS[usize::from(on) % 2].to_owned(),
        region: "r".to_owned(),
        account_id: "1".to_owned(),
        instance: (on != 0).then(|| ContainerInstanceId::from_bytes([on; 16])),
        family: format!("f{}", number % 2),
        revision: 1,
        definition: Arc::new(serde_json::from_str(definition).expect("a definition")),
        overrides: None,
        demand: Demand { cpu: 10, memory_mib: 7, tcp_ports: vec![u16::from(number)], ..Demand::default() },
        launch_type: "EC2".to_owned(),
        capacity_provider: None,
        platform_version: None,
        group: "g".to_owned(),
        started_by: None,
        network: None,
        enable_execute_command: false,
        constraints: Vec::new(),
        strategies: Vec::new(),
        tags: Vec::new(),
        created_at: Timestamp::from_epoch_ms(u64::from(number)),
        last_status,
        desired_status: if wanted { DesiredStatus::Running } else { DesiredStatus::Stopped },
        version: 1,
        stop_code: None,
        stopped_reason: None,
        stopping_at: None,
        stopped_at: None,
        observed: None,
        protected_until: None,
        client_token: None,
        assigned_in: Default::default(),
        connected_at: None,
        stopped_seen_at: (last_status == LastStatus::Stopped).then_some(Timestamp::from_epoch_ms(u64::from(on))),
    }
}

fn change() -> impl Strategy<Value = Change> {
    let status =
        prop_oneof![Just(InstanceStatus::Active), Just(InstanceStatus::Draining), Just(InstanceStatus::Inactive)];
    let last = prop_oneof![Just(LastStatus::Provisioning), Just(LastStatus::Running), Just(LastStatus::Stopped)];
    prop_oneof![
        2 => (1..5u8, status, any::<bool>())
            .prop_map(|(number, status, connected)| put(Record::Instance(Box::new(instance(number, status, connected))))),
        1 => (1..5u8).prop_map(|number| Change::Remove(Key::Instance(ContainerInstanceId::from_bytes([number; 16])))),
        6 => (1..9u8, 0..5u8, last, any::<bool>())
            .prop_map(|(number, on, last, wanted)| put(Record::Task(Box::new(task(number, on, last, wanted))))),
        1 => (1..9u8).prop_map(|number| Change::Remove(Key::Task(TaskId::from_bytes([number; 16])))),
    ]
}

fn put(record: Record) -> Change {
    Change::Put(record)
}

fn settings() -> Settings {
    Settings { lost_instance_ms: Some(100), ..Settings::default() }
}

proptest! {
    #[test]
    fn a_state_is_its_records(changes in prop::collection::vec(change(), 0..60), turn in 0usize..60) {
        let mut state = State::new(1, settings());
        let mut records: BTreeMap<Key, Record> = BTreeMap::new();
        for change in &changes {
            state.apply_one(change);
            match change {
                Change::Put(record) => drop(records.insert(record.key(), record.clone())),
                Change::Remove(key) => drop(records.remove(key)),
            }
        }
        let mut records: Vec<Record> = records.into_values().collect();
        if !records.is_empty() {
            let middle = turn % records.len();
            records.rotate_left(middle);
        }
        let mut rebuilt = State::new(1, settings());
        for record in records {
            rebuilt.apply_one(&put(record));
        }
        prop_assert_eq!(derived(&state), derived(&rebuilt));
    }
}

/// By the time at which they were seen to stop; those that live stay, however old.
#[test]
fn of_more_stopped_tasks_than_are_kept_the_oldest_go() {
    let mut state = State::new(1, Settings { stopped_tasks: 5, ..Settings::default() });
    for number in 1..=8 {
        // The first is the youngest.
        let stopped_seen_at = Some(Timestamp::from_epoch_ms(100 - u64::from(number)));
        let stopped = TaskRecord { stopped_seen_at, ..task(number, 1, LastStatus::Stopped, false) };
        state.apply_one(&put(Record::Task(Box::new(stopped))));
    }
    state.apply_one(&put(Record::Task(Box::new(task(9, 1, LastStatus::Running, true)))));
    let now = Timestamp::from_epoch_ms(200);
    let changes = control_plane::reconcile(&state, now, &mut || [0; 16]);
    state.apply(&changes);
    let left: Vec<TaskId> = state.tasks.keys().cloned().collect();
    assert_eq!(left, [1, 2, 3, 4, 5, 9].map(|number| TaskId::from_bytes([number; 16])));
    assert!(control_plane::reconcile(&state, now, &mut || [0; 16]).is_empty());
}
