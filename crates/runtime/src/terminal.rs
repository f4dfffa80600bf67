//! A new terminal of a container's own, opened from inside of it, where its files may be anything: what is opened is
//! checked to be a terminal multiplexer before it is used (CVE-2025-52565).

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;

use nix::mount::{MsFlags, mount};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// What Docker tells a program whose terminal nobody has described.
pub(crate) const TERM: &str = "TERM=xterm";

const DEVPTS_MAGIC: i64 = 0x1cd1;
/// Major 5, minor 2: `Documentation/admin-guide/devices.txt`.
const MULTIPLEXER: libc::dev_t = libc::makedev(5, 2);

/// Opens a terminal in the calling process's root, makes it the controlling terminal and the standard streams, gives
/// it to `owner`, and sends the master side over the socket. `size`: rows and columns that it begins with. The caller
/// leads a session without a terminal.
///
/// # Errors
/// /dev/pts/ptmx is not a multiplexer of a devpts, or a step failed.
pub(crate) fn open_and_send(socket: BorrowedFd<'_>, owner: u32, size: Option<(u16, u16)>) -> io::Result<()> {
    let master = File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open("/dev/pts/ptmx")?;
    let metadata = master.metadata()?;
    // SAFETY: statfs is plain numbers, for which zero is a value.
    let mut filesystem: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: `filesystem` outlives the call.
    check(unsafe { libc::fstatfs(master.as_raw_fd(), &raw mut filesystem) })?;
    let devpts = i64::try_from(filesystem.f_type).is_ok_and(|magic| magic == DEVPTS_MAGIC);
    if !devpts || !metadata.file_type().is_char_device() || metadata.rdev() != MULTIPLEXER {
        return Err(io::Error::other("/dev/pts/ptmx is not a terminal multiplexer"));
    }
    let unlocked: libc::c_int = 0;
    // SAFETY: the request reads one int.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) })?;
    if let Some((rows, columns)) = size {
        let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: the request reads one winsize, which outlives the call.
        check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) })?;
    }
    // By the master and not by its name: names are the container's to arrange.
    // SAFETY: the request takes open flags and answers a new descriptor.
    let slave = check(unsafe {
        libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC)
    })?;
    // SAFETY: the kernel has just made this descriptor, and nobody else owns it.
    let slave = unsafe { OwnedFd::from_raw_fd(slave) };
    // SAFETY: numbers only, for all of these; the group stays the one that devpts gives.
    unsafe {
        check(libc::fchown(slave.as_raw_fd(), owner, u32::MAX))?;
        check(libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY, 0))?;
        for stream in 0..3 {
            check(libc::dup2(slave.as_raw_fd(), stream))?;
        }
    }
    let descriptors = [master.as_raw_fd()];
    let message = [ControlMessage::ScmRights(&descriptors)];
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(b"t")], &message, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Shows the terminal that is standard input as /dev/console too, as Docker does. To be called on the container's root,
/// with /dev still empty but for its own.
///
/// # Errors
/// A mount failed.
pub(crate) fn make_console() -> io::Result<()> {
    let console = "/dev/console";
    File::options().write(true).create_new(true).open(console)?;
    let terminal = std::fs::read_link("/proc/self/fd/0")?;
    mount(Some(&terminal), console, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    Ok(())
}

/// The master side that was sent before the program was executed.
///
/// # Errors
/// None came.
pub(crate) fn receive(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([libc::c_int; 1]);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_fd().as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control
            && let [descriptor] = descriptors.as_slice()
        {
            // SAFETY: the kernel has just installed this descriptor for us.
            return Ok(unsafe { OwnedFd::from_raw_fd(*descriptor) });
        }
    }
    Err(io::Error::other("no terminal came"))
}

fn check(answer: libc::c_int) -> io::Result<libc::c_int> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}
