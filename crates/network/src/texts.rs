//! A container's hosts and resolv.conf, out of the host's files and its plan.

use std::net::{IpAddr, Ipv4Addr};

use crate::container_link::Addresses;
use crate::error::Error;
use crate::host_files;
use crate::hosts_file::{self, Linked};
use crate::plan::{ContainerPlan, ExtraAddress, Place};
use crate::resolv::{ResolvConf, Upstreams};

/// What a container finds in its files.
pub(crate) struct ContainerTexts {
    pub(crate) hostname: String,
    pub(crate) hosts: String,
    pub(crate) resolv_conf: String,
    /// Whom the resolver asks; empty: whom the host asks.
    pub(crate) dns_servers: Vec<IpAddr>,
}

/// What the host's files say, read once for a task.
pub(crate) struct Texts {
    hostname: String,
    hosts: String,
    resolv: ResolvConf,
}

impl Texts {
    pub(crate) fn read() -> Result<Texts, Error> {
        Ok(Texts {
            hostname: host_files::hostname()?,
            hosts: host_files::hosts()?,
            resolv: host_files::resolv_conf_as_is()?,
        })
    }

    /// `addresses` are those of the task's containers on the bridge, this one's at `place`; `gateway` is the bridge's.
    pub(crate) fn of(
        &self,
        plan: &ContainerPlan,
        place: usize,
        addresses: &[Option<Addresses>],
        gateway: Option<Ipv4Addr>,
    ) -> ContainerTexts {
        let own = addresses[place];
        let hostname = plan.hostname.clone().unwrap_or_else(|| self.hostname.clone());
        let host_seen_at = own.and(gateway).unwrap_or(Ipv4Addr::LOCALHOST);
        let extra = plan.extra_hosts.iter().map(|entry| match entry.address {
            ExtraAddress::Given(address) => (address, entry.name.clone()),
            ExtraAddress::HostGateway => (IpAddr::V4(host_seen_at), entry.name.clone()),
        });
        let extra: Vec<_> = extra.collect();
        let on_host = matches!(plan.place, Place::Host { .. });
        let hosts = if on_host {
            hosts_file::of_host(&self.hosts, &extra)
        } else {
            let linked = plan.links.iter().filter_map(|link| {
                Some(Linked { addresses: addresses[link.container]?.all(), names: link.names.clone() })
            });
            let linked: Vec<_> = linked.collect();
            hosts_file::own(&extra, &linked, &own.map(Addresses::all).unwrap_or_default(), &hostname)
        };
        let upstreams = Upstreams::of(&plan.dns_servers, !on_host);
        let resolv_conf = self.resolv.for_container(&upstreams, &plan.dns_search_domains).text();
        let dns_servers = match upstreams {
            Upstreams::Of(servers) => servers,
            Upstreams::OfHost | Upstreams::Unasked(_) => Vec::new(),
        };
        ContainerTexts { hostname, hosts, resolv_conf, dns_servers }
    }
}
