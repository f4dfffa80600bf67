//! Tasks that are attached and detached again in a network namespace that plays the host: what is missing is found by
//! its being missed.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{fs, process};

use aws::ec2::defaults::{self, NewIds};
use aws::ec2::{NetworkInterfaceId, SecurityGroupId, SecurityGroupRuleId, SubnetId, VpcId};
use ecs::task_definition::{NetworkMode, PortMapping, TransportProtocol};
use ecs::{ContainerName, TaskId};
use ipnetwork::Ipv4Network;

use super::{Check, chain};
use crate::attach::attach;
use crate::detach::detach;
use crate::error::Error;
use crate::namespace;
use crate::plan::{ContainerRequest, InterfaceRequest, Request};
use crate::settings::{ForeignFirewall, Settings, Subnet6};

/// TEST-NET-3 and TEST-NET-2: no host has a route to them.
const BRIDGE: (Ipv4Addr, u8) = (Ipv4Addr::new(203, 0, 113, 0), 24);
const VPC: (Ipv4Addr, u8) = (Ipv4Addr::new(198, 51, 100, 0), 24);

/// With published ports.
pub(super) fn bridge(settings: &Settings) -> Check {
    let mapping = |protocol| PortMapping {
        container_port: Some(80),
        host_port: None,
        protocol: Some(protocol),
        container_port_range: None,
        name: None,
        app_protocol: None,
    };
    let mappings = vec![mapping(TransportProtocol::Tcp), mapping(TransportProtocol::Udp)];
    let works = "namespaces, veth, bridge and nftables work (tried in a namespace of its own)";
    judged("bridge-mode task", works, tried(settings, &request(NetworkMode::Bridge, mappings, None)))
}

pub(super) fn awsvpc(settings: &Settings) -> Check {
    let ids = NewIds {
        vpc: VpcId::from_random(0),
        subnet: SubnetId::from_random(0),
        group: SecurityGroupId::from_random(0),
        ingress: SecurityGroupRuleId::from_random(0),
        egress: SecurityGroupRuleId::from_random(1),
    };
    let (subnet, group) = (ids.subnet.clone(), ids.group.clone());
    let interface = InterfaceRequest {
        network_interface_id: NetworkInterfaceId::from_random(0),
        network: Arc::new(defaults::defaults(network(VPC), "try", ids)),
        subnet,
        security_groups: vec![group],
        assign_public_ip: false,
        domain: "internal".to_owned(),
    };
    let works = "interfaces of their own, security groups and masquerading work (tried likewise)";
    judged("awsvpc-mode task", works, tried(settings, &request(NetworkMode::Awsvpc, Vec::new(), Some(interface))))
}

fn judged(name: &'static str, works: &str, tried: Result<Result<(), Error>, namespace::Error>) -> Check {
    match tried {
        Ok(Ok(())) => Check::ok(name, works),
        Ok(Err(error)) => Check::fail(name, chain(&error), cure(&error)),
        Err(error) => Check::fail(name, chain(&error), "run as root, on a kernel with CONFIG_NET_NS"),
    }
}

fn tried(settings: &Settings, request: &Request) -> Result<Result<(), Error>, namespace::Error> {
    // What is not gone with the namespace is the file that holds the task's: beside those of real tasks.
    static TRIES: AtomicU32 = AtomicU32::new(0);
    let number = TRIES.fetch_add(1, Ordering::Relaxed);
    let namespaces = settings.namespaces.with_file_name(format!("doctor-{}-{number}", process::id()));
    let has_run_directory = namespaces.parent().is_some_and(Path::exists);
    let settings = Settings {
        subnet: Some(network(BRIDGE)),
        subnet6: Subnet6::Chosen,
        publish_addresses: Vec::new(),
        foreign_firewall: ForeignFirewall::Leave,
        namespaces: namespaces.clone(),
        ..settings.clone()
    };
    let tried = namespace::within_new(|| {
        let made = attach(&settings, request)?;
        let errors = detach(&settings, &request.task);
        drop(made);
        errors.into_iter().next().map_or(Ok(()), Err)
    });
    // Made where the task needed it, and empty again.
    drop(fs::remove_dir(&namespaces));
    if let Some(parent) = namespaces.parent().filter(|_| !has_run_directory) {
        drop(fs::remove_dir(parent));
    }
    tried
}

fn network((address, prefix): (Ipv4Addr, u8)) -> Ipv4Network {
    Ipv4Network::new(address, prefix).expect("24 is a prefix")
}

fn request(mode: NetworkMode, port_mappings: Vec<PortMapping>, interface: Option<InterfaceRequest>) -> Request {
    let task = TaskId::from_bytes([0; 16]);
    let container = ContainerRequest {
        name: ContainerName::try_from("try".to_owned()).expect("three letters are a container's name"),
        port_mappings,
        disable_networking: false,
        hostname: None,
        extra_hosts: Vec::new(),
        dns_servers: Vec::new(),
        dns_search_domains: Vec::new(),
        links: Vec::new(),
        runtime_id: task.to_string(),
    };
    Request { task, mode, containers: vec![container], interface }
}

fn cure(error: &Error) -> &'static str {
    match error {
        Error::Firewall { .. } | Error::HostServices { .. } => {
            "a kernel with nftables: CONFIG_NF_TABLES_INET, NFT_NAT, NFT_MASQ, NFT_REDIR, NFT_CT and NFT_FIB_INET, with \
             sets of intervals and concatenations (5.6 or later), loaded where they are modules (modprobe nf_tables \
             nft_chain_nat nft_fib_inet)"
        }
        Error::Netlink { .. } => {
            "a kernel with CONFIG_VETH and CONFIG_BRIDGE, loaded where they are modules (modprobe veth bridge)"
        }
        Error::Namespace { .. } => "run as root; raise user.max_net_namespaces where it is used up",
        Error::Setting(_) => "mount /proc so that root can write to /proc/sys/net",
        _ => "see the message",
    }
}
