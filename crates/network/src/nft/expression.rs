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
const NAT_DESTINATION: u32 = 1;
const NAT_PROTOCOL_SPECIFIED: u32 = 2;
const LOOKUP_INVERTED: u32 = 1;
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
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Header {
    Network = 1,
    Transport = 2,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Comparison {
    Equal = 0,
    NotEqual = 1,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Conntrack {
    State = 0,
    Status = 2,
}

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
    DestinationNat {
        address: Register,
        port: Register,
    },
    Masquerade,
    Counter,
    Drop,
    /// Ends the base chain that it stands in or under, no other.
    Accept,
    Jump(Cow<'static, str>),
}

const VERDICT_DROP: i32 = 0;
const VERDICT_ACCEPT: i32 = 1;
const VERDICT_JUMP: i32 = -3;

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
                write(rule, "nat", |e| {
                    e.be32(1, NAT_DESTINATION).be32(2, FAMILY_IPV4).be32(3, address.number());
                    e.be32(5, port.number()).be32(7, NAT_PROTOCOL_SPECIFIED);
                });
            }
            Expression::Masquerade => write(rule, "masq", |_| {}),
            Expression::Counter => write(rule, "counter", |_| {}),
            Expression::Drop => write_verdict(rule, VERDICT_DROP, None),
            Expression::Accept => write_verdict(rule, VERDICT_ACCEPT, None),
            Expression::Jump(chain) => write_verdict(rule, VERDICT_JUMP, Some(chain)),
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

fn write_compare(rule: &mut Buffer, from: Register, comparison: Comparison, value: &[u8]) {
    write(rule, "cmp", |e| {
        e.be32(1, from.number()).be32(2, comparison as u32);
        write_value(e, 3, value);
    });
}

fn write_conntrack_bits(rule: &mut Buffer, of: Conntrack, mask: u32, any: bool) {
    let register = Register(0);
    write(rule, "ct", |e| {
        e.be32(1, register.number()).be32(2, of as u32);
    });
    write(rule, "bitwise", |e| {
        e.be32(1, register.number()).be32(2, register.number()).be32(3, 4);
        write_value(e, 4, &mask.to_ne_bytes());
        write_value(e, 5, &[0; 4]);
    });
    write_compare(rule, register, if any { Comparison::NotEqual } else { Comparison::Equal }, &[0; 4]);
}

fn write_verdict(rule: &mut Buffer, code: i32, chain: Option<&str>) {
    write(rule, "immediate", |e| {
        e.be32(1, VERDICT_REGISTER).nest(2, |data| {
            data.nest(DATA_VERDICT, |verdict| {
                verdict.be32(VERDICT_CODE, code.cast_unsigned());
                if let Some(chain) = chain {
                    verdict.text(VERDICT_CHAIN, chain);
                }
            });
        });
    });
}
