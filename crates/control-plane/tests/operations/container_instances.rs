//! Container instances.

use control_plane::Input;
use serde_json::{Value, json};

use crate::world::{World, arn, texts};

const ONE: &str = "01010101010101010101010101010101";
const TWO: &str = "02020202020202020202020202020202";

fn resource<'a>(instance: &'a Value, list: &str, name: &str) -> &'a Value {
    let resources = instance[list].as_array().expect("a list");
    resources.iter().find(|resource| resource["name"] == name).unwrap_or_else(|| panic!("no {name}: {instance}"))
}

#[test]
fn an_agent_registers_as_amazons_does() {
    let mut world = World::with_cluster();
    let request = json!({
        "totalResources": [
            {"name": "CPU", "type": "INTEGER", "integerValue": 4096}, {"name": "MEMORY", "type": "INTEGER", "integerValue": 7680},
            {"name": "PORTS", "type": "STRINGSET", "stringSetValue": ["22", "2375"]},
        ],
        "instanceIdentityDocument": "{\"instanceId\": \"i-0123\", \"region\": \"eu-central-1\"}",
        "versionInfo": {"agentVersion": "1.105.1", "agentHash": "8dfceca", "dockerVersion": "DockerVersion: 25"},
        "attributes": [{"name": "ecs.os-type", "value": "linux"}], "tags": [{"key": "rack", "value": "7"}],
        "platformDevices": [{"id": "GPU-1", "type": "GPU"}],
    });
    let answer = world.call("RegisterContainerInstance", request.clone());
    let instance = &answer["containerInstance"];
    assert_eq!(instance["containerInstanceArn"], arn(&format!("container-instance/default/{ONE}")));
    assert_eq!((&instance["ec2InstanceId"], &instance["status"]), (&json!("i-0123"), &json!("ACTIVE")));
    assert_eq!((&instance["agentConnected"], &instance["version"]), (&json!(false), &json!(0)));
    let cpu = json!({"name": "CPU", "type": "INTEGER", "doubleValue": 0.0, "longValue": 0, "integerValue": 4096});
    assert_eq!(*resource(instance, "registeredResources", "CPU"), cpu);
    assert_eq!(resource(instance, "remainingResources", "PORTS")["stringSetValue"], json!(["22", "2375"]));
    assert_eq!(resource(instance, "remainingResources", "GPU")["stringSetValue"], json!(["GPU-1"]));
    assert_eq!(instance["tags"], json!([{"key": "rack", "value": "7"}]));
    let mut again = request;
    again["containerInstanceArn"] = instance["containerInstanceArn"].clone();
    let again = world.call("RegisterContainerInstance", again);
    assert_eq!(again["containerInstance"]["containerInstanceArn"], instance["containerInstanceArn"]);
    assert_eq!(again["containerInstance"]["version"], 1);
    let listed = world.call("ListContainerInstances", json!({}));
    assert_eq!(listed["containerInstanceArns"].as_array().map(Vec::len), Some(1));
}

#[test]
fn registering_is_refused_with_the_resource() {
    let mut world = World::with_cluster();
    let of = |resource: Value| json!({"totalResources": [resource]});
    world.refuses(
        "RegisterContainerInstance",
        &[
            (json!({"cluster": "none"}), "ClusterNotFoundException: Cluster not found."),
            (
                of(json!({"name": "CPU", "integerValue": -1})),
                "InvalidParameterException: The value of the resource CPU is out of range: -1",
            ),
            (
                of(json!({"name": "PORTS", "stringSetValue": ["70000"]})),
                "InvalidParameterException: The resource PORTS holds what is no port: 70000",
            ),
            (
                json!({"containerInstanceArn": TWO}),
                "InvalidParameterException: Referenced container instance 02020202020202020202020202020202 not found.",
            ),
        ],
    );
}

