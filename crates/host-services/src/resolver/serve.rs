//! The two sockets that a namespace has at port 53.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use dns::{MAX_QUERY, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::debug;

use super::upstreams::Asker;
use super::{BUDGET, From, Next, Question, Resolver};
use crate::origin::Origin;

/// Datagrams of one socket that are looked at before others have their turn.
const BATCH: usize = 32;
/// Connections on one listener at a time.
const MAX_CONNECTIONS: usize = 32;
/// How long a connection may say nothing (RFC 7766, section 6.2.3: in the order of seconds).
const IDLE: Duration = Duration::from_secs(10);
/// After an error of `accept`, such as no descriptors left, which does not go away by trying at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers on a socket of a task until that is of no use. Ends at once when it is dropped.
///
/// # Errors
/// The socket's.
pub async fn serve_udp(resolver: Arc<Resolver>, socket: UdpSocket, origin: Origin) -> io::Error {
    let asker = Arc::new(Asker::new(origin));
    let mut desk = Desk { resolver, socket: Arc::new(socket), asker, waiting: JoinSet::new() };
    loop {
        let batch = match desk.socket.readable().await {
            Ok(()) => desk.take_batch(),
            Err(error) => return error,
        };
        match batch {
            Ok(Batch::Last) => {}
            // A socket that is always readable would never let go.
            Ok(Batch::MoreBehind) => yield_now().await,
            Err(error) => return error,
        }
    }
}

/// What datagrams of one socket are answered with.
struct Desk {
    resolver: Arc<Resolver>,
    socket: Arc<UdpSocket>,
    asker: Arc<Asker>,
    /// Those who wait for name servers; they go with the socket.
    waiting: JoinSet<()>,
}

enum Batch {
    Last,
    MoreBehind,
}

impl Desk {
    /// The buffers are here, not with each of a host's thousands of sockets.
    fn take_batch(&mut self) -> io::Result<Batch> {
        let mut bytes = [0; MAX_QUERY + 1];
        let mut reply = Vec::new();
        while self.waiting.try_join_next().is_some() {}
        for _ in 0..BATCH {
            match self.socket.try_recv_from(&mut bytes) {
                Ok((length, peer)) => self.take(&bytes[..length], peer, &mut reply),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Batch::Last),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Batch::MoreBehind)
    }

    fn take(&mut self, query: &[u8], peer: SocketAddr, reply: &mut Vec<u8>) {
        match self.resolver.at_once(&self.asker, query, From { peer, transport: Transport::Udp }, reply) {
            Next::Answered => send(&self.socket, reply, peer),
            Next::Drop => {}
            // As below, without a task for each datagram of a flood.
            Next::Ask(_) if self.asker.waiting.available_permits() == 0 => {}
            Next::Ask(question) => {
                let (resolver, socket, asker) = (self.resolver.clone(), self.socket.clone(), self.asker.clone());
                self.waiting.spawn(async move {
                    let mut reply = Vec::new();
                    if ask(&resolver, &asker, &question, &mut reply).await {
                        send(&socket, &reply, peer);
                    }
                });
            }
        }
    }
}

/// A client that has gone away, or that takes nothing at the moment, asks again if it cares.
fn send(socket: &UdpSocket, reply: &[u8], peer: SocketAddr) {
    if let Err(error) = socket.try_send_to(reply, peer) {
        debug!(%peer, %error, "an answer cannot be sent");
    }
}

/// Whether there is anything to say: of a flood, what is too much is dropped. The clients of one socket wait for each
/// other, never for those of others.
async fn ask(resolver: &Arc<Resolver>, asker: &Asker, question: &Question, reply: &mut Vec<u8>) -> bool {
    let Ok(_waiting) = asker.waiting.try_acquire() else { return false };
    let deadline = Instant::now() + BUDGET;
    let Ok(Ok(_place)) = timeout_at(deadline, asker.outstanding.acquire()).await else { return false };
    resolver.ask(asker, question, deadline, reply).await;
    true
}

/// The same for connections.
///
/// # Errors
/// The listener's.
pub async fn serve_tcp(resolver: Arc<Resolver>, listener: TcpListener, origin: Origin) -> io::Error {
    let asker = Arc::new(Asker::new(origin));
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let place = places.clone().acquire_owned().await.expect("nobody closes it");
        while connections.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EINVAL as i32) => return error,
            Err(error) => {
                debug!(%error, "a connection cannot be taken");
                sleep(PAUSE).await;
                continue;
            }
        };
        let (resolver, asker) = (resolver.clone(), asker.clone());
        connections.spawn(async move {
            if let Err(error) = converse(&resolver, &asker, stream).await {
                debug!(%error, "a connection for names has ended");
            }
            drop(place);
        });
    }
}

/// One question after the other, each with its length before it (RFC 1035, section 4.2.2), until the client has no more.
async fn converse(resolver: &Arc<Resolver>, asker: &Asker, mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let from = From { peer: stream.peer_addr()?, transport: Transport::Tcp };
    let mut bytes = Vec::new();
    let mut reply = Vec::new();
    loop {
        let heard = timeout(IDLE, async {
            let length = usize::from(stream.read_u16().await?);
            if length > MAX_QUERY {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a longer query than is read"));
            }
            bytes.resize(length, 0);
            stream.read_exact(&mut bytes).await
        });
        match heard.await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok(()),
        }
        match resolver.at_once(asker, &bytes, from, &mut reply) {
            Next::Answered => {}
            // Whoever sends that speaks another language.
            Next::Drop => return Ok(()),
            Next::Ask(question) => {
                if !ask(resolver, asker, &question, &mut reply).await {
                    return Ok(());
                }
            }
        }
        let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
        timeout(IDLE, async {
            stream.write_all(&length.to_be_bytes()).await?;
            stream.write_all(&reply).await
        })
        .await??;
    }
}
