//! Tags of every kind of resource.

use serde_json::json;

use crate::world::{World, arn, definition};

#[test]
fn everything_that_has_an_arn_has_tags() {
    let mut world = World::with_cluster();
    let instance = world.instance("default", 1);
    let task = world.task("default", &instance);
    world.call(
        "CreateCapacityProvider",
        json!({
            "name": "hosts", "autoScalingGroupProvider": {"autoScalingGroupArn": "g"},
        }),
    );
    let instance = arn(&format!("container-instance/default/{instance}"));
    let resources = [
        arn("cluster/default"),
        arn("task-definition/task:1"),
        arn("capacity-provider/hosts"),
        arn("capacity-provider/FARGATE"),
        instance,
        task,
    ];
    for resource in resources {
        world.call(
            "TagResource",
            json!({"resourceArn": resource, "tags": [
                {"key": "rack", "value": "8"}, {"key": "team", "value": "a"},
            ]}),
        );
        world.call("TagResource", json!({"resourceArn": resource, "tags": [{"key": "team"}]}));
        let listed = world.call("ListTagsForResource", json!({"resourceArn": resource}));
        let expected = json!({"tags": [{"key": "rack", "value": "8"}, {"key": "team", "value": ""}]});
        assert_eq!(listed, expected, "{resource}");
        let untagged = world.call("UntagResource", json!({"resourceArn": resource, "tagKeys": ["rack", "never"]}));
        assert_eq!(untagged, json!({}));
        let listed = world.call("ListTagsForResource", json!({"resourceArn": resource}));
        assert_eq!(listed, json!({"tags": [{"key": "team", "value": ""}]}), "{resource}");
    }
}

#[test]
fn resources_that_are_not_there() {
    let mut world = World::with_cluster();
    world.call("CreateCluster", json!({"clusterName": "old"}));
    world.call("DeleteCluster", json!({"cluster": "old"}));
    let id = "0".repeat(32);
    let not_found = |kind: &str| format!("ResourceNotFoundException: The specified {kind} was not found.");
    for (resource, refusal) in [
        ("web".to_owned(), "InvalidParameterException: The ARN provided is invalid.".to_owned()),
        ("arn:aws:s3:::bucket".to_owned(), "InvalidParameterException: The ARN provided is invalid.".to_owned()),
        (arn("cluster/none"), "ClusterNotFoundException: Cluster not found.".to_owned()),
        (
            arn("cluster/old"),
            "InvalidParameterException: The specified cluster is inactive. Specify an active cluster and try again."
                .to_owned(),
        ),
        (arn(&format!("task/default/{id}")), not_found("task")),
        (arn(&format!("container-instance/default/{id}")), not_found("container instance")),
        (arn("task-definition/web:1"), not_found("task definition")),
        (arn("capacity-provider/none"), not_found("capacity provider")),
        (arn("service/default/web"), not_found("service")),
        (
            arn(&format!("task/{id}")),
            "InvalidParameterException: Long arn format must be used for tagging operations".to_owned(),
        ),
    ] {
        let request = json!({"resourceArn": resource, "tags": [{"key": "a", "value": "b"}], "tagKeys": ["a"]});
        for operation in ["TagResource", "UntagResource"] {
            assert_eq!(world.refused(operation, request.clone()), refusal, "{operation} {resource}");
        }
        let listed = refusal.replace("ResourceNotFoundException", "InvalidParameterException");
        assert_eq!(world.refused("ListTagsForResource", request), listed, "{resource}");
    }
}

#[test]
fn limits() {
    let mut world = World::new();
    world.call("RegisterTaskDefinition", definition("web"));
    let resource = arn("task-definition/web:1");
    let fifty: Vec<_> = (0..50).map(|number| json!({"key": format!("k{number}"), "value": "v"})).collect();
    world.call("TagResource", json!({"resourceArn": resource, "tags": fifty}));
    let tag = |key: String| json!({"resourceArn": resource, "tags": [{"key": key, "value": "v"}]});
    world.call("TagResource", tag("k7".to_owned()));
    world.refuses(
        "TagResource",
        &[
            (
                tag("one-more".to_owned()),
                "LimitExceededException: The maximum number of tags per resource has been exceeded. The limit is 50.",
            ),
            (
                tag("aws:ecs:clusterName".to_owned()),
                "InvalidParameterException: Tag keys can't start with 'aws:', but was aws:ecs:clusterName",
            ),
            (json!({"resourceArn": resource, "tags": []}), "InvalidParameterException: Tags can not be empty."),
            (json!({}), "InvalidParameterException: Resource ARN can not be blank."),
        ],
    );
    let long = "ä".repeat(129);
    let refused = world.refused("TagResource", tag(long));
    assert!(
        refused.starts_with("InvalidParameterException: Tag keys must have between 1 and 128 characters"),
        "{refused}"
    );
    assert_eq!(
        world.refused("UntagResource", json!({"resourceArn": resource, "tagKeys": ["aws:x"]})),
        "InvalidParameterException: Tag keys can't start with 'aws:', but was aws:x"
    );
}
