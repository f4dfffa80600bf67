//! What instances and foreign agents report, and what comes of it: tasks, events, exec, and what goes by itself.

use agent_protocol::session::{Generation, Hello, TaskReport};
use control_plane::events::{self, Batch};
use control_plane::{Input, Settings, State, observe, step};
use ecs::arn::Account;
use ecs::operations::shapes::Attribute;
use ecs::{ContainerInstanceId, TaskId};
use serde_json::{Value, json};

use crate::world::{REGION, World, arn, definition};

const HERE: &str = "default";

struct Task {
    instance: ContainerInstanceId,
    id: TaskId,
    arn: String,
}

fn world() -> (World, Task) {
    let mut world = World::with_cluster();
    let instance = world.instance(HERE, 0xa1);
    world.call("RegisterTaskDefinition", definition("web"));
    let request = json!({"taskDefinition": "web", "enableExecuteCommand": true});
    let arn = world.call("RunTask", request)["tasks"][0]["taskArn"].as_str().expect("an ARN").to_owned();
    let id = ecs::arn::task_id(&arn).expect("an id");
    (world, Task { instance, id, arn })
}

fn described(world: &mut World, arn: &str) -> Value {
    world.call("DescribeTasks", json!({"tasks": [arn]}))["tasks"][0].clone()
}

/// A report as it would be if the instance said what was described, but for `members` of the task and of its container.
fn report(world: &mut World, task: &Task, members: Value, container: Value) -> TaskReport {
    let mut shown = described(world, &task.arn);
    shown.as_object_mut().expect("a task").extend(members.as_object().expect("members").clone());
    let first = shown["containers"][0].as_object_mut().expect("a container");
    first.extend(container.as_object().expect("members").clone());
    TaskReport { id: task.id.clone(), task: Box::new(serde_json::from_value(shown).expect("a task")) }
}

fn observed(world: &mut World, task: &Task, members: Value, container: Value) {
    let report = report(world, task, members, container);
    world.input(Input::Observed { instance: task.instance.clone(), whole: false, tasks: vec![report] });
}

#[test]
fn a_report_is_what_is_described_and_an_older_one_nothing() {
    let (mut world, task) = world();
    let running = json!({"lastStatus": "RUNNING", "version": 4, "startedAt": 1_700_000_001.5});
    let container = json!({"lastStatus": "RUNNING", "runtimeId": "r1"});
    observed(&mut world, &task, running.clone(), container.clone());
    let shown = described(&mut world, &task.arn);
    assert_eq!((&shown["lastStatus"], &shown["version"]), (&json!("RUNNING"), &json!(2)));
    assert_eq!(shown["startedAt"], 1_700_000_001.5);
    assert_eq!(shown["connectivity"], "CONNECTED");
    assert_eq!(shown["containers"][0]["runtimeId"], "r1");
    assert_eq!(shown["containers"][0]["managedAgents"][0]["lastStatus"], "RUNNING");
    let before = world.state.clone();
    observed(&mut world, &task, json!({"lastStatus": "PENDING", "version": 3}), json!({}));
    observed(&mut world, &task, running, container);
    assert_eq!(world.state.tasks.get(&task.id), before.tasks.get(&task.id));
    // STOPPED is the end, and the instance's next assignment is without it.
    let stopped = json!({"lastStatus": "STOPPED", "desiredStatus": "STOPPED", "version": 9, "stopCode":
        "EssentialContainerExited", "stoppedReason": "Essential container in task exited"});
    observed(&mut world, &task, stopped, json!({"lastStatus": "STOPPED", "exitCode": 3}));
    assert_eq!(world.state.assignment(&task.instance).expect("it is there").tasks, []);
    observed(&mut world, &task, json!({"lastStatus": "RUNNING", "version": 99}), json!({"exitCode": 0}));
    let shown = described(&mut world, &task.arn);
    let told = ["lastStatus", "desiredStatus", "stopCode", "stoppedReason"].map(|name| &shown[name]);
    assert_eq!(told, ["STOPPED", "STOPPED", "EssentialContainerExited", "Essential container in task exited"]);
    assert_eq!(shown["containers"][0]["exitCode"], 3);
}

