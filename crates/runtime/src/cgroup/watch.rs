//! Out-of-memory kills: the truth is a counter, and a descriptor that says when to look at it.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use super::hierarchy::write;
use super::{Cgroups, below};

impl Cgroups {
    /// How many processes of this cgroup the kernel has killed for want of memory; none where nobody counts.
    pub fn oom_kills(&self, path: &Path) -> Option<u64> {
        let file = match (self.v1_of("memory"), self.v2_with("memory")) {
            (Some(v1), _) => below(&v1.mount, path).join("memory.oom_control"),
            (None, Some(v2)) => below(&v2.mount, path).join("memory.events"),
            (None, None) => return None,
        };
        count(&fs::read_to_string(file).ok()?)
    }

    /// Readable (POLLIN) when `oom_kills` may have grown. None where the kernel offers no such notice; the counter
    /// is right all the same.
    pub fn oom_watch(&self, path: &Path) -> Option<OwnedFd> {
        match (self.v1_of("memory"), self.v2_with("memory")) {
            (Some(v1), _) => watch_v1(&below(&v1.mount, path)),
            (None, Some(v2)) => watch_v2(&below(&v2.mount, path)),
            (None, None) => None,
        }
    }
}

fn count(counters: &str) -> Option<u64> {
    counters.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

fn watch_v1(directory: &Path) -> Option<OwnedFd> {
    // SAFETY: takes two numbers and answers a new descriptor or -1.
    let event = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if event < 0 {
        return None;
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else owns it.
    let event = unsafe { OwnedFd::from_raw_fd(event) };
    let control = fs::File::open(directory.join("memory.oom_control")).ok()?;
    let registration = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
    write(&directory.join("cgroup.event_control"), &registration).ok()?;
    Some(event)
}

fn watch_v2(directory: &Path) -> Option<OwnedFd> {
    // SAFETY: takes a number and answers a new descriptor or -1.
    let notify = unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) };
    if notify < 0 {
        return None;
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else owns it.
    let notify = unsafe { OwnedFd::from_raw_fd(notify) };
    let events = CString::new(directory.join("memory.events").into_os_string().into_encoded_bytes()).ok()?;
    // SAFETY: the path is a C string that outlives the call.
    let watch = unsafe { libc::inotify_add_watch(notify.as_raw_fd(), events.as_ptr(), libc::IN_MODIFY) };
    (watch >= 0).then_some(notify)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_count_on_a_line_of_their_own() {
        assert_eq!(count("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"), Some(3));
        assert_eq!(count("low 0\nhigh 0\nmax 9\noom 2\noom_kill 2\noom_group_kill 1\n"), Some(2));
        assert_eq!(count("oom_kill_disable 0\n"), None);
    }
}
