//! The framing of a log segment: one record for a line, or for a part of a line that is longer than a record.
//!
//! ```text
//! 0      1      2        4            8              16
//! ┌──────┬──────┬────────┬────────────┬──────────────┬───────────
//! │ 0xCA │flags │ check  │ length     │ time, ms     │ bytes …
//! └──────┴──────┴────────┴────────────┴──────────────┴───────────
//! ```
//!
//! Numbers are little-endian. `check` covers flags, length and time: a tail that a power cut left torn, zeroed or
//! shifted is not taken for a record. The line's own end is not stored; a record marked *partial* has none.

use ecs::Timestamp;

/// A line longer than this is stored as several records, as Docker's log drivers do.
pub const MAX_RECORD_BYTES: usize = 16 << 10;

pub(crate) const HEADER_BYTES: usize = 16;
const MAGIC: u8 = 0xCA;
const STDERR: u8 = 1;
const PARTIAL: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    Stdout,
    Stderr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) stream: Stream,
    /// No line end follows these bytes.
    pub(crate) partial: bool,
    pub(crate) length: usize,
    pub(crate) time: Timestamp,
}

impl Header {
    pub(crate) fn encode(self) -> [u8; HEADER_BYTES] {
        let flags = if self.stream == Stream::Stderr { STDERR } else { 0 } | if self.partial { PARTIAL } else { 0 };
        let length = self.length as u32;
        let mut out = [0; HEADER_BYTES];
        out[0] = MAGIC;
        out[1] = flags;
        out[2..4].copy_from_slice(&check(flags, length, self.time.epoch_ms).to_le_bytes());
        out[4..8].copy_from_slice(&length.to_le_bytes());
        out[8..16].copy_from_slice(&self.time.epoch_ms.to_le_bytes());
        out
    }

    /// Nothing where these bytes do not begin a record.
    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Header> {
        let [magic, flags, check0, check1, l0, l1, l2, l3, time @ ..] = *bytes;
        let (length, epoch_ms) = (u32::from_le_bytes([l0, l1, l2, l3]), u64::from_le_bytes(time));
        let whole = magic == MAGIC
            && flags & !(STDERR | PARTIAL) == 0
            && length as usize <= MAX_RECORD_BYTES
            && u16::from_le_bytes([check0, check1]) == check(flags, length, epoch_ms);
        whole.then_some(Header {
            stream: if flags & STDERR == 0 { Stream::Stdout } else { Stream::Stderr },
            partial: flags & PARTIAL != 0,
            length: length as usize,
            time: Timestamp::from_epoch_ms(epoch_ms),
        })
    }
}

/// Sixteen bits of a multiplicative hash (Knuth, TAOCP 6.4, with the golden ratio of 64 bits); never of all zeros
/// to zero.
fn check(flags: u8, length: u32, epoch_ms: u64) -> u16 {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let first = (u64::from(length) << 8 | u64::from(flags)).wrapping_add(GOLDEN).wrapping_mul(GOLDEN);
    let both = (first ^ epoch_ms).wrapping_mul(GOLDEN);
    (both >> 48) as u16
}

/// Cuts one stream's bytes into records. Keeps the beginning of a line whose end has not come yet.
#[derive(Debug)]
pub(crate) struct Splitter {
    stream: Stream,
    pending: Vec<u8>,
}

impl Splitter {
    pub(crate) fn new(stream: Stream) -> Splitter {
        Splitter { stream, pending: Vec::new() }
    }

    /// Appends the records of `data` to `out` until `out` has `enough` bytes. Returns how much of `data` it took.
    pub(crate) fn split(&mut self, data: &[u8], time: Timestamp, enough: usize, out: &mut Vec<u8>) -> usize {
        let mut rest = data;
        while !rest.is_empty() && out.len() < enough {
            match memchr::memchr(b'\n', rest) {
                Some(end) if self.pending.is_empty() => {
                    line(self.stream, &rest[..end], time, out);
                    rest = &rest[end + 1..];
                }
                Some(end) => {
                    self.pending.extend_from_slice(&rest[..end]);
                    line(self.stream, &self.pending, time, out);
                    self.pending = Vec::new();
                    rest = &rest[end + 1..];
                }
                None => {
                    self.pending.extend_from_slice(rest);
                    rest = &[];
                    let mut cut = 0;
                    while self.pending.len() - cut > MAX_RECORD_BYTES {
                        part(self.stream, &self.pending[cut..cut + MAX_RECORD_BYTES], time, out);
                        cut += MAX_RECORD_BYTES;
                    }
                    self.pending.drain(..cut);
                }
            }
        }
        data.len() - rest.len()
    }

    /// The stream has ended: what it wrote after its last line end is a record too.
    pub(crate) fn end(&mut self, time: Timestamp, out: &mut Vec<u8>) {
        if !self.pending.is_empty() {
            part(self.stream, &std::mem::take(&mut self.pending), time, out);
        }
    }
}

fn line(stream: Stream, mut bytes: &[u8], time: Timestamp, out: &mut Vec<u8>) {
    while bytes.len() > MAX_RECORD_BYTES {
        let (first, rest) = bytes.split_at(MAX_RECORD_BYTES);
        part(stream, first, time, out);
        bytes = rest;
    }
    out.extend_from_slice(&Header { stream, partial: false, length: bytes.len(), time }.encode());
    out.extend_from_slice(bytes);
}

fn part(stream: Stream, bytes: &[u8], time: Timestamp, out: &mut Vec<u8>) {
    out.extend_from_slice(&Header { stream, partial: true, length: bytes.len(), time }.encode());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn zeros_and_a_changed_byte_are_no_header() {
        assert_eq!(Header::decode(&[0; HEADER_BYTES]), None);
        let time = Timestamp::from_epoch_ms(1_700_000_000_123);
        let header = Header { stream: Stream::Stderr, partial: true, length: 77, time };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes), Some(header));
        for place in 0..HEADER_BYTES {
            let mut changed = bytes;
            changed[place] ^= 0x10;
            assert_eq!(Header::decode(&changed), None, "byte {place}");
        }
    }

    /// The bytes that a reader would print.
    fn printed(mut segment: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some((head, rest)) = segment.split_first_chunk::<HEADER_BYTES>() {
            let header = Header::decode(head).expect("our own record");
            out.extend_from_slice(&rest[..header.length]);
            if !header.partial {
                out.push(b'\n');
            }
            segment = &rest[header.length..];
        }
        out
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read(pieces in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200),
                Just(vec![b'x'; MAX_RECORD_BYTES]),
                Just(vec![b'y'; MAX_RECORD_BYTES - 1]),
                Just(vec![b'\n']),
            ], 0..12), enough in 1usize..100_000)
        {
            let mut splitter = Splitter::new(Stream::Stdout);
            let mut segment = Vec::new();
            for piece in &pieces {
                let mut rest = piece.as_slice();
                while !rest.is_empty() {
                    let mut batch = Vec::new();
                    let taken = splitter.split(rest, Timestamp::from_epoch_ms(1), enough, &mut batch);
                    rest = &rest[taken..];
                    segment.extend(batch);
                }
            }
            splitter.end(Timestamp::from_epoch_ms(1), &mut segment);
            prop_assert_eq!(printed(&segment), pieces.concat());
        }
    }
}
