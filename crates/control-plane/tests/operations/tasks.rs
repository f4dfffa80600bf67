//! RunTask, StartTask, StopTask, DescribeTasks, ListTasks.

use control_plane::{Change, Record};
use serde_json::{Value, json};

use crate::world::{World, arn, definition, texts};

const HERE: &str = "default";

/// With one instance and the definition `web`, which holds host port 8080 and wants 256 CPU units and 512 MiB.
fn world() -> World {
    let mut world = World::with_cluster();
    world.instance(HERE, 0xa1);
    register(&mut world, definition("web"));
    world
}

/// Registers a definition, and gives every instance the attributes that it asks for, as agents have them.
fn register(world: &mut World, definition: Value) {
    let answer = world.call("RegisterTaskDefinition", definition);
    let wanted = answer["taskDefinition"]["requiresAttributes"].as_array().cloned().unwrap_or_default();
    let wanted = wanted.into_iter().map(|attribute| serde_json::from_value(attribute).expect("an attribute"));
    let wanted: Vec<_> = wanted.collect();
    let instances: Vec<_> = world.state.instances.values().cloned().collect();
    for instance in instances {
        let mut instance = (*instance).clone();
        instance.attributes.extend(wanted.iter().cloned());
        world.state.apply_one(&Change::Put(Record::Instance(Box::new(instance))));
    }
}

fn small(family: &str) -> Value {
    json!({"family": family, "containerDefinitions": [{"name": "a", "image": "x", "memory": 100, "cpu": 10},
        {"name": "b", "image": "y", "memory": 200, "memoryReservation": 50}]})
}

fn awsvpc(family: &str) -> Value {
    json!({"family": family, "networkMode": "awsvpc", "cpu": "256", "memory": "512",
        "containerDefinitions": [{"name": "a", "image": "x"}]})
}

fn network() -> Value {
    json!({"awsvpcConfiguration": {"subnets": ["subnet-1"], "securityGroups": ["sg-1"]}})
}

#[test]
fn a_task_is_answered_pending_on_its_instance() {
    let mut world = world();
    register(&mut world, small("small"));
    let answer =
        world.call("RunTask", json!({"taskDefinition": "small", "startedBy": "me", "capacityProviderStrategy": []}));
    let task = &answer["tasks"][0];
    let id = task["taskArn"].as_str().expect("an ARN").rsplit('/').next().expect("an id").to_owned();
    assert_eq!(answer["failures"], json!([]));
    assert_eq!(task["taskArn"], arn(&format!("task/default/{id}")));
    assert_eq!(task["taskDefinitionArn"], arn("task-definition/small:1"));
    assert_eq!(task["clusterArn"], arn("cluster/default"));
    assert_eq!(task["containerInstanceArn"], arn("container-instance/default/a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1"));
    let told =
        ["lastStatus", "desiredStatus", "launchType", "group", "startedBy", "cpu", "memory"].map(|name| &task[name]);
    // The task's size is that of its containers: memoryReservation counts before memory.
    assert_eq!(told, ["PENDING", "RUNNING", "EC2", "family:small", "me", "10", "150"]);
    assert_eq!(task["version"], 1);
    assert_eq!(task["createdAt"], 1_700_000_000.0);
    assert_eq!(task["overrides"]["containerOverrides"], json!([{"name": "a"}, {"name": "b"}]));
    assert_eq!(task["containers"][1]["lastStatus"], "PENDING");
    let container = task["containers"][0]["containerArn"].as_str().expect("an ARN").to_owned();
    assert!(container.starts_with(&arn(&format!("container/default/{id}/"))), "{container}");
    // In another region it is the same task under that region's ARN.
    world.caller.region = "us-east-1".to_owned();
    let elsewhere = world.call("DescribeTasks", json!({"tasks": [id]}));
    assert_eq!(elsewhere["tasks"][0]["taskArn"], format!("arn:aws:ecs:us-east-1:123456789012:task/default/{id}"));
}

