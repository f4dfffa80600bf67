//! One 512-byte header block: checksum, format and fields, by the rules of Go's archive/tar.

use super::{BLOCK, Kind, Time};

pub(super) type Block = [u8; BLOCK];

/// What follows a header block decides what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Member(Kind),
    /// Type `\0`: a directory when its final name ends with a slash, else a file.
    OldFile,
    /// GNU's old sparse format, whose map is in the header.
    OldSparse,
    Pax,
    PaxGlobal,
    GnuLongName,
    GnuLongLink,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    V7,
    Ustar,
    Star,
    Gnu,
}

#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) mode: i64,
    pub(super) uid: i64,
    pub(super) gid: i64,
    pub(super) size: i64,
    pub(super) mtime: Time,
    pub(super) device: (i64, i64),
    pub(super) kind: Type,
    pub(super) is_gnu: bool,
}

pub(super) fn is_zero(block: &Block) -> bool {
    block.iter().all(|byte| *byte == 0)
}

pub(super) fn parse(block: &Block) -> Result<Header, String> {
    check_sum(block)?;
    let format = format(block);
    let mut name = string(&block[0..100]).to_vec();
    let mtime = numeric(&block[136..148]).ok_or("its mtime is not a number")?;
    let device = match format {
        Format::V7 => (0, 0),
        Format::Ustar | Format::Star | Format::Gnu => (
            numeric(&block[329..337]).ok_or("its device number is not a number")?,
            numeric(&block[337..345]).ok_or("its device number is not a number")?,
        ),
    };
    let prefix = match format {
        Format::V7 => &[][..],
        Format::Ustar => string(&block[345..500]),
        Format::Star => {
            check_times(&block[476..488], &block[488..500])?;
            string(&block[345..476])
        }
        // Old Go programs wrote a name prefix where GNU has times; nobody can tell which is meant, so neither is taken.
        Format::Gnu => {
            check_times(&block[345..357], &block[357..369])?;
            &[][..]
        }
    };
    if !prefix.is_empty() {
        name = [prefix, b"/", &name].concat();
    }
    let size = numeric(&block[124..136]).ok_or("its size is not a number")?;
    if size < 0 {
        return Err("its size is negative".to_owned());
    }
    Ok(Header {
        name,
        link: string(&block[157..257]).to_vec(),
        mode: numeric(&block[100..108]).ok_or("its mode is not a number")?,
        uid: numeric(&block[108..116]).ok_or("its uid is not a number")?,
        gid: numeric(&block[116..124]).ok_or("its gid is not a number")?,
        size,
        mtime: Time { seconds: mtime, nanoseconds: 0 },
        device,
        kind: kind(block[156])?,
        is_gnu: format == Format::Gnu,
    })
}

fn kind(flag: u8) -> Result<Type, String> {
    Ok(match flag {
        0 => Type::OldFile,
        b'0' => Type::Member(Kind::File),
        b'1' => Type::Member(Kind::HardLink),
        b'2' => Type::Member(Kind::Symlink),
        b'3' => Type::Member(Kind::CharDevice),
        b'4' => Type::Member(Kind::BlockDevice),
        b'5' => Type::Member(Kind::Directory),
        b'6' => Type::Member(Kind::Fifo),
        b'S' => Type::OldSparse,
        b'x' => Type::Pax,
        b'g' => Type::PaxGlobal,
        b'L' => Type::GnuLongName,
        b'K' => Type::GnuLongLink,
        other => return Err(format!("member type {:?} is not supported", char::from(other))),
    })
}

fn check_times(access: &[u8], change: &[u8]) -> Result<(), String> {
    match (numeric(access), numeric(change)) {
        (Some(_), Some(_)) => Ok(()),
        _ => Err("its access or change time is not a number".to_owned()),
    }
}

/// Writers of old summed the bytes as signed, so both sums count.
fn check_sum(block: &Block) -> Result<(), String> {
    let stored = octal(&block[148..156]).ok_or("its checksum is not a number")?;
    let (mut unsigned, mut signed) = (0i64, 0i64);
    for (at, byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&at) { b' ' } else { *byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    if stored == unsigned || stored == signed { Ok(()) } else { Err("its checksum is wrong".to_owned()) }
}

fn format(block: &Block) -> Format {
    let (magic, version, trailer) = (&block[257..263], &block[263..265], &block[508..512]);
    if magic == b"ustar\0" && trailer == b"tar\0" {
        Format::Star
    } else if magic == b"ustar\0" {
        Format::Ustar
    } else if magic == b"ustar " && version == b" \0" {
        Format::Gnu
    } else {
        Format::V7
    }
}

/// Up to the first NUL, or the whole field.
pub(super) fn string(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Octal text, or GNU's base-256: a first byte with its top bit set and a two's complement number in the rest.
pub(super) fn numeric(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 == 0 {
        return octal(field);
    }
    let invert = if first & 0x40 == 0 { 0 } else { 0xff };
    let mut number = 0u64;
    for (at, byte) in field.iter().enumerate() {
        let mut byte = byte ^ invert;
        if at == 0 {
            byte &= 0x7f;
        }
        if number >> 56 > 0 {
            return None;
        }
        number = number << 8 | u64::from(byte);
    }
    let number = i64::try_from(number).ok()?;
    Some(if invert == 0 { number } else { !number })
}

fn octal(field: &[u8]) -> Option<i64> {
    let is_padding = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !is_padding(byte)).unwrap_or(field.len());
    let end = field.iter().rposition(|byte| !is_padding(byte)).map_or(start, |at| at + 1);
    string(&field[start..end]).iter().try_fold(0i64, |number, digit| match digit {
        b'0'..=b'7' => number.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}
