//! Capacity provider strategies: which provider each task is for.
//!
//! Rules: <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_CapacityProviderStrategyItem.html> and
//! <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/cluster-capacity-providers.html>.

use ecs::operations::ApiError;
use ecs::operations::shapes::CapacityProviderStrategyItem;

use crate::names;
use crate::placing::FARGATE_PROVIDERS;
use crate::records::Cluster;
use crate::state::State;

/// "A capacity provider strategy can contain a maximum of 20 capacity providers."
const MAX_ITEMS: usize = 20;
const MAX_WEIGHT: i64 = 1_000;
const MAX_BASE: i64 = 100_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) provider: String,
    pub(super) weight: u64,
    pub(super) base: u64,
}

pub(super) fn read(
    state: &State,
    cluster: &Cluster,
    given: &[CapacityProviderStrategyItem],
) -> Result<Vec<Item>, ApiError> {
    if given.len() > MAX_ITEMS {
        return Err(ApiError::invalid(format!("capacityProviderStrategy can have at most {MAX_ITEMS} items.")));
    }
    let items = given.iter().map(item).collect::<Result<Vec<Item>, ApiError>>()?;
    for item in &items {
        let fargate = FARGATE_PROVIDERS.contains(&item.provider.as_str());
        if !fargate && !state.capacity_providers.get(&item.provider).is_some_and(|provider| provider.active) {
            let words = format!("The specified capacity provider '{}' was not found.", item.provider);
            return Err(ApiError::invalid(words));
        }
        if !cluster.capacity_providers.contains(&item.provider) {
            return Err(ApiError::invalid(
                "The specified capacity provider strategy cannot contain a capacity provider that is not associated \
                 with the cluster. Associate the capacity provider with the cluster and try again.",
            ));
        }
    }
    let fargate = items.iter().filter(|item| FARGATE_PROVIDERS.contains(&item.provider.as_str())).count();
    if fargate != 0 && fargate != items.len() {
        return Err(ApiError::invalid(
            "A capacity provider strategy cannot contain a mix of capacity providers using Auto Scaling groups and \
             Fargate providers. Specify one or the other and try again.",
        ));
    }
    if items.iter().filter(|item| item.base > 0).count() > 1 {
        return Err(ApiError::invalid("Only one capacity provider in a strategy can have a base defined."));
    }
    if items.iter().all(|item| item.weight == 0) {
        return Err(ApiError::invalid("At least one capacity provider must have a weight greater than zero."));
    }
    Ok(items)
}

fn item(given: &CapacityProviderStrategyItem) -> Result<Item, ApiError> {
    let name = names::required(&given.capacity_provider, "capacityProvider")?;
    Ok(Item {
        provider: names::capacity_provider(name)?.to_owned(),
        weight: bounded(given.weight, MAX_WEIGHT, "weight")?,
        base: bounded(given.base, MAX_BASE, "base")?,
    })
}

fn bounded(given: Option<i64>, most: i64, member: &str) -> Result<u64, ApiError> {
    let value = u64::try_from(given.unwrap_or(0)).ok().filter(|value| *value <= most.unsigned_abs());
    value.ok_or_else(|| ApiError::invalid(format!("{member} should be between 0 and {most}.")))
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

    /// "if the base value … for capacityProviderA is 1 and weights are 1 and 4": one for the base, then four of B for
    /// each of A (API_CapacityProviderStrategyItem: "if you specify a weight of 1 for capacityProviderA and a weight of 4
    /// for capacityProviderB, then for every one task that's run using capacityProviderA, four tasks would use
    /// capacityProviderB").
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
