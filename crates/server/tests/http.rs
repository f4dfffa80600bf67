//! The front door over real sockets: operations, limits, bad clients.

mod support;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ecs::Timestamp;
use ring::digest::{SHA256, digest};
use ring::hmac;
use serde_json::json;
use server::daemon;
use server::http::Patience;
use support::{Rig, TARGET, ask, request, response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn an_operation_is_answered_and_kept() {
    let mut rig = Rig::start().await;
    let (status, made) = rig.ask("CreateCluster", json!({"clusterName": "kept"})).await;
    assert_eq!((status, made["cluster"]["status"].as_str()), (200, Some("ACTIVE")));
    assert_eq!(made["cluster"]["clusterArn"], "arn:aws:ecs:eu-central-1:123456789012:cluster/kept");
    rig.restart().await;
    let mut tcp = rig.tcp().await;
    for _ in 0..2 {
        // On one connection.
        let (status, found) = ask(&mut tcp, "DescribeClusters", &json!({"clusters": ["kept"]})).await;
        assert_eq!((status, found["clusters"][0]["clusterName"].as_str()), (200, Some("kept")));
    }
    rig.stop().await.expect("a good end");
}

#[tokio::test]
async fn an_ephemeral_daemon_writes_no_state_down() {
    let mut rig = Rig::with(|options| options.ephemeral = true).await;
    rig.ask("CreateCluster", json!({"clusterName": "gone"})).await;
    assert!(!rig.options.data_directory.join("state/state.redb").exists());
    rig.restart().await;
    let (_, found) = rig.ask("DescribeClusters", json!({"clusters": ["gone"]})).await;
    assert_eq!(found["failures"][0]["reason"], "MISSING");
}

#[tokio::test]
async fn there_is_one_daemon_for_a_data_directory() {
    let rig = Rig::start().await;
    let refused = daemon::open(&rig.options).await.err().expect("refused");
    assert!(matches!(refused, daemon::Error::Lock(server::lock::Error::Taken(_))), "{refused}");
    assert_eq!(rig.ask("ListClusters", json!({})).await.0, 200, "the first one still listens");
}

#[tokio::test]
async fn any_key_is_for_loopback_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut options = support::options(directory.path());
    options.listen = "0.0.0.0:0".parse().expect("an address");
    let refused = daemon::open(&options).await.err().expect("refused");
    assert!(matches!(refused, daemon::Error::AnyKeyAbroad(_)), "{refused}");
    assert!(!options.data_directory.exists(), "nothing was made");
}

/// Amazon's signature version 4, as a client makes it.
fn signed(key: &server::keys::RootKey, operation: &str, body: &str) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    let now = Timestamp::from_epoch_ms(now as u64).rfc3339();
    let date = format!("{}Z", now.split('.').next().expect("seconds").replace(['-', ':'], ""));
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let canonical = format!(
        "POST\n/\n\nhost:here\nx-amz-date:{date}\nx-amz-target:{TARGET}.{operation}\n\nhost;x-amz-date;x-amz-target\n{}",
        hex(digest(&SHA256, body.as_bytes()).as_ref())
    );
    let scope = format!("{}/eu-central-1/ecs/aws4_request", &date[..8]);
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(digest(&SHA256, canonical.as_bytes()).as_ref()));
    let mac = |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes());
    let secret = format!("AWS4{}", key.secret_access_key).into_bytes();
    let signing = scope.split('/').fold(secret, |key, part| mac(&key, part).as_ref().to_vec());
    let signature = hex(mac(&signing, &text).as_ref());
    format!(
        "POST / HTTP/1.1\r\nHost: here\r\nContent-Type: application/x-amz-json-1.1\r\nX-Amz-Target: {TARGET}.{operation}\r\n\
         X-Amz-Date: {date}\r\nAuthorization: AWS4-HMAC-SHA256 Credential={}/{scope}, \
         SignedHeaders=host;x-amz-date;x-amz-target, Signature={signature}\r\nContent-Length: {}\r\n\r\n{body}",
        key.access_key_id,
        body.len()
    )
    .into_bytes()
}

