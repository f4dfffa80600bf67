//! Task definitions.

use serde_json::json;

use crate::world::{ROOT, World, arn, definition, texts};

#[test]
fn registering_answers_the_whole_definition() {
    let mut world = World::new();
    let request = json!({
        "family": "web", "cpu": ".5 vCPU", "memory": "1 GB", "taskRoleArn": "arn:aws:iam::123456789012:role/web",
        "containerDefinitions": [{"name": "web", "image": "nginx", "portMappings": [{"containerPort": 80}]}],
        "tags": [{"key": "team", "value": "a"}], "ofTomorrow": true,
    });
    let answer = world.call("RegisterTaskDefinition", request);
    let attributes = ["com.amazonaws.ecs.capability.task-iam-role", "ecs.capability.task-cpu-mem-limit"]
        .map(|name| json!({"name": name}));
    let expected = json!({
        "taskDefinitionArn": arn("task-definition/web:1"), "family": "web", "revision": 1, "status": "ACTIVE",
        "cpu": "512", "memory": "1024", "taskRoleArn": "arn:aws:iam::123456789012:role/web",
        "containerDefinitions": [{
            "name": "web", "image": "nginx", "cpu": 0, "essential": true, "environment": [], "mountPoints": [],
            "volumesFrom": [], "systemControls": [],
            "portMappings": [{"containerPort": 80, "hostPort": 0, "protocol": "tcp"}],
        }],
        "volumes": [], "placementConstraints": [], "requiresAttributes": attributes,
        "compatibilities": ["EXTERNAL", "EC2"], "registeredAt": 1_700_000_000.0, "registeredBy": ROOT,
    });
    assert_eq!(answer["taskDefinition"], expected);
    assert_eq!(answer["tags"], json!([{"key": "team", "value": "a"}]));
    let described = world.call("DescribeTaskDefinition", json!({"taskDefinition": "web"}));
    assert_eq!((&described["taskDefinition"], &described["tags"]), (&expected, &json!([])));
    let tagged = world.call("DescribeTaskDefinition", json!({"taskDefinition": "web:1", "include": ["TAGS"]}));
    assert_eq!(tagged["tags"], answer["tags"]);
}

#[test]
fn a_definition_is_compatible_with_what_would_register_it() {
    let mut world = World::new();
    let mut compatible = |members: serde_json::Value| {
        let mut request = definition("f");
        request["containerDefinitions"][0]["portMappings"] = json!([]);
        for (name, value) in members.as_object().expect("members") {
            request[name] = value.clone();
        }
        world.call("RegisterTaskDefinition", request)["taskDefinition"]["compatibilities"].clone()
    };
    assert_eq!(compatible(json!({})), json!(["EXTERNAL", "EC2"]));
    assert_eq!(compatible(json!({"networkMode": "host"})), json!(["EXTERNAL", "EC2"]));
    assert_eq!(compatible(json!({"networkMode": "awsvpc"})), json!(["EC2"]));
    let fargate = json!({"networkMode": "awsvpc", "cpu": "256", "memory": "512"});
    assert_eq!(compatible(fargate), json!(["EC2", "FARGATE"]));
    let other_size = json!({"networkMode": "awsvpc", "cpu": "256", "memory": "8192"});
    assert_eq!(compatible(other_size), json!(["EC2"]));
}

#[test]
fn registering_is_refused_in_amazons_words() {
    let mut world = World::new();
    world.refuses("RegisterTaskDefinition", &[
        (json!([]), "ClientException: A task definition is a JSON object."),
        (
            json!({"family": "f", "containerDefinitions": [{"name": "c", "image": "i"}]}),
            "ClientException: Invalid setting for container 'c'. At least one of 'memory' or 'memoryReservation' must be \
             specified.",
        ),
        (
            json!({"family": "f", "containerDefinitions": [{"name": "c", "memory": 64}]}),
            "ClientException: Container.image should not be null or empty.",
        ),
    ]);
    let large = json!({"family": "f", "containerDefinitions": [
        {"name": "c", "image": "i", "memory": 64, "environment": [{"name": "A", "value": "x".repeat(65_536)}]},
    ]});
    let refused = world.refused("RegisterTaskDefinition", large);
    assert!(refused.starts_with("ClientException: Actual length: '") && refused.contains("'65536'"), "{refused}");
}

