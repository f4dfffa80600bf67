//! `task.json`: everything one supervisor needs to run one task, decided before it starts the first container.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use aws::ec2::{NetworkInterfaceId, SecurityGroupId, SubnetId};
use ecs::task::NetworkBinding;
use ecs::task_definition::{ContainerDefinition, Device, IpcMode, KeyValuePair, NetworkMode, PidMode, Tag, Ulimit};
use ecs::{TaskId, Timestamp};
use ipnetwork::{Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

/// The version of the files and commands in this crate. A supervisor refuses a task of a version it does not know.
pub const FORMAT: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskSpec {
    pub format: u32,
    pub id: TaskId,
    /// What `coracle run --name` called it: unique among the tasks of a host that still run.
    #[serde(default)]
    pub name: Option<String>,
    pub family: String,
    pub revision: u32,
    pub cluster: String,
    pub account_id: String,
    pub region: String,
    /// `family:<family>` for a task that nobody's service owns.
    pub group: String,
    pub launch_type: String,
    pub created_at: Timestamp,
    pub network_mode: NetworkMode,
    /// Task size: CPU units (a hard limit of cpu/1024 cores) and MiB (a hard limit).
    #[serde(default)]
    pub cpu: Option<u32>,
    #[serde(default)]
    pub memory_mib: Option<u64>,
    /// The most processes and threads the whole task may have.
    pub pids_limit: u32,
    #[serde(default)]
    pub pid_mode: Option<PidMode>,
    #[serde(default)]
    pub ipc_mode: Option<IpcMode>,
    /// Every volume of the definition, resolved to what is on this host.
    #[serde(default)]
    pub volumes: Vec<VolumeSpec>,
    /// The quota of the task's writable layers and its task-lived volumes together.
    #[serde(default)]
    pub ephemeral_storage_gib: Option<u64>,
    pub containers: Vec<ContainerSpec>,
    /// In awsvpc mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_interface: Option<ElasticNetworkInterface>,
    /// What the sockets that came with `Command::Go` are, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub service_sockets: Vec<ServiceSocket>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_role_arn: Option<String>,
    /// The last part of `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI`: a random UUID, with a task role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_id: Option<String>,
    #[serde(default)]
    pub tags: Vec<Tag>,
    pub places: Places,
}

/// Where a task keeps what is its own. All are made by the driver before the supervisor starts, mode 0700.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Places {
    /// `<data-dir>/tasks/<id>`: `task.json`, `status.json`, `logs/`, `containers/<name>/{upper,work}`.
    pub state: PathBuf,
    /// `<run-dir>/tasks/<id>`: the `ctl` socket, `bundles/<name>/`, generated hosts and resolv.conf files.
    pub run: PathBuf,
    /// Below each cgroup hierarchy's root, with a leading slash: `/coracle/<id>` holds the containers' cgroups
    /// `/coracle/<id>/<name>`.
    pub cgroup: PathBuf,
    /// The supervisor's own cgroup, beside the task's so that the task's limits do not count it:
    /// `/coracle/supervisor-<id>`.
    pub supervisor_cgroup: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// As registered, with the overrides of RunTask already applied.
    pub definition: ContainerDefinition,
    pub image: ResolvedImage,
    pub network: ContainerNetwork,
    /// Docker's notion of a container id, 64 hexadecimal digits; DescribeTasks calls it runtimeId.
    pub runtime_id: String,
    /// Of the definition's environment files: only names that `environment` does not have.
    #[serde(default)]
    pub environment_from_files: Vec<KeyValuePair>,
    /// What `links` tell of the linked containers: below everything else, the image's included, as Docker has it.
    #[serde(default)]
    pub link_environment: Vec<KeyValuePair>,
    /// What the agent puts in, over everything else.
    #[serde(default)]
    pub injected_environment: Vec<KeyValuePair>,
    /// What the agent has made for the container on the host, beside the definition's own mount points.
    #[serde(default)]
    pub binds: Vec<Bind>,
    /// Devices of the host that the agent has assigned, beside the definition's own.
    #[serde(default)]
    pub devices: Vec<Device>,
    /// The container's GPUs, nobody else's as long as the task lives. DescribeTasks calls them gpuIds.
    #[serde(default)]
    pub gpu_ids: Vec<String>,
    /// What the launch type gives where the definition is silent, as far as the host grants it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub default_ulimits: Vec<Ulimit>,
    #[serde(default)]
    pub metadata_file: Option<MetadataFile>,
    /// Of the container's metadata endpoints (`/v4/<id>`): a random UUID. Empty in tasks of older builds, which have none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub endpoint_id: String,
}

