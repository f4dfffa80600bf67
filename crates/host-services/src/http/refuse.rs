//! Requests that nobody who means well makes. Pure.
//!
//! Whoever gets a task's own software to fetch an address of the attacker's choice (SSRF) should not get at its
//! credentials: what passed through a proxy, or names another host, is refused, as EC2's metadata service does it
//! (<https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>).

use hyper::header::{CONTENT_LENGTH, HOST, HeaderMap, TRANSFER_ENCODING, UPGRADE, VIA};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Version};

/// A request's line and headers, bytes.
pub const MAX_HEAD_BYTES: usize = 4096;
/// The only names of this service.
const HOSTS: [&[u8]; 2] = [b"169.254.170.2", b"169.254.170.2:80"];
/// What proxies add.
const FORWARDED: [&str; 5] = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "forwarded"];

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the request's head has more than {MAX_HEAD_BYTES} bytes")]
    Head,
    #[error("this is no proxy: the request names a path and nothing before it")]
    Form,
    #[error("there is nothing to upgrade to")]
    Upgrade,
    #[error("requests that came through a proxy are not answered")]
    Forwarded,
    #[error("a request has one Host, 169.254.170.2")]
    Host,
    #[error("a request of this kind has no body")]
    Body,
}

impl Refusal {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Refusal::Head => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Refusal::Form | Refusal::Upgrade | Refusal::Body => StatusCode::BAD_REQUEST,
            Refusal::Forwarded | Refusal::Host => StatusCode::FORBIDDEN,
        }
    }
}

pub(super) fn check(request: &Parts) -> Result<(), Refusal> {
    if head_bytes(request) > MAX_HEAD_BYTES {
        return Err(Refusal::Head);
    }
    let is_path = request.uri.scheme().is_none() && request.uri.authority().is_none();
    if !is_path || request.method == Method::CONNECT || !request.uri.path().starts_with('/') {
        return Err(Refusal::Form);
    }
    if request.headers.contains_key(UPGRADE) {
        return Err(Refusal::Upgrade);
    }
    if request.headers.contains_key(VIA) || FORWARDED.iter().any(|name| request.headers.contains_key(*name)) {
        return Err(Refusal::Forwarded);
    }
    if !is_host_ours(request) {
        return Err(Refusal::Host);
    }
    let takes_body = request.method == Method::PUT || request.method == Method::POST;
    if !takes_body && has_body(&request.headers) {
        return Err(Refusal::Body);
    }
    Ok(())
}

/// As it came over the wire, but for spaces.
fn head_bytes(request: &Parts) -> usize {
    const LINE: usize = "  HTTP/1.1\r\n".len();
    const HEADER: usize = ": \r\n".len();
    let line = request.method.as_str().len() + request.uri.to_string().len() + LINE;
    request.headers.iter().fold(line, |sum, (name, value)| sum + name.as_str().len() + value.len() + HEADER)
}

/// HTTP/1.0 has no Host, or the right one.
fn is_host_ours(request: &Parts) -> bool {
    let mut hosts = request.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => request.version == Version::HTTP_10,
        (Some(host), None) => HOSTS.contains(&host.as_bytes()),
        (Some(_), Some(_)) => false,
    }
}

fn has_body(headers: &HeaderMap) -> bool {
    let says_none = |value: &hyper::header::HeaderValue| value.as_bytes().iter().all(|byte| *byte == b'0');
    headers.contains_key(TRANSFER_ENCODING) || !headers.get_all(CONTENT_LENGTH).iter().all(says_none)
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn verdict(
        build: impl FnOnce(hyper::http::request::Builder) -> hyper::http::request::Builder,
    ) -> Result<(), Refusal> {
        let request = build(Request::builder().uri("/v4/e").header("host", "169.254.170.2"));
        check(&request.body(()).expect("a request").into_parts().0)
    }

    #[test]
    fn what_a_proxy_or_a_browser_would_send_is_refused() {
        assert_eq!(verdict(|request| request), Ok(()));
        assert_eq!(verdict(|request| request.header("content-length", "0")), Ok(()));
        for header in ["Via", "X-Forwarded-For", "x-forwarded-host", "Forwarded", "X-Real-IP"] {
            assert_eq!(verdict(|request| request.header(header, "")), Err(Refusal::Forwarded), "{header}");
        }
        assert_eq!(verdict(|request| request.header("host", "169.254.170.2")), Err(Refusal::Host), "twice");
        assert_eq!(verdict(|request| request.uri("http://169.254.170.2/v4/e")), Err(Refusal::Form));
        assert_eq!(verdict(|request| request.method("CONNECT").uri("169.254.170.2:80")), Err(Refusal::Form));
        assert_eq!(verdict(|request| request.method("OPTIONS").uri("*")), Err(Refusal::Form));
        assert_eq!(verdict(|request| request.header("upgrade", "h2c")), Err(Refusal::Upgrade));
        for (name, value) in [("content-length", "1"), ("transfer-encoding", "chunked")] {
            assert_eq!(verdict(|request| request.header(name, value)), Err(Refusal::Body));
            assert_eq!(verdict(|request| request.method("PUT").header(name, value)), Ok(()));
        }
    }

    #[test]
    fn one_host_and_no_other() {
        let with = |hosts: &[&str], version| {
            let mut request = Request::builder().uri("/").version(version);
            for host in hosts {
                request = request.header("host", *host);
            }
            check(&request.body(()).expect("a request").into_parts().0)
        };
        for good in ["169.254.170.2", "169.254.170.2:80"] {
            assert_eq!(with(&[good], Version::HTTP_11), Ok(()));
        }
        for bad in ["", "localhost", "169.254.170.2:8080", "169.254.170.2.evil.example", "169.254.170.23", "0xA9FEAA02"]
        {
            assert_eq!(with(&[bad], Version::HTTP_11), Err(Refusal::Host), "{bad}");
            assert_eq!(with(&[bad], Version::HTTP_10), Err(Refusal::Host), "{bad}");
        }
        assert_eq!(with(&[], Version::HTTP_11), Err(Refusal::Host));
        assert_eq!(with(&[], Version::HTTP_10), Ok(()));
    }

    #[test]
    fn heads_have_a_limit() {
        let head = |filling: usize| verdict(|request| request.header("x", "y".repeat(filling)));
        let fixed = "GET /v4/e HTTP/1.1\r\nhost: 169.254.170.2\r\nx: \r\n".len();
        assert_eq!(head(MAX_HEAD_BYTES - fixed), Ok(()));
        assert_eq!(head(MAX_HEAD_BYTES - fixed + 1), Err(Refusal::Head));
        assert_eq!(verdict(|request| request.uri(format!("/{}", "a".repeat(MAX_HEAD_BYTES)))), Err(Refusal::Head));
    }
}