/// Its assignment is another one each time, but only what others decide has to be sent to it at once.
#[test]
fn what_an_instance_does_by_itself_is_no_pressing_news_for_it() {
    let (mut world, task) = world();
    let generations = |world: &World| {
        let instance = &world.state.instances[&task.instance];
        (instance.assigned.generation, instance.pressing.generation)
    };
    let (placed, pressing) = generations(&world);
    assert_eq!(placed, pressing, "it does not know of a new task");
    let ending = json!({"lastStatus": "DEPROVISIONING", "desiredStatus": "STOPPED", "version": 4});
    observed(&mut world, &task, ending, json!({"lastStatus": "STOPPED", "exitCode": 0}));
    assert_eq!(generations(&world), (placed + 1, pressing));
    let stopped = json!({"lastStatus": "STOPPED", "desiredStatus": "STOPPED", "version": 5});
    observed(&mut world, &task, stopped, json!({"lastStatus": "STOPPED", "exitCode": 0}));
    assert_eq!(generations(&world), (placed + 2, pressing));
    world.call("RunTask", json!({"taskDefinition": "web"}));
    assert_eq!(generations(&world), (placed + 3, placed + 3));
    // Whoever does not name a task any more has not stopped it by that.
    world.input(Input::Observed { instance: task.instance.clone(), whole: true, tasks: Vec::new() });
    let arn = world.call("ListTasks", json!({}))["taskArns"][0].as_str().expect("an ARN").to_owned();
    world.call("StopTask", json!({"task": arn}));
    assert_eq!(generations(&world), (placed + 4, placed + 4));
}

/// What an instance says of a task while it begins: that it has it, that it pulls, which interface the task has.
#[test]
fn what_is_no_change_of_a_state_makes_no_event() {
    let (mut world, task) = world();
    let before = world.state.clone();
    for (version, members, container) in [
        (0, json!({}), json!({})),
        (1, json!({"pullStartedAt": 1_700_000_001.0}), json!({"runtimeId": "r1"})),
        (2, json!({"pullStoppedAt": 1_700_000_002.0}), json!({"imageDigest": "sha256:1234"})),
    ] {
        let mut members = members;
        members["version"] = json!(version);
        observed(&mut world, &task, members, container);
    }
    let shown = described(&mut world, &task.arn);
    assert_eq!((&shown["version"], &shown["containers"][0]["imageDigest"]), (&json!(1), &json!("sha256:1234")));
    assert_eq!(
        world.state.tasks.get(&task.id).map(|task| task.version),
        before.tasks.get(&task.id).map(|task| task.version)
    );
    observed(&mut world, &task, json!({"version": 3}), json!({"lastStatus": "RUNNING"}));
    assert_eq!(described(&mut world, &task.arn)["version"], 2, "a container's state is a change");
    observed(&mut world, &task, json!({"lastStatus": "RUNNING", "version": 4}), json!({"lastStatus": "RUNNING"}));
    assert_eq!(described(&mut world, &task.arn)["version"], 3);
}

