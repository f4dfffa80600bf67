//! WebSockets (RFC 6455): the handshake's answer, and frames over what HTTP has left.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::dice;

/// RFC 6455, 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Of a message with all its frames. The plugin sends a kilobyte of input at most.
const MESSAGE_BYTES: usize = 64 << 10;
const CONTROL_BYTES: usize = 125;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outgoing {
    Text,
    Binary,
    Pong,
    Close,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the websocket broke")]
    Broken(#[from] std::io::Error),
    #[error("the other side does not keep to RFC 6455: {0}")]
    Protocol(&'static str),
    #[error("a message has more than {MESSAGE_BYTES} bytes")]
    TooLong,
}

/// `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key`.
pub(super) fn accept(key: &[u8]) -> String {
    let mut hash = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key);
    hash.update(GUID.as_bytes());
    STANDARD.encode(hash.finish())
}

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Who reads and writes. "A client MUST mask all frames that it sends", and "a server MUST NOT mask any frames"
/// (RFC 6455, 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Server,
    Client,
}

/// Reads messages; those of control may come between the frames of another.
pub(super) struct Reader<Stream> {
    stream: Stream,
    side: Side,
    /// What has come of a message whose end has not.
    begun: Option<(u8, Vec<u8>)>,
}

impl<Stream: AsyncRead + Unpin> Reader<Stream> {
    pub(super) fn new(stream: Stream, side: Side) -> Self {
        Self { stream, side, begun: None }
    }

    /// Not to be given up half way.
    pub(super) async fn next(&mut self) -> Result<Incoming, Error> {
        loop {
            let (last, kind, bytes) = self.frame().await?;
            match kind {
                PING => return Ok(Incoming::Ping(bytes)),
                PONG => return Ok(Incoming::Pong),
                CLOSE => return Ok(Incoming::Close),
                TEXT | BINARY if self.begun.is_some() => return Err(Error::Protocol("a message within another")),
                TEXT | BINARY => self.begun = Some((kind, bytes)),
                CONTINUATION => {
                    let (_, begun) = self.begun.as_mut().ok_or(Error::Protocol("it continues what has not begun"))?;
                    begun.extend(bytes);
                }
                _ => return Err(Error::Protocol("an unknown kind of frame")),
            }
            if last && let Some((kind, bytes)) = self.begun.take() {
                return Ok(if kind == TEXT { Incoming::Text(bytes) } else { Incoming::Binary(bytes) });
            }
        }
    }

    async fn frame(&mut self) -> Result<(bool, u8, Vec<u8>), Error> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).await?;
        let (last, kind) = (head[0] & 0x80 != 0, head[0] & 0x0f);
        if head[0] & 0x70 != 0 {
            return Err(Error::Protocol("an extension that nobody has agreed on"));
        }
        match (self.side, head[1] & 0x80 != 0) {
            (Side::Server, false) => return Err(Error::Protocol("a client's frame without a mask")),
            (Side::Client, true) => return Err(Error::Protocol("a server's frame with a mask")),
            (Side::Server, true) | (Side::Client, false) => {}
        }
        let length = match head[1] & 0x7f {
            126 => u64::from(self.stream.read_u16().await?),
            127 => self.stream.read_u64().await?,
            short => u64::from(short),
        };
        if kind >= CLOSE && (length > CONTROL_BYTES as u64 || !last) {
            return Err(Error::Protocol("a frame of control that is long or in parts"));
        }
        let before = self.begun.as_ref().map_or(0, |(_, bytes)| bytes.len());
        let length = usize::try_from(length).map_err(|_| Error::TooLong)?;
        if before.saturating_add(length) > MESSAGE_BYTES {
            return Err(Error::TooLong);
        }
        let mut mask = [0; 4];
        if self.side == Side::Server {
            self.stream.read_exact(&mut mask).await?;
        }
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).await?;
        bytes.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        Ok((last, kind, bytes))
    }
}

