//! The few kernel settings under /proc/sys/net that containers need. The kernel shows each thread the settings of
//! its own network namespace there.

use std::fs;
use std::io;
use std::path::Path;

pub(crate) const IP_FORWARD: &str = "net.ipv4.ip_forward";
pub(crate) const IP6_FORWARD: &str = "net.ipv6.conf.all.forwarding";
/// How many connections the kernel remembers now.
pub(crate) const CONNECTIONS: &str = "net.netfilter.nf_conntrack_count";
pub(crate) const MOST_CONNECTIONS: &str = "net.netfilter.nf_conntrack_max";
pub(crate) const LOCAL_PORT_RANGE: &str = "net.ipv4.ip_local_port_range";
/// Ports of that range that nobody is given.
pub(crate) const RESERVED_PORTS: &str = "net.ipv4.ip_local_reserved_ports";
pub(crate) const REVERSE_PATHS: &str = "net.ipv4.conf.all.rp_filter";
pub(crate) const ROUTE_LOCALNET_EVERYWHERE: &str = "net.ipv4.conf.all.route_localnet";
pub(crate) const BRIDGE_CALLS_IPTABLES: &str = "net.bridge.bridge-nf-call-iptables";

#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} the kernel setting {path}")]
pub struct Error {
    verb: &'static str,
    path: String,
    #[source]
    source: io::Error,
}

pub(crate) fn route_localnet(link: &str) -> String {
    format!("net.ipv4.conf.{link}.route_localnet")
}

pub(crate) fn disable_ipv6(link: &str) -> String {
    format!("net.ipv6.conf.{link}.disable_ipv6")
}

/// 1: unless the host forwards, 2: even then, 0: never.
pub(crate) fn accept_router_advertisements(link: &str) -> String {
    format!("net.ipv6.conf.{link}.accept_ra")
}

/// None where the kernel has no such setting.
pub(crate) fn read(name: &str) -> Result<Option<String>, Error> {
    let path = path(name);
    match fs::read_to_string(&path) {
        Ok(value) => Ok(Some(value.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error { verb: "read", path, source }),
    }
}

/// Turns a setting on and says whether it was off.
pub(crate) fn turn_on(name: &str) -> Result<bool, Error> {
    if read(name)?.as_deref() == Some("1") {
        return Ok(false);
    }
    write(name, "1").map(|()| true)
}

pub(crate) fn write(name: &str, value: &str) -> Result<(), Error> {
    let path = path(name);
    fs::write(&path, value).map_err(|source| Error { verb: "write", path, source })
}

/// A kernel without IPv6, or with `ipv6.disable=1`, has no such directory and refuses IPv6 settings of links.
pub(crate) fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6/conf").exists()
}

/// Bridge names may hold dots; only those of the prefix separate.
fn path(name: &str) -> String {
    for version in ["ipv4", "ipv6"] {
        let of_link = name.strip_prefix(&format!("net.{version}.conf.")).and_then(|rest| rest.rsplit_once('.'));
        if let Some((link, setting)) = of_link {
            return format!("/proc/sys/net/{version}/conf/{link}/{setting}");
        }
    }
    format!("/proc/sys/{}", name.replace('.', "/"))
}
