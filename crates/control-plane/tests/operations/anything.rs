//! Any request at all is answered or refused; none panics, none is the server's fault, and no refusal changes anything.

use ecs::operations::Operation;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::world::{World, arn};

const MEMBERS: [&str; 58] = [
    "attributeName",
    "attributes",
    "attributeValue",
    "autoScalingGroupArn",
    "autoScalingGroupProvider",
    "base",
    "capacityProvider",
    "capacityProviders",
    "cluster",
    "clusterName",
    "clusters",
    "configuration",
    "containerDefinitions",
    "containerInstance",
    "containerInstanceArn",
    "containerInstances",
    "cpu",
    "defaultCapacityProviderStrategy",
    "effectiveSettings",
    "family",
    "familyPrefix",
    "filter",
    "force",
    "image",
    "include",
    "integerValue",
    "key",
    "managedScaling",
    "maxResults",
    "memory",
    "name",
    "networkMode",
    "nextToken",
    "platformDevices",
    "portMappings",
    "principalArn",
    "requiresCompatibilities",
    "resourceArn",
    "serviceConnectDefaults",
    "settings",
    "sort",
    "status",
    "stringSetValue",
    "tagKeys",
    "tags",
    "targetCapacity",
    "targetId",
    "targetType",
    "task",
    "taskDefinition",
    "taskDefinitions",
    "tasks",
    "totalResources",
    "type",
    "value",
    "versionInfo",
    "volumes",
    "weight",
];

fn texts() -> impl Strategy<Value = String> {
    let known = [
        "",
        "default",
        "prod",
        "web",
        "web:1",
        "web:2",
        "web:0",
        "FARGATE",
        "hosts",
        "ACTIVE",
        "DRAINING",
        "ALL",
        "DESC",
        "TAGS",
        "container-instance",
        "containerInsights",
        "enabled",
        "CPU",
        "PORTS",
        "GPU",
        "awsvpc",
        "c",
        "\u{0}",
        "aws:x",
        "é",
        "01010101010101010101010101010101",
        "0ef0e98d-0000-4000-8000-000000000000",
        "arn:",
        "arn:aws:ecs:",
        "a:b:c",
        "attribute:x == y",
        "!(",
        "18446744073709551616",
        "arn:aws:iam::123456789012:user/x",
    ];
    let mut known: Vec<String> = known.map(str::to_owned).into();
    let resources = [
        "cluster/default",
        "task-definition/web:1",
        "capacity-provider/hosts",
        "cluster/",
        "cluster//",
        "container-instance/default/01010101010101010101010101010101",
        "task/default/x",
        "service/a/b/c",
        "/",
    ];
    known.extend(resources.map(arn));
    known.push("x".repeat(300));
    prop_oneof![9 => prop::sample::select(known), 1 => ".{0,40}"]
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        6 => texts().prop_map(Value::from),
        2 => prop::sample::select(vec![json!(0), json!(1), json!(-1), json!(100), json!(i64::MAX), json!(i64::MIN), json!(1.5)]),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(&MEMBERS[..]), inner), 0..5).prop_map(object),
        ]
    })
}

fn object(members: Vec<(&'static str, Value)>) -> Value {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>().into()
}

/// A request of which every member has the shape that the model gives it more often than not: lists where there are some.
fn requests() -> impl Strategy<Value = Value> {
    prop::collection::vec((prop::sample::select(&MEMBERS[..]), values()), 0..6).prop_map(object)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_request_is_answered(asked in prop::collection::vec((prop::sample::select(Operation::NAMES), requests()), 40)) {
        let mut world = World::with_cluster();
        let instance = world.instance("default", 1);
        world.call("RegisterTaskDefinition", crate::world::definition("web"));
        world.call("CreateCapacityProvider", json!({
            "name": "hosts", "autoScalingGroupProvider": {"autoScalingGroupArn": "g"},
        }));
        world.task("default", &instance);
        for (operation, request) in asked {
            // What cannot be read never gets here.
            if !matches!(Operation::read(operation, &request), Some(Ok(_))) {
                continue;
            }
            if let Err(refused) = world.ask(operation, request.clone()) {
                prop_assert!(!refused.starts_with("ServerException"), "{operation} {request}: {refused}");
            }
        }
    }
}
