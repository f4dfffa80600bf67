//! What can go wrong with a task's network. Each error names its container, link, port or setting; the cause is its
//! source.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use aws::ec2::SubnetId;
use ecs::ContainerName;
use ipnetwork::{Ipv4Network, Ipv6Network};

use crate::checks;
use crate::namespace;
use crate::netlink;
use crate::nft::CommitError;
use crate::overlay;
use crate::plan::{MAX_PUBLISHED_PORTS, Refusal};
use crate::service_sockets::ServiceError;
use crate::sysctl;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the task's network cannot be planned")]
    Refused(#[from] Refusal),
    #[error("cannot make a network namespace for container {container}")]
    Namespace {
        container: ContainerName,
        #[source]
        source: namespace::Error,
    },
    #[error("tasks with networkMode host need a way to their metadata in this host's own network")]
    HostServices {
        #[source]
        source: ServiceError,
    },
    #[error("cannot {action}")]
    Netlink {
        /// What was being done, and to which link.
        action: String,
        #[source]
        source: netlink::Error,
    },
    #[error("cannot change the firewall table inet {table}")]
    Firewall {
        table: String,
        #[source]
        source: CommitError,
    },
    /// Undoing goes on after an error.
    #[error("a task's network could not be made, and not all of what was made of it is gone: {}", chains(left))]
    HalfUndone {
        #[source]
        cause: Box<Error>,
        left: Vec<Error>,
    },
    /// All that was wrong.
    #[error("the way to the other hosts of the task's VPC: {}", chains(errors))]
    Overlay { errors: Vec<overlay::Error> },
    #[error("all addresses of subnet {subnet} that this host gives out are taken ({})", listed(ranges))]
    NoFreeInterface { subnet: SubnetId, ranges: Vec<Ipv4Network> },
    #[error("there is already a link {name}, and it is {kind}; delete it (ip link delete {name})")]
    NotTheGateways { name: &'static str, kind: String },
    #[error("public addresses belong on the NIC {name}, and this host has none of that name")]
    NoSuchNic { name: String },
    #[error("all public addresses from {first} to {last} on {interface} are taken")]
    NoPublicAddress { interface: String, first: Ipv4Addr, last: Ipv4Addr },
    #[error("cannot {verb} {}", path.display())]
    NamespaceFile {
        verb: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("containers need a kernel setting that cannot be made")]
    Setting(#[from] sysctl::Error),
    #[error("cannot read {path}")]
    Read {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("there is already a link {name}, and it is {kind}, not a bridge; set CORACLE_BRIDGE to another name")]
    NotABridge { name: String, kind: String },
    #[error(
        "bridge {bridge} lies in {found}, not in {wanted}; stop its tasks and delete it (ip link delete {bridge}), \
         or set CORACLE_BRIDGE to another name"
    )]
    OtherSubnet { bridge: String, found: Ipv4Network, wanted: Ipv4Network },
    #[error(
        "bridge {bridge} has the IPv6 network {found}, not {wanted}; stop its tasks and delete it (ip link delete \
         {bridge}), or set CORACLE_BRIDGE to another name"
    )]
    OtherSubnet6 { bridge: String, found: Ipv6Network, wanted: Ipv6Network },
    #[error("bridge {bridge}'s network {found} has no room for containers; give it one of /29 or larger")]
    SubnetTooSmall { bridge: String, found: Ipv4Network },
    #[error(
        "every network that bridge {bridge} could have overlaps a route of this host; set CORACLE_BRIDGE_SUBNET to a \
         free one, such as 10.99.0.0/16"
    )]
    NoSubnet { bridge: String },
    #[error("bridge {bridge} has all the ports that a bridge can have (1023); set CORACLE_BRIDGE to another for more")]
    BridgeFull { bridge: String },
    #[error("all addresses of {subnet} on bridge {bridge} are taken")]
    NoFreeAddress { bridge: String, subnet: Ipv4Network },
    #[error("container {container}: {protocol} host port {port} is taken{}", by(.holder))]
    PortTaken { container: ContainerName, protocol: &'static str, port: u16, holder: Option<String> },
    #[error("container {container}: {count} free consecutive {protocol} ports are not left in {first}-{last}")]
    NoFreePorts { container: ContainerName, protocol: &'static str, count: u16, first: u16, last: u16 },
    #[error("ports cannot be published at {address}: this host has no such address")]
    NoSuchAddress { address: IpAddr },
    #[error(
        "ports cannot be published at {address}: containers on bridge {bridge} have no IPv6 (the kernel or the bridge \
         has it disabled, or CORACLE_BRIDGE_SUBNET6 is off)"
    )]
    NoIpv6 { address: IpAddr, bridge: String },
    #[error("{ports} ports at {addresses} addresses each are more than a task can hold, {MAX_PUBLISHED_PORTS}")]
    TooManyHolds { ports: usize, addresses: usize },
    #[error("container {container}: cannot hold {protocol} host port {port}")]
    Port {
        container: ContainerName,
        protocol: &'static str,
        port: u16,
        #[source]
        source: io::Error,
    },
}

fn chains<E: std::error::Error>(all: &[E]) -> String {
    all.iter().map(|error| checks::chain(error)).collect::<Vec<_>>().join("; ")
}

fn listed(all: &[impl ToString]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn by(holder: &Option<String>) -> String {
    holder.as_ref().map(|holder| format!(" by {holder}")).unwrap_or_default()
}
