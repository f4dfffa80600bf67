//! systemd-journald's socket (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::ANSWER_TIMEOUT;

pub(crate) const SOCKET: &str = "/run/systemd/journal/socket";
const FILE_NAME: &CStr = c"journal-entry";

pub(super) struct Journal {
    socket: UnixDatagram,
}

impl Journal {
    pub(super) fn open() -> io::Result<Journal> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(SOCKET)?;
        socket.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Journal { socket })
    }

    pub(super) fn send(&mut self, entry: &[u8]) -> io::Result<()> {
        match self.socket.send(entry) {
            Ok(_) => Ok(()),
            // "If the serialized entry is too large for one datagram, it is put into a sealed memfd", and an empty
            // datagram carries that.
            Err(error)
                if matches!(Errno::from_raw(error.raw_os_error().unwrap_or(0)), Errno::EMSGSIZE | Errno::ENOBUFS) =>
            {
                self.send_as_file(entry)
            }
            Err(error) => Err(error),
        }
    }

    fn send_as_file(&self, entry: &[u8]) -> io::Result<()> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let mut file = File::from(memfd_create(FILE_NAME, flags)?);
        file.write_all(entry)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        let descriptors = [file.as_raw_fd()];
        let control = [ControlMessage::ScmRights(&descriptors)];
        let nothing = [IoSlice::new(&[])];
        sendmsg::<()>(self.socket.as_raw_fd(), &nothing, &control, MsgFlags::MSG_NOSIGNAL, None)?;
        Ok(())
    }
}
