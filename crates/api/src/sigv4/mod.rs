//! Amazon's signature version 4, verified: in a header, or in the query of a presigned request
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv4-create-signed-request.html>).
//!
//! Stricter than a signer has to know: every `x-amz-*` header must be signed, or an attacker could add `X-Amz-Target`; the
//! payload always is; dates, names and signatures have one spelling. A key that is unknown takes the same way, and the same
//! time, as one that is known and a signature that is wrong.

mod canonical;
mod claim;
mod key;

use ecs::Timestamp;
use ecs::time::Calendar;
use hmac_sha256::{HMAC, Hash};
use http::HeaderMap;
use http::request::Parts;

use crate::limits;
use crate::refusal::Refusal;
use claim::{Claim, Form};
pub use key::{Key, Secret};

/// `20150830T123600Z`.
const DATE_BYTES: usize = 16;

/// What is signed, as it came.
pub struct Request<'a> {
    pub method: &'a str,
    pub path: &'a str,
    /// Without the question mark.
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    /// HTTP/2's `:authority`, which stands for the `host` header.
    pub authority: Option<&'a str>,
    pub body: &'a [u8],
}

impl<'a> Request<'a> {
    pub fn of(head: &'a Parts, body: &'a [u8]) -> Self {
        Request {
            method: head.method.as_str(),
            path: head.uri.path(),
            query: head.uri.query().unwrap_or_default(),
            headers: &head.headers,
            authority: head.uri.authority().map(|authority| authority.as_str()),
            body,
        }
    }
}

/// What a service asks of the signatures of its requests.
pub struct Rules<'a> {
    /// Names that the credential scope may say.
    pub services: &'a [&'a str],
    pub path: PathForm,
}

/// How a path is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathForm {
    /// Without dot segments and repeated slashes.
    Normalised,
    AsSent,
}

/// What the credential scope says. Nothing of it is proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    pub access_key_id: String,
    pub region: String,
    pub service: String,
}

/// Who signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    pub access_key_id: String,
    pub region: String,
    pub service: String,
    pub principal_arn: String,
}

/// The scope of a request whose signature does not count.
pub fn scope(request: &Request<'_>, rules: &Rules<'_>) -> Result<Scope, Refusal> {
    let claim = Claim::read(request)?;
    check_service(&claim, rules)?;
    Ok(Scope { access_key_id: claim.access_key_id, region: claim.region, service: claim.service })
}

pub fn verify(
    request: &Request<'_>,
    rules: &Rules<'_>,
    keys: &dyn Fn(&str) -> Option<Key>,
    now: Timestamp,
) -> Result<Signed, Refusal> {
    let claim = Claim::read(request)?;
    check_service(&claim, rules)?;
    check_time(&claim, now)?;
    check_headers(request, &claim)?;
    let payload = payload_hash(request)?;

    let found = keys(&claim.access_key_id);
    let known = found.is_some();
    let key = found.unwrap_or_else(Key::nobodys);
    let signing_key = key.secret.signing_key(&claim.day, &claim.region, &claim.service);
    // A presigned request's token may have been added after it was signed.
    let queries = claim.signed_queries(request.query);
    let mut good = false;
    for query in &queries {
        let canonical = canonical::request(request, &claim.signed_headers, query, &payload, rules.path);
        let scope = format!("{}/{}/{}/{}", claim.day, claim.region, claim.service, claim::TERMINATOR);
        let hash = canonical::hex(&Hash::hash(&canonical));
        let text = format!("{}\n{}\n{scope}\n{hash}", claim::ALGORITHM, claim.date);
        good |= HMAC::verify(text.as_bytes(), signing_key.as_slice(), &claim.signature);
    }
    let token = key.has_token(claim.token.as_deref());
    if !known || !token {
        return Err(Refusal::UnrecognizedClient);
    }
    if !good {
        return Err(Refusal::SignatureDoesNotMatch);
    }
    Ok(Signed {
        access_key_id: claim.access_key_id,
        region: claim.region,
        service: claim.service,
        principal_arn: key.principal_arn,
    })
}

