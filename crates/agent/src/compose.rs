//! A task definition, resolved images and an attached network become what a supervisor is given. Pure.

use std::os::fd::OwnedFd;

use agent_protocol::task_spec::{
    ContainerNetwork, ElasticNetworkInterface, FORMAT, NetworkNamespace, Places, ResolvedImage, Service, ServiceSocket,
};
use agent_protocol::{ContainerSecrets, ContainerSpec, TaskSpec, VolumeSpec};
use ecs::network_configuration::AwsVpcConfiguration;
use ecs::size::{self, SizeError};
use ecs::task_definition::{ContainerDefinition, NetworkMode, Tag, TaskDefinition, Ulimit};
use ecs::{LaunchType, TaskId, Timestamp};
use network::{
    AttachedContainer, AttachedInterface, AttachedService, Attachment, ContainerRequest, InterfaceRequest, Request,
    ServiceKind,
};

use crate::environment::{self, Fetched};
use crate::{links, metadata_file};

/// A task of a host that no cluster knows.
pub const CLUSTER: &str = "default";
pub const ACCOUNT_ID: &str = "000000000000";
pub const REGION: &str = "us-east-1";
/// Processes and threads of one task, all containers together; no fork bomb gets further.
pub const PIDS_LIMIT: u32 = 4096;
/// The revision of a definition that was never registered.
const FIRST_REVISION: u32 = 1;

/// Who a task is: a cluster says so, or whoever runs one without a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    pub id: TaskId,
    pub cluster: String,
    pub account_id: String,
    pub group: String,
    pub tags: Vec<Tag>,
    pub created_at: Timestamp,
}

impl Identity {
    /// Of a task that no cluster knows.
    pub fn of_nobody(id: TaskId, definition: &TaskDefinition, created_at: Timestamp) -> Identity {
        Identity {
            id,
            cluster: CLUSTER.to_owned(),
            account_id: ACCOUNT_ID.to_owned(),
            group: format!("family:{}", definition.family),
            tags: definition.tags.clone(),
            created_at,
        }
    }
}

/// What is to run, decided before anything is made.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub task: Identity,
    /// With overrides applied.
    pub definition: TaskDefinition,
    pub name: Option<String>,
    pub region: String,
    pub launch_type: LaunchType,
    /// What an awsvpc task's interface is to be; without effect in the other modes.
    pub interface: AwsVpcConfiguration,
}

impl Plan {
    pub fn network_mode(&self) -> NetworkMode {
        self.definition.effective_network_mode()
    }
}

/// What was made for the plan.
#[derive(Debug)]
pub struct Parts {
    /// One for each container, in the definition's order, as are the images and the attached containers.
    pub runtime_ids: Vec<String>,
    /// A random UUID for each container.
    pub endpoint_ids: Vec<String>,
    /// A random UUID.
    pub credentials_id: String,
    /// In awsvpc mode, as it was asked for.
    pub interface: Option<Interface>,
    pub images: Vec<ResolvedImage>,
    pub attachment: Attachment,
    pub fetched: Fetched,
    pub volumes: Vec<VolumeSpec>,
    pub places: Places,
}

/// An interface that was asked of the network, with the ids that are not the network's.
#[derive(Clone, Debug)]
pub struct Interface {
    /// A random UUID.
    pub attachment_id: String,
    pub request: InterfaceRequest,
}

/// A spec with the descriptors that it counts.
#[derive(Debug)]
pub struct Composed {
    pub spec: TaskSpec,
    pub network_namespaces: Vec<OwnedFd>,
    /// As `spec.service_sockets` has them.
    pub service_sockets: Vec<OwnedFd>,
    pub held_ports: Vec<OwnedFd>,
    /// Never in the spec, which is written down.
    pub secrets: Vec<ContainerSecrets>,
}

pub fn network_request(plan: &Plan, runtime_ids: &[String], interface: Option<InterfaceRequest>) -> Request {
    let containers = plan.definition.container_definitions.iter().zip(runtime_ids);
    Request {
        task: plan.task.id.clone(),
        mode: plan.network_mode(),
        containers: containers.map(|(definition, runtime_id)| container_request(definition, runtime_id)).collect(),
        interface,
    }
}

