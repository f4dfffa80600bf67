//! Volumes, seen from one container: what is mounted where in its root, by its launcher, and for /proc and /sys by its
//! first process. What the task's volumes are made of is `task`'s matter.
//!
//! No look-up in a container's root leaves it, nothing is mounted through a path, and no mount is shared with the
//! host's: whatever is mounted on the host later does not come in.

mod copy_up;
mod mounter;
mod options;
mod plan;
mod secrets;
mod target;
mod task;
pub(crate) mod tree;
mod unmounter;

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use agent_protocol::{ContainerSecrets, ContainerSpec, TaskSpec};
use nix::fcntl::{Flock, FlockArg};

use crate::rootfs::ETC_FILES;
use copy_up::CopyError;
pub use mounter::find_helper;
use plan::{Mount, MountKind, PlanError, Stage};
pub(crate) use secrets::Owner;
use target::Wanted;
pub(crate) use task::TaskVolumes;
use tree::Tree;

/// In a container's directory: its volumes have been filled, and are not again when it is restarted.
const FILLED: &str = "filled";

#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Copy(#[from] CopyError),
    #[error("cannot {action} {path}", path = path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot mount {source_path} at {target} of the container", source_path = from.display(), target = target.display())]
    Mount {
        from: PathBuf,
        target: PathBuf,
        #[source]
        source: io::Error,
    },
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> VolumeError {
    let path = path.to_owned();
    move |source| VolumeError::Io { action, path, source }
}

/// The mounts of one start of a container. All of it happens in the launcher's mount namespace.
pub(crate) struct Volumes {
    mounts: Vec<Mount>,
    state: PathBuf,
}

/// What a container's first process mounts, taken by the launcher, which still sees the host's paths.
pub(crate) struct InsideMounts(Vec<(Tree, Mount)>);

impl Volumes {
    /// # Errors
    /// Mount points that cannot be, by their words alone.
    pub(crate) fn of(task: &TaskSpec, container: &ContainerSpec) -> Result<Volumes, VolumeError> {
        Ok(Volumes { mounts: plan::plan(task, container)?, state: crate::launch::state_of(task, container) })
    }

    /// Whether something stands where our own files in /etc go.
    pub(crate) fn covers_etc(&self) -> bool {
        self.mounts.iter().any(|mount| mount.target == Path::new("/etc"))
    }

    /// Makes the image's own volumes and fills those that are empty, from the bare root: before anything is mounted on
    /// it.
    pub(crate) fn fill(&self, root: BorrowedFd<'_>) -> Result<(), VolumeError> {
        let filled = self.state.join(FILLED);
        for mount in &self.mounts {
            if mount.kind == MountKind::Anonymous {
                make_directory(&mount.source)?;
            }
        }
        if self.mounts.is_empty() || filled.exists() {
            return Ok(());
        }
        for mount in &self.mounts {
            match mount.kind {
                MountKind::Volume | MountKind::Anonymous => fill(root, mount)?,
                MountKind::Host | MountKind::TakenOver => {}
            }
        }
        File::create(&filled).map(drop).map_err(io_error("make", &filled))
    }

    /// What has to be there before our own files in /etc.
    pub(crate) fn mount_first(&self, root: BorrowedFd<'_>) -> Result<(), VolumeError> {
        self.mount_stage(root, Stage::First)
    }

    /// Our own files in an /etc that is a volume's, perhaps the host's own: its links stay and are followed inside the
    /// root, as with runc. What they lead to is made where it is missing.
    pub(crate) fn mount_etc(&self, root: BorrowedFd<'_>, bundle: &Path, read_only: bool) -> Result<(), VolumeError> {
        ETC_FILES.iter().try_for_each(|file| {
            let target = Path::new("/etc").join(file);
            let one = plan::mount(bundle.join(file), &target, read_only, MountKind::Host)?;
            put(root, &take(&one)?, &one)
        })
    }

    /// Everything but that and what the container's first process mounts. The container's /dev is there.
    pub(crate) fn mount_usual(&self, root: BorrowedFd<'_>) -> Result<(), VolumeError> {
        self.mount_stage(root, Stage::Usual)
    }

    fn mount_stage(&self, root: BorrowedFd<'_>, stage: Stage) -> Result<(), VolumeError> {
        self.mounts.iter().filter(|mount| mount.stage == stage).try_for_each(|one| {
            let tree = take(one)?;
            put(root, &tree, one)
        })
    }

