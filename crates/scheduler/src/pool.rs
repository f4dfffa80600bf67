//! Instances in the orders that strategies want them in: all of a fleet, or those of one availability zone.

use ecs::{ContainerInstanceId, TaskId};

use crate::tree::Tree;

/// An instance's or a task's id as the number that it spells, in the same order: half as long, and the orders are full of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Number {
    high: u64,
    low: u64,
}

impl Number {
    pub(crate) const FIRST: Number = Number { high: 0, low: 0 };

    /// A place among all ids that the dice choose.
    pub(crate) fn at(dice: u64) -> Number {
        Number { high: dice, low: 0 }
    }

    /// For an order of equals that the dice decide.
    pub(crate) fn folded(self) -> u64 {
        self.high ^ self.low
    }

    pub(crate) fn of_instance(id: &ContainerInstanceId) -> Number {
        Number::read(id.as_str())
    }

    pub(crate) fn of_task(id: &TaskId) -> Number {
        Number::read(id.as_str())
    }

    pub(crate) fn task(self) -> TaskId {
        TaskId::from_bytes((u128::from(self.high) << 64 | u128::from(self.low)).to_be_bytes())
    }

    /// Of an id, which has hexadecimal digits only.
    fn read(digits: &str) -> Number {
        let (high, low) = digits.as_bytes().split_at(digits.len() / 2);
        let half = |digits: &[u8]| digits.iter().fold(0, |number, digit| number << 4 | u64::from(value(*digit)));
        Number { high: half(high), low: half(low) }
    }
}

fn value(digit: u8) -> u8 {
    if digit.is_ascii_digit() { digit & 0x0f } else { (digit & 0x0f) + 9 }
}

/// CPU units and MiB that nobody has claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Free {
    pub(crate) cpu: u64,
    pub(crate) memory_mib: u64,
}

/// Instances in the order of some number.
pub(crate) type Order = Tree<(u64, Number), ()>;

/// Only instances that take tasks at all. Each order holds every instance once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    pub(crate) by_id: Tree<Number, ()>,
    pub(crate) by_free_cpu: Order,
    pub(crate) by_free_memory: Order,
}

impl Pool {
    pub(crate) fn insert(&mut self, id: Number, free: Free) {
        self.by_id.insert(id, ());
        self.by_free_cpu.insert((free.cpu, id), ());
        self.by_free_memory.insert((free.memory_mib, id), ());
    }

    /// With what was free when it was inserted.
    pub(crate) fn remove(&mut self, id: Number, free: Free) {
        self.by_id.remove(&id);
        self.by_free_cpu.remove(&(free.cpu, id));
        self.by_free_memory.remove(&(free.memory_mib, id));
    }

    pub(crate) fn change(&mut self, id: Number, before: Free, after: Free) {
        if before.cpu != after.cpu {
            self.by_free_cpu.remove(&(before.cpu, id));
            self.by_free_cpu.insert((after.cpu, id), ());
        }
        if before.memory_mib != after.memory_mib {
            self.by_free_memory.remove(&(before.memory_mib, id));
            self.by_free_memory.insert((after.memory_mib, id), ());
        }
    }

    /// Every instance, from a place that the dice choose round to it again.
    pub(crate) fn round_from(&self, dice: u64) -> impl Iterator<Item = Number> {
        let start = Number::at(dice);
        self.by_id.from(&start).chain(self.by_id.below(start)).map(|(id, ())| *id)
    }
}