#[test]
fn what_does_not_fit_fails_with_the_reason_of_each_instance() {
    let mut world = world();
    world.instance(HERE, 0xa2);
    let answer = world.call("RunTask", json!({"taskDefinition": "web", "count": 3}));
    // Each instance has its port 8080 once: the second task has seen where the first one went.
    assert_eq!(answer["tasks"].as_array().map(Vec::len), Some(2));
    let on = |at: usize| answer["tasks"][at]["containerInstanceArn"].clone();
    assert_ne!(on(0), on(1));
    let failures = answer["failures"].as_array().expect("a list");
    assert_eq!(failures.len(), 2);
    for failure in failures {
        assert_eq!(failure["reason"], "RESOURCE:PORTS");
        let detail = failure["detail"].as_str().expect("a detail");
        assert!(detail.starts_with("port 8080/tcp held by task "), "{detail}");
    }
    let big = json!({"family": "big", "containerDefinitions": [{"name": "a", "image": "x", "memory": 9000}]});
    register(&mut world, big);
    let answer = world.call("RunTask", json!({"taskDefinition": "big"}));
    assert_eq!(answer["failures"][0]["reason"], "RESOURCE:MEMORY");
    assert_eq!(answer["failures"][0]["detail"], "needs 9000 MiB, 3584 free");
}

#[test]
fn a_cluster_without_instances_has_no_room() {
    let mut world = World::with_cluster();
    register(&mut world, definition("web"));
    let refused = world.refused("RunTask", json!({"taskDefinition": "web"}));
    assert_eq!(refused, "InvalidParameterException: No Container Instances were found in your cluster.");
    register(&mut world, awsvpc("far"));
    let far = json!({"taskDefinition": "far", "launchType": "FARGATE", "networkConfiguration": network()});
    let answer = world.call("RunTask", far);
    let reason = answer["failures"][0]["reason"].as_str().expect("a reason").to_owned();
    assert!(reason.starts_with("Capacity is unavailable at this time."), "{reason}");
}

#[test]
fn on_fargate_there_is_no_instance_to_be_seen() {
    let mut world = world();
    register(&mut world, awsvpc("far"));
    let far = json!({"taskDefinition": "far", "launchType": "FARGATE", "networkConfiguration": network()});
    let answer = world.call("RunTask", far);
    let task = &answer["tasks"][0];
    assert_eq!(task.get("containerInstanceArn"), None);
    let told = ["launchType", "platformVersion", "platformFamily", "lastStatus"].map(|name| &task[name]);
    assert_eq!(told, ["FARGATE", "1.4.0", "Linux", "PROVISIONING"]);
    assert_eq!(task["ephemeralStorage"], json!({"sizeInGiB": 20}));
    assert_eq!(task["attachments"][0]["status"], "PRECREATED");
    assert_eq!(task["attachments"][0]["details"], json!([{"name": "subnetId", "value": "subnet-1"}]));
}

#[test]
fn the_same_token_makes_the_same_tasks() {
    let mut world = world();
    register(&mut world, small("small"));
    let request = json!({"taskDefinition": "small", "count": 2, "clientToken": "t", "cluster": "default"});
    let first = world.call("RunTask", request.clone());
    // A newer revision is another definition, and yet the same request.
    register(&mut world, small("small"));
    let mut by_arn = request.clone();
    by_arn["cluster"] = json!(arn("cluster/default"));
    let again = world.call("RunTask", by_arn);
    let arns = |answer: &Value| [&answer["tasks"][0]["taskArn"], &answer["tasks"][1]["taskArn"]].map(Value::clone);
    assert_eq!(arns(&again), arns(&first));
    assert_eq!(world.state.tasks.size(), 2);
    let mut other = request;
    other["count"] = json!(1);
    let refused = world.refused("RunTask", other);
    assert!(refused.starts_with("ConflictException: "), "{refused}");
}

