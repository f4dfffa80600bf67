//! One data channel: the client shows its token, both sides shake hands, and then the terminal's bytes go both ways, each
//! message acknowledged. A websocket loses nothing, so nothing is sent twice; acknowledgements only say how fast the client
//! takes what the command writes.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::message::{self, Message, payload};
use super::websocket::{self, Incoming, Outgoing, Reader, Side};
use super::{Invitations, unreachable};
use crate::clock;
use crate::sessions::{ExecEvent, ExecSession};

/// From the websocket's begin to the token, and from there to the client's half of the handshake.
const GREETING: Duration = Duration::from_secs(15);
/// From the command's start to the agent's answer.
const START: Duration = Duration::from_secs(30);
/// "The session has an idle timeout time of 20 minutes"
/// (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-exec.html>).
const IDLE: Duration = Duration::from_secs(20 * 60);
/// For the client to close after it was told of the end.
const FAREWELL: Duration = Duration::from_secs(5);
/// Messages that the client has not acknowledged; output waits meanwhile.
const UNACKNOWLEDGED: usize = 256;
/// Of one message's output.
const CHUNK: usize = 4_096;
/// Messages that were read and not looked at yet.
const READ_AHEAD: usize = 16;

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("the client has gone")]
    Gone,
    #[error("the client said nothing in time")]
    Slow,
    #[error("the client's token is not this session's")]
    Token,
    #[error("the client's handshake failed: {0}")]
    Handshake(String),
    #[error("the websocket failed")]
    Websocket(#[from] websocket::Error),
    #[error("the websocket cannot be written to")]
    Write(#[from] std::io::Error),
}

pub(super) async fn serve<Stream>(stream: Stream, invitations: &Invitations, session: &str) -> Result<(), Error>
where
    Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (reader, writer) = tokio::io::split(stream);
    let (sender, incoming) = mpsc::channel(READ_AHEAD);
    // A reader of its own, because a frame must not be given up half way.
    let reading = tokio::spawn(async move {
        let mut reader = Reader::new(reader, Side::Server);
        loop {
            let read = reader.next().await;
            let ended = read.is_err();
            if sender.send(read).await.is_err() || ended {
                return;
            }
        }
    });
    let mut channel = Channel {
        session: session.to_owned(),
        writer,
        incoming,
        next_sent: 0,
        next_received: 0,
        unacknowledged: HashSet::new(),
    };
    let served = channel.run(invitations).await;
    reading.abort();
    served
}

struct Channel<Writer> {
    session: String,
    writer: Writer,
    incoming: mpsc::Receiver<Result<Incoming, websocket::Error>>,
    next_sent: i64,
    next_received: i64,
    unacknowledged: HashSet<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Greeting {
    token_value: String,
}

#[derive(Deserialize)]
struct Size {
    cols: u16,
    rows: u16,
}

/// What the client is told at the end.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ending {
    last_words: String,
    /// Of a command that ran to its end.
    exit_code: Option<i32>,
}

impl Ending {
    fn told(last_words: impl Into<String>) -> Ending {
        Ending { last_words: last_words.into(), exit_code: None }
    }
}

/// What the client wants.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    Input(Vec<u8>),
    Resize { rows: u16, columns: u16 },
    HandshakeIsDone(Vec<u8>),
    End,
}

impl<Writer: AsyncWrite + Unpin> Channel<Writer> {
    async fn run(&mut self, invitations: &Invitations) -> Result<(), Error> {
        let token = timeout(GREETING, self.token()).await.map_err(|_| Error::Slow)??;
        let (instance, open) = invitations.accept(&self.session, &token).ok_or(Error::Token)?;
        timeout(GREETING, self.shake_hands()).await.map_err(|_| Error::Slow)??;
        let opened = invitations.sessions.open_exec(&instance, open).await;
        let ending = match opened {
            Some(exec) => self.relay(exec).await?,
            None => Ending::told(unreachable().message),
        };
        self.close(&ending).await
    }

