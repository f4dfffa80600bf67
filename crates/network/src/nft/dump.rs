//! Reading back what nf_tables holds.

use std::net::Ipv4Addr;

use super::batch::{Element, FAMILY_INET};
use crate::netlink::{self, Protocol, Reply, Socket, attributes, find};

const GET_CHAIN: u16 = 0x0a00 | 4;
const GET_ELEMENTS: u16 = 0x0a00 | 13;
const HEADER: usize = 4;
const ALL_FAMILIES: u8 = 0;
const POLICY_DROP: u32 = 0;

/// A chain of any table that packets enter by themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BaseChain {
    /// As `nft` names it: `ip`, `inet`, …
    pub(crate) family: &'static str,
    pub(crate) table: String,
    pub(crate) name: String,
    /// `filter`, `nat` or `route`.
    pub(crate) kind: String,
    pub(crate) hook: u32,
    pub(crate) drops_by_policy: bool,
}

/// The names of a table's chains.
pub(crate) fn chains(socket: &mut Socket, table: &str) -> Result<Vec<String>, netlink::Error> {
    let replies = socket.dump(GET_CHAIN, |body| {
        body.raw(&[FAMILY_INET, 0, 0, 0]).text(1, table);
    })?;
    let of_table = replies.iter().filter(|reply| field(reply, 1).as_deref() == Some(table));
    Ok(of_table.filter_map(|reply| field(reply, 3)).collect())
}

/// Every base chain of the network namespace, whoever made it.
pub(crate) fn base_chains() -> Result<Vec<BaseChain>, netlink::Error> {
    let mut socket = Socket::open(Protocol::Netfilter)?;
    let replies = socket.dump(GET_CHAIN, |body| {
        body.raw(&[ALL_FAMILIES, 0, 0, 0]);
    })?;
    Ok(replies.iter().filter_map(read_base_chain).collect())
}

fn read_base_chain(reply: &Reply) -> Option<BaseChain> {
    let area = reply.body.get(HEADER..)?;
    let number = |area, kind| find(area, kind)?.try_into().ok().map(u32::from_be_bytes);
    let family = match reply.body[0] {
        1 => "inet",
        2 => "ip",
        3 => "arp",
        5 => "netdev",
        7 => "bridge",
        10 => "ip6",
        _ => "unknown",
    };
    Some(BaseChain {
        family,
        table: field(reply, 1)?,
        name: field(reply, 3)?,
        kind: field(reply, 7)?,
        hook: number(find(area, 4)?, 1)?,
        drops_by_policy: number(area, 5) == Some(POLICY_DROP),
    })
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
        comment: find(entry, 6).and_then(read_comment),
        interval_end: find(entry, 3).is_some_and(|flags| flags.last().is_some_and(|last| last & 1 != 0)),
    })
}

/// User data is a list of type, length, value; type 0 is the comment with its terminating zero.
fn read_comment(mut data: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = data {
        let (value, behind) = rest.split_at_checked(usize::from(*length))?;
        if *kind == 0 {
            return Some(String::from_utf8_lossy(value).trim_end_matches('\0').to_owned());
        }
        data = behind;
    }
    None
}

fn field(reply: &Reply, kind: u16) -> Option<String> {
    let bytes = find(reply.body.get(HEADER..)?, kind)?;
    Some(String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned())
}

/// The address in the first register of an element's data.
pub(super) fn address_in(data: &[u8]) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = data.get(..4)?.try_into().ok()?;
    Some(octets.into())
}
