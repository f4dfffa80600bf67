//! Sessions of container instances, with an agent that is played by the test.

mod support;
#[path = "support/agent.rs"]
mod support_agent;

use agent_protocol::session::{FromInstance, Generation, TaskReport, ToInstance};
use ecs::ContainerInstanceId;
use serde_json::{Value, json};
use support::Rig;
use support_agent::{Agent, connect, hello, upgraded};
use tokio::io::AsyncWriteExt;

async fn instances(rig: &Rig) -> Vec<Value> {
    let (_, list) = rig.ask("ListContainerInstances", json!({})).await;
    let arns = list["containerInstanceArns"].as_array().cloned().unwrap_or_default();
    if arns.is_empty() {
        return Vec::new();
    }
    let (_, found) = rig.ask("DescribeContainerInstances", json!({"containerInstances": arns})).await;
    found["containerInstances"].as_array().expect("a list").clone()
}

async fn run_task(rig: &Rig) -> Value {
    let containers = json!([{"name": "web", "image": "nginx", "memory": 64}]);
    rig.ask("RegisterTaskDefinition", json!({"family": "web", "containerDefinitions": containers})).await;
    let (status, ran) = rig.ask("RunTask", json!({"taskDefinition": "web", "enableExecuteCommand": true})).await;
    assert_eq!((status, ran["failures"].as_array().map(Vec::len)), (200, Some(0)), "{ran}");
    ran["tasks"][0].clone()
}

#[tokio::test]
async fn an_instance_comes_gets_its_tasks_and_comes_back_as_itself() {
    let mut rig = Rig::start().await;
    let mut agent = connect(&rig, None).await;
    let (id, first) = agent.welcome().await;
    assert!(first.tasks.is_empty());
    let known = instances(&rig).await;
    assert_eq!((known.len(), known[0]["agentConnected"].as_bool()), (1, Some(true)));
    let task = run_task(&rig).await;
    let assignment = agent.assignment().await;
    assert!(assignment.generation > first.generation);
    let [assigned] = &assignment.tasks[..] else { panic!("{assignment:?}") };
    assert!(task["taskArn"].as_str().expect("an ARN").ends_with(assigned.id.as_str()));
    // The daemon goes and comes again; the instance says who it is.
    rig.restart().await;
    let mut again = upgraded(&rig).await;
    let mut known = hello(Some(id.clone()));
    known.written = assignment.generation;
    again.say(&FromInstance::Hello(Box::new(known))).await;
    let (same, whole) = again.welcome().await;
    assert_eq!((same, whole.tasks.len()), (id, 1));
    assert!(whole.generation > assignment.generation, "it acts on nothing older than what it has");
}

#[tokio::test]
async fn the_newest_connection_of_an_instance_counts() {
    let rig = Rig::start().await;
    let mut older = connect(&rig, None).await;
    let (id, _) = older.welcome().await;
    let mut newer = connect(&rig, Some(id.clone())).await;
    assert_eq!(newer.welcome().await.0, id);
    older.hear().await.expect_err("it is closed");
    assert_eq!(instances(&rig).await[0]["agentConnected"], true, "that the older one left is nobody's loss");
    run_task(&rig).await;
    assert_eq!(newer.assignment().await.tasks.len(), 1);
}

#[tokio::test]
async fn an_instance_that_leaves_is_not_connected() {
    let rig = Rig::start().await;
    let mut agent = connect(&rig, None).await;
    agent.welcome().await;
    agent.stream.shutdown().await.expect("closed");
    agent.hear().await.expect_err("the other side closes too");
    // The session's end is in the loop's queue before the socket is closed, and this question behind it.
    rig.ask("CreateCluster", json!({"clusterName": "behind"})).await;
    assert_eq!(instances(&rig).await[0]["agentConnected"], false);
}

#[tokio::test]
async fn whoever_is_deregistered_is_hung_up_on_and_told_why_when_it_calls_again() {
    let rig = Rig::start().await;
    let mut agent = connect(&rig, None).await;
    let (id, _) = agent.welcome().await;
    let deregister = json!({"containerInstance": id.as_str(), "force": true});
    assert_eq!(rig.ask("DeregisterContainerInstance", deregister).await.0, 200);
    agent.hear().await.expect_err("it is closed");
    let mut again = connect(&rig, Some(id)).await;
    match again.hear().await.expect("a message") {
        ToInstance::Refused { reason } => assert!(reason.contains("deregistered"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn who_is_not_taken_in_is_told_why() {
    let rig = Rig::start().await;
    let mut elsewhere = hello(None);
    elsewhere.cluster = "nowhere".to_owned();
    let mut lost = hello(Some(ContainerInstanceId::from_bytes([7; 16])));
    lost.written = Generation { epoch: 1, generation: 9 };
    let mut newer = hello(None);
    newer.protocol += 1;
    for (hello, says) in [(elsewhere, "nowhere"), (lost, "restore"), (newer, "version")] {
        let mut agent = upgraded(&rig).await;
        agent.say(&FromInstance::Hello(Box::new(hello))).await;
        match agent.hear().await.expect("a message") {
            ToInstance::Refused { reason } => assert!(reason.contains(says), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(instances(&rig).await.is_empty());
}

#[tokio::test]
async fn what_is_no_message_ends_a_session_and_nothing_else() {
    let rig = Rig::start().await;
    let frames: [&[u8]; 4] = [&[0xff; 8], &[0, 0, 0, 2, b'{', b'}'], &[0, 0, 0, 0], &[0, 0, 0, 9, b'{']];
    for bytes in frames {
        let mut agent = upgraded(&rig).await;
        agent.stream.write_all(bytes).await.expect("written");
        agent.stream.shutdown().await.expect("closed");
        agent.hear().await.expect_err("closed");
        let mut agent = connect(&rig, None).await;
        agent.welcome().await;
        agent.stream.write_all(bytes).await.expect("written");
        agent.stream.shutdown().await.expect("closed");
        agent.hear().await.expect_err("closed");
    }
    let mut good = connect(&rig, None).await;
    good.welcome().await;
    good.say(&FromInstance::StillThere).await;
    assert_eq!(good.hear().await.expect("a message"), ToInstance::StillHere);
}

#[tokio::test]
async fn many_changes_are_few_assignments() {
    let rig = Rig::start().await;
    let mut agent: Agent = connect(&rig, None).await;
    agent.welcome().await;
    for _ in 0..20 {
        run_task(&rig).await;
    }
    let mut last = 0;
    while last < 20 {
        let tasks = agent.assignment().await.tasks.len();
        assert!(tasks > last, "no assignment comes twice");
        last = tasks;
    }
}

#[tokio::test]
async fn an_instance_hears_some_time_that_nobody_asks_for_a_task_that_it_has_ended() {
    let rig = Rig::start().await;
    let mut agent: Agent = connect(&rig, None).await;
    agent.welcome().await;
    let mut task = run_task(&rig).await;
    let assignment = agent.assignment().await;
    let ended = json!({"lastStatus": "STOPPED", "desiredStatus": "STOPPED", "version": 2});
    task.as_object_mut().expect("a task").extend(ended.as_object().expect("members").clone());
    let report = TaskReport {
        id: assignment.tasks[0].id.clone(),
        task: Box::new(serde_json::from_value(task).expect("a task")),
    };
    agent.say(&FromInstance::Report { whole: false, tasks: vec![report] }).await;
    let without = agent.assignment().await;
    assert!(without.tasks.is_empty() && without.generation > assignment.generation);
}
