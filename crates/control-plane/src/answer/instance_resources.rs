//! A container instance's resources, between what is registered and what is kept. Amazon's agent knows four: CPU units, MiB,
//! and the ports of TCP and UDP that no task may have; GPUs come as devices.

use std::collections::BTreeSet;

use ecs::operations::ApiError;
use ecs::operations::container_instances::RegisterContainerInstanceRequest;
use ecs::operations::shapes::Resource;
use scheduler::Demand;
use serde_json::Value;

use crate::records::ContainerInstance;

/// "The maximum number of reserved ports per container instance".
const MAX_RESERVED_PORTS: usize = 100;
/// Platform devices: far more than a host has.
const MAX_DEVICES: usize = 1024;

pub(super) struct Resources {
    pub(super) cpu: u32,
    pub(super) memory_mib: u64,
    pub(super) tcp_ports: Vec<u16>,
    pub(super) udp_ports: Vec<u16>,
    pub(super) gpu_ids: Vec<String>,
}

/// # Errors
/// InvalidParameterException with the resource's name. What is not there is none.
pub(super) fn read(request: &RegisterContainerInstanceRequest) -> Result<Resources, ApiError> {
    let given = request.total_resources.as_deref().unwrap_or_default();
    let named = |name: &str| given.iter().find(|resource| resource.name.as_deref() == Some(name));
    let devices = request.platform_devices.as_deref().unwrap_or_default();
    if devices.len() > MAX_DEVICES {
        return Err(ApiError::invalid(format!("platformDevices can have at most {MAX_DEVICES} items.")));
    }
    let gpus = devices.iter().filter(|device| device.kind.as_deref() == Some("GPU"));
    let mut gpu_ids: Vec<String> = gpus.filter_map(|device| device.id.clone()).collect();
    if gpu_ids.is_empty() {
        gpu_ids = named("GPU").map(|resource| resource.string_set_value.clone()).unwrap_or_default();
    }
    Ok(Resources {
        cpu: number(named("CPU"), "CPU")?,
        memory_mib: number(named("MEMORY"), "MEMORY")?,
        tcp_ports: ports(named("PORTS"), "PORTS")?,
        udp_ports: ports(named("PORTS_UDP"), "PORTS_UDP")?,
        gpu_ids,
    })
}

fn number<N: TryFrom<i64> + Default>(resource: Option<&Resource>, name: &str) -> Result<N, ApiError> {
    let Some(resource) = resource else { return Ok(N::default()) };
    let value = resource.integer_value.filter(|value| *value != 0).or(resource.long_value).unwrap_or(0);
    N::try_from(value)
        .map_err(|_| ApiError::invalid(format!("The value of the resource {name} is out of range: {value}")))
}

fn ports(resource: Option<&Resource>, name: &str) -> Result<Vec<u16>, ApiError> {
    let given = resource.map(|resource| resource.string_set_value.as_slice()).unwrap_or_default();
    if given.len() > MAX_RESERVED_PORTS {
        return Err(ApiError::invalid(format!("The resource {name} can have at most {MAX_RESERVED_PORTS} ports.")));
    }
    let port = |text: &String| {
        text.parse().map_err(|_| ApiError::invalid(format!("The resource {name} holds what is no port: {text}")))
    };
    given.iter().map(port).collect()
}

/// `instanceId` of the identity document, where the agent sends one.
pub(super) fn host_name(request: &RegisterContainerInstanceRequest) -> Option<String> {
    let document: Value = serde_json::from_str(request.instance_identity_document.as_deref()?).ok()?;
    document["instanceId"].as_str().filter(|id| !id.is_empty()).map(str::to_owned)
}

/// "For port resource types, this parameter describes the ports that were reserved by the Amazon ECS container agent when it
/// registered the container instance."
pub(super) fn registered(record: &ContainerInstance) -> Vec<Resource> {
    all(record, &Demand::default())
}

/// "… the ports that were reserved by the agent and any task containers that have reserved port mappings."
pub(super) fn remaining(record: &ContainerInstance, used: &Demand) -> Vec<Resource> {
    all(record, used)
}

fn all(record: &ContainerInstance, used: &Demand) -> Vec<Resource> {
    let cpu = i64::from(record.cpu.saturating_sub(used.cpu));
    let memory = i64::try_from(record.memory_mib.saturating_sub(used.memory_mib)).unwrap_or(i64::MAX);
    let taken = |reserved: &[u16], used: &[u16]| {
        let ports: BTreeSet<u16> = reserved.iter().chain(used).copied().collect();
        ports.into_iter().map(|port| port.to_string()).collect()
    };
    let mut resources = vec![
        integer("CPU", cpu),
        integer("MEMORY", memory),
        strings("PORTS", taken(&record.reserved_ports, &used.tcp_ports)),
        strings("PORTS_UDP", taken(&record.reserved_ports_udp, &used.udp_ports)),
    ];
    if !record.gpu_ids.is_empty() {
        let taken = usize::try_from(used.gpus).unwrap_or(usize::MAX);
        resources.push(strings("GPU", record.gpu_ids.iter().skip(taken).cloned().collect()));
    }
    resources
}

/// Amazon writes the values of the other types as zeros.
fn integer(name: &str, value: i64) -> Resource {
    resource(name, "INTEGER", value, Vec::new())
}

fn strings(name: &str, values: Vec<String>) -> Resource {
    resource(name, "STRINGSET", 0, values)
}

fn resource(name: &str, kind: &str, integer: i64, strings: Vec<String>) -> Resource {
    Resource {
        name: Some(name.to_owned()),
        kind: Some(kind.to_owned()),
        double_value: Some(0.0),
        long_value: Some(0),
        integer_value: Some(integer),
        string_set_value: strings,
    }
}
