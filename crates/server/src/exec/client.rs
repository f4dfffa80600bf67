//! The client's side of a session: what session-manager-plugin does for the AWS CLI, `coracle exec` does with this.

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::message::{self, Message, payload};
use super::websocket::{self, Incoming, Outgoing, Reader, Side};
use crate::{clock, dice};

/// Of the answer to the request for a websocket.
const HEAD_BYTES: usize = 16 << 10;
/// Of one message's input, as the plugin has it.
const CHUNK: usize = 1_024;
/// Messages that were read and not looked at yet.
const READ_AHEAD: usize = 16;
const VERSION: &str = "1.2.0.0";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the connection broke")]
    Broken(#[from] std::io::Error),
    #[error("the websocket broke")]
    Websocket(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("there is no session at the other side: {0}")]
    Refused(String),
    #[error("the session ended before its command")]
    CutOff,
    #[error("the other side's message cannot be read")]
    Unreadable(#[from] serde_json::Error),
}

impl From<websocket::Error> for Error {
    fn from(error: websocket::Error) -> Self {
        Error::Websocket(error.into())
    }
}

/// What a person does at the terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    Input(Vec<u8>),
    Size { rows: u16, columns: u16 },
}

/// How a session ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct End {
    /// Why there was nothing to run, or nothing more.
    #[serde(rename = "Output")]
    pub reason: String,
    /// The command's own, where it ran to its end and a coracle tells of it.
    pub exit_code: Option<i32>,
}

/// What ExecuteCommand has answered.
#[derive(Clone, Copy, Debug)]
pub struct Session<'a> {
    /// Of the `streamUrl`.
    pub host: &'a str,
    pub path: &'a str,
    pub token: &'a str,
}

/// Carries a command's terminal until it ends. The size should be typed first; `typed` may end before the command does.
///
/// # Errors
/// The connection's end before the command's.
pub async fn run<Stream>(
    mut stream: Stream,
    session: Session<'_>,
    mut typed: mpsc::Receiver<Typed>,
    mut output: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> Result<End, Error>
where
    Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    upgrade(&mut stream, session).await?;
    let (reader, mut writer) = tokio::io::split(stream);
    let greeting = json!({
        "MessageSchemaVersion": "1.0",
        "RequestId": dice::uuid(),
        "TokenValue": session.token,
        "ClientId": dice::uuid(),
        "ClientVersion": VERSION,
    });
    websocket::write(&mut writer, Side::Client, Outgoing::Text, greeting.to_string().as_bytes()).await?;
    let (sender, mut incoming) = mpsc::channel(READ_AHEAD);
    // A reader of its own, because a frame must not be given up half way.
    let reading = tokio::spawn(async move {
        let mut reader = Reader::new(reader, Side::Client);
        loop {
            let read = reader.next().await;
            let ended = read.is_err();
            if sender.send(read).await.is_err() || ended {
                return;
            }
        }
    });
    let mut channel = Channel { writer, sent: 0, received: 0, ready: false };
    let mut more = true;
    let ended = loop {
        tokio::select! {
            read = incoming.recv() => match read {
                Some(Ok(message)) => match channel.take(message, &mut output).await {
                    Ok(None) => {}
                    Ok(Some(end)) => break Ok(end),
                    Err(error) => break Err(error),
                },
                Some(Err(error)) => break Err(error.into()),
                None => break Err(Error::CutOff),
            },
            next = typed.recv(), if more && channel.ready => match next {
                Some(next) => if let Err(error) = channel.say(next).await { break Err(error) },
                None => more = false,
            },
        }
    };
    reading.abort();
    // It has said its last; whether it hears ours is no matter.
    let _ = websocket::write(&mut channel.writer, Side::Client, Outgoing::Close, &[]).await;
    ended
}