/// Of awsvpc mode: the ids that RunTask answers with are those that a running task has.
#[test]
fn what_a_task_consists_of_keeps_its_ids() {
    let (mut world, other) = world();
    let mut able = hello(&world, &other.instance, Generation::default());
    let name = Some("com.amazonaws.ecs.capability.docker-remote-api.1.18".to_owned());
    able.attributes.push(Attribute { name, ..Attribute::default() });
    world.input(Input::Arrived { instance: other.instance, hello: Box::new(able) });
    let mut awsvpc = definition("own-interface");
    awsvpc["networkMode"] = json!("awsvpc");
    awsvpc["containerDefinitions"][0]["portMappings"] = json!([]);
    world.call("RegisterTaskDefinition", awsvpc);
    let network = json!({"awsvpcConfiguration": {"subnets": ["subnet-0d0eab1bb30300000"]}});
    let run = world.call("RunTask", json!({"taskDefinition": "own-interface", "networkConfiguration": network}));
    let first = run["tasks"][0].clone();
    let arn = first["taskArn"].as_str().unwrap_or_else(|| panic!("no task: {run}")).to_owned();
    let id = ecs::arn::task_id(&arn).expect("an id");
    let attachment = first["attachments"][0].clone();
    assert_eq!(
        (&attachment["status"], &attachment["id"]),
        (&json!("PRECREATED"), &json!(ecs::arn::attachment_id(&id)))
    );
    let instance = world.state.tasks.get(&id).and_then(|task| task.instance.clone()).expect("it is placed");
    let task = Task { instance, id, arn };
    // The instance has it, and no interface for it yet.
    observed(&mut world, &task, json!({"lastStatus": "PENDING", "version": 0, "attachments": []}), json!({}));
    let shown = described(&mut world, &task.arn);
    assert_eq!(shown["attachments"], json!([attachment]));
    assert_eq!(shown["containers"][0]["containerArn"], first["containers"][0]["containerArn"]);
}

#[test]
fn the_reason_that_was_given_first_stays() {
    let (mut world, task) = world();
    world.call("StopTask", json!({"task": task.arn, "reason": "enough"}));
    let stopped = json!({"lastStatus": "STOPPED", "desiredStatus": "STOPPED", "version": 9, "stopCode":
        "EssentialContainerExited", "stoppedReason": "Essential container in task exited"});
    observed(&mut world, &task, stopped, json!({"lastStatus": "STOPPED", "exitCode": 143}));
    let shown = described(&mut world, &task.arn);
    assert_eq!((&shown["stopCode"], &shown["stoppedReason"]), (&json!("UserInitiated"), &json!("enough")));
    assert_eq!(shown["containers"][0]["exitCode"], 143);
}

fn hello(world: &World, instance: &ContainerInstanceId, written: Generation) -> Hello {
    let known = world.state.instances.get(instance).expect("it has come before");
    Hello {
        protocol: agent_protocol::session::PROTOCOL,
        instance: Some(instance.clone()),
        cluster: known.cluster.clone(),
        token: None,
        boot_id: "another".to_owned(),
        agent_version: "0.1.0".to_owned(),
        cpu: known.cpu,
        memory_mib: known.memory_mib,
        reserved_ports: known.reserved_ports.clone(),
        reserved_ports_udp: Vec::new(),
        gpu_ids: Vec::new(),
        interfaces: known.interfaces,
        attributes: known.attributes.clone(),
        tags: Vec::new(),
        host_name: known.host_name.clone(),
        written,
        reads_logs: true,
    }
}

#[test]
fn a_whole_report_without_a_task_that_was_written_down_ends_it() {
    let (mut world, task) = world();
    // It had not come so far as to write this task down: the report says nothing about it.
    world.input(Input::Observed { instance: task.instance.clone(), whole: true, tasks: Vec::new() });
    assert_eq!(described(&mut world, &task.arn)["lastStatus"], "PENDING");
    let written = world.state.assignment(&task.instance).expect("it is there").generation;
    let back = hello(&world, &task.instance, written);
    world.input(Input::Arrived { instance: task.instance.clone(), hello: Box::new(back) });
    let newest = world.state.assignment(&task.instance).expect("it is there").generation;
    assert!(newest > written, "a new connection has a new generation");
    // After a restored backup the instance may be ahead: what it is assigned next is newer all the same.
    let ahead = Generation { epoch: 7, generation: 70 };
    let restored = hello(&world, &task.instance, ahead);
    let mut other = world.state.clone();
    let arrived = Input::Arrived { instance: task.instance.clone(), hello: Box::new(restored) };
    other.apply(&step(&world.state, &arrived, world.now, &mut || [0; 16]).changes);
    assert!(other.assignment(&task.instance).expect("it is there").generation > ahead);
    world.input(Input::Observed { instance: task.instance.clone(), whole: true, tasks: Vec::new() });
    let shown = described(&mut world, &task.arn);
    assert_eq!((&shown["lastStatus"], &shown["stopCode"]), (&json!("STOPPED"), &json!("TerminationNotice")));
    assert_eq!(shown["containers"][0].get("exitCode"), None);
}

