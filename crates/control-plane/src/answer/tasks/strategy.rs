//! Capacity provider strategies: which provider each task is for.
//!
//! Rules: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_CapacityProviderStrategyItem.html> and
//! <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/cluster-capacity-providers.html>.

use ecs::operations::ApiError;
use ecs::operations::shapes::CapacityProviderStrategyItem;

use crate::answer::capacity_providers;
use crate::records::Cluster;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) provider: String,
    pub(super) weight: u64,
    pub(super) base: u64,
}

/// "If you specify a capacity provider strategy … at least one must have a weight value greater than zero".
pub(super) fn read(cluster: &Cluster, given: &[CapacityProviderStrategyItem]) -> Result<Vec<Item>, ApiError> {
    let given = capacity_providers::strategy(given, &cluster.capacity_providers)?;
    let number = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).unwrap_or(0);
    let item = |item: CapacityProviderStrategyItem| Item {
        provider: item.capacity_provider.unwrap_or_default(),
        weight: number(item.weight),
        base: number(item.base),
    };
    let items: Vec<Item> = given.into_iter().map(item).collect();
    if items.iter().all(|item| item.weight == 0) {
        return Err(ApiError::invalid("At least one capacity provider must have a weight greater than zero."));
    }
    Ok(items)
}

/// Each task's provider: the base first; of the rest, each the one that is furthest behind its weight, of equals the first.
pub(super) fn shares(items: &[Item], count: usize) -> Vec<String> {
    let mut given: Vec<u64> = vec![0; items.len()];
    let mut base_left: Vec<u64> = items.iter().map(|item| item.base).collect();
    let one = |_| {
        if let Some(at) = base_left.iter().position(|left| *left > 0) {
            base_left[at] -= 1;
            return items[at].provider.clone();
        }
        let weighted = items.iter().enumerate().filter(|(_, item)| item.weight > 0);
        let next = weighted.min_by(|(one, one_item), (other, other_item)| {
            let one = (given[*one] + 1) * other_item.weight;
            let other = (given[*other] + 1) * one_item.weight;
            one.cmp(&other)
        });
        let at = next.map_or(0, |(at, _)| at);
        given[at] += 1;
        items[at].provider.clone()
    };
    (0..count).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(provider: &str, weight: u64, base: u64) -> Item {
        Item { provider: provider.to_owned(), weight, base }
    }

    /// "If you specify a weight of 1 for capacityProviderA and a weight of 4 for capacityProviderB, then for every one task
    /// that's run using capacityProviderA, four tasks would use capacityProviderB" (API_CapacityProviderStrategyItem).
    #[test]
    fn tasks_are_shared_out_by_base_and_weight() {
        let of = |items: &[Item], count| {
            let shares = shares(items, count);
            ["A", "B"].map(|name| shares.iter().filter(|share| *share == name).count())
        };
        assert_eq!(of(&[item("A", 1, 0), item("B", 4, 0)], 10), [2, 8]);
        assert_eq!(of(&[item("A", 1, 2), item("B", 1, 0)], 10), [6, 4]);
        assert_eq!(of(&[item("A", 0, 3), item("B", 1, 0)], 2), [2, 0]);
        assert_eq!(of(&[item("A", 0, 3), item("B", 1, 0)], 5), [3, 2]);
        assert_eq!(of(&[item("A", 1, 0), item("B", 1, 0)], 1), [1, 0]);
    }
}
