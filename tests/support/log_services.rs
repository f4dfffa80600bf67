//! Log services that a test's containers write to: they listen on the test's own host, keep what they get, and can be
//! ended at any time as if they had been killed.

use std::io::{self, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

use super::{Host, wait_for};

/// How often a service looks whether it should end.
const LOOK: Duration = Duration::from_millis(5);

/// What one service got, in order.
pub(crate) struct Service<T> {
    items: Arc<Mutex<Vec<T>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Clone + Send + 'static> Service<T> {
    fn start(serve: impl FnOnce(&Inbox<T>) + Send + 'static) -> Self {
        let inbox = Inbox { items: Arc::default(), ended: Arc::default() };
        let (items, ended) = (inbox.items.clone(), inbox.ended.clone());
        Self { items, ended, thread: Some(std::thread::spawn(move || serve(&inbox))) }
    }

    pub(crate) fn items(&self) -> Vec<T> {
        self.items.lock().expect("no service panics").clone()
    }

    /// Waits until what came is enough.
    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, enough: impl Fn(&[T]) -> bool) -> Vec<T> {
        wait_for(what, || Some(self.items()).filter(|items| enough(items)))
    }

    /// Ends it in the middle of whatever it does. Its port or path can be taken again then.
    pub(crate) fn end(mut self) -> Vec<T> {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a service ends when it is told to");
        }
        self.items()
    }
}

impl<T> Drop for Service<T> {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

pub(crate) struct Inbox<T> {
    items: Arc<Mutex<Vec<T>>>,
    ended: Arc<AtomicBool>,
}

impl<T> Clone for Inbox<T> {
    fn clone(&self) -> Self {
        Self { items: self.items.clone(), ended: self.ended.clone() }
    }
}

impl<T> Inbox<T> {
    fn add(&self, item: T) {
        self.items.lock().expect("no service panics").push(item);
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// One read; nothing at the end of the stream, or when the service ends.
    fn read(&self, stream: &mut impl Read, buffer: &mut Vec<u8>) -> Option<()> {
        let mut piece = vec![0; 1 << 16];
        // Ended in the middle of whatever comes, as by SIGKILL.
        while !self.has_ended() {
            match stream.read(&mut piece) {
                Ok(0) => return None,
                Ok(count) => {
                    buffer.extend_from_slice(&piece[..count]);
                    return Some(());
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(_) => return None,
            }
        }
        None
    }
}

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

type Handler<T> = fn(&mut Box<dyn Stream>, &Inbox<T>);

/// Accepts and serves until it is ended; connections end with it.
fn accept<T: Send + 'static>(
    inbox: &Inbox<T>,
    mut next: impl FnMut() -> io::Result<Box<dyn Stream>>,
    handler: Handler<T>,
) {
    let mut connections = Vec::new();
    while !inbox.has_ended() {
        match next() {
            Ok(mut stream) => {
                let inbox = inbox.clone();
                connections.push(std::thread::spawn(move || handler(&mut stream, &inbox)));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::park_timeout(LOOK),
            Err(_) => {}
        }
    }
    for connection in connections {
        connection.join().expect("a connection ends with its service");
    }
}

fn on_tcp<T: Clone + Send + 'static>(host: &Host, port: u16, handler: Handler<T>) -> Service<T> {
    let listener = host.namespace.enter(|| TcpListener::bind(("127.0.0.1", port))).expect("the port is free");
    listener.set_nonblocking(true).expect("a listener can be asked");
    Service::start(move |inbox| {
        accept(
            inbox,
            || {
                let stream = listener.accept()?.0;
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(LOOK))?;
                Ok(Box::new(stream) as Box<dyn Stream>)
            },
            handler,
        );
    })
}

/// A syslog receiver, a line each.
pub(crate) fn lines_on_tcp(host: &Host, port: u16) -> Service<String> {
    on_tcp(host, port, |stream, inbox| read_pieces(stream, inbox, b'\n'))
}

/// GELF over TCP: messages that end in NUL.
pub(crate) fn messages_on_tcp(host: &Host, port: u16) -> Service<String> {
    on_tcp(host, port, |stream, inbox| read_pieces(stream, inbox, 0))
}

pub(crate) fn lines_on_unix(path: &Path) -> Service<String> {
    let listener = UnixListener::bind(path).expect("the path is free");
    listener.set_nonblocking(true).expect("a listener can be asked");
    Service::start(move |inbox| {
        accept(
            inbox,
            || {
                let stream = listener.accept()?.0;
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(LOOK))?;
                Ok(Box::new(stream) as Box<dyn Stream>)
            },
            |stream, inbox| read_pieces(stream, inbox, b'\n'),
        );
    })
}

