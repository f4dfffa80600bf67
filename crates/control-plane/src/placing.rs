//! From a task to an instance: what the scheduler is asked, and what becomes of the task.

use std::collections::BTreeMap;

use ecs::task::LastStatus;
use ecs::task_definition::PlacementConstraint;
use ecs::{ContainerInstanceId, LaunchType};
use scheduler::{Unplaceable, Wanted};

use crate::answer::capacity_providers::BUILT_IN;
use crate::input::Ids;
use crate::observe::CAPACITY_PROVIDER_ATTRIBUTE;
use crate::records::TaskRecord;
use crate::state::State;

/// Calls with all that is asked of an instance for this task.
pub(crate) fn with_wanted<T>(state: &State, task: &TaskRecord, use_it: impl FnOnce(&Wanted<'_>) -> T) -> T {
    let definition = state.task_definitions.get(&(task.family.clone(), task.revision));
    let mut constraints = task.definition.placement_constraints.clone();
    constraints.extend(task.constraints.iter().cloned());
    constraints.extend(of_provider(task));
    use_it(&Wanted {
        demand: &task.demand,
        launch_type: LaunchType::read(&task.launch_type).unwrap_or(LaunchType::Ec2),
        group: &task.group,
        family: &task.family,
        constraints: &constraints,
        strategies: &task.strategies,
        attributes: definition.map(|definition| &*definition.requires_attributes).unwrap_or_default(),
    })
}

/// The instance for a task in its cluster as it stands.
pub(crate) fn choose(state: &State, task: &TaskRecord, ids: &mut dyn Ids) -> Result<ContainerInstanceId, Unplaceable> {
    let Some(fleet) = state.fleets.get(&task.cluster) else { return Err(Unplaceable { lacks: Vec::new() }) };
    let dice = ids.random().iter().take(8).fold(0, |dice, byte| dice << 8 | u64::from(*byte));
    with_wanted(state, task, |wanted| scheduler::place(fleet, wanted, dice)).map(|placement| placement.instance)
}

/// A task on its instance. Its interface is made there, so in awsvpc mode it stays PROVISIONING until the instance reports.
pub(crate) fn placed(mut task: TaskRecord, instance: ContainerInstanceId) -> TaskRecord {
    task.instance = Some(instance);
    if task.network.is_none() {
        task.last_status = LastStatus::Pending;
    }
    task.version += 1;
    task
}

/// An instance belongs to a capacity provider by its attribute.
fn of_provider(task: &TaskRecord) -> Option<PlacementConstraint> {
    let provider = task.capacity_provider.as_deref().filter(|name| !BUILT_IN.contains(name))?;
    Some(PlacementConstraint {
        kind: Some("memberOf".to_owned()),
        expression: Some(format!("attribute:{CAPACITY_PROVIDER_ATTRIBUTE} == {provider}")),
    })
}

/// The reason of a task that has waited in vain, as Amazon spells it.
pub(crate) fn why_waiting(state: &State, task: &TaskRecord) -> &'static str {
    let members: Vec<_> = state
        .instances
        .values()
        .filter(|instance| instance.cluster == task.cluster && instance.capacity_provider == task.capacity_provider)
        .collect();
    if members.is_empty() {
        return "EMPTY CAPACITY PROVIDER";
    }
    if !members.iter().any(|instance| instance.status == crate::records::InstanceStatus::Active) {
        return "NO ACTIVE INSTANCES";
    }
    let Some(fleet) = state.fleets.get(&task.cluster) else { return "NO ACTIVE INSTANCES" };
    match with_wanted(state, task, |wanted| scheduler::place(fleet, wanted, 0)) {
        Ok(_) => "AGENT",
        Err(unplaceable) => {
            let members: Vec<&ContainerInstanceId> = members.iter().map(|instance| &instance.id).collect();
            let of_members = unplaceable.lacks.iter().filter(|(id, _)| members.contains(&id));
            most_common(of_members.map(|(_, lack)| lack.reason()))
        }
    }
}

/// Of several reasons the most frequent; of equals the first by name.
pub(crate) fn most_common(reasons: impl Iterator<Item = &'static str>) -> &'static str {
    let mut times: BTreeMap<&'static str, usize> = BTreeMap::new();
    for reason in reasons {
        *times.entry(reason).or_default() += 1;
    }
    let most = times.iter().max_by(|one, other| one.1.cmp(other.1).then(other.0.cmp(one.0)));
    most.map_or("NO ACTIVE INSTANCES", |(reason, _)| *reason)
}