#[test]
fn describing_counts_and_measures_what_is_there() {
    let mut world = World::with_cluster();
    let id = world.instance("default", 1);
    world.task("default", &id);
    let request = json!({"containerInstances": [ONE, arn(&format!("container-instance/default/{TWO}"))],
        "include": ["TAGS", "CONTAINER_INSTANCE_HEALTH"]});
    let answer = world.call("DescribeContainerInstances", request.clone());
    let instance = &answer["containerInstances"][0];
    assert_eq!((&instance["pendingTasksCount"], &instance["runningTasksCount"]), (&json!(1), &json!(0)));
    assert_eq!(resource(instance, "registeredResources", "CPU")["integerValue"], 2048);
    assert_eq!(resource(instance, "remainingResources", "CPU")["integerValue"], 2048 - 256);
    assert_eq!(resource(instance, "remainingResources", "MEMORY")["integerValue"], 4096 - 512);
    assert_eq!(resource(instance, "registeredResources", "PORTS")["stringSetValue"], json!(["22"]));
    assert_eq!(resource(instance, "remainingResources", "PORTS")["stringSetValue"], json!(["22", "8080"]));
    assert_eq!(
        (&instance["agentConnected"], &instance["versionInfo"]["agentVersion"]),
        (&json!(true), &json!("0.1.0"))
    );
    assert_eq!(instance["healthStatus"]["overallStatus"], "OK");
    assert_eq!(instance["tags"], json!([{"key": "rack", "value": "7"}]));
    assert_eq!(instance["attributes"][0], json!({"name": "ecs.os-type", "value": "linux"}));
    let missing = json!([{"arn": arn(&format!("container-instance/default/{TWO}")), "reason": "MISSING"}]);
    assert_eq!(answer["failures"], missing);
    world.input(Input::Left { instance: id });
    let answer = world.call("DescribeContainerInstances", request);
    assert_eq!(answer["containerInstances"][0]["agentConnected"], false);
    assert_eq!(answer["containerInstances"][0]["healthStatus"]["overallStatus"], "IMPAIRED");
}

#[test]
fn describing_is_refused_in_amazons_words() {
    let mut world = World::with_cluster();
    world.refuses("DescribeContainerInstances", &[
        (json!({}), "InvalidParameterException: Container instances cannot be empty."),
        (
            json!({"containerInstances": ["i-0123"]}),
            "InvalidParameterException: instanceId length should be one of [32,36]",
        ),
        (
            json!({"containerInstances": [format!("arn:aws:ecs:r:1:container-instance/prod/{ONE}")]}),
            "InvalidParameterException: Invalid identifier: Identifier is for cluster prod. Your cluster is default",
        ),
        (
            json!({"containerInstances": vec![ONE; 101]}),
            "InvalidParameterException: Container instances can have at most 100 items.",
        ),
    ]);
}

#[test]
fn draining_and_back() {
    let mut world = World::with_cluster();
    world.instance("default", 1);
    let update = |ids: Value, status: &str| json!({"containerInstances": ids, "status": status});
    let answer = world.call("UpdateContainerInstancesState", update(json!([ONE, TWO]), "DRAINING"));
    assert_eq!(answer["containerInstances"][0]["status"], "DRAINING");
    assert_eq!(answer["failures"][0]["reason"], "MISSING");
    let list = |world: &mut World, status: &str| {
        let answer = world.call("ListContainerInstances", json!({"status": status}));
        texts(&answer["containerInstanceArns"]).len()
    };
    assert_eq!((list(&mut world, "DRAINING"), list(&mut world, "ACTIVE"), list(&mut world, "REGISTERING")), (1, 0, 0));
    world.call("UpdateContainerInstancesState", update(json!([ONE]), "ACTIVE"));
    assert_eq!((list(&mut world, "DRAINING"), list(&mut world, "ACTIVE")), (0, 1));
    let one_of = "InvalidParameterException: Container instance status should be one of [ACTIVE, DRAINING]";
    world.refuses(
        "UpdateContainerInstancesState",
        &[
            (update(json!([ONE]), "INACTIVE"), one_of),
            (json!({"containerInstances": [ONE]}), one_of),
            (
                update(json!(vec![ONE; 11]), "ACTIVE"),
                "InvalidParameterException: instanceIds can have at most 10 items.",
            ),
        ],
    );
}

