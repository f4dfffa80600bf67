//! Which directory or file of the host a container sees where: its mount points, those of other containers that it
//! takes over, its image's volumes, and what the agent adds. Pure.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use agent_protocol::task_spec::VolumeSource;
use agent_protocol::{ContainerSpec, TaskSpec};
use ecs::ContainerName;

use crate::launch::state_of;
use crate::task_dir::CONTAINERS_NAME;

/// The most mounts of one container, those of its image included.
pub(crate) const MAX_MOUNTS: usize = 512;
/// Beside the containers' directories; no container's name begins with a dot.
const TASK_VOLUMES: &str = ".volumes";
/// In a container's directory.
const ANONYMOUS_VOLUMES: &str = "volumes";

/// Files of /proc that runc lets a mount cover (`checkProcMount` in its libcontainer/rootfs_linux.go), for lxcfs.
const PROC_FILES: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/net/dev",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// What every container has in /dev: libcontainer and `mounts` put it there through plain paths, so nothing else may
/// stand there.
const OWN_DEVICES: [&str; 15] = [
    "console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "stderr", "stdin", "stdout", "tty",
    "urandom", "zero",
];

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlanError {
    #[error("no volume is named {volume:?}, which mountPoints wants at {target}", target = target.display())]
    NoVolume { volume: String, target: PathBuf },
    #[error("volumesFrom: no container is named {0}")]
    NoContainer(ContainerName),
    #[error("volumesFrom: the containers take their volumes from each other in a circle, through {0}")]
    Circle(ContainerName),
    #[error("invalid mount path: {0:?}: mount path must be absolute")]
    NotAbsolute(PathBuf),
    #[error("nothing can be mounted on {target} of a container: {why}", target = target.display())]
    Reserved { target: PathBuf, why: &'static str },
    #[error("the container has more than {MAX_MOUNTS} mounts")]
    TooMany,
}

/// When something is mounted: the container's own /dev, /proc and /sys come in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Before our files in /etc, and what is in memory below it.
    First,
    /// After the container's /dev is there.
    Usual,
    /// By the container's first process, when /proc and /sys are there.
    Inside,
}

/// One mount of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) source: PathBuf,
    /// Absolute, without `.` and `..`.
    pub(crate) target: PathBuf,
    pub(crate) read_only: bool,
    pub(crate) kind: MountKind,
    pub(crate) stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MountKind {
    /// A path of the host, as it is.
    Host,
    /// A volume, which takes over what the image has at its place while it is empty.
    Volume,
    /// A volume of the image's that nobody has given a place on the host: made for this container.
    Anonymous,
    /// Another container's volume: that one has filled it.
    TakenOver,
}

/// The directory of the task's volume number `index`, for those that live as long as the task, and for those that are
/// file systems of their own.
pub(crate) fn volume_directory(task: &TaskSpec, index: usize) -> PathBuf {
    task.places.state.join(CONTAINERS_NAME).join(TASK_VOLUMES).join(index.to_string())
}

/// Everything that is mounted in a container, parents first.
pub(crate) fn plan(task: &TaskSpec, container: &ContainerSpec) -> Result<Vec<Mount>, PlanError> {
    let mut mounts = volumes_of(task, container, &mut Vec::new())?;
    for bind in &container.binds {
        let mount = mount(bind.source.clone(), &bind.target, bind.read_only, MountKind::Host)?;
        mounts.insert(mount.target.clone(), mount);
    }
    let tmpfs: Vec<PathBuf> = tmpfs_of(container).collect();
    for mount in mounts.values_mut() {
        // The other way round, the volume would hide it.
        if tmpfs.iter().any(|inner| inner.starts_with(&mount.target)) {
            mount.stage = Stage::First;
        }
    }
    if mounts.len() > MAX_MOUNTS {
        return Err(PlanError::TooMany);
    }
    // The map's order is that of components: a directory comes before what is in it.
    Ok(mounts.into_values().collect())
}

