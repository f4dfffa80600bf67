//! The framing of a log segment: one record for what one read from a container's pipe brought, cut after its last
//! line end.
//!
//! ```text
//! 0      1      2        4            8              16             24
//! ┌──────┬──────┬────────┬────────────┬──────────────┬──────────────┬───────────
//! │ 0xCB │flags │ check  │ length     │ time, ms     │ before       │ bytes …
//! └──────┴──────┴────────┴────────────┴──────────────┴──────────────┴───────────
//! ```
//!
//! Numbers are little-endian. The bytes are the container's own, line ends included; the last line of a record marked
//! *partial* goes on in its stream's next record. `before` counts the bytes in all earlier records of the container,
//! so that a reader knows how much a gap has cost. `check` covers everything before the bytes: a tail that a power cut
//! left torn, zeroed or shifted is not taken for a record.

pub use agent_protocol::logs::Stream;
use ecs::Timestamp;

/// A line longer than this is handed out in several pieces, as Docker's log drivers do.
pub const MAX_PIECE_BYTES: usize = 16 << 10;

/// The most bytes of one record: one read, and the begun line before it.
pub(crate) const MAX_RECORD_BYTES: usize = 256 << 10;

pub(crate) const HEADER_BYTES: usize = 24;
const MAGIC: u8 = 0xCB;
const STDERR: u8 = 1;
const PARTIAL: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) stream: Stream,
    /// The last line has no end yet.
    pub(crate) partial: bool,
    pub(crate) length: usize,
    pub(crate) time: Timestamp,
    /// How many bytes of output the container's earlier records hold.
    pub(crate) before: u64,
}

impl Header {
    pub(crate) fn encode(self) -> [u8; HEADER_BYTES] {
        let flags = if self.stream == Stream::Stderr { STDERR } else { 0 } | if self.partial { PARTIAL } else { 0 };
        let length = self.length as u32;
        let mut out = [0; HEADER_BYTES];
        out[0] = MAGIC;
        out[1] = flags;
        out[2..4].copy_from_slice(&check(flags, length, self.time.epoch_ms, self.before).to_le_bytes());
        out[4..8].copy_from_slice(&length.to_le_bytes());
        out[8..16].copy_from_slice(&self.time.epoch_ms.to_le_bytes());
        out[16..24].copy_from_slice(&self.before.to_le_bytes());
        out
    }

    /// Nothing where these bytes do not begin a record.
    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Header> {
        let [magic, flags, check0, check1, l0, l1, l2, l3, t0, t1, t2, t3, t4, t5, t6, t7, before @ ..] = *bytes;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        let epoch_ms = u64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7]);
        let before = u64::from_le_bytes(before);
        let whole = magic == MAGIC
            && flags & !(STDERR | PARTIAL) == 0
            && length as usize <= MAX_RECORD_BYTES
            && u16::from_le_bytes([check0, check1]) == check(flags, length, epoch_ms, before);
        whole.then_some(Header {
            stream: if flags & STDERR == 0 { Stream::Stdout } else { Stream::Stderr },
            partial: flags & PARTIAL != 0,
            length: length as usize,
            time: Timestamp::from_epoch_ms(epoch_ms),
            before,
        })
    }
}

/// Sixteen bits of a multiplicative hash (Knuth, TAOCP 6.4, with the golden ratio of 64 bits); never of all zeros
/// to zero.
fn check(flags: u8, length: u32, epoch_ms: u64, before: u64) -> u16 {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    let first = (u64::from(length) << 8 | u64::from(flags)).wrapping_add(GOLDEN).wrapping_mul(GOLDEN);
    let second = (first ^ epoch_ms).wrapping_mul(GOLDEN);
    let all = (second.rotate_left(32) ^ before).wrapping_mul(GOLDEN);
    (all >> 48) as u16
}

/// Where what has arrived of a stream is cut: how much of it makes a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) length: usize,
    pub(crate) partial: bool,
}

/// The record that `bytes`, which begin a line or go on with a long one, make now. What is behind it waits for its
/// line's end, and is never longer than a piece.
pub(crate) fn cut(bytes: &[u8]) -> Cut {
    let lines = memchr::memrchr(b'\n', bytes).map_or(0, |end| end + 1);
    if bytes.len() - lines <= MAX_PIECE_BYTES {
        return Cut { length: lines, partial: false };
    }
    Cut { length: without_half_letter(bytes), partial: true }
}

/// Where a piece of a long line ends: never inside of a UTF-8 sequence, if it is text.
pub(crate) fn piece_end(bytes: &[u8]) -> usize {
    if bytes.len() <= MAX_PIECE_BYTES { bytes.len() } else { without_half_letter(&bytes[..MAX_PIECE_BYTES]) }
}

/// The length without the UTF-8 sequence at the end whose last bytes are still to come.
fn without_half_letter(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let byte = bytes[bytes.len() - back];
        // 10xxxxxx goes on; what begins a sequence says how long it is.
        let wanted = match byte {
            0x80..=0xBF => continue,
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            0x00..=0x7F | 0xC0..=0xC1 | 0xF5..=0xFF => 1,
        };
        return if wanted > back { bytes.len() - back } else { bytes.len() };
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_and_a_changed_byte_are_no_header() {
        assert_eq!(Header::decode(&[0; HEADER_BYTES]), None);
        let time = Timestamp::from_epoch_ms(1_700_000_000_123);
        let header = Header { stream: Stream::Stderr, partial: true, length: 77, time, before: 5 << 32 };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes), Some(header));
        for place in 0..HEADER_BYTES {
            let mut changed = bytes;
            changed[place] ^= 0x10;
            assert_eq!(Header::decode(&changed), None, "byte {place}");
        }
    }

    #[test]
    fn a_record_ends_with_a_line_or_is_a_part_of_a_long_one() {
        assert_eq!(cut(b"one\ntwo\nthr"), Cut { length: 8, partial: false });
        assert_eq!(cut(b"no end"), Cut { length: 0, partial: false });
        let long = vec![b'x'; MAX_PIECE_BYTES + 1];
        assert_eq!(cut(&long), Cut { length: MAX_PIECE_BYTES + 1, partial: true });
        let after_a_line = [b"a\n", long.as_slice()].concat();
        assert_eq!(cut(&after_a_line), Cut { length: MAX_PIECE_BYTES + 3, partial: true });
    }

    #[test]
    fn a_letter_is_not_cut_in_two() {
        // U+20AC, the euro sign, is E2 82 AC.
        let euro = "€".repeat(10_000);
        for offset in 0..3 {
            let bytes = &euro.as_bytes()[..MAX_PIECE_BYTES + 9 + offset];
            let cut = cut(bytes);
            assert!(cut.partial && std::str::from_utf8(&bytes[..cut.length]).is_ok(), "{offset}");
            assert!(std::str::from_utf8(&bytes[..piece_end(bytes)]).is_ok());
        }
        let binary = vec![0x9F; MAX_PIECE_BYTES + 1];
        assert_eq!(cut(&binary), Cut { length: binary.len(), partial: true });
        assert_eq!(piece_end(&binary), MAX_PIECE_BYTES);
    }
}
