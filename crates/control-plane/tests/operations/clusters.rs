//! Clusters, and which of them an operation finds.

use serde_json::json;

use crate::world::{World, arn, texts};

#[test]
fn a_new_cluster_has_what_amazon_shows_of_one() {
    let mut world = World::new();
    let expected = json!({"cluster": {
        "clusterArn": arn("cluster/default"), "clusterName": "default", "status": "ACTIVE",
        "registeredContainerInstancesCount": 0, "runningTasksCount": 0, "pendingTasksCount": 0, "activeServicesCount": 0,
        "statistics": [], "tags": [], "settings": [{"name": "containerInsights", "value": "disabled"}],
        "capacityProviders": [], "defaultCapacityProviderStrategy": [],
    }});
    assert_eq!(world.call("CreateCluster", json!({})), expected);
    assert_eq!(world.call("CreateCluster", json!({"clusterName": "default"})), expected);
    world.caller.region = "us-east-1".to_owned();
    let elsewhere = world.call("ListClusters", json!({}));
    assert_eq!(texts(&elsewhere["clusterArns"]), ["arn:aws:ecs:us-east-1:123456789012:cluster/default"]);
}

#[test]
fn creating_is_refused_with_a_reason() {
    let mut world = World::with_cluster();
    let tag = |key: &str, value: &str| json!({"tags": [{"key": key, "value": value}]});
    let tags: Vec<_> = (0..51).map(|number| json!({"key": format!("k{number}"), "value": ""})).collect();
    world.refuses("CreateCluster", &[
        (
            json!({"clusterName": "a b"}),
            "InvalidParameterException: Cluster must match ^[a-zA-Z0-9\\-_]{1,255}$, but was a b",
        ),
        (
            json!({"settings": [{"name": "containerInsights", "value": "enabled"}]}),
            "InvalidParameterException: Arguments on this idempotent request are inconsistent with arguments used in \
             previous request(s).",
        ),
        (
            json!({"clusterName": "x", "settings": [{"name": "insights", "value": "enabled"}]}),
            "InvalidParameterException: Setting name should be one of [containerInsights]",
        ),
        (
            json!({"clusterName": "x", "settings": [{"name": "containerInsights", "value": "on"}]}),
            "InvalidParameterException: Setting value should be one of [enabled,disabled,enhanced]",
        ),
        (
            json!({"clusterName": "x", "configuration": {"executeCommandConfiguration": {"logging": "OVERRIDE"}}}),
            "InvalidParameterException: executeCommandConfiguration.logConfiguration must be specified with logging \
             OVERRIDE, and only then.",
        ),
        (
            json!({"clusterName": "x", "capacityProviders": ["none"]}),
            "InvalidParameterException: The specified capacity provider was not found. Specify a valid capacity provider \
             and try again.",
        ),
        (tag("aws:x", ""), "InvalidParameterException: Tag keys can't start with 'aws:', but was aws:x"),
        (tag("x", "AWS:y"), "InvalidParameterException: Tag values can't start with 'aws:', but was AWS:y"),
        (tag("", "y"), "InvalidParameterException: Tag keys must have between 1 and 128 characters, but was 0: "),
        (
            tag("k", "a*b"),
            "InvalidParameterException: Tag values must match ^([\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]*)$, but was a*b",
        ),
        (json!({"tags": tags}), "InvalidParameterException: tags can have at most 50 items."),
        (
            json!({"tags": [{"key": "a", "value": "1"}, {"key": "a", "value": "2"}]}),
            "InvalidParameterException: Duplicate tag key: a. Each tag key must be unique.",
        ),
    ]);
}

#[test]
fn describing_shows_what_is_included() {
    let mut world = World::new();
    let configuration = json!({"executeCommandConfiguration": {"logging": "NONE"}});
    world.call(
        "CreateCluster",
        json!({
            "clusterName": "prod", "tags": [{"key": "team", "value": "a"}], "configuration": configuration,
            "capacityProviders": ["FARGATE"], "serviceConnectDefaults": {"namespace": "internal"},
            "defaultCapacityProviderStrategy": [{"capacityProvider": "FARGATE", "weight": 1}],
        }),
    );
    let plain = world.call("DescribeClusters", json!({"clusters": ["prod"]}));
    let plain = &plain["clusters"][0];
    assert_eq!((&plain["tags"], &plain["settings"], &plain["configuration"]), (&json!([]), &json!([]), &json!(null)));
    assert_eq!(plain["serviceConnectDefaults"]["namespace"], "internal");
    let strategy = json!([{"capacityProvider": "FARGATE", "weight": 1, "base": 0}]);
    assert_eq!(plain["defaultCapacityProviderStrategy"], strategy);
    let all = json!(["ATTACHMENTS", "CONFIGURATIONS", "SETTINGS", "STATISTICS", "TAGS"]);
    let whole = world.call("DescribeClusters", json!({"clusters": [arn("cluster/prod")], "include": all}));
    let whole = &whole["clusters"][0];
    assert_eq!(whole["tags"], json!([{"key": "team", "value": "a"}]));
    assert_eq!(whole["configuration"], configuration);
    assert_eq!(whole["attachmentsStatus"], "UPDATE_COMPLETE");
    assert_eq!(whole["statistics"].as_array().map(Vec::len), Some(12));
    assert_eq!(whole["statistics"][0], json!({"name": "runningEC2TasksCount", "value": "0"}));
    world.refuses("DescribeClusters", &[
        (
            json!({"include": ["ALL"]}),
            "InvalidParameterException: include should be one of [ATTACHMENTS,CONFIGURATIONS,SETTINGS,STATISTICS,TAGS]",
        ),
        (json!({"clusters": vec!["x"; 101]}), "InvalidParameterException: Clusters can have at most 100 items."),
    ]);
}