/// Amazon's words as its users have shown them, or its rules in ours.
#[test]
fn requests_for_tasks_are_refused_with_what_is_wrong() {
    let mut world = world();
    register(&mut world, awsvpc("vpc"));
    let web = |members: Value| {
        let mut request = json!({"taskDefinition": "web"});
        request.as_object_mut().expect("an object").extend(members.as_object().expect("an object").clone());
        request
    };
    let vpc = |members: Value| {
        let mut request = web(members);
        request["taskDefinition"] = json!("vpc");
        request
    };
    let invalid = "InvalidParameterException: ";
    let table = [
        (json!({}), "InvalidParameterException: TaskDefinition can not be blank."),
        (json!({"taskDefinition": "none"}), "ClientException: TaskDefinition not found."),
        (web(json!({"cluster": "none"})), "ClusterNotFoundException: Cluster not found."),
        (web(json!({"count": 11})), "InvalidParameterException: count should be between 1 and 10."),
        (web(json!({"count": 0})), "InvalidParameterException: count should be between 1 and 10."),
        (
            web(json!({"launchType": "EC2", "capacityProviderStrategy": [{"capacityProvider": "FARGATE"}]})),
            "InvalidParameterException: Specify either Launch Type or Capacity Provider Strategy, but not both.",
        ),
        (
            web(json!({"launchType": "FARGATE"})),
            "InvalidParameterException: Task definition does not support launch_type FARGATE.",
        ),
        (
            web(json!({"launchType": "LAMBDA"})),
            "InvalidParameterException: launchType should be one of [EC2,FARGATE,EXTERNAL]",
        ),
        (
            web(json!({"platformVersion": "LATEST"})),
            "InvalidParameterException: The platform version must be null when specifying an EC2 launch type.",
        ),
        (
            vpc(json!({"launchType": "FARGATE", "platformVersion": "9", "networkConfiguration": network()})),
            "PlatformUnknownException: The specified platform version does not exist.",
        ),
        (
            web(json!({"networkConfiguration": network()})),
            "InvalidParameterException: Network Configuration is not valid for the given networkMode of this task definition.",
        ),
        (
            vpc(json!({})),
            "InvalidParameterException: Network Configuration must be provided when networkMode 'awsvpc' is specified.",
        ),
        (
            vpc(json!({"networkConfiguration": {"awsvpcConfiguration": {"subnets": []}}})),
            "InvalidParameterException: subnets can not be empty.",
        ),
        (
            vpc(
                json!({"networkConfiguration": {"awsvpcConfiguration": {"subnets": ["s"], "assignPublicIp": "ENABLED"}}}),
            ),
            "InvalidParameterException: Assign public IP is not supported for this launch type.",
        ),
        (
            web(json!({"overrides": {"containerOverrides": [{"name": "db"}]}})),
            "InvalidParameterException: Override for container named db is not a container in the TaskDefinition.",
        ),
        (
            web(json!({"overrides": {"containerOverrides": [{"name": "web", "command": ["x".repeat(8192)]}]}})),
            "InvalidParameterException: Container Overrides length must be at most 8192",
        ),
        (web(json!({"group": "service:web"})), "InvalidParameterException: Invalid namespace for group."),
        (
            web(json!({"startedBy": "x".repeat(129)})),
            "InvalidParameterException: startedBy can have at most 128 characters.",
        ),
        (
            web(json!({"propagateTags": "SERVICE"})),
            "InvalidParameterException: The SERVICE value for propagateTags is not supported when running a task.",
        ),
        (
            web(json!({"clientToken": "a b"})),
            "InvalidParameterException: clientToken should be up to 64 ASCII characters in the range of 33-126.",
        ),
        (
            web(json!({"placementStrategy": vec![json!({"type": "random"}); 6]})),
            "InvalidParameterException: placementStrategy can have at most 5 items.",
        ),
        (
            web(json!({"placementConstraints": vec![json!({"type": "distinctInstance"}); 11]})),
            "InvalidParameterException: placementConstraints can have at most 10 items.",
        ),
        (
            vpc(json!({"launchType": "FARGATE", "networkConfiguration": network(),
                "placementConstraints": [{"type": "distinctInstance"}]})),
            "InvalidParameterException: Placement constraints are not supported with FARGATE launch type.",
        ),
        (
            web(json!({"volumeConfigurations": [{"name": "v"}]})),
            "UnsupportedFeatureException: volumeConfigurations asks for Amazon EBS volumes, which are not here.",
        ),
    ];
    world.refuses("RunTask", &table);
    for bad in [json!({"type": "memberOf", "expression": "attribute:x =="}), json!({"type": "near"})] {
        let refused = world.refused("RunTask", web(json!({"placementConstraints": [bad]})));
        assert!(refused.starts_with(invalid), "{refused}");
    }
    world.call("DeregisterTaskDefinition", json!({"taskDefinition": "web:1"}));
    let refused = world.refused("RunTask", json!({"taskDefinition": "web:1"}));
    assert_eq!(refused, "ClientException: TaskDefinition is inactive");
}

