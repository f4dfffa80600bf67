//! Messages for tests, written byte by byte.
#![allow(dead_code, reason = "each test executable uses its own part of this")]

use dns::Query;

/// `www.example` as it is sent.
pub(crate) fn name(dotted: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in dotted.split('.').filter(|label| !label.is_empty()) {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

/// A header with recursion desired.
pub(crate) fn header(id: u16, flags: u16, counts: [u16; 4]) -> Vec<u8> {
    [id, flags].iter().chain(&counts).flat_map(|word| word.to_be_bytes()).collect()
}

pub(crate) fn question(dotted: &str, kind: u16) -> Vec<u8> {
    [&name(dotted)[..], &kind.to_be_bytes(), &[0, 1]].concat()
}

/// What a plain client sends: id 0x1234, RD.
pub(crate) fn plain(dotted: &str, kind: u16) -> Vec<u8> {
    [header(0x1234, 0x0100, [1, 0, 0, 0]), question(dotted, kind)].concat()
}

/// The same with an OPT record.
pub(crate) fn extended(dotted: &str, kind: u16, payload: u16, ttl: u32) -> Vec<u8> {
    [header(0x1234, 0x0100, [1, 0, 0, 1]), question(dotted, kind), opt(payload, ttl, &[])].concat()
}

pub(crate) fn opt(payload: u16, ttl: u32, options: &[u8]) -> Vec<u8> {
    record_at(&[0], 41, payload, ttl, options)
}

pub(crate) fn record(kind: u16, ttl: u32, content: &[u8]) -> Vec<u8> {
    // The name of the question.
    record_at(&[0xc0, 12], kind, 1, ttl, content)
}

pub(crate) fn record_at(owner: &[u8], kind: u16, class: u16, ttl: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = owner.to_vec();
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&class.to_be_bytes());
    bytes.extend_from_slice(&ttl.to_be_bytes());
    bytes.extend_from_slice(&(content.len() as u16).to_be_bytes());
    bytes.extend_from_slice(content);
    bytes
}

/// Of `example`, with this TTL and MINIMUM.
pub(crate) fn soa(ttl: u32, minimum: u32) -> Vec<u8> {
    let numbers: Vec<u8> = [1u32, 2, 3, 4, minimum].iter().flat_map(|number| number.to_be_bytes()).collect();
    record_at(&name("example"), 6, 1, ttl, &[&name("ns.example")[..], &name("me.example"), &numbers].concat())
}

/// A reply with `flags` to the question for `www.example`, with these sections.
pub(crate) fn reply(id: u16, flags: u16, kind: u16, sections: [&[Vec<u8>]; 3]) -> Vec<u8> {
    let counts = [1, sections[0].len() as u16, sections[1].len() as u16, sections[2].len() as u16];
    let mut bytes = [header(id, flags, counts), question("www.example", kind)].concat();
    for record in sections.into_iter().flatten() {
        bytes.extend_from_slice(record);
    }
    bytes
}

#[track_caller]
pub(crate) fn query(bytes: &[u8]) -> Query {
    Query::read(bytes).expect("a good query")
}

pub(crate) fn counts(message: &[u8]) -> [u16; 4] {
    [4, 6, 8, 10].map(|at| u16::from_be_bytes([message[at], message[at + 1]]))
}

pub(crate) fn flags(message: &[u8]) -> u16 {
    u16::from_be_bytes([message[2], message[3]])
}
