//! What this host has and lacks for a task's network, each finding with its cure: for `coracle doctor`. Nothing on
//! the host is changed; what can only be found by trying is tried in a network namespace that ends with the try.

mod beyond;
mod firewalls;
mod tries;

use crate::attach::route_socket;
use crate::conntrack;
use crate::host_bridge;
use crate::host_files;
use crate::netlink::{self, Protocol, Socket};
use crate::nft;
use crate::ports::DynamicRange;
use crate::resolv::ResolvConf;
use crate::settings::Settings;
use crate::sysctl;

/// Fewer dynamic ports than this are soon used up.
const FEW_DYNAMIC_PORTS: u16 = 100;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: &'static str,
    pub outcome: Outcome,
    pub found: String,
    /// What would make it good, where it is not.
    pub cure: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Ok,
    /// Tasks run, but somebody should know.
    Warn,
    /// Tasks of some network mode cannot run, or cannot be reached.
    Fail,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Check {
        Check { name, outcome: Outcome::Ok, found: found.into(), cure: None }
    }

    fn warn(name: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Check {
        Check { name, outcome: Outcome::Warn, found: found.into(), cure: Some(cure.into()) }
    }

    fn fail(name: &'static str, found: impl Into<String>, cure: impl Into<String>) -> Check {
        Check { name, outcome: Outcome::Fail, found: found.into(), cure: Some(cure.into()) }
    }
}

/// Looks at the network namespace of the calling thread. A few tens of milliseconds.
pub fn checks(settings: &Settings) -> Vec<Check> {
    let mut all =
        vec![tries::bridge(settings), tries::awsvpc(settings), bridge(settings), table(settings), forwarding()];
    all.push(beyond::ipv6(settings));
    all.extend(firewalls::all(settings));
    all.extend([route_localnet(), beyond::reverse_paths(), bridged_packets(), connections(), dynamic_ports(settings)]);
    all.push(name_servers());
    all.push(beyond::service_address(settings));
    all.extend(beyond::overlays());
    all
}

fn bridge(settings: &Settings) -> Check {
    const NAME: &str = "bridge";
    let found = route_socket().and_then(|mut socket| host_bridge::look(&mut socket, settings));
    match found {
        Ok(host_bridge::Look::Made(bridge)) => {
            Check::ok(NAME, format!("{} lies in {}", settings.bridge, bridge.subnet))
        }
        Ok(host_bridge::Look::ToBeMade { subnet, overlaps: None }) => {
            Check::ok(NAME, format!("{} will be made at the first task, in {subnet}", settings.bridge))
        }
        Ok(host_bridge::Look::ToBeMade { subnet, overlaps: Some(route) }) => Check::warn(
            NAME,
            format!("{subnet} is to be {}'s network, and this host has a route to {route}", settings.bridge),
            "set CORACLE_BRIDGE_SUBNET to a network that the host does not use",
        ),
        Err(error) => Check::fail(NAME, chain(&error), "as the message says"),
    }
}

fn table(settings: &Settings) -> Check {
    const NAME: &str = "firewall table";
    let table = &settings.table;
    match netfilter().and_then(|mut socket| nft::state_of_table(&mut socket, table)) {
        Ok(nft::TableState::Current) => Check::ok(NAME, format!("inet {table} has this build's rules")),
        Ok(nft::TableState::Absent) => Check::ok(NAME, format!("inet {table} will be made at the first task")),
        Ok(nft::TableState::Other) => {
            Check::ok(NAME, format!("inet {table} has another build's rules; the next task renews them"))
        }
        Err(error) => Check::fail(NAME, chain(&error), "run as root, on a kernel with CONFIG_NF_TABLES"),
    }
}

fn netfilter() -> Result<Socket, netlink::Error> {
    Socket::open(Protocol::Netfilter)
}

fn forwarding() -> Check {
    const NAME: &str = "IP forwarding";
    match sysctl::read(sysctl::IP_FORWARD) {
        Ok(Some(value)) if value == "1" => Check::ok(NAME, "net.ipv4.ip_forward=1"),
        Ok(_) => Check::warn(
            NAME,
            "net.ipv4.ip_forward=0: the first bridge-mode task turns it on, and the host then routes between all its \
             networks",
            "filter forwarding between other links where that is unwanted",
        ),
        Err(error) => Check::fail(NAME, chain(&error), "mount /proc"),
    }
}

