//! A small task for the tests of this crate.

use std::path::PathBuf;

use agent_protocol::status::ProcessIdentity;
use agent_protocol::task_spec::{
    ContainerNetwork, ElasticNetworkInterface, FORMAT, ImageConfig, NetworkNamespace, Places, ResolvedImage,
};
use agent_protocol::{ContainerSpec, ContainerStatus, TaskSpec, TaskStatus};
use ecs::task::{ContainerLastStatus, DesiredStatus, HealthStatus, LastStatus};
use ecs::task_definition::NetworkMode;
use ecs::{ContainerName, TaskId, Timestamp};

pub(crate) fn name(text: &str) -> ContainerName {
    ContainerName::try_from(text.to_owned()).expect("the tests' names are good")
}

pub(crate) fn spec(containers: &[&str]) -> TaskSpec {
    let id = TaskId::from_bytes([7; 16]);
    TaskSpec {
        format: FORMAT,
        id: id.clone(),
        name: None,
        family: "shop".to_owned(),
        revision: 3,
        cluster: "default".to_owned(),
        account_id: "000000000000".to_owned(),
        region: "us-east-1".to_owned(),
        group: "family:shop".to_owned(),
        launch_type: "EXTERNAL".to_owned(),
        created_at: Timestamp::from_epoch_ms(1_000),
        network_mode: NetworkMode::Bridge,
        cpu: None,
        memory_mib: None,
        pids_limit: 64,
        pid_mode: None,
        ipc_mode: None,
        volumes: Vec::new(),
        ephemeral_storage_gib: None,
        containers: containers.iter().map(|container| container_spec(container)).collect(),
        network_interface: None,
        service_sockets: Vec::new(),
        task_role_arn: None,
        credentials_id: None,
        tags: Vec::new(),
        places: Places {
            state: PathBuf::from("/data/tasks").join(id.as_str()),
            run: PathBuf::from("/run/tasks").join(id.as_str()),
            cgroup: PathBuf::from("/coracle").join(id.as_str()),
            supervisor_cgroup: PathBuf::from(format!("/coracle/supervisor-{id}")),
        },
    }
}

/// On a subnet with IPv6.
pub(crate) fn interface() -> ElasticNetworkInterface {
    let id = |text: &str| text.to_owned();
    ElasticNetworkInterface {
        attachment_id: id("5941250f-0762-463e-8cbc-4c7a4c2a0a6c"),
        network_interface_id: id("eni-0d542ffb4a12aa6d9").try_into().expect("an id"),
        subnet_id: id("subnet-0d0eab1bb30300000").try_into().expect("an id"),
        availability_zone: id("us-east-1a"),
        security_groups: vec![id("sg-0123456789abcdef0").try_into().expect("an id")],
        mac_address: id("02:42:0a:00:01:05"),
        private_ipv4_address: std::net::Ipv4Addr::new(10, 0, 1, 5),
        ipv6_address: Some("fd00:1::a00:105".parse().expect("an address")),
        private_dns_name: id("ip-10-0-1-5.ec2.internal"),
        public_ipv4_address: None,
        subnet_ipv4_cidr_block: "10.0.1.0/24".parse().expect("a network"),
        subnet_ipv6_cidr_block: Some("fd00:1::/64".parse().expect("a network")),
        subnet_gateway: std::net::Ipv4Addr::new(10, 0, 1, 1),
        host_link: id("eni0a000105"),
    }
}

fn container_spec(container: &str) -> ContainerSpec {
    let definition = serde_json::json!({"name": container, "image": "busybox:1", "memory": 64});
    ContainerSpec {
        definition: serde_json::from_value(definition).expect("the least container definition"),
        image: ResolvedImage {
            digest: "sha256:1234".to_owned(),
            layers: vec![PathBuf::from("/layers/a")],
            config: ImageConfig::default(),
        },
        network: ContainerNetwork {
            namespace: NetworkNamespace::Received { index: 0 },
            hostname: container.to_owned(),
            hosts: String::new(),
            resolv_conf: String::new(),
            bindings: Vec::new(),
            ipv4_address: Some(std::net::Ipv4Addr::new(172, 29, 0, 2)),
            ipv6_address: None,
            dns_servers: Vec::new(),
        },
        runtime_id: "00112233445566778899aabbccddeeff".repeat(2),
        environment_from_files: Vec::new(),
        link_environment: Vec::new(),
        injected_environment: Vec::new(),
        binds: Vec::new(),
        metadata_file: None,
        devices: Vec::new(),
        gpu_ids: Vec::new(),
        default_ulimits: Vec::new(),
        endpoint_id: String::new(),
    }
}

/// PENDING, in the order given.
pub(crate) fn status(containers: &[&str]) -> TaskStatus {
    TaskStatus {
        format: FORMAT,
        id: TaskId::from_bytes([7; 16]),
        version: 1,
        supervisor: ProcessIdentity { pid: 1, start_time: 1, boot_id: "b".to_owned() },
        last_status: LastStatus::Pending,
        desired_status: DesiredStatus::Running,
        pull_started_at: None,
        pull_stopped_at: None,
        started_at: None,
        stopping_at: None,
        execution_stopped_at: None,
        stopped_at: None,
        stop_code: None,
        stopped_reason: None,
        ended_by: None,
        containers: containers
            .iter()
            .map(|container| ContainerStatus {
                name: name(container),
                last_status: ContainerLastStatus::Pending,
                process: None,
                created_at: None,
                started_at: None,
                finished_at: None,
                exit_code: None,
                reason: None,
                start_exit_code: None,
                health_status: HealthStatus::Unknown,
                health_status_since: None,
                health_output: None,
                stuck: None,
                restart_count: 0,
                start_stages_us: Vec::new(),
                log_lost_bytes: 0,
                log_error: None,
            })
            .collect(),
        health_status: HealthStatus::Unknown,
        teardown_errors: Vec::new(),
    }
}
