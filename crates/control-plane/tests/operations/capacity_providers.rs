//! Capacity providers.

use serde_json::{Value, json};

use crate::world::{World, arn};

const GROUP: &str = "arn:aws:autoscaling:eu-central-1:123456789012:autoScalingGroup:u:autoScalingGroupName/g";

fn provider(name: &str) -> Value {
    json!({"name": name, "autoScalingGroupProvider": {"autoScalingGroupArn": GROUP}, "tags": [{"key": "a", "value": "b"}]})
}

fn names(answer: &Value) -> Vec<&str> {
    let providers = answer["capacityProviders"].as_array().expect("a list");
    providers.iter().map(|provider| provider["name"].as_str().expect("a name")).collect()
}

#[test]
fn fargates_two_are_always_there() {
    let mut world = World::new();
    let answer = world.call("DescribeCapacityProviders", json!({}));
    assert_eq!(names(&answer), ["FARGATE", "FARGATE_SPOT"]);
    let expected = json!({
        "capacityProviderArn": arn("capacity-provider/FARGATE"), "name": "FARGATE", "status": "ACTIVE", "tags": [],
        "type": "FARGATE",
    });
    assert_eq!(answer["capacityProviders"][0], expected);
    assert_eq!(
        world.refused("DeleteCapacityProvider", json!({"capacityProvider": "FARGATE"})),
        "ClientException: The FARGATE capacity provider is reserved and cannot be deleted."
    );
}

#[test]
fn a_groups_provider_has_amazons_defaults() {
    let mut world = World::new();
    let created = world.call("CreateCapacityProvider", provider("hosts"));
    let created = &created["capacityProvider"];
    assert_eq!((&created["status"], &created["updateStatus"]), (&json!("ACTIVE"), &json!("CREATE_COMPLETE")));
    let group = json!({
        "autoScalingGroupArn": GROUP, "managedTerminationProtection": "DISABLED", "managedDraining": "ENABLED",
        "managedScaling": {"status": "DISABLED", "targetCapacity": 100, "minimumScalingStepSize": 1,
            "maximumScalingStepSize": 10000, "instanceWarmupPeriod": 300},
    });
    assert_eq!(created["autoScalingGroupProvider"], group);
    assert_eq!(created["tags"], json!([{"key": "a", "value": "b"}]));
    let described = world.call("DescribeCapacityProviders", json!({"capacityProviders": ["hosts", "none"]}));
    assert_eq!(names(&described), ["hosts"]);
    assert_eq!(described["capacityProviders"][0]["tags"], json!([]));
    let missing = json!([{"arn": arn("capacity-provider/none"), "reason": "MISSING"}]);
    assert_eq!(described["failures"], missing);
    let scaled = world.call("UpdateCapacityProvider", json!({
        "name": "hosts", "autoScalingGroupProvider": {"managedScaling": {"status": "ENABLED", "targetCapacity": 80}},
    }));
    let scaling = &scaled["capacityProvider"]["autoScalingGroupProvider"]["managedScaling"];
    assert_eq!((&scaling["targetCapacity"], &scaling["instanceWarmupPeriod"]), (&json!(80), &json!(300)));
    let reason = scaled["capacityProvider"]["updateStatusReason"].as_str().expect("it says what is not done");
    assert!(reason.contains("not scaled here"), "{reason}");
    // Terraform asks until a description says so.
    let described = world.call("DescribeCapacityProviders", json!({"capacityProviders": ["hosts"]}));
    assert_eq!(described["capacityProviders"][0]["updateStatus"], "UPDATE_COMPLETE");
}

