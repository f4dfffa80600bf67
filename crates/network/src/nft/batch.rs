//! One nftables transaction: everything in it commits, or nothing does.

use std::collections::BTreeMap;

use nix::errno::Errno;

use super::expression::{Expression, write_goto_value, write_value};
use crate::netlink::{self, Buffer, Refused, Socket, flags, verdict};

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// NFNL_BATCH_GENID.
const BATCH_GENERATION: u16 = 1;
const SUBSYSTEM: u16 = 0x0a00;
/// struct nfgenmsg of the batch markers: the resource id names the subsystem.
const MARKER_HEADER: [u8; 4] = [0, 0, 0, 10];
pub(super) const FAMILY_INET: u8 = 1;
const NLMSG_ERROR: u16 = 2;
/// One nested attribute holds at most 64 KiB, an element with its comment at most about 130 bytes.
const ELEMENTS_PER_MESSAGE: usize = 300;

const ADD_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const ADD_CHAIN: u16 = 3;
const DELETE_CHAIN: u16 = 5;
const ADD_RULE: u16 = 6;
const DELETE_RULE: u16 = 8;
const ADD_SET: u16 = 9;
const DELETE_SET: u16 = 11;
const ADD_ELEMENTS: u16 = 12;
const DELETE_ELEMENTS: u16 = 14;

/// Key and data types as `nft` numbers them, so that `nft list` prints them well; the kernel only wants lengths.
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum Type {
    Ipv4Address = 7,
    Ipv6Address = 8,
    EthernetAddress = 9,
    Transport = 12,
    Port = 13,
    InterfaceName = 41,
    /// Of a map's data alone: which chain goes on.
    Verdict = 0xffff_ff00,
}

impl Type {
    fn length(self) -> u32 {
        match self {
            Type::Ipv4Address => 4,
            Type::InterfaceName | Type::Ipv6Address => 16,
            Type::EthernetAddress => 6,
            Type::Transport => 1,
            Type::Port => 2,
            // The kernel knows the length of its own verdicts.
            Type::Verdict => 0,
        }
    }
}

/// A concatenation's length, each field padded to a register, and its type number, six bits a field.
fn concatenation(fields: &[Type]) -> (u32, u32) {
    if let [single] = fields {
        return (single.length(), *single as u32);
    }
    fields.iter().fold((0, 0), |(length, number), field| {
        (length + field.length().next_multiple_of(4), number << 6 | *field as u32)
    })
}

/// Encoded fields one behind the other, each padded to a register.
pub(crate) fn concatenate(fields: &[&[u8]]) -> Vec<u8> {
    let mut joined = Vec::new();
    for field in fields {
        joined.extend_from_slice(field);
        joined.resize(joined.len().next_multiple_of(4), 0);
    }
    joined
}

pub(crate) fn interface_name(name: &str) -> Vec<u8> {
    let mut padded = name.as_bytes().to_vec();
    padded.resize(16, 0);
    padded
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) key: Vec<u8>,
    pub(crate) data: Option<Vec<u8>>,
    /// Of a verdict map: the chain that goes on.
    pub(crate) goto: Option<String>,
    /// At most 255 bytes.
    pub(crate) comment: Option<String>,
    /// The first key behind an interval.
    pub(crate) interval_end: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct SetShape<'a> {
    pub(crate) name: &'a str,
    pub(crate) key: &'a [Type],
    pub(crate) interval: bool,
    /// Empty for a set.
    pub(crate) data: &'a [Type],
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct BaseChainShape<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) hook: Hook,
    pub(crate) priority: i32,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Hook {
    Prerouting = 0,
    Input = 1,
    Forward = 2,
    Output = 3,
    Postrouting = 4,
}

#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    #[error("nftables: {operation}")]
    Refused {
        operation: String,
        #[source]
        source: Refused,
    },
    #[error("an interface is in at most {} security groups, and this one is to be in {given}", super::eni::MAX_GROUPS)]
    TooManyGroups { given: usize },
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
}

impl CommitError {
    pub(crate) fn errno(&self) -> Option<Errno> {
        match self {
            CommitError::Refused { source, .. } => Some(source.errno),
            CommitError::TooManyGroups { .. } => None,
            CommitError::Netlink(error) => error.errno(),
        }
    }
}

pub(crate) struct Batch {
    buffer: Buffer,
    family: u8,
    table: String,
    operations: Vec<String>,
    last_operation: usize,
    sets: u32,
    /// The comments of the rules that are added, by chain.
    rules: BTreeMap<String, Vec<String>>,
}

impl Batch {
    pub(crate) fn new(table: &str) -> Batch {
        let mut buffer = Buffer::default();
        buffer.message(BATCH_BEGIN, flags::REQUEST, 0, |body| {
            body.raw(&MARKER_HEADER);
        });
        Batch {
            buffer,
            family: FAMILY_INET,
            table: table.to_owned(),
            operations: Vec::new(),
            last_operation: 0,
            sets: 0,
            rules: BTreeMap::new(),
        }
    }

