//! ECS Exec from ExecuteCommand to the end of the command, with a client that speaks as session-manager-plugin does and an
//! agent that is played by the test.

mod support;
#[path = "support/agent.rs"]
mod support_agent;

use agent_protocol::session::{AssignedTask, FromInstance, OpenExec, TaskReport, ToInstance};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use support::{Rig, response};
use support_agent::{Agent, connect};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A task's report as an agent makes it: its container runs, and so does the agent of ECS Exec.
fn running(task: &AssignedTask) -> FromInstance {
    let arn = format!("arn:aws:ecs:eu-central-1:123456789012:task/default/{}", task.id);
    let report = json!({
        "taskArn": arn,
        "taskDefinitionArn": "arn:aws:ecs:eu-central-1:123456789012:task-definition/web:1",
        "clusterArn": "arn:aws:ecs:eu-central-1:123456789012:cluster/default",
        "group": "family:web",
        "launchType": "EC2",
        "lastStatus": "RUNNING",
        "desiredStatus": "RUNNING",
        "healthStatus": "UNKNOWN",
        "createdAt": 1_700_000_000.0,
        "version": 2,
        "containers": [{
            "name": "web",
            "image": "nginx",
            "cpu": "0",
            "taskArn": arn,
            "lastStatus": "RUNNING",
            "healthStatus": "UNKNOWN",
            "runtimeId": format!("{}-1", task.id),
            "containerArn": "arn:aws:ecs:eu-central-1:123456789012:container/default/1/2",
            "managedAgents": [{"name": "ExecuteCommandAgent", "lastStatus": "RUNNING"}],
        }],
    });
    let task = TaskReport { id: task.id.clone(), task: serde_json::from_value(report).expect("a task") };
    FromInstance::Report { whole: true, tasks: vec![task] }
}

/// A task that runs, and what ExecuteCommand says of it.
async fn invited(rig: &Rig, agent: &mut Agent) -> Value {
    agent.welcome().await;
    let containers = json!([{"name": "web", "image": "nginx", "memory": 64}]);
    rig.ask("RegisterTaskDefinition", json!({"family": "web", "containerDefinitions": containers})).await;
    let (_, ran) = rig.ask("RunTask", json!({"taskDefinition": "web", "enableExecuteCommand": true})).await;
    let arn = ran["tasks"][0]["taskArn"].as_str().expect("an ARN").to_owned();
    let assignment = agent.assignment().await;
    agent.say(&running(&assignment.tasks[0])).await;
    // Reports are in the loop's queue once a later message of the same session is answered.
    agent.say(&FromInstance::StillThere).await;
    assert_eq!(agent.hear().await.expect("a message"), ToInstance::StillHere);
    rig.ask("CreateCluster", json!({"clusterName": "behind"})).await;
    let asked = json!({"task": arn, "command": "sh -c 'echo hi'", "interactive": true});
    let mut tcp = rig.tcp().await;
    let (status, answer) = support::ask(&mut tcp, "ExecuteCommand", &asked).await;
    assert_eq!(status, 200, "{answer}");
    answer["session"].clone()
}

/// The plugin's side of the websocket.
struct Plugin {
    stream: TcpStream,
    sent: i64,
}

#[derive(Debug)]
struct Message {
    kind: String,
    sequence: i64,
    payload_type: u32,
    payload: Vec<u8>,
    id: Vec<u8>,
}

