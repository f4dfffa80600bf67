//! An image's name as people write it: `nginx`, `host:5000/team/app:1.2`, `…@sha256:…`.
//!
//! The grammar is the one of <https://github.com/distribution/reference>, its short names included: what has no host is
//! Docker Hub's, what has no path there is in `library/`, what has neither tag nor digest is `latest`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::{Digest, NotADigest};

/// Host and repository together, as in the reference implementation.
const MAX_NAME_BYTES: usize = 255;
const MAX_TAG_BYTES: usize = 128;
const DEFAULT_HOST: &str = "docker.io";

/// A complete, checked name. `Display` gives the canonical form, which parses to the same value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// `docker.io`, `localhost:5000`, `[::1]:5000`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// A reference without digest always has a tag.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same name, pinned: no tag, this digest.
    pub fn pinned(&self, digest: Digest) -> Self {
        Reference { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// What the registry is asked for: the digest where there is one (the tag is then only a comment), else the tag.
    pub(crate) fn wanted(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => unreachable!("parse gives a reference without digest a tag"),
        }
    }

    /// The name under which the store keeps it: with a digest, the tag is left out.
    pub(crate) fn key(&self) -> Self {
        match self.digest {
            Some(digest) => self.pinned(digest),
            None => self.clone(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAReference {
    #[error("image name {given:?} is longer than {MAX_NAME_BYTES} characters")]
    TooLong { given: String },
    #[error("image name {given:?}: {part} {text:?} is not allowed: {rule}")]
    Part { given: String, part: &'static str, text: String, rule: &'static str },
    #[error("image name {given:?} has a digest that is not right")]
    Digest {
        given: String,
        #[source]
        source: NotADigest,
    },
}

const HOST_RULE: &str =
    "a host is letters, digits, '-' and '.', or an IPv6 address in brackets, then perhaps ':' and a port";
const PATH_RULE: &str = "a repository is lower-case letters and digits, with single '.', '_', '__' or '-' between them, in parts separated by '/'";
const TAG_RULE: &str = "a tag is 1 to 128 letters, digits, '_', '.' and '-', and does not start with '.' or '-'";

impl FromStr for Reference {
    type Err = NotAReference;

    fn from_str(given: &str) -> Result<Self, NotAReference> {
        let shown: String = given.chars().take(300).collect();
        let part = |part, text: &str, rule| NotAReference::Part {
            given: shown.clone(),
            part,
            text: text.chars().take(160).collect(),
            rule,
        };
        let (rest, digest) = match given.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse().map_err(|source| NotAReference::Digest { given: shown.clone(), source })?;
                (rest, Some(digest))
            }
            None => (given, None),
        };
        // A colon after the last slash starts a tag; one before it belongs to the host's port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            Some(_) | None => (rest, None),
        };
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(part("tag", tag, TAG_RULE));
        }
        let (host, path) = split_host(name);
        if !is_host(host) {
            return Err(part("host", host, HOST_RULE));
        }
        if !is_repository(path) {
            return Err(part("repository", path, PATH_RULE));
        }
        let host = if host == "index.docker.io" { DEFAULT_HOST } else { host };
        let library = host == DEFAULT_HOST && !path.contains('/');
        let repository = if library { format!("library/{path}") } else { path.to_owned() };
        if host.len() + 1 + repository.len() > MAX_NAME_BYTES {
            return Err(NotAReference::TooLong { given: shown });
        }
        let tag = match (tag, digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some("latest".to_owned()),
            (None, Some(_)) => None,
        };
        Ok(Reference { host: host.to_owned(), repository, tag, digest })
    }
}

/// The first part is a host when it could not be a repository's: it has a dot, a colon or an upper-case letter, or is `localhost`.
fn split_host(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, path))
            if first.contains(['.', ':', '['])
                || first == "localhost"
                || first.contains(|c: char| c.is_ascii_uppercase()) =>
        {
            (first, path)
        }
        Some(_) | None => (DEFAULT_HOST, name),
    }
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let Some((address, port)) = rest.split_once(']') else { return false };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            match port.strip_prefix(':') {
                Some(port) => return is_port(port),
                None => return port.is_empty(),
            }
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.split('.').all(label) && port.is_none_or(is_port)
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_repository(path: &str) -> bool {
    path.split('/').all(is_component)
}

fn is_component(component: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    if !word(first) || !word(last) {
        return false;
    }
    bytes
        .split(|b| word(*b))
        .all(|separator| matches!(separator, b"" | b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let bytes = tag.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= MAX_TAG_BYTES
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        && !matches!(bytes[0], b'.' | b'-')
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn short_names_are_completed_as_docker_does() {
        let pinned = format!("host:5000/a/b:1@sha256:{HEX}");
        let table = [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.25", "docker.io/library/nginx:1.25"),
            ("team/app", "docker.io/team/app:latest"),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("localhost/x", "localhost/x:latest"),
            ("host:5000/x", "host:5000/x:latest"),
            ("[::1]:5000/x:y", "[::1]:5000/x:y"),
            ("Registry/x", "Registry/x:latest"),
            ("public.ecr.aws/docker/library/httpd:2.4", "public.ecr.aws/docker/library/httpd:2.4"),
            ("a__b-c---d/f_g.h", "docker.io/a__b-c---d/f_g.h:latest"),
            (&pinned, &pinned),
        ];
        for (given, canonical) in table {
            assert_eq!(given.parse::<Reference>().unwrap().to_string(), canonical);
        }
        let digest_only = format!("nginx@sha256:{HEX}").parse::<Reference>().unwrap();
        assert_eq!(digest_only.tag(), None);
        assert_eq!(digest_only.wanted(), format!("sha256:{HEX}"));
    }

    #[test]
    fn names_outside_the_grammar_are_refused() {
        let long = "a".repeat(300);
        let long_tag = format!("a:{}", "t".repeat(129));
        let refused = [
            "",
            " ",
            "/",
            "a/",
            "/a",
            "a//b",
            "a/../b",
            "a/../../b",
            "..",
            ".",
            "nginx:",
            "nginx:tag/..",
            "nginx:.x",
            "nginx:-x",
            "nginx@",
            "nginx@sha256:abc",
            "Nginx",
            "docker.io/Nginx",
            "a b",
            "a\nb",
            "a\0b",
            "nginx:a b",
            "-a",
            "a-",
            "a...b",
            "a___b",
            "host:0/x",
            "host:99999/x",
            "host:/x",
            "ho_st.x/y",
            "[::1/x",
            "[zz]/x",
            "ngіnx",
            "http://host/x",
            "user@host/x",
            "x:1:2",
            "a.b/",
            &long,
            &long_tag,
        ];
        for given in refused {
            assert!(given.parse::<Reference>().is_err(), "{given:?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn whatever_parses_has_one_canonical_form(text in "[a-zA-Z0-9._:/@\\[\\]-]{0,60}") {
            if let Ok(reference) = text.parse::<Reference>() {
                let canonical = reference.to_string();
                prop_assert_eq!(canonical.parse::<Reference>().unwrap(), reference.clone());
                prop_assert!(!reference.repository().split('/').any(|part| part.is_empty() || part == ".." || part == "."));
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in any::<String>()) {
            drop(text.parse::<Reference>());
        }
    }
}
