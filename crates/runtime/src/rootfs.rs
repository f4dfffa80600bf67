//! A container's root file system: the image's layers under a writable one, checked before anything is mounted in it.
//!
//! All of it happens in the launcher's own mount namespace, so that no mount is ever seen on the host and all of them
//! vanish with the container. libcontainer makes links in `/dev` through plain paths (CVE-2026-41579's class), so a
//! root whose mount points are not what they seem is refused here.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Component, Path, PathBuf};

use agent_protocol::{ContainerSpec, MetadataFile};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::{inside, task_dir};

/// The scratch file system of one start: generated files, the specification and libcontainer's state.
const SCRATCH_OPTIONS: &str = "mode=0755,size=4m,nr_inodes=4096";
/// overlayfs takes no more layers than this.
const MAX_LAYERS: usize = 500;
/// Directories that libcontainer mounts on, parents first.
const MOUNT_POINTS: [&str; 3] = ["dev", "proc", "sys"];
/// Files of ours in /etc, and in the bundle.
pub(crate) const ETC_FILES: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

#[derive(Debug, thiserror::Error)]
pub(crate) enum RootfsError {
    #[error("the image has {0} layers; overlayfs takes at most {MAX_LAYERS}")]
    TooManyLayers(usize),
    #[error("/{path} of the image is {what}, not a directory: a container needs it to be one")]
    NotADirectory { path: String, what: &'static str },
    #[error("cannot {action} {path}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> RootfsError {
    let path = path.into();
    move |source| RootfsError::Io { action, path, source }
}

/// Mounts the scratch file system on `bundle` and fills it.
pub(crate) fn prepare_bundle(bundle: &Path, container: &ContainerSpec) -> Result<(), RootfsError> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), bundle, Some("tmpfs"), flags, Some(SCRATCH_OPTIONS))
        .map_err(|errno| io("mount a scratch file system on", bundle)(errno.into()))?;
    let network = &container.network;
    let files = [
        ("hosts", &network.hosts),
        ("hostname", &format!("{}\n", network.hostname)),
        ("resolv.conf", &network.resolv_conf),
    ];
    for (name, content) in files {
        write_file(&bundle.join(name), content.as_bytes())?;
    }
    for directory in ["rootfs", "state", "skeleton"] {
        make_directory(&bundle.join(directory))?;
    }
    // The lowest layer: mount points that an image does not bring are found here, instead of being made in the
    // writable layer, on the disk, for each container.
    let skeleton = bundle.join("skeleton");
    for directory in MOUNT_POINTS.iter().chain(&["etc"]) {
        make_directory(&skeleton.join(directory))?;
    }
    for file in ETC_FILES {
        write_file(&skeleton.join("etc").join(file), b"")?;
    }
    match &container.metadata_file {
        Some(file) => write_metadata(&skeleton, file),
        None => Ok(()),
    }
}

/// Below the image's files, so that it costs neither a mount nor the disk, and nothing of the image can lead it astray.
/// What the container writes to it goes to its own writable layer.
fn write_metadata(skeleton: &Path, file: &MetadataFile) -> Result<(), RootfsError> {
    let inside: PathBuf = file.place.components().filter(|part| matches!(part, Component::Normal(_))).collect();
    let place = skeleton.join(inside);
    if let Some(folder) = place.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(io("make", folder))?;
    }
    write_file(&place, file.content.as_bytes())
}

fn make_directory(path: &Path) -> Result<(), RootfsError> {
    fs::DirBuilder::new().mode(0o755).create(path).map_err(io("make", path))
}

fn write_file(path: &Path, content: &[u8]) -> Result<(), RootfsError> {
    File::create(path).and_then(|mut file| file.write_all(content)).map_err(io("write", path))
}

