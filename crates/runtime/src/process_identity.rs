//! Processes named so that a recycled number is never mistaken for them.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use agent_protocol::ProcessIdentity;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// # Errors
/// The process is gone, or /proc cannot be read.
pub fn of(pid: i32) -> io::Result<ProcessIdentity> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let start_time = start_time(&stat).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat has no start time in field 22"))
    })?;
    Ok(ProcessIdentity { pid, start_time, boot_id: boot_id()? })
}

/// The calling process.
///
/// # Errors
/// /proc cannot be read.
pub fn own() -> io::Result<ProcessIdentity> {
    of(i32::try_from(std::process::id()).expect("a pid fits its own type"))
}

/// A pidfd for exactly this process; none when it is gone, whoever has its number now.
///
/// # Errors
/// What pidfd_open(2) and /proc say, other than that there is no such process.
pub fn open(identity: &ProcessIdentity) -> io::Result<Option<OwnedFd>> {
    let pidfd = match open_number(identity.pid) {
        Ok(pidfd) => pidfd,
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
        Err(error) => return Err(error),
    };
    // The descriptor is held first, then the number is checked: what it names cannot change any more.
    match of(identity.pid) {
        Ok(now) if now == *identity => Ok(Some(pidfd)),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

/// For a child of ours, whose number nobody else can get before we have waited for it.
pub(crate) fn open_number(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes two numbers and answers a new descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).expect("descriptors are small numbers")) })
}

/// Whether it was still there to be signalled.
///
/// # Errors
/// What pidfd_send_signal(2) says, other than that the process has ended.
pub fn signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<bool> {
    // SAFETY: a descriptor, a number, and no siginfo.
    let answer = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0)
    };
    if answer == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
        error => Err(error),
    }
}

/// Whether it has ended, waited for or not.
pub(crate) fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    let mut watched = [PollFd::new(pidfd, PollFlags::POLLIN)];
    // An interrupted look has seen nothing yet.
    matches!(poll(&mut watched, PollTimeout::ZERO), Ok(1))
}

/// # Errors
/// /proc cannot be read.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Field 22 of proc_pid_stat(5), counted after the command's name, which may hold anything, parentheses too.
fn start_time(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_does_not_move_the_start_time() {
        let fields = "S 1 1 1 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 1000";
        assert_eq!(start_time(&format!("42 (a) R 9 (b) {fields}")), Some(777));
        assert_eq!(start_time("42 (cut"), None);
    }

    #[test]
    fn a_recycled_number_is_not_the_process() {
        let me = own().unwrap();
        assert!(open(&me).unwrap().is_some());
        assert!(open(&ProcessIdentity { start_time: me.start_time + 1, ..me.clone() }).unwrap().is_none());
        assert!(open(&ProcessIdentity { boot_id: "another boot".to_owned(), ..me }).unwrap().is_none());
    }
}
