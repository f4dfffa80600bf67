//! The few kernel settings under /proc/sys/net that containers need. The kernel shows each thread the settings of
//! its own network namespace there.

use std::fs;
use std::io;
use std::path::Path;

pub(crate) const IP_FORWARD: &str = "net.ipv4.ip_forward";
/// How many connections the kernel remembers now.
pub(crate) const CONNECTIONS: &str = "net.netfilter.nf_conntrack_count";
pub(crate) const LOCAL_PORT_RANGE: &str = "net.ipv4.ip_local_port_range";
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
    let path = path(name);
    match fs::write(&path, "1") {
        Ok(()) => Ok(true),
        Err(source) => Err(Error { verb: "write", path, source }),
    }
}

/// A kernel without IPv6, or with `ipv6.disable=1`, has no such directory and refuses IPv6 settings of links.
pub(crate) fn has_ipv6() -> bool {
    Path::new("/proc/sys/net/ipv6/conf").exists()
}

/// Bridge names may hold dots; only those of the prefix separate.
fn path(name: &str) -> String {
    match name.strip_prefix("net.ipv4.conf.").and_then(|rest| rest.rsplit_once('.')) {
        Some((link, setting)) => format!("/proc/sys/net/ipv4/conf/{link}/{setting}"),
        None => format!("/proc/sys/{}", name.replace('.', "/")),
    }
}
