//! From a request to an operation: the protocol's outside first, then who asks, and only then what the body says.

use ecs::Timestamp;
use ecs::operations::{NOT_HERE, Operation};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderName, Method};

use crate::call::{Auth, Call, Caller};
use crate::encode::JSON_1_1;
use crate::json;
use crate::limits;
use crate::refusal::Refusal;
use crate::sigv4::{self, PathForm, Rules};

const TARGET: HeaderName = HeaderName::from_static("x-amz-target");
/// Before the operation's name in `X-Amz-Target`.
const TARGET_PREFIX: &str = "AmazonEC2ContainerServiceV20141113.";
/// The name in the credential scope.
const SERVICE: &str = "ecs";

/// How many bytes of body the server reads for such a request before it gives up. The name is the client's word: nothing
/// but memory depends on it.
pub fn body_limit(head: &Parts) -> usize {
    match operation_name(head) {
        Ok("RegisterTaskDefinition") => limits::REGISTER_TASK_DEFINITION_BODY_BYTES,
        Ok(_) | Err(_) => limits::BODY_BYTES,
    }
}

/// The whole body is needed before the signature can be checked, since it is part of what is signed; nothing of it is
/// parsed until then.
pub fn decode(head: &Parts, body: &[u8], auth: &Auth<'_>, now: Timestamp) -> Result<Call, Refusal> {
    check_size(head, body)?;
    let caller = caller(head, body, auth, now)?;
    let name = operation_name(head)?;
    if let Some(name) = NOT_HERE.iter().find(|not_here| **not_here == name) {
        return Err(Refusal::NotHere { operation: (*name).to_owned() });
    }
    if !Operation::NAMES.contains(&name) {
        return Err(unknown(format!("There is no operation {}", name.escape_debug())));
    }
    let body = json::object(body)?;
    match Operation::read(name, json::Member::root(&body)) {
        Some(Ok(operation)) => Ok(Call { caller, operation }),
        Some(Err(misfit)) => Err(misfit.into()),
        None => Err(unknown(format!("There is no operation {name}"))),
    }
}

fn check_size(head: &Parts, body: &[u8]) -> Result<(), Refusal> {
    let headers: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if head.headers.len() > limits::HEADERS {
        return Err(Refusal::TooManyHeaders);
    }
    if headers > limits::HEADER_BYTES {
        return Err(Refusal::TooLarge { what: "headers", limit: limits::HEADER_BYTES });
    }
    let uri = head.uri.path_and_query().map_or(0, |uri| uri.as_str().len());
    if uri > limits::URI_BYTES {
        return Err(Refusal::TooLarge { what: "path and query", limit: limits::URI_BYTES });
    }
    let limit = body_limit(head);
    if body.len() > limit {
        return Err(Refusal::TooLarge { what: "body", limit });
    }
    Ok(())
}

fn caller(head: &Parts, body: &[u8], auth: &Auth<'_>, now: Timestamp) -> Result<Caller, Refusal> {
    let rules = Rules { services: &[SERVICE], path: PathForm::Normalised };
    let request = sigv4::Request::of(head, body);
    match *auth {
        Auth::Signed(keys) => {
            let signed = sigv4::verify(&request, &rules, keys, now)?;
            Ok(Caller {
                region: signed.region,
                access_key_id: signed.access_key_id,
                principal_arn: signed.principal_arn,
            })
        }
        Auth::AnyKey { principal_arn } => {
            let scope = sigv4::scope(&request, &rules)?;
            Ok(Caller {
                region: scope.region,
                access_key_id: scope.access_key_id,
                principal_arn: principal_arn.to_owned(),
            })
        }
        Auth::Local { region, principal_arn } => {
            let scope = match sigv4::scope(&request, &rules) {
                Ok(scope) => Some(scope),
                Err(Refusal::MissingAuthenticationToken) => None,
                Err(refusal) => return Err(refusal),
            };
            Ok(Caller {
                region: scope.as_ref().map_or(region, |scope| &scope.region).to_owned(),
                access_key_id: scope.as_ref().map_or("", |scope| &scope.access_key_id).to_owned(),
                principal_arn: principal_arn.to_owned(),
            })
        }
    }
}

fn operation_name(head: &Parts) -> Result<&str, Refusal> {
    if head.method != Method::POST {
        return Err(unknown(format!("Operations are asked for with POST, not {}", head.method)));
    }
    if head.uri.path() != "/" {
        return Err(unknown("Operations are asked for at the path /".to_owned()));
    }
    let text = |name: &HeaderName| {
        let mut values = head.headers.get_all(name).iter();
        let only = values.next().filter(|_| values.next().is_none());
        only.and_then(|value| value.to_str().ok())
    };
    let media_type = text(&CONTENT_TYPE).and_then(|value| value.split(';').next()).unwrap_or_default();
    if !media_type.trim().eq_ignore_ascii_case(JSON_1_1) {
        return Err(unknown(format!("Operations are asked for with Content-Type: {JSON_1_1}")));
    }
    text(&TARGET)
        .and_then(|target| target.strip_prefix(TARGET_PREFIX))
        .ok_or_else(|| unknown(format!("Operations are asked for with X-Amz-Target: {TARGET_PREFIX}NAME")))
}

fn unknown(message: String) -> Refusal {
    Refusal::UnknownOperation(message)
}
