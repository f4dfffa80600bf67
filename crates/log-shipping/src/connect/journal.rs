//! systemd-journald's socket (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

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
        Journal::open_at(Path::new(SOCKET))
    }

    fn open_at(path: &Path) -> io::Result<Journal> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
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

#[cfg(test)]
mod tests {
    use std::io::{IoSliceMut, Read, Seek};
    use std::os::fd::{AsFd, BorrowedFd};

    use nix::sys::socket::{ControlMessageOwned, recvmsg};

    use super::*;

    /// The descriptor that came with a datagram, opened again through /proc so that nothing here is unsafe.
    fn received_file(socket: BorrowedFd<'_>) -> (usize, File) {
        let mut bytes = [0; 16];
        let mut pieces = [IoSliceMut::new(&mut bytes)];
        let mut control = nix::cmsg_space!([i32; 1]);
        let message = recvmsg::<()>(socket.as_raw_fd(), &mut pieces, Some(&mut control), MsgFlags::empty());
        let message = message.expect("a datagram");
        let rights = message.cmsgs().expect("whole").find_map(|part| match part {
            ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
            _ => None,
        });
        let path = format!("/proc/self/fd/{}", rights.expect("a descriptor"));
        (message.bytes, File::open(path).expect("it is ours"))
    }

    #[test]
    fn an_entry_too_long_for_a_datagram_goes_as_a_sealed_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        let journald = UnixDatagram::bind(&path).expect("the path is free");
        let mut journal = Journal::open_at(&path).expect("somebody listens");
        let entry = vec![b'x'; 4 << 20];
        journal.send(&entry).expect("sent");
        let (bytes, mut file) = received_file(journald.as_fd());
        let mut content = Vec::new();
        file.rewind().and_then(|()| file.read_to_end(&mut content)).expect("readable");
        assert_eq!((bytes, content.len()), (0, entry.len()));
        let seals = fcntl(&file, FcntlArg::F_GET_SEALS).expect("a memfd");
        assert!(SealFlag::from_bits_retain(seals).contains(SealFlag::F_SEAL_WRITE));
        journal.send(b"MESSAGE=short\n").expect("sent");
        let mut buffer = [0; 64];
        assert_eq!(journald.recv(&mut buffer).expect("a datagram"), 14);
    }
}
