//! Objects out of S3, or out of whatever speaks like it: GetObject with the bucket in the path
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>).
//!
//! Requests go to the configured endpoint and nowhere else: a redirect is an error, and without an endpoint nothing is
//! asked of anybody.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use ecs::Timestamp;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use images::https::{self, Client};

use super::files::MAX_FILE_BYTES;
use super::sigv4::{self, Credentials};

/// In the order in which they are looked at. The last two are AWS's own
/// (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>).
const ENDPOINT_VARIABLES: [&str; 3] = ["CORACLE_S3_ENDPOINT", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"];
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For one object with all attempts: s3DownloadTimeout of Amazon's agent.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_ATTEMPTS: u32 = 3;
/// After the first failure; twice as long after each further one.
const PAUSE: Duration = Duration::from_millis(500);
/// Of an answer that is no object, this much is read for the reason in it.
const MAX_REASON_BYTES: u64 = 64 * 1024;
const MAX_REASON_CHARACTERS: usize = 300;

/// How S3 is reached, as coracle's own environment says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `https://s3.eu-central-1.amazonaws.com`, `http://127.0.0.1:9000`.
    pub endpoint: Option<String>,
    /// Requests are signed with them; without them they are anonymous.
    pub credentials: Option<Credentials>,
    /// AWS_CA_BUNDLE: certificates in PEM that are trusted beside the host's.
    pub certificates: Option<PathBuf>,
}