/// Mounts the overlay on `bundle/rootfs`. The layers are named by short links in the bundle: the kernel takes one
/// page of options, and shows them in /proc/mounts, where a container can read them.
pub(crate) fn mount_overlay(bundle: &Path, state: &Path, layers: &[PathBuf]) -> Result<OwnedFd, RootfsError> {
    if layers.len() > MAX_LAYERS - 1 {
        return Err(RootfsError::TooManyLayers(layers.len()));
    }
    let (upper, work) = (state.join("upper"), state.join("work"));
    // What a volatile mount leaves when it was not synced; the kernel refuses to mount again while it is there. The
    // earlier run's writes are in the page cache, which no restart of a container loses.
    let volatile = work.join("work/incompat/volatile");
    task_dir::remove_tree(&volatile).map_err(io("clear", volatile))?;
    let link = |target: &Path, name: &str| symlink(target, bundle.join(name)).map_err(io("link to", target));
    link(&upper, "u")?;
    link(&work, "w")?;
    let mut lower: Vec<String> = Vec::new();
    for (number, layer) in layers.iter().enumerate().rev() {
        let name = format!("{number}");
        link(layer, &name)?;
        lower.push(name);
    }
    lower.push("skeleton".to_owned());
    let options = format!("lowerdir={},upperdir=u,workdir=w,index=off,metacopy=off", lower.join(":"));
    std::env::set_current_dir(bundle).map_err(io("enter", bundle))?;
    let overlay = |options: &str| mount(Some("overlay"), "rootfs", Some("overlay"), MsFlags::empty(), Some(options));
    // A task's writable layer does not outlive a crash of the host, so nothing of it need be synced.
    match overlay(&format!("{options},volatile")) {
        Err(Errno::EINVAL) => overlay(&options),
        answer => answer,
    }
    .map_err(|errno| io("mount the layers of the image on", bundle.join("rootfs"))(errno.into()))?;
    let root =
        openat(nix::fcntl::AT_FDCWD, "rootfs", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|errno| io("open", bundle.join("rootfs"))(errno.into()))?;
    std::env::set_current_dir("/").map_err(io("enter", "/"))?;
    Ok(root)
}

/// Refuses a root whose mount points are links or files, makes what is missing, and clears the way for our own
/// files in /etc: an image's link there is replaced, never followed.
pub(crate) fn preflight(root: BorrowedFd<'_>, working_directory: &str) -> Result<(), RootfsError> {
    for path in MOUNT_POINTS {
        real_directory(root, path)?;
    }
    let etc = real_directory(root, "etc")?;
    for name in ETC_FILES {
        plain_file(etc.as_fd(), name)?;
    }
    make_working_directory(root, working_directory)
}

/// Where it is in the image, or in a volume that is mounted already.
pub(crate) fn make_working_directory(root: BorrowedFd<'_>, working_directory: &str) -> Result<(), RootfsError> {
    let first = working_directory.split('/').find(|part| !part.is_empty() && *part != ".");
    if first.is_some_and(|first| MOUNT_POINTS.contains(&first)) {
        // It is or is not there once /proc is mounted, say; `enter` finds out.
        return Ok(());
    }
    inside::make_directories(root, working_directory)
        .map(drop)
        .map_err(io("make the working directory", working_directory))
}

fn real_directory(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, RootfsError> {
    match fstatat(root, path, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(found) => match SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFDIR => {}
            kind => return Err(RootfsError::NotADirectory { path: path.to_owned(), what: name_of(kind) }),
        },
        Err(Errno::ENOENT) => mkdirat(root, path, Mode::from_bits_truncate(0o755))
            .map_err(|errno| io("make", format!("/{path}"))(errno.into()))?,
        Err(errno) => return Err(io("look at", format!("/{path}"))(errno.into())),
    }
    inside::open(root, path, libc::O_PATH | libc::O_DIRECTORY, inside::NO_LINKS).map_err(io("open", format!("/{path}")))
}

fn name_of(kind: SFlag) -> &'static str {
    match kind {
        SFlag::S_IFLNK => "a symbolic link",
        SFlag::S_IFREG => "a file",
        _ => "a special file",
    }
}

fn plain_file(etc: BorrowedFd<'_>, name: &str) -> Result<(), RootfsError> {
    let path = || PathBuf::from("/etc").join(name);
    match fstatat(etc, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(found) => match SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFREG => return Ok(()),
            SFlag::S_IFDIR => {
                let source = io::Error::from_raw_os_error(libc::EISDIR);
                return Err(io("put a file at", path())(source));
            }
            _ => {
                unlinkat(etc, name, UnlinkatFlags::NoRemoveDir).map_err(|errno| io("replace", path())(errno.into()))?
            }
        },
        Err(Errno::ENOENT) => {}
        Err(errno) => return Err(io("look at", path())(errno.into())),
    }
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    openat(etc, name, flags, Mode::from_bits_truncate(0o644)).map_err(|errno| io("make", path())(errno.into()))?;
    Ok(())
}