    /// A transaction that is refused with ERESTART when anything at all has changed in nftables since `generation` was
    /// read (`dump::generation`): what was read before is what it is made from.
    pub(crate) fn at_generation(table: &str, generation: u32) -> Batch {
        let mut batch = Batch::new(table);
        batch.buffer = Buffer::default();
        batch.buffer.message(BATCH_BEGIN, flags::REQUEST, 0, |body| {
            body.raw(&MARKER_HEADER).be32(BATCH_GENERATION, generation);
        });
        batch
    }

    /// The same in a table of somebody else's, of any family.
    pub(crate) fn in_table_of(family: u8, table: &str, generation: u32) -> Batch {
        Batch { family, ..Batch::at_generation(table, generation) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Of what the transaction says (FNV-1a, 64 bits).
    pub(crate) fn fingerprint(&self) -> u64 {
        let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        self.bytes().iter().fold(0xcbf2_9ce4_8422_2325, mix)
    }

    pub(super) fn rules(&self) -> &BTreeMap<String, Vec<String>> {
        &self.rules
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.buffer.bytes()
    }

    pub(crate) fn add_table(&mut self) {
        self.operation("add table".into(), ADD_TABLE, flags::CREATE, |body| {
            body.be32(2, 0);
        });
    }

    /// Refused with EBUSY where anything is in it.
    pub(crate) fn delete_table_if_empty(&mut self) {
        self.operation("delete table if empty".into(), DELETE_TABLE, flags::NOT_RECURSIVE, |_| {});
    }

    pub(crate) fn delete_table(&mut self) {
        self.operation("delete table".into(), DELETE_TABLE, 0, |_| {});
    }

    pub(crate) fn add_chain(&mut self, name: &str) {
        self.operation(format!("add chain {name}"), ADD_CHAIN, flags::CREATE, |body| {
            body.text(3, name);
        });
    }

    pub(crate) fn delete_chain(&mut self, name: &str) {
        self.operation(format!("delete chain {name}"), DELETE_CHAIN, 0, |body| {
            body.text(3, name);
        });
    }

    /// A chain that packets enter by themselves; its policy is to accept.
    pub(crate) fn add_base_chain(&mut self, chain: BaseChainShape<'_>) {
        self.operation(format!("add base chain {}", chain.name), ADD_CHAIN, flags::CREATE, |body| {
            body.text(3, chain.name).nest(4, |hook| {
                hook.be32(1, chain.hook as u32).be32(2, chain.priority.cast_unsigned());
            });
            body.be32(5, 1).text(7, chain.kind);
        });
    }

    /// Deletes every rule of a chain. Refused with ENOENT where there is no such chain.
    pub(crate) fn flush_chain(&mut self, name: &str) {
        self.operation(format!("flush chain {name}"), DELETE_RULE, 0, |body| {
            body.text(2, name);
        });
    }

    /// At the chain's end.
    pub(crate) fn add_rule(&mut self, chain: &str, comment: &str, expressions: &[Expression]) {
        self.rule(format!("add rule to chain {chain}: {comment}"), flags::APPEND, chain, comment, expressions);
    }

    /// At the chain's head.
    pub(crate) fn insert_rule(&mut self, chain: &str, comment: &str, expressions: &[Expression]) {
        self.rule(format!("insert rule into chain {chain}: {comment}"), 0, chain, comment, expressions);
    }

    fn rule(&mut self, what: String, place: u16, chain: &str, comment: &str, expressions: &[Expression]) {
        self.rules.entry(chain.to_owned()).or_default().push(comment.to_owned());
        self.operation(what, ADD_RULE, flags::CREATE | place, |body| {
            body.text(2, chain).nest(4, |rule| {
                for expression in expressions {
                    expression.write(rule);
                }
            });
            body.attribute(7, &comment_user_data(comment));
        });
    }

    pub(crate) fn delete_rule(&mut self, chain: &str, handle: u64) {
        self.operation(format!("delete rule {handle} of chain {chain}"), DELETE_RULE, 0, |body| {
            body.text(2, chain).attribute(3, &handle.to_be_bytes());
        });
    }

    pub(crate) fn add_set(&mut self, set: SetShape<'_>) {
        self.sets += 1;
        let id = self.sets;
        let interval = if set.interval { 0x4 } else { 0 };
        let map = if set.data.is_empty() { 0 } else { 0x8 };
        let (key_length, key_type) = concatenation(set.key);
        let (data_length, data_type) = concatenation(set.data);
        // Byte order of the key, for `nft list` alone: 1 is the host's, 2 the network's.
        let order = if matches!(set.key, [Type::InterfaceName]) { 1 } else { 2 };
        self.operation(format!("add set {}", set.name), ADD_SET, flags::CREATE, |body| {
            body.text(2, set.name).be32(3, interval | map).be32(4, key_type).be32(5, key_length);
            if map != 0 {
                body.be32(6, data_type);
            }
            if data_length != 0 {
                body.be32(7, data_length);
            }
            body.be32(10, id).attribute(13, &[0, 4, order, 0, 0, 0]);
        });
    }

    /// An element that is there already with the same data is no error.
    pub(crate) fn add_elements(&mut self, set: &str, elements: &[Element]) {
        self.elements("add", ADD_ELEMENTS, flags::CREATE, set, elements);
    }

    /// Refused with EEXIST where one of the keys is taken.
    pub(crate) fn add_new_elements(&mut self, set: &str, elements: &[Element]) {
        self.elements("add", ADD_ELEMENTS, flags::CREATE | flags::EXCL, set, elements);
    }

    /// Refused with ENOENT where one of the keys is not there.
    pub(crate) fn delete_elements(&mut self, set: &str, elements: &[Element]) {
        self.elements("delete", DELETE_ELEMENTS, 0, set, elements);
    }

    /// Deletes every element of a set. Refused with ENOENT where there is no such set.
    pub(crate) fn flush_set(&mut self, set: &str) {
        self.operation(format!("flush set {set}"), DELETE_ELEMENTS, 0, |body| {
            body.text(2, set);
        });
    }

    pub(crate) fn delete_set(&mut self, set: &str) {
        self.operation(format!("delete set {set}"), DELETE_SET, 0, |body| {
            body.text(2, set);
        });
    }

    fn elements(&mut self, verb: &str, message: u16, extra_flags: u16, set: &str, elements: &[Element]) {
        for part in elements.chunks(ELEMENTS_PER_MESSAGE) {
            self.operation(format!("{verb} elements of {set}"), message, extra_flags, |body| {
                body.text(2, set).nest(3, |list| {
                    for element in part {
                        list.nest(1, |entry| write_element(entry, element));
                    }
                });
            });
        }
    }

    fn operation(&mut self, what: String, message: u16, extra_flags: u16, fill: impl FnOnce(&mut Buffer)) {
        self.last_operation = self.buffer.length();
        self.operations.push(what);
        let sequence = self.operations.len() as u32;
        self.buffer.message(SUBSYSTEM | message, flags::REQUEST | extra_flags, sequence, |body| {
            // Every nf_tables message names its table in attribute 1.
            body.raw(&[self.family, 0, 0, 0]).text(1, &self.table);
            fill(body);
        });
    }

    /// Only the last operation asks for an acknowledgement: the kernel reports every failing one by itself, and a
    /// long transaction cannot overflow the receive queue.
    pub(crate) fn commit(mut self, socket: &mut Socket) -> Result<(), CommitError> {
        if self.operations.is_empty() {
            return Ok(());
        }
        self.buffer.add_flags(self.last_operation, flags::ACK);
        let last = self.operations.len() as u32;
        self.buffer.message(BATCH_END, flags::REQUEST, last + 1, |body| {
            body.raw(&MARKER_HEADER);
        });
        // Numbers of the socket's own, so that a late answer to an earlier transaction is not taken for one to this.
        let begin = socket.take_sequences(last + 2);
        self.buffer.renumber(begin);
        socket.send(&self.buffer)?;
        let mut failure: Option<CommitError> = None;
        loop {
            for reply in socket.receive()? {
                let number = reply.sequence.wrapping_sub(begin);
                if reply.kind != NLMSG_ERROR || number > last + 1 {
                    continue;
                }
                if let Err(source) = verdict(&reply) {
                    let named = (number as usize).checked_sub(1).and_then(|at| self.operations.get(at));
                    let operation = named.cloned().unwrap_or_else(|| "the transaction".into());
                    failure.get_or_insert(CommitError::Refused { operation, source });
                }
                // A refusal of the transaction as a whole answers its begin, number 0.
                if number == last || number == 0 {
                    return failure.map_or(Ok(()), Err);
                }
            }
        }
    }
}

fn write_element(entry: &mut Buffer, element: &Element) {
    write_value(entry, 1, &element.key);
    if let Some(data) = &element.data {
        write_value(entry, 2, data);
    }
    if let Some(chain) = &element.goto {
        write_goto_value(entry, 2, chain);
    }
    if element.interval_end {
        entry.be32(3, 1);
    }
    if let Some(comment) = &element.comment {
        entry.attribute(6, &comment_user_data(comment));
    }
}

/// nft keeps comments in user data as type, length, text with its zero.
fn comment_user_data(comment: &str) -> Vec<u8> {
    let length = u8::try_from(comment.len() + 1).expect("comments are a constant, or an instance and a task id");
    let mut data = vec![0, length];
    data.extend_from_slice(comment.as_bytes());
    data.push(0);
    data
}
