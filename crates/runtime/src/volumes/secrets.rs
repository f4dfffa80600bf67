//! Secret values as files: on a small tmpfs that only this container sees, mode 0400, owned by its user, never swapped
//! out where the kernel can do that, and never on the disk.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::Path;

use agent_protocol::ContainerSecrets;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use super::plan::{Mount, MountKind};
use super::{VolumeError, io_error, make_directory};

/// More than ten containers' worth of the largest secrets (64 KiB each, Secrets Manager's limit).
const OPTIONS: &str = "mode=0711,size=16m,nr_inodes=2048";
/// In the container's bundle.
const DIRECTORY: &str = "secrets";

/// Who reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Writes the files below `bundle`, which is the launcher's alone, and says what is to be mounted where.
pub(super) fn write(bundle: &Path, secrets: &ContainerSecrets, owner: Owner) -> Result<Vec<Mount>, VolumeError> {
    let directory = bundle.join(DIRECTORY);
    make_directory(&directory)?;
    mount_tmpfs(&directory).map_err(io_error("mount a file system for secrets on", &directory))?;
    let mut mounts = Vec::new();
    for (index, (target, value)) in secrets.files.iter().enumerate() {
        let path = directory.join(index.to_string());
        write_one(&path, value.0.as_bytes(), owner).map_err(io_error("write a secret to", &path))?;
        mounts.push(super::plan::mount(path, target, true, MountKind::Host)?);
    }
    Ok(mounts)
}

fn mount_tmpfs(directory: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let tmpfs = |options: &str| mount(Some("tmpfs"), directory, Some("tmpfs"), flags, Some(options));
    match tmpfs(&format!("{OPTIONS},noswap")) {
        // Before Linux 6.4.
        Err(Errno::EINVAL) => Ok(tmpfs(OPTIONS)?),
        answer => Ok(answer?),
    }
}

fn write_one(path: &Path, value: &[u8], owner: Owner) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(path)?;
    file.write_all(value)?;
    fchown(&file, Some(owner.uid), Some(owner.gid))
}
