//! Any strategies in any order: of all that fit, each strategy keeps the best.

use std::collections::BTreeMap;

use super::{Search, Strategy, shuffled};
use crate::member::Member;
use crate::pool::Pool;

pub(super) fn choose<'a>(search: &Search<'a>, strategies: &[Strategy]) -> Option<&'a Member> {
    choose_of(search, &search.fleet.all, strategies)
}

pub(super) fn choose_of<'a>(search: &Search<'a>, pool: &Pool, strategies: &[Strategy]) -> Option<&'a Member> {
    let members = pool.by_id.iter().filter_map(|(id, ())| search.fitting(*id));
    decide(search, members.collect(), strategies)
}

/// Of instances that fit, one that no other is better than.
pub(super) fn decide<'a>(
    search: &Search<'a>,
    mut left: Vec<&'a Member>,
    strategies: &[Strategy],
) -> Option<&'a Member> {
    for strategy in strategies {
        left = best(search, left, strategy);
    }
    let chosen = left.iter().enumerate().min_by_key(|(index, _)| shuffled(*index as u64, search.dice));
    chosen.map(|(_, member)| *member)
}

fn best<'a>(search: &Search<'_>, left: Vec<&'a Member>, strategy: &Strategy) -> Vec<&'a Member> {
    let group = search.wanted.group;
    match strategy {
        Strategy::Random => left,
        Strategy::BinpackCpu => fewest(left, |member| u64::from(member.free_cpu())),
        Strategy::BinpackMemory => fewest(left, Member::free_memory_mib),
        Strategy::SpreadInstances => fewest(left, |member| u64::from(member.tasks_of(group))),
        Strategy::SpreadAttribute(name) => {
            // Tasks of the group for each value, on whatever instances they are.
            let mut tasks: BTreeMap<&str, u64> = BTreeMap::new();
            for member in search.fleet.members() {
                let value = member.instance.attribute(name).unwrap_or_default();
                *tasks.entry(value).or_default() += u64::from(member.tasks_of(group));
            }
            fewest(left, |member| match member.instance.attribute(name) {
                Some(value) => tasks.get(value).copied().unwrap_or(0),
                None => u64::MAX,
            })
        }
    }
}

fn fewest(left: Vec<&Member>, of: impl Fn(&Member) -> u64) -> Vec<&Member> {
    let Some(least) = left.iter().map(|member| of(member)).min() else { return left };
    left.into_iter().filter(|member| of(member) == least).collect()
}