#[test]
fn revisions_are_never_used_again() {
    let mut world = World::new();
    for revision in 1..=3 {
        let answer = world.call("RegisterTaskDefinition", definition("web"));
        assert_eq!(answer["taskDefinition"]["revision"], revision);
    }
    world.call("DeregisterTaskDefinition", json!({"taskDefinition": "web:3"}));
    let newest = world.call("DescribeTaskDefinition", json!({"taskDefinition": "web"}));
    assert_eq!(newest["taskDefinition"]["revision"], 2);
    let inactive = world.call("DescribeTaskDefinition", json!({"taskDefinition": arn("task-definition/web:3")}));
    assert_eq!(inactive["taskDefinition"]["status"], "INACTIVE");
    assert_eq!(inactive["taskDefinition"]["deregisteredAt"], 1_700_000_000.0);
    world.call("DeleteTaskDefinitions", json!({"taskDefinitions": ["web:3"]}));
    let next = world.call("RegisterTaskDefinition", definition("web"));
    assert_eq!(next["taskDefinition"]["revision"], 4);
}

#[test]
fn naming_is_refused_in_amazons_words() {
    let mut world = World::new();
    world.call("RegisterTaskDefinition", definition("web"));
    let named = |name: &str| json!({"taskDefinition": name});
    world.refuses(
        "DescribeTaskDefinition",
        &[
            (json!({}), "InvalidParameterException: TaskDefinition can not be blank."),
            (named("other"), "ClientException: Unable to describe task definition."),
            (named("web:9"), "ClientException: Unable to describe task definition."),
            (named("web:x"), "InvalidParameterException: Invalid revision number. Number: x"),
        ],
    );
    world.refuses(
        "DeregisterTaskDefinition",
        &[
            (named("web"), "ClientException: Revision is missing."),
            (named("web:9"), "ClientException: Unable to describe task definition."),
        ],
    );
    world.refuses(
        "DeleteTaskDefinitions",
        &[
            (json!({}), "InvalidParameterException: size of TaskDefinition references list must be greater than 0"),
            (
                json!({"taskDefinitions": vec!["web:1"; 11]}),
                "InvalidParameterException: Size of TaskDefinition references list cannot exceed 10",
            ),
            (json!({"taskDefinitions": ["web"]}), "ClientException: Revision is missing."),
        ],
    );
    world.refuses(
        "ListTaskDefinitions",
        &[
            (
                json!({"status": "GONE"}),
                "InvalidParameterException: status should be one of [ACTIVE,INACTIVE,DELETE_IN_PROGRESS]",
            ),
            (json!({"sort": "UP"}), "InvalidParameterException: sort should be one of [ASC,DESC]"),
        ],
    );
}

#[test]
fn only_inactive_ones_are_deleted() {
    let mut world = World::new();
    world.call("RegisterTaskDefinition", definition("web"));
    world.call("RegisterTaskDefinition", definition("web"));
    world.call("DeregisterTaskDefinition", json!({"taskDefinition": "web:1"}));
    let answer = world.call("DeleteTaskDefinitions", json!({"taskDefinitions": ["web:1", "web:2", "web:3", "web:1"]}));
    let deleted = answer["taskDefinitions"].as_array().expect("a list");
    assert_eq!((deleted.len(), &deleted[0]["status"]), (1, &json!("DELETE_IN_PROGRESS")));
    let reasons: Vec<_> = answer["failures"].as_array().expect("a list").iter().map(|one| &one["reason"]).collect();
    assert_eq!(reasons, ["TASK_DEFINITION_ACTIVE", "MISSING"]);
    assert_eq!(answer["failures"][1]["arn"], arn("task-definition/web:3"));
    let refused = world.refused("DeregisterTaskDefinition", json!({"taskDefinition": "web:1"}));
    assert!(refused.starts_with("ClientException: The specified task definition is in the process of being deleted."));
}

#[test]
fn listing_by_family_status_and_order() {
    let mut world = World::new();
    for family in ["web", "web", "web-admin", "db"] {
        world.call("RegisterTaskDefinition", definition(family));
    }
    world.call("DeregisterTaskDefinition", json!({"taskDefinition": "db:1"}));
    let mut list = |request| {
        let answer = world.call("ListTaskDefinitions", request);
        let arns = texts(&answer["taskDefinitionArns"]).into_iter();
        arns.map(|arn| arn.rsplit('/').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(list(json!({})), ["web:1", "web:2", "web-admin:1"]);
    assert_eq!(list(json!({"sort": "DESC"})), ["web-admin:1", "web:2", "web:1"]);
    assert_eq!(list(json!({"familyPrefix": "web"})), ["web:1", "web:2"]);
    assert_eq!(list(json!({"status": "INACTIVE"})), ["db:1"]);
    let mut families = |request| {
        let answer = world.call("ListTaskDefinitionFamilies", request);
        texts(&answer["families"]).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(families(json!({})), ["db", "web", "web-admin"]);
    assert_eq!(families(json!({"status": "ACTIVE", "familyPrefix": "web"})), ["web", "web-admin"]);
    assert_eq!(families(json!({"status": "INACTIVE"})), ["db"]);
}
