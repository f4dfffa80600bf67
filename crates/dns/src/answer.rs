//! An answer without the one who asked: kept once, written for each. What an asker gets of it is its own id, its own
//! spelling of the name, TTLs that have run down since, and as much as it takes.

use crate::kind;
use crate::query::{OPT_LENGTH, Query, Transport, push_opt};
use crate::wire::{self, HEADER, Header, QUESTION_TAIL, Record, flag};

/// No record is kept longer, in seconds; RFC 8767 (section 4) recommends a cap of days to weeks.
pub const MAX_TTL_S: u32 = 24 * 60 * 60;
/// That a name has nothing is not believed longer, in seconds. RFC 2308 (section 5) allows one to three hours; here a
/// person may be waiting for the record to appear.
const MAX_NEGATIVE_TTL_S: u32 = 300;
/// A resolution that failed is not tried again sooner, in seconds: the least that RFC 9520 (section 3.2) demands.
const FAILURE_TTL_S: u32 = 1;
/// SOA records end in five numbers of 32 bits, MINIMUM the last, behind two names.
const SHORTEST_SOA: usize = 22;

/// A whole message with id 0 and no OPT record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    message: Vec<u8>,
    question_end: usize,
    /// In the order of the message.
    records: Vec<Place>,
    lifetime_s: u32,
    /// The name server had more, and could not be asked for it.
    truncated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    ttl_at: usize,
    end: usize,
}

impl Answer {
    /// Of a message that we have made.
    pub(crate) fn own(message: Vec<u8>) -> Option<Answer> {
        Answer::of(message, flag::AUTHORITATIVE)
    }

    /// Of a name server's reply. An OPT record is between it and us; it is usually the last record, and what is behind it
    /// goes with it, since pointers into what moves would be wrong.
    pub(crate) fn relayed(message: Vec<u8>) -> Option<Answer> {
        Answer::of(message, flag::AUTHENTIC_DATA)
    }

    /// Says that there is no answer to be had.
    pub fn failure(query: &Query, rcode: u8) -> Answer {
        let header = Header {
            id: 0,
            flags: flag::RESPONSE | flag::RECURSION_AVAILABLE | u16::from(rcode),
            questions: 1,
            answers: 0,
            authorities: 0,
            additional: 0,
        };
        let message = [&header.bytes()[..], query.question()].concat();
        let question_end = message.len();
        Answer { message, question_end, records: Vec::new(), lifetime_s: FAILURE_TTL_S, truncated: false }
    }

    fn of(mut message: Vec<u8>, kept_flags: u16) -> Option<Answer> {
        let mut header = Header::read(&message)?;
        let question_end = wire::after_plain_name(&message, HEADER)? + QUESTION_TAIL;
        if header.questions != 1 || question_end > message.len() {
            return None;
        }
        let mut records = Vec::new();
        let mut lifetime = Lifetime::default();
        let (mut at, mut additional) = (question_end, 0);
        let sections = [(header.answers, true), (header.authorities, false)];
        for (count, is_answer) in sections {
            for _ in 0..count {
                let record = Record::read(&message, at)?;
                at = record.end();
                lifetime.heed(&message, &record, is_answer);
                records.push(kept(&mut message, &record));
            }
        }
        while additional < header.additional {
            let record = Record::read(&message, at)?;
            if record.kind == kind::OPT {
                break;
            }
            at = record.end();
            additional += 1;
            records.push(kept(&mut message, &record));
        }
        message.truncate(at);
        header.id = 0;
        header.flags &= kept_flags | flag::RCODE;
        header.flags |= flag::RESPONSE | flag::RECURSION_AVAILABLE;
        header.additional = additional;
        message[..HEADER].copy_from_slice(&header.bytes());
        let lifetime_s = lifetime.seconds(header);
        Some(Answer { message, question_end, records, lifetime_s, truncated: false })
    }

    /// The same as part of an answer: nobody else gets it, and whoever gets it is told.
    pub(crate) fn in_part(self) -> Answer {
        Answer { lifetime_s: 0, truncated: true, ..self }
    }

    /// How long it may be kept, in seconds; 0: not at all (RFC 1035, section 3.2.1; RFC 2308, section 5).
    pub fn lifetime_s(&self) -> u32 {
        self.lifetime_s
    }

    /// Bytes that it takes, about.
    pub fn size(&self) -> usize {
        size_of::<Answer>() + self.message.capacity() + self.records.capacity() * size_of::<Place>()
    }

    pub fn rcode(&self) -> u8 {
        self.message[3] & flag::RCODE as u8
    }

