//! One question to name servers: from a socket and with an id of its own, over UDP, over TCP where that is too short.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dns::forward::{self, Extension, Verdict};
use dns::{Answer, Query};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;

use super::lock;

const DNS_PORT: u16 = 53;
/// Some servers send more than they are asked for.
const LONGEST_DATAGRAM: usize = 4096;
/// How often every server is asked, if none answers.
const ATTEMPTS: usize = 2;
/// How long one attempt waits for one server.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same, once, where no server has answered lately.
const IMPATIENCE: Duration = Duration::from_secs(1);
/// So long a server that did not answer is asked after the others.
const DISGRACE: Duration = Duration::from_secs(30);
/// Servers that are remembered as silent.
const MAX_SILENT: usize = 256;

/// Which servers did not answer, and when.
#[derive(Default)]
pub(super) struct Reputation {
    silent: Mutex<HashMap<IpAddr, Instant>>,
    dice: Dice,
}

/// Numbers that nobody guesses who has not seen this process's memory: a keyed hash of a counter, the key from the
/// kernel.
#[derive(Default)]
struct Dice {
    key: RandomState,
    thrown: AtomicU64,
}

impl Dice {
    fn throw(&self) -> u16 {
        // Any 16 of its 64 bits.
        self.key.hash_one(self.thrown.fetch_add(1, Ordering::Relaxed)) as u16
    }
}

impl Reputation {
    fn is_silent(&self, server: IpAddr) -> bool {
        lock(&self.silent).get(&server).is_some_and(|since| since.elapsed() < DISGRACE)
    }

    fn was_silent(&self, server: IpAddr) {
        let mut silent = lock(&self.silent);
        if silent.len() >= MAX_SILENT {
            silent.retain(|_, since| since.elapsed() < DISGRACE);
        }
        if silent.len() < MAX_SILENT {
            silent.insert(server, Instant::now());
        }
    }

    fn answered(&self, server: IpAddr) {
        lock(&self.silent).remove(&server);
    }
}

/// What one server did.
enum Outcome {
    Answer(Answer),
    /// It does not know, does not want to, or is not there.
    AskNext,
    Silence,
}

/// None: nobody has an answer.
pub(super) async fn ask(query: &Query, servers: &[IpAddr], reputation: &Reputation) -> Option<Answer> {
    let mut open = servers.to_vec();
    open.sort_by_key(|server| reputation.is_silent(*server));
    let all_silent = servers.iter().all(|server| reputation.is_silent(*server));
    let (attempts, patience) = if all_silent { (1, IMPATIENCE) } else { (ATTEMPTS, PATIENCE) };
    for _ in 0..attempts {
        for server in std::mem::take(&mut open) {
            match timeout(patience, ask_one(query, server, reputation)).await.unwrap_or(Outcome::Silence) {
                Outcome::Answer(answer) => {
                    reputation.answered(server);
                    return Some(answer);
                }
                // It has spoken, and would say the same.
                Outcome::AskNext => reputation.answered(server),
                Outcome::Silence => {
                    reputation.was_silent(server);
                    open.push(server);
                }
            }
        }
    }
    None
}

async fn ask_one(query: &Query, server: IpAddr, reputation: &Reputation) -> Outcome {
    match exchange(query, server, reputation).await {
        Ok(outcome) => outcome,
        Err(error) => {
            debug!(%server, %error, "a name server cannot be asked");
            Outcome::AskNext
        }
    }
}

async fn exchange(query: &Query, server: IpAddr, reputation: &Reputation) -> io::Result<Outcome> {
    let any: SocketAddr = match server {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // The kernel draws the port; a connected socket takes from this server alone.
    let socket = UdpSocket::bind(any).await?;
    socket.connect((server, DNS_PORT)).await?;
    let (mut extension, mut id) = (Extension::Edns, reputation.dice.throw());
    socket.send(&forward::request(query, id, extension)).await?;
    let mut reply = vec![0; LONGEST_DATAGRAM];
    loop {
        let length = socket.recv(&mut reply).await?;
        match forward::judge(query, id, extension, &reply[..length]) {
            Verdict::NotTheReply => {}
            Verdict::AskPlainly => {
                (extension, id) = (Extension::Plain, reputation.dice.throw());
                socket.send(&forward::request(query, id, extension)).await?;
            }
            Verdict::Truncated(part) => {
                return Ok(match over_tcp(query, server, extension, reputation).await {
                    Some(whole) => Outcome::Answer(whole),
                    None => part.map_or(Outcome::AskNext, Outcome::Answer),
                });
            }
            Verdict::AskNext => return Ok(Outcome::AskNext),
            Verdict::Final(answer) => return Ok(Outcome::Answer(answer)),
        }
    }
}

/// RFC 7766. None where the server has no TCP, or no better answer there: half of one is better than none, so this ends
/// before the attempt does.
async fn over_tcp(query: &Query, server: IpAddr, extension: Extension, reputation: &Reputation) -> Option<Answer> {
    let end = Instant::now() + IMPATIENCE;
    let id = reputation.dice.throw();
    let reply = timeout_at(end, async {
        let mut stream = TcpStream::connect((server, DNS_PORT)).await?;
        stream.set_nodelay(true)?;
        let request = forward::request(query, id, extension);
        let length = u16::try_from(request.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], &request].concat()).await?;
        let mut reply = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut reply).await?;
        io::Result::Ok(reply)
    });
    let reply = match reply.await {
        Ok(Ok(reply)) => reply,
        Ok(Err(error)) => {
            debug!(%server, %error, "a name server cannot be asked over TCP");
            return None;
        }
        Err(_) => return None,
    };
    match forward::judge(query, id, extension, &reply) {
        Verdict::Final(answer) => Some(answer),
        Verdict::Truncated(_) | Verdict::NotTheReply | Verdict::AskPlainly | Verdict::AskNext => None,
    }
}
