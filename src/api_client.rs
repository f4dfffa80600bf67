//! The API's client: AWS JSON 1.1 at the daemon's unix socket, where root needs no signature, or at a URL with the key that
//! the usual variables of AWS name. One connection a call, HTTP/1.0, so that an answer is plain bytes to its end.

mod http;
mod web;

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use server::daemon;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::failure::{BAD_INPUT, Explain, Failure};
use crate::options::{Options, require_root};
use http::Exchange;
use web::Web;

/// Of one answer but for streams: a DescribeTasks of a hundred large tasks is far below it.
const ANSWER_BYTES: u64 = 64 << 20;
/// From a request to its answer. Nothing that is asked here takes long.
const PATIENCE: Duration = Duration::from_secs(30);
const TARGET: &str = "AmazonEC2ContainerServiceV20141113";
const JSON: &str = "application/x-amz-json-1.1";
/// Pages of one list. A server that never ends one is broken.
const PAGES: usize = 100_000;

/// Which API a command asks.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Endpoint {
    /// The API of another host, with the key in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and AWS_REGION and AWS_CA_BUNDLE
    /// where they are needed; this host's daemon otherwise.
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: Option<String>,
}

/// Something that answers.
#[derive(Debug)]
pub(crate) struct Api {
    way: Way,
}

#[derive(Debug)]
enum Way {
    Socket(PathBuf),
    Web(Web),
}

/// A connection in both directions at once.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// What an API connection is.
trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Api {
    /// Nothing where no daemon runs on this host and no other was named.
    pub(crate) fn find(options: &Options, endpoint: &Endpoint) -> Result<Option<Api>, Failure> {
        if let Some(url) = &endpoint.endpoint {
            let web = Web::new(url, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))?;
            return Ok(Some(Api { way: Way::Web(web) }));
        }
        let socket = options.roots()?.run.join(daemon::SOCKET);
        match UnixStream::connect(&socket) {
            Ok(_) => Ok(Some(Api { way: Way::Socket(socket) })),
            // What a daemon that was killed left behind refuses connections.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(None),
            Err(error) => Err(error).doing(format!("asking the daemon at {}", socket.display())),
        }
    }

    /// For commands that are nothing without it.
    pub(crate) fn need(options: &Options, endpoint: &Endpoint, command: &str) -> Result<Api, Failure> {
        if endpoint.endpoint.is_none() {
            require_root(command)?;
        }
        Api::find(options, endpoint)?.ok_or_else(|| {
            Failure::new(format!("no daemon answers at {}", options.run_dir.join(daemon::SOCKET).display()))
                .next("start it with: sudo coracle serve; or name one with --endpoint URL")
        })
    }

    pub(crate) fn is_of_this_host(&self) -> bool {
        match self.way {
            Way::Socket(_) => true,
            Way::Web(_) => false,
        }
    }

    /// An operation of Amazon ECS.
    ///
    /// # Errors
    /// A refusal in the API's words, or that it cannot be reached.
    pub(crate) fn call(&self, operation: &str, body: &Value) -> Result<Value, Failure> {
        let target = format!("{TARGET}.{operation}");
        let headers = [("content-type", JSON), ("x-amz-target", target.as_str())];
        self.ask(&Exchange { method: "POST", path: "/", headers: &headers, body: body.to_string().as_bytes() })
            .doing(format!("asking for {operation}"))
    }

    /// One of coracle's own requests.
    pub(crate) fn own(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let headers = [("content-type", JSON)];
        self.ask(&Exchange { method: "POST", path, headers: &headers, body: body.to_string().as_bytes() })
            .doing(format!("asking the daemon for {path}"))
    }

    fn ask(&self, exchange: &Exchange<'_>) -> Result<Value, Failure> {
        let stream = self.send(exchange, Some(PATIENCE))?;
        let (status, answer) = http::answer(stream)?;
        let mut body = Vec::new();
        answer.take(ANSWER_BYTES).read_to_end(&mut body).doing("reading the answer")?;
        if status == http::OK {
            return serde_json::from_slice(&body).doing("reading the answer's JSON");
        }
        Err(refusal(status, &body))
    }

    /// An answer that comes bit by bit.
    pub(crate) fn stream(&self, path: &str) -> Result<impl Read + Send + use<>, Failure> {
        self.bit_by_bit(&Exchange { method: "GET", path, headers: &[], body: b"" })
    }

    /// The same of a question with a body.
    pub(crate) fn own_stream(&self, path: &str, body: &Value) -> Result<impl Read + Send + use<>, Failure> {
        let headers = [("content-type", JSON)];
        self.bit_by_bit(&Exchange { method: "POST", path, headers: &headers, body: body.to_string().as_bytes() })
    }

    fn bit_by_bit(&self, exchange: &Exchange<'_>) -> Result<impl Read + Send + use<>, Failure> {
        let stream = self.send(exchange, None)?;
        let (status, mut answer) = http::answer(stream)?;
        if status == http::OK {
            return Ok(answer);
        }
        let mut body = Vec::new();
        answer.by_ref().take(ANSWER_BYTES).read_to_end(&mut body).doing("reading the answer")?;
        Err(refusal(status, &body))
    }

    fn send(&self, exchange: &Exchange<'_>, patience: Option<Duration>) -> Result<Box<dyn Stream + Send>, Failure> {
        match &self.way {
            Way::Socket(path) => {
                let doing = || format!("asking the daemon at {}", path.display());
                let mut stream = UnixStream::connect(path).doing(doing())?;
                stream.set_read_timeout(patience).doing(doing())?;
                stream.write_all(&exchange.bytes("coracle", &[])).doing(doing())?;
                Ok(Box::new(stream))
            }
            Way::Web(web) => web.send(exchange, patience),
        }
    }

    /// A connection for what is no request with an answer, and what the other side calls itself.
    pub(crate) async fn connect(&self) -> Result<(Box<dyn Duplex>, String), Failure> {
        match &self.way {
            Way::Socket(path) => {
                let stream = tokio::net::UnixStream::connect(path).await;
                let stream = stream.doing(format!("asking the daemon at {}", path.display()))?;
                Ok((Box::new(stream), "localhost".to_owned()))
            }
            Way::Web(web) => web.duplex().await,
        }
    }

    /// All pages of a list.
    pub(crate) fn list(&self, operation: &str, request: &Value, member: &str) -> Result<Vec<String>, Failure> {
        let mut request = request.clone();
        let mut all = Vec::new();
        for _ in 0..PAGES {
            let mut answer = self.call(operation, &request)?;
            all.extend(read::<Vec<String>>(operation, &mut answer, member)?);
            match answer["nextToken"].take() {
                Value::String(token) => request["nextToken"] = json!(token),
                _ => return Ok(all),
            }
        }
        Err(Failure::new(format!("the answer to {operation} has no end")))
    }
}

