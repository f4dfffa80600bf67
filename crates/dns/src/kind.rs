//! Numbers of record types, classes and response codes that a resolver has to know
//! (<https://www.iana.org/assignments/dns-parameters/dns-parameters.xhtml>).

pub const A: u16 = 1;
pub const SOA: u16 = 6;
pub const PTR: u16 = 12;
pub const AAAA: u16 = 28;
pub const SRV: u16 = 33;
pub const OPT: u16 = 41;
pub const ANY: u16 = 255;

/// The Internet's: the only class that is answered.
pub const CLASS_IN: u16 = 1;

pub const NO_ERROR: u8 = 0;
pub const FORMAT_ERROR: u8 = 1;
pub const SERVER_FAILURE: u8 = 2;
pub const NAME_ERROR: u8 = 3;
pub const NOT_IMPLEMENTED: u8 = 4;
pub const REFUSED: u8 = 5;
pub const YX_DOMAIN: u8 = 6;

/// Types that ask for something other than records of a name: transfers, transactions, and the number 0
/// (RFC 6895, section 3.1). ANY is not among them: it has an answer of its own.
pub fn is_meta(kind: u16) -> bool {
    kind == 0 || kind == OPT || (128..ANY).contains(&kind)
}
