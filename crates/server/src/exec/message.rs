//! Messages of the data channel that session-manager-plugin speaks, as bytes
//! (<https://github.com/aws/session-manager-plugin>, `src/message`). Everything is big-endian:
//!
//! | | at | bytes | | at | bytes |
//! |---|---|---|---|---|---|
//! | header length, 116 | 0 | 4 | message id, its later half first | 64 | 16 |
//! | message type, padded with spaces | 4 | 32 | SHA-256 of the payload | 80 | 32 |
//! | schema version, 1 | 36 | 4 | payload type | 112 | 4 |
//! | created, ms since 1970 | 40 | 8 | payload length | 116 | 4 |
//! | sequence number | 48 | 8 | payload | 120 | |
//! | flags: 1 first, 2 last | 56 | 8 | | | |

use ecs::Timestamp;
use ring::digest::{SHA256, digest};
use serde_json::json;

use crate::dice;

const HEADER_BYTES: usize = 116;
const TYPE_BYTES: usize = 32;
const SCHEMA: u32 = 1;

pub(super) const INPUT: &str = "input_stream_data";
pub(super) const OUTPUT: &str = "output_stream_data";
pub(super) const ACKNOWLEDGE: &str = "acknowledge";
pub(super) const CLOSED: &str = "channel_closed";

/// What a payload is.
pub(super) mod payload {
    pub(in super::super) const OUTPUT: u32 = 1;
    pub(in super::super) const SIZE: u32 = 3;
    pub(in super::super) const HANDSHAKE_REQUEST: u32 = 5;
    pub(in super::super) const HANDSHAKE_RESPONSE: u32 = 6;
    pub(in super::super) const HANDSHAKE_COMPLETE: u32 = 7;
    pub(in super::super) const FLAG: u32 = 10;
}

/// In the last message, what the command ended with.
pub(super) const EXIT_CODE: &str = "ExitCode";
/// The flag by which a client ends its session.
pub(super) const TERMINATE: u32 = 2;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: String,
    pub(super) created_at: Timestamp,
    pub(super) sequence: i64,
    pub(super) flags: u64,
    pub(super) id: [u8; 16],
    pub(super) payload_type: u32,
    pub(super) payload: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("a message has fewer bytes than its header says")]
    Short,
    #[error("a message's type is no text")]
    Type,
    #[error("a message's payload is not the one that its digest is of")]
    Digest,
}

impl Message {
    pub(super) fn new(kind: &str, sequence: i64, payload_type: u32, payload: Vec<u8>, now: Timestamp) -> Self {
        Message {
            kind: kind.to_owned(),
            created_at: now,
            sequence,
            flags: u64::from(sequence == 0),
            id: dice::bytes(),
            payload_type,
            payload,
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + 4 + self.payload.len());
        bytes.extend((HEADER_BYTES as u32).to_be_bytes());
        bytes.extend(format!("{:TYPE_BYTES$}", self.kind).as_bytes());
        bytes.extend(SCHEMA.to_be_bytes());
        bytes.extend(self.created_at.epoch_ms.to_be_bytes());
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.flags.to_be_bytes());
        bytes.extend(&self.id[8..]);
        bytes.extend(&self.id[..8]);
        bytes.extend(digest(&SHA256, &self.payload).as_ref());
        bytes.extend(self.payload_type.to_be_bytes());
        bytes.extend((self.payload.len() as u32).to_be_bytes());
        bytes.extend(&self.payload);
        bytes
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Message, Unreadable> {
        let mut rest = Rest(bytes);
        // Further members of the header would come before the payload's length.
        let header = u32::from_be_bytes(rest.take()?) as usize;
        let kind: [u8; TYPE_BYTES] = rest.take()?;
        let kind = std::str::from_utf8(&kind).map_err(|_| Unreadable::Type)?;
        let kind = kind.trim_matches([' ', '\0']).to_owned();
        let _schema: [u8; 4] = rest.take()?;
        let created_at = Timestamp::from_epoch_ms(u64::from_be_bytes(rest.take()?));
        let sequence = i64::from_be_bytes(rest.take()?);
        let flags = u64::from_be_bytes(rest.take()?);
        let (later, earlier): ([u8; 8], [u8; 8]) = (rest.take()?, rest.take()?);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&earlier);
        id[8..].copy_from_slice(&later);
        let sum: [u8; 32] = rest.take()?;
        let payload_type = u32::from_be_bytes(rest.take()?);
        let mut rest = Rest(bytes.get(header..).ok_or(Unreadable::Short)?);
        let length = u32::from_be_bytes(rest.take()?) as usize;
        let payload = rest.0.get(..length).ok_or(Unreadable::Short)?.to_vec();
        // An acknowledgement of the plugin has none.
        if sum != [0; 32] && digest(&SHA256, &payload).as_ref() != sum {
            return Err(Unreadable::Digest);
        }
        Ok(Message { kind, created_at, sequence, flags, id, payload_type, payload })
    }

    pub(super) fn id_text(&self) -> String {
        let hex = dice::to_hex(&self.id);
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }
}

/// That a message has come.
pub(super) fn acknowledgement(received: &Message, now: Timestamp) -> Message {
    let content = json!({
        "AcknowledgedMessageType": received.kind,
        "AcknowledgedMessageId": received.id_text(),
        "AcknowledgedMessageSequenceNumber": received.sequence,
        "IsSequentialMessage": true,
    });
    let mut message = Message::new(ACKNOWLEDGE, 0, 0, content.to_string().into_bytes(), now);
    // First and last at once.
    message.flags = 3;
    message
}

struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(Unreadable::Short)?;
        self.0 = rest;
        Ok(*taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written down member by member from the table above.
    fn hello() -> Vec<u8> {
        let mut bytes = vec![0, 0, 0, 116];
        bytes.extend(b"input_stream_data               ");
        bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3, 0xe8, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend([8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7]);
        // SHA-256 of "abc": FIPS 180-2, B.1.
        let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        bytes.extend((0..64).step_by(2).map(|at| u8::from_str_radix(&sum[at..at + 2], 16).expect("hex")));
        bytes.extend([0, 0, 0, 1, 0, 0, 0, 3]);
        bytes.extend(b"abc");
        bytes
    }

    #[test]
    fn a_message_is_read_and_written_as_the_plugin_has_it() {
        let message = Message::read(&hello()).expect("a message");
        assert_eq!((message.kind.as_str(), message.sequence, message.payload_type), (INPUT, 2, payload::OUTPUT));
        assert_eq!((message.created_at.epoch_ms, message.payload.as_slice()), (1_000, &b"abc"[..]));
        assert_eq!(message.id_text(), "00010203-0405-0607-0809-0a0b0c0d0e0f");
        assert_eq!(message.bytes(), hello());
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let good = hello();
        for length in 0..good.len() {
            Message::read(&good[..length]).expect_err("cut off");
        }
        let mut changed = good.clone();
        *changed.last_mut().expect("it has bytes") ^= 1;
        assert_eq!(Message::read(&changed), Err(Unreadable::Digest));
        let mut far = good;
        far[..4].copy_from_slice(&[0xff; 4]);
        assert_eq!(Message::read(&far), Err(Unreadable::Short));
    }
}
