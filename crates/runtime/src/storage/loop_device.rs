//! A loop device over an open file, which the kernel takes away with its last user (loop(4)).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};

const CONTROL: &str = "/dev/loop-control";
/// `linux/major.h`.
const LOOP_MAJOR: u64 = 7;
const LOOP_CTL_GET_FREE: u32 = 0x4C82;
const LOOP_CONFIGURE: u32 = 0x4C0A;
const AUTOCLEAR: u32 = 4;
const DIRECT_IO: u32 = 16;
/// Of the file systems on it: with larger sectors than the file below, direct I/O is refused.
const BLOCK_SIZE: u32 = 4096;
/// Another process may take the device that was free a moment ago.
const MAX_TRIES: u32 = 256;

/// The kernel's `struct loop_info64`.
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    real_device: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// The kernel's `struct loop_config`.
#[repr(C)]
struct LoopConfiguration {
    file: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

/// Held until it is mounted: then the mount holds it.
pub(super) struct Device {
    path: PathBuf,
    /// Made by us, for a host whose /dev does not fill itself.
    own_node: bool,
    file: File,
}

impl Device {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.own_node {
            // It goes with the directory that it is in, if not now.
            fs::remove_file(&self.path).ok();
        }
    }
}

/// Attaches `file`. `node`: where a device node may be made if there is none in /dev.
pub(super) fn attach(file: &File, node: &Path) -> io::Result<Device> {
    let control = OpenOptions::new().read(true).write(true).open(CONTROL)?;
    for _ in 0..MAX_TRIES {
        // SAFETY: no argument.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) };
        let Ok(number) = u64::try_from(number) else { return Err(io::Error::last_os_error()) };
        let device = open(number, node)?;
        match configure(&device.file, file, AUTOCLEAR | DIRECT_IO) {
            // The file system below cannot do direct I/O in such blocks.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                match configure(&device.file, file, AUTOCLEAR) {
                    Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                    answer => return answer.map(|()| device),
                }
            }
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            answer => return answer.map(|()| device),
        }
    }
    Err(io::Error::other("every free loop device was taken by others"))
}

fn open(number: u64, node: &Path) -> io::Result<Device> {
    let open = |path: &Path| OpenOptions::new().read(true).write(true).open(path);
    let path = PathBuf::from(format!("/dev/loop{number}"));
    match open(&path) {
        Ok(file) => Ok(Device { path, own_node: false, file }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::remove_file(node).ok();
            mknod(node, SFlag::S_IFBLK, Mode::from_bits_truncate(0o600), makedev(LOOP_MAJOR, number))?;
            Ok(Device { path: node.to_owned(), own_node: true, file: open(node)? })
        }
        Err(error) => Err(error),
    }
}

fn configure(device: &File, file: &File, flags: u32) -> io::Result<()> {
    let info = LoopInfo {
        device: 0,
        inode: 0,
        real_device: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
    let number = u32::try_from(file.as_raw_fd()).expect("an open descriptor is not negative");
    let configuration = LoopConfiguration { file: number, block_size: BLOCK_SIZE, info, reserved: [0; 8] };
    // SAFETY: the kernel reads the struct that is lent to it, whose shape is its own.
    let answer = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &raw const configuration) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