    async fn receive(&mut self) -> Result<Incoming, Error> {
        loop {
            match self.incoming.recv().await.ok_or(Error::Gone)?? {
                Incoming::Ping(bytes) => {
                    websocket::write(&mut self.writer, Side::Server, Outgoing::Pong, &bytes).await?
                }
                Incoming::Pong => {}
                Incoming::Close => return Err(Error::Gone),
                message @ (Incoming::Text(_) | Incoming::Binary(_)) => return Ok(message),
            }
        }
    }

    async fn token(&mut self) -> Result<String, Error> {
        let Incoming::Text(text) = self.receive().await? else { return Err(Error::Token) };
        let greeting: Greeting = serde_json::from_slice(&text).map_err(|_| Error::Token)?;
        Ok(greeting.token_value)
    }

    async fn shake_hands(&mut self) -> Result<(), Error> {
        let request = json!({
            "AgentVersion": "3.3.0.0",
            "RequestedClientActions": [{
                "ActionType": "SessionType",
                "ActionParameters": {"SessionType": "InteractiveCommands", "Properties": {}},
            }],
        });
        let begun = Instant::now();
        self.send(payload::HANDSHAKE_REQUEST, request.to_string().into_bytes()).await?;
        loop {
            let message = self.receive().await?;
            if let Some(Wish::HandshakeIsDone(response)) = self.understand(message).await? {
                check(&response)?;
                break;
            }
        }
        let took_ns = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let complete = json!({"HandshakeTimeToComplete": took_ns, "CustomerMessage": ""});
        self.send(payload::HANDSHAKE_COMPLETE, complete.to_string().into_bytes()).await
    }

    async fn relay(&mut self, mut exec: ExecSession) -> Result<Ending, Error> {
        let mut started = false;
        let mut deadline = Instant::now() + START;
        let mut waiting: VecDeque<Vec<u8>> = VecDeque::new();
        loop {
            // Never more than the client has asked for by its acknowledgements: one that cannot send them because nobody
            // reads them here would not read either.
            while self.unacknowledged.len() < UNACKNOWLEDGED
                && let Some(chunk) = waiting.pop_front()
            {
                self.send(payload::OUTPUT, chunk).await?;
            }
            tokio::select! {
                message = self.incoming.recv() => {
                    let message = match message.ok_or(Error::Gone)?? {
                        Incoming::Ping(bytes) => {
                            websocket::write(&mut self.writer, Side::Server, Outgoing::Pong, &bytes).await?;
                            continue;
                        }
                        Incoming::Pong => continue,
                        Incoming::Close => return Err(Error::Gone),
                        message @ (Incoming::Text(_) | Incoming::Binary(_)) => message,
                    };
                    let Some(wish) = self.understand(message).await? else { continue };
                    if started {
                        deadline = Instant::now() + IDLE;
                    }
                    let done = match wish {
                        Wish::Input(bytes) => exec.input(bytes).await,
                        Wish::Resize { rows, columns } => exec.resize(rows, columns).await,
                        Wish::HandshakeIsDone(_) => true,
                        Wish::End => return Ok(Ending::default()),
                    };
                    if !done {
                        return Ok(Ending::told("The container instance has lost its connection."));
                    }
                }
                event = exec.events.recv(), if waiting.is_empty() => match event {
                    Some(ExecEvent::Opened) => {
                        started = true;
                        deadline = Instant::now() + IDLE;
                    }
                    Some(ExecEvent::Refused(reason)) => return Ok(Ending::told(reason)),
                    Some(ExecEvent::Output(bytes)) => {
                        deadline = Instant::now() + IDLE;
                        waiting.extend(bytes.chunks(CHUNK).map(<[u8]>::to_vec));
                    }
                    Some(ExecEvent::Ended(code)) => return Ok(Ending { exit_code: Some(code), ..Ending::default() }),
                    None => {
                        let why = "The session's output was not read in time, or its host has gone.";
                        return Ok(Ending::told(why));
                    }
                },
                () = tokio::time::sleep_until(deadline) => {
                    let why = if started { "The session was idle for 20 minutes." } else { "The command did not start." };
                    return Ok(Ending::told(why));
                }
            }
        }
    }

