//! Giving back what the start needed and the wait does not: hundreds of supervisors wait at a time, and the daemon waits
//! most of its life.

use std::io;

const PAGE: usize = 4096;

/// Kept below the current end of the stack: what this function and the C library below it use.
const STACK_KEPT: usize = 4 * PAGE;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    start: usize,
    end: usize,
}

/// Drops the pages of the executable's code and constants, which come back from the page cache when they are touched,
/// and, when the first thread calls, its stack below the present depth.
///
/// # Errors
/// /proc does not say where they are; nothing was dropped.
pub fn shed() -> io::Result<()> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let marker = 0_u8;
    let depth = &raw const marker as usize;
    for range in ranges(&maps, depth) {
        // SAFETY: the pages are either of a private mapping of a file that this process may only read, so dropping
        // them loses nothing, or of the stack, further down than anything that is in use.
        unsafe { libc::madvise(range.start as *mut libc::c_void, range.end - range.start, libc::MADV_DONTNEED) };
    }
    Ok(())
}

/// The executable's read-only mappings, and the first thread's stack's unused part. `depth`: an address on the caller's
/// stack, which may be another one.
fn ranges(maps: &str, depth: usize) -> Vec<Range> {
    let mut executable = None;
    let mut found = Vec::new();
    for line in maps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(addresses), Some(rights), Some(_), Some(_), Some(inode)) =
            (words.next(), words.next(), words.next(), words.next(), words.next())
        else {
            continue;
        };
        let parse = |digits: &str| usize::from_str_radix(digits, 16).ok();
        let Some((start, end)) = addresses.split_once('-') else { continue };
        let (Some(start), Some(end)) = (parse(start), parse(end)) else { continue };
        if words.next() == Some("[stack]") {
            let unused = depth.saturating_sub(STACK_KEPT) / PAGE * PAGE;
            found.extend((start < unused && depth < end).then_some(Range { start, end: unused }));
        } else if inode != "0" && *executable.get_or_insert(inode) == inode && matches!(rights, "r-xp" | "r--p") {
            found.push(Range { start, end });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_comes_back_is_dropped() {
        let maps = "00400000-00500000 r--p 00000000 08:01 77 /usr/bin/coracle (deleted)\n\
                    00500000-00900000 r-xp 00100000 08:01 77 /usr/bin/coracle (deleted)\n\
                    00900000-00910000 rw-p 00500000 08:01 77 /usr/bin/coracle (deleted)\n\
                    00910000-00920000 rw-p 00000000 00:00 0 [heap]\n\
                    7f0000000000-7f0000001000 r--p 00000000 08:01 99 /etc/other\n\
                    7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0 [stack]\n\
                    7ffc00100000-7ffc00102000 r-xp 00000000 00:00 0 [vdso]\n";
        assert_eq!(
            ranges(maps, 0x7ffc0001f123),
            [
                Range { start: 0x400000, end: 0x500000 },
                Range { start: 0x500000, end: 0x900000 },
                Range { start: 0x7ffc00000000, end: 0x7ffc0001b000 },
            ]
        );
        for another_threads in [0x7fff_0000_0000, 0x7000_0000_0000] {
            assert_eq!(ranges(maps, another_threads).len(), 2, "the first thread's stack is in use");
        }
    }
}
