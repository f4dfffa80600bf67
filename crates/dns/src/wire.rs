//! Where things are in a message (RFC 1035, section 4.1), without understanding more of them than a resolver must. Every
//! function takes any bytes, and follows no pointer: a name that ends in one ends there.

use std::ops::Range;

pub(crate) const HEADER: usize = 12;
/// Type and class of a question.
pub(crate) const QUESTION_TAIL: usize = 4;
/// Of a name as it is sent, with the lengths of its labels and the root's.
const MAX_NAME: usize = 255;
const MAX_LABEL: u8 = 63;
const POINTER: u8 = 0b1100_0000;

/// Bits of the second and third byte of a header.
pub(crate) mod flag {
    pub(crate) const RESPONSE: u16 = 1 << 15;
    pub(crate) const AUTHORITATIVE: u16 = 1 << 10;
    pub(crate) const TRUNCATED: u16 = 1 << 9;
    pub(crate) const RECURSION_DESIRED: u16 = 1 << 8;
    pub(crate) const RECURSION_AVAILABLE: u16 = 1 << 7;
    pub(crate) const AUTHENTIC_DATA: u16 = 1 << 5;
    pub(crate) const CHECKING_DISABLED: u16 = 1 << 4;
    pub(crate) const OPCODE: u16 = 0b1111 << 11;
    pub(crate) const RCODE: u16 = 0b1111;
}

/// DNSSEC OK, in the place of an OPT record's TTL (RFC 3225).
pub(crate) const DNSSEC_OK: u32 = 1 << 15;

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|two| u16::from_be_bytes(*two))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|four| u32::from_be_bytes(*four))
}

/// Id, flags, and how many questions, answers, authorities and additional records are claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: u16,
    pub(crate) flags: u16,
    pub(crate) questions: u16,
    pub(crate) answers: u16,
    pub(crate) authorities: u16,
    pub(crate) additional: u16,
}

impl Header {
    pub(crate) fn read(bytes: &[u8]) -> Option<Header> {
        let word = |number: usize| u16_at(bytes, 2 * number);
        Some(Header {
            id: word(0)?,
            flags: word(1)?,
            questions: word(2)?,
            answers: word(3)?,
            authorities: word(4)?,
            additional: word(5)?,
        })
    }

    pub(crate) fn bytes(self) -> [u8; HEADER] {
        let words = [self.id, self.flags, self.questions, self.answers, self.authorities, self.additional];
        let mut bytes = [0; HEADER];
        for (place, word) in bytes.chunks_exact_mut(2).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    pub(crate) fn opcode(self) -> u16 {
        self.flags & flag::OPCODE
    }

    pub(crate) fn rcode(self) -> u8 {
        // Four bits.
        (self.flags & flag::RCODE) as u8
    }
}

/// Behind a name that is spelt out; none where it is not, or is too long.
pub(crate) fn after_plain_name(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        let length = *bytes.get(at)?;
        at += 1;
        match length {
            0 => break,
            1..=MAX_LABEL => at += usize::from(length),
            _ => return None,
        }
    }
    (at - start <= MAX_NAME).then_some(at)
}

/// Behind a name that may end in a pointer.
fn after_name(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        let length = *bytes.get(at)?;
        at += 1;
        match length {
            0 => break,
            1..=MAX_LABEL => at += usize::from(length),
            POINTER.. => {
                at += 1;
                break;
            }
            _ => return None,
        }
    }
    (at - start <= MAX_NAME && at <= bytes.len()).then_some(at)
}

/// A resource record, by its places in the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) start: usize,
    pub(crate) kind: u16,
    pub(crate) class: u16,
    pub(crate) ttl_at: usize,
    pub(crate) ttl: u32,
    pub(crate) content: Range<usize>,
}

impl Record {
    pub(crate) fn read(bytes: &[u8], start: usize) -> Option<Record> {
        let at = after_name(bytes, start)?;
        let length = usize::from(u16_at(bytes, at + 8)?);
        let content = at + 10..at + 10 + length;
        bytes.get(content.clone())?;
        Some(Record {
            start,
            kind: u16_at(bytes, at)?,
            class: u16_at(bytes, at + 2)?,
            ttl_at: at + 4,
            ttl: u32_at(bytes, at + 4)?,
            content,
        })
    }

    pub(crate) fn end(&self) -> usize {
        self.content.end
    }

    pub(crate) fn owner_is_root(&self, bytes: &[u8]) -> bool {
        bytes.get(self.start) == Some(&0)
    }
}

/// The labels of a name that is spelt out, from the first; the root's is none of them.
pub(crate) fn labels(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = name;
    std::iter::from_fn(move || {
        let (length, behind) = rest.split_first()?;
        let (label, behind) = behind.split_at_checked(usize::from(*length)).filter(|(label, _)| !label.is_empty())?;
        rest = behind;
        Some(label)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_where_they_end() {
        assert_eq!(after_plain_name(b"\x03www\x02de\x00rest", 0), Some(8));
        assert_eq!(after_plain_name(b"\x00", 0), Some(1));
        assert_eq!(after_plain_name(b"\x03www\xc0\x0c", 0), None, "a pointer");
        assert_eq!(after_name(b"\x03www\xc0\x0c", 0), Some(6));
        assert_eq!(after_name(b"\x03www\xc0", 0), None, "half a pointer");
        assert_eq!(after_name(b"\x40", 0), None, "a kind of label that nobody uses");
        assert_eq!(after_plain_name(b"\x09short", 0), None);
        let longest: Vec<u8> = std::iter::repeat_n([1u8, b'a'], 127).flatten().chain([0]).collect();
        assert_eq!(after_plain_name(&longest, 0), Some(255));
        let longer: Vec<u8> = [&[1u8, b'a'][..], &longest].concat();
        assert_eq!(after_plain_name(&longer, 0), None);
    }

    #[test]
    fn labels_one_by_one() {
        let found: Vec<&[u8]> = labels(b"\x03www\x02de\x00").collect();
        assert_eq!(found, [&b"www"[..], b"de"]);
        assert_eq!(labels(b"\x05www").count(), 0);
    }
}