#[test]
fn refusals() {
    let mut world = World::new();
    world.call("CreateCapacityProvider", provider("hosts"));
    let reserved = "ClientException: The specified capacity provider name is invalid. Up to 255 characters are allowed. They \
        include letters (both upper and lowercase letters), numbers, underscores (_), and hyphens (-). The name can't be \
        prefixed with \"aws\", \"ecs\", or \"fargate\". Specify a valid name and try again.";
    let unsupported = "UnsupportedFeatureException: Capacity providers of Amazon ECS Managed Instances are not supported here: \
        they presuppose instances that AWS manages.";
    world.refuses("CreateCapacityProvider", &[
        (json!({}), "InvalidParameterException: Name can not be blank."),
        (provider("Fargate-mine"), reserved),
        (json!({"name": "x"}), "InvalidParameterException: autoScalingGroupProvider can not be null."),
        (
            json!({"name": "x", "autoScalingGroupProvider": {}}),
            "InvalidParameterException: autoScalingGroupArn can not be blank.",
        ),
        (json!({"name": "x", "cluster": "default", "managedInstancesProvider": {}}), unsupported),
        (
            provider("hosts"),
            "ClientException: The specified capacity provider already exists. To change the configuration of an existing \
             capacity provider, update the capacity provider.",
        ),
        (
            provider("others"),
            "ClientException: The specified Auto Scaling group ARN is already being used by another capacity provider. \
             Specify a unique Auto Scaling group ARN and try again.",
        ),
        (
            json!({"name": "x", "autoScalingGroupProvider": {
                "autoScalingGroupArn": "g", "managedScaling": {"targetCapacity": 0},
            }}),
            "InvalidParameterException: managedScaling.targetCapacity should be between 1 and 100, but was 0",
        ),
    ]);
    world.refuses(
        "DescribeCapacityProviders",
        &[
            (json!({"maxResults": 11}), "InvalidParameterException: maxResults should be between 1 and 10."),
            (
                json!({"capacityProviders": vec!["x"; 101]}),
                "InvalidParameterException: capacityProviders can have at most 100 items.",
            ),
        ],
    );
}

#[test]
fn one_that_a_cluster_has_is_not_deleted() {
    let mut world = World::new();
    world.call("CreateCapacityProvider", provider("hosts"));
    world.call("CreateCluster", json!({"clusterName": "prod", "capacityProviders": ["hosts"]}));
    let kept = world.call("DeleteCapacityProvider", json!({"capacityProvider": "hosts"}));
    assert_eq!(kept["capacityProvider"]["updateStatus"], "DELETE_FAILED");
    assert_eq!(kept["capacityProvider"]["status"], "ACTIVE");
    world.call("DeleteCluster", json!({"cluster": "prod"}));
    let gone = world.call("DeleteCapacityProvider", json!({"capacityProvider": arn("capacity-provider/hosts")}));
    assert_eq!(gone["capacityProvider"]["status"], "INACTIVE");
    assert_eq!(names(&world.call("DescribeCapacityProviders", json!({}))), ["FARGATE", "FARGATE_SPOT"]);
    let described = world.call("DescribeCapacityProviders", json!({"capacityProviders": ["hosts"]}));
    assert_eq!(described["capacityProviders"][0]["updateStatus"], "DELETE_COMPLETE");
    assert!(
        world.refused("CreateCluster", json!({"clusterName": "x", "capacityProviders": ["hosts"]})).starts_with(
            "InvalidParameterException: The specified capacity provider 'hosts' is not in an ACTIVE state."
        )
    );
    world.call("CreateCapacityProvider", provider("hosts"));
}

#[test]
fn a_cluster_shows_its_own_ten_a_page() {
    let mut world = World::new();
    for number in 0..12 {
        let group = json!({"autoScalingGroupArn": format!("group-{number}")});
        world.call(
            "CreateCapacityProvider",
            json!({"name": format!("p{number:02}"), "autoScalingGroupProvider": group}),
        );
    }
    world.call("CreateCluster", json!({"clusterName": "prod", "capacityProviders": ["p03", "FARGATE"]}));
    let of_cluster = world.call("DescribeCapacityProviders", json!({"cluster": "prod"}));
    assert_eq!(names(&of_cluster), ["FARGATE", "p03"]);
    let first = world.call("DescribeCapacityProviders", json!({}));
    assert_eq!(names(&first).len(), 10);
    let rest = world.call("DescribeCapacityProviders", json!({"nextToken": first["nextToken"]}));
    assert_eq!(names(&rest), ["p08", "p09", "p10", "p11"]);
    assert_eq!(rest["nextToken"], json!(null));
}
