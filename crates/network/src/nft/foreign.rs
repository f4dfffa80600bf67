//! Filter chains that others have made in the way of our packets, and rules of ours in them. What a chain of somebody
//! else's says is only looked at as far as one question goes: does it end in a drop?

use std::collections::BTreeSet;

use nix::errno::Errno;

use super::batch::{Batch, CommitError};
use super::dump::{self, field, read_comment};
use super::expression::Expression;
use crate::netlink::{self, Reply, Socket, attributes, find};

const GET_TABLE: u16 = 0x0a00 | 1;
const GET_CHAIN: u16 = 0x0a00 | 4;
const GET_RULE: u16 = 0x0a00 | 7;
const HEADER: usize = 4;
const ALL_FAMILIES: u8 = 0;
const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const TABLE_IS_OWNED: u32 = 2;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const POLICY_DROP: u32 = 0;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
const RULE_EXPRESSIONS: u16 = 4;
const RULE_USER_DATA: u16 = 7;
const VERDICT_DROP: i32 = 0;
const VERDICT_JUMP: i32 = -3;
/// How often a transaction is tried again after somebody else changed nftables in between.
const COMMIT_ATTEMPTS: u32 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PassedBy {
    /// What is for the host itself.
    Input = 1,
    /// What the host sends on.
    Forward = 2,
}

/// A filter chain that packets enter by themselves, of a table that is not ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ForeignChain {
    /// As `nft` names it: `ip`, `ip6` or `inet`.
    pub(crate) family: &'static str,
    pub(crate) number: u8,
    pub(crate) table: String,
    pub(crate) name: String,
    /// By its policy, or by a last rule that asks nothing.
    pub(crate) drops: bool,
    /// Nobody but the program that made the table may change it.
    pub(crate) owned: bool,
    /// All chains of its table.
    pub(crate) neighbours: Vec<String>,
    pub(crate) rules: Vec<ForeignRule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ForeignRule {
    pub(crate) handle: u64,
    pub(crate) comment: Option<String>,
    pub(crate) jumps_to: Option<String>,
    /// It drops or rejects whatever comes to it.
    pub(crate) drops_everything: bool,
    pub(crate) expressions: Vec<u8>,
}

impl ForeignRule {
    /// A comparison with a link's name holds the name with its terminating zero.
    pub(crate) fn names_link(&self, link: &str) -> bool {
        let wanted = [link.as_bytes(), &[0]].concat();
        self.expressions.windows(wanted.len()).any(|window| window == wanted)
    }
}

/// Every such chain of IPv4 or IPv6, in whatever table but `own`.
pub(crate) fn chains(socket: &mut Socket, own: &str, passed_by: PassedBy) -> Result<Vec<ForeignChain>, netlink::Error> {
    let all = socket.dump(GET_CHAIN, |body| {
        body.raw(&[ALL_FAMILIES, 0, 0, 0]);
    })?;
    let mut found: Vec<ForeignChain> = all.iter().filter_map(|reply| read_chain(reply, passed_by)).collect();
    found.retain(|chain| (chain.family, chain.table.as_str()) != ("inet", own));
    if found.is_empty() {
        return Ok(found);
    }
    let owned = owned_tables(socket)?;
    for chain in &mut found {
        let in_table = |reply: &&Reply| {
            reply.body.first() == Some(&chain.number) && field(reply, CHAIN_TABLE).as_ref() == Some(&chain.table)
        };
        chain.neighbours = all.iter().filter(in_table).filter_map(|reply| field(reply, CHAIN_NAME)).collect();
        chain.rules = rules(socket, chain, Some(&chain.name))?;
        chain.drops |= chain.rules.last().is_some_and(|rule| rule.drops_everything);
        chain.owned = owned.contains(&(chain.number, chain.table.clone()));
    }
    Ok(found)
}

