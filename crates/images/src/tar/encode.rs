//! Any member as ustar, with a PAX extended header (POSIX.1-2017, pax) for what ustar cannot say: long names, large
//! numbers, fractions of a second, extended attributes.

use std::io::{self, Write};

use super::{BLOCK, Entry, Kind};

/// What fits the octal fields of a ustar header.
const MAX_ID: u32 = 0o7_777_777;
const MAX_SIZE: u64 = 0o77_777_777_777;
const MAX_NAME: usize = 100;
/// A header's own name, for readers that do not know PAX.
const PAX_NAME: &[u8] = b"PaxHeaders/member";

/// The member's headers. Data of `entry.size` bytes follows for a file, then `write::pad`.
pub(crate) fn member(to: &mut dyn Write, entry: &Entry) -> io::Result<()> {
    let records = records(entry);
    if !records.is_empty() {
        let size = records.len() as u64;
        to.write_all(&header(&Fields { size, flag: b'x', mode: 0o644, ..Fields::named(PAX_NAME) }))?;
        to.write_all(&records)?;
        super::write::pad(to, size)?;
    }
    let mut path = entry.path.clone();
    let flag = match entry.kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::CharDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    };
    if entry.kind == Kind::Directory && !path.ends_with(b"/") {
        path.push(b'/');
    }
    to.write_all(&header(&Fields {
        name: &path,
        link: &entry.link,
        flag,
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        size: entry.size,
        mtime: u64::try_from(entry.mtime.seconds).unwrap_or(0),
        device: entry.device,
    }))
}

fn records(entry: &Entry) -> Vec<u8> {
    let mut records = Vec::new();
    if entry.path.len() >= MAX_NAME {
        record(&mut records, b"path", &entry.path);
    }
    if entry.link.len() > MAX_NAME {
        record(&mut records, b"linkpath", &entry.link);
    }
    for (key, id) in [(&b"uid"[..], entry.uid), (b"gid", entry.gid)] {
        if id > MAX_ID {
            record(&mut records, key, id.to_string().as_bytes());
        }
    }
    if entry.size > MAX_SIZE {
        record(&mut records, b"size", entry.size.to_string().as_bytes());
    }
    let time = entry.mtime;
    if time.nanoseconds != 0 || time.seconds < 0 || time.seconds.unsigned_abs() > MAX_SIZE {
        record(&mut records, b"mtime", decimal(time.seconds, time.nanoseconds).as_bytes());
    }
    for (name, value) in &entry.xattrs {
        record(&mut records, &[b"SCHILY.xattr.", &name[..]].concat(), value);
    }
    records
}

/// Nanoseconds count upwards; a decimal number's fraction counts away from zero.
fn decimal(seconds: i64, nanoseconds: u32) -> String {
    match (seconds, nanoseconds) {
        (_, 0) => seconds.to_string(),
        (0.., _) => format!("{seconds}.{nanoseconds:09}"),
        _ => format!("-{}.{:09}", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanoseconds),
    }
}

/// `"<length> <key>=<value>\n"`, where the length counts its own digits.
fn record(to: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    to.extend_from_slice(length.to_string().as_bytes());
    to.push(b' ');
    to.extend_from_slice(key);
    to.push(b'=');
    to.extend_from_slice(value);
    to.push(b'\n');
}

struct Fields<'a> {
    name: &'a [u8],
    link: &'a [u8],
    flag: u8,
    mode: u32,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: u64,
    device: (u32, u32),
}

impl<'a> Fields<'a> {
    fn named(name: &'a [u8]) -> Self {
        Fields { name, link: b"", flag: b'0', mode: 0, uid: 0, gid: 0, size: 0, mtime: 0, device: (0, 0) }
    }
}

/// What does not fit is cut or zero: a PAX record says it.
fn header(fields: &Fields<'_>) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut octal = |at: usize, digits: usize, value: u64, most: u64| {
        let text = format!("{:0digits$o}\0", if value > most { 0 } else { value });
        block[at..at + digits + 1].copy_from_slice(text.as_bytes());
    };
    let id = u64::from(MAX_ID);
    octal(100, 7, u64::from(fields.mode & 0o7777), id);
    octal(108, 7, u64::from(fields.uid), id);
    octal(116, 7, u64::from(fields.gid), id);
    octal(124, 11, fields.size, MAX_SIZE);
    octal(136, 11, fields.mtime, MAX_SIZE);
    octal(329, 7, u64::from(fields.device.0), id);
    octal(337, 7, u64::from(fields.device.1), id);
    let cut = |text: &[u8]| text[..text.len().min(MAX_NAME)].to_vec();
    let (name, link) = (cut(fields.name), cut(fields.link));
    block[..name.len()].copy_from_slice(&name);
    block[157..157 + link.len()].copy_from_slice(&link);
    block[148..156].fill(b' ');
    block[156] = fields.flag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::{Reader, Time};

    /// The other direction is checked against Go's and GNU's archives in the reader's own tests.
    #[test]
    fn what_is_written_is_read() {
        let plain = Entry {
            path: b"a/b".to_vec(),
            kind: Kind::Symlink,
            link: b"/etc/passwd".to_vec(),
            mode: 0o777,
            uid: 1000,
            gid: 100,
            mtime: Time { seconds: 1_700_000_000, nanoseconds: 0 },
            size: 0,
            device: (0, 0),
            xattrs: Vec::new(),
            sparse: None,
        };
        let extreme = Entry {
            path: [&b"d/"[..], &[b'\xff'; 300]].concat(),
            kind: Kind::HardLink,
            link: vec![b'l'; 200],
            mode: 0o4755,
            uid: 4_000_000_000,
            gid: 2_097_152,
            mtime: Time { seconds: -2, nanoseconds: 250_000_000 },
            xattrs: vec![(b"user.x".to_vec(), b"a=b\n\0c".to_vec())],
            ..plain.clone()
        };
        let device = Entry { kind: Kind::BlockDevice, link: Vec::new(), device: (8, 1), ..plain.clone() };
        let ninety_nine = Entry { path: vec![b'n'; 99], kind: Kind::Directory, link: Vec::new(), ..plain.clone() };
        let hundred = Entry { path: vec![b'n'; 100], ..ninety_nine.clone() };
        let entries = [plain, extreme, device, ninety_nine, hundred];
        let mut archive = Vec::new();
        for entry in &entries {
            member(&mut archive, entry).unwrap();
        }
        crate::tar::write::end(&mut archive).unwrap();
        let mut reader = Reader::new(&archive[..]);
        for entry in &entries {
            let mut read = reader.next().unwrap().unwrap();
            if read.path.ends_with(b"/") {
                read.path.pop();
            }
            assert_eq!(read, *entry);
        }
        assert_eq!(reader.next().unwrap(), None);
    }

    #[test]
    fn a_records_length_counts_itself() {
        let mut out = Vec::new();
        record(&mut out, b"path", b"x");
        assert_eq!(out, b"9 path=x\n");
        out.clear();
        record(&mut out, b"path", b"xx");
        assert_eq!(out, b"11 path=xx\n");
    }
}