/// As Docker has it: what comes from other containers first, over it the container's own, and the image's volumes where
/// nothing is yet (moby's daemon/volumes.go and daemon/create_unix.go).
fn volumes_of<'a>(
    task: &'a TaskSpec,
    container: &'a ContainerSpec,
    asking: &mut Vec<&'a ContainerName>,
) -> Result<BTreeMap<PathBuf, Mount>, PlanError> {
    let definition = &container.definition;
    if asking.contains(&&definition.name) {
        return Err(PlanError::Circle(definition.name.clone()));
    }
    asking.push(&definition.name);
    let mut mounts = BTreeMap::new();
    for from in &definition.volumes_from {
        let source = task.containers.iter().find(|one| one.definition.name == from.source_container);
        let source = source.ok_or_else(|| PlanError::NoContainer(from.source_container.clone()))?;
        for (target, mut mount) in volumes_of(task, source, asking)? {
            mount.read_only |= from.read_only == Some(true);
            if mount.kind != MountKind::Host {
                mount.kind = MountKind::TakenOver;
            }
            mounts.insert(target, mount);
        }
    }
    for point in &definition.mount_points {
        let target = Path::new(&point.container_path);
        let place = task.volumes.iter().position(|volume| volume.name == point.source_volume);
        let index = place
            .ok_or_else(|| PlanError::NoVolume { volume: point.source_volume.clone(), target: target.to_owned() })?;
        let (source, kind) = source_of(task, index);
        let mount = mount(source, target, point.read_only == Some(true), kind)?;
        mounts.insert(mount.target.clone(), mount);
    }
    for (index, path) in container.image.config.volumes.iter().enumerate() {
        let source = state_of(task, container).join(ANONYMOUS_VOLUMES).join(index.to_string());
        let mount = mount(source, &Path::new("/").join(path), false, MountKind::Anonymous)?;
        // A tmpfs at its place stands instead of it.
        if !tmpfs_of(container).any(|tmpfs| tmpfs == mount.target) {
            mounts.entry(mount.target.clone()).or_insert(mount);
        }
        if mounts.len() > MAX_MOUNTS {
            return Err(PlanError::TooMany);
        }
    }
    asking.pop();
    Ok(mounts)
}

fn source_of(task: &TaskSpec, index: usize) -> (PathBuf, MountKind) {
    match &task.volumes[index].source {
        VolumeSource::Host { path } => (path.clone(), MountKind::Host),
        VolumeSource::Shared { path } => (path.clone(), MountKind::Volume),
        VolumeSource::Scratch | VolumeSource::Mount { .. } => (volume_directory(task, index), MountKind::Volume),
    }
}

/// Where the container has a `linuxParameters.tmpfs`.
fn tmpfs_of(container: &ContainerSpec) -> impl Iterator<Item = PathBuf> {
    let parameters = container.definition.linux_parameters.as_ref();
    let tmpfs = parameters.map(|parameters| parameters.tmpfs.as_slice()).unwrap_or_default();
    tmpfs.iter().filter_map(|one| clean(Path::new(&one.container_path)).ok())
}

pub(super) fn mount(source: PathBuf, target: &Path, read_only: bool, kind: MountKind) -> Result<Mount, PlanError> {
    let target = clean(target)?;
    let stage = stage(&target)?;
    Ok(Mount { source, target, read_only, kind, stage })
}

