//! Splunk's HTTP Event Collector: one POST a batch, over HTTP or HTTPS.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::runtime::{Builder, Runtime};

use super::{CONNECT_TIMEOUT, SendError, tls};
use crate::encode::splunk::Settings;

/// Docker's `batchSendTimeout`.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How much of an answer is read for its reason.
const MAX_ANSWER_BYTES: usize = 16 << 10;

pub(super) struct Collector {
    runtime: Runtime,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// It has answered OPTIONS as a collector does, or need not.
    verified: bool,
}

impl Collector {
    pub(super) fn new(settings: &Settings) -> Result<Collector, SendError> {
        let failed = |cause| SendError::Unreachable { target: settings.url.clone(), cause };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let builder = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls::config(&settings.certificates).map_err(failed)?)
            .https_or_http();
        let builder = match &settings.certificates.name {
            None => builder,
            Some(name) => {
                let name = rustls::pki_types::ServerName::try_from(name.clone());
                let name = name.map_err(|error| failed(io::Error::other(error)))?;
                builder.with_server_name_resolver(hyper_rustls::FixedServerNameResolver::new(name))
            }
        };
        let connector = builder.enable_http1().wrap_connector(http);
        let client = Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
        Ok(Collector { runtime, client, verified: !settings.verify_connection })
    }

    pub(super) fn send(&mut self, settings: &Settings, events: Vec<u8>) -> Result<(), SendError> {
        if !self.verified {
            // As Docker's driver does: "verify connection" is OPTIONS on the collector's own path.
            self.request(settings, Method::OPTIONS, Vec::new(), None)?;
            self.verified = true;
        }
        if events.is_empty() {
            return Ok(());
        }
        let (body, encoding) = settings.body(events);
        self.request(settings, Method::POST, body, encoding)
    }

    fn request(
        &self,
        settings: &Settings,
        method: Method,
        body: Vec<u8>,
        encoding: Option<&'static str>,
    ) -> Result<(), SendError> {
        let target = || settings.url.clone();
        let wrong = |error: http::Error| SendError::Refused { target: target(), why: error.to_string() };
        let mut request = Request::builder().method(method).uri(&settings.url);
        request = request.header(http::header::AUTHORIZATION, format!("Splunk {}", settings.token));
        request = request.header(http::header::USER_AGENT, concat!("coracle/", env!("CARGO_PKG_VERSION")));
        if let Some(encoding) = encoding {
            request = request.header(http::header::CONTENT_ENCODING, encoding);
        }
        let request = request.body(Full::new(Bytes::from(body))).map_err(wrong)?;
        let unreachable = |cause| SendError::Unreachable { target: target(), cause };
        let asked = async {
            let response = self.client.request(request).await.map_err(io::Error::other)?;
            let status = response.status();
            let answer = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
            // Its reason is for people; an answer that is too long has none.
            let answer = answer.map(|body| body.to_bytes()).unwrap_or_default();
            Ok((status, String::from_utf8_lossy(&answer).into_owned()))
        };
        let timed = self.runtime.block_on(async { tokio::time::timeout(REQUEST_TIMEOUT, asked).await });
        let (status, answer) = timed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(unreachable)?;
        let why = || format!("{status} {}", answer.trim()).trim().to_owned();
        match status {
            StatusCode::OK => Ok(()),
            // These say that the events themselves are wrong; whatever else, the next attempt may go well.
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => {
                Err(SendError::Refused { target: target(), why: why() })
            }
            _ => Err(SendError::Unwilling { target: target(), why: why() }),
        }
    }
}
