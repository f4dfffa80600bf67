//! Questions to 169.254.170.2 over HTTP, and somebody else to ask them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::load::say;

const ADDRESS: &str = "169.254.170.2:80";
const PATIENCE: Duration = Duration::from_secs(20);

/// Asks each path in turn: the status (0 without an answer) and the body, under the path as it was given. `$NAME/rest`
/// begins with what a variable holds, an address or a path.
pub(crate) fn get_all(paths: &[&str]) -> Value {
    let answers = paths.iter().map(|path| ((*path).to_owned(), ask("GET", path, "")));
    Value::Object(answers.collect::<Map<_, _>>())
}

pub(crate) fn ask(method: &str, path: &str, body: &str) -> Value {
    match exchange(method, &expanded(path), body) {
        Ok((status, body)) => json!({ "status": status, "body": body }),
        Err(error) => json!({ "status": 0, "body": error.to_string() }),
    }
}

fn expanded(path: &str) -> String {
    let Some(name) = path.strip_prefix('$') else { return path.to_owned() };
    let (name, rest) = name.split_at(name.find('/').unwrap_or(name.len()));
    let value = std::env::var(name).unwrap_or_default();
    format!("{}{rest}", value.trim_start_matches("http://169.254.170.2"))
}

fn exchange(method: &str, path: &str, body: &str) -> std::io::Result<(u16, Value)> {
    let address: SocketAddr = ADDRESS.parse().expect("an address");
    converse(&mut TcpStream::connect_timeout(&address, PATIENCE)?, method, path, body)
}

fn converse(stream: &mut TcpStream, method: &str, path: &str, body: &str) -> std::io::Result<(u16, Value)> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let head = format!("{method} {path} HTTP/1.1\r\nhost: 169.254.170.2\r\nconnection: close\r\n{length}\r\n");
    stream.write_all(format!("{head}{body}").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| std::io::Error::other("no answer"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok((status, serde_json::from_str(body).unwrap_or_else(|_| Value::from(body))))
}

/// Makes a socket that a child has as well, says who the child is, and asks when it is told to: one line of standard
/// input.
pub(crate) fn shared_socket(path: &str) -> i32 {
    // SAFETY: integers; the descriptor is the stream's from here on.
    let mut stream = unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        TcpStream::from_raw_fd(socket)
    };
    let Ok(mut child) = Command::new("/proc/self/exe").arg("forever").stdin(Stdio::null()).spawn() else { return 1 };
    say(&["child", &child.id().to_string()]);
    let told = std::io::stdin().read_line(&mut String::new());
    let answer = told.and_then(|_| {
        connect(&stream)?;
        converse(&mut stream, "GET", &expanded(path), "")
    });
    let _ = child.kill();
    let _ = child.wait();
    match answer {
        Ok((status, body)) => say(&["answer", &json!({ "status": status, "body": body }).to_string()]),
        Err(error) => say(&["no answer:", &error.to_string()]),
    }
}

fn connect(stream: &TcpStream) -> std::io::Result<()> {
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 80u16.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([169, 254, 170, 2]) },
        sin_zero: [0; 8],
    };
    let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // SAFETY: an open socket, and an address of the length that is given.
    let result = unsafe { libc::connect(stream.as_raw_fd(), (&raw const address).cast(), length) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Has a child do it, as another user where one is named: `USER VERB [ARGUMENT...]`, `-` for the same one.
pub(crate) fn child(rest: &[&str]) -> i32 {
    let mut command = Command::new("/proc/self/exe");
    command.args(&rest[1..]);
    if let Ok(user) = rest[0].parse() {
        command.uid(user);
    }
    match command.status() {
        Ok(status) => status.code().unwrap_or(1),
        Err(error) => {
            eprintln!("{}: {error}", rest[0]);
            1
        }
    }
}