fn read_pieces(stream: &mut Box<dyn Stream>, inbox: &Inbox<String>, end: u8) {
    let mut buffer = Vec::new();
    while inbox.read(stream, &mut buffer).is_some() {
        while let Some(place) = buffer.iter().position(|byte| *byte == end) {
            let piece: Vec<u8> = buffer.drain(..=place).collect();
            inbox.add(String::from_utf8_lossy(&piece[..place]).into_owned());
        }
    }
}

pub(crate) fn datagrams_on_udp(host: &Host, port: u16) -> Service<Vec<u8>> {
    let socket = host.namespace.enter(|| UdpSocket::bind(("127.0.0.1", port))).expect("the port is free");
    keep_what_waits(&socket);
    socket.set_read_timeout(Some(LOOK)).expect("a socket can be asked");
    Service::start(move |inbox| {
        let mut buffer = vec![0; 1 << 16];
        while !inbox.has_ended() {
            if let Ok(count) = socket.recv(&mut buffer) {
                inbox.add(buffer[..count].to_vec());
            }
        }
    })
}

/// Room for all that a test sends: on a busy machine a reader comes late, and the kernel's default of 208 KiB is 277 small
/// datagrams, after which it drops.
fn keep_what_waits(socket: &UdpSocket) {
    const ROOM: usize = 8 << 20;
    setsockopt(socket, sockopt::RcvBufForce, &ROOM).expect("tests run as root");
}

/// As journald's socket; what comes as a file is not followed.
pub(crate) fn datagrams_on_unix(path: &Path) -> Service<Vec<u8>> {
    let socket = UnixDatagram::bind(path).expect("the path is free");
    socket.set_read_timeout(Some(LOOK)).expect("a socket can be asked");
    Service::start(move |inbox| {
        let mut buffer = vec![0; 1 << 20];
        while !inbox.has_ended() {
            if let Ok(count) = socket.recv(&mut buffer) {
                inbox.add(buffer[..count].to_vec());
            }
        }
    })
}

/// One entry that a fluentd got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) tag: String,
    pub(crate) record: Vec<(String, String)>,
}

impl Entry {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.record.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// fluentd's forward protocol, with acknowledgements.
pub(crate) fn fluentd(host: &Host, port: u16) -> Service<Entry> {
    on_tcp(host, port, |stream, inbox| {
        let mut buffer = Vec::new();
        while inbox.read(stream, &mut buffer).is_some() {
            while let Some((value, length)) = msgpack(&buffer) {
                buffer.drain(..length);
                let Some(chunk) = take_batch(&value, inbox) else { continue };
                let mut answer = b"\x81\xa3ack".to_vec();
                answer.push(0xa0 | chunk.len() as u8);
                answer.extend_from_slice(chunk.as_bytes());
                if stream.write_all(&answer).is_err() {
                    return;
                }
            }
        }
    })
}

fn take_batch(value: &Value, inbox: &Inbox<Entry>) -> Option<String> {
    let Value::List(parts) = value else { return None };
    let [Value::Text(tag), Value::List(entries), Value::Map(options)] = parts.as_slice() else { return None };
    for entry in entries {
        if let Value::List(parts) = entry
            && let [_, Value::Map(record)] = parts.as_slice()
        {
            let text = |value: &Value| if let Value::Text(text) = value { text.clone() } else { format!("{value:?}") };
            let record = record.iter().map(|(name, value)| (text(name), text(value))).collect();
            inbox.add(Entry { tag: tag.clone(), record });
        }
    }
    options.iter().find_map(|(name, value)| match (name, value) {
        (Value::Text(name), Value::Text(chunk)) if name == "chunk" => Some(chunk.clone()),
        _ => None,
    })
}

/// The kinds of MessagePack that come here (<https://github.com/msgpack/msgpack/blob/master/spec.md>).
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Number(u64),
    Text(String),
    List(Vec<Value>),
    Map(Vec<(Value, Value)>),
    Extension(Vec<u8>),
}