#[tokio::test]
async fn over_tcp_the_root_key_signs() {
    let rig = Rig::with(|options| options.any_key = false).await;
    let mut other = rig.key.clone();
    other.secret_access_key.push('x');
    let mut unknown = rig.key.clone();
    unknown.access_key_id = "AKIAIOSFODNN7EXAMPLE".to_owned();
    let cases = [
        (signed(&rig.key, "ListClusters", "{}"), 200, "\"clusterArns\""),
        (signed(&other, "ListClusters", "{}"), 400, "InvalidSignatureException"),
        (signed(&unknown, "ListClusters", "{}"), 400, "UnrecognizedClientException"),
        (request("ListClusters", "{}"), 400, "Exception"),
        (b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 0\r\n\r\n".to_vec(), 400, "MissingAuthenticationToken"),
        (b"GET /events HTTP/1.1\r\nHost: here\r\n\r\n".to_vec(), 400, "MissingAuthenticationToken"),
        (b"GET /backup HTTP/1.1\r\nHost: here\r\n\r\n".to_vec(), 403, "unix socket"),
        (b"POST /join-tokens HTTP/1.1\r\nHost: here\r\nContent-Length: 0\r\n\r\n".to_vec(), 403, "unix socket"),
        (b"GET /agent HTTP/1.1\r\nHost: here\r\nUpgrade: coracle-agent\r\n\r\n".to_vec(), 403, "certificate"),
    ];
    for (bytes, status, says) in cases {
        let mut stream = rig.tcp().await;
        stream.write_all(&bytes).await.expect("written");
        let answer = response(&mut stream).await.expect("an answer");
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(answer.status == status && body.contains(says), "{says}: {} {body}", answer.status);
    }
}

#[tokio::test]
async fn health_and_metrics_are_for_everybody() {
    let rig = Rig::with(|options| options.any_key = false).await;
    rig.ask("CreateCluster", json!({"clusterName": "counted"})).await;
    rig.ask("DeleteCluster", json!({"cluster": "none"})).await;
    for (path, says) in [
        ("/healthz", "ok\n"),
        ("/readyz", "ready\n"),
        ("/metrics", "coracle_requests_total{operation=\"CreateCluster\",error=\"\"} 1\n"),
        ("/metrics", "coracle_requests_total{operation=\"DeleteCluster\",error=\"ClusterNotFoundException\"} 1\n"),
        ("/metrics", "coracle_clusters 1\n"),
    ] {
        let mut stream = rig.tcp().await;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n").as_bytes()).await.expect("written");
        let answer = response(&mut stream).await.expect("an answer");
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(answer.status == 200 && body.contains(says), "{path}: {says}: {body}");
    }
}

/// A page that a browser on this host shows: another site's, and one whose name was made to mean this host.
#[tokio::test]
async fn web_pages_are_no_clients_at_any_route() {
    let rig = Rig::start().await;
    let websocket =
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let list = String::from_utf8(request("ListClusters", "{}")).expect("text");
    let list = list.strip_prefix("POST / HTTP/1.1\r\nHost: here\r\n").expect("its first lines").to_owned();
    let routes = [
        ("POST / HTTP/1.1", list.as_str(), 200),
        ("GET /events HTTP/1.1", "\r\n", 200),
        ("GET /healthz HTTP/1.1", "\r\n", 200),
        ("GET /metrics HTTP/1.1", "\r\n", 200),
        ("GET /agent HTTP/1.1", "\r\n", 426),
        ("POST /agent/join HTTP/1.1", "Content-Length: 2\r\n\r\n{}", 403),
        ("GET /data-channel/none HTTP/1.1", &format!("{websocket}\r\n"), 404),
    ];
    for (line, rest, good) in routes {
        for (headers, refused) in [
            (format!("Host: {}\r\n", rig.address), None),
            ("Host: localhost\r\n".to_owned(), None),
            ("Host: here:4870\r\n".to_owned(), None),
            (format!("Host: {}\r\nOrigin: http://{}\r\n", rig.address, rig.address), Some("web pages")),
            ("Host: localhost\r\nOrigin: null\r\n".to_owned(), Some("web pages")),
            ("Host: rebound.example:4870\r\n".to_owned(), Some("--tls-name")),
            ("Host: localhost.rebound.example\r\n".to_owned(), Some("--tls-name")),
        ] {
            let mut stream = rig.tcp().await;
            stream.write_all(format!("{line}\r\n{headers}{rest}").as_bytes()).await.expect("written");
            let answer = response(&mut stream).await.expect("an answer");
            let said = String::from_utf8_lossy(&answer.body).into_owned();
            let as_wanted = match refused {
                None => answer.status == good,
                Some(words) => answer.status == 400 && said.contains("AccessDenied") && said.contains(words),
            };
            assert!(as_wanted, "{line} with {headers:?}: {} {said}", answer.status);
        }
    }
    // The name before the path counts as well.
    let mut stream = rig.tcp().await;
    let absolute = b"GET http://rebound.example/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(absolute).await.expect("written");
    assert_eq!(response(&mut stream).await.expect("an answer").status, 400);
    // Root's socket is no browser's.
    let mut stream = rig.unix().await;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: any.example\r\n\r\n").await.expect("written");
    assert_eq!(response(&mut stream).await.expect("an answer").status, 200);
}

/// A client that has not written all of its request yet would see the connection's end and never the answer.
#[tokio::test]
async fn a_body_that_is_too_large_is_read_before_it_is_refused() {
    let rig = Rig::start().await;
    let head = |length: &str| {
        String::from_utf8(request("ListClusters", "")).expect("text").replace("Content-Length: 0", length)
    };
    let mut stream = rig.tcp().await;
    let length = 12 << 20;
    stream.write_all(head(&format!("Content-Length: {length}")).as_bytes()).await.expect("written");
    stream.write_all(&vec![b'x'; length]).await.expect("all of it is taken");
    assert_eq!(response(&mut stream).await.expect("an answer").status, 413);
    let mut stream = rig.tcp().await;
    stream.write_all(head("Transfer-Encoding: chunked").as_bytes()).await.expect("written");
    let chunk = format!("{:x}\r\n{}\r\n", 65_536, "x".repeat(65_536));
    for _ in 0..100 {
        stream.write_all(chunk.as_bytes()).await.expect("all of it is taken");
    }
    stream.write_all(b"0\r\n\r\n").await.expect("all of it is taken");
    assert_eq!(response(&mut stream).await.expect("an answer").status, 413);
    // What nobody could want to be read is answered before it comes.
    let mut stream = rig.tcp().await;
    stream.write_all(head("Content-Length: 1000000000000").as_bytes()).await.expect("written");
    assert_eq!(response(&mut stream).await.expect("an answer").status, 413);
}

/// Each holds a connection that others want.
#[tokio::test]
async fn a_client_that_does_not_go_on_is_cut_off() {
    let rig = Rig::with(|options| {
        options.patience = Patience { head: Duration::from_millis(200), body: Duration::from_millis(200) };
    })
    .await;
    let whole = request("ListClusters", "{}");
    let body_at = whole.len() - 2;
    for (sent, status) in [(0, None), (1, None), (body_at - 1, None), (body_at + 1, Some(408))] {
        let mut stream = rig.tcp().await;
        stream.write_all(&whole[..sent]).await.expect("written");
        // Without a time limit of the test's: that it comes is what is tested.
        let answered = response(&mut stream).await.map(|answer| answer.status);
        assert!(answered == status || (status.is_none() && answered == Some(408)), "{sent} bytes: {answered:?}");
        assert!(response(&mut stream).await.is_none(), "closed after {sent} bytes");
    }
    // One byte at a time is no head either.
    let mut stream = rig.tcp().await;
    let mut at = 0;
    while at < body_at - 1 && stream.write_all(&whole[at..=at]).await.is_ok() {
        at += 1;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(at < body_at - 1, "every byte was taken");
    // After an answer the next request has as long.
    let mut stream = rig.tcp().await;
    stream.write_all(&whole).await.expect("written");
    assert_eq!(response(&mut stream).await.expect("an answer").status, 200);
    assert!(response(&mut stream).await.is_none(), "closed");
}

#[tokio::test]
async fn bodies_and_heads_have_their_limits() {
    let rig = Rig::start().await;
    let limit = api::limits::BODY_BYTES;
    let name = |length: usize| format!("{{\"include\": [], \"x\": \"{}\"}}", "x".repeat(length));
    let overhead = name(0).len();
    for (length, status) in [(limit - 1, 200), (limit, 200), (limit + 1, 413)] {
        let mut stream = rig.tcp().await;
        let body = name(length - overhead);
        assert_eq!(body.len(), length);
        stream.write_all(&request("ListClusters", &body)).await.expect("written");
        let answer = response(&mut stream).await.expect("an answer");
        assert_eq!(answer.status, status, "{length} bytes: {}", String::from_utf8_lossy(&answer.body));
    }
    // In chunks nobody says before how much there will be.
    let mut stream = rig.tcp().await;
    let head = String::from_utf8(request("ListClusters", "")).expect("text");
    stream
        .write_all(head.replace("Content-Length: 0", "Transfer-Encoding: chunked").as_bytes())
        .await
        .expect("written");
    let chunk = format!("{:x}\r\n{}\r\n", 65_536, "x".repeat(65_536));
    for _ in 0..3 {
        // It may have been told to stop by now.
        let _ = stream.write_all(chunk.as_bytes()).await;
    }
    assert_eq!(response(&mut stream).await.expect("an answer").status, 413);
    let mut stream = rig.tcp().await;
    let long = format!("GET /healthz HTTP/1.1\r\nHost: here\r\nX-Long: {}\r\n\r\n", "x".repeat(200_000));
    let _ = stream.write_all(long.as_bytes()).await;
    assert_eq!(response(&mut stream).await.expect("an answer").status, 431);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_hold_up_nobody() {
    let rig = Rig::start().await;
    let whole = request("ListClusters", "{}");
    let mut slow = Vec::new();
    for at in 0..whole.len() {
        let mut stream = rig.tcp().await;
        stream.write_all(&whole[..at]).await.expect("written");
        slow.push((stream, at));
    }
    let (status, _) = rig.ask("CreateCluster", json!({"clusterName": "meanwhile"})).await;
    assert_eq!(status, 200);
    for (mut stream, at) in slow {
        stream.write_all(&whole[at..]).await.expect("written");
        assert_eq!(response(&mut stream).await.expect("an answer").status, 200, "cut at {at}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_are_served_at_once() {
    let rig = Rig::start().await;
    let mut connections = Vec::new();
    for _ in 0..1_000 {
        connections.push(rig.tcp().await);
    }
    let clients: Vec<_> = connections
        .into_iter()
        .enumerate()
        .map(|(number, mut stream)| {
            tokio::spawn(async move {
                let (made, answer) =
                    ask(&mut stream, "CreateCluster", &json!({"clusterName": format!("c{number}")})).await;
                assert_eq!(made, 200, "{answer}");
                // What was answered is there for the next one.
                let (_, found) =
                    ask(&mut stream, "DescribeClusters", &json!({"clusters": [format!("c{number}")]})).await;
                assert_eq!(found["clusters"][0]["status"], "ACTIVE");
            })
        })
        .collect();
    for client in clients {
        client.await.expect("served");
    }
}

/// A generator that repeats itself from its seed: SplitMix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

fn spoilt(dice: &mut Dice) -> Vec<u8> {
    const BODIES: [&str; 8] = [
        r#"{"cluster":"default","taskDefinition":"web:1","count":1,"launchType":"EC2"}"#,
        r#"{"family":"web","containerDefinitions":[{"name":"a","image":"b","memory":64,"portMappings":[{"containerPort":80}]}]}"#,
        r#"{"clusters":["default"],"include":["TAGS"]}"#,
        r#"{"tasks":["1234"],"cluster":null}"#,
        r#"{"resourceArn":"arn:aws:ecs:us-east-1:123456789012:cluster/default","tags":[{"key":"a","value":"b"}]}"#,
        r#"{"attributes":[{"name":"a","value":"b","targetType":"container-instance","targetId":"x"}]}"#,
        r#"{"filter":"attribute:ecs.os-type == linux and (not task:group == service:web)","maxResults":10}"#,
        r#"{"name":"containerInsights","value":"enabled","principalArn":"arn:aws:iam::123456789012:user/x"}"#,
    ];
    let names = ecs::operations::Operation::NAMES;
    let mut bytes = request(names[dice.below(names.len())], BODIES[dice.below(BODIES.len())]);
    // Half of them only in the body, so that more than the head's reader sees them.
    let from = match dice.below(2) {
        0 => bytes.windows(4).position(|end| end == b"\r\n\r\n").expect("a head") + 4,
        _ => 0,
    };
    for _ in 0..=dice.below(4) {
        let at = from + dice.below(bytes.len() - from);
        match dice.below(3) {
            0 => bytes[at] = dice.next() as u8,
            1 => bytes[at] ^= 1 << dice.below(8),
            _ => bytes[at] = b"\"{}[]:,0\\ \r\n\0"[dice.below(13)],
        }
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_malformed_request_is_the_servers_fault() {
    let rig = Rig::start().await;
    let mut dice = Dice(5);
    for round in 0..3_000 {
        let bytes = spoilt(&mut dice);
        let mut stream = rig.tcp().await;
        // What is left out of a body is never coming.
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        if let Some(answer) = response(&mut stream).await {
            let said = String::from_utf8_lossy(&answer.body).into_owned();
            assert!(
                answer.status < 500,
                "round {round}: {} {said}\n{}",
                answer.status,
                String::from_utf8_lossy(&bytes)
            );
        }
    }
    assert_eq!(rig.ask("ListClusters", json!({})).await.0, 200);
}

#[tokio::test]
async fn events_are_followed() {
    let rig = Rig::start().await;
    let mut stream = rig.unix().await;
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: here\r\n\r\n").await.expect("written");
    let head = response(&mut stream).await.expect("a head");
    assert_eq!(head.status, 200);
    let mut agent = support_agent::connect(&rig, None).await;
    agent.welcome().await;
    let mut text = String::new();
    while !text.contains("ECS Container Instance State Change") {
        let mut bytes = [0; 4_096];
        let read = tokio::time::timeout(Duration::from_secs(120), stream.read(&mut bytes)).await.expect("in time");
        let read = read.expect("read");
        assert!(read > 0, "it ended: {text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    assert!(text.contains("\"source\":\"aws.ecs\""), "{text}");
}

#[path = "support/agent.rs"]
mod support_agent;