/// The tables, of whatever family, of which a rule holds these bytes.
pub(crate) fn tables_naming(socket: &mut Socket, wanted: &[u8], own: &[&str]) -> Result<Vec<String>, netlink::Error> {
    let replies = socket.dump(GET_RULE, |body| {
        body.raw(&[ALL_FAMILIES, 0, 0, 0]);
    })?;
    let names = |reply: &&Reply| {
        let expressions = reply.body.get(HEADER..).and_then(|area| find(area, RULE_EXPRESSIONS)).unwrap_or(&[]);
        expressions.windows(wanted.len()).any(|window| window == wanted)
    };
    let tables = replies.iter().filter(names).filter_map(|reply| field(reply, RULE_TABLE));
    let others: BTreeSet<String> = tables.filter(|table| !own.contains(&table.as_str())).collect();
    Ok(others.into_iter().collect())
}

/// The rules of one chain of a chain's table, or of all of them.
pub(crate) fn rules(
    socket: &mut Socket,
    of_table: &ForeignChain,
    chain: Option<&str>,
) -> Result<Vec<ForeignRule>, netlink::Error> {
    let replies = socket.dump(GET_RULE, |body| {
        body.raw(&[of_table.number, 0, 0, 0]).text(RULE_TABLE, &of_table.table);
        if let Some(chain) = chain {
            body.text(RULE_CHAIN, chain);
        }
    })?;
    let wanted = |reply: &&Reply| chain.is_none_or(|chain| field(reply, RULE_CHAIN).as_deref() == Some(chain));
    Ok(replies.iter().filter(wanted).filter_map(read_rule).collect())
}

/// Puts rules at the head of a chain, in their order, each with its comment, where no rule there has that comment yet.
/// Gives back the comments of those that were put.
pub(crate) fn insert(
    socket: &mut Socket,
    of_table: &ForeignChain,
    chain: &str,
    wanted: &[(String, Vec<Expression>)],
) -> Result<Vec<String>, CommitError> {
    changing(socket, of_table, chain, |batch, present| {
        let has = |comment: &String| present.iter().any(|rule| rule.comment.as_ref() == Some(comment));
        let missing: Vec<_> = wanted.iter().filter(|(comment, _)| !has(comment)).collect();
        // Each goes before those that went in already.
        for (comment, expressions) in missing.iter().rev() {
            batch.insert_rule(chain, comment, expressions);
        }
        missing.into_iter().map(|(comment, _)| comment.clone()).collect()
    })
}

/// Deletes the rules of a chain whose comment is one of ours.
pub(crate) fn delete(
    socket: &mut Socket,
    of_table: &ForeignChain,
    chain: &str,
    ours: &dyn Fn(&str) -> bool,
) -> Result<Vec<String>, CommitError> {
    changing(socket, of_table, chain, |batch, present| {
        let ours = present.iter().filter(|rule| rule.comment.as_deref().is_some_and(ours));
        ours.map(|rule| {
            batch.delete_rule(chain, rule.handle);
            rule.comment.clone().unwrap_or_default()
        })
        .collect()
    })
}

/// Reads a chain's rules, changes them, and begins again where somebody else was faster: what is there once stays once.
fn changing(
    socket: &mut Socket,
    of_table: &ForeignChain,
    chain: &str,
    change: impl Fn(&mut Batch, &[ForeignRule]) -> Vec<String>,
) -> Result<Vec<String>, CommitError> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let generation = dump::generation(socket)?;
        let present = rules(socket, of_table, Some(chain))?;
        let mut batch = Batch::in_table_of(of_table.number, &of_table.table, generation);
        let changed = change(&mut batch, &present);
        match batch.commit(socket) {
            Ok(()) => return Ok(changed),
            Err(failure) if failure.errno() == Some(Errno::ERESTART) && attempt < COMMIT_ATTEMPTS => {}
            Err(failure) => return Err(failure),
        }
    }
}

