//! All that a state derives from its records, in a form that can be compared.

use std::collections::BTreeSet;
use std::sync::Arc;

use control_plane::State;
use control_plane::records::TaskRecord;
use control_plane::state::By;
use ecs::task::DesiredStatus;
use ecs::{TaskId, Timestamp};

pub(crate) fn derived(state: &State) -> String {
    let fleets: Vec<_> = state
        .fleets
        .iter()
        .map(|(cluster, fleet)| {
            let free: Vec<_> = state
                .instances
                .keys()
                .map(|id| (id.clone(), fleet.remaining(id), fleet.used(id).map(|used| sorted(&used))))
                .collect();
            (cluster.clone(), free)
        })
        .collect();
    let clusters: BTreeSet<&String> = state.tasks.values().map(|task| &task.cluster).collect();
    let counts: Vec<_> = clusters.iter().map(|cluster| (*cluster, state.counts(cluster))).collect();
    let families: BTreeSet<&String> = state.tasks.values().map(|task| &task.family).collect();
    let of_family = |cluster: &str, family: &str, desired| {
        let tasks = state.tasks_with(cluster, desired, Some(By::Family(family.to_owned())));
        tasks.into_iter().flat_map(|tasks| tasks.keys().cloned()).collect::<Vec<_>>()
    };
    let mut by_family = Vec::new();
    for cluster in &clusters {
        for family in &families {
            for desired in [DesiredStatus::Running, DesiredStatus::Stopped] {
                by_family.push((cluster, family, desired, of_family(cluster, family, desired)));
            }
        }
    }
    let mut deadlines = Vec::new();
    while let Some(next) = state.deadline(deadlines.last().copied().unwrap_or(Timestamp::from_epoch_ms(0))) {
        deadlines.push(next);
    }
    format!(
        "{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}\n{:?}",
        state.tasks.keys().collect::<Vec<_>>(),
        keys(&state.tasks_of_instance),
        keys(&state.wanted_of_cluster),
        keys(&state.unwanted_of_cluster),
        state.users_of_definition.iter().collect::<Vec<_>>(),
        state.waiting.keys().collect::<Vec<_>>(),
        state.stopped.keys().collect::<Vec<_>>(),
        fleets,
        counts,
        by_family,
        deadlines,
    )
}

/// Ports in the order of their numbers: that of their coming is nobody's business.
fn sorted(used: &scheduler::Demand) -> scheduler::Demand {
    let mut used = used.clone();
    used.tcp_ports.sort_unstable();
    used.udp_ports.sort_unstable();
    used
}

fn keys<Owner: Clone + Ord>(
    map: &scheduler::Map<Owner, scheduler::Map<TaskId, Arc<TaskRecord>>>,
) -> Vec<(Owner, Vec<TaskId>)> {
    map.iter().map(|(owner, tasks)| (owner.clone(), tasks.keys().cloned().collect())).collect()
}
