//! The file that holds an awsvpc task's network namespace, `<run-dir>/netns/<task>`: as `ip netns` has them, a file that
//! the namespace is mounted on. It lives until the file is removed, whoever else is in it.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ecs::TaskId;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::error::Error;

pub(crate) fn hold(directory: &Path, task: &TaskId, namespace: BorrowedFd<'_>) -> Result<(), Error> {
    let path = directory.join(task.as_str());
    let failed = |verb, path: &Path, source| Error::NamespaceFile { verb, path: path.to_owned(), source };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|source| failed("make the directory", directory, source))?;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o400).open(&path);
    file.map_err(|source| failed("make", &path, source))?;
    let namespace = format!("/proc/self/fd/{}", namespace.as_raw_fd());
    let flags = MsFlags::MS_BIND;
    mount(Some(namespace.as_str()), &path, None::<&str>, flags, None::<&str>).map_err(|errno| {
        // Nothing is mounted on it: a failure to remove it leaves an empty file for `sweep`.
        let _ = fs::remove_file(&path);
        failed("mount the network namespace on", &path, errno.into())
    })
}

/// Says whether there was such a file.
pub(crate) fn release(directory: &Path, task: &TaskId) -> Result<bool, Error> {
    let path = directory.join(task.as_str());
    let failed = |verb, source| Error::NamespaceFile { verb, path: path.clone(), source };
    loop {
        match umount2(&path, MntFlags::MNT_DETACH) {
            Ok(()) => {}
            Err(Errno::ENOENT) => return Ok(false),
            // Not mounted, or not in this mount namespace: removing the file undoes it in all others (Linux 3.18).
            Err(Errno::EINVAL) => break,
            Err(errno) => return Err(failed("unmount", errno.into())),
        }
    }
    match fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(failed("remove", source)),
    }
}

/// The tasks whose namespaces are held here.
pub(crate) fn list(directory: &Path) -> Result<Vec<TaskId>, Error> {
    let failed = |source| Error::NamespaceFile { verb: "list", path: PathBuf::from(directory), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed(source)),
    };
    let mut tasks = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        tasks.extend(name.into_string().ok().and_then(|name| TaskId::try_from(name).ok()));
    }
    Ok(tasks)
}
