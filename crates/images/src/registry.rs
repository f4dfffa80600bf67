//! Asks one registry for one repository's manifests and blobs: the pull part of the OCI distribution specification
//! (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md>).
//!
//! Credentials never leave the registry's own origin, save for its token endpoint over HTTPS. A redirect never leads
//! from HTTPS to HTTP, nor to a link-local address, and takes no credentials to another host.

mod authorize;
mod connect;
pub(crate) mod credentials;
mod endpoint;

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use crate::digest::Digest;
use crate::document;
use crate::https::{Broken, Client};
use crate::limits::{MAX_CHALLENGES, MAX_DOCUMENT_BYTES, MAX_REDIRECTS, MAX_RETRY_AFTER_S};
use crate::pull::{Deadlines, PullError, PullOptions};
use crate::reference::Reference;
use credentials::Login;
use endpoint::Origin;
pub(crate) use endpoint::is_forbidden;

/// Docker Hub's registry answers under another name than its images have.
const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_REGISTRY: &str = "registry-1.docker.io";
const AGENT: &str = concat!("coracle/", env!("CARGO_PKG_VERSION"));

pub(crate) struct Registry {
    client: Client,
    origin: Origin,
    repository: String,
    login: Login,
    /// The `Authorization` that worked last.
    authorization: Mutex<Option<HeaderValue>>,
    deadlines: Deadlines,
}

/// A manifest or index with its true digest.
pub(crate) struct Fetched {
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: Digest,
    pub(crate) content_type: Option<String>,
}

/// A blob's bytes from `from` on.
pub(crate) struct BlobStream {
    pub(crate) body: Incoming,
    pub(crate) from: u64,
}

impl Registry {
    pub(crate) fn new(reference: &Reference, options: &PullOptions) -> Result<Self, PullError> {
        let host = if reference.host() == DOCKER_HUB { DOCKER_HUB_REGISTRY } else { reference.host() };
        let login = match &options.login {
            Some(login) => Login::Basic { user: login.user.clone(), password: login.password.clone() },
            None => credentials::find(reference, &options.auth_files)?,
        };
        let certificates = options.certificates.as_ref().map(|dir| dir.join(host));
        let plain = endpoint::is_loopback_host(host) || options.insecure_hosts.iter().any(|insecure| insecure == host);
        // A certificate laid out for a loopback registry says that it speaks TLS.
        let plain = plain && !certificates.as_ref().is_some_and(|dir| dir.is_dir());
        endpoint::is_allowed_authority(host).map_err(|why| PullError::Refused { host: host.to_owned(), why })?;
        Ok(Registry {
            client: connect::client(certificates.as_deref(), &options.deadlines)?,
            origin: Origin { is_plain: plain, authority: host.to_owned() },
            repository: reference.repository().to_owned(),
            login,
            authorization: Mutex::new(None),
            deadlines: options.deadlines,
        })
    }

    pub(crate) fn host(&self) -> &str {
        &self.origin.authority
    }

    /// By tag or digest. What comes back under a digest has that digest.
    pub(crate) async fn manifest(&self, wanted: &str) -> Result<Fetched, PullError> {
        let accept =
            [document::OCI_INDEX, document::DOCKER_LIST, document::OCI_MANIFEST, document::DOCKER_MANIFEST].join(", ");
        let path = format!("/v2/{}/manifests/{wanted}", self.repository);
        let what = format!("manifest {wanted} of {}", self.repository);
        let response = self.retrying(&path, &accept, None, &what).await?;
        let text = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (content_type, announced) = (text("content-type"), text("docker-content-digest"));
        let bytes = self.body(response, MAX_DOCUMENT_BYTES, &what).await?;
        let digest = Digest::of(&bytes);
        for promised in [Some(wanted), announced.as_deref()].into_iter().flatten() {
            if let Ok(promised) = promised.parse::<Digest>()
                && promised != digest
            {
                return Err(PullError::Corrupt {
                    what,
                    why: format!("its digest is {digest}, not {promised}"),
                    source: None,
                });
            }
        }
        Ok(Fetched { bytes, digest, content_type })
    }

