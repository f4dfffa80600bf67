//! The choice: which instances can take a task, and which of them does
//! (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-placement-strategies.html>).
//!
//! Constraints bind, strategies are best effort: each narrows what the one before left, and the dice decide between equals
//! (binpack, which fills one of them anyway, takes what comes first in its order).
//! The strategies that people use walk an order that the fleet keeps, and so look at a few instances; any other
//! combination looks at all.

mod fit;
mod slow;

use std::sync::Arc;

use ecs::operations::shapes::PlacementStrategy;
use ecs::{ContainerInstanceId, TaskId};

use crate::Wanted;
use crate::fleet::{Fleet, InZone, ZONE_ATTRIBUTE};
use crate::member::Member;
use crate::pool::{Number, Pool};
use crate::tree::Tree;
pub use fit::{BadConstraint, Constraints};

/// Where a task goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    pub instance: ContainerInstanceId,
}

/// What one instance lacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    NotActive,
    AgentDisconnected,
    Cpu { needs: u32, free: u32 },
    Memory { needs_mib: u64, free_mib: u64 },
    Port { port: u16, protocol: &'static str, held_by: Option<TaskId> },
    Interfaces,
    Gpu { needs: u32, free: u32 },
    Attribute { name: String },
    Constraint { expression: String },
    Distinct { task: TaskId },
}

impl Lack {
    /// The reason of a failure in RunTask's answer
    /// (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/api_failures_messages.html>).
    pub fn reason(&self) -> &'static str {
        match self {
            Lack::NotActive => "INACTIVE",
            Lack::AgentDisconnected => "AGENT",
            Lack::Cpu { .. } => "RESOURCE:CPU",
            Lack::Memory { .. } => "RESOURCE:MEMORY",
            Lack::Port { .. } => "RESOURCE:PORTS",
            Lack::Interfaces => "RESOURCE:ENI",
            Lack::Gpu { .. } => "RESOURCE:GPU",
            Lack::Attribute { .. } => "ATTRIBUTE",
            Lack::Constraint { .. } | Lack::Distinct { .. } => "MemberOf placement constraint unsatisfied.",
        }
    }
}

/// No instance takes the task; for each, what was first found missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unplaceable {
    pub lacks: Vec<(ContainerInstanceId, Lack)>,
}

/// A strategy that has been read (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_PlacementStrategy.html>).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strategy {
    Random,
    BinpackCpu,
    BinpackMemory,
    /// `instanceId`, and `host`, which has the same effect.
    SpreadInstances,
    SpreadAttribute(String),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadStrategy {
    #[error("{given:?} is no placement strategy; there are random, spread and binpack")]
    Kind { given: String },
    #[error("placement strategy {kind} has no field {given:?}; {wanted}")]
    Field { kind: &'static str, given: String, wanted: &'static str },
}

impl Strategy {
    pub fn read(given: &PlacementStrategy) -> Result<Strategy, BadStrategy> {
        let field = given.field.as_deref().unwrap_or_default();
        let bad = |kind, wanted| Err(BadStrategy::Field { kind, given: field.to_owned(), wanted });
        match given.kind.as_deref().unwrap_or_default() {
            "random" => Ok(Strategy::Random),
            "binpack" => match field.to_ascii_lowercase().as_str() {
                "cpu" => Ok(Strategy::BinpackCpu),
                "memory" => Ok(Strategy::BinpackMemory),
                _ => bad("binpack", "there are cpu and memory"),
            },
            "spread" => match field.strip_prefix("attribute:") {
                Some(name) if !name.is_empty() => Ok(Strategy::SpreadAttribute(name.to_owned())),
                None if field == "instanceId" || field == "host" => Ok(Strategy::SpreadInstances),
                Some(_) | None => bad("spread", "there are instanceId, host and attribute:NAME"),
            },
            other => Err(BadStrategy::Kind { given: other.to_owned() }),
        }
    }
}