    /// Writes what this asker gets, `age_s` after the answer was made, over what was in `reply`. It is never longer than
    /// `query.limit(transport)`: records are left out from the end, and if the asker misses them, TC says so. It has as
    /// many as fit nevertheless, because clients exist that never ask again over TCP (musl before 1.2.4).
    pub fn write(&self, query: &Query, transport: Transport, age_s: u32, reply: &mut Vec<u8>) {
        let opt_length = if query.edns.is_some() { OPT_LENGTH } else { 0 };
        let room = query.limit(transport) - opt_length;
        let kept = self.records.iter().take_while(|place| place.end <= room).count();
        let end = kept.checked_sub(1).map_or(self.question_end, |last| self.records[last].end);
        reply.clear();
        reply.extend_from_slice(&self.message[..end]);
        if self.question_end == HEADER + query.question().len() {
            reply[HEADER..self.question_end].copy_from_slice(query.question());
        }
        for place in &self.records[..kept] {
            if let Some(ttl) = reply[place.ttl_at..].first_chunk_mut() {
                *ttl = u32::from_be_bytes(*ttl).saturating_sub(age_s).to_be_bytes();
            }
        }
        let header = self.header_for(query, kept);
        reply[..HEADER].copy_from_slice(&header.bytes());
        if let Some(edns) = query.edns {
            push_opt(reply, crate::MAX_UDP_PAYLOAD, 0, edns.dnssec_ok);
        }
    }

    fn header_for(&self, query: &Query, kept: usize) -> Header {
        let mut header = Header::read(&self.message).expect("an answer has a header");
        header.id = query.id;
        let wanted = usize::from(header.answers) + usize::from(header.authorities);
        // Authorities beside an answer are a courtesy; a negative answer is worth nothing without its SOA.
        let needed = if header.answers > 0 { usize::from(header.answers) } else { wanted };
        let mut left = kept;
        for count in [&mut header.answers, &mut header.authorities, &mut header.additional] {
            // At most what the section had.
            let here = left.min(usize::from(*count));
            *count = here as u16;
            left -= here;
        }
        let asked = |yes: bool, flag: u16| if yes { flag } else { 0 };
        if !(query.authentic_data || query.dnssec_ok()) {
            // RFC 6840, section 5.8.
            header.flags &= !flag::AUTHENTIC_DATA;
        }
        header.flags |= asked(self.truncated || kept < needed, flag::TRUNCATED)
            | asked(query.recursion_desired, flag::RECURSION_DESIRED)
            | asked(query.checking_disabled, flag::CHECKING_DISABLED);
        header
    }
}

/// Caps a record's TTL. One with the highest bit set is 0 (RFC 2181, section 8).
fn kept(message: &mut [u8], record: &Record) -> Place {
    if let Some(ttl) = message[record.ttl_at..].first_chunk_mut() {
        *ttl = honest_ttl(record).to_be_bytes();
    }
    Place { ttl_at: record.ttl_at, end: record.end() }
}

fn honest_ttl(record: &Record) -> u32 {
    if record.ttl > i32::MAX as u32 { 0 } else { record.ttl.min(MAX_TTL_S) }
}

/// What the records of a message allow.
#[derive(Default)]
struct Lifetime {
    least_ttl_s: Option<u32>,
    /// Of the SOA record among the authorities: how long the absence lasts (RFC 2308, section 5).
    negative_ttl_s: Option<u32>,
}

impl Lifetime {
    fn heed(&mut self, message: &[u8], record: &Record, is_answer: bool) {
        let ttl = honest_ttl(record);
        self.least_ttl_s = Some(self.least_ttl_s.map_or(ttl, |least| least.min(ttl)));
        if !is_answer && record.kind == kind::SOA && record.content.len() >= SHORTEST_SOA {
            let minimum = wire::u32_at(message, record.content.end - 4).unwrap_or(0);
            self.negative_ttl_s = Some(ttl.min(minimum).min(MAX_NEGATIVE_TTL_S));
        }
    }

    fn seconds(self, header: Header) -> u32 {
        let least = self.least_ttl_s.unwrap_or(0);
        match header.rcode() {
            kind::NO_ERROR if header.answers > 0 => match self.negative_ttl_s {
                // An alias to a name that has no such record: both have to hold.
                Some(negative) => least.min(negative),
                None => least,
            },
            kind::NO_ERROR | kind::NAME_ERROR => self.negative_ttl_s.map_or(0, |negative| negative.min(least)),
            _ => 0,
        }
    }
}