fn container_request(definition: &ContainerDefinition, runtime_id: &str) -> ContainerRequest {
    ContainerRequest {
        name: definition.name.clone(),
        port_mappings: definition.port_mappings.clone(),
        disable_networking: definition.disable_networking.unwrap_or(false),
        hostname: definition.hostname.clone(),
        extra_hosts: definition.extra_hosts.clone(),
        dns_servers: definition.dns_servers.clone(),
        dns_search_domains: definition.dns_search_domains.clone(),
        links: definition.links.clone(),
        runtime_id: runtime_id.to_owned(),
    }
}

/// # Errors
/// A task size that is no size; lint and overrides have refused it before.
pub fn compose(plan: &Plan, parts: Parts) -> Result<Composed, SizeError> {
    let definition = &plan.definition;
    let Attachment { containers, interface, service_sockets, port_holds, said: _, stages: _ } = parts.attachment;
    let mut namespaces = Namespaces { shared: plan.network_mode() == NetworkMode::Awsvpc, descriptors: Vec::new() };
    let containers: Vec<ContainerSpec> = definition
        .container_definitions
        .iter()
        .zip(parts.runtime_ids)
        .zip(parts.images)
        .zip(containers)
        .zip(parts.fetched.from_files)
        .zip(parts.endpoint_ids)
        .map(|(((((definition, runtime_id), image), attached), environment_from_files), endpoint_id)| ContainerSpec {
            environment_from_files,
            link_environment: Vec::new(),
            injected_environment: Vec::new(),
            binds: Vec::new(),
            metadata_file: None,
            devices: Vec::new(),
            gpu_ids: Vec::new(),
            default_ulimits: default_ulimits(plan.launch_type),
            endpoint_id,
            definition: definition.clone(),
            image,
            network: container_network(attached, &mut namespaces),
            runtime_id,
        })
        .collect();
    let (places, sockets) = services(service_sockets, &containers);
    let task_role = definition.task_role_arn.as_ref().filter(|role| !role.is_empty());
    let mut spec = TaskSpec {
        format: FORMAT,
        id: plan.task.id.clone(),
        name: plan.name.clone(),
        family: definition.family.clone(),
        revision: definition.revision.unwrap_or(FIRST_REVISION),
        cluster: plan.task.cluster.clone(),
        account_id: plan.task.account_id.clone(),
        region: plan.region.clone(),
        group: plan.task.group.clone(),
        launch_type: plan.launch_type.name().to_owned(),
        created_at: plan.task.created_at,
        network_mode: plan.network_mode(),
        cpu: definition.cpu.as_deref().map(size::cpu_units).transpose()?,
        memory_mib: definition.memory.as_deref().map(size::memory_mib).transpose()?,
        pids_limit: PIDS_LIMIT,
        pid_mode: definition.pid_mode,
        ipc_mode: definition.ipc_mode,
        volumes: parts.volumes,
        ephemeral_storage_gib: definition.ephemeral_storage.map(|storage| storage.size_in_gib),
        containers,
        network_interface: parts.interface.zip(interface).and_then(|(asked, made)| elastic_interface(asked, made)),
        service_sockets: places,
        task_role_arn: task_role.cloned(),
        credentials_id: task_role.map(|_| parts.credentials_id),
        tags: plan.task.tags.clone(),
        places: parts.places,
    };
    let mut secrets = parts.fetched.secrets;
    for place in 0..spec.containers.len() {
        let file = metadata_file::of(&spec, &spec.containers[place]);
        let container = &spec.containers[place];
        let own = secrets.iter().find(|secrets| secrets.container == container.definition.name);
        let injected = environment::injected(&spec, container, own);
        let container = &mut spec.containers[place];
        container.metadata_file = Some(file);
        container.injected_environment = injected;
    }
    links::add(&mut spec, &mut secrets);
    let network_namespaces = namespaces.descriptors;
    Ok(Composed { spec, network_namespaces, service_sockets: sockets, held_ports: port_holds, secrets })
}

