//! What a request says of its own signature: read strictly, believed by nobody yet.

use ecs::Timestamp;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};

use super::{Request, canonical, from_date, incomplete};
use crate::limits;
use crate::refusal::Refusal;

pub(super) const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The last part of every credential scope.
pub(super) const TERMINATOR: &str = "aws4_request";
pub(super) const TOKEN_HEADER: &str = "x-amz-security-token";
const DATE_HEADER: HeaderName = HeaderName::from_static("x-amz-date");

/// Parameters of a presigned request.
const QUERY_ALGORITHM: &str = "X-Amz-Algorithm";
const QUERY_CREDENTIAL: &str = "X-Amz-Credential";
const QUERY_DATE: &str = "X-Amz-Date";
const QUERY_EXPIRES: &str = "X-Amz-Expires";
const QUERY_SIGNED_HEADERS: &str = "X-Amz-SignedHeaders";
const QUERY_SIGNATURE: &str = "X-Amz-Signature";
const QUERY_TOKEN: &str = "X-Amz-Security-Token";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) form: Form,
    pub(super) access_key_id: String,
    /// `20150830`.
    pub(super) day: String,
    pub(super) region: String,
    pub(super) service: String,
    /// `20150830T123600Z`, and the same as a point in time.
    pub(super) date: String,
    pub(super) signed_at: Timestamp,
    /// In lower case, in their order, each once.
    pub(super) signed_headers: Vec<String>,
    pub(super) signature: [u8; 32],
    pub(super) token: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Header,
    Query { expires_s: u64 },
}

impl Claim {
    pub(super) fn read(request: &Request<'_>) -> Result<Claim, Refusal> {
        let parameters = canonical::parameters(request.query);
        let presigned = parameters.iter().any(|(name, _)| is_of_signature(name));
        let mut authorizations = request.headers.get_all(AUTHORIZATION).iter();
        match (authorizations.next(), authorizations.next(), presigned) {
            (None, _, false) => Err(Refusal::MissingAuthenticationToken),
            (None, _, true) => Claim::in_query(&parameters),
            (Some(value), None, false) => {
                let text = value.to_str().map_err(|_| incomplete("The Authorization header is not ASCII"))?;
                Claim::in_header(text, request.headers)
            }
            (Some(_), Some(_), _) => Err(incomplete("There is more than one Authorization header")),
            (Some(_), None, true) => {
                Err(incomplete("A request is signed in its Authorization header or in its query, not both"))
            }
        }
    }

    /// `AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`.
    fn in_header(text: &str, headers: &HeaderMap) -> Result<Claim, Refusal> {
        let fields = text
            .strip_prefix(ALGORITHM)
            .and_then(|rest| rest.strip_prefix(' '))
            .ok_or_else(|| incomplete(format!("Authorization header requires the algorithm '{ALGORITHM}'.")))?;
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for field in fields.split(',').map(str::trim) {
            let Some((name, value)) = field.split_once('=') else {
                let text = format!(
                    "'{}' not a valid key=value pair (missing equal-sign) in Authorization header.",
                    field.escape_debug()
                );
                return Err(incomplete(text));
            };
            let place = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                name => {
                    let text = format!("Authorization header has an unknown parameter '{}'.", name.escape_debug());
                    return Err(incomplete(text));
                }
            };
            if place.replace(value).is_some() {
                return Err(incomplete(format!("Authorization header has '{name}' more than once.")));
            }
        }
        let needs = |name: &str| incomplete(format!("Authorization header requires '{name}' parameter."));
        Written {
            form: Form::Header,
            credential: credential.ok_or_else(|| needs("Credential"))?,
            date: only(headers, &DATE_HEADER)?
                .ok_or_else(|| incomplete("Authorization header requires existence of a 'X-Amz-Date' header."))?,
            signed_headers: signed_headers.ok_or_else(|| needs("SignedHeaders"))?,
            signature: signature.ok_or_else(|| needs("Signature"))?,
            token: only(headers, &HeaderName::from_static(TOKEN_HEADER))?,
        }
        .read()
    }

    fn in_query(parameters: &[(Vec<u8>, Vec<u8>)]) -> Result<Claim, Refusal> {
        let find = |wanted: &str| {
            let mut values = parameters.iter().filter(|(name, _)| name == wanted.as_bytes()).map(|(_, value)| value);
            match (values.next(), values.next()) {
                (None, _) => Ok(None),
                (Some(value), None) => std::str::from_utf8(value)
                    .map(Some)
                    .map_err(|_| incomplete(format!("AWS query-string parameter '{wanted}' is not UTF-8."))),
                (Some(_), Some(_)) => Err(incomplete(format!("AWS query-string has '{wanted}' more than once."))),
            }
        };
        let need = |wanted: &str| {
            find(wanted)?.ok_or_else(|| incomplete(format!("AWS query-string parameters must include '{wanted}'.")))
        };
        if need(QUERY_ALGORITHM)? != ALGORITHM {
            return Err(incomplete(format!("{QUERY_ALGORITHM} must be '{ALGORITHM}'.")));
        }
        let expires = need(QUERY_EXPIRES)?;
        let digits = expires.len() <= 6 && expires.bytes().all(|byte| byte.is_ascii_digit());
        let expires_s =
            expires.parse().ok().filter(|seconds| digits && (1..=limits::PRESIGNED_S).contains(seconds)).ok_or_else(
                || incomplete(format!("{QUERY_EXPIRES} must be from 1 to {} seconds.", limits::PRESIGNED_S)),
            )?;
        Written {
            form: Form::Query { expires_s },
            credential: need(QUERY_CREDENTIAL)?,
            date: need(QUERY_DATE)?,
            signed_headers: need(QUERY_SIGNED_HEADERS)?,
            signature: need(QUERY_SIGNATURE)?,
            token: find(QUERY_TOKEN)?,
        }
        .read()
    }

    /// The canonical queries that the signature may be of: one, and for a presigned request with a token also the one
    /// without it, as some services have it signed.
    pub(super) fn signed_queries(&self, query: &str) -> Vec<String> {
        let parameters = canonical::parameters(query);
        let without = |left_out: &[&str]| {
            let kept = parameters.iter().filter(|(name, _)| !left_out.iter().any(|out| name == out.as_bytes()));
            canonical::query(kept)
        };
        match (self.form, &self.token) {
            (Form::Header, _) => vec![without(&[])],
            (Form::Query { .. }, None) => vec![without(&[QUERY_SIGNATURE])],
            (Form::Query { .. }, Some(_)) => {
                vec![without(&[QUERY_SIGNATURE]), without(&[QUERY_SIGNATURE, QUERY_TOKEN])]
            }
        }
    }
}