/// A second start would be worse than none.
#[test]
fn a_task_that_its_instance_has_forgotten_is_not_started_again() {
    let (mut world, task) = world();
    observed(&mut world, &task, json!({"lastStatus": "RUNNING", "version": 4}), json!({"lastStatus": "RUNNING"}));
    let back = hello(&world, &task.instance, Generation::default());
    world.input(Input::Arrived { instance: task.instance.clone(), hello: Box::new(back) });
    assert_eq!(world.state.assignment(&task.instance).expect("it is there").tasks, []);
    assert_eq!(described(&mut world, &task.arn)["lastStatus"], "STOPPED");
}

#[test]
fn instances_that_do_not_belong_here_are_refused() {
    let (mut world, task) = world();
    let ahead = Generation { epoch: 1, generation: 1 };
    let mut other = hello(&world, &task.instance, ahead);
    other.cluster = "elsewhere".to_owned();
    let refusal = observe::admit(&world.state, &task.instance, &other).expect_err("another cluster");
    assert!(refusal.to_string().contains("belongs to cluster \"default\""), "{refusal}");
    let before = world.state.clone();
    world.input(Input::Arrived { instance: task.instance.clone(), hello: Box::new(other.clone()) });
    assert_eq!(world.state.instances.get(&task.instance), before.instances.get(&task.instance));
    // A control plane that has lost its store must not end what runs.
    other.cluster = HERE.to_owned();
    assert_eq!(observe::admit(&State::default(), &task.instance, &other), Err(observe::Refusal::Unknown));
    other.written = Generation::default();
    assert_eq!(observe::admit(&State::default(), &task.instance, &other), Ok(()));
    other.cluster = "none".to_owned();
    assert!(observe::admit(&State::default(), &task.instance, &other).is_err());
}

#[test]
fn a_lost_instances_tasks_end_after_the_limit_and_only_then() {
    let (mut world, task) = world();
    let lost_instance_ms = Some(60_000);
    let mut state = State::new(1, Settings { lost_instance_ms, ..Settings::default() });
    for record in records(&world.state) {
        state.apply_one(&record);
    }
    world.state = state;
    assert_eq!(world.state.deadline(world.now), None);
    world.input(Input::Left { instance: task.instance.clone() });
    let limit = world.now.plus_ms(60_000);
    assert_eq!(world.state.deadline(world.now), Some(limit));
    let mut ids = || [1; 16];
    let early = control_plane::reconcile(&world.state, world.now.plus_ms(59_999), &mut ids);
    assert!(early.is_empty(), "{early:?}");
    let changes = control_plane::reconcile(&world.state, limit, &mut ids);
    world.state.apply(&changes);
    let shown = described(&mut world, &task.arn);
    let told = ["lastStatus", "stopCode", "stoppedReason"].map(|name| &shown[name]);
    assert_eq!(told, ["STOPPED", "TerminationNotice", "Host EC2 (instance host-161) stopped/terminated."]);
}

fn records(state: &State) -> Vec<control_plane::Change> {
    use control_plane::{Change, Record};
    let clusters = state.clusters.values().map(|one| Record::Cluster((**one).clone()));
    let definitions = state.task_definitions.values().map(|one| Record::TaskDefinition(Box::new((**one).clone())));
    let instances = state.instances.values().map(|one| Record::Instance(Box::new((**one).clone())));
    let tasks = state.tasks.values().map(|one| Record::Task(Box::new((**one).clone())));
    clusters.chain(definitions).chain(instances).chain(tasks).map(Change::Put).collect()
}

