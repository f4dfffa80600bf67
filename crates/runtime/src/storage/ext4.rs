//! Makes an empty ext4 file system in a sparse file, by its on-disk format
//! (<https://www.kernel.org/doc/html/latest/filesystems/ext4/>). A sparse file reads as zeros, so only what is not zero
//! is written: the superblock, group descriptors, the bitmaps of two groups, the root and `lost+found`. The bitmaps of all
//! others are not needed: their descriptors say, under a checksum, that nothing is in use there.
//!
//! No journal: nobody wants such a file system back after a crash. 4 KiB blocks, 32-bit block numbers, an inode for each
//! 16 KiB as mke2fs makes them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

pub(super) const BLOCK: u64 = 4096;
const BLOCKS_PER_GROUP: u64 = 32_768;
const INODES_PER_GROUP: u64 = 8_192;
const INODE_SIZE: u64 = 256;
const INODE_TABLE_BLOCKS: u64 = INODES_PER_GROUP * INODE_SIZE / BLOCK;
const DESCRIPTOR: u64 = 32;
/// Before it, there is room for a boot loader.
const SUPERBLOCK_AT: u64 = 1024;
/// The first inode that is not reserved: `lost+found`.
const FIRST_INODE: u64 = 11;
const ROOT_INODE: u64 = 2;
/// The root's and `lost+found`'s.
const DIRECTORY_BLOCKS: u64 = 2;
/// Below this a last group is not worth its tables.
const LEAST_ROOM: u64 = 64;
/// Only root looks into it: what is in the directories has the containers' modes.
const ROOT_MODE: u16 = 0o40700;

const INODE_UNINIT: u16 = 1;
const BLOCK_UNINIT: u16 = 2;
const INODE_ZEROED: u16 = 4;

/// ext_attr, dir_index, sparse_super2 with no copies of the superblock: nobody repairs such a file system.
const COMPATIBLE: u32 = 0x8 | 0x20 | 0x200;
/// filetype, extent.
const INCOMPATIBLE: u32 = 0x2 | 0x40;
/// large_file, huge_file, uninit_bg (GDT_CSUM), dir_nlink, extra_isize.
const READ_ONLY_COMPATIBLE: u32 = 0x2 | 0x8 | 0x10 | 0x20 | 0x40;

/// How many blocks where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    groups: u64,
    descriptor_blocks: u64,
    blocks: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Identity {
    pub(super) uuid: [u8; 16],
    pub(super) hash_seed: [u8; 16],
    pub(super) made_at_s: u32,
}

/// A layout with room for `size_bytes` of data; nothing where block numbers of 32 bits do not reach.
pub(super) fn layout(size_bytes: u64) -> Option<Layout> {
    let wanted = size_bytes.div_ceil(BLOCK) + DIRECTORY_BLOCKS;
    if wanted > u64::from(u32::MAX) / 2 {
        return None;
    }
    let mut descriptor_blocks = 1;
    loop {
        let (groups, blocks) = spread(wanted, descriptor_blocks);
        let needed = (groups * DESCRIPTOR).div_ceil(BLOCK);
        if needed <= descriptor_blocks {
            return Some(Layout { groups, descriptor_blocks, blocks });
        }
        descriptor_blocks = needed;
    }
}

/// Groups and blocks of a file system with that many free blocks.
fn spread(wanted: u64, descriptor_blocks: u64) -> (u64, u64) {
    let mut left = wanted;
    let mut group = 0;
    loop {
        let overhead = overhead(group, descriptor_blocks);
        let room = BLOCKS_PER_GROUP - overhead;
        if left <= room {
            return (group + 1, group * BLOCKS_PER_GROUP + overhead + left.max(LEAST_ROOM));
        }
        left -= room;
        group += 1;
    }
}