    pub(crate) fn take_inside(&self) -> Result<InsideMounts, VolumeError> {
        let wanted = self.mounts.iter().filter(|mount| mount.stage == Stage::Inside);
        let taken = wanted.map(|mount| Ok((take(mount)?, mount.clone()))).collect::<Result<_, VolumeError>>()?;
        Ok(InsideMounts(taken))
    }
}

impl InsideMounts {
    /// In the container's first process, on its root, when /proc and /sys are mounted. Both are the kernel's: what is
    /// missing in them cannot be made.
    pub(crate) fn mount_all(&self) -> Result<(), VolumeError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let root = File::open("/").map(OwnedFd::from).map_err(io_error("open", Path::new("/")))?;
        self.0.iter().try_for_each(|(tree, mount)| put(root.as_fd(), tree, mount))
    }
}

/// The files of a container's secrets, on a file system of their own in `bundle`, mounted in its root.
pub(crate) fn mount_secrets(
    root: BorrowedFd<'_>,
    bundle: &Path,
    secrets: Option<&ContainerSecrets>,
    owner: Owner,
) -> Result<(), VolumeError> {
    let Some(secrets) = secrets.filter(|secrets| !secrets.files.is_empty()) else { return Ok(()) };
    for mount in secrets::write(bundle, secrets, owner)? {
        let tree = take(&mount)?;
        put(root, &tree, &mount)?;
    }
    Ok(())
}

fn take(mount: &Mount) -> Result<Tree, VolumeError> {
    tree::take(&mount.source, mount.read_only).map_err(|source| failed(mount, source))
}

fn failed(mount: &Mount, source: io::Error) -> VolumeError {
    let (from, target) = (mount.source.clone(), mount.target.clone());
    VolumeError::Mount { from, target, source }
}

fn put(root: BorrowedFd<'_>, tree: &Tree, mount: &Mount) -> Result<(), VolumeError> {
    let is_directory = nix::sys::stat::fstat(tree).map_err(|errno| failed(mount, errno.into()))?.st_mode & libc::S_IFMT
        == libc::S_IFDIR;
    let wanted = if is_directory { Wanted::Directory } else { Wanted::File };
    let target = target::find_or_make(root, &mount.target, wanted).map_err(|error| {
        // The kernel's words for this are about directories in general.
        let text = match (error.kind(), wanted) {
            (io::ErrorKind::NotADirectory, Wanted::Directory) => "a directory cannot be mounted over a file",
            (io::ErrorKind::NotADirectory, Wanted::File) => "a part of its path is a file",
            (io::ErrorKind::IsADirectory, _) => "a file cannot be mounted over a directory",
            _ => return failed(mount, error),
        };
        failed(mount, io::Error::new(error.kind(), text))
    })?;
    tree::put(tree, target.as_fd()).map_err(|error| failed(mount, error))
}

fn fill(root: BorrowedFd<'_>, mount: &Mount) -> Result<(), VolumeError> {
    let in_image = match target::find_directory(root, &mount.target) {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(()),
        // Told when it is mounted.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(()),
        Err(error) => return Err(io_error("look at the image's", &mount.target)(error)),
    };
    // Containers start side by side, and fill a volume that they share one after the other.
    let _lock = lock(&mount.source)?;
    let volume = File::open(&mount.source).map(OwnedFd::from).map_err(io_error("open", &mount.source))?;
    // A single file can be a volume through `o=bind`; it is what it is.
    if nix::sys::stat::fstat(&volume).is_ok_and(|found| found.st_mode & libc::S_IFMT != libc::S_IFDIR) {
        return Ok(());
    }
    Ok(copy_up::copy_up(in_image.as_fd(), volume.as_fd(), mount.target.clone())?)
}

/// Beside the volume, where no container comes.
fn lock(volume: &Path) -> Result<Flock<File>, VolumeError> {
    let path = volume.with_extension("lock");
    let file = File::options().write(true).create(true).truncate(false).open(&path).map_err(io_error("open", &path))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| io_error("lock", &path)(errno.into()))
}

/// With its parents; what is there already stays as it is.
fn make_directory(path: &Path) -> Result<(), VolumeError> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(io_error("make", path))
}
