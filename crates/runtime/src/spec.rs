//! From a task's container to the runtime specification that libcontainer is given, and to what our own last steps
//! do with the process. Pure.
//!
//! The specification names no capabilities, no seccomp profile, no resource limits and no user: libcontainer applies
//! those in an order that cannot be used without libseccomp, or not at all. `enter` does them, in `Entry`. Nor does it
//! name mounts, which are `mounts`' matter, or cgroups.

use std::collections::HashMap;
use std::path::PathBuf;

use agent_protocol::{ContainerSecrets, ContainerSpec};
use ecs::task_definition::SystemControl;
use oci_spec::runtime::{
    LinuxBuilder, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, ProcessBuilder, RootBuilder, Spec,
    SpecBuilder, UserBuilder,
};

use crate::capabilities::{Capabilities, NoSuchCapability};
use crate::process::{self, NoProcess};
use crate::security::{self, Label, SecurityError};
use crate::{namespaces, rlimits};

#[derive(Debug, thiserror::Error)]
pub(crate) enum SpecError {
    #[error(transparent)]
    Process(#[from] NoProcess),
    #[error(transparent)]
    Capability(#[from] NoSuchCapability),
    #[error(transparent)]
    Limit(#[from] rlimits::NoLimit),
    #[error(transparent)]
    Security(#[from] SecurityError),
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
    /// Each is opened by the launcher and its children as a path.
    pub(crate) network: Joined,
    pub(crate) pids: Joined,
    pub(crate) ipc: Joined,
}

/// Which namespace of a kind the container is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Joined {
    New,
    Hosts,
    Of(PathBuf),
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
    pub label: Option<Label>,
    /// Whether our init is process 1, and this its child.
    pub init: bool,
    pub limits: Vec<rlimits::Limit>,
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
    let security = security::read(&definition.docker_security_options)?;
    let init = definition.linux_parameters.as_ref().and_then(|parameters| parameters.init_process_enabled);
    Ok(ProcessPlan {
        arguments: process::arguments(definition, image)?,
        environment: process::environment(container, secrets)?,
        working_directory: process::working_directory(definition, image)?,
        user: definition.user.clone().filter(|user| !user.is_empty()).unwrap_or_else(|| image.user.clone()),
        capabilities: Capabilities::of_container(changes, privileged)?,
        filtered: !privileged && !security.seccomp_unconfined,
        no_new_privileges: security.no_new_privileges,
        label: security.label,
        init: init == Some(true),
        limits: rlimits::plan(&definition.ulimits, &container.default_ulimits)?,
    })
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
    // Those of an IPC namespace that the task shares were set when it was made.
    let own = |control: &&SystemControl| around.ipc == Joined::New || !namespaces::is_of_ipc(control);
    let controls = definition.system_controls.iter().filter(own);
    let sysctl: HashMap<String, String> =
        controls.map(|control| (control.namespace.clone(), control.value.clone())).collect();
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
        (LinuxNamespaceType::Pid, &around.pids),
        (LinuxNamespaceType::Ipc, &around.ipc),
        (LinuxNamespaceType::Uts, &Joined::New),
        (LinuxNamespaceType::Mount, &Joined::New),
        (LinuxNamespaceType::Cgroup, &Joined::New),
        (LinuxNamespaceType::Network, &around.network),
    ];
    let mut namespaces = Vec::new();
    for (kind, joined) in kinds {
        let namespace = LinuxNamespaceBuilder::default().typ(kind);
        match joined {
            Joined::New => namespaces.push(namespace.build()?),
            Joined::Of(path) => namespaces.push(namespace.path(path).build()?),
            Joined::Hosts => {}
        }
    }
    Ok(namespaces)
}
