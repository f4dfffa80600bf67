//! Questions to 169.254.170.2 over HTTP, and somebody else to ask them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use serde_json::{Map, Value, json};

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
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
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
