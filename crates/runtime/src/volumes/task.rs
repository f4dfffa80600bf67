//! A task's volumes and its storage, made before its first container and gone after its last.
//!
//! What has to be mounted is mounted in the supervisor's mount namespace, which it takes for itself only then: the host
//! never sees it, containers get it from there, and it goes with them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, RawFd};
use std::path::{Path, PathBuf};

use agent_protocol::task_spec::VolumeSource;
use agent_protocol::{ProcessIdentity, TaskSpec};

use super::mounter::{Mounter, Wanted};
use super::plan::volume_directory;
use super::unmounter;
use crate::launch::chain;
use crate::namespaces::leave_mounts_of_host;
use crate::process_identity;
use crate::storage::{self, Storage};
use crate::task_dir::CONTAINERS_NAME;

const GIB: u64 = 1 << 30;

/// What was made for a task's volumes, to be taken away with `release`.
#[derive(Debug, Default)]
pub(crate) struct TaskVolumes {
    storage: Option<Storage>,
    /// Where file systems are mounted, or may be.
    places: Vec<PathBuf>,
    mounter: Option<Mounter>,
    abandoned: Option<String>,
    /// The supervisor's children before anything was mounted.
    children_before: Vec<i32>,
    /// Left by mount helpers: an encrypting proxy, say.
    daemons: Vec<ProcessIdentity>,
}

impl TaskVolumes {
    /// Makes everything, and begins to mount what is a file system of its own: `advance` tells how that ends. Called
    /// once, in the mount namespace that the supervisor keeps. What was made stays for `release` after an error.
    ///
    /// # Errors
    /// In ECS's words: `CannotCreateVolumeError: …` or `ResourceInitializationError: …`.
    pub(crate) fn begin(&mut self, task: &TaskSpec) -> Result<(), String> {
        let is_mount = |source: &VolumeSource| matches!(source, VolumeSource::Mount { .. });
        if task.ephemeral_storage_gib.is_some() || task.volumes.iter().any(|volume| is_mount(&volume.source)) {
            leave_mounts_of_host()
                .map_err(|error| format!("ResourceInitializationError: no mounts of the task's own: {error}"))?;
        }
        if let Some(gib) = task.ephemeral_storage_gib {
            let place = task.places.state.join(CONTAINERS_NAME);
            let storage = storage::mount_new(&place, gib.saturating_mul(GIB));
            self.storage = Some(storage.map_err(|error| {
                format!("ResourceInitializationError: no ephemeral storage of {gib} GiB: {}", chain(&error))
            })?);
        }
        for (index, volume) in task.volumes.iter().enumerate() {
            make(&volume.source, &volume_directory(task, index))
                .map_err(|why| format!("CannotCreateVolumeError: volume {}: {why}", volume.name))?;
        }
        self.begin_mounts(task).map_err(|why| format!("CannotCreateVolumeError: {why}"))
    }

    fn begin_mounts(&mut self, task: &TaskSpec) -> Result<(), String> {
        let places: Vec<PathBuf> = (0..task.volumes.len()).map(|index| volume_directory(task, index)).collect();
        let wanted = task.volumes.iter().zip(&places).filter_map(|(volume, place)| match &volume.source {
            VolumeSource::Mount { file_system, device, options } => {
                Some(Wanted { volume: &volume.name, file_system, device, options, place })
            }
            VolumeSource::Host { .. } | VolumeSource::Scratch | VolumeSource::Shared { .. } => None,
        });
        let wanted: Vec<Wanted<'_>> = wanted.collect();
        if wanted.is_empty() {
            return Ok(());
        }
        self.places = wanted.iter().map(|one| one.place.to_owned()).collect();
        self.children_before = children();
        self.mounter = Some(Mounter::begin(&wanted)?);
        Ok(())
    }

    /// No container can start before `advance` has told the end.
    pub(crate) fn are_under_way(&self) -> bool {
        self.mounter.is_some()
    }

    /// For poll(2).
    pub(crate) fn interest(&self) -> Option<RawFd> {
        self.mounter.as_ref().map(Mounter::interest)
    }

    /// How long `advance` may still answer nothing, milliseconds.
    pub(crate) fn left_ms(&self) -> Option<u64> {
        let left = self.mounter.as_ref()?.left();
        Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
    }

    /// How the mounts have ended, once.
    pub(crate) fn advance(&mut self) -> Option<Result<(), String>> {
        let mounter = self.mounter.as_mut()?;
        if let Some(reason) = self.abandoned.take() {
            self.mounter = None;
            return Some(Err(reason));
        }
        let outcome = mounter.advance()?;
        self.mounter = None;
        // No container runs yet, so whoever has become our child was left by a helper.
        let left = children().into_iter().filter(|pid| !self.children_before.contains(pid));
        self.daemons = left.filter_map(|pid| process_identity::of(pid).ok()).collect();
        Some(outcome.map_err(|why| format!("CannotCreateVolumeError: {why}")))
    }

    /// The task is to stop: nobody waits for a server any more. `advance` tells it with this reason.
    pub(crate) fn abandon(&mut self, reason: &str) {
        self.abandoned = Some(reason.to_owned());
    }

    /// Takes everything away, the last thing first. Carries on after an error.
    pub(crate) fn release(&mut self) -> Vec<String> {
        let mut errors = Vec::new();
        self.mounter = None;
        // A server that does not answer holds up neither this nor the rest.
        errors.extend(unmounter::unmount_all(&std::mem::take(&mut self.places)));
        for daemon in std::mem::take(&mut self.daemons) {
            match process_identity::open(&daemon) {
                Ok(Some(pidfd)) => {
                    if let Err(error) = process_identity::signal(pidfd.as_fd(), libc::SIGKILL) {
                        errors.push(format!("cannot end a mount helper's process {}: {error}", daemon.pid));
                    }
                }
                Ok(None) => {}
                Err(error) => errors.push(format!("cannot hold a mount helper's process {}: {error}", daemon.pid)),
            }
        }
        if let Some(Err(error)) = self.storage.take().map(Storage::release) {
            errors.push(chain(&error));
        }
        errors
    }
}

fn make(source: &VolumeSource, place: &Path) -> Result<(), String> {
    let look = |path: &Path, error: io::Error| format!("cannot look at {}: {error}", path.display());
    match source {
        VolumeSource::Host { path } => match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => make_directory(path),
            Err(error) => Err(look(path, error)),
            Ok(_) => Ok(()),
        },
        VolumeSource::Shared { path } => fs::metadata(path).map(drop).map_err(|error| look(path, error)),
        VolumeSource::Scratch | VolumeSource::Mount { .. } => make_directory(place),
    }
}

fn make_directory(path: &Path) -> Result<(), String> {
    super::make_directory(path).map_err(|error| chain(&error))
}

/// The caller has one thread, so all children are its.
fn children() -> Vec<i32> {
    let mut list = String::new();
    let path = format!("/proc/self/task/{}/children", std::process::id());
    // A kernel without CONFIG_PROC_CHILDREN tells of none.
    File::open(path).and_then(|mut file| file.read_to_string(&mut list)).ok();
    list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
