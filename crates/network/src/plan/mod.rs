//! Request -> `NetworkPlan`: everything about a task's network that can be decided without the host, one file a
//! network mode. What only the host knows (free addresses and ports, name servers) is left to `attach`.

mod awsvpc;
mod bridge;
mod host;
mod links;
mod none;

pub(crate) use awsvpc::InterfacePlan;
pub(crate) use bridge::protocol_name;
pub(crate) use links::LinkPlan;

use std::net::IpAddr;
use std::sync::Arc;

use aws::ec2::{NetworkInterfaceId, SecurityGroupId, SubnetId, VpcNetwork};
use ecs::task_definition::{HostEntry, NetworkMode, PortMapping, TransportProtocol};
use ecs::{ContainerName, TaskId};

/// One descriptor and one map element each. One message of descriptors carries 253: ten containers have ten namespaces
/// and thirty service sockets beside these.
pub const MAX_PUBLISHED_PORTS: usize = 200;
/// Of Docker's container id, which is the default hostname.
const DEFAULT_HOSTNAME_LENGTH: usize = 12;
const MAX_HOSTNAME: usize = 253;

/// What a task asks of the network.
#[derive(Clone, Debug)]
pub struct Request {
    pub task: TaskId,
    pub mode: NetworkMode,
    pub containers: Vec<ContainerRequest>,
    /// In awsvpc mode.
    pub interface: Option<InterfaceRequest>,
}

/// What an awsvpc task asks of its interface.
#[derive(Clone, Debug)]
pub struct InterfaceRequest {
    pub network_interface_id: NetworkInterfaceId,
    /// The whole configuration, in which the following are found.
    pub network: Arc<VpcNetwork>,
    pub subnet: SubnetId,
    /// At least one.
    pub security_groups: Vec<SecurityGroupId>,
    pub assign_public_ip: bool,
    /// The domain of the host name: `<region>.compute.internal`.
    pub domain: String,
}

/// What a container asks of the network: its definition's members, by the names they have there.
#[derive(Clone, Debug)]
pub struct ContainerRequest {
    pub name: ContainerName,
    pub port_mappings: Vec<PortMapping>,
    pub disable_networking: bool,
    pub hostname: Option<String>,
    pub extra_hosts: Vec<HostEntry>,
    pub dns_servers: Vec<String>,
    pub dns_search_domains: Vec<String>,
    pub links: Vec<String>,
    /// 64 hexadecimal digits; the first twelve are the hostname where none is given, as Docker has it.
    pub runtime_id: String,
}

/// A request that no host could serve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Amazon's words.
    #[error("Network Configuration must be provided when networkMode 'awsvpc' is specified.")]
    NoInterface,
    #[error("networkConfiguration.awsvpcConfiguration.{field}: {wanted}")]
    Interface { field: String, wanted: String },
    #[error("every container has disableNetworking, so nobody would have the interface; use networkMode none")]
    NobodyOnTheInterface,
    #[error("container {container}: {field}: {wanted}")]
    Field { container: ContainerName, field: String, wanted: String },
    #[error("the task publishes {protocol} host port {port} twice: container {first} and container {second}")]
    PublishedTwice { protocol: &'static str, port: u16, first: ContainerName, second: ContainerName },
    #[error("the task publishes {asked} ports; at most {MAX_PUBLISHED_PORTS} are possible")]
    TooManyPorts { asked: usize },
    #[error("links: {} are linked in a circle, and each would have to start before the next", chain(names))]
    CircularLinks { names: Vec<ContainerName> },
}