#[test]
fn what_is_not_there_is_missing() {
    let mut world = World::new();
    let missing = json!({"clusters": [], "failures": [{"arn": arn("cluster/default"), "reason": "MISSING"}]});
    assert_eq!(world.call("DescribeClusters", json!({})), missing);
    let no_cluster = "ClusterNotFoundException: Cluster not found.";
    for operation in ["ListContainerInstances", "ListTasks", "PutAttributes"] {
        assert_eq!(world.refused(operation, json!({})), no_cluster, "{operation}");
    }
    world.refuses(
        "DeleteCluster",
        &[(json!({}), "InvalidParameterException: Cluster can not be blank."), (json!({"cluster": "x"}), no_cluster)],
    );
}

#[test]
fn counts_are_of_the_state_as_it_is() {
    let mut world = World::with_cluster();
    let instance = world.instance("default", 1);
    world.task("default", &instance);
    let answer = world.call("DescribeClusters", json!({"include": ["STATISTICS"]}));
    let cluster = &answer["clusters"][0];
    assert_eq!(cluster["registeredContainerInstancesCount"], 1);
    assert_eq!((&cluster["pendingTasksCount"], &cluster["runningTasksCount"]), (&json!(1), &json!(0)));
    let pending = json!({"name": "pendingEC2TasksCount", "value": "1"});
    assert!(cluster["statistics"].as_array().expect("a list").contains(&pending), "{cluster}");
}

#[test]
fn only_an_empty_cluster_is_deleted_and_it_comes_back_as_a_new_one() {
    let mut world = World::with_cluster();
    let instance = world.instance("default", 1);
    let delete = json!({"cluster": "default"});
    assert_eq!(
        world.refused("DeleteCluster", delete.clone()),
        "ClusterContainsContainerInstancesException: The Cluster cannot be deleted while Container Instances are active or \
         draining."
    );
    world.task("default", &instance);
    world.call("DeregisterContainerInstance", json!({"containerInstance": instance.to_string(), "force": true}));
    world.call(
        "UpdateClusterSettings",
        json!({
            "cluster": "default", "settings": [{"name": "containerInsights", "value": "enhanced"}],
        }),
    );
    world.call("TagResource", json!({"resourceArn": arn("cluster/default"), "tags": [{"key": "a", "value": "b"}]}));
    assert_eq!(world.call("DeleteCluster", delete.clone())["cluster"]["status"], "INACTIVE");
    assert_eq!(world.call("DeleteCluster", delete)["cluster"]["status"], "INACTIVE");
    assert_eq!(world.call("ListClusters", json!({}))["clusterArns"], json!([]));
    let described = world.call("DescribeClusters", json!({"include": ["TAGS"]}));
    assert_eq!(
        (&described["clusters"][0]["status"], &described["clusters"][0]["tags"]),
        (&json!("INACTIVE"), &json!([]))
    );
    assert_eq!(
        world.refused("ListContainerInstances", json!({})),
        "ClientException: The referenced cluster was inactive."
    );
    let again = world.call("CreateCluster", json!({}));
    assert_eq!(again["cluster"]["status"], "ACTIVE");
    assert_eq!(again["cluster"]["settings"][0]["value"], "disabled");
}

#[test]
fn updates_change_what_they_name() {
    let mut world = World::with_cluster();
    world.call(
        "UpdateCluster",
        json!({
            "cluster": "default", "settings": [{"name": "containerInsights", "value": "enabled"}],
            "serviceConnectDefaults": {"namespace": "internal"},
        }),
    );
    let updated = world.call(
        "UpdateCluster",
        json!({
            "cluster": "default", "configuration": {"managedStorageConfiguration": {"kmsKeyId": "k"}},
        }),
    );
    assert_eq!(updated["cluster"]["settings"][0]["value"], "enabled");
    assert_eq!(updated["cluster"]["configuration"]["managedStorageConfiguration"]["kmsKeyId"], "k");
    assert_eq!(updated["cluster"]["serviceConnectDefaults"]["namespace"], "internal");
    let removed =
        world.call("UpdateCluster", json!({"cluster": "default", "serviceConnectDefaults": {"namespace": ""}}));
    assert_eq!(removed["cluster"]["serviceConnectDefaults"], json!(null));
    world.refuses(
        "UpdateClusterSettings",
        &[
            (json!({"cluster": "default", "settings": []}), "InvalidParameterException: Settings can not be empty."),
            (json!({"settings": []}), "InvalidParameterException: Cluster can not be blank."),
        ],
    );
}