/// A value and its length; nothing while it is not whole.
fn msgpack(bytes: &[u8]) -> Option<(Value, usize)> {
    let (&kind, rest) = bytes.split_first()?;
    let number = |width: usize| {
        let digits = rest.get(..width)?;
        Some((digits.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte)), 1 + width))
    };
    let plain = |length: u8| Some((u64::from(length), 1));
    match kind {
        0x00..=0x7f => Some((Value::Number(u64::from(kind)), 1)),
        0xcc..=0xcf => number(1 << (kind - 0xcc)).map(|(value, length)| (Value::Number(value), length)),
        0xa0..=0xbf => text(bytes, plain(kind & 0x1f)?),
        0xd9..=0xdb => text(bytes, number(1 << (kind - 0xd9))?),
        0x90..=0x9f => list(bytes, plain(kind & 0x0f)?),
        0xdc | 0xdd => list(bytes, number(2 << (kind - 0xdc))?),
        0x80..=0x8f => map(bytes, plain(kind & 0x0f)?),
        0xde | 0xdf => map(bytes, number(2 << (kind - 0xde))?),
        0xd7 => Some((Value::Extension(bytes.get(1..10)?.to_vec()), 10)),
        other => panic!("no such kind of value is expected: {other:#x}"),
    }
}

fn text(bytes: &[u8], (length, at): (u64, usize)) -> Option<(Value, usize)> {
    let text = bytes.get(at..at + length as usize)?;
    Some((Value::Text(String::from_utf8_lossy(text).into_owned()), at + length as usize))
}

fn list(bytes: &[u8], (count, mut at): (u64, usize)) -> Option<(Value, usize)> {
    let mut values = Vec::new();
    for _ in 0..count {
        let (value, length) = msgpack(bytes.get(at..)?)?;
        values.push(value);
        at += length;
    }
    Some((Value::List(values), at))
}

fn map(bytes: &[u8], (count, at): (u64, usize)) -> Option<(Value, usize)> {
    let (Value::List(flat), at) = list(bytes, (count * 2, at))? else { return None };
    let pairs = flat.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
    Some((Value::Map(pairs), at))
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// First line and headers, in small letters.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// A Splunk HTTP Event Collector that takes everything.
pub(crate) fn collector(host: &Host, port: u16) -> Service<Request> {
    on_tcp(host, port, |stream, inbox| {
        let mut buffer = Vec::new();
        while inbox.read(stream, &mut buffer).is_some() {
            while let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let whole = String::from_utf8_lossy(&buffer[..end]).into_owned();
                let head = whole.to_ascii_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length: usize = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
                if buffer.len() < end + 4 + length {
                    break;
                }
                let body = buffer.drain(..end + 4 + length).skip(end + 4).collect();
                // The token's letters matter.
                let token = whole.lines().find(|line| line.to_ascii_lowercase().starts_with("authorization"));
                inbox.add(Request { head: format!("{head}\n{}", token.unwrap_or_default()), body });
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 27\r\n\r\n{\"text\":\"Success\",\"code\":0}";
                if stream.write_all(answer).is_err() {
                    return;
                }
            }
        }
    })
}