/// A volume of the task: the source of mount points.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpec {
    pub name: String,
    pub source: VolumeSource,
    /// One of this host's store, by the same name, which outlives the task.
    #[serde(default)]
    pub shared: bool,
    #[serde(default)]
    pub labels: std::collections::BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum VolumeSource {
    /// A path of the host; a directory is made where there is none.
    Host { path: PathBuf },
    /// An empty directory that lives as long as the task.
    Scratch,
    /// The directory of a volume that outlives the task.
    Shared { path: PathBuf },
    /// A file system that the supervisor mounts in its own mount namespace: `nfs4`, `tmpfs`, …
    Mount { file_system: String, device: String, options: String },
}

/// A file or directory of the host in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    pub source: PathBuf,
    /// In the container; absolute.
    pub target: PathBuf,
    pub read_only: bool,
}

/// ECS's container metadata file, which the driver has composed and the container finds below its image's files
/// (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/container-metadata.html>). Its place goes into the
/// container's environment as `ECS_CONTAINER_METADATA_FILE`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataFile {
    /// In the container: `/opt/ecs/metadata/<random>/ecs-container-metadata.json`.
    pub place: PathBuf,
    pub content: String,
}

/// An image whose every layer is unpacked in the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResolvedImage {
    /// `sha256:…` of the manifest.
    pub digest: String,
    /// Unpacked layers, lowest first, as overlayfs wants them reversed.
    pub layers: Vec<PathBuf>,
    pub config: ImageConfig,
}

/// The part of an OCI image configuration that decides how a process starts
/// (<https://github.com/opencontainers/image-spec/blob/main/config.md>).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    #[serde(default)]
    pub user: String,
    #[serde(default)]
    pub env: Vec<String>,
    #[serde(default)]
    pub entrypoint: Vec<String>,
    #[serde(default)]
    pub cmd: Vec<String>,
    #[serde(default)]
    pub working_dir: String,
    /// `SIGTERM` when empty. A name with or without `SIG`, or a number.
    #[serde(default)]
    pub stop_signal: String,
    #[serde(default)]
    pub volumes: Vec<String>,
    /// `80/tcp`.
    #[serde(default)]
    pub exposed_ports: Vec<String>,
    #[serde(default)]
    pub labels: std::collections::BTreeMap<String, String>,
}

/// A container's place in the network, already made when the supervisor hears of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerNetwork {
    pub namespace: NetworkNamespace,
    pub hostname: String,
    /// Whole content of /etc/hosts and /etc/resolv.conf.
    pub hosts: String,
    pub resolv_conf: String,
    #[serde(default)]
    pub bindings: Vec<NetworkBinding>,
    #[serde(default)]
    pub ipv4_address: Option<Ipv4Addr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<Ipv6Addr>,
    /// Whom the resolver asks for this container; empty: the host's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_servers: Vec<IpAddr>,
}

/// A task's own interface, as a packet sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ElasticNetworkInterface {
    /// A random UUID.
    pub attachment_id: String,
    pub network_interface_id: NetworkInterfaceId,
    pub subnet_id: SubnetId,
    /// The subnet's.
    pub availability_zone: String,
    pub security_groups: Vec<SecurityGroupId>,
    /// `02:42:0a:00:01:05`.
    pub mac_address: String,
    pub private_ipv4_address: Ipv4Addr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<Ipv6Addr>,
    /// `ip-10-0-1-5.<region>.compute.internal`.
    pub private_dns_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_ipv4_address: Option<Ipv4Addr>,
    pub subnet_ipv4_cidr_block: Ipv4Network,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet_ipv6_cidr_block: Option<Ipv6Network>,
    pub subnet_gateway: Ipv4Addr,
    /// The host's end of it.
    pub host_link: String,
}

/// One of the sockets of a task on which `host-services` answers, all of them at 169.254.170.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSocket {
    /// Where it lies.
    pub namespace: NetworkNamespace,
    pub service: Service,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Service {
    /// A listener on TCP port 80: task metadata, credentials, task protection.
    Http,
    /// A listener on TCP port 53.
    DnsTcp,
    /// A socket on UDP port 53.
    DnsUdp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NetworkNamespace {
    /// The host's.
    Host,
    /// The n-th network namespace among the descriptors that came with `Command::Go`. The supervisor holds them: a
    /// namespace lives as long as its supervisor or a process in it, and goes with them, links included.
    Received { index: usize },
}