impl Plugin {
    async fn connect(rig: &Rig, session: &Value) -> (u16, Plugin) {
        let url = session["streamUrl"].as_str().expect("a URL");
        let path = url.split_once("here").expect("the host that the client called").1;
        assert!(url.starts_with("ws://here/data-channel/ecs-execute-command-"), "{url}");
        let mut stream = rig.tcp().await;
        let asked = format!(
            "GET {path} HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        stream.write_all(asked.as_bytes()).await.expect("written");
        let status = response(&mut stream).await.expect("a head").status;
        (status, Plugin { stream, sent: 0 })
    }

    async fn frame(&mut self, kind: u8, bytes: &[u8]) {
        let length = u16::try_from(bytes.len()).expect("short");
        let mut frame = vec![0x80 | kind, 0x80 | 126];
        frame.extend(length.to_be_bytes());
        let mask = [1, 2, 3, 4];
        frame.extend(mask);
        frame.extend(bytes.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.stream.write_all(&frame).await.expect("written");
    }

    async fn greet(&mut self, token: &str) {
        let greeting = json!({"MessageSchemaVersion": "1.0", "RequestId": "r", "TokenValue": token, "ClientId": "c"});
        self.frame(1, greeting.to_string().as_bytes()).await;
    }

    /// As the plugin's own serializer lays it out.
    async fn send(&mut self, kind: &str, sequence: i64, payload_type: u32, payload: &[u8]) {
        let mut bytes = 116_u32.to_be_bytes().to_vec();
        bytes.extend(format!("{kind:32}").as_bytes());
        bytes.extend([0, 0, 0, 1]);
        bytes.extend(1_700_000_000_000_u64.to_be_bytes());
        bytes.extend(sequence.to_be_bytes());
        bytes.extend([0; 8]);
        bytes.extend([9; 16]);
        bytes.extend(digest(&SHA256, payload).as_ref());
        bytes.extend(payload_type.to_be_bytes());
        bytes.extend((payload.len() as u32).to_be_bytes());
        bytes.extend(payload);
        self.frame(2, &bytes).await;
    }

    async fn input(&mut self, payload_type: u32, payload: &[u8]) {
        self.send("input_stream_data", self.sent, payload_type, payload).await;
        self.sent += 1;
    }

    /// The next message; nothing at the websocket's end.
    async fn receive(&mut self) -> Option<Message> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).await.ok()?;
        if head[0] == 0x88 {
            return None;
        }
        assert_eq!(head[0], 0x82, "a whole binary message");
        let length = match head[1] {
            126 => usize::from(self.stream.read_u16().await.expect("a length")),
            short => usize::from(short),
        };
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).await.expect("a message");
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four"));
        let message = Message {
            kind: String::from_utf8_lossy(&bytes[4..36]).trim().to_owned(),
            sequence: i64::from_be_bytes(bytes[48..56].try_into().expect("eight")),
            payload_type: number(112),
            payload: bytes[120..].to_vec(),
            id: [&bytes[72..80], &bytes[64..72]].concat(),
        };
        assert_eq!(number(116) as usize, message.payload.len());
        assert_eq!(digest(&SHA256, &message.payload).as_ref(), &bytes[80..112]);
        Some(message)
    }

    /// The next message of data, acknowledged.
    async fn output(&mut self) -> Message {
        loop {
            let message = self.receive().await.expect("a message");
            if message.kind != "output_stream_data" {
                continue;
            }
            let hex: String = message.id.iter().map(|byte| format!("{byte:02x}")).collect();
            let taken = json!({
                "AcknowledgedMessageType": message.kind,
                "AcknowledgedMessageId": hex,
                "AcknowledgedMessageSequenceNumber": message.sequence,
                "IsSequentialMessage": true,
            });
            self.send("acknowledge", 0, 0, taken.to_string().as_bytes()).await;
            return message;
        }
    }

    async fn shake_hands(&mut self) {
        let request = self.output().await;
        assert_eq!((request.sequence, request.payload_type), (0, 5));
        let asked: Value = serde_json::from_slice(&request.payload).expect("JSON");
        assert_eq!(asked["RequestedClientActions"][0]["ActionType"], "SessionType");
        let done = json!({
            "ClientVersion": "1.2.650.0",
            "ProcessedClientActions": [{"ActionType": "SessionType", "ActionStatus": 1, "ActionResult": null, "Error": ""}],
            "Errors": [],
        });
        self.input(6, done.to_string().as_bytes()).await;
        let complete = self.output().await;
        assert_eq!((complete.sequence, complete.payload_type), (1, 7));
    }
}

