//! Attributes of container instances.

use serde_json::{Value, json};

use crate::world::{World, arn};

const ONE: &str = "01010101010101010101010101010101";

fn attribute(name: &str, value: &str) -> Value {
    json!({"name": name, "value": value, "targetType": "container-instance", "targetId": ONE})
}

#[test]
fn custom_attributes_come_change_and_go() {
    let mut world = World::with_cluster();
    world.instance("default", 1);
    let put = world.call("PutAttributes", json!({"attributes": [attribute("stack", "test"), attribute("rack", "7")]}));
    let target = arn(&format!("container-instance/default/{ONE}"));
    assert_eq!(put["attributes"][0], json!({"name": "stack", "value": "test", "targetId": target}));
    world.call("PutAttributes", json!({"attributes": [{"name": "stack", "value": "production", "targetId": target}]}));
    let list = |world: &mut World, name: &str| {
        world.call("ListAttributes", json!({"targetType": "container-instance", "attributeName": name}))["attributes"]
            .clone()
    };
    assert_eq!(list(&mut world, "stack"), json!([{"name": "stack", "value": "production", "targetId": target}]));
    assert_eq!(list(&mut world, "ecs.os-type")[0]["value"], "linux");
    let deleted = world.call(
        "DeleteAttributes",
        json!({"attributes": [
            {"name": "stack", "targetId": target}, {"name": "never", "targetId": target},
        ]}),
    );
    assert_eq!(deleted["attributes"].as_array().map(Vec::len), Some(1));
    assert_eq!(list(&mut world, "stack"), json!([]));
    assert_eq!(list(&mut world, "rack")[0]["value"], "7");
}

#[test]
fn refusals() {
    let mut world = World::with_cluster();
    world.instance("default", 1);
    let put = |attribute: Value| json!({"attributes": [attribute]});
    world.refuses(
        "PutAttributes",
        &[
            (json!({"attributes": []}), "InvalidParameterException: attributes can not be empty"),
            (
                json!({"attributes": vec![attribute("a", "b"); 11]}),
                "InvalidParameterException: attributes can have at most 10 items.",
            ),
            (
                put(json!({"name": "a", "targetId": ONE})),
                "InvalidParameterException: targetType must be container-instance",
            ),
            (
                put(json!({"name": "a", "targetType": "container-instance", "targetId": "0".repeat(32)})),
                "TargetNotFoundException: Could not find 00000000000000000000000000000000",
            ),
            (
                put(attribute("ecs.x", "y")),
                "InvalidParameterException: Attribute names can't start with 'ecs.', but was ecs.x",
            ),
        ],
    );
    for (name, value) in [("a b", "x"), ("a", " x"), ("a", ""), ("a", "x;y"), ("", "x")] {
        let refused = world.refused("PutAttributes", put(attribute(name, value)));
        assert!(refused.starts_with("InvalidParameterException: The "), "{name:?} {value:?}: {refused}");
    }
    let ten: Vec<Value> = (0..10).map(|number| attribute(&format!("a{number}"), "x")).collect();
    world.call("PutAttributes", json!({"attributes": ten}));
    assert_eq!(
        world.refused("PutAttributes", put(attribute("eleventh", "x"))),
        "AttributeLimitExceededException: You can apply up to 10 custom attributes for each resource."
    );
    world.call("PutAttributes", put(attribute("a3", "changed")));
    world.refuses(
        "ListAttributes",
        &[
            (json!({}), "InvalidParameterException: targetType must be container-instance"),
            (
                json!({"targetType": "container-instance", "attributeValue": "x"}),
                "InvalidParameterException: You must also specify an attribute name to filter by value.",
            ),
        ],
    );
}
