//! Events where nobody asks for them: a file, and a web server that is not always there.

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use server::events::sink::{Kind, Target};
use support::Rig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// For what must come. It is no claim about speed.
const PATIENCE: Duration = Duration::from_secs(120);
const ROUNDS: usize = 4;

fn target(text: String, kind: Kind) -> Target {
    Target { text, kind }
}

/// Container instances by the API alone: each registration is an event, and so is each end.
async fn happen(rig: &Rig) -> Vec<String> {
    rig.ask("CreateCluster", json!({})).await;
    let mut arns = Vec::new();
    for _ in 0..ROUNDS {
        let resources = json!([{"name": "CPU", "type": "INTEGER", "integerValue": 1024},
            {"name": "MEMORY", "type": "INTEGER", "integerValue": 512}]);
        let (status, made) = rig.ask("RegisterContainerInstance", json!({"totalResources": resources})).await;
        assert_eq!(status, 200, "{made}");
        let arn = made["containerInstance"]["containerInstanceArn"].as_str().expect("an ARN").to_owned();
        let drained = json!({"containerInstances": [arn], "status": "DRAINING"});
        assert_eq!(rig.ask("UpdateContainerInstancesState", drained).await.0, 200);
        arns.push(arn);
    }
    arns
}

/// What is told of each instance, in the order in which it was.
fn check(events: &[Value], arns: &[String]) {
    for arn in arns {
        let of =
            events.iter().filter(|event| event["detail"]["containerInstanceArn"].as_str().map(last) == Some(last(arn)));
        let told: Vec<_> =
            of.map(|event| (event["detail"]["status"].as_str(), event["detail"]["version"].as_u64())).collect();
        assert_eq!(told.iter().map(|told| told.0).collect::<Vec<_>>(), [Some("ACTIVE"), Some("DRAINING")], "{arn}");
        assert!(told[0].1 < told[1].1, "each version once: {told:?}");
    }
    let mut ids: Vec<_> = events.iter().map(|event| event["id"].as_str().expect("an id")).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), events.len(), "each event has an id of its own");
}

fn last(arn: &str) -> &str {
    arn.rsplit('/').next().expect("a part")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_has_a_line_each_also_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("events");
    let mut rig = Rig::with(|options| {
        options.event_sinks = vec![target(path.display().to_string(), Kind::File(path.clone()))];
    })
    .await;
    let lines = |wanted: usize| {
        let path = path.clone();
        async move {
            let reading = async {
                loop {
                    let text = tokio::fs::read_to_string(&path).await.expect("it was made at the start");
                    if text.lines().count() >= wanted && text.ends_with('\n') {
                        return text
                            .lines()
                            .map(|line| serde_json::from_str(line).expect("JSON"))
                            .collect::<Vec<Value>>();
                    }
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(PATIENCE, reading).await.expect("in time")
        }
    };
    let first = happen(&rig).await;
    check(&lines(2 * ROUNDS).await, &first);
    rig.restart().await;
    let second = happen(&rig).await;
    let all = lines(4 * ROUNDS).await;
    assert_eq!(all.len(), 4 * ROUNDS);
    check(&all, &[first, second].concat());
}

/// One request's body; nothing at the connection's end.
async fn posted(stream: &mut TcpStream) -> Option<Value> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            assert!(head.starts_with("post /hook?a=b http/1.1\r\n") && head.contains("content-type: application/json"));
            let length: usize = head.split_once("content-length: ")?.1.split("\r\n").next()?.parse().ok()?;
            if body.len() == length {
                return Some(serde_json::from_str(body).expect("JSON"));
            }
        }
        let mut more = [0; 4_096];
        match stream.read(&mut more).await {
            Ok(0) | Err(_) => return None,
            Ok(read) => bytes.extend(&more[..read]),
        }
    }
}

/// It closes a connection without an answer, is broken, and is well: nothing is lost, nothing comes twice once it was taken,
/// and the order stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_web_server_gets_each_in_order_though_it_is_not_always_well() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/hook?a=b", listener.local_addr().expect("an address"));
    let uri = url.parse().expect("a URL");
    let rig = Rig::with(|options| options.event_sinks = vec![target(url, Kind::Web(uri))]).await;
    let arns = happen(&rig).await;
    let mut taken = Vec::new();
    let taking = async {
        let mut asked = 0;
        while taken.len() < 2 * ROUNDS {
            let (mut stream, _) = listener.accept().await.expect("a client");
            while let Some(event) = posted(&mut stream).await {
                asked += 1;
                match asked {
                    1 => break,
                    2 => stream.write_all(b"HTTP/1.1 503 x\r\ncontent-length: 4\r\n\r\nbusy").await.expect("it reads"),
                    _ => {
                        stream.write_all(b"HTTP/1.1 204 x\r\n\r\n").await.expect("it reads");
                        taken.push(event);
                    }
                }
                if taken.len() == 2 * ROUNDS {
                    return;
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, taking).await.expect("in time");
    check(&taken, &arns);
    let mut order: Vec<_> =
        taken.iter().map(|event| last(event["resources"][0].as_str().expect("an ARN")).to_owned()).collect();
    order.dedup();
    assert_eq!(order, arns.iter().map(|arn| last(arn).to_owned()).collect::<Vec<_>>());
}