/// Blocks of a group that are the file system's own.
fn overhead(group: u64, descriptor_blocks: u64) -> u64 {
    let superblock = if group == 0 { 1 + descriptor_blocks } else { 0 };
    superblock + 2 + INODE_TABLE_BLOCKS
}

/// Writes the file system into `file`, which is empty.
pub(super) fn format(file: &File, layout: &Layout, identity: &Identity) -> io::Result<()> {
    file.set_len(layout.blocks * BLOCK)?;
    let mut descriptors = Vec::new();
    let mut free = 0;
    for group in 0..layout.groups {
        let found = layout.group(group);
        free += found.free_blocks;
        descriptors.extend_from_slice(&descriptor(layout, &found, &identity.uuid));
        if found.has_own_bitmap(layout) {
            file.write_all_at(&block_bitmap(&found), found.block_bitmap * BLOCK)?;
        }
    }
    file.write_all_at(&superblock(layout, identity, free), SUPERBLOCK_AT)?;
    file.write_all_at(&descriptors, BLOCK)?;
    let first = layout.group(0);
    file.write_all_at(&inode_bitmap(), first.inode_bitmap * BLOCK)?;
    let directory = first.start + first.overhead;
    let at = |inode: u64| first.inode_table * BLOCK + (inode - 1) * INODE_SIZE;
    file.write_all_at(&directory_inode(ROOT_MODE, 3, directory, identity.made_at_s), at(ROOT_INODE))?;
    file.write_all_at(&directory_inode(ROOT_MODE, 2, directory + 1, identity.made_at_s), at(FIRST_INODE))?;
    let root = entries(&[(ROOT_INODE, "."), (ROOT_INODE, ".."), (FIRST_INODE, "lost+found")]);
    file.write_all_at(&root, directory * BLOCK)?;
    file.write_all_at(&entries(&[(FIRST_INODE, "."), (ROOT_INODE, "..")]), (directory + 1) * BLOCK)
}

/// One group's blocks.
struct Group {
    number: u64,
    start: u64,
    blocks: u64,
    overhead: u64,
    block_bitmap: u64,
    inode_bitmap: u64,
    inode_table: u64,
    free_blocks: u64,
}

impl Layout {
    fn group(&self, number: u64) -> Group {
        let start = number * BLOCKS_PER_GROUP;
        let blocks = BLOCKS_PER_GROUP.min(self.blocks - start);
        let overhead = overhead(number, self.descriptor_blocks);
        let directories = if number == 0 { DIRECTORY_BLOCKS } else { 0 };
        let block_bitmap = start + overhead - INODE_TABLE_BLOCKS - 2;
        Group {
            number,
            start,
            blocks,
            overhead,
            block_bitmap,
            inode_bitmap: block_bitmap + 1,
            inode_table: block_bitmap + 2,
            free_blocks: blocks - overhead - directories,
        }
    }
}

impl Group {
    /// The first, where something is in use, and the last, which may be shorter.
    fn has_own_bitmap(&self, layout: &Layout) -> bool {
        self.number == 0 || self.number + 1 == layout.groups
    }
}

fn descriptor(layout: &Layout, group: &Group, uuid: &[u8; 16]) -> [u8; DESCRIPTOR as usize] {
    let mut bytes = [0_u8; DESCRIPTOR as usize];
    let used_inodes = if group.number == 0 { FIRST_INODE } else { 0 };
    let mut flags = INODE_ZEROED;
    if group.number != 0 {
        flags |= INODE_UNINIT;
    }
    if !group.has_own_bitmap(layout) {
        flags |= BLOCK_UNINIT;
    }
    put32(&mut bytes, 0, group.block_bitmap);
    put32(&mut bytes, 4, group.inode_bitmap);
    put32(&mut bytes, 8, group.inode_table);
    put16(&mut bytes, 12, group.free_blocks);
    put16(&mut bytes, 14, INODES_PER_GROUP - used_inodes);
    put16(&mut bytes, 16, if group.number == 0 { 2 } else { 0 });
    put16(&mut bytes, 18, u64::from(flags));
    put16(&mut bytes, 28, INODES_PER_GROUP - used_inodes);
    let number = u32::try_from(group.number).expect("block numbers have 32 bits").to_le_bytes();
    let checksum = [uuid.as_slice(), &number, &bytes[..30]].into_iter().fold(0xffff, crc16);
    put16(&mut bytes, 30, u64::from(checksum));
    bytes
}

