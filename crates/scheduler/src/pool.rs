//! Instances in the orders that strategies want them in: all of a fleet, or those of one availability zone.

use ecs::ContainerInstanceId;

use crate::Map;

/// CPU units and MiB that nobody has claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Free {
    pub(crate) cpu: u64,
    pub(crate) memory_mib: u64,
}

/// Only instances that take tasks at all. Each order holds every instance once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    pub(crate) by_id: Map<ContainerInstanceId, ()>,
    pub(crate) by_free_cpu: Map<(u64, ContainerInstanceId), ()>,
    pub(crate) by_free_memory: Map<(u64, ContainerInstanceId), ()>,
}

impl Pool {
    pub(crate) fn insert(&mut self, id: &ContainerInstanceId, free: Free) {
        self.by_id.insert_mut(id.clone(), ());
        self.by_free_cpu.insert_mut((free.cpu, id.clone()), ());
        self.by_free_memory.insert_mut((free.memory_mib, id.clone()), ());
    }

    /// With what was free when it was inserted.
    pub(crate) fn remove(&mut self, id: &ContainerInstanceId, free: Free) {
        self.by_id.remove_mut(id);
        self.by_free_cpu.remove_mut(&(free.cpu, id.clone()));
        self.by_free_memory.remove_mut(&(free.memory_mib, id.clone()));
    }

    pub(crate) fn change(&mut self, id: &ContainerInstanceId, before: Free, after: Free) {
        if before.cpu != after.cpu {
            self.by_free_cpu.remove_mut(&(before.cpu, id.clone()));
            self.by_free_cpu.insert_mut((after.cpu, id.clone()), ());
        }
        if before.memory_mib != after.memory_mib {
            self.by_free_memory.remove_mut(&(before.memory_mib, id.clone()));
            self.by_free_memory.insert_mut((after.memory_mib, id.clone()), ());
        }
    }

    /// Every instance, from a place that the dice choose round to it again.
    pub(crate) fn round_from(&self, dice: u64) -> impl Iterator<Item = &ContainerInstanceId> {
        let start = ContainerInstanceId::from_bytes((u128::from(dice) << 64).to_be_bytes());
        let before = self.by_id.range(..start.clone());
        self.by_id.range(start..).chain(before).map(|(id, ())| id)
    }
}
