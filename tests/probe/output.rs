//! Numbered lines for log drivers, and a log router that tells what it gets.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use crate::load;

/// `line 000001` to the last one, each with a pause after it.
pub(crate) fn count(from: u64, to: u64, pause_ms: u64) -> i32 {
    let mut out = std::io::stdout().lock();
    for line in from..=to {
        if writeln!(out, "line {line:06}").and_then(|()| out.flush()).is_err() {
            return 1;
        }
        if pause_ms > 0 {
            std::thread::sleep(Duration::from_millis(pause_ms));
        }
    }
    0
}

/// A FireLens router without its skill: says its configuration, then the bytes that come over the socket, escaped, and
/// acknowledges each chunk. Ends at once with SIGTERM.
pub(crate) fn router(configuration: &str, socket: &str) -> i32 {
    let text = std::fs::read_to_string(configuration).unwrap_or_else(|error| format!("unreadable: {error}"));
    for line in text.lines() {
        load::say(&["configuration:", line]);
    }
    let listener = match UnixListener::bind(socket) {
        Ok(listener) => listener,
        Err(error) => {
            load::say(&["no socket:", &error.to_string()]);
            return 1;
        }
    };
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    load::wait_for_sigterm(0)
}

fn serve(mut stream: std::os::unix::net::UnixStream) {
    let mut buffer = vec![0; 1 << 20];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        let got = &buffer[..count];
        load::say(&["got:", &got.escape_ascii().to_string()]);
        // {"ack": …} with the very string that follows "chunk".
        let name = b"\xa5chunk";
        if let Some(place) = got.windows(name.len()).position(|window| window == name) {
            let mut answer = b"\x81\xa3ack".to_vec();
            answer.extend_from_slice(&got[place + name.len()..]);
            if stream.write_all(&answer).is_err() {
                return;
            }
        }
    }
}
