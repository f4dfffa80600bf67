//! Answers as Amazon's agent words them.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

pub(super) type Answer = Response<Full<Bytes>>;

fn with(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Answer {
    with(status, "application/json", serde_json::to_vec(body).expect("plain data with texts for keys"))
}

pub(super) fn good(body: &impl Serialize) -> Answer {
    json(StatusCode::OK, body)
}

/// Most of the agent's errors are one JSON string.
pub(super) fn error(status: StatusCode, text: &str) -> Answer {
    json(status, &text)
}

/// After which nothing more is heard from this connection.
pub(super) fn refused(status: StatusCode, text: &str) -> Answer {
    let mut answer = error(status, text);
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

/// Of paths that nobody knows, in the words of Go's own server.
pub(super) fn no_such_page() -> Answer {
    with(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n")
}

/// In the words of the agent's limiter.
pub(super) fn too_many() -> Answer {
    with(StatusCode::TOO_MANY_REQUESTS, "text/plain; charset=utf-8", "You have reached maximum request limit.")
}

/// Task protection's: `{"error": {"Arn", "Code", "Message"}}`.
pub(super) fn protection_error(status: StatusCode, arn: Option<&str>, code: &str, message: &str) -> Answer {
    let mut error = json!({"Code": code, "Message": message});
    if let Some(arn) = arn {
        error["Arn"] = Value::from(arn);
    }
    json(status, &json!({"error": error}))
}

/// The credentials endpoint's.
pub(super) fn credentials_error(status: StatusCode, code: &str, message: &str) -> Answer {
    json(status, &json!({"code": code, "message": message, "HTTPErrorCode": status.as_u16()}))
}
