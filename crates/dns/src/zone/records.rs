//! What is at one of our names, and the message that says it, as `simple-dns` writes it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use simple_dns::rdata::{A, AAAA, HINFO, PTR, RData, SOA, SRV};
use simple_dns::{
    CLASS, CharacterString, Label, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, ResourceRecord, TYPE,
};

use super::{DOMAIN, MAX_RECORDS, NEGATIVE_TTL_S, TTL_S};
use crate::kind;
use crate::query::Query;
use crate::wire;

/// Of the SOA record, for servers that copy zones, of which there are none, in seconds.
const REFRESH_S: i32 = 3600;
const RETRY_S: i32 = 600;
const EXPIRE_S: i32 = 86_400;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    v4: Vec<Ipv4Addr>,
    v6: Vec<Ipv6Addr>,
    pub(super) services: Vec<Service>,
    /// A whole name.
    pub(super) pointer: Option<Box<[u8]>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) port: u16,
    /// Relative to where the question is asked.
    pub(super) target: Box<[u8]>,
    pub(super) addresses: Vec<IpAddr>,
}

/// The answer to a question, before it is written.
pub(super) enum Found<'a> {
    V4(&'a [Ipv4Addr]),
    V6(&'a [Ipv6Addr]),
    Services(&'a [Service]),
    Pointer(&'a [u8]),
    /// To a question for everything (RFC 8482, section 4.2).
    Any,
    Authority,
    /// The name exists, with records of other types or names below it.
    NoRecords,
    NoName,
}

impl Node {
    pub(super) fn add_addresses(&mut self, addresses: &[IpAddr]) {
        for address in addresses {
            match address {
                IpAddr::V4(v4) if !self.v4.contains(v4) => self.v4.push(*v4),
                IpAddr::V6(v6) if !self.v6.contains(v6) => self.v6.push(*v6),
                IpAddr::V4(_) | IpAddr::V6(_) => {}
            }
        }
    }

    pub(super) fn find(&self, kind: u16, is_apex: bool) -> Found<'_> {
        match kind {
            kind::A if !self.v4.is_empty() => Found::V4(&self.v4),
            kind::AAAA if !self.v6.is_empty() => Found::V6(&self.v6),
            kind::SRV if !self.services.is_empty() => Found::Services(&self.services),
            kind::PTR => self.pointer.as_deref().map_or(Found::NoRecords, Found::Pointer),
            kind::SOA if is_apex => Found::Authority,
            kind::ANY => Found::Any,
            _ => Found::NoRecords,
        }
    }
}

/// None when a record cannot be written, which no name that was let in causes.
pub(super) fn message(query: &Query, found: &Found, apex: &[u8], turn: usize) -> Option<Vec<u8>> {
    let asked = to_name(query.name());
    let mut packet = Packet::new_reply(0);
    packet.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
    let kind = match query.kind {
        kind::ANY => QTYPE::ANY,
        // Types that the crate does not know are written as A and put right below.
        kind => QTYPE::try_from(kind).unwrap_or(QTYPE::TYPE(TYPE::A)),
    };
    packet.questions.push(Question::new(asked.clone(), kind, QCLASS::CLASS(CLASS::IN), false));
    let record = |data| ResourceRecord::new(asked.clone(), CLASS::IN, TTL_S, data);
    match found {
        Found::V4(addresses) => {
            packet.answers = turned(addresses, turn).map(|ip| record(RData::A(A::from(*ip)))).collect()
        }
        Found::V6(addresses) => {
            packet.answers = turned(addresses, turn).map(|ip| record(RData::AAAA(AAAA::from(*ip)))).collect();
        }
        Found::Services(services) => add_services(&mut packet, services, &asked, below(query.name()), turn),
        Found::Pointer(target) => packet.answers.push(record(RData::PTR(PTR(to_name(target))))),
        Found::Any => packet.answers.push(record(RData::HINFO(HINFO {
            cpu: CharacterString::new(b"RFC8482").ok()?,
            os: CharacterString::new(b"").ok()?,
        }))),
        Found::Authority => packet.answers.push(authority(apex)),
        Found::NoRecords => packet.name_servers.push(authority(apex)),
        Found::NoName => {
            *packet.rcode_mut() = RCODE::NameError;
            packet.name_servers.push(authority(apex));
        }
    }
    let mut message = packet.build_bytes_vec_compressed().ok()?;
    let question = query.question();
    message.get_mut(wire::HEADER..wire::HEADER + question.len())?.copy_from_slice(question);
    Some(message)
}

/// Each service, and the addresses of its target (RFC 2782).
fn add_services<'a>(
    packet: &mut Packet<'a>,
    services: &'a [Service],
    asked: &Name<'a>,
    domain: &'static [u8],
    turn: usize,
) {
    for service in turned(services, turn) {
        let labels: Vec<Label> =
            wire::labels(&service.target).chain(wire::labels(domain)).map(Label::new_unchecked).collect();
        let target = Name::new_with_labels(&labels);
        let record = SRV { priority: 0, weight: 1, port: service.port, target: target.clone() };
        packet.answers.push(ResourceRecord::new(asked.clone(), CLASS::IN, TTL_S, RData::SRV(record)));
        packet.additional_records.extend(service.addresses.iter().map(|address| {
            let data = match address {
                IpAddr::V4(v4) => RData::A(A::from(*v4)),
                IpAddr::V6(v6) => RData::AAAA(AAAA::from(*v6)),
            };
            ResourceRecord::new(target.clone(), CLASS::IN, TTL_S, data)
        }));
    }
}

/// Targets are named as the question is: bare, or below our domain.
fn below(asked: &[u8]) -> &'static [u8] {
    let asked = asked.strip_suffix(&[0]).unwrap_or(asked).to_ascii_lowercase();
    if super::below_domain(&asked).is_some() { DOMAIN } else { b"" }
}

fn authority(apex: &[u8]) -> ResourceRecord<'_> {
    let data = SOA {
        mname: to_name(DOMAIN),
        rname: Name::new_unchecked("hostmaster.coracle.internal"),
        serial: 1,
        refresh: REFRESH_S,
        retry: RETRY_S,
        expire: EXPIRE_S,
        minimum: NEGATIVE_TTL_S,
    };
    ResourceRecord::new(to_name(apex), CLASS::IN, NEGATIVE_TTL_S, RData::SOA(data))
}

fn to_name(bytes: &[u8]) -> Name<'_> {
    let labels: Vec<Label> = wire::labels(bytes).map(Label::new_unchecked).collect();
    Name::new_with_labels(&labels)
}

fn turned<T>(all: &[T], turn: usize) -> impl Iterator<Item = &T> {
    let start = turn % all.len().max(1);
    all[start..].iter().chain(&all[..start]).take(MAX_RECORDS)
}