fn check_service(claim: &Claim, rules: &Rules<'_>) -> Result<(), Refusal> {
    if rules.services.contains(&claim.service.as_str()) {
        return Ok(());
    }
    Err(Refusal::WrongService { service: rules.services.first().copied().unwrap_or_default().to_owned() })
}

/// A signature is good for 15 minutes on both sides of its date; a presigned one until it says, but not after.
fn check_time(claim: &Claim, now: Timestamp) -> Result<(), Refusal> {
    let skew_ms = limits::SKEW_S * 1000;
    let latest = now.plus_ms(skew_ms);
    if claim.signed_at > latest {
        return Err(Refusal::SignatureNotYetCurrent {
            signed: claim.date.clone(),
            latest: date(latest),
            now: date(now),
        });
    }
    match claim.form {
        Form::Header => {
            let earliest = Timestamp::from_epoch_ms(now.epoch_ms.saturating_sub(skew_ms));
            if claim.signed_at < earliest {
                return Err(Refusal::SignatureExpired {
                    signed: claim.date.clone(),
                    earliest: date(earliest),
                    now: date(now),
                });
            }
        }
        Form::Query { expires_s } => {
            let until = claim.signed_at.plus_ms(expires_s * 1000);
            if now > until {
                return Err(Refusal::PresignedExpired { until: date(until), now: date(now) });
            }
        }
    }
    Ok(())
}

/// What must be signed is, and what is signed is there.
fn check_headers(request: &Request<'_>, claim: &Claim) -> Result<(), Refusal> {
    let signed = |name: &str| claim.signed_headers.iter().any(|signed| signed == name);
    if !signed("host") {
        return Err(incomplete("'host' must be a 'SignedHeader' in the AWS Authorization"));
    }
    for name in request.headers.keys().map(|name| name.as_str()) {
        // The token is compared with the key's own, signed or not.
        if name.starts_with("x-amz-") && name != claim::TOKEN_HEADER && !signed(name) {
            return Err(incomplete(format!("'{name}' must be a 'SignedHeader' in the AWS Authorization")));
        }
    }
    for name in &claim.signed_headers {
        let there = request.headers.contains_key(name) || (name == "host" && request.authority.is_some());
        if !there {
            return Err(incomplete(format!("The signed header '{name}' is not there")));
        }
    }
    if request.headers.get_all(http::header::HOST).iter().count() > 1 {
        return Err(incomplete("There is more than one 'host' header"));
    }
    Ok(())
}

/// In hexadecimal. A payload that is declared unsigned, or signed in parts, is S3's alone.
fn payload_hash(request: &Request<'_>) -> Result<String, Refusal> {
    let hash = canonical::hex(&Hash::hash(request.body));
    for declared in request.headers.get_all("x-amz-content-sha256") {
        if declared.as_bytes() != hash.as_bytes() {
            return Err(Refusal::SignatureDoesNotMatch);
        }
    }
    Ok(hash)
}

/// `20150830T123600Z`.
fn date(at: Timestamp) -> String {
    let Calendar { year, month, day, hour, minute, second } = at.calendar();
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// Nothing but what [`date`] writes.
fn from_date(text: &str) -> Option<Timestamp> {
    if text.len() != DATE_BYTES || !text.is_ascii() {
        return None;
    }
    let (day, time) = text.split_once('T')?;
    let (year, month, of_month) = (day.get(..4)?, day.get(4..6)?, day.get(6..)?);
    let (hour, minute, second) = (time.get(..2)?, time.get(2..4)?, time.get(4..6)?);
    let at = Timestamp::from_rfc3339(&format!("{year}-{month}-{of_month}T{hour}:{minute}:{second}Z"))?;
    (date(at) == text).then_some(at)
}

fn incomplete(text: impl Into<String>) -> Refusal {
    Refusal::IncompleteSignature(text.into())
}
