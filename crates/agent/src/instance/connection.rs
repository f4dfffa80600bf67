//! The connection to the control plane, made again whenever it breaks, with pauses that grow and are never two hosts' the
//! same. Frames are a length of four bytes, big-endian, and that many bytes of JSON.

use std::io;
use std::time::Duration;

use agent_protocol::session::{
    FromInstance, HEARTBEAT_EVERY_MS, HEARTBEAT_LIMIT_MS, Hello, MAX_FRAME_BYTES, ToInstance,
};
use ecs::ContainerInstanceId;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::dice;

/// Amazon's agent waits from a quarter of a second to two minutes, half as long again each time, a fifth more or less.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
const JITTER: f64 = 0.2;
/// From the connection to the control plane's Welcome.
const WELCOME_LIMIT: Duration = Duration::from_secs(30);
const HEARTBEAT_EVERY: Duration = Duration::from_millis(HEARTBEAT_EVERY_MS);
const HEARTBEAT_LIMIT: Duration = Duration::from_millis(HEARTBEAT_LIMIT_MS);
/// Messages that wait to be written.
const OUTGOING: usize = 256;
/// Batches of tasks' output; whoever reads them waits for each of them to leave.
const OUTGOING_LOGS: usize = 4;

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A process of this host: the kernel tells when it has gone, so that nobody has to ask.
    Local,
    Remote,
}

/// Why this instance is of no more use to its control plane before a person has changed something. Its tasks go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the control plane refuses this container instance: {reason}")]
pub struct Refused {
    pub reason: String,
}

