//! Tools in a container that has none, for one process alone (`coracle exec --debug`): in a mount namespace of its
//! own, a copy of the container's, so that the container's other processes see nothing of it and its files stay where
//! they are. `/dev` is the one directory that every container has and no image owns: a fresh file system takes its
//! place, with everything of the old one in it and `coracle` besides.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, mknod};

use crate::volumes::tree;

/// What `PATH` begins with.
pub const DIRECTORY: &str = "/dev/coracle/bin";
pub const SHELL: &str = "/dev/coracle/bin/sh";

const DEV: &str = "/dev";
const OURS: &str = "coracle";
const OLD: &str = "/dev/coracle/old";
const BUSYBOX: &str = "/dev/coracle/bin/busybox";
/// As the container's own.
const DEV_OPTIONS: &str = "mode=755,size=65536k";
/// The most names in a container's /dev; the devices of a large host are fewer.
const MAX_ENTRIES: usize = 8_192;

/// Gives the calling process, which is in all of the container's namespaces and has all privileges, a mount namespace
/// of its own with the tools in it. `busybox` is a mount of that file alone, attached nowhere.
///
/// # Errors
/// A mount failed; the process is then to end. The error names the path.
pub(crate) fn show(busybox: BorrowedFd<'_>, applets: &[String]) -> io::Result<()> {
    let at = |path: &'static str| move |error: io::Error| named(Path::new(path), &error);
    unshare(CloneFlags::CLONE_NEWNS)?;
    // A volume with propagation goes on to get what the host mounts in it, and gives nothing back.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
        .map_err(|errno| at("/")(errno.into()))?;
    let old = tree::take(Path::new(DEV), false).map_err(at(DEV))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_STRICTATIME;
    mount(Some("tmpfs"), DEV, Some("tmpfs"), flags, Some(DEV_OPTIONS)).map_err(|errno| at(DEV)(errno.into()))?;
    // From here on nobody else can change what the paths below lead to.
    fs::create_dir_all(DIRECTORY).map_err(at(DIRECTORY))?;
    fs::create_dir(OLD).map_err(at(OLD))?;
    put(old.as_fd(), OLD).map_err(at(OLD))?;
    bring_back()?;
    umount2(OLD, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).map_err(|errno| at(OLD)(errno.into()))?;
    fs::remove_dir(OLD).map_err(at(OLD))?;
    File::create(BUSYBOX).and_then(|_| put(busybox, BUSYBOX)).map_err(at(BUSYBOX))?;
    // The file is the host's: the container's root could change it for everybody.
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(None::<&str>, BUSYBOX, None::<&str>, flags, None::<&str>).map_err(|errno| at(BUSYBOX)(errno.into()))?;
    for applet in applets.iter().filter(|applet| *applet != "busybox") {
        let link = Path::new(DIRECTORY).join(applet);
        symlink("busybox", &link).map_err(|error| named(&link, &error))?;
    }
    Ok(())
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn put(tree: BorrowedFd<'_>, target: &str) -> io::Result<()> {
    let target = File::options().read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW).open(target)?;
    tree::attach(tree, target.as_fd())
}

/// What the container has in /dev: links and devices anew, everything else, and what is mounted there, by a mount.
fn bring_back() -> io::Result<()> {
    let at = |path: &Path, error: io::Error| named(path, &error);
    let device = fs::symlink_metadata(OLD)?.dev();
    for (number, entry) in fs::read_dir(OLD)?.enumerate() {
        let name = entry?.file_name();
        if number >= MAX_ENTRIES {
            return Err(io::Error::other(format!("the container has more than {MAX_ENTRIES} files in {DEV}")));
        }
        let (from, to) = (Path::new(OLD).join(&name), Path::new(DEV).join(&name));
        if name == OURS {
            continue;
        }
        match bring(&from, &to, device) {
            // The container has removed it a moment ago.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            answer => answer.map_err(|error| at(&to, error))?,
        }
    }
    Ok(())
}

fn bring(from: &Path, to: &Path, device: u64) -> io::Result<()> {
    let found = fs::symlink_metadata(from)?;
    let kind = found.file_type();
    if kind.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    let node = if kind.is_char_device() { SFlag::S_IFCHR } else { SFlag::S_IFBLK };
    if (kind.is_char_device() || kind.is_block_device()) && found.dev() == device {
        mknod(to, node, Mode::empty(), found.rdev())?;
        chown(to, Some(found.uid()), Some(found.gid()))?;
        return fs::set_permissions(to, fs::Permissions::from_mode(found.mode() & 0o7777));
    }
    if kind.is_dir() {
        fs::create_dir(to)?;
    } else {
        File::create(to)?;
    }
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    Ok(mount(Some(from), to, None::<&str>, flags, None::<&str>)?)
}
