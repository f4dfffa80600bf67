//! A name server that answers A questions with one address, in the way that a test wants.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;

use super::scene::PATIENCE;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Answers,
    /// Takes every question and says nothing.
    IsSilent,
    /// SERVFAIL.
    Fails,
    /// FORMERR to whoever knows EDNS.
    HatesEdns,
    /// Says TC over UDP, with one of its addresses.
    IsTerse,
    /// The same, and refuses TCP.
    IsTerseAlways,
    /// Forges come first: another id, another name.
    IsForged,
}

#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) address: IpAddr,
    answer: u8,
    manner: Manner,
    heard: Arc<Mutex<Vec<String>>>,
    /// While false, answers wait.
    open: watch::Sender<bool>,
}

impl Upstream {
    /// Answers 192.0.2.<answer>.
    pub(crate) async fn start(answer: u8, manner: Manner) -> Upstream {
        let address = super::scene::address();
        let upstream = Upstream { address, answer, manner, heard: Arc::default(), open: watch::Sender::new(true) };
        let socket = UdpSocket::bind((address, 53)).await.expect("tests run as root");
        tokio::spawn(upstream.clone().serve_udp(socket));
        if manner != Manner::IsTerseAlways {
            let listener = TcpListener::bind((address, 53)).await.expect("tests run as root");
            tokio::spawn(upstream.clone().serve_tcp(listener));
        }
        upstream
    }

    /// Answers what it has heard and will hear only after `go_on`.
    pub(crate) fn hold(&self) {
        self.open.send_replace(false);
    }

    pub(crate) fn go_on(&self) {
        self.open.send_replace(true);
    }

    /// `udp name type`, in the order in which they came.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().expect("no test panics with it").clone()
    }

    pub(crate) async fn has_heard(&self, count: usize) {
        let hearing = async {
            while self.heard().len() < count {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, hearing).await.expect("it is asked in time");
    }

    async fn serve_udp(self, socket: UdpSocket) {
        let socket = Arc::new(socket);
        let mut bytes = [0; 4096];
        while let Ok((length, peer)) = socket.recv_from(&mut bytes).await {
            let (upstream, socket, query) = (self.clone(), socket.clone(), bytes[..length].to_vec());
            upstream.note("udp", &query);
            tokio::spawn(async move {
                let mut open = upstream.open.subscribe();
                open.wait_for(|open| *open).await.expect("its sender is in `upstream`");
                for reply in upstream.replies(&query) {
                    // Whoever has asked may have gone.
                    socket.send_to(&reply, peer).await.ok();
                }
            });
        }
    }

    async fn serve_tcp(self, listener: TcpListener) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let Ok(length) = stream.read_u16().await else { continue };
            let mut query = vec![0; usize::from(length)];
            if stream.read_exact(&mut query).await.is_err() {
                continue;
            }
            self.note("tcp", &query);
            let reply = self.reply(&query, 0x8180, 40);
            stream.write_u16(reply.len() as u16).await.ok();
            stream.write_all(&reply).await.ok();
        }
    }

    fn note(&self, transport: &str, query: &[u8]) {
        let end = end_of_name(query);
        let mut name = Vec::new();
        let mut at = 12;
        while query[at] != 0 {
            let label = at + 1..at + 1 + usize::from(query[at]);
            at = label.end;
            name.push(String::from_utf8_lossy(&query[label]).into_owned());
        }
        let kind = u16::from_be_bytes([query[end], query[end + 1]]);
        let edns = if query[11] == 1 { "" } else { " plain" };
        let heard = format!("{transport} {} {kind}{edns}", name.join("."));
        self.heard.lock().expect("no test panics with it").push(heard);
    }

    fn replies(&self, query: &[u8]) -> Vec<Vec<u8>> {
        let good = self.reply(query, 0x8180, 1);
        match self.manner {
            Manner::Answers => vec![good],
            Manner::IsSilent => Vec::new(),
            Manner::Fails => vec![self.reply(query, 0x8182, 0)],
            Manner::HatesEdns if query[11] == 1 => vec![self.reply(query, 0x8181, 0)],
            Manner::HatesEdns => vec![good],
            Manner::IsTerse | Manner::IsTerseAlways => vec![self.reply(query, 0x8380, 1)],
            Manner::IsForged => {
                let mut other_id = good.clone();
                other_id[0] ^= 1;
                let mut other_name = good.clone();
                other_name[13] = b'!';
                let forge = |mut bytes: Vec<u8>| {
                    *bytes.last_mut().expect("an address") = 66;
                    bytes
                };
                vec![forge(other_id), forge(other_name), b"\x00".to_vec(), good]
            }
        }
    }

    /// With so many addresses, from its own on; none for types other than A.
    fn reply(&self, query: &[u8], flags: u16, addresses: u8) -> Vec<u8> {
        let end = end_of_name(query);
        let addresses = if query[end..end + 2] == [0, 1] { addresses } else { 0 };
        let flags = flags.to_be_bytes();
        let mut reply = [&query[..2], &flags, &[0, 1, 0, addresses, 0, 0, 0, 0], &query[12..end + 4]].concat();
        for number in 0..addresses {
            reply.extend_from_slice(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\xc0\x00\x02");
            reply.push(self.answer.wrapping_add(number));
        }
        reply
    }
}

/// Where the type stands.
fn end_of_name(query: &[u8]) -> usize {
    let mut at = 12;
    while query[at] != 0 {
        at += 1 + usize::from(query[at]);
    }
    at + 1
}
