//! Where events go besides the streams of those who ask: a file, or a web server.
//!
//! A file gets a line each. A web server gets a POST each, in order, again and again for a while where it does not take it;
//! then the event is dropped and counted.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, USER_AGENT};
use hyper::{Request, Uri};
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::Follower;
use crate::metrics::Metrics;

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
const TRIES: u32 = 6;
/// Before the second try; doubled before each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Of an answer nothing but its status is of interest.
const ANSWER_BYTES: usize = 64 << 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// As it was given.
    pub text: String,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    File(PathBuf),
    Web(Uri),
}

/// Forwards what comes until there is nothing more.
pub async fn open(target: &Target, follower: Follower) -> io::Result<()> {
    match &target.kind {
        Kind::File(path) => {
            let file = OpenOptions::new().append(true).create(true).open(path).await?;
            tokio::spawn(to_file(file, target.text.clone(), follower));
        }
        Kind::Web(uri) => {
            let client = images::https::client(&[], CONNECT_LIMIT).map_err(io::Error::other)?;
            tokio::spawn(to_web(client, uri.clone(), follower));
        }
    }
    Ok(())
}

async fn to_file(mut file: File, name: String, mut follower: Follower) {
    let metrics = Arc::clone(&follower.metrics);
    while let Some(line) = follower.next().await {
        // One write, so that a line is there or not.
        let written = async {
            file.write_all(line.as_bytes()).await?;
            file.flush().await
        };
        if let Err(error) = written.await {
            metrics.events_dropped.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(file = name, %error, "an event is not written");
        }
    }
}

async fn to_web(client: images::https::Client, uri: Uri, mut follower: Follower) {
    let metrics: Arc<Metrics> = Arc::clone(&follower.metrics);
    while let Some(line) = follower.next().await {
        let body = Bytes::copy_from_slice(line.trim_end().as_bytes());
        let mut pause = FIRST_PAUSE;
        for attempt in 1..=TRIES {
            let Err(error) = post(&client, &uri, body.clone()).await else { break };
            if attempt == TRIES {
                metrics.events_dropped.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%uri, error, "an event is not taken");
                break;
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }
}

async fn post(client: &images::https::Client, uri: &Uri, body: Bytes) -> Result<(), String> {
    let request = Request::post(uri)
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, concat!("coracle/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(body))
        .map_err(|error| error.to_string())?;
    let answered = async {
        let response = client.request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        // Read, so that the connection is good for the next one.
        let _ = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
        if status.is_success() { Ok(()) } else { Err(status.to_string()) }
    };
    timeout(REQUEST_LIMIT, answered).await.map_err(|_| "it does not answer".to_owned())?
}