/// "The default nofile soft limit is 65535 and the default hard limit is 65535" on Fargate
/// (<https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDefinition.html>).
fn default_ulimits(launch_type: LaunchType) -> Vec<Ulimit> {
    const FARGATE_NOFILE: i64 = 65_535;
    match launch_type {
        LaunchType::Fargate => {
            vec![Ulimit { name: "nofile".to_owned(), soft_limit: FARGATE_NOFILE, hard_limit: FARGATE_NOFILE }]
        }
        LaunchType::Ec2 | LaunchType::External => Vec::new(),
    }
}

/// The descriptors of the namespaces, as containers come by.
struct Namespaces {
    /// All containers of an awsvpc task are in one, of which each has a descriptor.
    shared: bool,
    descriptors: Vec<OwnedFd>,
}

impl Namespaces {
    fn add(&mut self, descriptor: OwnedFd) -> NetworkNamespace {
        if !self.shared || self.descriptors.is_empty() {
            self.descriptors.push(descriptor);
        }
        NetworkNamespace::Received { index: self.descriptors.len() - 1 }
    }
}

/// What the sockets at 169.254.170.2 are, and the sockets in the same order.
fn services(attached: Vec<AttachedService>, containers: &[ContainerSpec]) -> (Vec<ServiceSocket>, Vec<OwnedFd>) {
    let place = |container: Option<usize>| {
        let container = container.and_then(|container| containers.get(container));
        container.map_or(NetworkNamespace::Host, |container| container.network.namespace)
    };
    let service = |kind| match kind {
        ServiceKind::Http => Service::Http,
        ServiceKind::DnsTcp => Service::DnsTcp,
        ServiceKind::DnsUdp => Service::DnsUdp,
    };
    let each = attached.into_iter().map(|AttachedService { container, kind, socket }| {
        (ServiceSocket { namespace: place(container), service: service(kind) }, socket)
    });
    each.unzip()
}

/// Nothing where the network was asked for a subnet that it does not have, which it has refused before.
fn elastic_interface(asked: Interface, made: AttachedInterface) -> Option<ElasticNetworkInterface> {
    let Interface { attachment_id, request } = asked;
    let subnet = request.network.subnets.iter().find(|subnet| subnet.subnet_id == request.subnet)?;
    Some(ElasticNetworkInterface {
        attachment_id,
        network_interface_id: request.network_interface_id,
        subnet_id: request.subnet,
        availability_zone: subnet.availability_zone.clone(),
        security_groups: request.security_groups,
        mac_address: made.mac_address,
        private_ipv4_address: made.private_ipv4_address,
        ipv6_address: made.ipv6_address,
        private_dns_name: made.private_dns_name,
        public_ipv4_address: made.public_ipv4_address,
        subnet_ipv4_cidr_block: subnet.cidr_block,
        subnet_ipv6_cidr_block: subnet.ipv6_cidr_block,
        subnet_gateway: made.gateway,
        host_link: made.host_link,
    })
}