fn chain(names: &[ContainerName]) -> String {
    names.iter().map(ContainerName::as_str).collect::<Vec<_>>().join(" -> ")
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NetworkPlan {
    pub(crate) containers: Vec<ContainerPlan>,
    /// In awsvpc mode.
    pub(crate) interface: Option<InterfacePlan>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContainerPlan {
    pub(crate) name: ContainerName,
    pub(crate) place: Place,
    /// None: the host's, or the interface's.
    pub(crate) hostname: Option<String>,
    pub(crate) extra_hosts: Vec<ExtraHost>,
    /// Empty: the host's.
    pub(crate) dns_servers: Vec<IpAddr>,
    pub(crate) dns_search_domains: Vec<String>,
    pub(crate) links: Vec<LinkPlan>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The host's own namespace. The ports are not mapped: the container opens them itself.
    Host { ports: Vec<Ports> },
    /// A namespace with nothing but loopback.
    Loopback,
    /// The task's own, with its interface.
    Interface,
    /// A namespace with a link to the bridge.
    Bridge { publish: Vec<Publish> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExtraHost {
    pub(crate) name: String,
    pub(crate) address: ExtraAddress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExtraAddress {
    Given(IpAddr),
    /// Docker's `host-gateway`: wherever the host is seen from the container.
    HostGateway,
}

/// Consecutive ports; never empty, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) protocol: TransportProtocol,
    pub(crate) first: u16,
    pub(crate) last: u16,
    /// Written as a range, so it is reported as one, even of one port.
    pub(crate) is_range: bool,
}

impl Ports {
    pub(crate) fn count(self) -> u16 {
        // 1 to 65535 are 65535 ports.
        self.last - self.first + 1
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Publish {
    pub(crate) container: Ports,
    pub(crate) host: HostPort,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostPort {
    /// One port, by number.
    Static(u16),
    /// As many consecutive ones as the container has, wherever they are free.
    Dynamic,
}

pub(crate) fn plan(request: &Request) -> Result<NetworkPlan, Refusal> {
    match request.mode {
        NetworkMode::Bridge => bridge::plan(request),
        NetworkMode::Host => host::plan(request),
        NetworkMode::None => none::plan(request),
        NetworkMode::Awsvpc => awsvpc::plan(request),
    }
}

/// All of a container's plan that is alike in every mode.
fn container(request: &ContainerRequest, place: Place, hostname: Option<String>) -> Result<ContainerPlan, Refusal> {
    if let Some(hostname) = &hostname
        && !is_hostname(hostname)
    {
        return Err(refuse(request, "hostname", format!("{hostname:?} is not a host's name")));
    }
    Ok(ContainerPlan {
        name: request.name.clone(),
        place,
        hostname,
        extra_hosts: extra_hosts(request)?,
        dns_servers: dns_servers(request)?,
        dns_search_domains: dns_search_domains(request)?,
        links: Vec::new(),
    })
}

/// The hostname of a container with a namespace of its own.
fn own_hostname(request: &ContainerRequest) -> String {
    request.hostname.clone().unwrap_or_else(|| request.runtime_id.chars().take(DEFAULT_HOSTNAME_LENGTH).collect())
}

fn extra_hosts(request: &ContainerRequest) -> Result<Vec<ExtraHost>, Refusal> {
    let entry = |(at, entry): (usize, &HostEntry)| {
        if !is_hostname(&entry.hostname) {
            let wanted = format!("{:?} is not a host's name", entry.hostname);
            return Err(refuse(request, &format!("extraHosts[{at}].hostname"), wanted));
        }
        let address = match entry.ip_address.as_str() {
            "host-gateway" => ExtraAddress::HostGateway,
            text => ExtraAddress::Given(text.parse().map_err(|_| {
                let wanted = format!("{text:?} is neither an IP address nor host-gateway");
                refuse(request, &format!("extraHosts[{at}].ipAddress"), wanted)
            })?),
        };
        Ok(ExtraHost { name: entry.hostname.clone(), address })
    };
    request.extra_hosts.iter().enumerate().map(entry).collect()
}

fn dns_servers(request: &ContainerRequest) -> Result<Vec<IpAddr>, Refusal> {
    let server = |(at, text): (usize, &String)| {
        text.parse().map_err(|_| {
            refuse(request, &format!("dnsServers[{at}]"), format!("{text:?} is not an IP address, such as 192.0.2.53"))
        })
    };
    request.dns_servers.iter().enumerate().map(server).collect()
}

fn dns_search_domains(request: &ContainerRequest) -> Result<Vec<String>, Refusal> {
    let domain = |(at, text): (usize, &String)| {
        // A single dot is resolv.conf's word for "search nowhere".
        if text == "." || is_hostname(text.trim_end_matches('.')) {
            Ok(text.clone())
        } else {
            Err(refuse(request, &format!("dnsSearchDomains[{at}]"), format!("{text:?} is not a domain's name")))
        }
    };
    request.dns_search_domains.iter().enumerate().map(domain).collect()
}

/// Lenient as resolvers are (underscores occur), strict about what could end a word or a line of a file.
fn is_hostname(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !text.is_empty()
        && text.len() <= MAX_HOSTNAME
        && text.bytes().all(allowed)
        && text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
}

fn refuse(request: &ContainerRequest, field: &str, wanted: String) -> Refusal {
    Refusal::Field { container: request.name.clone(), field: field.to_owned(), wanted }
}

/// What a port mapping says about the container's side.
fn container_ports(request: &ContainerRequest, at: usize, mapping: &PortMapping) -> Result<Ports, Refusal> {
    let field = format!("portMappings[{at}]");
    let protocol = mapping.protocol.unwrap_or_default();
    match (mapping.container_port, &mapping.container_port_range) {
        (Some(_), Some(_)) => {
            Err(refuse(request, &field, "containerPort and containerPortRange exclude each other".into()))
        }
        (None | Some(0), None) => {
            Err(refuse(request, &field, "give a containerPort of 1 to 65535, or a containerPortRange".into()))
        }
        (Some(port), None) => Ok(Ports { protocol, first: port, last: port, is_range: false }),
        (None, Some(text)) => {
            if mapping.host_port.is_some_and(|port| port != 0) {
                let wanted = "a containerPortRange gets its host ports by itself: leave hostPort out";
                return Err(refuse(request, &format!("{field}.hostPort"), wanted.into()));
            }
            let (first, last) = read_range(text).ok_or_else(|| {
                let wanted = format!("{text:?} is not a range such as 8000-8010, within 1 to 65535, lowest first");
                refuse(request, &format!("{field}.containerPortRange"), wanted)
            })?;
            Ok(Ports { protocol, first, last, is_range: true })
        }
    }
}

fn read_range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-')?;
    let number = |digits: &str| {
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse::<u16>().ok()).flatten().filter(|port| *port > 0)
    };
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests;
