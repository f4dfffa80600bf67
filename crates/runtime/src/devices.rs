//! Devices of the host in a container (`linuxParameters.devices`, and those of assigned GPUs): found on the host,
//! allowed by the device filter, and made as nodes in the container's root.
//!
//! The rules are Docker's: a link on the host is followed, a directory stands for every device below it, the node in the
//! container has the host's owner and mode, and whatever permission is not asked for is not granted.

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use ecs::task_definition::{Device, DevicePermission};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{Mode, SFlag, fstatat, makedev, mknodat, umask};
use nix::unistd::{Gid, Uid, fchownat};

use crate::cgroup::{DeviceKind, DeviceRule};
use crate::inside;

/// The most nodes that one directory of the host brings.
const MAX_NODES: usize = 1_024;
/// How deep a directory of the host is looked into.
const MAX_DEPTH: usize = 16;

/// One node of the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// In the container; absolute.
    path: PathBuf,
    pub(crate) rule: DeviceRule,
    mode: u32,
    uid: u32,
    gid: u32,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum DeviceError {
    #[error("error gathering device information while adding custom device \"{path}\"")]
    Look {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("error gathering device information while adding custom device \"{0}\": not a device node")]
    NoDevice(PathBuf),
    #[error("linuxParameters.devices: {0} has more than {MAX_NODES} devices below it; name those that are needed")]
    TooMany(PathBuf),
    #[error("linuxParameters.devices: containerPath \"{0}\" is not a path of a file in the container")]
    NoPath(PathBuf),
    #[error("cannot make the device {path} in the container")]
    Make {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// What the definition's devices are on this host, at this moment.
///
/// # Errors
/// A path where there is no device.
pub(crate) fn gather(devices: &[Device]) -> Result<Vec<Node>, DeviceError> {
    let mut nodes = Vec::new();
    for device in devices {
        let given = PathBuf::from(&device.host_path);
        let target = match device.container_path.as_deref() {
            Some(path) if !path.is_empty() => PathBuf::from(path),
            Some(_) | None => given.clone(),
        };
        let found = fs::canonicalize(&given).and_then(|real| Ok((fs::metadata(&real)?, real)));
        let (metadata, real) = found.map_err(|source| DeviceError::Look { path: given.clone(), source })?;
        let access = access(&device.permissions);
        if metadata.is_dir() {
            let before = nodes.len();
            below(&real, &target, access, MAX_DEPTH, &mut nodes)?;
            if nodes.len() == before {
                return Err(DeviceError::NoDevice(given));
            }
        } else {
            nodes.push(node(target, &metadata, access).ok_or(DeviceError::NoDevice(given))?);
        }
    }
    Ok(nodes)
}

fn below(folder: &Path, target: &Path, access: u32, depth: usize, nodes: &mut Vec<Node>) -> Result<(), DeviceError> {
    let look = |source| DeviceError::Look { path: folder.to_owned(), source };
    for entry in fs::read_dir(folder).map_err(look)? {
        let entry = entry.map_err(look)?;
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            // Devices come and go.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(look(source)),
        };
        let target = target.join(entry.file_name());
        if metadata.is_dir() && depth > 0 {
            below(&entry.path(), &target, access, depth - 1, nodes)?;
        } else if let Some(node) = node(target, &metadata, access) {
            nodes.push(node);
        }
        if nodes.len() > MAX_NODES {
            return Err(DeviceError::TooMany(folder.to_owned()));
        }
    }
    Ok(())
}

fn node(path: PathBuf, metadata: &Metadata, access: u32) -> Option<Node> {
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => DeviceKind::Character,
        kind if kind.is_block_device() => DeviceKind::Block,
        _ => return None,
    };
    let number = metadata.rdev();
    let (major, minor) = (libc::major(number), libc::minor(number));
    let rule = DeviceRule { kind, major: Some(major), minor: Some(minor), access };
    Some(Node { path, rule, mode: metadata.mode() & 0o7777, uid: metadata.uid(), gid: metadata.gid() })
}

/// "By default, the container has permissions for read, write, and mknod for the device."
/// (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_Device.html>)
fn access(permissions: &[DevicePermission]) -> u32 {
    if permissions.is_empty() {
        return DeviceRule::READ | DeviceRule::WRITE | DeviceRule::MKNOD;
    }
    permissions.iter().fold(0, |access, permission| {
        access
            | match permission {
                DevicePermission::Read => DeviceRule::READ,
                DevicePermission::Write => DeviceRule::WRITE,
                DevicePermission::Mknod => DeviceRule::MKNOD,
            }
    })
}

impl Node {
    /// Makes the node below `root`, with what is missing of its path. One that is there already stays.
    ///
    /// # Errors
    /// Something else is in its place, or the file system takes no nodes.
    pub(crate) fn make(&self, root: BorrowedFd<'_>) -> Result<(), DeviceError> {
        let no_path = || DeviceError::NoPath(self.path.clone());
        let (folder, name) = (self.path.parent().and_then(Path::to_str), self.path.file_name());
        let (Some(folder), Some(name)) = (folder, name) else { return Err(no_path()) };
        if !self.path.is_absolute() || self.path.components().any(|part| part.as_os_str() == OsStr::new("..")) {
            return Err(no_path());
        }
        let made = inside::make_directories(root, folder).and_then(|folder| {
            let old = umask(Mode::empty());
            let answer = self.make_in(&folder, name);
            umask(old);
            answer
        });
        made.map_err(|source| DeviceError::Make { path: self.path.clone(), source })
    }

    fn make_in(&self, folder: &std::os::fd::OwnedFd, name: &OsStr) -> io::Result<()> {
        let kind = match self.rule.kind {
            DeviceKind::Block => SFlag::S_IFBLK,
            DeviceKind::Character => SFlag::S_IFCHR,
        };
        let number = |part: Option<u32>| u64::from(part.unwrap_or_default());
        let device = makedev(number(self.rule.major), number(self.rule.minor));
        match mknodat(folder, name, kind, Mode::from_bits_truncate(self.mode), device) {
            Ok(()) => {
                let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
                Ok(fchownat(folder, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?)
            }
            Err(Errno::EEXIST) => {
                let found = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
                let same = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT == kind && found.st_rdev == device;
                if same { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EEXIST)) }
            }
            Err(errno) => Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(host: &str, container: Option<&str>, permissions: &[DevicePermission]) -> Device {
        Device {
            host_path: host.to_owned(),
            container_path: container.map(str::to_owned),
            permissions: permissions.to_vec(),
        }
    }

    #[test]
    fn a_device_is_looked_up_on_the_host() {
        let nodes = gather(&[device("/dev/null", Some("/opt/nothing"), &[DevicePermission::Read])]).unwrap();
        assert_eq!(nodes.len(), 1);
        assert_eq!(nodes[0].path, Path::new("/opt/nothing"));
        let rule = DeviceRule { kind: DeviceKind::Character, major: Some(1), minor: Some(3), access: DeviceRule::READ };
        assert_eq!(nodes[0].rule, rule);
        assert_eq!(nodes[0].mode, 0o666);
    }

    #[test]
    fn what_is_no_device_is_refused() {
        let refused = |path: &str| gather(&[device(path, None, &[])]).unwrap_err();
        assert!(matches!(refused("/dev/there-is-none"), DeviceError::Look { .. }));
        assert!(matches!(refused("/etc/passwd"), DeviceError::NoDevice(_)));
        assert!(matches!(refused("/etc"), DeviceError::NoDevice(_)));
    }
}
