//! Which extended attributes of an archive reach the disk.

use std::os::fd::BorrowedFd;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::{ExtractError, cannot, refused};
use crate::limits::{MAX_XATTR_BYTES, MAX_XATTRS};
use crate::tar::Entry;

/// Hides the lower layers' directory of the same name (Linux's Documentation/filesystems/overlayfs.rst, "whiteouts and
/// opaque directories").
pub(crate) fn make_opaque(directory: BorrowedFd<'_>, of: &[u8]) -> Result<(), ExtractError> {
    rustix::fs::fsetxattr(directory, "trusted.overlay.opaque", b"y", XattrFlags::empty())
        .map_err(cannot("make opaque the directory of", of))
}

/// File capabilities, ACLs and users' own attributes are kept. Everything of overlayfs's is ours alone to write, labels
/// of security modules belong to the host that made them, and `trusted.` is for the host's root.
pub(crate) fn is_kept(name: &[u8]) -> bool {
    match name {
        b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default" => true,
        _ => name.starts_with(b"user.") && !name.starts_with(b"user.overlay."),
    }
}

pub(crate) fn set(file: BorrowedFd<'_>, entry: &Entry) -> Result<(), ExtractError> {
    if entry.xattrs.len() > MAX_XATTRS {
        return Err(refused(&entry.path, &format!("it has more than {MAX_XATTRS} extended attributes")));
    }
    for (name, value) in entry.xattrs.iter().filter(|(name, _)| is_kept(name)) {
        if name.contains(&0) || value.len() > MAX_XATTR_BYTES {
            return Err(refused(&entry.path, "it has an extended attribute that is too long or has a NUL in its name"));
        }
        match rustix::fs::fsetxattr(file, &name[..], value, XattrFlags::empty()) {
            Ok(()) => {}
            // As Docker does: a file system without this kind of attribute still runs most images.
            Err(Errno::NOTSUP) => {
                tracing::warn!(path = %String::from_utf8_lossy(&entry.path), "file system keeps no such extended attribute");
            }
            Err(error) => return Err(cannot("set the extended attributes of", &entry.path)(error)),
        }
    }
    Ok(())
}