#[test]
fn stopped_tasks_and_their_tokens_go_in_time() {
    let (mut world, task) = world();
    world.call(
        "RegisterTaskDefinition",
        json!({"family": "b", "containerDefinitions": [{"name": "b", "image": "x", "memory": 9}]}),
    );
    let arn = world.call("RunTask", json!({"taskDefinition": "b", "clientToken": "t"}))["tasks"][0]["taskArn"].clone();
    let other = Task {
        instance: task.instance.clone(),
        id: ecs::arn::task_id(arn.as_str().expect("an ARN")).expect("an id"),
        arn: arn.as_str().expect("an ARN").to_owned(),
    };
    observed(&mut world, &other, json!({"lastStatus": "STOPPED", "desiredStatus": "STOPPED", "version": 2}), json!({}));
    let kept = Settings::default().stopped_task_ms;
    assert!(kept > 3_600_000, "longer than Amazon's hour");
    let at = world.now.plus_ms(kept);
    assert_eq!(world.state.deadline(world.now), Some(at));
    let mut ids = || [1; 16];
    assert!(control_plane::reconcile(&world.state, world.now.plus_ms(kept - 1), &mut ids).is_empty());
    let changes = control_plane::reconcile(&world.state, at, &mut ids);
    world.state.apply(&changes);
    assert!(world.state.tasks.get(&other.id).is_none() && world.state.tokens.is_empty());
    assert!(world.state.tasks.get(&task.id).is_some(), "the other one lives");
}

/// The envelope and the members that differ from DescribeTasks
/// (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs_task_events.html>).
#[test]
fn changes_are_told_as_events() {
    let (mut world, task) = world();
    let before = world.state.clone();
    let report = report(
        &mut world,
        &task,
        json!({"lastStatus": "RUNNING", "version": 4, "startedAt": 1_700_000_001.5}),
        json!({}),
    );
    let input = Input::Observed { instance: task.instance.clone(), whole: false, tasks: vec![report] };
    let changes = step(&before, &input, world.now, &mut || [7; 16]).changes;
    world.state.apply(&changes);
    let home = Account { region: REGION, account_id: "123456789012" };
    let batch = Batch { before: &before, changes: &changes, after: &world.state, now: world.now, home };
    let told = events::events(&batch, &mut || [9; 16]);
    assert_eq!(told.len(), 1, "{told:?}");
    let event = &told[0];
    let envelope = ["version", "detail-type", "source", "account", "time", "region"].map(|name| &event[name]);
    assert_eq!(envelope, ["0", "ECS Task State Change", "aws.ecs", "123456789012", "2023-11-14T22:13:20Z", REGION]);
    assert_eq!(event["resources"], json!([task.arn]));
    let detail = &event["detail"];
    assert_eq!((&detail["lastStatus"], &detail["version"]), (&json!("RUNNING"), &json!(2)));
    assert_eq!(detail["createdAt"], "2023-11-14T22:13:20.000Z");
    assert_eq!(detail["startedAt"], "2023-11-14T22:13:21.500Z");
    assert_eq!(detail["updatedAt"], "2023-11-14T22:13:20.000Z");
    // An instance that goes makes one of its own.
    let before = world.state.clone();
    let changes = step(&before, &Input::Left { instance: task.instance.clone() }, world.now, &mut || [7; 16]).changes;
    world.state.apply(&changes);
    let batch = Batch { before: &before, changes: &changes, after: &world.state, now: world.now, home };
    let told = events::events(&batch, &mut || [9; 16]);
    assert_eq!(told[0]["detail-type"], "ECS Container Instance State Change");
    assert_eq!(told[0]["detail"]["agentConnected"], false);
    let left: Vec<&Value> =
        told[0]["detail"]["remainingResources"].as_array().expect("a list").iter().take(2).collect();
    assert_eq!(
        left,
        [
            &json!({"name": "CPU", "type": "INTEGER", "integerValue": 1792}),
            &json!({"name": "MEMORY", "type": "INTEGER", "integerValue": 3584})
        ]
    );
}