/// Whether a parameter makes its request a presigned one, however it is spelt.
fn is_of_signature(name: &[u8]) -> bool {
    [QUERY_ALGORITHM, QUERY_CREDENTIAL, QUERY_SIGNATURE].iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes()))
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            value.to_str().map(Some).map_err(|_| incomplete(format!("The header '{name}' is not ASCII")))
        }
        (Some(_), Some(_)) => Err(incomplete(format!("There is more than one '{name}' header"))),
    }
}

/// The parts of a claim as texts.
struct Written<'a> {
    form: Form,
    credential: &'a str,
    date: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
    token: Option<&'a str>,
}

impl Written<'_> {
    fn read(self) -> Result<Claim, Refusal> {
        let credential: Vec<&str> = self.credential.split('/').collect();
        let [access_key_id, day, region, service, TERMINATOR] = credential[..] else {
            let text = format!("Credential must have the form AKID/YYYYMMDD/REGION/SERVICE/{TERMINATOR}.");
            return Err(incomplete(text));
        };
        let good_id = (1..=limits::ACCESS_KEY_ID_BYTES).contains(&access_key_id.len())
            && access_key_id.bytes().all(|byte| byte.is_ascii_graphic());
        if !good_id {
            let text = format!("Credential's access key id must have 1 to {} characters.", limits::ACCESS_KEY_ID_BYTES);
            return Err(incomplete(text));
        }
        // It goes into ARNs.
        let good_region = (1..=limits::REGION_BYTES).contains(&region.len())
            && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !good_region {
            let text =
                format!("Credential's region must be 1 to {} letters, digits and hyphens.", limits::REGION_BYTES);
            return Err(incomplete(text));
        }
        let signed_at = from_date(self.date)
            .ok_or_else(|| incomplete("Date must be in ISO-8601 'basic format', as in 20150830T123600Z."))?;
        if self.date.split('T').next() != Some(day) {
            return Err(incomplete("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date."));
        }
        Ok(Claim {
            form: self.form,
            access_key_id: access_key_id.to_owned(),
            day: day.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
            date: self.date.to_owned(),
            signed_at,
            signed_headers: header_names(self.signed_headers)?,
            signature: signature(self.signature)?,
            token: self.token.map(str::to_owned),
        })
    }
}

fn header_names(text: &str) -> Result<Vec<String>, Refusal> {
    let names: Vec<&str> = text.split(';').collect();
    let written = |name: &str| HeaderName::from_bytes(name.as_bytes()).is_ok_and(|parsed| parsed.as_str() == name);
    let ordered = names.windows(2).all(|pair| pair[0] < pair[1]);
    if names.len() > limits::HEADERS || !ordered || !names.iter().all(|name| written(name)) {
        return Err(incomplete("SignedHeaders must be names in lower case, sorted, with ';' between them."));
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

/// 64 digits in lower case. Anything else matches no signature, and says so as a wrong one does.
fn signature(text: &str) -> Result<[u8; 32], Refusal> {
    let digits: Option<Vec<u8>> = text
        .bytes()
        .map(|byte| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        })
        .collect();
    let bytes: Option<Vec<u8>> =
        digits.map(|digits| digits.chunks(2).map(|pair| pair.iter().fold(0, |high, low| high << 4 | low)).collect());
    bytes.filter(|_| text.len() == 64).and_then(|bytes| bytes.try_into().ok()).ok_or(Refusal::SignatureDoesNotMatch)
}