fn route_localnet() -> Check {
    const NAME: &str = "loopback addresses";
    match sysctl::read(sysctl::ROUTE_LOCALNET_EVERYWHERE) {
        Ok(Some(value)) if value == "1" => Check::warn(
            NAME,
            "net.ipv4.conf.all.route_localnet=1 lets neighbours reach services on 127.0.0.1 (CVE-2020-8558); while \
             coracle's table is there, it drops that",
            "sysctl -w net.ipv4.conf.all.route_localnet=0",
        ),
        Ok(_) => Check::ok(NAME, "127.0.0.0/8 is not routed from any wire"),
        Err(error) => Check::warn(NAME, chain(&error), "mount /proc"),
    }
}

fn bridged_packets() -> Check {
    const NAME: &str = "bridged packets";
    match sysctl::read(sysctl::BRIDGE_CALLS_IPTABLES) {
        Ok(Some(value)) if value == "1" => Check::ok(
            NAME,
            "net.bridge.bridge-nf-call-iptables=1: packets between containers pass the firewall as well; every port \
             has hairpin on for that",
        ),
        Ok(_) => Check::ok(NAME, "packets between containers do not pass the firewall"),
        Err(error) => Check::warn(NAME, chain(&error), "mount /proc"),
    }
}

const CONNECTION_TRACKING: &str = "connection tracking";
/// Of the kernel's room for connections.
const NEARLY_FULL_PERCENT: u64 = 90;

fn connections() -> Check {
    const NAME: &str = CONNECTION_TRACKING;
    let available = netfilter().and_then(|mut socket| conntrack::is_available(&mut socket));
    let cure = "a kernel with CONFIG_NF_CT_NETLINK (modprobe nf_conntrack_netlink)";
    match available {
        Ok(true) => {
            let number = |name| sysctl::read(name).ok().flatten().and_then(|text| text.parse().ok());
            room(number(sysctl::CONNECTIONS).unwrap_or(0), number(sysctl::MOST_CONNECTIONS).unwrap_or(u64::MAX))
        }
        Ok(false) => {
            let found = "the kernel cannot list connections: UDP clients may go on talking to a stopped container";
            Check::warn(NAME, found, cure)
        }
        Err(error) => Check::warn(NAME, chain(&error), cure),
    }
}

/// The kernel forgets flows that nobody answered when it needs room; connections that stand it keeps, and drops new ones.
fn room(followed: u64, most: u64) -> Check {
    // No limit is written as 0.
    if most == 0 || followed.saturating_mul(100) < most.saturating_mul(NEARLY_FULL_PERCENT) {
        return Check::ok(CONNECTION_TRACKING, "stale flows to published ports can be forgotten");
    }
    let found = format!("{followed} connections are followed and there is room for {most}: new ones may be dropped");
    Check::warn(
        CONNECTION_TRACKING,
        found,
        "find who has them (/proc/net/nf_conntrack), or raise net.netfilter.nf_conntrack_max",
    )
}

fn dynamic_ports(settings: &Settings) -> Check {
    const NAME: &str = "dynamic host ports";
    let DynamicRange { first, last } = settings.dynamic_range();
    let found = format!("{first} to {last}");
    if last - first < FEW_DYNAMIC_PORTS {
        let cure = "widen it: sysctl -w net.ipv4.ip_local_port_range='32768 60999', or ECS_DYNAMIC_HOST_PORT_RANGE";
        Check::warn(NAME, found, cure)
    } else {
        Check::ok(NAME, found)
    }
}

fn name_servers() -> Check {
    const NAME: &str = "name servers";
    let cure = "name a server in /etc/resolv.conf, or give dnsServers in the task definition";
    match host_files::resolv_conf_as_is() {
        Ok(ResolvConf { servers, .. }) => {
            if servers.is_empty() {
                return Check::warn(NAME, "the host has none: tasks know each other's names, and no others", cure);
            }
            let listed: Vec<String> = servers.iter().map(ToString::to_string).collect();
            Check::ok(NAME, listed.join(", "))
        }
        Err(error) => Check::warn(NAME, chain(&error), cure),
    }
}

/// An error with its causes, one behind the other.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        said.push_str(&format!(": {error}"));
        cause = error.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_connections_is_nearly_full_at_nine_tenths() {
        for (followed, most, expected) in [
            (0, 262_144, Outcome::Ok),
            (235_929, 262_144, Outcome::Ok),
            (235_930, 262_144, Outcome::Warn),
            (262_144, 262_144, Outcome::Warn),
            (9, 10, Outcome::Warn),
            (1_000_000, 0, Outcome::Ok),
        ] {
            assert_eq!(room(followed, most).outcome, expected, "{followed} of {most}");
        }
    }
}
