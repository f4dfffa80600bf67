//! Pages of every list: each item that is there all the time is listed exactly once, whatever comes and goes meanwhile.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::world::{World, definition};

/// More than any list here has.
const MAX_PAGES: usize = 1000;

/// How often each item was listed. Between two pages, `churn` is let do something.
fn listed(
    world: &mut World,
    operation: &str,
    member: &str,
    request: Value,
    size: u8,
    mut churn: impl FnMut(&mut World, usize),
) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    let mut request = request;
    request["maxResults"] = json!(size);
    for page in 0.. {
        assert!(page < MAX_PAGES, "{operation}: the pages have no end");
        let answer = world.call(operation, request.clone());
        let items = answer[member].as_array().expect("a list");
        assert!(items.len() <= usize::from(size));
        for item in items {
            *seen.entry(item.to_string()).or_default() += 1;
        }
        if answer["nextToken"].is_null() {
            break;
        }
        request["nextToken"] = answer["nextToken"].clone();
        churn(world, page);
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn clusters(
        stay in prop::collection::btree_set("[a-d]{1,3}", 1..20),
        churn in prop::collection::vec("[a-d]{1,3}x", 1..10),
        size in 1u8..6,
    ) {
        let mut world = World::new();
        for name in &stay {
            world.call("CreateCluster", json!({"clusterName": name}));
        }
        let seen = listed(&mut world, "ListClusters", "clusterArns", json!({}), size, |world, page| {
            let name = &churn[page % churn.len()];
            if world.ask("DeleteCluster", json!({"cluster": name})).is_err() || page % 3 == 0 {
                world.call("CreateCluster", json!({"clusterName": name}));
            }
        });
        for name in &stay {
            let arn = json!(crate::world::arn(&format!("cluster/{name}"))).to_string();
            prop_assert_eq!(seen.get(&arn), Some(&1));
        }
        prop_assert!(seen.values().all(|times| *times == 1));
    }

    #[test]
    fn definitions_up_and_down(families in prop::collection::vec("[a-c]{1,2}", 1..15), size in 1u8..6, falling: bool) {
        let mut world = World::new();
        for family in &families {
            world.call("RegisterTaskDefinition", definition(family));
        }
        let request = json!({"sort": if falling { "DESC" } else { "ASC" }});
        let seen = listed(&mut world, "ListTaskDefinitions", "taskDefinitionArns", request, size, |world, page| {
            world.call("RegisterTaskDefinition", definition(&format!("z{page}")));
        });
        let own = seen.iter().filter(|(arn, _)| !arn.contains("/z"));
        prop_assert_eq!(own.clone().count(), families.len());
        prop_assert!(seen.values().all(|times| *times == 1));
    }
}

#[test]
fn instances_and_their_attributes() {
    let mut world = World::with_cluster();
    for number in 1..=7 {
        world.instance("default", number);
    }
    world.call("CreateCluster", json!({"clusterName": "other"}));
    world.instance("other", 9);
    let seen = listed(&mut world, "ListContainerInstances", "containerInstanceArns", json!({}), 2, |world, page| {
        let id = format!("{:02x}", page + 1).repeat(16);
        world.call("DeregisterContainerInstance", json!({"containerInstance": id}));
    });
    assert_eq!((seen.len(), seen.values().max()), (7, Some(&1)));
    let request = json!({"targetType": "container-instance", "attributeName": "ecs.os-type"});
    let seen = listed(&mut world, "ListAttributes", "attributes", request, 1, |_, _| {});
    assert_eq!((seen.len(), seen.values().max()), (4, Some(&1)));
    let request = json!({"targetType": "container-instance"});
    let seen = listed(&mut world, "ListAttributes", "attributes", request, 3, |_, _| {});
    assert_eq!((seen.len(), seen.values().max()), (8, Some(&1)));
}

#[test]
fn a_token_is_for_the_list_that_gave_it() {
    let mut world = World::new();
    for family in ["a", "b", "c"] {
        world.call("RegisterTaskDefinition", definition(family));
        world.call("CreateCluster", json!({"clusterName": family}));
    }
    let token = world.call("ListTaskDefinitions", json!({"maxResults": 1}))["nextToken"].clone();
    world.call("ListTaskDefinitions", json!({"nextToken": token, "maxResults": 2}));
    let foreign = "InvalidParameterException: Invalid token.";
    world.refuses(
        "ListTaskDefinitions",
        &[
            (json!({"nextToken": token, "sort": "DESC"}), foreign),
            (json!({"nextToken": token, "familyPrefix": "a"}), foreign),
            (json!({"nextToken": "bm90IG91cnM="}), foreign),
            (json!({"nextToken": ""}), foreign),
        ],
    );
    world.refuses("ListTaskDefinitionFamilies", &[(json!({"nextToken": token}), foreign)]);
    world.refuses("ListClusters", &[(json!({"nextToken": token}), foreign)]);
}
