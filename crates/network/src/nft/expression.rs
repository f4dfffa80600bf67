//! The expressions that coracle's rules are made of, encoded as the kernel's virtual machine reads them
//! (linux/netfilter/nf_tables.h). Registers are the 4-byte ones.

use std::borrow::Cow;

use crate::netlink::Buffer;

const LIST_ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
const FIRST_REGISTER: u32 = 8;
const VERDICT_REGISTER: u32 = 0;
const FAMILY_IPV4: u32 = 2;
const FAMILY_IPV6: u32 = 10;
const NAT_DESTINATION: u32 = 1;
const NAT_PROTOCOL_SPECIFIED: u32 = 2;
const LOOKUP_INVERTED: u32 = 1;
const CHECKSUM_OF_INTERNET: u32 = 1;
const FIB_RESULT_ADDRESS_TYPE: u32 = 3;
const FIB_OF_DESTINATION: u32 = 2;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Register(pub(crate) u32);

impl Register {
    fn number(self) -> u32 {
        FIRST_REGISTER + self.0
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Meta {
    InterfaceNameIn = 6,
    InterfaceNameOut = 7,
    /// The user whose socket sent the packet; matches nothing where no process's socket did.
    SocketOwner = 10,
    FamilyOfPacket = 15,
    Transport = 16,
    /// IFLA_GROUP of the link, in the host's order.
    GroupIn = 21,
    GroupOut = 22,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Header {
    Link = 0,
    Network = 1,
    Transport = 2,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Comparison {
    Equal = 0,
    NotEqual = 1,
    /// Of numbers in the network's order.
    AtMost = 3,
    AtLeast = 5,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Conntrack {
    State = 0,
    Status = 2,
}

pub(crate) const STATE_INVALID: u32 = 1;
pub(crate) const STATE_ESTABLISHED_OR_RELATED: u32 = 2 | 4;
pub(crate) const STATUS_DESTINATION_NAT: u32 = 32;
pub(crate) const ADDRESS_TYPE_LOCAL: u32 = 2;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Membership {
    In,
    NotIn,
}

#[derive(Clone, Debug)]
pub(crate) enum Expression {
    Meta(Meta, Register),
    Payload {
        header: Header,
        offset: u32,
        length: u32,
        to: Register,
    },
    Compare(Register, Comparison, Vec<u8>),
    /// Keeps the bits of the mask.
    Mask(Register, Vec<u8>),
    /// Any bit of the mask set, or none.
    ConntrackBits {
        of: Conntrack,
        mask: u32,
        any: bool,
    },
    FibDestinationType(Register),
    Lookup {
        key: Register,
        set: Cow<'static, str>,
        membership: Membership,
    },
    /// The data that is found goes to the second register and those after it.
    Map {
        key: Register,
        map: Cow<'static, str>,
        to: Register,
    },
    /// Where the map has the key: what happens next.
    VerdictMap {
        key: Register,
        map: Cow<'static, str>,
    },
    /// Another address, the same port; IPv4.
    AddressNat {
        kind: Nat,
        address: Register,
    },
    DestinationNat {
        address: Register,
        port: Register,
    },
    /// The same for IPv6, whose addresses are four registers long.
    DestinationNat6 {
        address: Register,
        port: Register,
    },
    Masquerade,
    Immediate(Register, Vec<u8>),
    /// Into the packet behind its network header; the checksum there is kept right.
    WriteTransport {
        offset: u32,
        length: u32,
        from: Register,
        checksum_offset: u32,
    },
    Counter,
    Drop,
    /// Ends the base chain that it stands in or under, no other.
    Accept,
    Jump(Cow<'static, str>),
    /// As `Jump`, and never back.
    Goto(Cow<'static, str>),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Nat {
    Source = 0,
    Destination = 1,
}

const VERDICT_DROP: i32 = 0;
const VERDICT_ACCEPT: i32 = 1;
const VERDICT_JUMP: i32 = -3;
const VERDICT_GOTO: i32 = -4;

impl Expression {
    pub(crate) fn write(&self, rule: &mut Buffer) {
        match self {
            Expression::Meta(key, to) => {
                write(rule, "meta", |e| {
                    e.be32(2, *key as u32).be32(1, to.number());
                });
            }
            Expression::Payload { header, offset, length, to } => {
                write(rule, "payload", |e| {
                    e.be32(1, to.number()).be32(2, *header as u32).be32(3, *offset).be32(4, *length);
                });
            }
            Expression::Compare(from, comparison, value) => write_compare(rule, *from, *comparison, value),
            Expression::Mask(register, mask) => write_mask(rule, *register, mask),
            Expression::VerdictMap { key, map } => {
                write(rule, "lookup", |e| {
                    e.text(1, map).be32(2, key.number()).be32(3, VERDICT_REGISTER);
                });
            }
            Expression::AddressNat { kind, address } => {
                write(rule, "nat", |e| {
                    e.be32(1, *kind as u32).be32(2, FAMILY_IPV4).be32(3, address.number());
                });
            }
            Expression::ConntrackBits { of, mask, any } => write_conntrack_bits(rule, *of, *mask, *any),
            Expression::FibDestinationType(to) => {
                write(rule, "fib", |e| {
                    e.be32(1, to.number()).be32(2, FIB_RESULT_ADDRESS_TYPE).be32(3, FIB_OF_DESTINATION);
                });
            }
            Expression::Lookup { key, set, membership } => {
                let inverted = match membership {
                    Membership::In => 0,
                    Membership::NotIn => LOOKUP_INVERTED,
                };
                write(rule, "lookup", |e| {
                    e.text(1, set).be32(2, key.number()).be32(5, inverted);
                });
            }
            Expression::Map { key, map, to } => {
                write(rule, "lookup", |e| {
                    e.text(1, map).be32(2, key.number()).be32(3, to.number());
                });
            }
            Expression::DestinationNat { address, port } => {
                write_destination_nat(rule, FAMILY_IPV4, *address, *port);
            }
            Expression::DestinationNat6 { address, port } => {
                write_destination_nat(rule, FAMILY_IPV6, *address, *port);
            }
            Expression::Masquerade => write(rule, "masq", |_| {}),
            Expression::Immediate(to, value) => write(rule, "immediate", |e| {
                e.be32(1, to.number());
                write_value(e, 2, value);
            }),
            Expression::WriteTransport { offset, length, from, checksum_offset } => write(rule, "payload", |e| {
                e.be32(2, Header::Transport as u32).be32(3, *offset).be32(4, *length).be32(5, from.number());
                e.be32(6, CHECKSUM_OF_INTERNET).be32(7, *checksum_offset);
            }),
            Expression::Counter => write(rule, "counter", |_| {}),
            Expression::Drop => write_verdict(rule, VERDICT_DROP, None),
            Expression::Accept => write_verdict(rule, VERDICT_ACCEPT, None),
            Expression::Jump(chain) => write_verdict(rule, VERDICT_JUMP, Some(chain)),
            Expression::Goto(chain) => write_verdict(rule, VERDICT_GOTO, Some(chain)),
        }
    }
}

/// A value as an attribute: `NFTA_DATA_VALUE` inside `kind`.
pub(super) fn write_value(buffer: &mut Buffer, kind: u16, value: &[u8]) {
    buffer.nest(kind, |data| {
        data.attribute(DATA_VALUE, value);
    });
}

fn write(rule: &mut Buffer, name: &str, fill: impl FnOnce(&mut Buffer)) {
    rule.nest(LIST_ELEMENT, |element| {
        element.text(EXPRESSION_NAME, name).nest(EXPRESSION_DATA, fill);
    });
}

fn write_destination_nat(rule: &mut Buffer, family: u32, address: Register, port: Register) {
    write(rule, "nat", |e| {
        e.be32(1, NAT_DESTINATION).be32(2, family).be32(3, address.number());
        e.be32(5, port.number()).be32(7, NAT_PROTOCOL_SPECIFIED);
    });
}

fn write_compare(rule: &mut Buffer, from: Register, comparison: Comparison, value: &[u8]) {
    write(rule, "cmp", |e| {
        e.be32(1, from.number()).be32(2, comparison as u32);
        write_value(e, 3, value);
    });
}

fn write_mask(rule: &mut Buffer, register: Register, mask: &[u8]) {
    write(rule, "bitwise", |e| {
        e.be32(1, register.number()).be32(2, register.number()).be32(3, mask.len() as u32);
        write_value(e, 4, mask);
        write_value(e, 5, &vec![0; mask.len()]);
    });
}

fn write_conntrack_bits(rule: &mut Buffer, of: Conntrack, mask: u32, any: bool) {
    let register = Register(0);
    write(rule, "ct", |e| {
        e.be32(1, register.number()).be32(2, of as u32);
    });
    write_mask(rule, register, &mask.to_ne_bytes());
    write_compare(rule, register, if any { Comparison::NotEqual } else { Comparison::Equal }, &[0; 4]);
}

fn write_verdict(rule: &mut Buffer, code: i32, chain: Option<&str>) {
    write(rule, "immediate", |e| {
        e.be32(1, VERDICT_REGISTER);
        write_verdict_value(e, 2, code, chain);
    });
}

/// A verdict as an element's data: to a chain and never back.
pub(super) fn write_goto_value(buffer: &mut Buffer, kind: u16, chain: &str) {
    write_verdict_value(buffer, kind, VERDICT_GOTO, Some(chain));
}

fn write_verdict_value(buffer: &mut Buffer, kind: u16, code: i32, chain: Option<&str>) {
    buffer.nest(kind, |data| {
        data.nest(DATA_VERDICT, |verdict| {
            verdict.be32(VERDICT_CODE, code.cast_unsigned());
            if let Some(chain) = chain {
                verdict.text(VERDICT_CHAIN, chain);
            }
        });
    });
}