#[test]
fn overrides_and_tags_are_the_tasks() {
    let mut world = world();
    let mut tagged = small("small");
    tagged["tags"] = json!([{"key": "team", "value": "a"}, {"key": "env", "value": "prod"}]);
    register(&mut world, tagged);
    let overrides = json!({"containerOverrides": [{"name": "a", "command": ["run"], "memory": 300}]});
    let answer = world.call(
        "RunTask",
        json!({"taskDefinition": "small", "overrides": overrides, "tags": [{"key": "env", "value": "test"}],
            "propagateTags": "TASK_DEFINITION", "enableECSManagedTags": true}),
    );
    let task = &answer["tasks"][0];
    assert_eq!(task["overrides"]["containerOverrides"][0], overrides["containerOverrides"][0]);
    assert_eq!(task["memory"], "350");
    let own = json!([{"key": "env", "value": "test"}, {"key": "team", "value": "a"},
        {"key": "aws:ecs:clusterName", "value": "default"}]);
    assert_eq!(task["tags"], own);
    let arn = task["taskArn"].clone();
    assert_eq!(world.call("DescribeTasks", json!({"tasks": [arn]}))["tasks"][0]["tags"], json!([]));
    let with_tags = world.call("DescribeTasks", json!({"tasks": [arn], "include": ["TAGS"]}));
    assert_eq!(with_tags["tasks"][0]["tags"], own);
    let stored = world.state.tasks.values().next().expect("it is there");
    assert_eq!(stored.definition.container_definitions[0].command, Some(vec!["run".to_owned()]));
}

#[test]
fn capacity_providers_share_tasks_and_keep_those_without_an_instance() {
    let mut world = world();
    let group = "arn:aws:autoscaling:eu-central-1:123456789012:autoScalingGroup:u:autoScalingGroupName/g";
    world.call(
        "CreateCapacityProvider",
        json!({"name": "metal", "autoScalingGroupProvider": {"autoScalingGroupArn": group}}),
    );
    world.call(
        "PutClusterCapacityProviders",
        json!({"cluster": "default", "capacityProviders": ["metal"],
            "defaultCapacityProviderStrategy": [{"capacityProvider": "metal", "weight": 1}]}),
    );
    register(&mut world, small("small"));
    // The instance belongs to no provider, so the cluster's default strategy finds no room yet.
    let answer = world.call("RunTask", json!({"taskDefinition": "small"}));
    let task = &answer["tasks"][0];
    assert_eq!((&task["lastStatus"], &task["capacityProviderName"]), (&json!("PROVISIONING"), &json!("metal")));
    assert_eq!((answer["failures"].clone(), task.get("containerInstanceArn")), (json!([]), None));
    // With a launch type the strategy does not count.
    let answer = world.call("RunTask", json!({"taskDefinition": "small", "launchType": "EC2"}));
    assert_eq!(answer["tasks"][0]["lastStatus"], "PENDING");
    // Nobody will ever take it: it stops, and says that its provider is empty.
    let waiting = task["taskArn"].clone();
    world.now = world.now.plus_ms(31 * 60_000);
    let mut ids = || [0xdd; 16];
    let changes = control_plane::reconcile(&world.state, world.now, &mut ids);
    world.state.apply(&changes);
    let stopped = world.call("DescribeTasks", json!({"tasks": [waiting]}))["tasks"][0].clone();
    let told = ["lastStatus", "desiredStatus", "stopCode", "stoppedReason"].map(|name| &stopped[name]);
    assert_eq!(told, ["STOPPED", "STOPPED", "TaskFailedToStart", "EMPTY CAPACITY PROVIDER"]);
}

#[test]
fn start_task_asks_the_named_instances_alone() {
    let mut world = world();
    let (one, none) = ("a1".repeat(16), "b2".repeat(16));
    let request = json!({"taskDefinition": "web", "containerInstances": [one, none]});
    let answer = world.call("StartTask", request.clone());
    assert_eq!(answer["tasks"].as_array().map(Vec::len), Some(1));
    assert_eq!(
        answer["failures"],
        json!([{"arn": arn(&format!("container-instance/default/{none}")), "reason": "MISSING"}])
    );
    let answer = world.call("StartTask", request);
    assert_eq!(answer["failures"][0]["reason"], "RESOURCE:PORTS");
    let refused = world.refused("StartTask", json!({"taskDefinition": "web"}));
    assert_eq!(refused, "InvalidParameterException: Container instances cannot be empty.");
}

