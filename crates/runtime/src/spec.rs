//! From a task's container to the runtime specification that libcontainer is given, and to what our own last steps
//! do with the process. Pure.
//!
//! The specification names no capabilities, no seccomp profile, no resource limits and no user: libcontainer applies
//! those in an order that cannot be used without libseccomp, or not at all. `enter` does them, in `Entry`. Nor does it
//! name mounts, which are `mounts`' matter, or cgroups.

use std::collections::HashMap;
use std::path::PathBuf;

use agent_protocol::{ContainerSecrets, ContainerSpec};
use oci_spec::runtime::{
    LinuxBuilder, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, ProcessBuilder, RootBuilder, Spec,
    SpecBuilder, UserBuilder,
};

use crate::capabilities::{Capabilities, NoSuchCapability};
use crate::process::{self, NoProcess};

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

/// What depends on this start of the container.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    /// The mounted root.
    pub(crate) root: PathBuf,
    /// The container's cgroup, which its processes are in before libcontainer runs.
    pub(crate) cgroup: PathBuf,
    /// Opened by the launcher and its children as a path; none is the host's network.
    pub(crate) network_namespace: Option<PathBuf>,
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
pub(crate) fn process_plan(
    container: &ContainerSpec,
    secrets: Option<&ContainerSecrets>,
) -> Result<ProcessPlan, SpecError> {
    let definition = &container.definition;
    let image = &container.image.config;
    let privileged = definition.privileged == Some(true);
    let changes = definition.linux_parameters.as_ref().and_then(|parameters| parameters.capabilities.as_ref());
    let option =
        |wanted: &[&str]| definition.docker_security_options.iter().any(|given| wanted.contains(&given.as_str()));
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
        environment: process::environment(container, secrets)?,
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
    let mut linux = LinuxBuilder::default().namespaces(namespaces(around)?).build()?;
    linux.set_cgroups_path(Some(around.cgroup.clone()));
    linux.set_resources(None);
    linux.set_seccomp(None);
    linux.set_masked_paths(None);
    linux.set_readonly_paths(None);
    let sysctl: HashMap<String, String> =
        definition.system_controls.iter().map(|control| (control.namespace.clone(), control.value.clone())).collect();
    linux.set_sysctl(Some(sysctl).filter(|controls| !controls.is_empty()));
    let root_user = UserBuilder::default().uid(0_u32).gid(0_u32).build()?;
    // Arguments and environment are in `Entry`; the specification only has to have some. With HOME in it, libcontainer
    // does not read the image's passwd file.
    let process = ProcessBuilder::default()
        .terminal(false)
        .user(root_user)
        .args(vec!["/".to_owned()])
        .env(vec!["HOME=/".to_owned()])
        .cwd("/")
        .build()
        .map(without_privileges)?;
    let root = RootBuilder::default()
        .path(&around.root)
        .readonly(definition.readonly_root_filesystem == Some(true))
        .build()?;
    SpecBuilder::default()
        .version("1.0.2")
        .root(root)
        .hostname(container.network.hostname.clone())
        .mounts(Vec::new())
        .process(process)
        .linux(linux)
        .build()
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
