//! As much of HTTP/1.1 as a page needs: GET and HEAD, keep-alive, no bodies.

use std::io::{self, BufRead, Read, Write};

/// The longest request head that is read.
const HEAD_LIMIT: u64 = 16 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    /// Without the query.
    pub(super) path: String,
    /// The connection ends after the answer.
    pub(super) close: bool,
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn text(status: u16, body: &str) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: body.to_owned() }
    }
}

/// Nothing when the client has closed, sent no HTTP, or sent a head that is too long.
pub(super) fn read_request(input: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut head = input.take(HEAD_LIMIT);
    let mut line = String::new();
    if !read_line(&mut head, &mut line)? {
        return Ok(None);
    }
    let mut words = line.split_ascii_whitespace();
    let (Some(method), Some(target), Some(version)) = (words.next(), words.next(), words.next()) else {
        return Ok(None);
    };
    let path = target.split('?').next().unwrap_or(target).to_owned();
    let mut request = Request { method: method.to_owned(), path, close: version == "HTTP/1.0" };
    loop {
        let mut line = String::new();
        if !read_line(&mut head, &mut line)? {
            return Ok(None);
        }
        if line.is_empty() {
            return Ok(Some(request));
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.trim();
        if name.eq_ignore_ascii_case("connection") && value.eq_ignore_ascii_case("close") {
            request.close = true;
        }
        // A body is never read, so what follows it could not be understood.
        if name.eq_ignore_ascii_case("transfer-encoding") || name.eq_ignore_ascii_case("content-length") && value != "0"
        {
            request.close = true;
        }
    }
}

/// Whether a whole line came; without its end.
fn read_line(input: &mut impl BufRead, line: &mut String) -> io::Result<bool> {
    let mut bytes = Vec::new();
    match input.read_until(b'\n', &mut bytes) {
        Ok(_) => {}
        // A client that is quiet between requests, or gone, is no error of ours.
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionReset) => {
            return Ok(false);
        }
        Err(error) => return Err(error),
    }
    if bytes.pop() != Some(b'\n') {
        return Ok(false);
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    line.push_str(&String::from_utf8_lossy(&bytes));
    Ok(true)
}

pub(super) fn write_answer(mut out: impl Write, request: &Request, answer: &Answer) -> io::Result<()> {
    let phrase = match answer.status {
        200 => "OK",
        404 => "Not Found",
        405 => "Method Not Allowed",
        _ => "",
    };
    let mut text = format!(
        "HTTP/1.1 {} {phrase}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\nConnection: {}\r\n\r\n",
        answer.status,
        answer.content_type,
        answer.body.len(),
        if request.close { "close" } else { "keep-alive" },
    );
    if request.method != "HEAD" {
        text.push_str(&answer.body);
    }
    out.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Request> {
        read_request(&mut text.as_bytes()).expect("a slice never fails")
    }

    #[test]
    fn requests() {
        let request = |path: &str, close| Some(Request { method: "GET".to_owned(), path: path.to_owned(), close });
        assert_eq!(read("GET /json?x=1 HTTP/1.1\r\nHost: a\r\n\r\n"), request("/json", false));
        assert_eq!(read("GET / HTTP/1.1\nConnection: Close\n\n"), request("/", true));
        assert_eq!(read("GET / HTTP/1.0\r\n\r\n"), request("/", true));
        assert_eq!(read("GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"), request("/", true));
        for bad in ["", "GET", "GET /\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n", "\u{0}\u{1}\r\n\r\n"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
        assert_eq!(read(&format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(20_000))), None);
    }

    #[test]
    fn a_head_answer_has_the_length_and_no_body() {
        let request = Request { method: "HEAD".to_owned(), path: "/".to_owned(), close: true };
        let mut out = Vec::new();
        write_answer(&mut out, &request, &Answer::text(200, "ok\n")).expect("a vector takes all");
        let text = String::from_utf8(out).expect("ASCII");
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.contains("Content-Length: 3\r\n"), "{text}");
        assert!(text.ends_with("Connection: close\r\n\r\n"), "{text}");
    }
}
