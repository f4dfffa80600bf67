//! A task's cgroups, on v1, hybrid and v2: made, limited, entered, watched, killed and removed by ourselves.
//!
//! libcontainer's cgroup code never runs: it writes a pid to `cgroup.procs`, and there the first writer of a quiet
//! machine waits 5 to 14 ms for an RCU grace period. A process that is cloned into its cgroup (v2), or moves just
//! itself through `tasks` (v1), waits for nothing.

mod devices;
mod hierarchy;
mod kill;
mod limits;
mod oom;

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use agent_protocol::{ContainerSpec, TaskSpec};
use ecs::ContainerName;

pub(crate) use devices::{DeviceKind, DeviceRule, try_program as try_device_filter};
use hierarchy::write;
pub use hierarchy::{Cgroups, V1Hierarchy, V2Hierarchy};
pub use limits::unkept;

#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("no cgroup hierarchy is mounted below /sys/fs/cgroup; mount one: mount -t cgroup2 none /sys/fs/cgroup")]
    NoHierarchy,
    #[error("{limit} needs the cgroup controller {controller}, which this host does not offer")]
    NoController { limit: &'static str, controller: &'static str },
    #[error("cannot {action} {path}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("processes in {path} are still there {waited_ms} ms after SIGKILL")]
    StillThere { path: PathBuf, waited_ms: u64 },
}

/// A container's cgroup below each hierarchy's root: `/coracle/<id>/<name>`.
pub fn of_container(task: &TaskSpec, container: &ContainerName) -> PathBuf {
    task.places.cgroup.join(directory_name(container))
}

/// The cgroup of a shared pid namespace's first process. No container has a dot in its name.
pub(crate) fn of_first_process(task: &TaskSpec) -> PathBuf {
    task.places.cgroup.join("init.")
}

/// A container may be called like one of the files that every v1 cgroup has. Names never hold a dot, so one added
/// to those two cannot meet another container's.
fn directory_name(container: &ContainerName) -> String {
    match container.as_str() {
        name @ ("tasks" | "notify_on_release") => format!("{name}."),
        name => name.to_owned(),
    }
}

impl Cgroups {
    /// The task's cgroup with its hard limits and the pids limit. Safe to repeat.
    ///
    /// # Errors
    /// A directory or a limit that could not be made; what was made stays for `remove_task`.
    pub fn prepare_task(&self, task: &TaskSpec) -> Result<(), CgroupError> {
        self.make(&task.places.cgroup)?;
        self.delegate(&task.places.cgroup)?;
        self.apply(&task.places.cgroup, &limits::of_task(task))
    }

    /// A container's cgroup with its limits and device rules, empty. `devices` are allowed beside the default ones.
    /// Safe to repeat.
    ///
    /// # Errors
    /// As `prepare_task`. A device filter that cannot be had is an error: the container must not start without.
    pub(crate) fn prepare_container(
        &self,
        task: &TaskSpec,
        container: &ContainerSpec,
        devices: &[DeviceRule],
    ) -> Result<(), CgroupError> {
        let path = of_container(task, &container.definition.name);
        self.make(&path)?;
        self.apply(&path, &limits::of_container(container))?;
        if container.definition.privileged != Some(true) {
            devices::confine(self, &path, devices)?;
        }
        Ok(())
    }

    /// Makes a cgroup and its parents in every hierarchy. Safe to repeat.
    ///
    /// # Errors
    /// A directory could not be made.
    pub(crate) fn make(&self, path: &Path) -> Result<(), CgroupError> {
        for hierarchy in &self.v1 {
            hierarchy.make(path)?;
        }
        if let Some(unified) = &self.v2 {
            make_directories(&below(&unified.mount, path))?;
        }
        Ok(())
    }

    /// v2: lets the children of `path` have the controllers that limits need.
    fn delegate(&self, path: &Path) -> Result<(), CgroupError> {
        let Some(unified) = &self.v2 else { return Ok(()) };
        let mut ancestors: Vec<&Path> = path.ancestors().collect();
        ancestors.reverse();
        for ancestor in ancestors {
            let control = below(&unified.mount, ancestor).join("cgroup.subtree_control");
            for controller in &unified.controllers {
                // One by one: a controller that this kernel keeps back must not take the others with it. A limit
                // that misses its controller is reported where it is written.
                if let Err(error) = write(&control, &format!("+{controller}")) {
                    tracing::debug!(%controller, path = %control.display(), error = %error, "controller not delegated");
                }
            }
        }
        Ok(())
    }

    fn apply(&self, path: &Path, limits: &[limits::Limit]) -> Result<(), CgroupError> {
        for limit in limits {
            limit.write(self, path)?;
        }
        Ok(())
    }

    /// The directory to give to clone3's CLONE_INTO_CGROUP, where there is a v2 hierarchy.
    ///
    /// # Errors
    /// The cgroup does not exist.
    pub fn birthplace(&self, path: &Path) -> Result<Option<OwnedFd>, CgroupError> {
        let Some(unified) = &self.v2 else { return Ok(None) };
        let path = below(&unified.mount, path);
        match File::open(&path) {
            Ok(directory) => Ok(Some(directory.into())),
            Err(source) => Err(CgroupError::Io { action: "open", path, source }),
        }
    }