fn owned_tables(socket: &mut Socket) -> Result<Vec<(u8, String)>, netlink::Error> {
    let replies = socket.dump(GET_TABLE, |body| {
        body.raw(&[ALL_FAMILIES, 0, 0, 0]);
    })?;
    let owned = |reply: &Reply| {
        let flags = number(find(reply.body.get(HEADER..)?, TABLE_FLAGS)?)?;
        (flags & TABLE_IS_OWNED != 0).then_some((*reply.body.first()?, field(reply, TABLE_NAME)?))
    };
    Ok(replies.iter().filter_map(owned).collect())
}

fn read_chain(reply: &Reply, passed_by: PassedBy) -> Option<ForeignChain> {
    let (header, area) = reply.body.split_at_checked(HEADER)?;
    let family = match i32::from(header[0]) {
        libc::NFPROTO_INET => "inet",
        libc::NFPROTO_IPV4 => "ip",
        libc::NFPROTO_IPV6 => "ip6",
        _ => return None,
    };
    let hook = number(find(find(area, CHAIN_HOOK)?, 1)?)?;
    if hook != passed_by as u32 || field(reply, CHAIN_TYPE)? != "filter" {
        return None;
    }
    Some(ForeignChain {
        family,
        number: header[0],
        table: field(reply, CHAIN_TABLE)?,
        name: field(reply, CHAIN_NAME)?,
        drops: find(area, CHAIN_POLICY).and_then(number) == Some(POLICY_DROP),
        owned: false,
        neighbours: Vec::new(),
        rules: Vec::new(),
    })
}

fn read_rule(reply: &Reply) -> Option<ForeignRule> {
    let area = reply.body.get(HEADER..)?;
    let expressions = find(area, RULE_EXPRESSIONS).unwrap_or(&[]);
    let handle: [u8; 8] = find(area, RULE_HANDLE)?.try_into().ok()?;
    let list =
        || attributes(expressions).filter_map(|(_, entry)| Some((name_of(entry)?, find(entry, 2).unwrap_or(&[]))));
    // Whatever else a rule holds asks something, so that packets pass it by.
    let asks = list().any(|(name, data)| match name.as_str() {
        "counter" | "log" | "immediate" | "reject" | "target" => false,
        "match" => iptables_comment(data).is_none(),
        _ => true,
    });
    let verdict = list().find_map(|(name, data)| (name == "immediate").then(|| read_verdict(data)).flatten());
    let rejects = list().any(|(name, data)| match name.as_str() {
        "reject" => true,
        // As iptables-nft has it.
        "target" => find(data, 1).is_some_and(|name| name.starts_with(b"REJECT\0")),
        _ => false,
    });
    let (drops, jumps_to) = match verdict {
        Some((VERDICT_DROP, _)) => (true, None),
        Some((VERDICT_JUMP, chain)) => (false, chain),
        Some(_) | None => (false, None),
    };
    let noted = list().find_map(|(name, data)| (name == "match").then(|| iptables_comment(data)).flatten());
    let comment = find(area, RULE_USER_DATA).and_then(read_comment).or(noted);
    Some(ForeignRule {
        handle: u64::from_be_bytes(handle),
        comment,
        jumps_to,
        drops_everything: (drops || rejects) && !asks,
        expressions: expressions.to_vec(),
    })
}

/// What iptables makes of a comment when it puts a saved table back: something that every packet matches.
fn iptables_comment(data: &[u8]) -> Option<String> {
    let info = find(data, 3).filter(|_| find(data, 1).is_some_and(|name| name.starts_with(b"comment\0")))?;
    let text = info.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}

fn name_of(expression: &[u8]) -> Option<String> {
    let bytes = find(expression, 1)?;
    Some(String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned())
}

/// `NFTA_IMMEDIATE_DATA`, of which the verdict's code and chain.
fn read_verdict(data: &[u8]) -> Option<(i32, Option<String>)> {
    let verdict = find(find(data, 2)?, 2)?;
    let code: [u8; 4] = find(verdict, 1)?.try_into().ok()?;
    let chain = find(verdict, 2).map(|bytes| String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned());
    Some((i32::from_be_bytes(code), chain))
}

fn number(payload: &[u8]) -> Option<u32> {
    payload.try_into().ok().map(u32::from_be_bytes)
}