/// CRC-16 with the polynomial 0x8005, reflected: the kernel's crc16().
fn crc16(mut crc: u16, bytes: &[u8]) -> u16 {
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xa001 } else { crc >> 1 };
        }
    }
    crc
}

fn block_bitmap(group: &Group) -> Vec<u8> {
    let directories = if group.number == 0 { DIRECTORY_BLOCKS } else { 0 };
    bitmap(group.overhead + directories, group.blocks)
}

fn inode_bitmap() -> Vec<u8> {
    bitmap(FIRST_INODE, INODES_PER_GROUP)
}

/// The first `used` are in use, and so is, for form's sake, what is not there: from `end` on.
fn bitmap(used: u64, end: u64) -> Vec<u8> {
    let mut bytes = vec![0_u8; BLOCK as usize];
    for bit in (0..used).chain(end..BLOCK * 8) {
        bytes[(bit / 8) as usize] |= 1 << (bit % 8);
    }
    bytes
}

fn superblock(layout: &Layout, identity: &Identity, free_blocks: u64) -> [u8; 1024] {
    let mut bytes = [0_u8; 1024];
    let made = u64::from(identity.made_at_s);
    let inodes = layout.groups * INODES_PER_GROUP;
    let numbers: [(usize, u64); 19] = [
        (0, inodes),
        (4, layout.blocks),
        (12, free_blocks),
        (16, inodes - FIRST_INODE),
        // Blocks of 1024 << 2 bytes; clusters are blocks.
        (24, 2),
        (28, 2),
        (32, BLOCKS_PER_GROUP),
        (36, BLOCKS_PER_GROUP),
        (40, INODES_PER_GROUP),
        (48, made),
        (64, made),
        // Revision 1: inodes have the size that is given here.
        (76, 1),
        (84, FIRST_INODE),
        (92, u64::from(COMPATIBLE)),
        (96, u64::from(INCOMPATIBLE)),
        (100, u64::from(READ_ONLY_COMPATIBLE)),
        // Mounted with user_xattr and acl.
        (256, 0xc),
        (264, made),
        // Directory hashes take characters as signed.
        (352, 1),
    ];
    for (offset, number) in numbers {
        put32(&mut bytes, offset, number);
    }
    // Never to be checked for its age; a magic number; clean; go on after errors.
    for (offset, number) in [(54, 0xffff), (56, 0xef53), (58, 1), (60, 1), (88, INODE_SIZE)] {
        put16(&mut bytes, offset, number);
    }
    put16(&mut bytes, 348, 32);
    put16(&mut bytes, 350, 32);
    bytes[104..120].copy_from_slice(&identity.uuid);
    bytes[236..252].copy_from_slice(&identity.hash_seed);
    // half_md4, as mke2fs takes.
    bytes[252] = 1;
    bytes
}

/// A directory of one block.
fn directory_inode(mode: u16, links: u64, block: u64, made_at_s: u32) -> [u8; INODE_SIZE as usize] {
    const EXTENTS: u64 = 0x8_0000;
    let mut bytes = [0_u8; INODE_SIZE as usize];
    put16(&mut bytes, 0, u64::from(mode));
    put32(&mut bytes, 4, BLOCK);
    for time in [8, 12, 16, 144] {
        put32(&mut bytes, time, u64::from(made_at_s));
    }
    put16(&mut bytes, 26, links);
    put32(&mut bytes, 28, BLOCK / 512);
    put32(&mut bytes, 32, EXTENTS);
    // The extent tree's root: magic, one entry of four, depth 0; then the entry: from 0, one block, where.
    put16(&mut bytes, 40, 0xf30a);
    put16(&mut bytes, 42, 1);
    put16(&mut bytes, 44, 4);
    put16(&mut bytes, 56, 1);
    put32(&mut bytes, 60, block);
    put16(&mut bytes, 128, 32);
    bytes
}

