//! From a task's container to the runtime specification that libcontainer is given, and to what our own last steps
//! do with the process. Pure.
//!
//! The specification names no capabilities, no seccomp profile, no resource limits and no user: libcontainer applies
//! those in an order that cannot be used without libseccomp, or not at all. `enter` does them, in `Entry`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use agent_protocol::ContainerSpec;
use oci_spec::runtime::{
    LinuxBuilder, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, Mount, MountBuilder, ProcessBuilder,
    RootBuilder, Spec, SpecBuilder, UserBuilder,
};

use crate::capabilities::{Capabilities, NoSuchCapability};
use crate::process::{self, NoProcess};

/// Docker's, MiB.
const DEFAULT_SHM_MIB: u64 = 64;

/// Docker's masked paths.
const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/proc/pressure/irq",
];

/// Docker's read-only paths.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The largest processor number whose thermal counters are masked; more than any machine's here.
const MAX_CPUS: usize = 1_024;

#[derive(Debug, thiserror::Error)]
pub(crate) enum SpecError {
    #[error(transparent)]
    Process(#[from] NoProcess),
    #[error(transparent)]
    Capability(#[from] NoSuchCapability),
    #[error("ulimits: there is no resource {0:?}; getrlimit(2) lists them")]
    NoSuchResource(String),
    #[error("ulimits: {name}: the soft limit {soft} is above the hard limit {hard}")]
    SoftAboveHard { name: String, soft: i64, hard: i64 },
    #[error("the runtime specification cannot be built")]
    Build(#[source] oci_spec::OciSpecError),
}

/// What depends on the host and on this start of the container.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    /// Where the launcher puts what only this container needs: `rootfs`, `hosts`, `hostname`, `resolv.conf`.
    pub bundle: PathBuf,
    /// Opened by the launcher and its children as a path; none is the host's network.
    pub network_namespace: Option<PathBuf>,
    pub cgroup_mount: CgroupMount,
    pub cpus: usize,
    /// Device nodes of the host for a privileged container.
    pub devices: Vec<oci_spec::runtime::LinuxDevice>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CgroupMount {
    /// A cgroup2 file system of the container's own cgroup namespace.
    Unified,
    /// None by libcontainer: the v1 hierarchies are mounted by our own last steps (`cgroup_mounts`).
    Separate,
}

/// The process as the definition and image describe it; the user is looked up later, in the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProcessPlan {
    pub arguments: Vec<String>,
    /// Without HOME.
    pub environment: Vec<String>,
    pub working_directory: String,
    pub user: String,
    pub capabilities: Capabilities,
    /// False for a privileged container and for `seccomp=unconfined`.
    pub filtered: bool,
    pub no_new_privileges: bool,
    pub limits: Vec<(u32, u64, u64)>,
}

/// # Errors
/// The container definition asks for something that does not exist.
pub(crate) fn process_plan(container: &ContainerSpec) -> Result<ProcessPlan, SpecError> {
    let definition = &container.definition;
    let image = &container.image.config;
    let privileged = definition.privileged == Some(true);
    let changes = definition.linux_parameters.as_ref().and_then(|parameters| parameters.capabilities.as_ref());
    let option = |wanted: &[&str]| definition.docker_security_options.iter().any(|given| wanted.contains(&given.as_str()));
    let limits = definition.ulimits.iter().map(|ulimit| {
        let resource = resource(&ulimit.name).ok_or_else(|| SpecError::NoSuchResource(ulimit.name.clone()))?;
        // -1 is unlimited, as in Docker and setrlimit(2).
        let value = |limit: i64| u64::try_from(limit).unwrap_or(u64::MAX);
        if value(ulimit.soft_limit) > value(ulimit.hard_limit) {
            let (name, soft, hard) = (ulimit.name.clone(), ulimit.soft_limit, ulimit.hard_limit);
            return Err(SpecError::SoftAboveHard { name, soft, hard });
        }
        Ok((resource, value(ulimit.soft_limit), value(ulimit.hard_limit)))
    });
    Ok(ProcessPlan {
        arguments: process::arguments(definition, image)?,
        environment: process::environment(container)?,
        working_directory: process::working_directory(definition, image)?,
        user: definition.user.clone().filter(|user| !user.is_empty()).unwrap_or_else(|| image.user.clone()),
        capabilities: Capabilities::of_container(changes, privileged)?,
        filtered: !privileged && !option(&["seccomp=unconfined", "seccomp:unconfined"]),
        no_new_privileges: option(&["no-new-privileges", "no-new-privileges=true", "no-new-privileges:true"]),
        limits: limits.collect::<Result<_, _>>()?,
    })
}

/// Docker's names for ulimits; the numbers are those of `asm-generic/resource.h`.
fn resource(name: &str) -> Option<u32> {
    const NAMES: [&str; 16] = [
        "cpu",
        "fsize",
        "data",
        "stack",
        "core",
        "rss",
        "nproc",
        "nofile",
        "memlock",
        "as",
        "locks",
        "sigpending",
        "msgqueue",
        "nice",
        "rtprio",
        "rttime",
    ];
    NAMES.iter().position(|known| *known == name).and_then(|number| u32::try_from(number).ok())
}

/// # Errors
/// Only if the specification's builders refuse a member, which they do for missing ones.
pub(crate) fn runtime_spec(container: &ContainerSpec, around: &Surroundings) -> Result<Spec, SpecError> {
    build(container, around).map_err(SpecError::Build)
}

fn build(container: &ContainerSpec, around: &Surroundings) -> Result<Spec, oci_spec::OciSpecError> {
    let definition = &container.definition;
    let privileged = definition.privileged == Some(true);
    let sysctl: HashMap<String, String> =
        definition.system_controls.iter().map(|control| (control.namespace.clone(), control.value.clone())).collect();
    let mut linux = LinuxBuilder::default().namespaces(namespaces(around)?).sysctl(sysctl);
    if privileged {
        linux = linux.devices(around.devices.clone()).masked_paths(Vec::new()).readonly_paths(Vec::new());
    } else {
        linux = linux.masked_paths(masked_paths(around.cpus)).readonly_paths(READ_ONLY.map(String::from).to_vec());
    }
    let root_user = UserBuilder::default().uid(0_u32).gid(0_u32).build()?;
    // Arguments and environment are in `Entry`; the specification only has to have some.
    let process = ProcessBuilder::default()
        .terminal(false)
        .user(root_user)
        .args(vec!["/".to_owned()])
        .env(Vec::new())
        .cwd("/")
        .build()
        .map(without_privileges)?;
    let mut spec = SpecBuilder::default()
        .version("1.0.2")
        .root(
            RootBuilder::default()
                .path(around.bundle.join("rootfs"))
                .readonly(definition.readonly_root_filesystem == Some(true))
                .build()?,
        )
        .hostname(container.network.hostname.clone())
        .mounts(mounts(container, around)?)
        .process(process)
        .build()?;
    let mut linux = linux.build()?;
    linux.set_resources(None);
    linux.set_seccomp(None);
    spec.set_linux(Some(linux));
    Ok(spec)
}

/// The builders fill in youki's defaults; here each of them would be a second opinion.
fn without_privileges(mut process: oci_spec::runtime::Process) -> oci_spec::runtime::Process {
    process.set_capabilities(None);
    process.set_rlimits(None);
    process.set_no_new_privileges(None);
    process.set_oom_score_adj(None);
    process
}

fn namespaces(around: &Surroundings) -> Result<Vec<LinuxNamespace>, oci_spec::OciSpecError> {
    let kinds = [
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Cgroup,
    ];
    let mut namespaces = Vec::new();
    for kind in kinds {
        namespaces.push(LinuxNamespaceBuilder::default().typ(kind).build()?);
    }
    if let Some(path) = &around.network_namespace {
        namespaces.push(LinuxNamespaceBuilder::default().typ(LinuxNamespaceType::Network).path(path).build()?);
    }
    Ok(namespaces)
}

fn masked_paths(cpus: usize) -> Vec<String> {
    let thermal = (0..cpus.min(MAX_CPUS)).map(|cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle"));
    MASKED.map(String::from).into_iter().chain(thermal).collect()
}

fn mounts(container: &ContainerSpec, around: &Surroundings) -> Result<Vec<Mount>, oci_spec::OciSpecError> {
    let parameters = container.definition.linux_parameters.as_ref();
    let shm_mib = parameters.and_then(|parameters| parameters.shared_memory_size).unwrap_or(DEFAULT_SHM_MIB);
    let shm_size = format!("size={}k", shm_mib.saturating_mul(1_024));
    let access = if container.definition.privileged == Some(true) { "rw" } else { "ro" };
    let safe = ["nosuid", "noexec", "nodev"];
    let with = |more: &[&'static str]| safe.iter().chain(more).map(|&option| option.to_owned()).collect::<Vec<_>>();
    let own = |options: &[&str]| options.iter().map(|&option| option.to_owned()).collect::<Vec<_>>();
    let mut mounts = vec![
        mount("proc", Path::new("proc"), "/proc", with(&[]))?,
        mount("tmpfs", Path::new("tmpfs"), "/dev", own(&["nosuid", "strictatime", "mode=755", "size=65536k"]))?,
        mount(
            "devpts",
            Path::new("devpts"),
            "/dev/pts",
            own(&["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        )?,
        mount("sysfs", Path::new("sysfs"), "/sys", with(&[access]))?,
    ];
    match around.cgroup_mount {
        CgroupMount::Unified => {
            mounts.push(mount("cgroup2", Path::new("cgroup"), "/sys/fs/cgroup", with(&["relatime", access]))?);
        }
        CgroupMount::Separate => {}
    }
    mounts.push(mount("mqueue", Path::new("mqueue"), "/dev/mqueue", with(&[]))?);
    let mut shm = with(&["mode=1777"]);
    shm.push(shm_size);
    mounts.push(mount("tmpfs", Path::new("shm"), "/dev/shm", shm)?);
    for file in ["hosts", "hostname", "resolv.conf"] {
        let target = format!("/etc/{file}");
        mounts.push(mount("bind", &around.bundle.join(file), &target, own(&["bind", "rprivate"]))?);
    }
    if let Some(file) = &container.metadata_file {
        let options = with(&["bind", "rprivate", "ro"]);
        mounts.push(mount("bind", &file.host, &file.inside.to_string_lossy(), options)?);
    }
    Ok(mounts)
}

fn mount(kind: &str, source: &Path, target: &str, options: Vec<String>) -> Result<Mount, oci_spec::OciSpecError> {
    MountBuilder::default().typ(kind).source(source).destination(target).options(options).build()
}
