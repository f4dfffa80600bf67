//! PAX extended headers: `"<length> <key>=<value>\n"` records that override fields of the header they precede.

use super::header::Header;
use super::{Time, Xattrs};

const XATTR: &[u8] = b"SCHILY.xattr.";

/// The records of one extended header. Of two with the same key the later counts; an empty value overrides nothing.
#[derive(Debug, Default)]
pub(super) struct Records(Vec<(Vec<u8>, Vec<u8>)>);

impl Records {
    pub(super) fn parse(mut rest: &[u8]) -> Result<Self, String> {
        let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        // Version 0.0 of GNU's sparse format repeats two keys, which together make the map of version 0.1.
        let mut sparse_map: Vec<u8> = Vec::new();
        let mut sparse_numbers = 0usize;
        while !rest.is_empty() {
            let Record { key, value, after } = record(rest)?;
            rest = after;
            match key {
                b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                    let expected: &[u8] =
                        if sparse_numbers.is_multiple_of(2) { b"GNU.sparse.offset" } else { b"GNU.sparse.numbytes" };
                    if key != expected || value.contains(&b',') {
                        return Err("its sparse map's records are out of order".to_owned());
                    }
                    if sparse_numbers > 0 {
                        sparse_map.push(b',');
                    }
                    sparse_map.extend_from_slice(value);
                    sparse_numbers += 1;
                }
                _ => records.push((key.to_vec(), value.to_vec())),
            }
        }
        if sparse_numbers > 0 {
            records.push((b"GNU.sparse.map".to_vec(), sparse_map));
        }
        Ok(Records(records))
    }

    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        let (_, value) = self.0.iter().rev().find(|(each, _)| each == key.as_bytes())?;
        (!value.is_empty()).then_some(value)
    }

    /// Lays the records over the header, and gives the extended attributes.
    pub(super) fn apply(&self, header: &mut Header) -> Result<Xattrs, String> {
        if let Some(path) = self.get("path") {
            header.name = path.to_vec();
        }
        if let Some(link) = self.get("linkpath") {
            header.link = link.to_vec();
        }
        let number = |key: &str, field: i64| match self.get(key) {
            Some(value) => decimal(value).ok_or(format!("PAX record {key:?} is not a number")),
            None => Ok(field),
        };
        header.uid = number("uid", header.uid)?;
        header.gid = number("gid", header.gid)?;
        header.size = number("size", header.size)?;
        for key in ["atime", "ctime", "mtime"] {
            if let Some(value) = self.get(key) {
                let time = time(value).ok_or(format!("PAX record {key:?} is not a time"))?;
                if key == "mtime" {
                    header.mtime = time;
                }
            }
        }
        let mut xattrs = Xattrs::new();
        for (key, value) in &self.0 {
            if let Some(name) = key.strip_prefix(XATTR).filter(|_| !value.is_empty()) {
                xattrs.retain(|(each, _)| each != name);
                xattrs.push((name.to_vec(), value.clone()));
            }
        }
        Ok(xattrs)
    }
}

struct Record<'a> {
    key: &'a [u8],
    value: &'a [u8],
    after: &'a [u8],
}

/// The first record, and what follows it.
fn record(rest: &[u8]) -> Result<Record<'_>, String> {
    let malformed = || "a PAX record is not \"<length> <key>=<value>\" and a line feed".to_owned();
    let space = rest.iter().take(20).position(|byte| *byte == b' ').ok_or_else(malformed)?;
    let length = decimal(&rest[..space]).and_then(|n| usize::try_from(n).ok()).ok_or_else(malformed)?;
    // Shorter than "5 k=\n" is none; its end must lie behind its space and within what there is.
    if length < 5 || length > rest.len() || length < space + 2 {
        return Err(malformed());
    }
    let (this, after) = rest.split_at(length);
    let body = this[space + 1..].strip_suffix(b"\n").ok_or_else(malformed)?;
    let equals = body.iter().position(|byte| *byte == b'=').ok_or_else(malformed)?;
    let (key, value) = (&body[..equals], &body[equals + 1..]);
    let is_text = matches!(key, b"path" | b"linkpath" | b"uname" | b"gname");
    if key.is_empty() || key.contains(&0) || is_text && value.contains(&0) {
        return Err("a PAX record has a NUL in its name, or no name".to_owned());
    }
    Ok(Record { key, value, after })
}

/// As Go's ParseInt in base ten: an optional sign and digits.
pub(super) fn decimal(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn time(text: &[u8]) -> Option<Time> {
    let (whole, fraction) = match text.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &[][..]),
    };
    let seconds = decimal(whole)?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanoseconds = (0..9).fold(0u32, |n, at| n * 10 + fraction.get(at).map_or(0, |digit| u32::from(digit - b'0')));
    if nanoseconds > 0 && whole.starts_with(b"-") {
        return Some(Time { seconds: seconds.checked_sub(1)?, nanoseconds: 1_000_000_000 - nanoseconds });
    }
    Some(Time { seconds, nanoseconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_that_go_refuses_are_refused() {
        let refused: [&[u8]; 12] = [
            b"6 k=1",
            b"06 k=1\n ",
            b"99 k=1\n",
            b"3 k\n",
            b"k=1\n",
            b"6 =12\n",
            b"-6 k=1\n",
            b"7 k=12 ",
            b"0 k=1\n",
            b"1 k=1\n",
            b"11 path=a\0\n",
            b"99999999999999999999 a=b\n",
        ];
        for bytes in refused {
            assert!(Records::parse(bytes).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn the_later_record_counts_and_an_empty_one_does_not() {
        let records = Records::parse(b"6 k=1\n6 k=2\n5 e=\n").unwrap();
        assert_eq!(records.get("k"), Some(&b"2"[..]));
        assert_eq!(records.get("e"), None);
    }

    #[test]
    fn times_before_1970_count_upwards() {
        assert_eq!(time(b"-1.5"), Some(Time { seconds: -2, nanoseconds: 500_000_000 }));
        assert_eq!(time(b"1.000000001999"), Some(Time { seconds: 1, nanoseconds: 1 }));
        assert_eq!(time(b"1."), Some(Time { seconds: 1, nanoseconds: 0 }));
        assert_eq!(time(b".5"), None);
        assert_eq!(time(b"1.x"), None);
    }
}
