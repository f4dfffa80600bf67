//! Ended children: looked at first, waited for when everybody who knows them by their number has been told.

/// A child that has ended, with its exit code (a death by signal as 128 + its number). It is still to be waited for:
/// until then its number cannot become anybody else's.
pub(super) fn next_ended() -> Option<(i32, i32)> {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    loop {
        // SAFETY: a siginfo_t is plain data, for which all zero says that there is no such child.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes the struct that is lent to it, and nothing else.
        if unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, flags) } < 0 {
            match std::io::Error::last_os_error().kind() {
                std::io::ErrorKind::Interrupted => continue,
                // No child at all.
                _ => return None,
            }
        }
        // SAFETY: waitid has filled in the members of a SIGCHLD, or left all zero.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        return match (pid, info.si_code) {
            (0, _) => None,
            (pid, libc::CLD_EXITED) => Some((pid, status & 0xff)),
            (pid, _) => Some((pid, 128 + (status & 0x7f))),
        };
    }
}

/// Its number is free for others from here on.
pub(super) fn wait_for(pid: i32) {
    // SAFETY: a null siginfo is allowed; the child is ours and has ended, so this takes no time.
    unsafe { libc::waitid(libc::P_PID, pid as libc::id_t, std::ptr::null_mut(), libc::WEXITED | libc::WNOHANG) };
}
