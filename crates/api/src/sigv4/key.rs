//! Access keys, and how a secret becomes what signs.

use std::fmt;

use hmac_sha256::{HMAC, Hash};
use zeroize::Zeroizing;

use super::claim::TERMINATOR;

/// An access key and whose it is.
#[derive(Clone, Debug)]
pub struct Key {
    pub secret: Secret,
    /// Of temporary credentials.
    pub session_token: Option<Secret>,
    /// `arn:aws:iam::123456789012:root`.
    pub principal_arn: String,
}

/// A text that is wiped when it is dropped, and never shown.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The key that signs on one day, in one region, for one service.
    pub(super) fn signing_key(&self, day: &str, region: &str, service: &str) -> Zeroizing<[u8; 32]> {
        let secret = Zeroizing::new(format!("AWS4{}", self.0.as_str()));
        let mut key = Zeroizing::new(HMAC::mac(day.as_bytes(), secret.as_bytes()));
        for step in [region, service, TERMINATOR] {
            *key = HMAC::mac(step.as_bytes(), key.as_slice());
        }
        key
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret")
    }
}

impl Key {
    /// What takes the place of a key that nobody has, so that its absence takes as long.
    pub(super) fn nobodys() -> Key {
        let secret = Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned());
        Key { secret, session_token: None, principal_arn: String::new() }
    }

    /// Whether a request's session token, or that it has none, fits the key.
    pub(super) fn has_token(&self, token: Option<&str>) -> bool {
        match (&self.session_token, token) {
            (None, None) => true,
            (Some(own), Some(token)) => Hash::verify(token.as_bytes(), &Hash::hash(own.0.as_bytes())),
            (Some(_), None) | (None, Some(_)) => false,
        }
    }
}