pub(super) async fn write(
    to: &mut (impl AsyncWrite + Unpin),
    side: Side,
    kind: Outgoing,
    bytes: &[u8],
) -> Result<(), std::io::Error> {
    let kind = match kind {
        Outgoing::Text => TEXT,
        Outgoing::Binary => BINARY,
        Outgoing::Pong => PONG,
        Outgoing::Close => CLOSE,
    };
    let mut frame = vec![0x80 | kind];
    match (u8::try_from(bytes.len()), u16::try_from(bytes.len())) {
        (Ok(short), _) if usize::from(short) <= CONTROL_BYTES => frame.push(short),
        (_, Ok(length)) => {
            frame.push(126);
            frame.extend(length.to_be_bytes());
        }
        (_, Err(_)) => {
            frame.push(127);
            frame.extend((bytes.len() as u64).to_be_bytes());
        }
    }
    match side {
        Side::Server => frame.extend(bytes),
        Side::Client => {
            frame[1] |= 0x80;
            let mask = dice::bytes::<4>();
            frame.extend(mask);
            frame.extend(bytes.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        }
    }
    to.write_all(&frame).await?;
    to.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_is_the_rfcs_own() {
        // RFC 6455, 1.3.
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    async fn read(bytes: &[u8]) -> Vec<Result<Incoming, String>> {
        let mut reader = Reader::new(bytes, Side::Server);
        let mut read = Vec::new();
        loop {
            let next = reader.next().await.map_err(|error| error.to_string());
            let ended = next.is_err();
            read.push(next);
            if ended {
                return read;
            }
        }
    }

    #[tokio::test]
    async fn frames_of_clients_are_read() {
        // RFC 6455, 5.7: a masked "Hello", then one in two frames with a ping between them.
        let mut bytes = vec![0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        bytes.extend([0x02, 0x83, 0, 0, 0, 0, b'H', b'e', b'l', 0x89, 0x81, 0, 0, 0, 0, b'p']);
        bytes.extend([0x80, 0x82, 0, 0, 0, 0, b'l', b'o', 0x88, 0x80, 0, 0, 0, 0]);
        let read = read(&bytes).await;
        let wanted = [
            Incoming::Text(b"Hello".to_vec()),
            Incoming::Ping(b"p".to_vec()),
            Incoming::Binary(b"Hello".to_vec()),
            Incoming::Close,
        ];
        assert_eq!(read[..4].iter().map(|read| read.clone().expect("a message")).collect::<Vec<_>>(), wanted);
    }

    #[tokio::test]
    async fn frames_that_break_the_rules_end_the_websocket() {
        let cases: [(&[u8], &str); 6] = [
            (&[0x81, 0x01, b'x'], "without a mask"),
            (&[0xc1, 0x80, 0, 0, 0, 0], "an extension"),
            (&[0x80, 0x80, 0, 0, 0, 0], "has not begun"),
            (&[0x09, 0x80, 0, 0, 0, 0], "in parts"),
            (&[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "more than"),
            (&[0x83, 0x80, 0, 0, 0, 0], "unknown kind"),
        ];
        for (bytes, why) in cases {
            let error = read(bytes).await.pop().expect("one").expect_err(why);
            assert!(error.contains(why), "{error}");
        }
    }

    #[tokio::test]
    async fn what_one_side_writes_the_other_reads() {
        for (writes, reads) in [(Side::Client, Side::Server), (Side::Server, Side::Client)] {
            let mut written = Vec::new();
            write(&mut written, writes, Outgoing::Text, b"Hello").await.expect("memory");
            assert_eq!(written.len(), if writes == Side::Client { 11 } else { 7 });
            let read = Reader::new(&written[..], reads).next().await.expect("a message");
            assert_eq!(read, Incoming::Text(b"Hello".to_vec()));
            let error = Reader::new(&written[..], writes).next().await.expect_err("it is its own");
            assert!(error.to_string().contains("mask"), "{error}");
        }
    }

    #[tokio::test]
    async fn lengths_are_written_as_short_as_they_can_be() {
        for (length, head) in [
            (5, vec![0x82, 5]),
            (126, vec![0x82, 126, 0, 126]),
            (70_000, vec![0x82, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]),
        ] {
            let mut written = Vec::new();
            write(&mut written, Side::Server, Outgoing::Binary, &vec![7; length]).await.expect("memory");
            assert_eq!((&written[..head.len()], written.len()), (&head[..], head.len() + length));
        }
    }
}
