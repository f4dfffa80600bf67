//! Which device nodes can be made and opened: every major number with a few minors, block and character.

use std::ffi::CString;

use serde_json::{Value, json};

use crate::errno;

const LAST_MAJOR: u32 = 511;
const MINORS: [u32; 6] = [0, 1, 2, 3, 5, 200];
/// Beyond the grid: the misc devices an escape would like (loop-control, kvm, fuse, snapshot, cuse, vhost-net).
const FURTHER: [(u32, u32); 12] =
    [(1, 4), (1, 7), (1, 8), (1, 9), (1, 11), (10, 237), (10, 232), (10, 229), (10, 231), (10, 203), (10, 238), (5, 1)];

/// What the device filter let through: `{"c 1:3": 0, ...}`. An open that failed with anything but EPERM (no such
/// driver) passed the filter too and is listed with its error number. `mknod` counts what could not even be made.
pub(crate) fn sweep() -> Value {
    let mut passed = serde_json::Map::new();
    let mut refused_mknod = 0;
    for (kind, letter) in [(libc::S_IFCHR, 'c'), (libc::S_IFBLK, 'b')] {
        let grid = (0..=LAST_MAJOR).flat_map(|major| MINORS.map(|minor| (major, minor)));
        for (major, minor) in grid.chain(FURTHER) {
            match open_device(kind, major, minor) {
                Tried::NoNode => refused_mknod += 1,
                Tried::Opened(libc::EPERM) => {}
                Tried::Opened(error) => {
                    passed.insert(format!("{letter} {major}:{minor}"), json!(error));
                }
            }
        }
    }
    json!({ "passed": passed, "refused_mknod": refused_mknod })
}

enum Tried {
    NoNode,
    Opened(i32),
}

fn open_device(kind: libc::mode_t, major: u32, minor: u32) -> Tried {
    let path = CString::new("/dev/probe-node").expect("no NUL inside");
    // SAFETY: a NUL-terminated path; the descriptor is closed at once; nothing is read from or written to the device.
    unsafe {
        if libc::mknod(path.as_ptr(), kind | 0o600, libc::makedev(major, minor)) != 0 {
            return Tried::NoNode;
        }
        let file = libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY);
        let error = if file < 0 { errno() } else { 0 };
        if file >= 0 {
            libc::close(file);
        }
        libc::unlink(path.as_ptr());
        Tried::Opened(error)
    }
}
