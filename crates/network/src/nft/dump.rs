//! Reading back what nf_tables holds.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::batch::{Element, FAMILY_INET};
use crate::netlink::{self, Reply, Socket, attributes, find};

const GET_CHAIN: u16 = 0x0a00 | 4;
const GET_RULE: u16 = 0x0a00 | 7;
const GET_ELEMENTS: u16 = 0x0a00 | 13;
const GET_GENERATION: u16 = 0x0a00 | 16;
const HEADER: usize = 4;
const RULE_USER_DATA: u16 = 7;
const DATA_VERDICT: u16 = 2;
const VERDICT_CHAIN: u16 = 2;
const ALL_FAMILIES: u8 = 0;

/// A number that every change of any table of this network namespace raises.
pub(crate) fn generation(socket: &mut Socket) -> Result<u32, netlink::Error> {
    let replies = socket.request(GET_GENERATION, 0, |body| {
        body.raw(&[ALL_FAMILIES, 0, 0, 0]);
    })?;
    let number = replies.iter().find_map(|reply| find(reply.body.get(HEADER..)?, 1)?.try_into().ok());
    Ok(number.map_or(0, u32::from_be_bytes))
}

/// The comment of every rule of a table, by chain, in the rules' order; a rule without one has an empty one.
pub(crate) fn rule_comments(socket: &mut Socket, table: &str) -> Result<BTreeMap<String, Vec<String>>, netlink::Error> {
    let rules = socket.dump(GET_RULE, |body| {
        body.raw(&[FAMILY_INET, 0, 0, 0]).text(1, table);
    })?;
    let mut by_chain: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for rule in rules.iter().filter(|rule| field(rule, 1).as_deref() == Some(table)) {
        let comment = rule.body.get(HEADER..).and_then(|area| find(area, RULE_USER_DATA)).and_then(read_comment);
        if let Some(chain) = field(rule, 2) {
            by_chain.entry(chain).or_default().push(comment.unwrap_or_default());
        }
    }
    Ok(by_chain)
}

/// The names of a table's chains; none where there is no such table.
pub(crate) fn chains(socket: &mut Socket, table: &str) -> Result<Vec<String>, netlink::Error> {
    let replies = socket.dump(GET_CHAIN, |body| {
        body.raw(&[FAMILY_INET, 0, 0, 0]).text(1, table);
    })?;
    let of_table = replies.iter().filter(|reply| field(reply, 1).as_deref() == Some(table));
    Ok(of_table.filter_map(|reply| field(reply, 3)).collect())
}

/// The elements of a set or map with their comments.
pub(crate) fn elements(socket: &mut Socket, table: &str, set: &str) -> Result<Vec<Element>, netlink::Error> {
    let replies = socket.dump(GET_ELEMENTS, |body| {
        body.raw(&[FAMILY_INET, 0, 0, 0]).text(1, table).text(2, set);
    })?;
    let lists = replies.iter().filter_map(|reply| find(reply.body.get(HEADER..)?, 3));
    Ok(lists.flat_map(|list| attributes(list).filter_map(|(_, entry)| read_element(entry))).collect())
}

fn read_element(entry: &[u8]) -> Option<Element> {
    let value = |kind| find(find(entry, kind)?, 1).map(<[u8]>::to_vec);
    Some(Element {
        key: value(1)?,
        data: value(2),
        goto: find(entry, 2).and_then(|data| find(data, DATA_VERDICT)).and_then(|verdict| name(verdict, VERDICT_CHAIN)),
        comment: find(entry, 6).and_then(read_comment),
        interval_end: find(entry, 3).is_some_and(|flags| flags.last().is_some_and(|last| last & 1 != 0)),
    })
}

/// User data is a list of type, length, value; type 0 is the comment with its terminating zero.
pub(super) fn read_comment(mut data: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = data {
        let (value, behind) = rest.split_at_checked(usize::from(*length))?;
        if *kind == 0 {
            return Some(String::from_utf8_lossy(value).trim_end_matches('\0').to_owned());
        }
        data = behind;
    }
    None
}

pub(super) fn field(reply: &Reply, kind: u16) -> Option<String> {
    name(reply.body.get(HEADER..)?, kind)
}

pub(super) fn name(area: &[u8], kind: u16) -> Option<String> {
    let bytes = find(area, kind)?;
    Some(String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned())
}

/// The address in the first four registers of an element's data.
pub(super) fn address6_in(data: &[u8]) -> Option<Ipv6Addr> {
    let octets: [u8; 16] = data.get(..16)?.try_into().ok()?;
    Some(octets.into())
}

/// The address in the first register of an element's data.
pub(super) fn address_in(data: &[u8]) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = data.get(..4)?.try_into().ok()?;
    Some(octets.into())
}
