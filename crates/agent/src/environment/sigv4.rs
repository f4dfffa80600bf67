//! AWS's signature version 4 for requests without a query
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>). Pure.

use std::fmt;

use ecs::Timestamp;
use ecs::time::Calendar;
use ring::{digest, hmac};

/// SHA-256 of nothing: the body of a GET.
pub const EMPTY_BODY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// An AWS access key.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub access_key_id: String,
    pub secret_access_key: String,
    /// Of temporary credentials.
    pub session_token: Option<String>,
}

/// Secrets stay out of logs.
impl fmt::Debug for Credentials {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// What is signed.
pub struct Request<'a> {
    pub method: &'a str,
    /// Escaped, as it is sent; without a query.
    pub path: &'a str,
    /// Lower-case names in their order, `host` and `x-amz-date` among them.
    pub headers: &'a [(&'a str, &'a str)],
    /// As in `x-amz-date`.
    pub date: &'a str,
    pub region: &'a str,
    pub service: &'a str,
    /// SHA-256 of the body, in hexadecimal.
    pub body_sha256: &'a str,
}

/// The value of `Authorization`.
pub fn authorization(request: &Request<'_>, credentials: &Credentials) -> String {
    let Request { method, path, headers, date, region, service, body_sha256 } = *request;
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let canonical = format!("{method}\n{path}\n\n{lines}\n{names}\n{body_sha256}");
    let day = date.split('T').next().unwrap_or_default();
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let hash = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let to_sign = format!("{ALGORITHM}\n{date}\n{scope}\n{hash}");
    let secret = format!("AWS4{}", credentials.secret_access_key);
    let steps = [day, region, service, "aws4_request", &to_sign];
    let signature = steps.iter().fold(secret.into_bytes(), |key, step| mac(&key, step));
    format!(
        "{ALGORITHM} Credential={}/{scope},SignedHeaders={names},Signature={}",
        credentials.access_key_id,
        hex(&signature)
    )
}

/// As `body_sha256` has it.
pub fn body_sha256(body: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, body).as_ref())
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `20130524T000000Z`.
pub fn date(now: Timestamp) -> String {
    let Calendar { year, month, day, hour, minute, second } = now.calendar();
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// As S3 wants a key in a path: everything escaped but unreserved characters and the slash.
pub(super) fn escape(key: &str) -> String {
    let mut out = String::new();
    for byte in key.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "Example: GET Object" of the page that the file names.
    #[test]
    fn amazons_own_example() {
        let credentials = Credentials {
            access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
            session_token: None,
        };
        let request = Request {
            method: "GET",
            path: "/test.txt",
            headers: &[
                ("host", "examplebucket.s3.amazonaws.com"),
                ("range", "bytes=0-9"),
                ("x-amz-content-sha256", EMPTY_BODY),
                ("x-amz-date", "20130524T000000Z"),
            ],
            date: "20130524T000000Z",
            region: "us-east-1",
            service: "s3",
            body_sha256: EMPTY_BODY,
        };
        assert_eq!(body_sha256(b""), EMPTY_BODY);
        assert_eq!(
            authorization(&request, &credentials),
            "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
             SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,\
             Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
        );
        assert!(!format!("{credentials:?}").contains("wJalr"));
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "19700101T000000Z"),
            (1_369_353_600, "20130524T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (951_868_800, "20000301T000000Z"),
            (4_107_542_400, "21000301T000000Z"),
            (1_798_761_599, "20261231T235959Z"),
        ] {
            assert_eq!(date(Timestamp::from_epoch_ms(seconds * 1000)), expected);
        }
    }

    #[test]
    fn keys_are_escaped_and_slashes_stay() {
        assert_eq!(escape("a/b c/é+~.env"), "a/b%20c/%C3%A9%2B~.env");
    }
}
