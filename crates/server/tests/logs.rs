//! Logs of a task on a container instance from the question over HTTP to the last line, with an agent that is played by the
//! test.

mod support;
#[path = "support/agent.rs"]
mod support_agent;

use agent_protocol::logs::{Awslogs, ReadLogs, Record, Source, Stream, Told};
use agent_protocol::session::{FromInstance, ToInstance};
use ecs::Timestamp;
use serde_json::{Value, json};
use support::{Rig, response};
use support_agent::{Agent, connect, hello, upgraded};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// A task that has a place; its ARN.
async fn placed(rig: &Rig, agent: &mut Agent) -> String {
    agent.welcome().await;
    let containers = json!([{"name": "web", "image": "nginx", "memory": 64}]);
    rig.ask("RegisterTaskDefinition", json!({"family": "web", "containerDefinitions": containers})).await;
    let (_, ran) = rig.ask("RunTask", json!({"taskDefinition": "web"})).await;
    agent.assignment().await;
    ran["tasks"][0]["taskArn"].as_str().expect("an ARN").to_owned()
}

async fn asked(rig: &Rig, question: &Value) -> BufReader<UnixStream> {
    let body = question.to_string();
    let mut stream = rig.unix().await;
    let head = format!("POST /logs HTTP/1.0\r\nHost: here\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await.expect("written");
    BufReader::new(stream)
}

async fn refused(mut reader: BufReader<UnixStream>) -> (u16, String) {
    let answer = response(&mut reader).await.expect("an answer");
    let said: Value = serde_json::from_slice(&answer.body).expect("JSON");
    (answer.status, said["message"].as_str().expect("a message").to_owned())
}

/// Nothing at the end.
async fn line(reader: &mut BufReader<UnixStream>) -> Option<Told> {
    let mut line = String::new();
    reader.read_line(&mut line).await.expect("readable");
    (!line.is_empty()).then(|| serde_json::from_str(&line).expect(&line))
}

async fn question(agent: &mut Agent) -> ReadLogs {
    match agent.hear().await.expect("a message") {
        ToInstance::ReadLogs(asked) => asked,
        other => panic!("{other:?}"),
    }
}

async fn say(agent: &mut Agent, asked: &ReadLogs, told: &Told) {
    agent.say(&FromInstance::Logs { session: asked.session.clone(), told: told.clone() }).await;
}

fn opened() -> Told {
    let awslogs =
        Awslogs { group: "g".to_owned(), stream: "s".to_owned(), datetime_format: None, multiline_pattern: None };
    let container = "web".to_owned().try_into().expect("a name");
    Told::Opened(vec![Source { container, kept: true, lost_bytes: 0, lost_cause: None, awslogs: Some(awslogs) }])
}

fn batch(bytes: &str) -> Told {
    let time = Timestamp::from_epoch_ms(1_700_000_000_001);
    Told::Records(vec![Record { source: 0, stream: Stream::Stdout, time, partial: false, bytes: bytes.to_owned() }])
}

#[tokio::test]
async fn what_the_instance_reads_comes_to_its_reader() {
    let rig = Rig::start().await;
    let mut agent = connect(&rig, None).await;
    let arn = placed(&rig, &mut agent).await;
    let wanted = json!({"task": arn, "follow": true, "tail": 5, "since": 1_700_000_000.5, "containers": ["web"]});
    let mut reader = asked(&rig, &wanted).await;
    let ask = question(&mut agent).await;
    assert!(arn.ends_with(ask.task.as_str()) && ask.batches > 0, "{ask:?}");
    assert_eq!((ask.wanted.follow, ask.wanted.tail, ask.wanted.containers.len()), (true, Some(5), 1));
    assert_eq!(ask.wanted.since, Some(Timestamp::from_epoch_ms(1_700_000_000_500)));
    say(&mut agent, &ask, &opened()).await;
    assert_eq!(response(&mut reader).await.expect("a head").status, 200);
    assert_eq!(line(&mut reader).await, Some(opened()));
    for bytes in ["AP8=", ""] {
        say(&mut agent, &ask, &batch(bytes)).await;
        assert_eq!(line(&mut reader).await, Some(batch(bytes)));
        let more = ToInstance::MoreLogs { session: ask.session.clone() };
        assert_eq!(agent.hear().await.expect("a message"), more);
    }
    let ended = Told::Ended { failed: None };
    say(&mut agent, &ask, &ended).await;
    assert_eq!((line(&mut reader).await, line(&mut reader).await), (Some(ended), None));
}

#[tokio::test]
async fn a_reader_that_goes_away_ends_the_reading() {
    let rig = Rig::start().await;
    let mut agent = connect(&rig, None).await;
    let arn = placed(&rig, &mut agent).await;
    let mut reader = asked(&rig, &json!({"task": arn, "follow": true})).await;
    let ask = question(&mut agent).await;
    say(&mut agent, &ask, &opened()).await;
    assert_eq!(response(&mut reader).await.expect("a head").status, 200);
    drop(reader);
    let close = ToInstance::CloseLogs { session: ask.session.clone() };
    assert_eq!(agent.hear().await.expect("a message"), close);
    // What was on its way is nobody's, and is answered with the same.
    say(&mut agent, &ask, &batch("")).await;
    assert_eq!(agent.hear().await.expect("a message"), close);
}

/// Its connection takes what it takes; no more than was allowed is ever in hand, and the instance's session goes on.
#[tokio::test]
async fn a_slow_reader_holds_up_nobody_and_costs_no_more_than_it_allowed() {
    let rig = Rig::start().await;
    let mut agent = connect(&rig, None).await;
    let arn = placed(&rig, &mut agent).await;
    let mut reader = asked(&rig, &json!({"task": arn})).await;
    let ask = question(&mut agent).await;
    say(&mut agent, &ask, &opened()).await;
    assert_eq!(response(&mut reader).await.expect("a head").status, 200);
    // More than sockets hold.
    let large = batch(&"A".repeat(3 << 19));
    for _ in 0..ask.batches {
        say(&mut agent, &ask, &large).await;
    }
    agent.say(&FromInstance::StillThere).await;
    let mut allowed = 0;
    loop {
        match agent.hear().await.expect("a message") {
            ToInstance::MoreLogs { .. } => allowed += 1,
            ToInstance::StillHere => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(allowed < ask.batches, "{allowed} of {} were taken", ask.batches);
    // An instance that does not keep to it is not listened to any more.
    for _ in 0..2 * ask.batches {
        say(&mut agent, &ask, &batch("")).await;
    }
    loop {
        match agent.hear().await.expect("a message") {
            ToInstance::MoreLogs { .. } => {}
            ToInstance::CloseLogs { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    let mut last = None;
    while let Some(told) = line(&mut reader).await {
        last = Some(told);
    }
    assert!(matches!(last, Some(Told::Ended { failed: Some(_) })), "it is not told to be whole");
}

#[tokio::test]
async fn a_message_that_is_too_large_is_nobodys() {
    let Told::Opened(mut sources) = opened() else { panic!("it opens") };
    sources[0].lost_cause = Some("A".repeat(2 << 20));
    for large in [batch(&"A".repeat(2 << 20)), Told::Opened(sources)] {
        let rig = Rig::start().await;
        let mut agent = connect(&rig, None).await;
        let arn = placed(&rig, &mut agent).await;
        let _reader = asked(&rig, &json!({"task": arn})).await;
        let ask = question(&mut agent).await;
        say(&mut agent, &ask, &opened()).await;
        say(&mut agent, &ask, &large).await;
        let close = ToInstance::CloseLogs { session: ask.session.clone() };
        assert_eq!(agent.hear().await.expect("a message"), close);
    }
}

#[tokio::test]
async fn an_instance_that_is_lost_meanwhile_is_said_to_be() {
    let rig = Rig::start().await;
    let mut agent = connect(&rig, None).await;
    let arn = placed(&rig, &mut agent).await;
    let mut reader = asked(&rig, &json!({"task": arn, "follow": true})).await;
    let ask = question(&mut agent).await;
    say(&mut agent, &ask, &opened()).await;
    say(&mut agent, &ask, &batch("")).await;
    assert_eq!(response(&mut reader).await.expect("a head").status, 200);
    drop(agent);
    let mut told = Vec::new();
    while let Some(next) = line(&mut reader).await {
        told.push(next);
    }
    let Some(Told::Ended { failed: Some(why) }) = told.last() else { panic!("{told:?}") };
    assert!(told.len() == 3 && why.contains("was lost"), "{told:?}");
    let (status, why) = refused(asked(&rig, &json!({"task": arn})).await).await;
    assert!(status == 503 && why.contains("is not connected"), "{status} {why}");
}

/// The newer connection knows nothing of what the older one had begun.
#[tokio::test]
async fn an_instance_that_comes_again_has_lost_its_readers() {
    let rig = Rig::start().await;
    let mut agent = connect(&rig, None).await;
    let arn = placed(&rig, &mut agent).await;
    let mut reader = asked(&rig, &json!({"task": arn, "follow": true})).await;
    let ask = question(&mut agent).await;
    say(&mut agent, &ask, &opened()).await;
    assert_eq!(response(&mut reader).await.expect("a head").status, 200);
    let (_, instances) = rig.ask("ListContainerInstances", json!({})).await;
    let id = instances["containerInstanceArns"][0].as_str().and_then(|arn| arn.rsplit('/').next()).expect("an id");
    let mut again = connect(&rig, Some(id.to_owned().try_into().expect("an id"))).await;
    again.welcome().await;
    assert_eq!(line(&mut reader).await, Some(opened()));
    let last = line(&mut reader).await;
    assert!(matches!(&last, Some(Told::Ended { failed: Some(why) }) if why.contains("was lost")), "{last:?}");
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_with_the_reason() {
    let rig = Rig::start().await;
    let mut older = hello(None);
    older.reads_logs = false;
    let mut agent = upgraded(&rig).await;
    agent.say(&FromInstance::Hello(Box::new(older))).await;
    let arn = placed(&rig, &mut agent).await;
    let (status, why) = refused(asked(&rig, &json!({"task": arn})).await).await;
    assert!(status == 501 && why.contains("older"), "{status} {why}");
    let nobody = json!({"task": "1f2e3d4c5b6a79880123456789abcdef"});
    let (status, why) = refused(asked(&rig, &nobody).await).await;
    assert!(status == 404 && why.contains("no task 1f2e"), "{status} {why}");
    let (status, why) = refused(asked(&rig, &json!({"task": arn, "tail": "x"})).await).await;
    assert!(status == 400 && why.starts_with("tail: "), "{status} {why}");
    // An instance says itself what it cannot read.
    let (_, instances) = rig.ask("ListContainerInstances", json!({})).await;
    let id = instances["containerInstanceArns"][0].as_str().and_then(|arn| arn.rsplit('/').next()).expect("an id");
    let mut agent = connect(&rig, Some(id.to_owned().try_into().expect("an id"))).await;
    agent.welcome().await;
    let reader = asked(&rig, &json!({"task": arn})).await;
    let ask = question(&mut agent).await;
    say(&mut agent, &ask, &Told::Refused("the task has no container x".to_owned())).await;
    assert_eq!(refused(reader).await, (400, "the task has no container x".to_owned()));
}

#[tokio::test]
async fn whoever_does_not_sign_reads_nothing() {
    let rig = Rig::with(|options| options.any_key = false).await;
    let mut stream = rig.tcp().await;
    let body = r#"{"task":"1f2e3d4c5b6a79880123456789abcdef"}"#;
    let request =
        format!("POST /logs HTTP/1.0\r\nHost: {}\r\nContent-Length: {}\r\n\r\n{body}", rig.address, body.len());
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("readable");
    assert!(answer.contains(" 400 ") && answer.contains("MissingAuthenticationToken"), "{answer}");
}
