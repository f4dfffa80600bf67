//! Which networks this host knows already, so that a new one keeps out of the way.

use std::net::IpAddr;

use ipnetwork::Ipv4Network;

use crate::attach::route_socket;
use crate::error::Error;
use crate::{host_files, link};

/// Every IPv4 destination of the host's routes, and its name servers.
pub fn networks_in_use() -> Result<Vec<Ipv4Network>, Error> {
    let mut socket = route_socket()?;
    let routes = link::routes(&mut socket)
        .map_err(|source| Error::Netlink { action: "read the routes of this host".into(), source })?;
    let servers = host_files::resolv_conf()?.servers.into_iter().filter_map(|server| match server {
        IpAddr::V4(address) => Some(Ipv4Network::from(address)),
        IpAddr::V6(_) => None,
    });
    Ok(routes.into_iter().map(|route| route.destination).chain(servers).collect())
}
