//! Small servers and clients: TCP and UDP echo, one HTTP answer, and a look at the interfaces.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::Duration;

use serde_json::{Value, json};

use crate::load::say;

const PATIENCE: Duration = Duration::from_secs(30);

/// `PORT` or `ADDRESS:PORT`.
fn place(text: &str) -> String {
    if text.contains(':') { text.to_owned() } else { format!("0.0.0.0:{text}") }
}

fn fail(what: &str, error: &std::io::Error) -> i32 {
    eprintln!("{what}: {error}");
    1
}

pub(crate) fn tcp_echo(ports: &str) -> i32 {
    let listeners: Vec<TcpListener> = match ports.split(',').map(|port| TcpListener::bind(place(port))).collect() {
        Ok(listeners) => listeners,
        Err(error) => return fail(ports, &error),
    };
    say(&["listening", ports]);
    std::thread::scope(|scope| {
        for listener in listeners {
            scope.spawn(move || {
                for mut stream in listener.incoming().flatten() {
                    std::thread::spawn(move || echo(&mut stream));
                }
            });
        }
    });
    0
}

fn echo(stream: &mut TcpStream) {
    let peer = stream.peer_addr().map(|address| address.to_string()).unwrap_or_default();
    let mut line = String::new();
    if let Ok(reading) = stream.try_clone()
        && BufReader::new(reading).read_line(&mut line).is_ok()
    {
        let _ = stream.write_all(format!("{peer} said {line}").as_bytes());
    }
}

pub(crate) fn udp_echo(port: &str) -> i32 {
    let socket = match UdpSocket::bind(place(port)) {
        Ok(socket) => socket,
        Err(error) => return fail(port, &error),
    };
    say(&["listening", port]);
    let mut datagram = [0u8; 2048];
    while let Ok((length, peer)) = socket.recv_from(&mut datagram) {
        let answer = [format!("{peer} said ").as_bytes(), &datagram[..length]].concat();
        let _ = socket.send_to(&answer, peer);
    }
    1
}

pub(crate) fn http(port: &str, body: &str) -> i32 {
    let listener = match TcpListener::bind(place(port)) {
        Ok(listener) => listener,
        Err(error) => return fail(port, &error),
    };
    say(&["listening", port]);
    for stream in listener.incoming().flatten() {
        answer_http(stream, body);
    }
    1
}

fn answer_http(mut stream: TcpStream, body: &str) {
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let Ok(reading) = stream.try_clone() else { return };
    for line in BufReader::new(reading).lines() {
        if line.map_or(true, |line| line.is_empty()) {
            break;
        }
    }
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len() + 1);
    let _ = stream.write_all(format!("{head}{body}\n").as_bytes());
}

fn connect(address: &str) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::other("no address");
    for candidate in address.to_socket_addrs()?.collect::<Vec<SocketAddr>>() {
        match TcpStream::connect_timeout(&candidate, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Prints the whole answer to `GET path`.
pub(crate) fn http_get(address: &str, path: &str) -> i32 {
    exchange(address, &format!("GET {path} HTTP/1.1\r\nhost: probe\r\nconnection: close\r\n\r\n"))
}

/// Sends one line and prints what comes back until the end.
pub(crate) fn tcp_say(address: &str, line: &str) -> i32 {
    exchange(address, &format!("{line}\n"))
}

fn exchange(address: &str, request: &str) -> i32 {
    let answer = connect(address).and_then(|mut stream| {
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    });
    match answer {
        Ok(answer) => say(&[&answer]),
        Err(error) => fail(address, &error),
    }
}

pub(crate) fn interfaces() -> Value {
    let text = std::fs::read_to_string("/proc/net/dev").unwrap_or_default();
    let names: Vec<&str> = text.lines().skip(2).filter_map(|line| line.split(':').next()).map(str::trim).collect();
    json!(names)
}
