//! A container's hosts and resolv.conf, out of the host's files and its plan.

use std::net::{IpAddr, Ipv4Addr};

use crate::error::Error;
use crate::host_files;
use crate::hosts_file::{self, Linked};
use crate::plan::{ContainerPlan, ExtraAddress, NetworkPlan, Place};
use crate::resolv::ResolvConf;

/// What a container finds in its files.
pub(crate) struct ContainerTexts {
    pub(crate) hostname: String,
    pub(crate) hosts: String,
    pub(crate) resolv_conf: String,
}

/// What the host's files say, read once for a task.
pub(crate) struct Texts {
    hostname: String,
    hosts: String,
    as_is: ResolvConf,
    reachable: ResolvConf,
}

impl Texts {
    pub(crate) fn read(plan: &NetworkPlan, said: &mut Vec<String>) -> Result<Texts, Error> {
        let texts = Texts {
            hostname: host_files::hostname()?,
            hosts: host_files::hosts()?,
            as_is: host_files::resolv_conf_as_is()?,
            reachable: host_files::resolv_conf()?,
        };
        let inherits = |container: &ContainerPlan| {
            matches!(container.place, Place::Bridge { .. }) && container.dns_servers.is_empty()
        };
        if plan.containers.iter().any(inherits) && texts.reachable.for_container(&[], &[]).servers.is_empty() {
            said.push(
                "the host's /etc/resolv.conf has no IPv4 name server that a container can reach; give dnsServers"
                    .into(),
            );
        }
        Ok(texts)
    }

    /// `addresses` are those of the task's containers on the bridge, this one's at `place`; `gateway` is the bridge's.
    pub(crate) fn of(
        &self,
        plan: &ContainerPlan,
        place: usize,
        addresses: &[Option<Ipv4Addr>],
        gateway: Option<Ipv4Addr>,
    ) -> ContainerTexts {
        let ipv4 = addresses[place];
        let hostname = plan.hostname.clone().unwrap_or_else(|| self.hostname.clone());
        let host_seen_at = ipv4.and(gateway).unwrap_or(Ipv4Addr::LOCALHOST);
        let extra = plan.extra_hosts.iter().map(|entry| match entry.address {
            ExtraAddress::Given(address) => (address, entry.name.clone()),
            ExtraAddress::HostGateway => (IpAddr::V4(host_seen_at), entry.name.clone()),
        });
        let extra: Vec<_> = extra.collect();
        let (servers, search) = (&plan.dns_servers, &plan.dns_search_domains);
        let (hosts, resolv) = match plan.place {
            Place::Host { .. } => (hosts_file::of_host(&self.hosts, &extra), self.as_is.overridden(servers, search)),
            Place::Loopback | Place::Bridge { .. } => {
                let linked = plan
                    .links
                    .iter()
                    .filter_map(|link| Some(Linked { address: addresses[link.container]?, names: link.names.clone() }));
                let linked: Vec<_> = linked.collect();
                (hosts_file::own(&extra, &linked, ipv4, &hostname), self.reachable.for_container(servers, search))
            }
        };
        ContainerTexts { hostname, hosts, resolv_conf: resolv.text() }
    }
}