    async fn close(&mut self, ending: &Ending) -> Result<(), Error> {
        let mut closed = Message::new(message::CLOSED, 0, 0, Vec::new(), clock::now());
        let told = json!({
            "MessageId": closed.id_text(),
            "CreatedDate": clock::now().rfc3339(),
            "DestinationId": self.session,
            "SessionId": self.session,
            "MessageType": message::CLOSED,
            "SchemaVersion": 1,
            "Output": ending.last_words,
            // A member of coracle's own; Amazon's sessions do not tell it.
            message::EXIT_CODE: ending.exit_code,
        });
        closed.payload = told.to_string().into_bytes();
        websocket::write(&mut self.writer, Side::Server, Outgoing::Binary, &closed.bytes()).await?;
        // The client closes; where it does not, we do.
        let _ = timeout(FAREWELL, async { while self.receive().await.is_ok() {} }).await;
        websocket::write(&mut self.writer, Side::Server, Outgoing::Close, &[]).await?;
        self.writer.shutdown().await?;
        Ok(())
    }

    async fn send(&mut self, payload_type: u32, bytes: Vec<u8>) -> Result<(), Error> {
        let message = Message::new(message::OUTPUT, self.next_sent, payload_type, bytes, clock::now());
        self.unacknowledged.insert(self.next_sent);
        self.next_sent += 1;
        Ok(websocket::write(&mut self.writer, Side::Server, Outgoing::Binary, &message.bytes()).await?)
    }

    /// Acknowledges what is to be, and says what is wanted.
    async fn understand(&mut self, message: Incoming) -> Result<Option<Wish>, Error> {
        let Incoming::Binary(bytes) = message else { return Ok(None) };
        // What is damaged is as if it had not come.
        let Ok(message) = Message::read(&bytes) else { return Ok(None) };
        match message.kind.as_str() {
            message::ACKNOWLEDGE => {
                let sequence = serde_json::from_slice::<Value>(&message.payload).ok();
                let sequence = sequence.and_then(|value| value["AcknowledgedMessageSequenceNumber"].as_i64());
                sequence.map(|sequence| self.unacknowledged.remove(&sequence));
                Ok(None)
            }
            message::INPUT => {
                // Of what is to come later nothing is acknowledged, so the client sends it again.
                if message.sequence > self.next_received {
                    return Ok(None);
                }
                self.acknowledge(&message).await?;
                if message.sequence < self.next_received {
                    return Ok(None);
                }
                self.next_received += 1;
                Ok(wish(message))
            }
            _ => Ok(None),
        }
    }

    async fn acknowledge(&mut self, received: &Message) -> Result<(), Error> {
        let message = message::acknowledgement(received, clock::now());
        Ok(websocket::write(&mut self.writer, Side::Server, Outgoing::Binary, &message.bytes()).await?)
    }
}

fn wish(message: Message) -> Option<Wish> {
    match message.payload_type {
        payload::OUTPUT => Some(Wish::Input(message.payload)),
        payload::SIZE => {
            let size: Size = serde_json::from_slice(&message.payload).ok()?;
            Some(Wish::Resize { rows: size.rows, columns: size.cols })
        }
        payload::HANDSHAKE_RESPONSE => Some(Wish::HandshakeIsDone(message.payload)),
        payload::FLAG => {
            let flag = message.payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
            (flag == Some(message::TERMINATE)).then_some(Wish::End)
        }
        _ => None,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HandshakeResponse {
    #[serde(default)]
    processed_client_actions: Vec<ProcessedAction>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ProcessedAction {
    action_type: String,
    action_status: i64,
    #[serde(default)]
    error: String,
}

/// `ActionStatus` 1 is success.
fn check(response: &[u8]) -> Result<(), Error> {
    let response: HandshakeResponse =
        serde_json::from_slice(response).map_err(|error| Error::Handshake(error.to_string()))?;
    match response.processed_client_actions.iter().find(|action| action.action_status != 1) {
        Some(action) => Err(Error::Handshake(format!("{}: {}", action.action_type, action.error))),
        None => Ok(()),
    }
}
