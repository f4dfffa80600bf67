//! State changes as events in EventBridge's shape
//! (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_cwe_events.html>): task state change and container
//! instance state change. `detail.version` orders those of one resource.

use std::collections::BTreeSet;

use ecs::arn::{self, Account};
use ecs::{ContainerInstanceId, TaskId, Timestamp};
use serde_json::{Map, Value, json};

use crate::change::{Changes, Key};
use crate::input::Ids;
use crate::records::{ContainerInstance, InstanceStatus, TaskRecord};
use crate::shown;
use crate::state::State;

/// Members of a task that are times: seconds in answers, ISO 8601 in events.
const TIMES: [&str; 8] = [
    "connectivityAt",
    "createdAt",
    "executionStoppedAt",
    "pullStartedAt",
    "pullStoppedAt",
    "startedAt",
    "stoppedAt",
    "stoppingAt",
];

/// What a batch of changes comes to.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    pub before: &'a State,
    pub changes: &'a Changes,
    pub after: &'a State,
    pub now: Timestamp,
    /// Of resources that were made by nobody's request: container instances.
    pub home: Account<'a>,
}

/// One event for each resource whose version has changed, in the order in which they did.
pub fn events(batch: &Batch<'_>, ids: &mut dyn Ids) -> Vec<Value> {
    let mut told: BTreeSet<Key> = BTreeSet::new();
    let mut events = Vec::new();
    for change in &batch.changes.0 {
        let key = change.key();
        let event = match &key {
            Key::Task(id) if told.insert(key.clone()) => task(batch, id, ids),
            Key::Instance(id) if told.insert(key.clone()) => instance(batch, id, ids),
            Key::Task(_)
            | Key::Instance(_)
            | Key::Cluster(_)
            | Key::CapacityProvider(_)
            | Key::Family(_)
            | Key::TaskDefinition(..)
            | Key::AccountSetting(..)
            | Key::Token(..) => None,
        };
        events.extend(event);
    }
    events
}

fn task(batch: &Batch<'_>, id: &TaskId, ids: &mut dyn Ids) -> Option<Value> {
    let task = batch.after.tasks.get(id)?;
    if batch.before.tasks.get(id).is_some_and(|before| before.version == task.version) {
        return None;
    }
    let account = Account { region: &task.region, account_id: &task.account_id };
    let detail = task_detail(batch, task, account);
    let envelope = Envelope { kind: "ECS Task State Change", account, resource: account.task(&task.cluster, id) };
    Some(envelope.around(detail, batch.now, ids))
}

fn task_detail(batch: &Batch<'_>, task: &TaskRecord, account: Account<'_>) -> Map<String, Value> {
    let mut detail = object(&shown::task(batch.after, task, account));
    for name in TIMES {
        iso(&mut detail, name);
    }
    for attachment in list(&mut detail, "attachments") {
        attachment.insert("type".to_owned(), json!("eni"));
    }
    for container in list(&mut detail, "containers") {
        for agent in list(container, "managedAgents") {
            iso(agent, "lastStartedAt");
        }
    }
    detail.insert("updatedAt".to_owned(), json!(batch.now.rfc3339()));
    detail
}

fn instance(batch: &Batch<'_>, id: &ContainerInstanceId, ids: &mut dyn Ids) -> Option<Value> {
    let instance = batch.after.instances.get(id)?;
    if batch.before.instances.get(id).is_some_and(|before| before.version == instance.version) {
        return None;
    }
    let account = batch.home;
    let resource = account.container_instance(&instance.cluster, id);
    let detail = instance_detail(batch, instance, account);
    let envelope = Envelope { kind: "ECS Container Instance State Change", account, resource };
    Some(envelope.around(detail, batch.now, ids))
}

fn instance_detail(batch: &Batch<'_>, instance: &ContainerInstance, account: Account<'_>) -> Map<String, Value> {
    let (remaining_cpu, remaining_mib) = batch
        .after
        .fleets
        .get(&instance.cluster)
        .and_then(|fleet| fleet.remaining(&instance.id))
        .unwrap_or((instance.cpu, instance.memory_mib));
    let attributes: Vec<_> = instance.attributes.iter().chain(&instance.custom_attributes).collect();
    let status = match instance.status {
        InstanceStatus::Active => "ACTIVE",
        InstanceStatus::Draining => "DRAINING",
        InstanceStatus::Inactive => "INACTIVE",
    };
    let whole = json!({
        "agentConnected": instance.connected,
        "attributes": attributes,
        "clusterArn": account.cluster(&instance.cluster),
        "containerInstanceArn": account.container_instance(&instance.cluster, &instance.id),
        "ec2InstanceId": instance.host_name,
        "registeredAt": instance.registered_at.rfc3339(),
        "registeredResources": resources(instance.cpu, instance.memory_mib, instance),
        "remainingResources": resources(remaining_cpu, remaining_mib, instance),
        "status": status,
        "statusReason": instance.status_reason,
        "updatedAt": batch.now.rfc3339(),
        "version": instance.version,
        "versionInfo": instance.version_info,
    });
    let mut detail = object(&whole);
    detail.retain(|_, value| !value.is_null());
    detail
}

fn resources(cpu: u32, memory_mib: u64, instance: &ContainerInstance) -> Value {
    let ports = |name: &str, ports: &[u16]| {
        let texts: Vec<String> = ports.iter().map(u16::to_string).collect();
        json!({"name": name, "type": "STRINGSET", "stringSetValue": texts})
    };
    json!([
        {"name": "CPU", "type": "INTEGER", "integerValue": cpu},
        {"name": "MEMORY", "type": "INTEGER", "integerValue": memory_mib},
        ports("PORTS", &instance.reserved_ports),
        ports("PORTS_UDP", &instance.reserved_ports_udp),
    ])
}

struct Envelope<'a> {
    kind: &'static str,
    account: Account<'a>,
    resource: String,
}

impl Envelope<'_> {
    fn around(self, detail: Map<String, Value>, now: Timestamp, ids: &mut dyn Ids) -> Value {
        // Whole seconds, as in Amazon's envelopes; `updatedAt` has the milliseconds.
        let time = now.rfc3339();
        let time = time.split_once('.').map_or(time.clone(), |(seconds, _)| format!("{seconds}Z"));
        json!({
            "version": "0",
            "id": arn::uuid(ids.random()),
            "detail-type": self.kind,
            "source": "aws.ecs",
            "account": self.account.account_id,
            "time": time,
            "region": self.account.region,
            "resources": [self.resource],
            "detail": detail,
        })
    }
}

fn object<T: serde::Serialize>(value: &T) -> Map<String, Value> {
    match ecs::json::value_of(value) {
        Ok(Value::Object(members)) => members,
        // Of plain data neither happens.
        Ok(_) | Err(_) => Map::new(),
    }
}

fn list<'a>(object: &'a mut Map<String, Value>, name: &str) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    let items = object.get_mut(name).and_then(Value::as_array_mut);
    items.into_iter().flatten().filter_map(Value::as_object_mut)
}

fn iso(object: &mut Map<String, Value>, name: &str) {
    if let Some(value) = object.get_mut(name)
        && let Some(at) = value.as_f64().and_then(|seconds| Timestamp::from_epoch_text(&format!("{seconds:.3}")))
    {
        *value = Value::String(at.rfc3339());
    }
}
