//! Any request at all is answered or refused; none panics, none is the server's fault, and no refusal changes anything.

use ecs::operations::Operation;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::world::{World, arn};

/// Members by the shape that the model gives them. What has none here is text.
const TEXT_LISTS: [&str; 8] = [
    "capacityProviders",
    "clusters",
    "containerInstances",
    "include",
    "requiresCompatibilities",
    "tagKeys",
    "taskDefinitions",
    "tasks",
];
const TEXTS: [&str; 25] = [
    "attributeName",
    "attributeValue",
    "capacityProvider",
    "cluster",
    "clusterName",
    "containerInstance",
    "containerInstanceArn",
    "family",
    "familyPrefix",
    "filter",
    "instanceIdentityDocument",
    "name",
    "networkMode",
    "nextToken",
    "principalArn",
    "reason",
    "resourceArn",
    "sort",
    "startedBy",
    "status",
    "targetType",
    "task",
    "taskDefinition",
    "value",
    "wild",
];
const STRUCTURES: [(&str, &[&str]); 6] = [
    ("attributes", &["name", "value", "targetType", "targetId"]),
    ("containerDefinitions", &["name", "image", "user"]),
    ("defaultCapacityProviderStrategy", &["capacityProvider"]),
    ("settings", &["name", "value"]),
    ("tags", &["key", "value"]),
    ("totalResources", &["name", "type"]),
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

/// What a member of this name may well be.
fn likely(name: &str) -> Vec<String> {
    let instance = "01010101010101010101010101010101";
    let texts: &[&str] = match name {
        "cluster" | "clusters" | "clusterName" => &["default", "prod"],
        "containerInstance" | "containerInstances" | "targetId" => &[instance],
        "taskDefinition" | "taskDefinitions" => &["web:1", "web:2", "web:3"],
        "capacityProvider" | "capacityProviders" => &["hosts", "FARGATE", "FARGATE_SPOT"],
        "targetType" => &["container-instance"],
        "status" => &["ACTIVE", "DRAINING", "INACTIVE"],
        "sort" => &["ASC", "DESC"],
        "include" => &["TAGS"],
        "name" => &["containerInsights", "awsvpcTrunking", "stack", "CPU"],
        "value" => &["enabled", "disabled"],
        "family" | "familyPrefix" => &["web", "w"],
        "image" | "key" | "tagKeys" | "attributeName" => &["stack", "a", "b"],
        "filter" => &["attribute:stack == enabled", "runningTasksCount > 0"],
        "networkMode" => &["awsvpc", "bridge"],
        "requiresCompatibilities" => &["EC2", "FARGATE"],
        "principalArn" => &["arn:aws:iam::123456789012:root", "arn:aws:iam::123456789012:user/x"],
        "resourceArn" => {
            let resources = ["cluster/default", "task-definition/web:1", "capacity-provider/hosts", "cluster/prod"];
            let instance = arn(&format!("container-instance/default/{instance}"));
            return resources.map(arn).into_iter().chain([instance]).collect();
        }
        _ => &["default"],
    };
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn text_of(name: &'static str) -> impl Strategy<Value = String> {
    prop_oneof![5 => prop::sample::select(likely(name)), 1 => texts()]
}

fn wild() -> impl Strategy<Value = Value> {
    let numbers = [json!(0), json!(1), json!(-1), json!(100), json!(i64::MAX), json!(i64::MIN), json!(1.5)];
    let leaf = prop_oneof![
        texts().prop_map(Value::from),
        prop::sample::select(numbers.to_vec()),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let member = prop::sample::select(&TEXTS[..]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((member, inner), 0..5).prop_map(object),
        ]
    })
}

fn object(members: Vec<(&'static str, Value)>) -> Value {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>().into()
}

/// Most members of a request, each mostly of its shape.
fn requests() -> impl Strategy<Value = Value> {
    let text = prop::sample::select(&TEXTS[..])
        .prop_flat_map(|name| text_of(name).prop_map(move |text| (name, Value::from(text))));
    let list = prop::sample::select(&TEXT_LISTS[..]).prop_flat_map(|name| {
        prop::collection::vec(text_of(name), 0..3).prop_map(move |list| (name, Value::from(list)))
    });
    let structures = prop::sample::select(&STRUCTURES[..]).prop_flat_map(|(name, members)| {
        prop::collection::vec(structure(members), 0..3).prop_map(move |all| (name, all.into()))
    });
    let number = prop::sample::select(vec!["maxResults", "count"]);
    let number = (number, prop::sample::select(vec![1, 5, 10, 0, 100, -1])).prop_map(|(name, it)| (name, json!(it)));
    let flag = prop::sample::select(vec!["force", "effectiveSettings"]);
    let flag = (flag, any::<bool>()).prop_map(|(name, flag)| (name, json!(flag)));
    let odd = (prop::sample::select(&TEXTS[..]), wild());
    let group = texts().prop_map(|group| ("autoScalingGroupProvider", json!({"autoScalingGroupArn": group})));
    let member = prop_oneof![60 => text, 40 => list, 40 => structures, 5 => number, 10 => flag, 1 => odd, 5 => group];
    prop::collection::vec(member, 0..40).prop_map(object)
}

fn structure(members: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let texts: Vec<_> =
        members.iter().map(|name| text_of(name).prop_map(move |text| (*name, Value::from(text)))).collect();
    (texts, 1..=members.len()).prop_map(|(mut members, kept)| {
        members.truncate(kept);
        object(members)
    })
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
            // What is of the wrong type is refused where it is read.
            if !matches!(Operation::read(operation, &request), Some(Ok(_))) {
                continue;
            }
            if let Err(refused) = world.ask(operation, request.clone()) {
                prop_assert!(!refused.starts_with("ServerException"), "{operation} {request}: {refused}");
            }
        }
    }
}