/// The examples of <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/cluster-query-language.html>.
#[test]
fn listing_by_the_cluster_query_language() {
    let mut world = World::with_cluster();
    let id = world.instance("default", 1);
    world.instance("default", 2);
    world.task("default", &id);
    let of_two = json!({"name": "stack", "value": "prod", "targetType": "container-instance", "targetId": TWO});
    world.call("PutAttributes", json!({"attributes": [of_two]}));
    for (filter, expected) in [
        ("attribute:ecs.os-type == linux", vec![ONE, TWO]),
        ("attribute:stack == prod", vec![TWO]),
        ("attribute:stack !exists", vec![ONE]),
        ("ec2InstanceId in ['host-2', 'host-3']", vec![TWO]),
        ("task:group == family:task", vec![ONE]),
        ("not(task:group == family:task) and agentConnected == true", vec![TWO]),
        ("runningTasksCount > 0", vec![]),
        ("", vec![ONE, TWO]),
    ] {
        let answer = world.call("ListContainerInstances", json!({"filter": filter}));
        let expected: Vec<String> =
            expected.iter().map(|id| arn(&format!("container-instance/default/{id}"))).collect();
        assert_eq!(texts(&answer["containerInstanceArns"]), expected, "{filter}");
    }
    for filter in ["attribute:", "stack ==", "(", "unknown == 1"] {
        let refused = world.refused("ListContainerInstances", json!({"filter": filter}));
        assert!(refused.starts_with("InvalidParameterException: Invalid filter: "), "{filter}: {refused}");
    }
}

#[test]
fn deregistering_asks_for_force_where_tasks_run() {
    let mut world = World::with_cluster();
    let id = world.instance("default", 1);
    let task = world.task("default", &id);
    let request = json!({"containerInstance": ONE});
    assert_eq!(
        world.refused("DeregisterContainerInstance", request),
        "InvalidParameterException: Found running tasks on the instance."
    );
    let forced = world.call("DeregisterContainerInstance", json!({"containerInstance": ONE, "force": true}));
    assert_eq!(forced["containerInstance"]["status"], "INACTIVE");
    let tasks = world.call("DescribeTasks", json!({"tasks": [task]}));
    assert_eq!(tasks["tasks"][0]["lastStatus"], "STOPPED");
    assert_eq!(tasks["tasks"][0]["stoppedReason"], "Container instance deregistration forced by user");
    assert_eq!(world.call("ListContainerInstances", json!({}))["containerInstanceArns"], json!([]));
    let described = world.call("DescribeContainerInstances", json!({"containerInstances": [ONE]}));
    assert_eq!(described["containerInstances"][0]["status"], "INACTIVE");
    let failed = world.call("UpdateContainerInstancesState", json!({"containerInstances": [ONE], "status": "ACTIVE"}));
    assert_eq!(failed["failures"][0]["reason"], "INACTIVE");
    world.refuses(
        "DeregisterContainerInstance",
        &[
            (json!({}), "InvalidParameterException: Container instance can not be blank."),
            (
                json!({"containerInstance": TWO}),
                "InvalidParameterException: Referenced container instance 02020202020202020202020202020202 not found.",
            ),
        ],
    );
    assert_eq!(
        world.refused("RegisterContainerInstance", json!({"containerInstanceArn": ONE})),
        format!("ClientException: Container instance {ONE} is inactive.")
    );
}

#[test]
fn there_is_never_a_newer_agent() {
    let mut world = World::with_cluster();
    world.instance("default", 9);
    let asked = json!({"containerInstance": "09".repeat(16)});
    assert_eq!(
        world.refused("UpdateContainerAgent", asked),
        "NoUpdateAvailableException: There is no update available for your container agent."
    );
    world.call("RegisterContainerInstance", json!({}));
    let refused = world.refused("UpdateContainerAgent", json!({"containerInstance": ONE}));
    assert!(refused.starts_with("MissingVersionException: "), "{refused}");
}

#[test]
fn an_agent_finds_its_control_plane_where_it_asks() {
    let mut world = World::new();
    let answer = world.call("DiscoverPollEndpoint", json!({"containerInstance": ONE}));
    let here = "https://ecs.example:4870";
    assert_eq!(answer, json!({"endpoint": here, "telemetryEndpoint": here, "serviceConnectEndpoint": here}));
}