/// What comes of a connection, in its order.
#[derive(Debug)]
pub(super) enum Heard {
    Welcome {
        instance: ContainerInstanceId,
        cluster: String,
        outgoing: mpsc::Sender<FromInstance>,
        /// For what may wait until everything else is told.
        outgoing_logs: mpsc::Sender<FromInstance>,
    },
    Message(Box<ToInstance>),
    /// What was sent last may not have arrived.
    Lost,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("the connection ended")]
    Ended,
    #[error("the connection broke")]
    Io(#[source] io::Error),
    #[error("a frame of {0} bytes is too long")]
    TooLong(usize),
    #[error("a frame is no message")]
    NoMessage(#[source] serde_json::Error),
    #[error("nothing was heard for {} s", HEARTBEAT_LIMIT.as_secs())]
    Silent,
    #[error("the control plane speaks out of turn")]
    OutOfTurn,
    #[error("it was refused")]
    Refused(Refused),
}

/// Until the control plane refuses this instance. Whoever listens lives as long as this.
pub(super) async fn hold<Connect, Connecting, Stream>(
    connect: Connect,
    peer: Peer,
    hello: watch::Receiver<Hello>,
    heard: mpsc::Sender<Heard>,
) -> Refused
where
    Connect: Fn() -> Connecting,
    Connecting: Future<Output = io::Result<Stream>>,
    Stream: AsyncRead + AsyncWrite + Unpin,
{
    let mut pause = FIRST_PAUSE;
    loop {
        let broken = match connect().await {
            Ok(stream) => {
                let mut welcomed = false;
                let broken = session(stream, peer, &hello, &heard, &mut welcomed).await;
                if welcomed {
                    pause = FIRST_PAUSE;
                    heard.send(Heard::Lost).await.ok();
                }
                broken
            }
            Err(cause) => Broken::Io(cause),
        };
        match broken {
            Broken::Refused(refused) => return refused,
            Broken::Ended
            | Broken::Io(_)
            | Broken::TooLong(_)
            | Broken::NoMessage(_)
            | Broken::Silent
            | Broken::OutOfTurn => {
                let why = crate::recovery::chain(&broken);
                tracing::info!(why, "not connected to the control plane; it is tried again");
            }
        }
        tokio::time::sleep(with_jitter(pause)).await;
        pause = (pause + pause / 2).min(LONGEST_PAUSE);
    }
}

/// Without dice, the middle.
fn with_jitter(pause: Duration) -> Duration {
    let part = dice::random().map_or(0.5, |random| (random as u32) as f64 / f64::from(u32::MAX));
    pause.mul_f64(1.0 - JITTER + 2.0 * JITTER * part)
}

async fn session<Stream: AsyncRead + AsyncWrite + Unpin>(
    stream: Stream,
    peer: Peer,
    hello: &watch::Receiver<Hello>,
    heard: &mpsc::Sender<Heard>,
    welcomed: &mut bool,
) -> Broken {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let first = FromInstance::Hello(Box::new(hello.borrow().clone()));
    let welcome = timeout(WELCOME_LIMIT, async {
        write(&mut writer, &first).await?;
        read(&mut reader).await
    });
    let (instance, cluster) = match welcome.await {
        Ok(Ok(ToInstance::Welcome { instance, cluster })) => (instance, cluster),
        Ok(Ok(ToInstance::Refused { reason })) => return Broken::Refused(Refused { reason }),
        Ok(Ok(_)) => return Broken::OutOfTurn,
        Ok(Err(broken)) => return broken,
        Err(_) => return Broken::Silent,
    };
    let (outgoing, messages) = mpsc::channel(OUTGOING);
    let (outgoing_logs, logs) = mpsc::channel(OUTGOING_LOGS);
    let asking = outgoing.clone();
    heard.send(Heard::Welcome { instance, cluster, outgoing, outgoing_logs }).await.ok();
    *welcomed = true;
    tokio::select! {
        broken = listen(&mut reader, peer, heard, asking) => broken,
        broken = speak(&mut writer, messages, logs) => broken,
    }
}

async fn listen(
    reader: &mut (impl AsyncRead + Unpin),
    peer: Peer,
    heard: &mpsc::Sender<Heard>,
    outgoing: mpsc::Sender<FromInstance>,
) -> Broken {
    loop {
        let message = match peer {
            Peer::Local => read(reader).await,
            Peer::Remote => read_or_ask(reader, &outgoing).await,
        };
        let message = match message {
            Ok(message) => message,
            Err(broken) => return broken,
        };
        match message {
            ToInstance::Refused { reason } => return Broken::Refused(Refused { reason }),
            ToInstance::Welcome { .. } => return Broken::OutOfTurn,
            // Where the queue is full there is enough to hear anyway.
            ToInstance::StillThere => drop(outgoing.try_send(FromInstance::StillHere)),
            ToInstance::StillHere => {}
            ToInstance::Assignment(_)
            | ToInstance::OpenExec(_)
            | ToInstance::ExecInput { .. }
            | ToInstance::ExecResize { .. }
            | ToInstance::CloseExec { .. }
            | ToInstance::ReadLogs(_)
            | ToInstance::MoreLogs { .. }
            | ToInstance::CloseLogs { .. } => {
                heard.send(Heard::Message(Box::new(message))).await.ok();
            }
        }
    }
}

/// A read is never given up half way: the rest would be taken for the next frame.
async fn read_or_ask(
    reader: &mut (impl AsyncRead + Unpin),
    outgoing: &mpsc::Sender<FromInstance>,
) -> Result<ToInstance, Broken> {
    let reading = read(reader);
    tokio::pin!(reading);
    if let Ok(read) = timeout(HEARTBEAT_EVERY, &mut reading).await {
        return read;
    }
    drop(outgoing.try_send(FromInstance::StillThere));
    timeout(HEARTBEAT_LIMIT - HEARTBEAT_EVERY, reading).await.unwrap_or(Err(Broken::Silent))
}

/// A control plane that does not read for so long is as good as gone.
async fn speak(
    writer: &mut (impl AsyncWrite + Unpin),
    mut messages: mpsc::Receiver<FromInstance>,
    mut logs: mpsc::Receiver<FromInstance>,
) -> Broken {
    loop {
        let message = tokio::select! {
            biased;
            message = messages.recv() => message,
            Some(batch) = logs.recv() => Some(batch),
        };
        let Some(message) = message else { return Broken::Ended };
        match timeout(HEARTBEAT_LIMIT, write(writer, &message)).await {
            Ok(Ok(())) => {}
            Ok(Err(broken)) => return broken,
            Err(_) => return Broken::Silent,
        }
    }
}

pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> Result<ToInstance, Broken> {
    let mut length = [0; 4];
    from.read_exact(&mut length).await.map_err(broken)?;
    let bytes = u32::from_be_bytes(length) as usize;
    if bytes > MAX_FRAME_BYTES {
        return Err(Broken::TooLong(bytes));
    }
    // As it comes: a length alone must not make anybody reserve that much.
    let mut frame = Vec::new();
    from.take(bytes as u64).read_to_end(&mut frame).await.map_err(Broken::Io)?;
    if frame.len() < bytes {
        return Err(Broken::Ended);
    }
    serde_json::from_slice(&frame).map_err(Broken::NoMessage)
}

async fn write(to: &mut (impl AsyncWrite + Unpin), message: &FromInstance) -> Result<(), Broken> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message).map_err(Broken::NoMessage)?;
    let bytes = frame.len() - 4;
    let length = u32::try_from(bytes).ok().filter(|_| bytes <= MAX_FRAME_BYTES).ok_or(Broken::TooLong(bytes))?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    to.write_all(&frame).await.map_err(Broken::Io)?;
    to.flush().await.map_err(Broken::Io)
}

fn broken(error: io::Error) -> Broken {
    if error.kind() == io::ErrorKind::UnexpectedEof { Broken::Ended } else { Broken::Io(error) }
}
