//! A SHA-256 digest: the only kind that names content in this store.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `sha256:` and 64 lower-case hexadecimal digits, as 32 bytes. Nothing else parses, so a digest is safe in a path.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    pub fn of(content: &[u8]) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(content);
        hasher.finish()
    }

    /// The 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = String::with_capacity(64);
        for byte in self.0 {
            hex.push(DIGITS[usize::from(byte >> 4)] as char);
            hex.push(DIGITS[usize::from(byte & 15)] as char);
        }
        hex
    }

    /// From 64 lower-case hexadecimal digits.
    pub fn from_hex(hex: &str) -> Option<Self> {
        let hex = hex.as_bytes();
        if hex.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Some(Digest(bytes))
    }
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotADigest {
    #[error("digest {given:?} is not \"sha256:\" and 64 lower-case hexadecimal digits")]
    Malformed { given: String },
    #[error("digest algorithm {algorithm:?} is not supported: only sha256 is")]
    Algorithm { algorithm: String },
}

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        let malformed = || NotADigest::Malformed { given: text.chars().take(160).collect() };
        let (algorithm, hex) = text.split_once(':').ok_or_else(malformed)?;
        match algorithm {
            "sha256" => Digest::from_hex(hex).ok_or_else(malformed),
            "sha384" | "sha512" | "blake3" => Err(NotADigest::Algorithm { algorithm: algorithm.to_owned() }),
            _ => Err(malformed()),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// SHA-256 as the bytes pass.
#[derive(Clone)]
pub(crate) struct Hasher(ring::digest::Context);

impl Hasher {
    pub(crate) fn new() -> Self {
        Hasher(ring::digest::Context::new(&ring::digest::SHA256))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Digest {
        let digest = self.0.finish();
        Digest(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The test vector of FIPS 180-2, appendix B.1.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn digest_of_abc_is_the_published_one() {
        assert_eq!(Digest::of(b"abc").to_string(), format!("sha256:{ABC}"));
        assert_eq!(format!("sha256:{ABC}").parse(), Ok(Digest::of(b"abc")));
    }

    #[test]
    fn anything_but_64_lower_case_digits_is_refused() {
        let refused = [
            "".to_owned(),
            ABC.to_owned(),
            format!("sha256:{}", ABC.to_uppercase()),
            format!("sha256:{}", &ABC[1..]),
            format!("sha256:{ABC}0"),
            format!("SHA256:{ABC}"),
            format!("sha512:{ABC}{ABC}"),
            "sha256:../../x".to_owned(),
            format!("sha256:{}/", &ABC[1..]),
            format!("md5:{}", &ABC[..32]),
        ];
        for text in refused {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        let sha512 = format!("sha512:{ABC}{ABC}").parse::<Digest>().unwrap_err();
        assert_eq!(sha512.to_string(), "digest algorithm \"sha512\" is not supported: only sha256 is");
    }
}
