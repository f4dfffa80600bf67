//! Writes the plain archives that this crate makes itself: exports and the hello layer. Names are short and ours.

use std::io::{self, Write};

use super::BLOCK;

/// What a member is; sizes come with the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Member {
    File { size: u64 },
    Directory,
}

/// One ustar header, owned by root at time zero, so that the same content always gives the same bytes.
pub(crate) fn header(path: &str, mode: u32, member: Member) -> [u8; BLOCK] {
    assert!(path.len() <= 100, "a name of ours fits a ustar header: {path}");
    let (size, flag) = match member {
        Member::File { size } => (size, b'0'),
        Member::Directory => (0, b'5'),
    };
    let mut block = [0; BLOCK];
    block[..path.len()].copy_from_slice(path.as_bytes());
    block[100..108].copy_from_slice(format!("{mode:07o}\0").as_bytes());
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    if size < 1 << 33 {
        block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    } else {
        block[124] = 0x80;
        block[128..136].copy_from_slice(&size.to_be_bytes());
    }
    block[136..148].copy_from_slice(b"00000000000\0");
    block[148..156].fill(b' ');
    block[156] = flag;
    block[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

pub(crate) fn directory(to: &mut dyn Write, path: &str, mode: u32) -> io::Result<()> {
    to.write_all(&header(path, mode, Member::Directory))
}

pub(crate) fn file(to: &mut dyn Write, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
    to.write_all(&header(path, mode, Member::File { size: content.len() as u64 }))?;
    to.write_all(content)?;
    pad(to, content.len() as u64)
}

/// Zeros from the end of a member's data to the next block.
pub(crate) fn pad(to: &mut dyn Write, size: u64) -> io::Result<()> {
    let padding = size.next_multiple_of(BLOCK as u64) - size;
    to.write_all(&[0; BLOCK][..usize::try_from(padding).expect("less than a block")])
}

pub(crate) fn end(to: &mut dyn Write) -> io::Result<()> {
    to.write_all(&[0; 2 * BLOCK])
}