/// A block of directory entries, all of them directories; the last one reaches to its end.
fn entries(list: &[(u64, &str)]) -> Vec<u8> {
    const DIRECTORY: u8 = 2;
    let mut bytes = vec![0_u8; BLOCK as usize];
    let mut offset = 0;
    for (index, (inode, name)) in list.iter().enumerate() {
        let needed = (8 + name.len()).next_multiple_of(4);
        let length = if index + 1 == list.len() { bytes.len() - offset } else { needed };
        put32(&mut bytes, offset, *inode);
        put16(&mut bytes, offset + 4, length as u64);
        bytes[offset + 6] = name.len() as u8;
        bytes[offset + 7] = DIRECTORY;
        bytes[offset + 8..offset + 8 + name.len()].copy_from_slice(name.as_bytes());
        offset += length;
    }
    bytes
}

fn put16(bytes: &mut [u8], offset: usize, number: u64) {
    let number = u16::try_from(number).expect("a layout keeps each number in its field");
    bytes[offset..offset + 2].copy_from_slice(&number.to_le_bytes());
}

fn put32(bytes: &mut [u8], offset: usize, number: u64) {
    let number = u32::try_from(number).expect("a layout keeps each number in its field");
    bytes[offset..offset + 4].copy_from_slice(&number.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    /// The check value of CRC-16/MODBUS, which is this polynomial and start.
    #[test]
    fn the_checksum_is_the_published_one() {
        assert_eq!(crc16(0xffff, b"123456789"), 0x4b37);
    }

    #[test]
    fn what_is_asked_for_is_free_and_the_tables_come_on_top() {
        for size in [MIB, 100 * MIB, 127 * MIB, GIB, 21 * GIB, 200 * GIB] {
            let layout = layout(size).unwrap();
            let free: u64 = (0..layout.groups).map(|group| layout.group(group).free_blocks).sum();
            assert!(free * BLOCK >= size && free * BLOCK - size <= LEAST_ROOM * BLOCK, "{size}: {free}");
            assert!(size < GIB || layout.blocks * BLOCK - size < size / 50, "{size}: {layout:?}");
        }
        assert_eq!(layout(u64::MAX / 2), None);
    }

    /// e2fsck, which is not ours, finds nothing to correct, whatever the size; and the file stays nearly empty.
    #[test]
    fn e2fsck_has_nothing_to_say() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        // One group, one that is just full, a last group of the least size, several, many.
        let edge = (BLOCKS_PER_GROUP - overhead(0, 1) - DIRECTORY_BLOCKS) * BLOCK;
        for size in [MIB, 100 * MIB, edge, edge + BLOCK, GIB, 21 * GIB, 200 * GIB] {
            let path = folder.path().join(size.to_string());
            let file = File::create_new(&path).unwrap();
            let identity = Identity { uuid: [7; 16], hash_seed: [9; 16], made_at_s: 1_700_000_000 };
            format(&file, &layout(size).unwrap(), &identity).unwrap();
            let checked = Command::new("e2fsck").args(["-f", "-n"]).arg(&path).output().expect("e2fsprogs");
            let said =
                String::from_utf8_lossy(&checked.stdout).into_owned() + &String::from_utf8_lossy(&checked.stderr);
            assert_eq!(checked.status.code(), Some(0), "{size}: {said}");
            assert!(file.metadata().unwrap().blocks() * 512 < 2 * MIB, "{size}");
        }
    }
}
