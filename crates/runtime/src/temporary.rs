//! x
pub(crate) mod exec {
    use std::os::fd::*;
    use agent_protocol::*;
    use agent_protocol::command::Exec;
    use crate::cgroup::Cgroups;
    use crate::launch::Started;
    pub(crate) struct Executed { pub(crate) pid: i32, pub(crate) pidfd: OwnedFd, pub(crate) terminal: Option<OwnedFd> }
    pub(crate) fn start(_: &Cgroups, _: &TaskSpec, _: &ContainerSpec, _: &Started, _: &Exec, _: Option<[BorrowedFd<'_>; 3]>) -> std::io::Result<Executed> { Err(std::io::Error::other("exec is not there yet")) }
}
pub(crate) mod sealed_exe {
    use std::os::fd::*;
    pub(crate) fn spawn_self(words: &[std::ffi::OsString], socket: OwnedFd) -> std::io::Result<()> {
        use std::os::unix::process::CommandExt;
        let mut c = std::process::Command::new("/proc/self/exe");
        c.args(words);
        let raw = socket.as_raw_fd();
        unsafe { c.pre_exec(move || { if libc::dup2(raw, 3) < 0 { return Err(std::io::Error::last_os_error()) } libc::fcntl(3, libc::F_SETFD, 0); Ok(()) }); }
        c.spawn().map(|_| ())
    }
}