fn container_network(attached: AttachedContainer, namespaces: &mut Namespaces) -> ContainerNetwork {
    let namespace = attached.netns.map_or(NetworkNamespace::Host, |descriptor| namespaces.add(descriptor));
    ContainerNetwork {
        namespace,
        hostname: attached.hostname,
        hosts: attached.hosts,
        resolv_conf: attached.resolv_conf,
        bindings: attached.bindings,
        ipv4_address: attached.ipv4,
        ipv6_address: attached.ipv6,
        dns_servers: attached.dns_servers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example;
    use serde_json::json;

    fn plan(mut definition: serde_json::Value) -> Plan {
        definition["family"] = json!("shop");
        let definition: TaskDefinition = serde_json::from_value(definition).expect("a task definition");
        Plan {
            task: Identity::of_nobody(example::spec(&["a"]).id, &definition, Timestamp::from_epoch_ms(5)),
            definition,
            name: Some("front".to_owned()),
            region: REGION.to_owned(),
            launch_type: LaunchType::External,
            interface: AwsVpcConfiguration::default(),
        }
    }

    fn attached(name: &str, netns: Option<OwnedFd>) -> AttachedContainer {
        AttachedContainer {
            name: example::name(name),
            netns,
            ipv4: None,
            ipv6: None,
            hostname: name.to_owned(),
            hosts: "127.0.0.1 localhost\n".to_owned(),
            resolv_conf: String::new(),
            dns_servers: Vec::new(),
            bindings: Vec::new(),
        }
    }

    fn parts(containers: Vec<AttachedContainer>) -> Parts {
        let spec = example::spec(&["a"]);
        let from_files = vec![Vec::new(); containers.len()];
        Parts {
            runtime_ids: containers.iter().map(|container| container.name.to_string().repeat(40)).collect(),
            endpoint_ids: containers.iter().map(|container| format!("endpoint-{}", container.name)).collect(),
            credentials_id: "credentials".to_owned(),
            interface: None,
            images: containers.iter().map(|_| spec.containers[0].image.clone()).collect(),
            attachment: Attachment {
                containers,
                interface: None,
                service_sockets: Vec::new(),
                port_holds: Vec::new(),
                said: Vec::new(),
                stages: Vec::new(),
            },
            fetched: Fetched { from_files, secrets: Vec::new() },
            volumes: Vec::new(),
            places: spec.places,
        }
    }

    #[test]
    fn namespaces_are_counted_in_the_order_of_their_descriptors() {
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").expect("open"));
        let definition = json!({"containerDefinitions": [
            {"name": "a", "image": "x", "memory": 4}, {"name": "b", "image": "x", "memory": 4},
            {"name": "c", "image": "x", "memory": 4}
        ]});
        let containers = vec![attached("a", Some(null())), attached("b", None), attached("c", Some(null()))];
        let composed = compose(&plan(definition), parts(containers)).expect("a good plan");
        let namespaces: Vec<NetworkNamespace> =
            composed.spec.containers.iter().map(|container| container.network.namespace).collect();
        assert_eq!(
            namespaces,
            [NetworkNamespace::Received { index: 0 }, NetworkNamespace::Host, NetworkNamespace::Received { index: 1 }]
        );
        assert_eq!(composed.network_namespaces.len(), 2);
    }

    #[test]
    fn containers_of_an_awsvpc_task_share_one_namespace_and_its_sockets() {
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").expect("open"));
        let definition = json!({"networkMode": "awsvpc", "taskRoleArn": "arn:aws:iam::1:role/r", "containerDefinitions": [
            {"name": "a", "image": "x", "memory": 4}, {"name": "b", "image": "x", "memory": 4}
        ]});
        let mut parts = parts(vec![attached("a", Some(null())), attached("b", Some(null()))]);
        let socket = |kind| AttachedService { container: Some(1), kind, socket: null() };
        parts.attachment.service_sockets = vec![socket(ServiceKind::Http), socket(ServiceKind::DnsUdp)];
        let composed = compose(&plan(definition), parts).expect("a good plan");
        let shared = NetworkNamespace::Received { index: 0 };
        assert!(composed.spec.containers.iter().all(|container| container.network.namespace == shared));
        assert_eq!((composed.network_namespaces.len(), composed.service_sockets.len()), (1, 2));
        let socket = |service| ServiceSocket { namespace: shared, service };
        assert_eq!(composed.spec.service_sockets, [socket(Service::Http), socket(Service::DnsUdp)]);
        assert_eq!(composed.spec.credentials_id.as_deref(), Some("credentials"));
        for (container, id) in composed.spec.containers.iter().zip(["endpoint-a", "endpoint-b"]) {
            let uri = format!("http://169.254.170.2/v4/{id}");
            assert!(container.injected_environment.iter().any(|variable| variable.value == uri), "{container:?}");
        }
    }

    #[test]
    fn the_task_size_is_read_as_amazon_writes_it() {
        let definition = json!({"cpu": ".5 vCPU", "memory": "1 GB", "revision": 7,
            "containerDefinitions": [{"name": "a", "image": "x"}]});
        let composed = compose(&plan(definition), parts(vec![attached("a", None)])).expect("a good plan");
        let spec = composed.spec;
        assert_eq!((spec.cpu, spec.memory_mib, spec.revision), (Some(512), Some(1024), 7));
        assert_eq!((spec.network_mode, spec.group.as_str()), (NetworkMode::Bridge, "family:shop"));
        assert_eq!(spec.name.as_deref(), Some("front"));
    }
}