async fn upgrade(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), session: Session<'_>) -> Result<(), Error> {
    use base64::Engine;
    let key = base64::engine::general_purpose::STANDARD.encode(dice::bytes::<16>());
    let asked = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {key}\r\n\r\n",
        session.path, session.host
    );
    stream.write_all(asked.as_bytes()).await?;
    stream.flush().await?;
    let mut head = Vec::new();
    // Byte by byte: what follows is the websocket's.
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == HEAD_BYTES {
            return Err(Error::Refused("its answer has no end".to_owned()));
        }
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    let accepted = lines.filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
        name.trim().eq_ignore_ascii_case("sec-websocket-accept").then(|| value.trim().to_owned())
    });
    let is_upgrade = status.split(' ').nth(1) == Some("101");
    if is_upgrade && accepted == Some(websocket::accept(key.as_bytes())) {
        return Ok(());
    }
    Err(Error::Refused(status.to_owned()))
}

struct Channel<Writer> {
    writer: Writer,
    sent: i64,
    received: i64,
    /// The handshake is over.
    ready: bool,
}

impl<Writer: AsyncWrite + Unpin> Channel<Writer> {
    async fn say(&mut self, typed: Typed) -> Result<(), Error> {
        match typed {
            Typed::Input(bytes) => {
                for chunk in bytes.chunks(CHUNK) {
                    self.send(payload::OUTPUT, chunk.to_vec()).await?;
                }
                Ok(())
            }
            Typed::Size { rows, columns } => {
                self.send(payload::SIZE, json!({"cols": columns, "rows": rows}).to_string().into_bytes()).await
            }
        }
    }

    async fn send(&mut self, payload_type: u32, bytes: Vec<u8>) -> Result<(), Error> {
        let message = Message::new(message::INPUT, self.sent, payload_type, bytes, clock::now());
        self.sent += 1;
        Ok(websocket::write(&mut self.writer, Side::Client, Outgoing::Binary, &message.bytes()).await?)
    }

    async fn take(
        &mut self,
        incoming: Incoming,
        output: &mut impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<Option<End>, Error> {
        let bytes = match incoming {
            Incoming::Binary(bytes) => bytes,
            Incoming::Ping(bytes) => {
                websocket::write(&mut self.writer, Side::Client, Outgoing::Pong, &bytes).await?;
                return Ok(None);
            }
            Incoming::Pong | Incoming::Text(_) => return Ok(None),
            Incoming::Close => return Err(Error::CutOff),
        };
        // What is damaged is as if it had not come.
        let Ok(message) = Message::read(&bytes) else { return Ok(None) };
        match message.kind.as_str() {
            message::CLOSED => return Ok(Some(serde_json::from_slice(&message.payload)?)),
            message::OUTPUT => {}
            _ => return Ok(None),
        }
        let taken = message::acknowledgement(&message, clock::now());
        websocket::write(&mut self.writer, Side::Client, Outgoing::Binary, &taken.bytes()).await?;
        if message.sequence != self.received {
            return Ok(None);
        }
        self.received += 1;
        match message.payload_type {
            payload::HANDSHAKE_REQUEST => {
                let answer = shaken(&message.payload)?;
                self.send(payload::HANDSHAKE_RESPONSE, answer.to_string().into_bytes()).await?;
            }
            payload::HANDSHAKE_COMPLETE => self.ready = true,
            payload::OUTPUT => output(&message.payload)?,
            _ => {}
        }
        Ok(None)
    }
}

/// The only action that is asked for is the kind of session.
fn shaken(request: &[u8]) -> Result<Value, Error> {
    let request: Value = serde_json::from_slice(request)?;
    let actions = request["RequestedClientActions"].as_array().cloned().unwrap_or_default();
    let done = actions.into_iter().map(|action| {
        let kind = &action["ActionType"];
        json!({"ActionType": kind, "ActionStatus": 1, "ActionResult": null, "Error": ""})
    });
    Ok(json!({"ClientVersion": VERSION, "ProcessedClientActions": done.collect::<Vec<_>>(), "Errors": []}))
}