async fn opened(agent: &mut Agent) -> OpenExec {
    match agent.hear().await.expect("a message") {
        ToInstance::OpenExec(open) => open,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_command_runs_in_the_plugins_terminal() {
    let rig = Rig::start().await;
    let mut agent = connect(&rig, None).await;
    let session = invited(&rig, &mut agent).await;
    let (status, mut plugin) = Plugin::connect(&rig, &session).await;
    assert_eq!(status, 101);
    plugin.greet(session["tokenValue"].as_str().expect("a token")).await;
    plugin.shake_hands().await;
    let open = opened(&mut agent).await;
    assert_eq!(
        (open.command.as_slice(), open.container.as_str()),
        (&["sh", "-c", "echo hi"].map(str::to_owned)[..], "web")
    );
    let session = open.session;
    agent.say(&FromInstance::ExecOpened { session: session.clone(), refused: None }).await;
    plugin.input(3, br#"{"cols":132,"rows":43}"#).await;
    let resized = ToInstance::ExecResize { session: session.clone(), rows: 43, columns: 132 };
    assert_eq!(agent.hear().await.expect("a message"), resized);
    plugin.input(1, b"x\r").await;
    let typed = ToInstance::ExecInput { session: session.clone(), bytes: b"x\r".to_vec() };
    assert_eq!(agent.hear().await.expect("a message"), typed);
    // The same again, as a client does whose acknowledgement was late: it is typed once.
    plugin.send("input_stream_data", plugin.sent - 1, 1, b"x\r").await;
    plugin.input(1, b"y").await;
    let typed = ToInstance::ExecInput { session: session.clone(), bytes: b"y".to_vec() };
    assert_eq!(agent.hear().await.expect("a message"), typed);
    // More than may be unacknowledged at one time, in one piece.
    let long: Vec<u8> = (0..3_000_000_u32).map(|at| at as u8).collect();
    agent.say(&FromInstance::ExecOutput { session: session.clone(), bytes: long.clone() }).await;
    let mut shown = Vec::new();
    while shown.len() < long.len() {
        let message = plugin.output().await;
        assert_eq!(message.payload_type, 1);
        shown.extend(message.payload);
    }
    assert!(shown == long, "every byte, in order");
    agent.say(&FromInstance::ExecEnded { session, exit_code: 7 }).await;
    let closed = loop {
        let message = plugin.receive().await.expect("a message");
        if message.kind == "channel_closed" {
            break message;
        }
    };
    let told: Value = serde_json::from_slice(&closed.payload).expect("JSON");
    assert_eq!((told["MessageType"].as_str(), told["Output"].as_str()), (Some("channel_closed"), Some("")));
    assert_eq!(told["ExitCode"], 7, "a member of coracle's own");
}

#[tokio::test]
async fn a_token_is_good_once() {
    let rig = Rig::start().await;
    let mut agent = connect(&rig, None).await;
    let session = invited(&rig, &mut agent).await;
    let (status, mut guess) = Plugin::connect(&rig, &session).await;
    assert_eq!(status, 101);
    guess.greet("0123456789abcdef").await;
    assert!(guess.receive().await.is_none(), "closed");
    assert_eq!(Plugin::connect(&rig, &session).await.0, 404, "one guess");
    let session = {
        let (_, tasks) = rig.ask("ListTasks", json!({})).await;
        let asked = json!({"task": tasks["taskArns"][0], "command": "sh", "interactive": true});
        support::ask(&mut rig.tcp().await, "ExecuteCommand", &asked).await.1["session"].clone()
    };
    let token = session["tokenValue"].as_str().expect("a token").to_owned();
    let (_, mut first) = Plugin::connect(&rig, &session).await;
    let (_, mut second) = Plugin::connect(&rig, &session).await;
    first.greet(&token).await;
    first.shake_hands().await;
    second.greet(&token).await;
    assert!(second.receive().await.is_none(), "closed");
    assert_eq!(opened(&mut agent).await.command, ["sh"]);
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_command() {
    let rig = Rig::start().await;
    let mut agent = connect(&rig, None).await;
    let session = invited(&rig, &mut agent).await;
    let (_, mut plugin) = Plugin::connect(&rig, &session).await;
    plugin.greet(session["tokenValue"].as_str().expect("a token")).await;
    plugin.shake_hands().await;
    let session = opened(&mut agent).await.session;
    drop(plugin);
    assert_eq!(agent.hear().await.expect("a message"), ToInstance::CloseExec { session });
}

#[tokio::test]
async fn a_command_that_does_not_start_says_why() {
    let rig = Rig::start().await;
    let mut agent = connect(&rig, None).await;
    let session = invited(&rig, &mut agent).await;
    let (_, mut plugin) = Plugin::connect(&rig, &session).await;
    plugin.greet(session["tokenValue"].as_str().expect("a token")).await;
    plugin.shake_hands().await;
    let session = opened(&mut agent).await.session;
    let refused = Some("there is no sh in the container".to_owned());
    agent.say(&FromInstance::ExecOpened { session, refused }).await;
    let closed = loop {
        let message = plugin.receive().await.expect("a message");
        if message.kind == "channel_closed" {
            break message;
        }
    };
    let told: Value = serde_json::from_slice(&closed.payload).expect("JSON");
    assert_eq!(told["Output"], "there is no sh in the container");
}