/// A member of an answer.
pub(crate) fn read<T: DeserializeOwned>(operation: &str, answer: &mut Value, member: &str) -> Result<T, Failure> {
    ecs::json::typed(&answer[member].take()).doing(format!("reading {member} of the answer to {operation}"))
}

/// `ClusterNotFoundException: Cluster not found.`
fn refusal(status: u16, body: &[u8]) -> Failure {
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    let kind = said["__type"].as_str().map(|kind| kind.rsplit('#').next().unwrap_or(kind));
    let message = said["message"].as_str().or_else(|| said["Message"].as_str());
    let text = match (kind, message) {
        (Some(kind), Some(message)) => format!("{kind}: {message}"),
        (Some(text), None) | (None, Some(text)) => text.to_owned(),
        (None, None) => format!("the API answered with status {status}"),
    };
    let failure = Failure::new(crate::output::printable(&text));
    match kind {
        Some("UnrecognizedClientException" | "MissingAuthenticationTokenException" | "InvalidSignatureException") => {
            failure.next("the key that `coracle credentials` prints on the host of the API")
        }
        Some("ClusterNotFoundException") => failure.exit(BAD_INPUT).next("coracle status shows the clusters"),
        Some(_) | None => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_in_the_apis_words() {
        // As Amazon's JSON protocol has errors: https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html
        for (body, text) in [
            (
                &br#"{"__type":"ClusterNotFoundException","message":"Cluster not found."}"#[..],
                "ClusterNotFoundException: Cluster not found.",
            ),
            (br#"{"__type":"com.amazonaws.ecs#ServerException"}"#, "ServerException"),
            (
                br#"{"message":"this is asked for at the unix socket alone"}"#,
                "this is asked for at the unix socket alone",
            ),
            (b"<html>", "the API answered with status 502"),
        ] {
            assert_eq!(refusal(502, body).chain, [text]);
        }
    }
}