#[test]
fn capacity_providers_are_replaced_as_a_whole() {
    let mut world = World::with_cluster();
    let put = |providers, strategy| json!({"cluster": "default", "capacityProviders": providers, "defaultCapacityProviderStrategy": strategy});
    let both =
        put(json!(["FARGATE", "FARGATE_SPOT"]), json!([{"capacityProvider": "FARGATE_SPOT", "weight": 3, "base": 1}]));
    let answer = world.call("PutClusterCapacityProviders", both);
    assert_eq!(answer["cluster"]["capacityProviders"], json!(["FARGATE", "FARGATE_SPOT"]));
    world.refuses("PutClusterCapacityProviders", &[
        (json!({"cluster": "default"}), "InvalidParameterException: capacityProviders can not be null."),
        (
            json!({"cluster": "default", "capacityProviders": []}),
            "InvalidParameterException: defaultCapacityProviderStrategy can not be null.",
        ),
        (
            put(json!([]), json!([{"capacityProvider": "FARGATE"}])),
            "InvalidParameterException: The specified capacity provider strategy cannot contain a capacity provider that is \
             not associated with the cluster. Associate the capacity provider with the cluster or specify a valid capacity \
             provider and try again.",
        ),
        (
            put(json!(["FARGATE"]), json!([{"capacityProvider": "FARGATE", "weight": 1001}])),
            "InvalidParameterException: weight should be between 0 and 1000, but was 1001",
        ),
        (
            put(json!(["FARGATE", "FARGATE_SPOT"]), json!([
                {"capacityProvider": "FARGATE", "base": 1}, {"capacityProvider": "FARGATE_SPOT", "base": 1},
            ])),
            "InvalidParameterException: Only one capacity provider in a capacity provider strategy can have a base defined.",
        ),
    ]);
    let cleared = world.call("PutClusterCapacityProviders", put(json!([]), json!([])));
    assert_eq!(cleared["cluster"]["defaultCapacityProviderStrategy"], json!([]));
}

/// "Clusters with an INACTIVE status might remain discoverable in your account for a period of time." Here it is an hour, for
/// everything that is deleted.
#[test]
fn what_is_deleted_is_described_for_a_time() {
    const HOUR_MS: u64 = 3_600_000;
    let mut world = World::with_cluster();
    let instance = world.instance("default", 1);
    let task = world.task("default", &instance);
    let provider = json!({"name": "hosts", "autoScalingGroupProvider": {"autoScalingGroupArn": "g"}});
    world.call("CreateCapacityProvider", provider);
    world.call("DeleteCapacityProvider", json!({"capacityProvider": "hosts"}));
    world.call("DeregisterTaskDefinition", json!({"taskDefinition": "task:1"}));
    world.call("DeleteTaskDefinitions", json!({"taskDefinitions": ["task:1"]}));
    world.call("CreateCluster", json!({"clusterName": "old"}));
    world.call("DeleteCluster", json!({"cluster": "old"}));
    let instance = json!({"containerInstances": [instance.to_string()]});
    let described = |world: &mut World| {
        let count = |answer: serde_json::Value, member: &str| answer[member].as_array().map_or(0, Vec::len);
        [
            count(world.call("DescribeClusters", json!({"clusters": ["old"]})), "clusters"),
            count(
                world.call("DescribeCapacityProviders", json!({"capacityProviders": ["hosts"]})),
                "capacityProviders",
            ),
            usize::from(world.ask("DescribeTaskDefinition", json!({"taskDefinition": "task:1"})).is_ok()),
            count(world.call("DescribeContainerInstances", instance.clone()), "containerInstances"),
        ]
    };
    world.wait(HOUR_MS - 1);
    assert_eq!(described(&mut world), [1, 1, 1, 1]);
    // The definition has a task still, and the instance is no deregistered one.
    world.wait(1);
    assert_eq!(described(&mut world), [0, 0, 1, 1]);
    let deregister = json!({"containerInstance": instance["containerInstances"][0], "force": true});
    world.call("DeregisterContainerInstance", deregister);
    assert_eq!(world.call("DescribeTasks", json!({"tasks": [task]}))["tasks"][0]["lastStatus"], "STOPPED");
    world.wait(HOUR_MS);
    assert_eq!(described(&mut world), [0, 0, 0, 0]);
}
