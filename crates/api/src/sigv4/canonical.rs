//! A request in the one form that is signed: Amazon's canonical request
//! (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv4-create-signed-request.html#create-canonical-request>).

use std::fmt::Write;

use super::{PathForm, Request};

/// `query` is canonical already, `payload` the hexadecimal SHA-256 of the body. Header values may be any bytes.
pub(super) fn request(
    request: &Request<'_>,
    signed_headers: &[String],
    query: &str,
    payload: &str,
    form: PathForm,
) -> Vec<u8> {
    let mut text = format!("{}\n{}\n{query}\n", request.method, path(request.path, form)).into_bytes();
    for name in signed_headers {
        text.extend_from_slice(name.as_bytes());
        text.push(b':');
        let values = request.headers.get_all(name);
        let mut first = true;
        for value in values {
            if !first {
                text.push(b',');
            }
            first = false;
            trimmed(value.as_bytes(), &mut text);
        }
        if first && name == "host" {
            text.extend_from_slice(request.authority.unwrap_or_default().as_bytes());
        }
        text.push(b'\n');
    }
    text.extend_from_slice(format!("\n{}\n{payload}", signed_headers.join(";")).as_bytes());
    text
}

/// A path on the wire is escaped once; this escapes it a second time, as all services but S3 have it.
fn path(path: &str, form: PathForm) -> String {
    match form {
        PathForm::AsSent => escape(path.as_bytes(), Slash::Kept),
        PathForm::Normalised => escape(normalised(path).as_bytes(), Slash::Kept),
    }
}

/// Without `.`, `..` and empty segments (RFC 3986, 5.2.4); a slash at the end stays.
fn normalised(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut folder = true;
    for segment in path.split('/') {
        folder = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    let end = if folder && !kept.is_empty() { "/" } else { "" };
    format!("/{}{end}", kept.join("/"))
}

/// Parameters unescaped, escaped in the one way, and sorted by name and then value. A plus is a plus: in a signed query a
/// space is `%20`.
pub(super) fn query<'a>(parameters: impl Iterator<Item = &'a (Vec<u8>, Vec<u8>)>) -> String {
    let mut escaped: Vec<(String, String)> =
        parameters.map(|(name, value)| (escape(name, Slash::Escaped), escape(value, Slash::Escaped))).collect();
    escaped.sort_unstable();
    let texts: Vec<String> = escaped.iter().map(|(name, value)| format!("{name}={value}")).collect();
    texts.join("&")
}

/// Names and values of a query, unescaped.
pub(super) fn parameters(query: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let texts = query.split('&').filter(|text| !text.is_empty());
    texts
        .map(|text| {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            (unescape(name), unescape(value))
        })
        .collect()
}

/// Runs of white space within become one space, those around go.
fn trimmed(value: &[u8], out: &mut Vec<u8>) {
    let words = value.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
    for (at, word) in words.enumerate() {
        if at > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(word);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Slash {
    Kept,
    Escaped,
}

fn escape(bytes: &[u8], slash: Slash) -> String {
    let mut out = String::with_capacity(bytes.len());
    for &byte in bytes {
        let plain = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'_' | b'~')
            || (byte == b'/' && slash == Slash::Kept);
        if plain {
            out.push(char::from(byte));
        } else {
            push_hex(&mut out, "%", byte, Digits::Upper);
        }
    }
    out
}

/// A percent sign without two digits after it stands for itself.
fn unescape(text: &str) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (byte, digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => {
                out.extend(u8::try_from(high * 16 + low));
                at += 3;
            }
            _ => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for &byte in bytes {
        push_hex(&mut out, "", byte, Digits::Lower);
    }
    out
}

#[derive(Clone, Copy)]
enum Digits {
    Upper,
    Lower,
}

fn push_hex(out: &mut String, before: &str, byte: u8, digits: Digits) {
    let written = match digits {
        Digits::Upper => write!(out, "{before}{byte:02X}"),
        Digits::Lower => write!(out, "{before}{byte:02x}"),
    };
    written.expect("a String takes what it is given");
}
