//! A daemon in this process, with directories of its own, and clients that speak HTTP/1.1 by hand: what goes over the wire
//! is what the test says.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::{Path, PathBuf};

use control_plane::Settings;
use serde_json::Value;
use server::daemon::{self, Daemon, Options};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) const TARGET: &str = "AmazonEC2ContainerServiceV20141113";
/// A credential scope is needed even where no signature is checked.
pub(crate) const SCOPE: &str = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20261123/eu-central-1/ecs/aws4_request, \
                         SignedHeaders=host;x-amz-date;x-amz-target, \
                         Signature=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

pub(crate) fn options(directory: &Path) -> Options {
    Options {
        data_directory: directory.join("data"),
        run_directory: directory.join("run"),
        listen: "127.0.0.1:0".parse().expect("an address"),
        own_instance: false,
        certificate: None,
        names: vec!["here".to_owned()],
        any_key: true,
        ephemeral: false,
        account_id: "123456789012".to_owned(),
        region: "us-east-1".to_owned(),
        settings: Settings::default(),
        patience: server::http::Patience::default(),
        event_sinks: Vec::new(),
    }
}

/// How the daemon's own task ends.
type Ended = JoinHandle<Result<(), daemon::Error>>;

pub(crate) struct Rig {
    pub(crate) directory: TempDir,
    pub(crate) options: Options,
    pub(crate) address: String,
    pub(crate) socket: PathBuf,
    pub(crate) key: server::keys::RootKey,
    running: Option<(oneshot::Sender<()>, Ended)>,
}

impl Rig {
    pub(crate) async fn start() -> Rig {
        Rig::with(|_| ()).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Options)) -> Rig {
        let directory = tempfile::tempdir().expect("a directory");
        let mut options = options(directory.path());
        change(&mut options);
        let daemon = daemon::open(&options).await.expect("a daemon");
        let mut rig = Rig {
            directory,
            options,
            address: daemon.address.to_string(),
            socket: daemon.socket.clone(),
            key: daemon.key().clone(),
            running: None,
        };
        rig.run(daemon);
        rig
    }

    fn run(&mut self, daemon: Daemon) {
        self.address = daemon.address.to_string();
        let (end, ended) = oneshot::channel::<()>();
        let until = async {
            // A rig that was dropped ends its daemon as well.
            let _ = ended.await;
        };
        self.running = Some((end, tokio::spawn(daemon.run(until))));
    }

    pub(crate) async fn stop(&mut self) -> Result<(), daemon::Error> {
        let (end, running) = self.running.take().expect("it runs");
        end.send(()).expect("it listens");
        running.await.expect("no panic")
    }

    pub(crate) async fn restart(&mut self) {
        self.stop().await.expect("a good end");
        let daemon = daemon::open(&self.options).await.expect("a daemon again");
        self.run(daemon);
    }

    pub(crate) async fn tcp(&self) -> TcpStream {
        TcpStream::connect(&self.address).await.expect("it listens")
    }

    pub(crate) async fn unix(&self) -> UnixStream {
        UnixStream::connect(&self.socket).await.expect("it listens")
    }

    /// An operation at the unix socket.
    pub(crate) async fn ask(&self, operation: &str, body: Value) -> (u16, Value) {
        let mut stream = self.unix().await;
        ask(&mut stream, operation, &body).await
    }
}

pub(crate) fn request(operation: &str, body: &str) -> Vec<u8> {
    format!(
        "POST / HTTP/1.1\r\nHost: here\r\nContent-Type: application/x-amz-json-1.1\r\nX-Amz-Target: {TARGET}.{operation}\r\n\
         X-Amz-Date: 20261123T000000Z\r\nAuthorization: {SCOPE}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

pub(crate) async fn ask<Stream>(stream: &mut Stream, operation: &str, body: &Value) -> (u16, Value)
where
    Stream: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(&request(operation, &body.to_string())).await.expect("written");
    let response = response(stream).await.expect("an answer");
    let body = serde_json::from_slice(&response.body)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&response.body)));
    (response.status, body)
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// In lower case, with the lines' ends.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// One response of a connection; nothing at its end.
pub(crate) async fn response(stream: &mut (impl AsyncRead + Unpin)) -> Option<Response> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte).await {
            Ok(1) => head.push(byte[0]),
            Ok(_) | Err(_) => return None,
        }
    }
    let head = String::from_utf8(head).expect("ASCII").to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let length = head.split_once("content-length: ").map(|(_, rest)| rest.split("\r\n").next().expect("a line"));
    let length = length.map_or(0, |length| length.parse().expect("a length"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Response { status, head, body })
}