impl Settings {
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Self {
        let given = |name: &str| variable(name).filter(|value| !value.is_empty());
        let credentials = given("AWS_ACCESS_KEY_ID").zip(given("AWS_SECRET_ACCESS_KEY")).map(|(id, secret)| {
            Credentials { access_key_id: id, secret_access_key: secret, session_token: given("AWS_SESSION_TOKEN") }
        });
        Self {
            endpoint: ENDPOINT_VARIABLES.iter().find_map(|name| given(name)),
            credentials,
            certificates: given("AWS_CA_BUNDLE").map(PathBuf::from),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) bucket: String,
    pub(super) key: String,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum S3Error {
    #[error(
        "no S3 endpoint is configured; set CORACLE_S3_ENDPOINT, to https://s3.REGION.amazonaws.com for Amazon's, or give the path of a file of this host"
    )]
    NoEndpoint,
    #[error("the S3 endpoint {given:?} is no address such as https://s3.eu-central-1.amazonaws.com: {why}")]
    BadEndpoint { given: String, why: &'static str },
    #[error(transparent)]
    Client(#[from] https::BadCertificate),
    #[error("no download can be started")]
    Runtime(#[source] std::io::Error),
    #[error("{host} cannot be reached{hint}")]
    Unreachable {
        host: String,
        hint: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{host} answered {status}{said}")]
    Refused { host: String, status: StatusCode, said: String },
    #[error("it is larger than {MAX_FILE_BYTES} bytes")]
    TooLarge,
    #[error("{host} did not answer within {} s", DOWNLOAD_TIMEOUT.as_secs())]
    TimedOut { host: String },
}

impl S3Error {
    fn is_transient(&self) -> bool {
        match self {
            S3Error::Unreachable { hint, .. } => hint.is_empty(),
            S3Error::Refused { status, .. } => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
            S3Error::NoEndpoint
            | S3Error::BadEndpoint { .. }
            | S3Error::Client(_)
            | S3Error::Runtime(_)
            | S3Error::TooLarge
            | S3Error::TimedOut { .. } => false,
        }
    }
}

/// All objects side by side; the answers in their order.
pub(super) fn fetch_all(
    settings: &Settings,
    region: &str,
    objects: &[Object],
    now: Timestamp,
) -> Vec<Result<Vec<u8>, S3Error>> {
    if objects.is_empty() {
        return Vec::new();
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let again = || S3Error::Runtime(std::io::Error::new(error.kind(), error.to_string()));
            return objects.iter().map(|_| Err(again())).collect();
        }
    };
    runtime.block_on(async {
        let fetches = objects.iter().map(|object| {
            let (settings, region, object) = (settings.clone(), region.to_owned(), object.clone());
            tokio::spawn(async move { fetch(&settings, &region, &object, now).await })
        });
        let mut results = Vec::new();
        for fetching in fetches.collect::<Vec<_>>() {
            results.push(match fetching.await {
                Ok(result) => result,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            });
        }
        results
    })
}

async fn fetch(settings: &Settings, region: &str, object: &Object, now: Timestamp) -> Result<Vec<u8>, S3Error> {
    let endpoint = Endpoint::parse(settings.endpoint.as_deref().ok_or(S3Error::NoEndpoint)?)?;
    let client = https::client(settings.certificates.as_slice(), CONNECT_TIMEOUT)?;
    let attempts = async {
        let mut attempt = 1;
        loop {
            match get(&client, &endpoint, settings, region, object, now).await {
                Err(error) if error.is_transient() && attempt < MAX_ATTEMPTS => {
                    tokio::time::sleep(PAUSE * 2u32.pow(attempt - 1)).await;
                    attempt += 1;
                }
                result => return result,
            }
        }
    };
    let timed_out = |_| S3Error::TimedOut { host: endpoint.authority.clone() };
    tokio::time::timeout(DOWNLOAD_TIMEOUT, attempts).await.map_err(timed_out)?
}

#[derive(Debug)]
struct Endpoint {
    scheme: String,
    authority: String,
    /// Without a slash at its end.
    base: String,
}

impl Endpoint {
    fn parse(given: &str) -> Result<Self, S3Error> {
        let bad = |why| S3Error::BadEndpoint { given: given.to_owned(), why };
        let uri: Uri = given.parse().map_err(|_| bad("it cannot be read"))?;
        let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"));
        let scheme = scheme.ok_or_else(|| bad("it begins with http:// or https://"))?.to_owned();
        let authority = uri.authority().ok_or_else(|| bad("it names no host"))?.as_str().to_owned();
        if authority.contains('@') || uri.query().is_some() {
            return Err(bad("it has neither a user nor a query"));
        }
        Ok(Self { scheme, authority, base: uri.path().trim_end_matches('/').to_owned() })
    }
}

/// One attempt.
async fn get(
    client: &Client,
    endpoint: &Endpoint,
    settings: &Settings,
    region: &str,
    object: &Object,
    now: Timestamp,
) -> Result<Vec<u8>, S3Error> {
    let Endpoint { scheme, authority, base } = endpoint;
    let path = format!("{base}/{}/{}", sigv4::escape(&object.bucket), sigv4::escape(&object.key));
    let mut request = Request::get(format!("{scheme}://{authority}{path}")).header("host", authority);
    if let Some(credentials) = &settings.credentials {
        let date = sigv4::date(now);
        let mut headers =
            vec![("host", authority.as_str()), ("x-amz-content-sha256", sigv4::EMPTY_BODY), ("x-amz-date", &date)];
        headers.extend(credentials.session_token.as_deref().map(|token| ("x-amz-security-token", token)));
        let signed = sigv4::Request {
            method: "GET",
            path: &path,
            headers: &headers,
            date: &date,
            region,
            service: "s3",
            body_sha256: sigv4::EMPTY_BODY,
        };
        let authorization = sigv4::authorization(&signed, credentials);
        for (name, value) in headers.into_iter().skip(1).chain([("authorization", authorization.as_str())]) {
            request = request.header(name, value);
        }
    }
    let bad = |_| S3Error::BadEndpoint {
        given: format!("{scheme}://{authority}"),
        why: "no request can be made for it and these credentials",
    };
    let request = request.body(Full::new(Bytes::new())).map_err(bad)?;
    let unreachable = |source: Box<dyn std::error::Error + Send + Sync>| S3Error::Unreachable {
        host: authority.clone(),
        hint: hint(source.as_ref()),
        source,
    };
    let response = client.request(request).await.map_err(|error| unreachable(Box::new(https::Broken(error))))?;
    let status = response.status();
    let limit = if status == StatusCode::OK { MAX_FILE_BYTES } else { MAX_REASON_BYTES };
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| unreachable(Box::new(error)))?;
        bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        if bytes.len() as u64 > limit {
            break;
        }
    }
    match status {
        StatusCode::OK if bytes.len() as u64 > limit => Err(S3Error::TooLarge),
        StatusCode::OK => Ok(bytes),
        status => Err(S3Error::Refused { host: authority.clone(), status, said: reason(&bytes) }),
    }
}

/// Where the cause has a known cure.
fn hint(error: &(dyn std::error::Error + 'static)) -> &'static str {
    if error.to_string().contains("UnknownIssuer") {
        return "; its certificate is signed by nobody known here: let AWS_CA_BUNDLE name its CA's certificate";
    }
    error.source().map_or("", hint)
}

/// The code and message of S3's error document, on one line
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>).
fn reason(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        let (content, _) = rest.split_once(&format!("</{name}>"))?;
        Some(content.chars().filter(|letter| !letter.is_control()).take(MAX_REASON_CHARACTERS).collect::<String>())
    };
    match (element("Code"), element("Message")) {
        (Some(code), Some(message)) => format!(": {code}: {message}"),
        (Some(only), None) | (None, Some(only)) => format!(": {only}"),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_awss_own() {
        let of = |variables: &[(&str, &str)]| {
            Settings::from_env(|wanted| {
                variables.iter().find(|(name, _)| *name == wanted).map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(of(&[]), Settings::default());
        assert_eq!(of(&[("CORACLE_S3_ENDPOINT", ""), ("AWS_ENDPOINT_URL", "c")]).endpoint.as_deref(), Some("c"));
        let all = [("AWS_ENDPOINT_URL", "c"), ("AWS_ENDPOINT_URL_S3", "b"), ("CORACLE_S3_ENDPOINT", "a")];
        assert_eq!(of(&all).endpoint.as_deref(), Some("a"));
        assert_eq!(of(&all[..2]).endpoint.as_deref(), Some("b"));
        assert_eq!(of(&[("AWS_ACCESS_KEY_ID", "id")]).credentials, None);
        let keys = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "key"), ("AWS_SESSION_TOKEN", "token")];
        let credentials = of(&keys).credentials.expect("both are there");
        assert_eq!(credentials.session_token.as_deref(), Some("token"));
    }

    #[test]
    fn an_endpoint_is_an_address() {
        let good = Endpoint::parse("http://127.0.0.1:9000/base/").expect("an address");
        assert_eq!((good.authority.as_str(), good.base.as_str()), ("127.0.0.1:9000", "/base"));
        assert!(Endpoint::parse("https://s3.example").is_ok());
        for bad in ["", "s3.example", "ftp://s3.example", "http://", "http://u:p@s3.example", "http://x/?a=b", "a b"] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_refusal_is_told_in_s3s_words() {
        let body = b"<?xml version=\"1.0\"?>\n<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>";
        assert_eq!(reason(body), ": NoSuchKey: The specified key does not exist.");
        assert_eq!(reason(b"<Error><Code>Slow\x1b[31mDown</Code></Error>"), ": Slow[31mDown");
        assert_eq!(reason(b"<Code>"), "");
        assert_eq!(reason(b"\xff\xfe"), "");
    }
}
