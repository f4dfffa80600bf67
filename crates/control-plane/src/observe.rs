//! What container instances say, as changes of records.
//!
//! A late or repeated report changes nothing: the versions of what is observed of a task only grow, and STOPPED is the
//! end. Nothing of an instance's earlier connection may come after its next `Arrived`; within one, reports come in the
//! order in which they were said.

use std::collections::BTreeSet;

use agent_protocol::session::{Generation, Hello, PROTOCOL, TaskReport};
use ecs::operations::shapes::VersionInfo;
use ecs::task::{ContainerLastStatus, DesiredStatus, HealthStatus, LastStatus, StopCode, Task};
use ecs::{ContainerInstanceId, TaskId, Timestamp};

use crate::change::{Changes, Record};
use crate::draft::Draft;
use crate::names::DEFAULT_CLUSTER;
use crate::records::{Cluster, ContainerInstance, InstanceStatus, Observed, TaskRecord};
use crate::state::State;
use crate::stopping;

/// An instance with this attribute belongs to the capacity provider of the attribute's value.
pub const CAPACITY_PROVIDER_ATTRIBUTE: &str = "coracle.capacity-provider";
/// Of a text that an instance gives: Amazon's agent cuts reasons at 1,024 characters.
const MAX_CHARACTERS: usize = 1024;
/// Of one task: it has one interface.
const MAX_ATTACHMENTS: usize = 8;

/// Why an instance may not come. Another try is of no use before something is changed by a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(
        "this control plane speaks version {PROTOCOL} of the session, not {given}; use the same build on both sides"
    )]
    Protocol { given: u32 },
    #[error("there is no cluster {cluster:?}; make it with CreateCluster, or have the instance join another one")]
    NoCluster { cluster: String },
    #[error("the instance belongs to cluster {is:?} and cannot join {wanted:?}; deregister it first")]
    OtherCluster { is: String, wanted: String },
    #[error("the instance is deregistered; have it join as a new one")]
    Deregistered,
    #[error(
        "the instance has run tasks for a control plane whose state this one does not have; restore that state, or have \
         the instance join as a new one, which ends its tasks"
    )]
    Unknown,
}

/// Whether `arrived` takes an instance in. Who answers the instance asks this first.
///
/// # Errors
/// Why not.
pub fn admit(state: &State, instance: &ContainerInstanceId, hello: &Hello) -> Result<(), Refusal> {
    if hello.protocol != PROTOCOL {
        return Err(Refusal::Protocol { given: hello.protocol });
    }
    if let Some(known) = state.instances.get(instance) {
        if known.status == InstanceStatus::Inactive {
            return Err(Refusal::Deregistered);
        }
        if known.cluster != hello.cluster {
            return Err(Refusal::OtherCluster { is: known.cluster.clone(), wanted: hello.cluster.clone() });
        }
        return Ok(());
    }
    // An empty assignment from a control plane that has lost its store would end everything that runs there.
    if hello.written != Generation::default() {
        return Err(Refusal::Unknown);
    }
    // Amazon's agent makes the default cluster by coming.
    let exists = state.clusters.get(&hello.cluster).is_some_and(|cluster| cluster.active);
    if exists || hello.cluster == DEFAULT_CLUSTER {
        Ok(())
    } else {
        Err(Refusal::NoCluster { cluster: hello.cluster.clone() })
    }
}

/// An instance has come, for the first time or again. Its next assignment is newer than any that it has.
pub fn arrived(state: &State, instance: &ContainerInstanceId, hello: &Hello, now: Timestamp) -> Changes {
    let mut draft = Draft::new(state);
    if admit(state, instance, hello).is_err() {
        return Changes::default();
    }
    if state.clusters.get(&hello.cluster).is_none_or(|cluster| !cluster.active) {
        draft.put(Record::Cluster(new_cluster(&hello.cluster, now)));
    }
    let known = state.instances.get(instance).map(|known| &**known);
    draft.put(Record::Instance(Box::new(registered(known, instance, hello, now))));
    draft.reassign(instance);
    // It had these tasks and no longer knows of them: starting them again would be a second start.
    let forgotten: Vec<TaskRecord> = state
        .living_tasks(instance)
        .filter(|task| task.observed.is_some() && task.assigned_in > hello.written)
        .map(|task| (**task).clone())
        .collect();
    for task in forgotten {
        draft.put_task(stopping::ended(task, stopping::lost_by_instance(), now));
    }
    draft.finish()
}