#[test]
fn a_command_runs_in_a_running_container_alone() {
    let (mut world, task) = world();
    let ask = json!({"task": task.arn, "command": "sh", "interactive": true});
    let refused = world.refused("ExecuteCommand", ask.clone());
    assert_eq!(
        refused,
        "TargetNotConnectedException: The execute command failed due to an internal error. Try again later."
    );
    observed(&mut world, &task, json!({"lastStatus": "RUNNING", "version": 4}), json!({"lastStatus": "RUNNING"}));
    let answer = world.call("ExecuteCommand", ask);
    assert_eq!((&answer["containerName"], &answer["interactive"]), (&json!("web"), &json!(true)));
    let session = answer["session"]["sessionId"].as_str().expect("an id");
    assert!(session.starts_with("ecs-execute-command-"), "{session}");
    world.refuses(
        "ExecuteCommand",
        &[
            (
                json!({"task": task.arn, "command": "sh", "interactive": false}),
                "InvalidParameterException: Interactive is the only mode supported currently.",
            ),
            (
                json!({"task": task.arn, "command": "sh", "interactive": true, "container": "db"}),
                "InvalidParameterException: The container db was not found in the task.",
            ),
        ],
    );
}

#[test]
fn a_foreign_agents_words_count_as_our_own_agents() {
    let (mut world, task) = world();
    let container = json!({"containerName": "web", "runtimeId": "r", "status": "RUNNING"});
    let answer =
        world.call("SubmitTaskStateChange", json!({"task": task.arn, "status": "RUNNING", "containers": [container]}));
    assert!(answer["acknowledgment"].is_string());
    assert_eq!(described(&mut world, &task.arn)["lastStatus"], "RUNNING");
    let stopped = json!({"task": task.arn, "containerName": "web", "status": "STOPPED", "exitCode": 7});
    world.call("SubmitContainerStateChange", stopped);
    let shown = described(&mut world, &task.arn);
    assert_eq!((&shown["containers"][0]["exitCode"], &shown["lastStatus"]), (&json!(7), &json!("RUNNING")));
    world.call("SubmitTaskStateChange", json!({"task": task.arn, "status": "STOPPED", "reason": "it is done"}));
    let shown = described(&mut world, &task.arn);
    let told = ["lastStatus", "desiredStatus", "stopCode", "stoppedReason"].map(|name| &shown[name]);
    assert_eq!(told, ["STOPPED", "STOPPED", "EssentialContainerExited", "it is done"]);
    assert_eq!(shown["containers"][0]["exitCode"], 7);
    world.refuses(
        "SubmitContainerStateChange",
        &[(
            json!({"task": task.arn, "containerName": "db"}),
            "InvalidParameterException: The container db was not found in the task.",
        )],
    );
}

#[test]
fn only_services_tasks_are_protected() {
    let (mut world, task) = world();
    let ask = json!({"cluster": "default", "tasks": [task.arn], "protectionEnabled": true});
    let answer = world.call("UpdateTaskProtection", ask);
    assert_eq!(answer["failures"], json!([{"arn": task.arn, "reason": "TASK_NOT_VALID"}]));
    let none = "0".repeat(32);
    let answer = world.call("GetTaskProtection", json!({"cluster": "default", "tasks": [none]}));
    assert_eq!(answer["failures"], json!([{"arn": arn(&format!("task/default/{none}")), "reason": "MISSING"}]));
    world.refuses(
        "UpdateTaskProtection",
        &[(
            json!({"cluster": "default", "tasks": [task.arn], "protectionEnabled": true, "expiresInMinutes": 2881}),
            "InvalidParameterException: expiresInMinutes should be between 1 and 2880.",
        )],
    );
}