    /// A blob small enough to hold: an image's configuration.
    pub(crate) async fn document(&self, digest: &Digest, size: u64) -> Result<Vec<u8>, PullError> {
        let what = format!("blob {digest} of {}", self.repository);
        if size > MAX_DOCUMENT_BYTES {
            return Err(PullError::TooLarge { what, limit: MAX_DOCUMENT_BYTES });
        }
        let response = self.retrying(&self.blob_path(digest), "*/*", None, &what).await?;
        let bytes = self.body(response, MAX_DOCUMENT_BYTES, &what).await?;
        if Digest::of(&bytes) != *digest || bytes.len() as u64 != size {
            let why = format!("it has digest {} and {} bytes, not {size} bytes", Digest::of(&bytes), bytes.len());
            return Err(PullError::Corrupt { what, why, source: None });
        }
        Ok(bytes)
    }

    /// One attempt at a blob's bytes from `from` on. Where the registry cannot start there it starts anew.
    pub(crate) async fn blob(&self, digest: &Digest, from: u64) -> Result<BlobStream, PullError> {
        let what = format!("blob {digest} of {}", self.repository);
        let range = (from > 0).then_some(from);
        let response = self.once(&self.blob_path(digest), "*/*", range, &what).await?;
        let from = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                let start =
                    response.headers().get(header::CONTENT_RANGE).and_then(|value| range_start(value.to_str().ok()?));
                start.filter(|start| *start <= from).ok_or_else(|| PullError::Corrupt {
                    what,
                    why: "the registry sent another range than was asked for".to_owned(),
                    source: None,
                })?
            }
            _ => 0,
        };
        Ok(BlobStream { body: response.into_body(), from })
    }

    fn blob_path(&self, digest: &Digest) -> String {
        format!("/v2/{}/blobs/{digest}", self.repository)
    }

    async fn retrying(
        &self,
        path: &str,
        accept: &str,
        range: Option<u64>,
        what: &str,
    ) -> Result<Response<Incoming>, PullError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.once(path, accept, range, what).await {
                Err(error) if error.is_transient() && attempt < error.max_attempts() => {
                    tokio::time::sleep(self.pause(attempt, &error)).await;
                }
                result => return result,
            }
        }
    }

    /// Twice as long after each failure, or as long as the registry asks for.
    pub(crate) fn pause(&self, attempt: u32, error: &PullError) -> Duration {
        let asked = match error {
            PullError::Busy { retry_after, .. } => *retry_after,
            _ => None,
        };
        asked.unwrap_or(self.deadlines.retry * 2u32.saturating_pow(attempt.min(6) - 1))
    }

    /// One request with its redirects and challenges.
    async fn once(
        &self,
        path: &str,
        accept: &str,
        range: Option<u64>,
        what: &str,
    ) -> Result<Response<Incoming>, PullError> {
        let start: Uri = self.origin.uri(path)?;
        let (mut uri, mut redirects, mut challenges) = (start.clone(), 0, 0);
        loop {
            let is_own = self.origin.is_of(&uri);
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_str(accept).expect("media types are plain text"));
            if let Some(from) = range {
                headers.insert(header::RANGE, HeaderValue::from_str(&format!("bytes={from}-")).expect("a number"));
            }
            let authorization = self.authorization.lock().expect("no holder panics").clone();
            if let Some(value) = authorization.filter(|_| is_own) {
                headers.insert(header::AUTHORIZATION, value);
            }
            let response = self.send(Request::get(uri.clone()), headers, Bytes::new()).await?;
            match response.status() {
                StatusCode::OK | StatusCode::PARTIAL_CONTENT => return Ok(response),
                StatusCode::UNAUTHORIZED if is_own && challenges < MAX_CHALLENGES => {
                    challenges += 1;
                    self.authorize(&response, challenges).await?;
                    uri = start.clone();
                }
                status if status.is_redirection() => {
                    redirects += 1;
                    if redirects > MAX_REDIRECTS {
                        return Err(self.refused(format!("{what} was redirected more than {MAX_REDIRECTS} times")));
                    }
                    uri = endpoint::redirected(&uri, response.headers()).map_err(|why| self.refused(why))?;
                }
                _ => return Err(self.failed(response, what).await),
            }
        }
    }

    pub(super) fn refused(&self, why: String) -> PullError {
        PullError::Refused { host: self.host().to_owned(), why }
    }

    async fn send(
        &self,
        request: http::request::Builder,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, PullError> {
        let mut request = request.header(header::USER_AGENT, AGENT).header(header::ACCEPT_ENCODING, "identity");
        request.headers_mut().expect("the parts are right").extend(headers);
        let request = request.body(Full::new(body)).expect("the parts are right");
        let host = request.uri().authority().map_or(self.host(), |authority| authority.as_str()).to_owned();
        match tokio::time::timeout(self.deadlines.stall, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(connect::unreachable(host, Broken(error))),
            Err(_) => Err(PullError::Stalled {
                host,
                what: "no answer came".to_owned(),
                seconds: self.deadlines.stall.as_secs(),
            }),
        }
    }

    /// A whole body within a limit.
    async fn body(&self, response: Response<Incoming>, limit: u64, what: &str) -> Result<Vec<u8>, PullError> {
        let mut body = response.into_body();
        let mut bytes = Vec::new();
        loop {
            let frame = match tokio::time::timeout(self.deadlines.stall, body.frame()).await {
                Ok(None) => return Ok(bytes),
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => return Err(connect::unreachable(self.host().to_owned(), error)),
                Err(_) => {
                    let seconds = self.deadlines.stall.as_secs();
                    return Err(PullError::Stalled { host: self.host().to_owned(), what: what.to_owned(), seconds });
                }
            };
            if let Some(data) = frame.data_ref() {
                if (bytes.len() + data.len()) as u64 > limit {
                    return Err(PullError::TooLarge { what: what.to_owned(), limit });
                }
                bytes.extend_from_slice(data);
            }
        }
    }

    /// What a status means, with the registry's own words where it has some.
    async fn failed(&self, response: Response<Incoming>, what: &str) -> PullError {
        let (status, host, what) = (response.status(), self.host().to_owned(), what.to_owned());
        let retry_after =
            response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let retry_after = retry_after.map(|seconds| Duration::from_secs(seconds.min(MAX_RETRY_AFTER_S)));
        let said = self.body(response, MAX_DOCUMENT_BYTES, &what).await.ok().and_then(|bytes| registry_message(&bytes));
        match status {
            StatusCode::NOT_FOUND => PullError::NotFound { host, what, said },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                PullError::Denied { host, why: self.login.explain(said) }
            }
            StatusCode::TOO_MANY_REQUESTS => PullError::Busy { host, status: status.as_u16(), retry_after },
            status if status.is_server_error() => PullError::Busy { host, status: status.as_u16(), retry_after },
            status => PullError::Refused {
                host,
                why: format!(
                    "{what}: it answered {status}{}",
                    said.map(|said| format!(" ({said})")).unwrap_or_default()
                ),
            },
        }
    }
}

/// `bytes 10-19/20`.
fn range_start(value: &str) -> Option<u64> {
    value.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

/// The specification's `{"errors":[{"code":…,"message":…}]}`, short and on one line.
fn registry_message(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let error = body.get("errors")?.get(0)?;
    let field = |name| error.get(name).and_then(|value| value.as_str()).unwrap_or_default();
    let text = match (field("code"), field("message")) {
        ("", "") => return None,
        (code, "") => code.to_owned(),
        ("", message) => message.to_owned(),
        (code, message) => format!("{code}: {message}"),
    };
    Some(text.chars().filter(|c| !c.is_control()).take(300).collect())
}