/// Chooses an instance. `dice` decides between equals. Strategies and constraints that cannot be read are passed over: they
/// were refused when they came.
///
/// # Errors
/// What every instance lacks.
pub fn place(fleet: &Fleet, wanted: &Wanted<'_>, dice: u64) -> Result<Placement, Unplaceable> {
    let constraints = Constraints::read(wanted.constraints);
    let strategies: Vec<Strategy> = wanted.strategies.iter().filter_map(|given| Strategy::read(given).ok()).collect();
    let search = Search { fleet, wanted, constraints: &constraints, dice };
    let found = match strategies.as_slice() {
        [Strategy::SpreadAttribute(name), rest @ ..] if name == ZONE_ATTRIBUTE && rest.len() <= 1 => {
            search.by_zone(rest.first().unwrap_or(&Strategy::Random))
        }
        [] => search.first_of(&fleet.all, None, &Strategy::Random),
        [one] if !matches!(one, Strategy::SpreadAttribute(_)) => search.first_of(&fleet.all, None, one),
        several => slow::choose(&search, several),
    };
    match found {
        Some(member) => Ok(Placement { instance: member.instance.id.clone() }),
        None => Err(Unplaceable { lacks: search.lacks() }),
    }
}

/// So often `random` draws before it compares whatever has room.
const DRAWS: u64 = 64;

struct Search<'a> {
    fleet: &'a Fleet,
    wanted: &'a Wanted<'a>,
    constraints: &'a Constraints,
    dice: u64,
}

