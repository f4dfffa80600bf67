//! What somebody asks, out of bytes that anybody may have written.

use crate::kind;
use crate::wire::{self, DNSSEC_OK, HEADER, Header, QUESTION_TAIL, Record, flag};

/// The longest query that is read, in bytes: a name of 255 and an OPT record with options fit many times.
pub const MAX_QUERY: usize = 4096;
/// What is promised to fit into a datagram without EDNS (RFC 1035, section 4.2.1).
const MIN_UDP_PAYLOAD: u16 = 512;
/// The longest datagram that is sent to a container, whatever it says that it takes. The way is a loopback device's, so
/// nothing of it is cut into fragments.
pub const MAX_UDP_PAYLOAD: u16 = 4096;
/// An OPT record and a TSIG record.
const MAX_ADDITIONAL: u16 = 2;
/// An OPT record without options.
pub(crate) const OPT_LENGTH: usize = 11;
/// BADVERS (RFC 6891, section 6.1.3) in the upper bits of the response code that an OPT record has.
const BAD_VERSION: u8 = 1;

/// How a query came, which limits its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

/// What the asker says in an OPT record (RFC 6891). Its options are for hops, and end here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    pub udp_payload: u16,
    pub dnssec_ok: bool,
}

/// One question for records of the Internet class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub id: u16,
    /// The record type.
    pub kind: u16,
    pub edns: Option<Edns>,
    pub recursion_desired: bool,
    pub authentic_data: bool,
    pub checking_disabled: bool,
    /// Name, type and class as they came: the spelling of the name is the asker's, and comes back to it.
    question: Box<[u8]>,
}

/// A query that is not answered as it was meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Nobody could take an answer to it: too short, or an answer itself.
    Drop,
    Reply(Vec<u8>),
}

impl Query {
    pub fn read(bytes: &[u8]) -> Result<Query, Rejection> {
        let header = Header::read(bytes).ok_or(Rejection::Drop)?;
        if header.flags & flag::RESPONSE != 0 {
            return Err(Rejection::Drop);
        }
        if header.opcode() != 0 {
            return Err(reject(header, &[], kind::NOT_IMPLEMENTED));
        }
        let malformed = || reject(header, &[], kind::FORMAT_ERROR);
        let shape = (header.questions, header.answers, header.authorities);
        if shape != (1, 0, 0) || header.additional > MAX_ADDITIONAL || bytes.len() > MAX_QUERY {
            return Err(malformed());
        }
        let tail = wire::after_plain_name(bytes, HEADER).ok_or_else(malformed)?;
        let question = bytes.get(HEADER..tail + QUESTION_TAIL).ok_or_else(malformed)?;
        let opt = read_opt(bytes, tail + QUESTION_TAIL, header.additional).map_err(|()| malformed())?;
        if opt.is_some_and(|(_, version)| version != 0) {
            let Rejection::Reply(mut reply) = reject(header, question, kind::NO_ERROR) else { return Err(malformed()) };
            push_opt(&mut reply, MAX_UDP_PAYLOAD, BAD_VERSION, false);
            return Err(Rejection::Reply(reply));
        }
        let (Some(kind), Some(class)) = (wire::u16_at(bytes, tail), wire::u16_at(bytes, tail + 2)) else {
            return Err(malformed());
        };
        if class != kind::CLASS_IN || kind::is_meta(kind) {
            return Err(reject(header, question, kind::REFUSED));
        }
        Ok(Query {
            id: header.id,
            kind,
            edns: opt.map(|(edns, _)| edns),
            recursion_desired: header.flags & flag::RECURSION_DESIRED != 0,
            authentic_data: header.flags & flag::AUTHENTIC_DATA != 0,
            checking_disabled: header.flags & flag::CHECKING_DISABLED != 0,
            question: question.into(),
        })
    }

    /// The name as it was spelt, with the lengths of its labels and the root's.
    pub fn name(&self) -> &[u8] {
        &self.question[..self.question.len() - QUESTION_TAIL]
    }

    pub(crate) fn question(&self) -> &[u8] {
        &self.question
    }

    pub fn dnssec_ok(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec_ok)
    }

    /// The longest answer that the asker takes, in bytes.
    pub fn limit(&self, transport: Transport) -> usize {
        match transport {
            Transport::Tcp => usize::from(u16::MAX),
            Transport::Udp => usize::from(
                self.edns.map_or(MIN_UDP_PAYLOAD, |edns| edns.udp_payload.clamp(MIN_UDP_PAYLOAD, MAX_UDP_PAYLOAD)),
            ),
        }
    }

    /// What queries have in common that may be answered alike: everything that a name server's answer depends on.
    /// Lengths of labels are below every letter, so all bytes of a name can be made small.
    pub fn write_key(&self, servers: &[std::net::IpAddr], key: &mut Vec<u8>) {
        key.clear();
        let (name, tail) = self.question.split_at(self.question.len() - QUESTION_TAIL);
        key.extend(name.iter().map(u8::to_ascii_lowercase));
        key.extend_from_slice(tail);
        key.push(u8::from(self.dnssec_ok()) | u8::from(self.checking_disabled) << 1);
        for server in servers {
            match server {
                std::net::IpAddr::V4(address) => key.extend_from_slice(&address.to_ipv6_mapped().octets()),
                std::net::IpAddr::V6(address) => key.extend_from_slice(&address.octets()),
            }
        }
    }
}

/// The OPT record among the additional ones with its version. More than one is an error (RFC 6891, section 6.1.1).
fn read_opt(bytes: &[u8], start: usize, count: u16) -> Result<Option<(Edns, u8)>, ()> {
    let (mut at, mut found) = (start, None);
    for _ in 0..count {
        let record = Record::read(bytes, at).ok_or(())?;
        at = record.end();
        if record.kind != kind::OPT {
            continue;
        }
        if found.is_some() || !record.owner_is_root(bytes) {
            return Err(());
        }
        let edns = Edns { udp_payload: record.class, dnssec_ok: record.ttl & DNSSEC_OK != 0 };
        let [_, version, _, _] = record.ttl.to_be_bytes();
        found = Some((edns, version));
    }
    Ok(found)
}

fn reject(asked: Header, question: &[u8], rcode: u8) -> Rejection {
    let kept = asked.flags & (flag::OPCODE | flag::RECURSION_DESIRED | flag::CHECKING_DISABLED);
    let header = Header {
        id: asked.id,
        flags: kept | flag::RESPONSE | flag::RECURSION_AVAILABLE | u16::from(rcode),
        questions: u16::from(!question.is_empty()),
        answers: 0,
        authorities: 0,
        additional: 0,
    };
    Rejection::Reply([&header.bytes()[..], question].concat())
}

/// Ends a message with an OPT record of ours and counts it.
pub(crate) fn push_opt(message: &mut Vec<u8>, udp_payload: u16, upper_rcode: u8, dnssec_ok: bool) {
    let Some(count) = message.get_mut(HEADER - 2..HEADER) else { return };
    count.copy_from_slice(&1u16.saturating_add(u16::from_be_bytes([count[0], count[1]])).to_be_bytes());
    message.push(0);
    message.extend_from_slice(&kind::OPT.to_be_bytes());
    message.extend_from_slice(&udp_payload.to_be_bytes());
    message.extend_from_slice(&[upper_rcode, 0]);
    message.extend_from_slice(&if dnssec_ok { DNSSEC_OK as u16 } else { 0 }.to_be_bytes());
    message.extend_from_slice(&[0, 0]);
}
