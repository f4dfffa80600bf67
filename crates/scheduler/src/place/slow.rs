//! Any strategies in any order: of all that fit, each strategy keeps the best.

use std::collections::BTreeMap;

use ecs::ContainerInstanceId;

use super::{Search, Strategy, shuffled};
use crate::fleet::Member;
use crate::pool::Pool;

pub(super) fn choose(search: &Search<'_>, strategies: &[Strategy]) -> Option<ContainerInstanceId> {
    choose_of(search, &search.fleet.all, strategies)
}

pub(super) fn choose_of(search: &Search<'_>, pool: &Pool, strategies: &[Strategy]) -> Option<ContainerInstanceId> {
    let members = pool.by_id.keys().filter(|id| search.fits(id)).filter_map(|id| search.fleet.member(id));
    decide(search, members.collect(), strategies)
}

/// Of instances that fit, one that no other is better than.
pub(super) fn decide(
    search: &Search<'_>,
    mut left: Vec<&Member>,
    strategies: &[Strategy],
) -> Option<ContainerInstanceId> {
    for strategy in strategies {
        left = best(search, left, strategy);
    }
    let chosen = left.iter().enumerate().min_by_key(|(index, _)| shuffled(*index as u64, search.dice));
    chosen.map(|(_, member)| member.instance.id.clone())
}

fn best<'a>(search: &Search<'_>, left: Vec<&'a Member>, strategy: &Strategy) -> Vec<&'a Member> {
    let group = search.wanted.group;
    match strategy {
        Strategy::Random => left,
        Strategy::BinpackCpu => fewest(left, |member| u64::from(member.free_cpu())),
        Strategy::BinpackMemory => fewest(left, Member::free_memory_mib),
        Strategy::SpreadInstances => fewest(left, |member| u64::from(tasks_of(member, group))),
        Strategy::SpreadAttribute(name) => {
            // Tasks of the group for each value, on whatever instances they are.
            let mut tasks: BTreeMap<&str, u64> = BTreeMap::new();
            for member in search.fleet.members() {
                let value = member.instance.attribute(name).unwrap_or_default();
                *tasks.entry(value).or_default() += u64::from(tasks_of(member, group));
            }
            fewest(left, |member| match member.instance.attribute(name) {
                Some(value) => tasks.get(value).copied().unwrap_or(0),
                None => u64::MAX,
            })
        }
    }
}

pub(super) fn tasks_of(member: &Member, group: &str) -> u32 {
    member.groups.get(group).copied().unwrap_or(0)
}

fn fewest(left: Vec<&Member>, of: impl Fn(&Member) -> u64) -> Vec<&Member> {
    let Some(least) = left.iter().map(|member| of(member)).min() else { return left };
    left.into_iter().filter(|member| of(member) == least).collect()
}