#[test]
fn stopping_is_asked_for_once() {
    let mut world = world();
    let instance = ecs::ContainerInstanceId::from_bytes([0xa1; 16]);
    let task = world.task(HERE, &instance);
    let before = world.state.assignment(&instance).expect("it is there").generation;
    let answer = world.call("StopTask", json!({"task": task, "reason": "enough"}));
    let told = ["desiredStatus", "lastStatus", "stopCode", "stoppedReason"].map(|name| answer["task"][name].clone());
    assert_eq!(told, ["STOPPED", "PENDING", "UserInitiated", "enough"]);
    let assignment = world.state.assignment(&instance).expect("it is there");
    assert!(assignment.generation > before);
    let again = world.call("StopTask", json!({"task": task, "reason": "really"}));
    assert_eq!(again["task"]["stoppedReason"], "enough");
    assert_eq!(world.state.assignment(&instance), Some(assignment));
    world.refuses(
        "StopTask",
        &[
            (json!({"task": "0".repeat(32)}), "InvalidParameterException: The referenced task was not found."),
            (json!({}), "InvalidParameterException: Task can not be blank."),
            (
                json!({"task": task, "reason": "x".repeat(256)}),
                "InvalidParameterException: reason can have at most 255 characters.",
            ),
        ],
    );
}

/// A task that is to stop is none of the others that distinctInstance keeps apart, though it is there still.
#[test]
fn distinct_instances_look_at_what_is_desired() {
    let mut world = world();
    register(&mut world, small("small"));
    let run = json!({"taskDefinition": "small", "placementConstraints": [{"type": "distinctInstance"}]});
    let first = world.call("RunTask", run.clone())["tasks"][0]["taskArn"].clone();
    // The instance has been told of it: the task does not end before it says so.
    let second = world.call("RunTask", run.clone());
    assert_eq!(second["failures"][0]["reason"], "MemberOf placement constraint unsatisfied.");
    world.call("StopTask", json!({"task": first}));
    let third = world.call("RunTask", run);
    assert_eq!((&third["failures"], third["tasks"].as_array().map(Vec::len)), (&json!([]), Some(1)));
    let described = world.call("DescribeTasks", json!({"tasks": [first]}));
    assert_eq!(
        (&described["tasks"][0]["desiredStatus"], &described["tasks"][0]["lastStatus"]),
        (&json!("STOPPED"), &json!("PENDING"))
    );
}

#[test]
fn missing_tasks_are_failures_and_lists_are_filtered() {
    let mut world = world();
    register(&mut world, small("small"));
    let web = world.call("RunTask", json!({"taskDefinition": "web", "startedBy": "me"}))["tasks"][0]["taskArn"].clone();
    let small = world.call("RunTask", json!({"taskDefinition": "small"}))["tasks"][0]["taskArn"].clone();
    let none = "0".repeat(32);
    let answer = world.call("DescribeTasks", json!({"tasks": [web, none]}));
    assert_eq!(answer["failures"], json!([{"arn": arn(&format!("task/default/{none}")), "reason": "MISSING"}]));
    let mut listed = |request: Value| {
        let answer = world.call("ListTasks", request);
        let mut arns: Vec<String> = texts(&answer["taskArns"]).into_iter().map(str::to_owned).collect();
        arns.sort();
        arns
    };
    let arns = |all: &[&Value]| {
        let mut arns: Vec<String> = all.iter().map(|arn| arn.as_str().expect("an ARN").to_owned()).collect();
        arns.sort();
        arns
    };
    assert_eq!(listed(json!({})), arns(&[&web, &small]));
    assert_eq!(listed(json!({"family": "web"})), arns(&[&web]));
    assert_eq!(listed(json!({"startedBy": "me"})), arns(&[&web]));
    assert_eq!(listed(json!({"launchType": "FARGATE"})), arns(&[]));
    assert_eq!(listed(json!({"containerInstance": "a1".repeat(16)})), arns(&[&web, &small]));
    assert_eq!(listed(json!({"desiredStatus": "STOPPED"})), arns(&[]));
    assert_eq!(listed(json!({"desiredStatus": "PENDING"})), arns(&[]));
    assert_eq!(listed(json!({"serviceName": "web"})), arns(&[]));
    world.call("StopTask", json!({"task": web}));
    let first = world.call("ListTasks", json!({"desiredStatus": "STOPPED"}));
    assert_eq!(first["taskArns"], json!([web]));
    world.refuses(
        "ListTasks",
        &[
            (
                json!({"startedBy": "me", "family": "web"}),
                "InvalidParameterException: When you specify startedBy as the filter, it must be the only filter that you use.",
            ),
            (
                json!({"desiredStatus": "GONE"}),
                "InvalidParameterException: desiredStatus should be one of [RUNNING,PENDING,STOPPED]",
            ),
        ],
    );
    let refused = world.refused("DescribeTasks", json!({"tasks": vec![none; 101]}));
    assert_eq!(refused, "InvalidParameterException: Tasks cannot be more than 100.");
    assert_eq!(world.refused("DescribeTasks", json!({})), "InvalidParameterException: Tasks cannot be empty.");
}
