//! What some tasks need beside the bridge: IPv6, subnets that span hosts, their way to 169.254.170.2.

use super::{Check, chain, netfilter};
use crate::attach::route_socket;
use crate::bridge6;
use crate::link;
use crate::netlink::{self, Requests, Socket};
use crate::nft::foreign;
use crate::port_holder;
use crate::service_sockets::SERVICE_ADDRESS;
use crate::settings::{Settings, Subnet6};
use crate::sysctl;

/// Where the ECS agent tells what runs on its instance
/// (<https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-agent-introspection.html>).
const AGENT_PORT: u16 = 51678;

pub(super) fn ipv6(settings: &Settings) -> Check {
    const NAME: &str = "IPv6";
    if settings.subnet6 == Subnet6::Off {
        return Check::ok(NAME, "CORACLE_BRIDGE_SUBNET6=off: containers on the bridge have IPv4 alone");
    }
    let disabled = sysctl::read(&sysctl::disable_ipv6("all")).map(|value| value.as_deref() != Some("0"));
    if !matches!(disabled, Ok(false)) {
        return Check::ok(NAME, "this host has none, or has it disabled: containers on the bridge have IPv4 alone");
    }
    if matches!(sysctl::read(sysctl::IP6_FORWARD), Ok(Some(value)) if value == "1") {
        return Check::ok(NAME, "net.ipv6.conf.all.forwarding=1: containers reach and are reached over IPv6");
    }
    match bridge6::forwarding_to_come(&settings.bridge) {
        Ok(None) => Check::ok(NAME, "this host has no IPv6 network: containers on the bridge have it among themselves"),
        Ok(Some(listening)) => {
            let links: Vec<String> =
                listening.iter().map(|link| format!("{}=2", sysctl::accept_router_advertisements(link))).collect();
            let first = if links.is_empty() { String::new() } else { format!(", after {}", links.join(" and ")) };
            Check::warn(
                NAME,
                format!(
                    "net.ipv6.conf.all.forwarding=0: the first bridge-mode task turns it on{first}, and the host then \
                     routes between all its networks"
                ),
                "filter forwarding between other links where that is unwanted, or set CORACLE_BRIDGE_SUBNET6=off",
            )
        }
        Err(error) => Check::warn(NAME, chain(&error), "mount /proc"),
    }
}

pub(super) fn overlays() -> Vec<Check> {
    let plain = kind("subnets that span hosts", "vxlan", "a kernel with CONFIG_VXLAN (modprobe vxlan)");
    let encrypted = kind(
        "encryption between hosts",
        "wireguard",
        "a kernel with CONFIG_WIREGUARD, 5.6 or later (modprobe wireguard)",
    );
    vec![plain, encrypted]
}

fn kind(name: &'static str, kind: &str, cure: &str) -> Check {
    let knows = crate::namespace::within_new(|| {
        let mut socket = route_socket()?;
        knows_kind(&mut socket, kind)
            .map_err(|source| crate::error::Error::Netlink { action: format!("make a {kind} link"), source })
    });
    match knows {
        Ok(Ok(true)) => Check::ok(name, format!("the kernel has {kind}")),
        Ok(Ok(false)) => {
            Check::warn(name, format!("the kernel has no {kind}: no overlay of that kind is possible"), cure)
        }
        Ok(Err(error)) => Check::warn(name, chain(&error), cure),
        Err(error) => Check::warn(name, chain(&error), "run as root, on a kernel with CONFIG_NET_NS"),
    }
}

/// Whatever else a kernel may say against a link without any details, it says this of a kind that it does not know.
fn knows_kind(socket: &mut Socket, kind: &str) -> Result<bool, netlink::Error> {
    let mut requests = Requests::default();
    link::add_of_kind(&mut requests, "try0", kind);
    let answer = socket.exchange(requests)?.pop();
    Ok(!matches!(answer, Some(Err(refused)) if refused.errno == nix::errno::Errno::EOPNOTSUPP))
}

pub(super) fn reverse_paths() -> Check {
    const NAME: &str = "reverse paths";
    match sysctl::read(sysctl::REVERSE_PATHS) {
        Ok(Some(value)) if value == "1" => Check::ok(
            NAME,
            "net.ipv4.conf.all.rp_filter=1 (strict): what comes in by another link than the answer would leave by is \
             dropped; a host with two ways to one network wants 2",
        ),
        Ok(_) => Check::ok(NAME, "packets may come in by another link than answers leave by"),
        Err(error) => Check::warn(NAME, chain(&error), "mount /proc"),
    }
}

/// Tasks with networks of their own have the address in there; what others do with it on the host is in the way of those
/// with the host's alone.
pub(super) fn service_address(settings: &Settings) -> Check {
    const NAME: &str = "169.254.170.2";
    if let Some(agent) = port_holder::listener(AGENT_PORT) {
        return Check::warn(
            NAME,
            format!(
                "an ECS agent runs here, {agent}: it answers tasks with networkMode host instead of coracle (metadata, \
                 credentials), and both may give out the same host ports"
            ),
            "stop it (systemctl stop ecs), or run no tasks with networkMode host",
        );
    }
    let translated = netfilter().and_then(|mut socket| {
        foreign::tables_naming(&mut socket, &SERVICE_ADDRESS.octets(), &[&settings.table, crate::nft::SERVICES_TABLE])
    });
    match translated {
        Ok(tables) if tables.is_empty() => Check::ok(NAME, "nobody else on this host has it"),
        Ok(tables) => Check::warn(
            NAME,
            format!(
                "table {} has rules about it, as an ECS agent makes: they may answer tasks with networkMode host instead \
                 of coracle",
                tables.join(" and table ")
            ),
            "remove them, or run no tasks with networkMode host",
        ),
        Err(error) => Check::warn(NAME, chain(&error), "run as root, on a kernel with CONFIG_NF_TABLES"),
    }
}