    /// Moves the calling process, which must have one thread, into the v1 hierarchies of `path`. Costs microseconds:
    /// a task that moves only itself needs no grace period.
    ///
    /// # Errors
    /// The cgroup does not exist in one of them.
    pub fn enter_v1(&self, path: &Path) -> Result<(), CgroupError> {
        for hierarchy in &self.v1 {
            let tasks = below(&hierarchy.mount, path).join("tasks");
            write(&tasks, "0").map_err(|source| CgroupError::Io { action: "enter", path: tasks, source })?;
        }
        Ok(())
    }

    /// Makes the supervisor's leaf, for `birthplace` and `enter_supervisor_leaf`.
    ///
    /// # Errors
    /// A directory could not be made.
    pub fn prepare_supervisor_leaf(&self, path: &Path) -> Result<(), CgroupError> {
        self.make(path)
    }

    /// Makes a log shipper's leaf with its limit, for `birthplace` and `enter_supervisor_leaf`.
    ///
    /// # Errors
    /// A directory could not be made, or the limit not be set.
    pub(crate) fn prepare_shipper_leaf(&self, path: &Path) -> Result<(), CgroupError> {
        self.make(path)?;
        self.delegate(path.parent().unwrap_or(path))?;
        self.apply(path, &limits::of_shipper())
    }

    /// The same for the process of the host's services.
    ///
    /// # Errors
    /// A directory could not be made, or the limit not be set.
    pub(crate) fn prepare_host_services_leaf(&self, path: &Path) -> Result<(), CgroupError> {
        self.make(path)?;
        self.delegate(path.parent().unwrap_or(path))?;
        self.apply(path, &limits::of_host_services())
    }

    /// Moves the calling supervisor, which must have one thread, into its own leaf: what ends the session or
    /// service that started it then does not end the task. On a v2-only host a supervisor that was not born there
    /// pays a grace period.
    ///
    /// # Errors
    /// The leaf could not be made or entered.
    pub fn enter_supervisor_leaf(&self, path: &Path) -> Result<(), CgroupError> {
        self.make(path)?;
        self.enter_v1(path)?;
        let Some(unified) = &self.v2 else { return Ok(()) };
        let procs = below(&unified.mount, path).join("cgroup.procs");
        let already = hierarchy::own_unified_path().is_some_and(|own| own == path);
        // Beside v1 the unified hierarchy limits nothing: not worth a grace period.
        if already || !self.v1.is_empty() {
            return Ok(());
        }
        write(&procs, "0").map_err(|source| CgroupError::Io { action: "enter", path: procs, source })
    }

    /// Removes a container's cgroup after killing what is left in it.
    ///
    /// # Errors
    /// Every step that failed; the others were still taken.
    pub fn remove_container(&self, task: &TaskSpec, container: &ContainerName) -> Vec<CgroupError> {
        self.remove(&of_container(task, container))
    }

    /// Removes the task's cgroup with all containers', after killing what is left in them. Leaves the supervisor's.
    ///
    /// # Errors
    /// Every step that failed; the others were still taken.
    pub fn remove_task(&self, task: &TaskSpec) -> Vec<CgroupError> {
        self.remove(&task.places.cgroup)
    }

    /// Removes any cgroup below the roots with everything in it: for leftovers of a task whose supervisor is gone.
    ///
    /// # Errors
    /// Every step that failed; the others were still taken.
    pub fn remove(&self, path: &Path) -> Vec<CgroupError> {
        // The rule is that all of it has ended: the kernel removes what is empty, and nothing else, in one call.
        let stays = |mount: &&Path| match fs::remove_dir(below(mount, path)) {
            Ok(()) => false,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        if self.mounts().filter(stays).count() == 0 {
            return Vec::new();
        }
        let mut errors = Vec::new();
        if let Err(error) = self.kill(path) {
            errors.push(error);
        }
        for mount in self.mounts() {
            remove_tree(&below(mount, path), &mut errors);
        }
        errors
    }

    /// Removes one empty cgroup; what is populated stays, without an error. For a supervisor's own leaf, by who
    /// comes after it.
    pub fn remove_if_empty(&self, path: &Path) {
        for mount in self.mounts() {
            // Populated or already gone: both are why this is only an attempt.
            let _ = fs::remove_dir(below(mount, path));
        }
    }

    /// Whether the cgroup exists in any hierarchy.
    pub fn exists(&self, path: &Path) -> bool {
        self.mounts().any(|mount| below(mount, path).is_dir())
    }
}

/// A cgroup's directory in one hierarchy.
pub(crate) fn below(mount: &Path, path: &Path) -> PathBuf {
    mount.join(path.strip_prefix("/").unwrap_or(path))
}

fn make_directories(path: &Path) -> Result<(), CgroupError> {
    fs::create_dir_all(path).map_err(|source| CgroupError::Io { action: "make", path: path.to_owned(), source })
}

fn remove_tree(path: &Path, errors: &mut Vec<CgroupError>) {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(source) => {
            errors.push(CgroupError::Io { action: "list", path: path.to_owned(), source });
            return;
        }
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path(), errors);
        }
    }
    match fs::remove_dir(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => errors.push(CgroupError::Io { action: "remove", path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_named_like_cgroup_files_get_directories_of_their_own() {
        let name = |text: &str| ContainerName::try_from(text.to_owned()).unwrap();
        assert_eq!(directory_name(&name("web")), "web");
        assert_eq!(directory_name(&name("tasks")), "tasks.");
        assert_eq!(directory_name(&name("notify_on_release")), "notify_on_release.");
        assert!(ContainerName::try_from("tasks.".to_owned()).is_err());
    }
}