impl<'a> Search<'a> {
    /// The member, if it can take the task.
    fn fitting(&self, id: Number) -> Option<&'a Member> {
        let member = self.fleet.member(id)?;
        fit::lack(member, self.wanted, self.constraints).is_none().then_some(member)
    }

    fn lacks(&self) -> Vec<(ContainerInstanceId, Lack)> {
        let all = self.fleet.members().filter_map(|member| {
            fit::lack(member, self.wanted, self.constraints).map(|lack| (member.instance.id.clone(), lack))
        });
        all.collect()
    }

    /// The zones with the fewest tasks of the group first. Of equal ones each offers what the other strategy finds there,
    /// and the best of these is taken.
    fn by_zone(&self, then: &Strategy) -> Option<&'a Member> {
        let group = self.fleet.group(self.wanted.group);
        let tasks = |zone: &str| {
            // Instances without the attribute are in no zone; they come last.
            if zone.is_empty() { u32::MAX } else { in_zone(group, zone).map_or(0, |of_zone| of_zone.tasks) }
        };
        let mut zones: Vec<(u32, &str, &Pool)> =
            self.fleet.zones.iter().map(|(zone, pool)| (tasks(zone), &**zone, pool)).collect();
        zones.sort_by_key(|(tasks, _, _)| *tasks);
        zones.chunk_by(|one, next| one.0 == next.0).find_map(|equal| {
            let offered = equal.iter().filter_map(|(_, zone, pool)| self.first_of(pool, Some(zone), then));
            slow::decide(self, offered.collect(), std::slice::from_ref(then))
        })
    }

    /// The best of a pool, which is the whole fleet or one zone of it, as a strategy has it.
    fn first_of(&self, pool: &Pool, zone: Option<&str>, strategy: &Strategy) -> Option<&'a Member> {
        let demand = self.wanted.demand;
        match strategy {
            Strategy::Random => self.random(pool),
            // What is least free and still enough.
            Strategy::BinpackCpu => {
                let in_order = pool.by_free_cpu.from(&(u64::from(demand.cpu), Number::FIRST));
                self.race(pool, in_order.map(|((_, id), ())| Some(*id)), |member| u64::from(member.free_cpu()))
            }
            Strategy::BinpackMemory => {
                let in_order = pool.by_free_memory.from(&(demand.memory_mib, Number::FIRST));
                self.race(pool, in_order.map(|((_, id), ())| Some(*id)), Member::free_memory_mib)
            }
            Strategy::SpreadInstances => self.spread(pool, zone),
            Strategy::SpreadAttribute(_) => slow::choose_of(self, pool, std::slice::from_ref(strategy)),
        }
    }

    /// Each that fits is as likely as any other, as long as a few draws meet one.
    fn random(&self, pool: &Pool) -> Option<&'a Member> {
        let draws = (0..DRAWS).filter_map(|number| pool.by_id.drawn(shuffled(number, self.dice)));
        let mut drawn = draws.filter_map(|(id, ())| self.fitting(*id));
        let in_order = || pool.round_from(self.dice).map(Some);
        // Never 0, which would end the race at the one that has most left.
        let rank = |member: &Member| shuffled(member.number.folded(), self.dice).max(1);
        drawn.next().or_else(|| self.race(pool, in_order(), rank))
    }

    /// An instance with no task of the group, else one with the fewest.
    fn spread(&self, pool: &Pool, zone: Option<&str>) -> Option<&'a Member> {
        let group = self.wanted.group;
        let zones = self.fleet.group(group);
        let known: Vec<&InZone> = match zone {
            Some(zone) => in_zone(zones, zone).into_iter().collect(),
            None => zones.map(|zones| zones.values().collect()).unwrap_or_default(),
        };
        let without = pool.by_id.size().saturating_sub(known.iter().map(|of_zone| of_zone.takers).sum());
        let none = (without > 0).then(|| pool.round_from(self.dice).map(|id| Some(id).filter(|id| self.has_none(*id))));
        // Each zone has its instances in order of their tasks; the dice choose where to begin among equal ones.
        let dice = self.dice;
        let mut counted: Vec<_> = known.iter().map(|of_zone| of_zone.fewest_from(dice).peekable()).collect();
        let fewest = std::iter::from_fn(move || {
            let heads = counted.iter_mut().enumerate();
            let heads =
                heads.filter_map(|(at, zone)| zone.peek().map(|(tasks, _)| (*tasks, shuffled(at as u64, dice), at)));
            let (_, _, at) = heads.min()?;
            counted[at].next().map(|(_, id)| Some(id))
        });
        self.race(pool, none.into_iter().flatten().chain(fewest), |member| u64::from(member.tasks_of(group)))
    }

    fn has_none(&self, id: Number) -> bool {
        self.fleet.member(id).is_some_and(|member| !member.groups.contains_key(self.wanted.group))
    }

    /// The one of the lowest rank that fits, looked for in several ways at once: in the order of the ranks, where the first
    /// that fits is the one, and through those that have room enough, all of which are compared. On a fleet that is nearly
    /// full there are few of these, on others the first way is soon at its end; whichever is first has the answer.
    ///
    /// Every instance that might fit is in `in_order`; a step of it that leads to none is nothing.
    fn race(
        &self,
        pool: &Pool,
        in_order: impl Iterator<Item = Option<Number>>,
        rank: impl Fn(&Member) -> u64,
    ) -> Option<&'a Member> {
        let demand = self.wanted.demand;
        let mut by_cpu = pool.by_free_cpu.down_to((u64::from(demand.cpu), Number::FIRST));
        let mut by_memory = pool.by_free_memory.down_to((demand.memory_mib, Number::FIRST));
        let mut best: Option<(u64, &Member)> = None;
        for id in in_order {
            if let Some(member) = id.and_then(|id| self.fitting(id)) {
                return Some(member);
            }
            for with_room in [by_cpu.next(), by_memory.next()] {
                let Some(((_, id), ())) = with_room else { return best.map(|(_, member)| member) };
                let Some(member) = self.fitting(*id) else { continue };
                let rank = rank(member);
                if rank == 0 {
                    return Some(member);
                }
                if best.is_none_or(|(lowest, _)| rank < lowest) {
                    best = Some((rank, member));
                }
            }
        }
        best.map(|(_, member)| member)
    }
}

fn in_zone<'a>(group: Option<&'a Tree<Arc<str>, InZone>>, zone: &str) -> Option<&'a InZone> {
    group?.get(zone)
}

/// An order of numbers that the dice decide (the finalizer of SplitMix64).
pub(crate) fn shuffled(number: u64, dice: u64) -> u64 {
    let mut mixed = number.wrapping_add(dice).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