fn new_cluster(name: &str, now: Timestamp) -> Cluster {
    Cluster {
        name: name.to_owned(),
        active: true,
        settings: Vec::new(),
        configuration: None,
        service_connect_namespace: None,
        capacity_providers: Vec::new(),
        default_strategy: Vec::new(),
        tags: Vec::new(),
        changed_at: now,
    }
}

/// The instance's record: what it says of itself, and what is known of it beside that.
fn registered(
    known: Option<&ContainerInstance>,
    id: &ContainerInstanceId,
    hello: &Hello,
    now: Timestamp,
) -> ContainerInstance {
    let provider = hello.attributes.iter().find(|one| one.name.as_deref() == Some(CAPACITY_PROVIDER_ATTRIBUTE));
    ContainerInstance {
        id: id.clone(),
        cluster: hello.cluster.clone(),
        status: known.map_or(InstanceStatus::Active, |known| known.status),
        status_reason: known.and_then(|known| known.status_reason.clone()),
        connected: true,
        connection_changed_at: now,
        registered_at: known.map_or(now, |known| known.registered_at),
        host_name: hello.host_name.clone(),
        boot_id: hello.boot_id.clone(),
        cpu: hello.cpu,
        memory_mib: hello.memory_mib,
        reserved_ports: hello.reserved_ports.clone(),
        reserved_ports_udp: hello.reserved_ports_udp.clone(),
        gpu_ids: hello.gpu_ids.clone(),
        interfaces: hello.interfaces,
        attributes: hello.attributes.clone(),
        custom_attributes: known.map(|known| known.custom_attributes.clone()).unwrap_or_default(),
        version_info: Some(VersionInfo {
            agent_version: Some(hello.agent_version.clone()),
            ..known.and_then(|known| known.version_info.clone()).unwrap_or_default()
        }),
        capacity_provider: provider
            .and_then(|attribute| attribute.value.clone())
            .or_else(|| known.and_then(|known| known.capacity_provider.clone())),
        // Tags are given at registration; later ones are TagResource's.
        tags: known.map_or_else(|| hello.tags.clone(), |known| known.tags.clone()),
        version: known.map_or(0, |known| known.version),
        assigned: known.map(|known| known.assigned).unwrap_or_default().max(hello.written),
        pressing: known.map(|known| known.pressing).unwrap_or_default(),
        written: hello.written,
        inactive_since: None,
    }
}

/// An instance tells how tasks stand. `whole`: these are all that it has, so a task that it had written down and does not
/// name is gone.
pub fn observed(
    state: &State,
    instance: &ContainerInstanceId,
    whole: bool,
    tasks: &[TaskReport],
    now: Timestamp,
) -> Changes {
    let Some(record) = state.instances.get(instance) else { return Changes::default() };
    let reported: BTreeSet<&TaskId> = tasks.iter().map(|report| &report.id).collect();
    let missing = |task: &&std::sync::Arc<TaskRecord>| {
        let had = task.observed.is_some() || task.assigned_in <= record.written;
        whole && had && !reported.contains(&task.id)
    };
    let missing: Vec<TaskRecord> = state.living_tasks(instance).filter(missing).map(|task| (**task).clone()).collect();
    let known = |report: &&TaskReport| {
        let task = state.tasks.get(&report.id);
        task.is_some_and(|task| task.instance.as_ref() == Some(instance))
    };
    if missing.is_empty() && !tasks.iter().any(|report| known(&report)) {
        return Changes::default();
    }
    let mut draft = Draft::new(state);
    for report in tasks.iter().filter(known) {
        let Some(task) = draft.state().tasks.get(&report.id) else { continue };
        if let Some(changed) = merged(task, &report.task, now) {
            draft.put_reported_task(changed);
        }
    }
    for task in missing {
        draft.put_task(stopping::ended(task, stopping::lost_by_instance(), now));
    }
    draft.finish()
}

/// An instance's connection has gone. Its tasks go on as they are, as those of a disconnected agent do at Amazon's.
pub fn left(state: &State, instance: &ContainerInstanceId, now: Timestamp) -> Changes {
    let mut changes = Changes::default();
    if let Some(known) = state.instances.get(instance).filter(|known| known.connected) {
        let mut record = (**known).clone();
        record.connected = false;
        record.connection_changed_at = now;
        record.version += 1;
        changes.put(Record::Instance(Box::new(record)));
    }
    changes
}

