//! What a name server is asked on somebody's behalf, and what its reply is worth.

use crate::answer::Answer;
use crate::kind;
use crate::query::{Query, push_opt};
use crate::wire::{self, HEADER, Header, QUESTION_TAIL, flag};

/// The longest datagram that is asked for, in bytes: what passes everywhere in one piece
/// (<https://www.dnsflagday.net/2020/>).
pub const UDP_PAYLOAD: u16 = 1232;

/// Whether the name server is told that we know EDNS. Some answer only without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    Edns,
    Plain,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// To another question, or to none: somebody else's, or forged. The reply may still come.
    NotTheReply,
    /// There is more than fits into a datagram: ask over TCP. What did fit is here, for a server that has no TCP.
    Truncated(Option<Answer>),
    /// The server knows no EDNS (RFC 6891, section 7).
    AskPlainly,
    /// This server cannot or will not answer; another may.
    AskNext,
    Final(Answer),
}

/// The message to send: the asker's question and what of its wishes concerns a name server. The id is the caller's
/// to draw, as is the port: both are all that an off-path forger has to guess.
pub fn request(query: &Query, id: u16, extension: Extension) -> Vec<u8> {
    let asked = |yes: bool, flag: u16| if yes { flag } else { 0 };
    let header = Header {
        id,
        // We are asked to find out, so the name server is; AD asks for AD (RFC 6840, section 5.7), and what it says is
        // kept for all, so it is always asked for.
        flags: flag::RECURSION_DESIRED | flag::AUTHENTIC_DATA | asked(query.checking_disabled, flag::CHECKING_DISABLED),
        questions: 1,
        answers: 0,
        authorities: 0,
        additional: 0,
    };
    let mut message = [&header.bytes()[..], query.question()].concat();
    match extension {
        Extension::Edns => push_opt(&mut message, UDP_PAYLOAD, 0, query.dnssec_ok()),
        Extension::Plain => {}
    }
    message
}

/// Judges what came from the server that was asked; that it is that server's is for the socket to say.
pub fn judge(query: &Query, id: u16, extension: Extension, reply: &[u8]) -> Verdict {
    let Some(header) = Header::read(reply) else { return Verdict::NotTheReply };
    if header.id != id || header.flags & flag::RESPONSE == 0 || header.opcode() != 0 {
        return Verdict::NotTheReply;
    }
    // A server that did not understand the question may not repeat it.
    let unrepeated = header.questions == 0 && header.rcode() != kind::NO_ERROR;
    if !unrepeated && !repeats(query, header, reply) {
        return Verdict::NotTheReply;
    }
    if header.flags & flag::TRUNCATED != 0 {
        return Verdict::Truncated(partial(reply));
    }
    match (header.rcode(), extension) {
        (kind::FORMAT_ERROR | kind::NOT_IMPLEMENTED, Extension::Edns) => Verdict::AskPlainly,
        (kind::NO_ERROR, _) if is_lame(header) => Verdict::AskNext,
        (kind::NO_ERROR | kind::NAME_ERROR | kind::YX_DOMAIN, _) if !unrepeated => {
            if has_upper_rcode(reply, header) {
                return Verdict::AskNext;
            }
            Answer::relayed(reply.to_vec()).map_or(Verdict::AskNext, Verdict::Final)
        }
        _ => Verdict::AskNext,
    }
}

/// The names alike but for capitals, type and class the same.
fn repeats(query: &Query, header: Header, reply: &[u8]) -> bool {
    let asked = query.question();
    let Some(question) = reply.get(HEADER..HEADER + asked.len()) else { return false };
    let (name, tail) = question.split_at(asked.len() - QUESTION_TAIL);
    header.questions == 1 && name.eq_ignore_ascii_case(query.name()) && tail == &asked[name.len()..]
}

/// A server that neither knows nor asks others: it points elsewhere, or at nothing. glibc goes on to the next as well.
fn is_lame(header: Header) -> bool {
    header.answers == 0 && header.flags & (flag::AUTHORITATIVE | flag::RECURSION_AVAILABLE) == 0
}

/// Response codes from 16 up have their upper bits in the OPT record: BADVERS, BADCOOKIE. None of them is an answer.
fn has_upper_rcode(reply: &[u8], header: Header) -> bool {
    let Some(mut at) = wire::after_plain_name(reply, HEADER).map(|tail| tail + QUESTION_TAIL) else { return false };
    let count = usize::from(header.answers) + usize::from(header.authorities) + usize::from(header.additional);
    for _ in 0..count {
        let Some(record) = wire::Record::read(reply, at) else { return false };
        if record.kind == kind::OPT {
            return record.ttl.to_be_bytes()[0] != 0;
        }
        at = record.end();
    }
    false
}

/// The records of a truncated reply that are whole, as an answer that is not kept.
fn partial(reply: &[u8]) -> Option<Answer> {
    let mut message = reply.to_vec();
    let mut header = Header::read(&message)?;
    let mut at = wire::after_plain_name(&message, HEADER)? + QUESTION_TAIL;
    let mut whole = 0;
    while whole < header.answers
        && let Some(record) = wire::Record::read(&message, at)
    {
        at = record.end();
        whole += 1;
    }
    (header.answers, header.authorities, header.additional) = (whole, 0, 0);
    message.truncate(at);
    message.get_mut(..HEADER)?.copy_from_slice(&header.bytes());
    Answer::relayed(message).map(Answer::in_part)
}
