//! Responses as AWS's JSON 1.1 protocol has them
//! (<https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html>).

use ecs::operations::{ApiError, ErrorCode, Reply};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::refusal::Refusal;

pub(crate) const JSON_1_1: &str = "application/x-amz-json-1.1";
/// botocore reads the first, other SDKs of Amazon the second.
const REQUEST_ID: &str = "x-amzn-requestid";
const ERROR_TYPE: &str = "x-amzn-errortype";

/// The response to an operation. `request_id` is visible ASCII, as a UUID is.
pub fn encode(request_id: &str, answer: Result<&Reply, &ApiError>) -> Response<Vec<u8>> {
    match answer {
        Ok(reply) => match reply.body() {
            Ok(body) => response(request_id, StatusCode::OK, body),
            Err(error) => {
                let text = format!("The answer cannot be written: {error}");
                failed(request_id, &ApiError::new(ErrorCode::Server, text))
            }
        },
        Err(error) => failed(request_id, error),
    }
}

/// The response to what is no operation.
pub fn refuse(request_id: &str, refusal: &Refusal) -> Response<Vec<u8>> {
    let message = refusal.to_string();
    error(request_id, refusal.status(), &ErrorBody { code: refusal.code(), message: &message, resource_ids: None })
}

fn failed(request_id: &str, failure: &ApiError) -> Response<Vec<u8>> {
    let resource_ids = (failure.code == ErrorCode::Conflict).then_some(failure.resource_ids.as_slice());
    let body = ErrorBody { code: failure.code.name(), message: &failure.message, resource_ids };
    error(request_id, failure.code.status(), &body)
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    /// Without its name space, which every SDK cuts off.
    #[serde(rename = "__type")]
    code: &'static str,
    message: &'a str,
    /// Of a ConflictException alone.
    #[serde(rename = "resourceIds", skip_serializing_if = "Option::is_none")]
    resource_ids: Option<&'a [String]>,
}

fn error(request_id: &str, status: u16, body: &ErrorBody<'_>) -> Response<Vec<u8>> {
    let status = StatusCode::from_u16(status).expect("each code's status is written out as one of HTTP's");
    let bytes = serde_json::to_vec(body).expect("texts alone can always be written as JSON");
    let mut response = response(request_id, status, bytes);
    response.headers_mut().insert(ERROR_TYPE, HeaderValue::from_static(body.code));
    response
}

fn response(request_id: &str, status: StatusCode, body: Vec<u8>) -> Response<Vec<u8>> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON_1_1));
    if let Ok(value) = HeaderValue::from_str(request_id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use ecs::operations::tags::TagResourceResponse;

    use super::*;

    fn seen(response: &Response<Vec<u8>>) -> (u16, &str, &str) {
        assert_eq!(response.headers()[CONTENT_TYPE], "application/x-amz-json-1.1");
        assert_eq!(response.headers()["x-amzn-requestid"], "3f6f");
        let kind = response.headers().get("x-amzn-errortype").map_or("", |value| value.to_str().unwrap());
        (response.status().as_u16(), kind, std::str::from_utf8(response.body()).unwrap())
    }

    #[test]
    fn an_empty_answer_is_an_empty_object() {
        let response = encode("3f6f", Ok(&Reply::from(TagResourceResponse::default())));
        assert_eq!(seen(&response), (200, "", "{}"));
    }

    #[test]
    fn errors_carry_their_type_in_body_and_header() {
        let response = encode("3f6f", Err(&ApiError::new(ErrorCode::ClusterNotFound, "Cluster not found.")));
        let body = r#"{"__type":"ClusterNotFoundException","message":"Cluster not found."}"#;
        assert_eq!(seen(&response), (400, "ClusterNotFoundException", body));

        let mut conflict = ApiError::new(ErrorCode::Conflict, "Taken.");
        conflict.resource_ids = vec!["arn:one".to_owned()];
        let body = r#"{"__type":"ConflictException","message":"Taken.","resourceIds":["arn:one"]}"#;
        assert_eq!(seen(&encode("3f6f", Err(&conflict))), (400, "ConflictException", body));

        let fault = ApiError::new(ErrorCode::Server, "The disk is full.");
        assert_eq!(seen(&encode("3f6f", Err(&fault))).0, 500);

        let body = r#"{"__type":"UnrecognizedClientException","message":"The security token included in the request is invalid."}"#;
        let response = refuse("3f6f", &Refusal::UnrecognizedClient);
        assert_eq!(seen(&response), (400, "UnrecognizedClientException", body));
        assert_eq!(seen(&refuse("3f6f", &Refusal::TooLarge { what: "body", limit: 1 })).0, 413);
    }
}