/// A task with what a report says of it. Nothing when the report is old or says nothing new.
pub(crate) fn merged(task: &TaskRecord, report: &Task, now: Timestamp) -> Option<TaskRecord> {
    if task.is_stopped() || !is_newer(task, report) {
        return None;
    }
    let mut changed = task.clone();
    changed.connected_at = task.connected_at.or(Some(now));
    changed.last_status = report.last_status;
    changed.observed = Some(observation(task, report));
    // The first reason is the one that was told; a task that ends by itself has none before its report.
    if report.stop_code.is_some() && task.stop_code.is_none() && task.desired_status == DesiredStatus::Running {
        changed.stop_code = report.stop_code;
        changed.stopped_reason = report.stopped_reason.as_deref().map(cut);
    }
    if report.desired_status == DesiredStatus::Stopped || report.last_status >= LastStatus::Stopping {
        changed.desired_status = DesiredStatus::Stopped;
    }
    changed.stopping_at = task.stopping_at.or(report.stopping_at);
    if changed.is_stopped() {
        changed.stopping_at = changed.stopping_at.or(Some(now));
        changed.stopped_at = report.stopped_at.or(Some(now));
        changed.stopped_seen_at = Some(now);
        changed.stop_code = changed.stop_code.or(Some(StopCode::EssentialContainerExited));
    }
    let mut but_for_its_version = changed.clone();
    if let (Some(after), Some(before)) = (&mut but_for_its_version.observed, &task.observed) {
        after.version = before.version;
    }
    if but_for_its_version == *task {
        return None;
    }
    let makes_an_event = told(task) != told(&changed);
    changed.version += u64::from(makes_an_event);
    Some(changed)
}

/// What of a task makes an event when it changes: "a container in the task changes state" and the task's own. When a pull
/// began, or which address a container has got, is told with the next of them
/// (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_task_events.html>).
fn told(task: &TaskRecord) -> impl PartialEq + use<'_> {
    let observed = task.observed.as_ref();
    let containers: Vec<_> = task
        .definition
        .container_definitions
        .iter()
        .map(|defined| {
            let mut reported = observed.into_iter().flat_map(|observed| &observed.containers);
            let reported = reported.find(|container| container.name == defined.name);
            reported.map_or((ContainerLastStatus::Pending, HealthStatus::Unknown, None, None), |container| {
                (container.last_status, container.health_status, container.exit_code, container.reason.as_deref())
            })
        })
        .collect();
    let health = observed.map_or(HealthStatus::Unknown, |observed| observed.health_status);
    let ending = (task.stop_code, task.stopped_reason.as_deref());
    (task.last_status, task.desired_status, health, ending, containers)
}

/// A report of the same version counts only if it leads on: what is reported before a supervisor's first status has the
/// version of that status.
fn is_newer(task: &TaskRecord, report: &Task) -> bool {
    match &task.observed {
        None => true,
        Some(observed) => {
            report.version > observed.version
                || (report.version == observed.version && report.last_status >= task.last_status)
        }
    }
}

fn observation(task: &TaskRecord, report: &Task) -> Observed {
    let named = |container: &&ecs::task::Container| {
        task.definition.container_definitions.iter().any(|defined| defined.name == container.name)
    };
    let mut containers: Vec<_> = report.containers.iter().filter(named).cloned().collect();
    for container in &mut containers {
        container.reason = container.reason.as_deref().map(cut);
        container.runtime_id = container.runtime_id.as_deref().map(cut);
        container.image_digest = container.image_digest.as_deref().map(cut);
        // Made anew for whoever asks.
        container.container_arn.clear();
        container.task_arn.clear();
        container.managed_agents.clear();
    }
    Observed {
        version: report.version,
        containers,
        attachments: report.attachments.iter().take(MAX_ATTACHMENTS).cloned().collect(),
        health_status: report.health_status,
        availability_zone: report.availability_zone.clone(),
        pull_started_at: report.pull_started_at,
        pull_stopped_at: report.pull_stopped_at,
        started_at: report.started_at,
        execution_stopped_at: report.execution_stopped_at,
    }
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_CHARACTERS).collect()
}