/// Without `.`, `..` and doubled slashes, by the words alone, as Docker does.
fn clean(target: &Path) -> Result<PathBuf, PlanError> {
    if !target.is_absolute() {
        return Err(PlanError::NotAbsolute(target.to_owned()));
    }
    let mut cleaned = PathBuf::from("/");
    for part in target.components() {
        match part {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => {
                cleaned.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(cleaned)
}

fn stage(target: &Path) -> Result<Stage, PlanError> {
    let refused = |why| Err(PlanError::Reserved { target: target.to_owned(), why });
    let mut names = target.iter().skip(1).map(|name| name.to_str().unwrap_or_default());
    match (names.next(), names.next()) {
        (None, _) => refused("it is the container's root"),
        (Some("dev"), None) => refused("a container's /dev is its own; linuxParameters.devices gives it devices"),
        (Some("dev"), Some(name)) if OWN_DEVICES.contains(&name) => refused("every container has its own there"),
        (Some("proc"), _) if !PROC_FILES.iter().any(|file| target == Path::new(file)) => {
            refused("it would hide the container's own processes")
        }
        (Some("proc" | "sys"), _) => Ok(Stage::Inside),
        (Some("etc"), None) => Ok(Stage::First),
        (Some(_), _) => Ok(Stage::Usual),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn task(containers: serde_json::Value, volumes: serde_json::Value) -> TaskSpec {
        let containers: Vec<serde_json::Value> = containers
            .as_array()
            .unwrap()
            .iter()
            .map(|definition| {
                let mut definition = definition.clone();
                let image_volumes = definition.as_object_mut().unwrap().remove("VOLUMES").unwrap_or(json!([]));
                definition["image"] = json!("x");
                json!({
                    "definition": definition,
                    "image": {"digest": "", "layers": [], "config": {"volumes": image_volumes}},
                    "network": {"namespace": "host", "hostname": "h", "hosts": "", "resolv_conf": ""},
                    "runtime_id": ""
                })
            })
            .collect();
        serde_json::from_value(json!({
            "format": 1, "id": "0".repeat(32), "family": "f", "revision": 1, "cluster": "c", "account_id": "0",
            "region": "r", "group": "g", "launch_type": "EXTERNAL", "created_at": 0, "network_mode": "none",
            "pids_limit": 1, "containers": containers, "volumes": volumes,
            "places": {"state": "/s", "run": "/r", "cgroup": "/c", "supervisor_cgroup": "/d"}
        }))
        .unwrap()
    }

    /// `target <- source [ro]`, one a mount.
    fn shown(task: &TaskSpec, container: usize) -> Result<Vec<String>, String> {
        let mounts = plan(task, &task.containers[container]).map_err(|error| error.to_string())?;
        let read_only = |mount: &Mount| if mount.read_only { " ro" } else { "" };
        Ok(mounts
            .iter()
            .map(|mount| format!("{} <- {}{}", mount.target.display(), mount.source.display(), read_only(mount)))
            .collect())
    }

    #[test]
    fn parents_come_before_what_is_in_them_and_the_containers_own_goes_before_the_images() {
        let task = task(
            json!([{"name": "a", "VOLUMES": ["/cache", "/data"], "mountPoints": [
                {"sourceVolume": "v", "containerPath": "/data/x/../sub"},
                {"sourceVolume": "h", "containerPath": "//data/", "readOnly": true},
                {"sourceVolume": "v", "containerPath": "/data-2"}]}]),
            json!([{"name": "h", "source": {"kind": "host", "path": "/host"}},
                   {"name": "v", "source": {"kind": "scratch"}}]),
        );
        let volume = "/s/containers/.volumes/1";
        assert_eq!(
            shown(&task, 0).unwrap(),
            [
                "/cache <- /s/containers/a/volumes/0".to_owned(),
                "/data <- /host ro".to_owned(),
                format!("/data/sub <- {volume}"),
                format!("/data-2 <- {volume}"),
            ]
        );
    }

    #[test]
    fn volumes_of_others_come_along_and_may_be_taken_read_only() {
        let task = task(
            json!([
                {"name": "a", "VOLUMES": ["/cache"], "mountPoints": [{"sourceVolume": "v", "containerPath": "/v"}]},
                {"name": "b", "volumesFrom": [{"sourceContainer": "a", "readOnly": true}]},
                {"name": "c", "volumesFrom": [{"sourceContainer": "b"}],
                 "mountPoints": [{"sourceVolume": "v", "containerPath": "/cache"}]}
            ]),
            json!([{"name": "v", "source": {"kind": "shared", "path": "/vol"}}]),
        );
        assert_eq!(shown(&task, 1).unwrap(), ["/cache <- /s/containers/a/volumes/0 ro", "/v <- /vol ro"]);
        assert_eq!(shown(&task, 2).unwrap(), ["/cache <- /vol", "/v <- /vol ro"]);
    }

    #[test]
    fn circles_and_missing_names_are_told() {
        let circle = task(
            json!([{"name": "a", "volumesFrom": [{"sourceContainer": "b"}]},
                   {"name": "b", "volumesFrom": [{"sourceContainer": "a"}]}]),
            json!([]),
        );
        assert!(shown(&circle, 0).unwrap_err().contains("in a circle, through a"));
        let missing = task(json!([{"name": "a", "volumesFrom": [{"sourceContainer": "z"}]}]), json!([]));
        assert_eq!(shown(&missing, 0).unwrap_err(), "volumesFrom: no container is named z");
        let points = json!([{"name": "a", "mountPoints": [{"sourceVolume": "z", "containerPath": "/x"}]}]);
        assert!(shown(&task(points, json!([])), 0).unwrap_err().contains("no volume is named \"z\""));
    }

    /// runc's `checkProcMount` and the places that are ours.
    #[test]
    fn some_places_are_not_to_be_mounted_on() {
        let at =
            |path: &str| stage(&clean(Path::new(path)).map_err(|error| error.to_string())?).map_err(|e| e.to_string());
        for path in ["/", "/x/..", "/dev", "/dev/null", "/dev/pts/3", "/proc", "/proc/1/root", "/proc/sys/kernel"] {
            assert!(at(path).unwrap_err().contains("nothing can be mounted"), "{path}");
        }
        assert!(at("relative").unwrap_err().contains("must be absolute"));
        for (path, stage) in [
            ("/proc/cpuinfo", Stage::Inside),
            ("/sys", Stage::Inside),
            ("/sys/kernel/debug", Stage::Inside),
            ("/dev/shm", Stage::Usual),
            ("/dev/log", Stage::Usual),
            ("/etc", Stage::First),
            ("/etc/hosts", Stage::Usual),
            ("/process", Stage::Usual),
        ] {
            assert_eq!(at(path), Ok(stage), "{path}");
        }
    }
}
