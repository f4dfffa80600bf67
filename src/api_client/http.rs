//! HTTP/1.0 as a client: a request as bytes, and an answer's head read off a stream.

use std::io::{BufRead, BufReader, Read};

use crate::failure::{Explain, Failure};

pub(super) const OK: u16 = 200;
/// Of an answer's status line and headers.
const HEAD_BYTES: u64 = 64 << 10;

pub(super) struct Exchange<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body: &'a [u8],
}

impl Exchange<'_> {
    pub(super) fn bytes(&self, host: &str, further: &[(&str, String)]) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.0\r\nhost: {host}\r\n", self.method, self.path);
        for (name, value) in self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        for (name, value) in further {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", self.body.len()));
        [head.as_bytes(), self.body].concat()
    }
}

/// The status, and what follows the head.
pub(super) fn answer<From: Read>(stream: From) -> Result<(u16, BufReader<From>), Failure> {
    let reading = "reading the answer";
    let mut reader = BufReader::new(stream);
    let mut head = reader.by_ref().take(HEAD_BYTES);
    let mut line = String::new();
    head.read_line(&mut line).doing(reading)?;
    let code = line.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
    let status = code.and_then(|code| code.trim().parse().ok()).ok_or_else(|| {
        Failure::new(if line.is_empty() {
            "the API closed the connection without an answer".to_owned()
        } else {
            format!("this is no answer of HTTP: {:?}", line.trim_end())
        })
    })?;
    loop {
        line.clear();
        if head.read_line(&mut line).doing(reading)? == 0 {
            return Err(Failure::new("the answer's head has no end"));
        }
        if line == "\r\n" || line == "\n" {
            return Ok((status, reader));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_what_http_says() {
        let exchange = Exchange { method: "POST", path: "/", headers: &[("x-amz-target", "T.Op")], body: b"{}" };
        let text =
            "POST / HTTP/1.0\r\nhost: coracle\r\nx-amz-target: T.Op\r\nauthorization: A\r\ncontent-length: 2\r\n\r\n{}";
        assert_eq!(exchange.bytes("coracle", &[("authorization", "A".to_owned())]), text.as_bytes());
    }

    #[test]
    fn an_answers_head_ends_where_its_body_begins() {
        let (status, mut body) =
            answer(&b"HTTP/1.1 400 Bad Request\r\na: b\r\n\r\n{\"x\":1}\n"[..]).expect("an answer");
        let mut text = String::new();
        body.read_to_string(&mut text).expect("memory");
        assert_eq!((status, text.as_str()), (400, "{\"x\":1}\n"));
        for bad in ["", "SSH-2.0-x\r\n", "HTTP/1.1 200 OK\r\na: b\r\n", "HTTP/1.1\r\n\r\n", "HTTP/1.1 OK\r\n\r\n"] {
            answer(bad.as_bytes()).map(|(status, _)| status).expect_err(bad);
        }
    }
}
